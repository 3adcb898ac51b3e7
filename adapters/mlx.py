"""MLX: the modules of ``mlx.nn``; what has none is a function of ``mlx.core``."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

import mlx.core as mx
import mlx.nn  # noqa: F401 - imported once, before a worker is forked

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Tensor, call
from cnnformance.adapters.compositions import MLX
from cnnformance.adapters.padding import alike, pairs, undilated
from cnnformance.adapters.table import BIAS, WEIGHT, Definition, Table, bits, from_bits
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    Pool,
    ReLU,
)

SELECTIONS = (MaxPool, GlobalMaxPool, ReLU, Flatten)


class Mlx(Table):
    """MLX on its CPU, lazy until a result is read.

    Modes:
        compile: the layer inside ``mx.compile``.
    """

    devices = ("cpu",)
    kernel_layout = "ohwi"
    dtypes = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64")
    modes = ("compile",)
    imports = (
        "import mlx.core as mx\nfrom importlib import metadata\nfrom mlx import nn\n"
        "from mlx.utils import tree_flatten\n\nmx.set_default_device(mx.cpu)\n"
    )
    printed = 'print("MLX", metadata.version("mlx"))'
    compositions = MLX

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Settle whether layers are compiled, on the CPU."""
        super().__init__(mode, device)
        self.wrapper = "mx.compile({})" if mode else ""
        mx.set_default_device(mx.cpu)

    def version(self) -> str:
        """Return MLX's version."""
        return metadata.version("mlx")

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Integers are selected and not summed."""
        return dtype in self.dtypes and ("float" in dtype or isinstance(layer, SELECTIONS))

    def native(self, layer: Layer, x: Tensor) -> Call:  # noqa: C901, PLR0911 - a table of the layer types
        """Return a module of MLX called with ``x``, or a function."""
        axes = tuple(range(1, len(x.shape) - 1))
        if isinstance(layer, Pool):
            undilated(layer, "MLX")
            if layer.ceil_mode:
                raise Unsupported("MLX rounds the number of windows down")
        match layer:
            case MaxPool(window, stride):
                return call(f"nn.MaxPool{layer.rank}d", window, stride, alike(layer, "MLX"))(x)
            case AveragePool(window, stride, count_include_pad=counts):
                if not (counts or layer.unpadded):
                    raise Unsupported("MLX always counts the padding of an average")
                return call(f"nn.AvgPool{layer.rank}d", window, stride, alike(layer, "MLX"))(x)
            case GlobalAveragePool():
                return call("mx.mean", x, axes)
            case GlobalMaxPool():
                return call("mx.max", x, axes)
            case Conv(groups=groups) if groups > 1 and layer.rank == 3:
                raise Unsupported("MLX has no groups over three axes")
            case Conv():
                return convolution(layer, x)
            case Dense(inputs, outputs, bias):
                return call("nn.Linear", inputs, outputs, bias)(x)
            case ReLU():
                return call("nn.relu", x)
            case Flatten(start):
                return call("mx.flatten", x, start)
        raise Unsupported(f"MLX has nothing for {type(layer).__name__}")

    def tensor(self, name: str, array: Array) -> str:
        """Return a copy."""
        kind = array.dtype.name
        wide = ", mx.float64" if kind == "float64" else ""  # which NumPy's else become float32
        made = f"mx.array({bits(f'np.ascontiguousarray({name})', kind)}{wide})"
        return f"{made}.view(mx.bfloat16)" if kind == "bfloat16" else made

    def array(self, name: str, dtype: str) -> str:
        """Return a copy."""
        if dtype == "bfloat16":
            return from_bits(f"np.array({name}.view(mx.int16))", dtype)
        return f"np.array({name})"

    def hold(self, layer: Layer, like: Mapping[str, Array]) -> list[str]:
        """Return the lines that load the weights of a module."""
        held = (f"({n!r}, {self.tensor(f'weights[{n!r}]', a)})" for n, a in like.items())
        return [f"layer.load_weights([{', '.join(held)}])"]

    def backward(
        self, layer: Layer, made: Definition, x: str, upstream: str, dtype: str
    ) -> list[str]:
        """Pull the upstream gradient back to the input and to the weights of a module."""
        read = self.array("gradient", dtype)
        names = 'gradients = dict(zip(["input", *weights], arrays))'
        if not (layer.has_weights and made.layers):
            held = f"[{', '.join([x, *made.parameters])}]"
            pull = [f"found = mx.vjp({made.name}, {held}, [{upstream}])[1]"]
        else:
            pull = [
                "held = [layer[name] for name in weights]",
                "def function(x, *held):",
                "    layer.update(dict(zip(weights, held)))",
                "    return layer(x)",
                "",
                f"found = mx.vjp(function, [{x}, *held], [{upstream}])[1]",
            ]
        return [*pull, f"arrays = [{read} for gradient in found]", names]

    def counted(self, layer: Layer, made: Definition) -> list[str]:
        """Count the parameters of the module, which are made when they are read."""
        if layer.has_weights and not made.layers:
            raise Unsupported("this function of MLX holds no weights")
        return [
            "count = 0",
            *(
                f"count += sum(p.size for _, p in tree_flatten({text}.parameters()))"
                for text in made.layers.values()
            ),
        ]

    def stated(self, layer: Layer, made: Definition) -> list[str]:
        """Return the shape of a result that is not yet computed."""
        sizes = self.axes.native_shapes(layer).items()
        held = [f"{name} = mx.zeros({size})" for name, size in sizes if name in made.parameters]
        return [*made.lines, *held, f"shape = tuple({made.call('mx.zeros(shape)')}.shape)"]


def convolution(layer: Conv, x: Tensor) -> Call:
    """Return a module or, with sides that differ, a function."""
    even = not isinstance(layer.padding, str) and all(a == b for a, b in layer.padding)
    if even:
        fields = (layer.window, layer.stride, alike(layer, "MLX"), layer.dilation)
        given = fields if layer.rank > 1 else tuple(field[0] for field in fields)  # numbers alone
        options = {"bias": layer.bias} | ({} if layer.rank == 3 else {"groups": layer.groups})
        channels = (layer.in_channels, layer.out_channels)
        return call(f"nn.Conv{layer.rank}d", *channels, *given, **options)(x)
    sides: Any = tuple(map(list, zip(*pairs(layer, x.spatial), strict=True)))
    at: dict[str, Any] = {"kernel_dilation": list(layer.dilation), "groups": layer.groups}
    y = call("mx.conv_general", x, WEIGHT, list(layer.stride), sides, **at)
    return call("mx.add", y, BIAS) if layer.bias else y
