"""PaddlePaddle: the functions of ``paddle.nn.functional``."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from typing import Any

import paddle  # noqa: F401 - imported once, before a worker is forked

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Tensor, call
from cnnformance.adapters.compositions import PADDLE
from cnnformance.adapters.padding import undilated
from cnnformance.adapters.table import BIAS, WEIGHT, Definition, Table, from_bits
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    Pool,
    ReLU,
    Windowed,
)


class Paddle(Table):
    """PaddlePaddle, eager; its functions hold no weights, so that there are none to count."""

    devices = ("cpu",)
    layout = "channels_first"
    kernel_layout = "oihw"
    dense_layout = "io"
    dtypes = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64")
    imports = "import paddle\nfrom paddle.nn import functional as F\n\npaddle.set_device('cpu')\n"
    printed = 'print("PaddlePaddle", paddle.__version__)'
    compositions = PADDLE

    def version(self) -> str:
        """Return PaddlePaddle's version."""
        return metadata.version("paddlepaddle")

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Answer from trials of every layer and dtype on release 3.3."""
        match layer:
            case Flatten():
                return dtype in self.dtypes
            case MaxPool() | MinPool() | AveragePool() | AdaptiveAveragePool():
                return dtype in ("float32", "float64", "float16")
            case GlobalMaxPool():
                return dtype in ("float32", "float64", "int32", "int64")
        return dtype in ("float32", "float64")

    def native(self, layer: Layer, x: Tensor) -> Call:  # noqa: C901, PLR0911 - a table of the layer types
        """Return the function that computes a layer."""
        rank = getattr(layer, "rank", 0)
        axes = list(range(2, rank + 2))
        if isinstance(layer, Pool):
            undilated(layer, "PaddlePaddle")
        match layer:
            case MaxPool(window, stride, ceil_mode=ceil):
                given = (list(window), list(stride), padding(layer))
                return call(f"F.max_pool{rank}d", x, *given, ceil_mode=ceil)
            case AveragePool(window, stride, ceil_mode=ceil, count_include_pad=counts):
                given = (list(window), list(stride), padding(layer))
                options = {"ceil_mode": ceil, "exclusive": not counts}
                return call(f"F.avg_pool{rank}d", x, *given, **options)
            case LpPool(window, stride, ceil_mode=ceil, p=p) if rank < 3:
                given = (list(window), list(stride), padding(layer))
                return call(f"F.lp_pool{rank}d", x, float(p), *given, ceil_mode=ceil)
            case AdaptiveAveragePool(output):
                return call(f"F.adaptive_avg_pool{rank}d", x, sizes(output))
            case AdaptiveMaxPool(output):
                return call(f"F.adaptive_max_pool{rank}d", x, sizes(output))
            case GlobalAveragePool():
                return call("paddle.mean", x, axes)
            case GlobalMaxPool():
                return call("paddle.max", x, axes)
            case Conv(_, stride, _, dilation, groups=groups):
                bias = BIAS if layer.bias else None
                rest = (list(stride), padding(layer), list(dilation), groups)
                return call(f"F.conv{rank}d", x, WEIGHT, bias, *rest)
            case Dense():
                return call("F.linear", x, WEIGHT, *([BIAS] if layer.bias else []))
            case ReLU():
                return call("F.relu", x)
            case Flatten(start):
                return call("paddle.flatten", x, start)
        raise Unsupported(f"PaddlePaddle has no function for {type(layer).__name__}")

    def like(self, tensor: Any) -> Tensor:
        """Return what is known of a tensor, whose dtype has a name in capitals."""
        known = super().like(tensor)
        return replace(known, dtype=known.dtype.lower())

    def tensor(self, name: str, array: Array) -> str:
        """Return a copy; bits of 16 are those of a bfloat16."""
        bits = ".view(np.uint16)" if array.dtype.name == "bfloat16" else ""
        return f"paddle.to_tensor(np.array({name}){bits})"

    def array(self, name: str, dtype: str) -> str:
        """Return a copy."""
        return from_bits(f"{name}.numpy()", dtype) if dtype == "bfloat16" else f"{name}.numpy()"

    def backward(
        self, layer: Layer, made: Definition, x: str, upstream: str, dtype: str
    ) -> list[str]:
        """Return what automatic differentiation finds."""
        return [
            f"held = [{', '.join([x, *made.parameters])}]",
            "for each in held:",
            "    each.stop_gradient = False",
            f"y = {made.name}(*held)",
            f"found = paddle.grad([y], held, [{upstream}])",
            f"arrays = [{self.array('gradient', dtype)} for gradient in found]",
            'gradients = dict(zip(["input", *weights], arrays))',
        ]


def sizes(output: tuple[int, ...]) -> Any:
    """Return an output's size as a list, or as a number where there is one axis."""
    return output[0] if len(output) == 1 else list(output)


def padding(layer: Windowed) -> Any:
    """Return a word, or the cells before and after each axis in turn."""
    if layer.padding == "same_lower":
        raise Unsupported("PaddlePaddle pads after first")
    if isinstance(layer.padding, str):
        return layer.padding.upper()
    return [cells for pair in layer.padding for cells in pair]
