"""JAX: ``jax.lax``, ``jax.numpy`` and ``jax.nn``, of which its layer libraries are made.

JAX has functions and no layers, and so no parameters to count.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, cast

import jax
import numpy as np

from cnnformance.adapters.backend import Array, Unsupported, Weights
from cnnformance.adapters.calls import Call, Name, Tensor, call
from cnnformance.adapters.compositions import JAX, jax_windows
from cnnformance.adapters.table import BIAS, WEIGHT, Definition, Table
from cnnformance.spec.layers import (
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    MinPool,
    ReLU,
)

# Without it, 64-bit arrays are cast down to 32 bits. Setting it starts no backend.
jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # JAX has no type for it

IMPORTS = """\
import jax
import jax.numpy as jnp
from jax import lax

jax.config.update("jax_enable_x64", True)
"""

SELECTIONS = (MaxPool, MinPool, GlobalMaxPool, ReLU, Flatten)
"""The layers that take integers, because their results are elements of the input or 0."""


class Jax(Table):
    """JAX, eager by default.

    Modes:
        jit: the layer inside ``jax.jit``.
    """

    dense_layout = "io"
    dtypes = ("bfloat16", "float16", "float32", "float64", "int8", "uint8", "int32", "int64")
    modes: ClassVar[tuple[str, ...]] = ("jit",)
    imports = IMPORTS
    printed = 'print("JAX", jax.__version__)'
    compositions = JAX
    defaults: ClassVar[Mapping[str, str]] = {"key": "jax.random.key(0)"}

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Find the device."""
        super().__init__(mode, device)
        try:
            self._device = jax.devices(device)[0]
        except RuntimeError as error:
            raise Unsupported(f"JAX has no device {device!r}: {error}") from error
        self.wrapper = "jax.jit({})" if mode == "jit" else ""
        self.seed(0)

    def version(self) -> str:
        """Return JAX's version."""
        return jax.__version__

    def within(self) -> AbstractContextManager[Any]:
        """Compute on the device."""
        return cast("AbstractContextManager[Any]", jax.default_device(self._device))

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Floating-point numbers everywhere; integers where values are selected."""
        return dtype in self.dtypes and ("float" in dtype or isinstance(layer, SELECTIONS))

    def native(self, layer: Layer, x: Tensor) -> Call:  # noqa: PLR0911 - a table, one case per layer
        """Return the function, called with ``x``; of a sum, with its bias added."""
        axes = tuple(range(1, getattr(layer, "rank", 0) + 1))
        highest = {"precision": Name("lax.Precision.HIGHEST")}
        match layer:
            case MaxPool() | MinPool():
                operation = "lax.min" if isinstance(layer, MinPool) else "lax.max"
                return jax_windows(layer, x, operation, first(x.dtype, largest=layer.least))
            case GlobalAveragePool():
                return call("jnp.mean", x, axes)
            case GlobalMaxPool():
                return call("jnp.max", x, axes)
            case Conv(_, stride, padding, dilation, groups=groups):
                words = padding.upper() if isinstance(padding, str) else padding
                names = "DHW"[-layer.rank :]
                y = call(
                    "lax.conv_general_dilated",
                    x,
                    WEIGHT,
                    stride,
                    words,
                    rhs_dilation=dilation,
                    dimension_numbers=(f"N{names}C", f"{names}IO", f"N{names}C"),
                    feature_group_count=groups,
                    **highest,
                )
                return call("jnp.add", y, BIAS) if layer.bias else y
            case Dense():
                y = call("jnp.dot", x, WEIGHT, **highest)
                return call("jnp.add", y, BIAS) if layer.bias else y
            case ReLU():
                return call("jax.nn.relu", x)
            case Flatten(start):
                return call("jnp.reshape", x, x.joined(start))
        raise Unsupported(f"JAX has nothing for {type(layer).__name__}")

    def tensor(self, name: str, array: Array) -> str:
        """Return a copy."""
        return f"jnp.array({name})"

    def seed(self, seed: int) -> None:
        """Start the sequence of keys for stochastic pooling."""
        self._seed, self._draws = seed, itertools.count()

    def given(self, layer: Layer) -> Mapping[str, Any]:
        """Return the next key of the sequence, for a layer that draws."""
        if not getattr(layer, "training", False):
            return {}
        return {"key": jax.random.fold_in(jax.random.key(self._seed), next(self._draws))}

    def backward(
        self, layer: Layer, made: Definition, x: str, upstream: str, dtype: str
    ) -> list[str]:
        """Pull the upstream gradient back."""
        held = ", ".join([x, *(name for name in made.parameters if name != "key")])
        function = f"lambda x: {made.call('x')}" if "key" in made.parameters else made.name
        return [
            f"y, pull = jax.vjp({function}, {held})",
            f"arrays = map(np.asarray, pull({upstream}))",
            'gradients = dict(zip(["input", *weights], arrays))',
        ]

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Run what is shown. What JAX cannot differentiate is ``Unsupported``."""
        try:
            return super().gradients(layer, weights, x, upstream)
        except NotImplementedError as error:
            raise Unsupported(str(error)) from error

    def stated(self, layer: Layer, made: Definition) -> list[str]:
        """Return an abstract evaluation."""
        sizes = ["shape", *map(str, self.axes.native_shapes(layer).values())]
        given = [f"jax.ShapeDtypeStruct({size}, np.float32)" for size in sizes]
        given += self.defaults if "key" in made.parameters else []
        return [*made.lines, f"shape = jax.eval_shape({made.name}, {', '.join(given)}).shape"]


def first(dtype: str, *, largest: bool) -> float | int:
    """Return what a minimum or a maximum starts from: the largest or the smallest number."""
    if "float" in dtype:
        return float("inf") if largest else float("-inf")
    ends = np.iinfo(dtype)
    return int(ends.max if largest else ends.min)
