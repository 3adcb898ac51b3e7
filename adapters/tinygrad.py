"""tinygrad: the methods of its tensors."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import os
from dataclasses import replace
from importlib import metadata
from typing import Any

os.environ["DEV"] = "PYTHON" if os.environ.get("CNNFORMANCE_MODE") == "python" else "CPU"

from tinygrad.dtype import dtypes

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Tensor, call
from cnnformance.adapters.compositions import TINYGRAD
from cnnformance.adapters.padding import last_axis_first, pairs
from cnnformance.adapters.table import BIAS, WEIGHT, Definition, Table, from_bits
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    ReLU,
    Windowed,
)

SELECTIONS = (MaxPool, GlobalMaxPool, ReLU, Flatten)


class Tinygrad(Table):
    """tinygrad on the CPU, whose kernels clang compiles; its methods hold no weights.

    Modes:
        python: on its interpreter of kernels, in Python.
    """

    devices = ("cpu",)
    layout = "channels_first"
    kernel_layout = "oihw"
    dense_layout = "io"
    dtypes = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64")
    modes = ("python",)
    compositions = TINYGRAD

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """See that tinygrad was imported for this mode: it is once in a process."""
        super().__init__(mode, device)
        on = "PYTHON" if mode else "CPU"
        if os.environ["DEV"] != on:
            raise Unsupported(
                f"tinygrad was imported for {os.environ['DEV']!r}, and not for {on!r}"
            )
        self.imports = f'import os\nos.environ["DEV"] = {on!r}\nfrom importlib import metadata\n'
        self.imports += "from tinygrad import Tensor, dtypes\n"
        self.printed = 'print("tinygrad", metadata.version("tinygrad"))'

    def version(self) -> str:
        """Return tinygrad's version."""
        return metadata.version("tinygrad")

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Integers are selected and not summed."""
        return dtype in self.dtypes and ("float" in dtype or isinstance(layer, SELECTIONS))

    def native(self, layer: Layer, x: Tensor) -> Call:  # noqa: PLR0911 - a table of the layer types
        """Return the method that computes a layer."""
        axes = tuple(range(2, len(x.shape)))
        match layer:
            case MaxPool(window, stride, _, dilation, ceil):
                given = (window, stride, dilation, padding(layer, x))
                return call("Tensor.max_pool2d", x, *given, ceil_mode=ceil)
            case AveragePool(window, stride, _, dilation, ceil, counts):
                given = (window, stride, dilation, padding(layer, x))
                return call("Tensor.avg_pool2d", x, *given, ceil, counts)
            case GlobalAveragePool():
                return call("Tensor.mean", x, axes)
            case GlobalMaxPool():
                return call("Tensor.max", x, axes)
            case Conv(_, stride, _, dilation, groups=groups):
                bias = BIAS if layer.bias else None
                rest = (groups, stride, dilation, padding(layer, x))
                return call("Tensor.conv2d", x, WEIGHT, bias, *rest)
            case Dense():
                return call("Tensor.linear", x, WEIGHT, *([BIAS] if layer.bias else []))
            case ReLU():
                return call("Tensor.relu", x)
            case Flatten(start):
                return call("Tensor.flatten", x, start)
        raise Unsupported(f"tinygrad has no method for {type(layer).__name__}")

    def like(self, tensor: Any) -> Tensor:
        """Return what is known of a tensor, whose dtype tinygrad names as C does."""
        names = {getattr(dtypes, name): name for name in self.dtypes}
        return replace(super().like(tensor), dtype=names.get(tensor.dtype, str(tensor.dtype)))

    def tensor(self, name: str, array: Array) -> str:
        """Return a copy."""
        if array.dtype.name == "bfloat16":
            return f"Tensor(np.array({name}).view(np.uint16)).bitcast(dtypes.bfloat16)"
        return f"Tensor(np.array({name}))"

    def array(self, name: str, dtype: str) -> str:
        """Return a copy."""
        if dtype == "bfloat16":
            return from_bits(f"{name}.bitcast(dtypes.uint16).numpy()", dtype)
        return f"{name}.numpy()"

    def backward(
        self, layer: Layer, made: Definition, x: str, upstream: str, dtype: str
    ) -> list[str]:
        """Return what automatic differentiation finds."""
        return [
            f"held = [{', '.join([x, *made.parameters])}]",
            f"found = {made.name}(*held).gradient(*held, gradient={upstream})",
            f"arrays = [{self.array('gradient', dtype)} for gradient in found]",
            'gradients = dict(zip(["input", *weights], arrays))',
        ]

    def stated(self, layer: Layer, made: Definition) -> list[str]:
        """Return the shape of a result that is not yet computed."""
        sizes = self.axes.native_shapes(layer).items()
        held = [f"{name} = Tensor.empty({size})" for name, size in sizes]
        return [*made.lines, *held, f"shape = tuple({made.call('Tensor.empty(shape)')}.shape)"]


def padding(layer: Windowed, x: Tensor) -> tuple[int, ...]:
    """Return the cells before and after the last axis, then the one before it."""
    return tuple(last_axis_first(pairs(layer, x.spatial)))
