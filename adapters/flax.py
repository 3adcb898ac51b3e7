"""Flax: the modules and functions of ``flax.nnx``; what it leaves to JAX is JAX's."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax
from flax import nnx  # noqa: F401 - imported once, before a worker is forked

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Name, Tensor, call
from cnnformance.adapters.jax import IMPORTS, Jax
from cnnformance.adapters.padding import undilated
from cnnformance.adapters.table import Composition, Definition
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    Layer,
    MaxPool,
    MinPool,
    Pool,
    ReLU,
    Windowed,
)


class Flax(Jax):
    """Flax NNX on JAX, eager by default; flattening and global pooling are functions of JAX.

    Modes:
        jit: the layer inside ``jax.jit``.
        x64: with 64-bit numbers, which JAX else casts to 32 bits.
    """

    modes = ("jit", "x64")
    printed = 'print("Flax", flax.__version__, "JAX", jax.__version__)'

    compositions: ClassVar[Mapping[type[Layer], Composition]] = {}

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Settle whether there are 64-bit numbers."""
        super().__init__(mode, device)
        wide = IMPORTS if mode == "x64" else IMPORTS.replace("True", "False")
        self.imports = f"{wide}import flax\nfrom flax import nnx\n"

    def version(self) -> str:
        """Return the versions of Flax and JAX."""
        return f"{flax.__version__}, JAX {super().version()}"

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Poolings start from infinities, which integers have not."""
        if dtype.endswith("64") and self.mode != "x64":
            return False
        return super().supports(layer, dtype) and ("float" in dtype or not isinstance(layer, Pool))

    def native(self, layer: Layer, x: Tensor) -> Call:
        """Return the module or function of Flax, or what it leaves to JAX."""
        if isinstance(layer, Pool):
            undilated(layer, "Flax")
            if layer.ceil_mode:
                raise Unsupported("Flax rounds the number of windows down")
        match layer:
            case MaxPool(window, stride) | MinPool(window, stride):
                kind = "min" if layer.least else "max"
                return call(f"nnx.{kind}_pool", x, window, stride, padding(layer))
            case AveragePool(window, stride, count_include_pad=counts):
                return call("nnx.avg_pool", x, window, stride, padding(layer), counts)
            case Conv(window, stride, _, dilation, inputs, outputs, groups, bias):
                at = {"strides": stride, "padding": padding(layer), "kernel_dilation": dilation}
                at |= {"feature_group_count": groups, "use_bias": bias}
                return call("nnx.Conv", inputs, outputs, window, **at, **self._made(x))(x)
            case Dense(inputs, outputs, bias):
                return call("nnx.Linear", inputs, outputs, use_bias=bias, **self._made(x))(x)
            case ReLU():
                return call("nnx.relu", x)
        return super().native(layer, x)

    @staticmethod
    def _made(x: Tensor) -> dict[str, Any]:
        """Return the options of modules; zeros are made at once, and replaced."""
        dtype = Name(f"jnp.{x.dtype}")
        zeros = {"kernel_init": Name("nnx.initializers.zeros"), "rngs": Name("nnx.Rngs(0)")}
        return zeros | {"param_dtype": dtype, "precision": Name("lax.Precision.HIGHEST")}

    def hold(self, layer: Layer, like: Mapping[str, Array]) -> list[str]:
        """Return the lines that set the parameters of the module."""
        names = {"weight": "kernel", "bias": "bias"}
        return [f"layer.{names[n]}[...] = jnp.array(weights[{n!r}])" for n in like]

    def backward(
        self, layer: Layer, made: Definition, x: str, upstream: str, dtype: str
    ) -> list[str]:
        """Pull the upstream gradient back to the input and to the parameters of the module."""
        if not layer.has_weights:
            return super().backward(layer, made, x, upstream, dtype)
        inner = self._wrapped("lambda x, held: nnx.merge(graph, held)(x)") or ""
        return [
            "graph, held = nnx.split(layer, nnx.Param)",
            f"y, pull = jax.vjp({inner or 'lambda x, held: nnx.merge(graph, held)(x)'}, {x}, held)",
            f"of_x, of_held = pull({upstream})",
            "gradients = {'input': np.asarray(of_x)}",
            "for name in weights:",
            '    found = of_held["kernel" if name == "weight" else name]',
            "    gradients[name] = np.asarray(found[...])",
        ]

    def counted(self, layer: Layer, made: Definition) -> list[str]:
        """Count the parameters of the module, which is made without memory."""
        lines = ["count = 0"]
        for text in made.layers.values():
            lines += [
                f"layer = nnx.eval_shape(lambda: {text})",
                "count += sum(p.size for p in jax.tree.leaves(nnx.state(layer, nnx.Param)))",
            ]
        return lines

    def stated(self, layer: Layer, made: Definition) -> list[str]:
        """Return an abstract evaluation."""
        if not made.layers:
            return super().stated(layer, made)
        given = "jax.ShapeDtypeStruct(shape, np.float32)"
        (text,) = made.layers.values()
        return [
            f"layer = nnx.eval_shape(lambda: {text})",
            f"shape = nnx.eval_shape(lambda layer, x: layer(x), layer, {given}).shape",
        ]


def padding(layer: Windowed) -> Any:
    """Return a word of JAX, or pairs."""
    return layer.padding.upper() if isinstance(layer.padding, str) else layer.padding
