"""JAX: ``jax.lax``, ``jax.numpy`` and ``jax.nn``, of which its layer libraries are made.

JAX has functions and no layers. Those below take the fields of a layer by name; a script shows the
calls of JAX that they make.
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
from cnnformance.spec.layers import Layer, Shape, Windowed, weight_shapes

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
import jax
import jax.numpy as jnp
from jax import lax

print("JAX", jax.__version__)
jax.config.update("jax_enable_x64", True)
"""

PULL = """\
def forward(held):
    return layer({call})


held = {{name: jnp.array(array) for name, array in {{"input": x, **weights}}.items()}}
y, pull = jax.vjp(forward, held)
(found,) = pull(jnp.array(upstream))
gradients = {{name: np.asarray(found[name]) for name in held}}
"""


def window_of(layer: Windowed) -> dict[str, Any]:
    """Return the fields that ``pads`` takes."""
    fields: dict[str, Any] = {"ceil_mode": False, **vars(layer)}
    return {name: fields[name] for name in ("window", "stride", "dilation", "padding", "ceil_mode")}


def reduced(x: str, operation: str, initial: str, layer: Windowed, padding: Any) -> str:
    """Return the expression that ``reduce`` evaluates, for these pads."""
    around = [(0, 0), *padding, (0, 0)]
    dilated = f", window_dilation={(1, *layer.dilation, 1)}" if max(layer.dilation) > 1 else ""
    window = f"{(1, *layer.window, 1)}, {(1, *layer.stride, 1)}, {around}{dilated}"
    return f"lax.reduce_window({x}, {initial}, {operation}, {window})"


def expression(layer: Layer, shape: Shape, dtype: str) -> str:  # noqa: C901, PLR0911, PLR0912 - a table
    """Return what the layer's function evaluates for an ``x`` of this shape, in calls of JAX.

    Raises:
        Unsupported: it is more than an expression.
    """
    axes = tuple(range(1, getattr(layer, "rank", 0) + 1))
    low, high = "-np.inf", "np.inf"
    if "int" in dtype:
        low, high = str(np.iinfo(dtype).min), str(np.iinfo(dtype).max)
    given: dict[str, Any] = {}
    padding: list[tuple[int, int]] = []
    if isinstance(layer, Windowed) and not isinstance(layer, layers.Conv):
        given = window_of(layer)
        padding = pads(shape[1:-1], **given)
    match layer:
        case layers.MaxPool():
            return reduced("x", "lax.max", f"np.array({low}, x.dtype)", layer, padding)
        case layers.MinPool():
            return reduced("x", "lax.min", f"np.array({high}, x.dtype)", layer, padding)
        case layers.AveragePool(count_include_pad=counts):
            ones, within = f"np.ones({(1, *shape[1:-1], 1)}, np.float32)", padding
            if counts:
                given["ceil_mode"] = False
                counted = pads(shape[1:-1], **given)
                within = [(0, w - c) for (_, c), (_, w) in zip(counted, padding, strict=True)]
                sizes = [n + sum(pair) for n, pair in zip(shape[1:-1], counted, strict=True)]
                ones = f"np.ones({(1, *sizes, 1)}, np.float32)"
            total = reduced("x", "lax.add", "np.array(0, x.dtype)", layer, padding)
            cells = reduced(ones, "lax.add", "np.float32(0)", layer, within)
            return f"({total}\n        / {cells}).astype(x.dtype)"
        case layers.LpPool(p=2):
            return (
                f"jnp.sqrt({reduced('x * x', 'lax.add', 'np.array(0, x.dtype)', layer, padding)})"
            )
        case layers.LpPool(p=p):
            power = f"jnp.abs(x) ** {p}"
            total = reduced(power, "lax.add", "np.array(0, x.dtype)", layer, padding)
            return f"{total} ** (1 / {p})"
        case layers.GlobalAveragePool():
            return f"jnp.mean(x, {axes})"
        case layers.GlobalMaxPool():
            return f"jnp.max(x, {axes})"
        case layers.Conv(stride=stride, dilation=dilation, groups=groups, bias=bias):
            names = "DHW"[-len(stride) :]
            around = layer.padding.upper() if isinstance(layer.padding, str) else layer.padding
            return (
                f"lax.conv_general_dilated(x, weight, {stride}, {around!r},\n"
                f"        rhs_dilation={dilation}, feature_group_count={groups},\n"
                f"        dimension_numbers={(f'N{names}C', f'{names}IO', f'N{names}C')},\n"
                f"        precision=lax.Precision.HIGHEST){' + bias' * bias}"
            )
        case layers.Dense(bias=bias):
            return f"jnp.dot(x, weight.T, precision=lax.Precision.HIGHEST){' + bias' * bias}"
        case layers.ReLU():
            return "jax.nn.relu(x)"
        case layers.Flatten(start=start) if start <= len(shape):
            return f"jnp.reshape(x, {(*shape[:start], math.prod(shape[start:]))})"
    raise Unsupported(f"{layer} is no single expression of JAX")


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

    def script(self, layer: Layer, x: Array) -> str:
        """Show the call of JAX that the layer's function makes."""
        held = [f"jnp.array(weights[{name!r}])" for name in weight_shapes(layer)]
        call = ", ".join(["jnp.array(x)", *held])
        return f"{self._source(layer, x)}\ny = np.asarray(layer({call}))\n"

    def gradient_script(self, layer: Layer, x: Array, upstream: Array) -> str:
        """Show it likewise, and how it is pulled back."""
        del upstream
        names = ["input", *weight_shapes(layer)]
        call = ", ".join(f"held[{name!r}]" for name in names)
        return f"{self._source(layer, x)}\n\n{PULL.format(call=call)}"

    def shape_script(self, layer: Layer, shape: Shape) -> str:
        """Show it likewise, and what ``jax.eval_shape`` says of it."""
        sizes = ", ".join(["shape", *map(str, weight_shapes(layer).values())])
        given = f"(jax.ShapeDtypeStruct(size, np.float32) for size in ({sizes},))"
        source = self._source(layer, np.broadcast_to(np.float32(0), shape))
        return f"{source}\nshape = jax.eval_shape(layer, *{given}).shape\n"

    def _source(self, layer: Layer, x: Array) -> str:
        """Return the imports, and the definition of ``layer``."""
        names = ", ".join(["x", *weight_shapes(layer)])
        decorated = "@jax.jit\n" if self.mode == "jit" else ""
        value = expression(layer, x.shape, x.dtype.name)
        return f"{IMPORTS}\n{decorated}def layer({names}):\n    return {value}\n"
