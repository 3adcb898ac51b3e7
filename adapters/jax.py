"""JAX: ``jax.lax``, ``jax.numpy`` and ``jax.nn``, of which its layer libraries are made.

JAX has functions and no layers. Those below take the fields of a layer by name, and name nothing
of ours: a script shows them as they are run.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnformance.adapters.backend import Array, Backend, Composed, Unsupported, Weights
from cnnformance.spec import layers
from cnnformance.spec.layers import Layer, Shape, weight_shapes

# Without it, 64-bit arrays are cast down to 32 bits. Setting it starts no backend.
jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # JAX has no type for it


def pads(  # noqa: PLR0917 - one argument per field
    size: Shape, window: Shape, stride: Shape, dilation: Shape, padding: Any, ceil_mode: bool
) -> list[tuple[int, int]]:
    """Return the padding per axis, with the cells that a last window of ceil mode hangs over."""
    extent = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    if isinstance(padding, str):
        return list(lax.padtype_to_pads(size, extent, stride, padding.upper()))
    wide = []
    for n, e, s, (low, high) in zip(size, extent, stride, padding, strict=True):
        end = n + low + high
        start = -((e - end) // s) * s
        hangs_over = ceil_mode and start < n + low
        wide.append((low, high + max(start + e - end, 0) if hangs_over else high))
    return wide


def reduce(  # noqa: PLR0917 - likewise
    x: Any, operation: Any, initial: Any, window: Shape, stride: Shape, dilation: Shape, **at: Any
) -> Any:
    """Reduce every window over the spatial axes, in the dtype of the array."""
    padding = pads(x.shape[1:-1], window, stride, dilation, **at)
    return lax.reduce_window(
        x,
        np.array(initial, x.dtype),
        operation,
        (1, *window, 1),
        (1, *stride, 1),
        ((0, 0), *padding, (0, 0)),
        window_dilation=(1, *dilation, 1),
    )


def max_pool(x: Any, **at: Any) -> Any:
    """Reduce by ``lax.max``."""
    kind = x.dtype.kind
    lowest = np.iinfo(x.dtype).min if kind in "iu" else False if kind == "b" else -np.inf
    return reduce(x, lax.max, lowest, **at)


def min_pool(x: Any, **at: Any) -> Any:
    """Reduce by ``lax.min``."""
    kind = x.dtype.kind
    highest = np.iinfo(x.dtype).max if kind in "iu" else True if kind == "b" else np.inf
    return reduce(x, lax.min, highest, **at)


def average_pool(x: Any, count_include_pad: bool, **at: Any) -> Any:
    """Divide the sums of the windows by their numbers of cells."""
    size = x.shape[1:-1]
    ones = np.ones((1, *size, 1), np.float32)
    within: dict[str, Any] = at
    if count_include_pad:
        floor: dict[str, Any] = at | {"ceil_mode": False}
        counted, wide = pads(size, **floor), pads(size, **at)
        ones = np.pad(ones, ((0, 0), *counted, (0, 0)), constant_values=1)
        beyond = [(0, w - c) for (_, c), (_, w) in zip(counted, wide, strict=True)]
        within = floor | {"padding": beyond}
    return (reduce(x, lax.add, 0, **at) / reduce(ones, lax.add, 0, **within)).astype(x.dtype)


def lp_pool(x: Any, p: int, **at: Any) -> Any:
    """Take the roots of the windows' sums of powers."""
    if p == 2:
        return jnp.sqrt(reduce(x * x, lax.add, 0, **at))
    return reduce(jnp.abs(x) ** p, lax.add, 0, **at) ** (1 / p)


def stochastic_pool(x: Any, window: Shape, stride: Shape, key: Any = None) -> Any:
    """Draw one element of every window; without a key, average by probability."""
    taken = []
    for offset in itertools.product(*map(range, window)):
        axes = zip(x.shape[1:-1], window, stride, offset, strict=True)
        steps = (slice(o, n - w + o + 1 if n >= w else o, s) for n, w, s, o in axes)
        taken.append(x[(slice(None), *steps)])
    cells = jnp.stack(taken, axis=-1)
    if key is None:
        total = cells.sum(-1)
        return (cells * cells).sum(-1) / jnp.where(total == 0, 1, total)
    wide = cells.astype(jnp.promote_types(x.dtype, jnp.float32))
    drawn = jax.random.categorical(key, jnp.log(wide))
    return jnp.take_along_axis(cells, drawn[..., None], -1)[..., 0]


def global_average_pool(x: Any, rank: int) -> Any:
    """Average over the spatial axes."""
    return jnp.mean(x, tuple(range(1, rank + 1)))


def global_max_pool(x: Any, rank: int) -> Any:
    """Take the maximum over the spatial axes."""
    return jnp.max(x, tuple(range(1, rank + 1)))


def conv(
    x: Any, weight: Any, bias: Any = 0, *, stride: Shape, padding: Any, dilation: Shape, groups: int
) -> Any:
    """Convolve, the channels last."""
    axes = "DHW"[-len(stride) :]
    y = lax.conv_general_dilated(
        x,
        weight,
        stride,
        padding.upper() if isinstance(padding, str) else padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=groups,
        precision=lax.Precision.HIGHEST,
    )
    return y + bias


def dense(x: Any, weight: Any, bias: Any = 0) -> Any:
    """Multiply along the last axis."""
    return jnp.dot(x, weight.T, precision=lax.Precision.HIGHEST) + bias


def relu(x: Any) -> Any:
    """Rectify."""
    return jax.nn.relu(x)


def flatten(x: Any, start: int) -> Any:
    """Join the axes from ``start`` on. Raises ``ValueError`` for a start past the rank."""
    if start > x.ndim:
        raise ValueError(f"an input of {x.ndim} axes has no axis {start}")
    return jnp.reshape(x, (*x.shape[:start], math.prod(x.shape[start:])))


FUNCTIONS: Mapping[type[Layer], Callable[..., Any]] = {
    layers.MaxPool: max_pool,
    layers.MinPool: min_pool,
    layers.AveragePool: average_pool,
    layers.LpPool: lp_pool,
    layers.StochasticPool: stochastic_pool,
    layers.GlobalAveragePool: global_average_pool,
    layers.GlobalMaxPool: global_max_pool,
    layers.Conv: conv,
    layers.ReLU: relu,
    layers.Flatten: flatten,
    layers.Dense: dense,
}

IMPORTS = """\
from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

jax.config.update("jax_enable_x64", True)
Shape = tuple[int, ...]
"""

PULL = """\
def forward(held):
    return {call}


held = {{name: jnp.array(array) for name, array in {{"input": x, **weights}}.items()}}
y, pull = jax.vjp(forward, held)
(found,) = pull(jnp.array(upstream))
gradients = {{name: np.asarray(found[name]) for name in held}}
"""

NOTES = {
    average_pool: "lax.reduce_window of the values, over that of ones",
    lp_pool: "lax.reduce_window of the powers, and its root",
    stochastic_pool: "strided slices, and jax.random.categorical",
}
"""The compositions."""

SELECTIONS = (max_pool, min_pool, global_max_pool, relu, flatten)
"""The functions that take integers, because their results are elements of the input or 0."""


def function_of(layer: Layer) -> partial[Any]:
    """Return the function for a layer, bound to those of the layer's fields that it takes.

    Raises:
        Unsupported: there is none.
    """
    if (function := FUNCTIONS.get(type(layer))) is None:
        raise Unsupported(f"JAX has nothing for {type(layer).__name__}")
    takes = inspect.signature(function).parameters
    fields = {k: v for k, v in vars(layer).items() if k in takes or "at" in takes}
    return partial(function, **{k: v for k, v in fields.items() if k not in weight_shapes(layer)})


class Jax(Backend):
    """JAX, eager by default. Its functions hold no parameters, so that there is no count of them.

    Modes:
        jit: the layer inside ``jax.jit``.
    """

    layout = "channels_last"
    dtypes = ("bfloat16", "float16", "float32", "float64", "int8", "uint8", "int32", "int64")
    modes = ("jit",)

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Find the device."""
        super().__init__(mode, device)
        try:
            self._device = jax.devices(device)[0]
        except RuntimeError as error:
            raise Unsupported(f"JAX has no device {device!r}: {error}") from error
        self.seed(0)

    def version(self) -> str:
        """Return JAX's version."""
        return jax.__version__

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Floating-point numbers everywhere; integers where values are selected."""
        selects = FUNCTIONS.get(type(layer)) in SELECTIONS
        return dtype in self.dtypes and ("float" in dtype or selects)

    def from_numpy(self, array: Array) -> Any:
        """Return a copy on the device."""
        return jax.device_put(np.array(array), self._device)

    def seed(self, seed: int) -> None:
        """Start the sequence of keys for stochastic pooling."""
        self._seed, self._draws = seed, itertools.count()

    def _key(self) -> Any:
        """Return the next key of the sequence."""
        return jax.random.fold_in(jax.random.key(self._seed), next(self._draws))

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        """Return the function of this module, or ``Composed``."""
        bound = function_of(layer)
        function = jax.jit(bound) if self.mode == "jit" else bound
        held = {name: self.from_numpy(array) for name, array in weights.items()}

        def call(x: Any) -> Any:
            return function(x, **held)

        def draw(x: Any) -> Any:
            return function(x, key=self._key())

        run = draw if getattr(layer, "training", False) else call
        return Composed(run, NOTES[bound.func]) if bound.func in NOTES else run

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """Answer by ``jax.eval_shape``."""
        of = partial(jax.ShapeDtypeStruct, dtype=np.float32)
        held = {name: of(size) for name, size in weight_shapes(layer).items()}
        return tuple(jax.eval_shape(function_of(layer), of(shape), **held).shape)

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Pull the upstream gradient back by ``jax.vjp``."""
        function: Any = function_of(layer)
        function = jax.jit(function) if self.mode == "jit" else function
        held = {"input": x, **weights}
        given = {name: self.from_numpy(array) for name, array in held.items()}
        more = {"key": self._key()} if getattr(layer, "training", False) else {}

        def forward(g: dict[str, Any]) -> Any:
            return function(g["input"], **{name: g[name] for name in weights}, **more)

        try:
            _, pull = jax.vjp(forward, given)
            (pulled,) = pull(self.from_numpy(upstream))
        except NotImplementedError as error:
            raise Unsupported(str(error)) from error
        return {name: np.asarray(gradient) for name, gradient in pulled.items()}

    def script(self, layer: Layer) -> str:
        """Show the function that runs, and those that it calls."""
        held = {name: f"jnp.array(weights[{name!r}])" for name in weight_shapes(layer)}
        source, call = self._source(layer, "jnp.array(x)", held)
        return f"{source}\n\ny = np.asarray({call})\n"

    def gradient_script(self, layer: Layer) -> str:
        """Show the function that runs, those that it calls, and how it is pulled back."""
        held = {name: f"held[{name!r}]" for name in weight_shapes(layer)}
        source, call = self._source(layer, 'held["input"]', held)
        return f"{source}\n\n{PULL.format(call=call)}"

    def _source(self, layer: Layer, x: str, held: Mapping[str, str]) -> tuple[str, str]:
        """Return the functions that are needed, and the call on these expressions."""
        bound = function_of(layer)
        pooling = "at" in inspect.signature(bound.func).parameters
        shown = (pads, reduce, bound.func) if pooling else (bound.func,)
        given = {name: repr(value) for name, value in bound.keywords.items()}
        given |= held
        if getattr(layer, "training", False):
            given["key"] = "jax.random.key(0)"
        arguments = ", ".join([x, *(f"{k}={v}" for k, v in given.items())])
        source = "\n\n".join([IMPORTS, *(inspect.getsource(function) for function in shown)])
        return source, f"{bound.func.__name__}({arguments})"
