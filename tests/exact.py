"""The second oracle: each layer window by window, in exact rational arithmetic.

It computes the formulas of the specification's data, in plain loops and with no thought of
speed, so that a reference implementation can be held against it. Arrays are channels-last with
the batch in front; results are object arrays of ``Fraction`` (or a float where NaN or infinite).
A rational result is exact; a root is truncated as ``formulas.root`` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from cnnformance.spec.clauses import load
from cnnformance.spec.formulas import Formula, Number, number
from cnnformance.spec.layers import (
    Adaptive,
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Global,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    Model,
    Pool,
    ReLU,
    Shape,
    StochasticPool,
    Windowed,
)

Array = np.ndarray[Any, np.dtype[Any]]
Weights = Mapping[str, Array]
Numbers = tuple[Number, ...]
Draws = tuple[tuple[Number, Number], ...]
"""The (value, probability) pairs of a random choice."""


class ExactError(ValueError):
    """An input for which the layer has no meaning; the message says why."""


@cache
def _formula(name: str) -> Formula:
    return load().formula(name)


def _scalar(name: str, **bindings: object) -> Number:
    return _formula(name).scalar(**bindings)


def _integer(name: str, **bindings: object) -> int:
    value = _scalar(name, **bindings)
    assert value == int(value), f"{name} is a size"
    return int(value)


class Axis(NamedTuple):
    """Where the windows of a layer lie along one axis.

    ``windows`` holds, for each output, the positions of its cells: ``0 <= i < size`` is a cell
    of the input, ``-before <= i < size + after`` one of the padding, and any other lies beyond.
    """

    size: int
    before: int
    after: int
    windows: tuple[tuple[int, ...], ...]

    def inside(self, i: int) -> bool:
        """Whether a position is a cell of the input."""
        return 0 <= i < self.size

    def padded(self, i: int) -> bool:
        """Whether a position is a cell of the input or of the padding."""
        return -self.before <= i < self.size + self.after


def _windowed_axis(layer: Windowed, axis: int, size: int) -> Axis:
    window, stride, step = layer.window[axis], layer.stride[axis], layer.dilation[axis]
    extent = _integer("pool.extent", F=window, D=step)
    if isinstance(layer.padding, str):
        outputs = _integer("pool.same.size", N=size, S=stride)
        total = _integer("pool.same.total", O=outputs, S=stride, E=extent, N=size)
        small = total // 2
        before = small if layer.padding == "same" else total - small
        after = total - before
    else:
        before, after = layer.padding[axis]
        ceil_mode = isinstance(layer, Pool) and layer.ceil_mode
        bindings = {"N": size, "P": before + after, "E": extent, "S": stride}
        outputs = (
            _integer("pool.ceil-mode.size", **bindings, B=before)
            if ceil_mode
            else _integer("pool.output-size-general", **bindings)
        )
    starts = [o * stride - before for o in range(max(outputs, 0))]
    cells = tuple(tuple(start + k * step for k in range(window)) for start in starts)
    return Axis(size, before, after, cells)


def _adaptive_axis(layer: Adaptive, axis: int, size: int) -> Axis:
    outputs = layer.output[axis]
    cells = tuple(
        tuple(
            range(
                _integer("pool.adaptive.start", i=i, N=size, M=outputs),
                _integer("pool.adaptive.end", i=i, N=size, M=outputs),
            )
        )
        for i in range(outputs)
    )
    return Axis(size, 0, 0, cells)


def axes(layer: Layer, spatial: Shape) -> tuple[Axis, ...]:
    """Return where the windows of a layer lie, for each axis of an input's spatial shape.

    Raises:
        ExactError: the layer has no windows, or the input another rank.
    """
    if not isinstance(layer, Windowed | Adaptive | Global):
        raise ExactError(f"{type(layer).__name__} has no windows")
    if layer.rank != len(spatial):
        raise ExactError(f"{layer} does not take {len(spatial)} spatial axes")
    match layer:
        case Windowed():
            return tuple(_windowed_axis(layer, a, n) for a, n in enumerate(spatial))
        case Adaptive():
            return tuple(_adaptive_axis(layer, a, n) for a, n in enumerate(spatial))
    return tuple(Axis(n, 0, 0, (tuple(range(n)),)) for n in spatial)


def output_shape(layer: Layer, shape: Shape) -> Shape:
    """Return the output's shape for an input's shape, both with the batch.

    A window that fits nowhere gives an axis of length 0.

    Raises:
        ExactError: the layer does not take such an input.
    """
    match layer:
        case Conv() if shape[-1] != layer.in_channels:
            raise ExactError(f"{layer} does not take {shape[-1]} channels")
        case Conv():
            windows = axes(layer, shape[1:-1])
            return (shape[0], *(len(a.windows) for a in windows), layer.out_channels)
        case Windowed() | Adaptive():
            return (shape[0], *(len(a.windows) for a in axes(layer, shape[1:-1])), shape[-1])
        case Global():
            axes(layer, shape[1:-1])
            return (shape[0], shape[-1])
        case Flatten() if layer.start >= len(shape):
            raise ExactError(f"{layer} does not take {len(shape)} axes")
        case Flatten():
            return (*shape[: layer.start], math.prod(shape[layer.start :]))
        case Dense() if shape[-1] != layer.in_features:
            raise ExactError(f"{layer} does not take {shape[-1]} features")
        case Dense():
            return (*shape[:-1], layer.out_features)
    return shape


def parameter_count(layer: Layer) -> int:
    """Return how many learnable parameters a layer holds."""
    match layer:
        case Conv():
            sizes = {
                "K": math.prod(layer.window),
                "C": layer.in_channels,
                "M": layer.out_channels,
                "G": layer.groups,
            }
            return _integer("conv.count" if layer.bias else "conv.count-without-bias", **sizes)
        case Dense():
            sizes = {"N": layer.in_features, "M": layer.out_features}
            return _integer("dense.count" if layer.bias else "dense.count-without-bias", **sizes)
    return _integer("pool.parameter-count")


def exact(array: Any) -> Array:
    """Return an array of any real dtype as an object array of exact numbers."""
    array = np.asarray(array)
    result = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        result[index] = number(array[index])
    return result


POOLED: Mapping[type[Layer], tuple[str, Number]] = {
    MaxPool: ("pool.max.formula", -math.inf),
    AdaptiveMaxPool: ("pool.max.formula", -math.inf),
    GlobalMaxPool: ("pool.global-max.formula", -math.inf),
    MinPool: ("pool.min.formula", math.inf),
    AveragePool: ("pool.average.formula", math.nan),
    AdaptiveAveragePool: ("pool.average.formula", math.nan),
    GlobalAveragePool: ("pool.global-average.formula", math.nan),
    LpPool: ("pool.lp.formula", Fraction(0)),
    StochasticPool: ("pool.stochastic.evaluation", Fraction(0)),
}
"""For each pooling the formula of a window, and the value of a window that holds nothing."""


def _pooled(layer: Layer, x: Numbers, counted: int) -> Number:
    """Pool the cells of one window; ``counted`` is how many cells an average divides by."""
    name, of_nothing = POOLED[type(layer)]
    if isinstance(layer, StochasticPool):
        counted = sum(v != 0 for v in _activations(x))
    if counted == 0:
        return of_nothing
    bindings: dict[str, object] = {"x": x, "n": counted}
    if isinstance(layer, LpPool):
        name, bindings["p"] = ("pool.l2.formula" if layer.p == 2 else name), layer.p
    names = _formula(name).names
    return _scalar(name, **{key: value for key, value in bindings.items() if key in names})


def _activations(x: Numbers) -> Numbers:
    if any(v < 0 for v in x):
        raise ExactError("stochastic pooling needs activations >= 0")
    return x


def _windows(layer: Layer, shape: Shape) -> Iterator[tuple[Shape, list[Shape], int]]:
    """Yield for each output position: itself, the input cells it reads, the divisor's count."""
    along = axes(layer, shape[1:-1])
    counts_padding = isinstance(layer, AveragePool) and layer.count_include_pad
    for out in product(*(range(len(a.windows)) for a in along)):
        cells = list(product(*(a.windows[o] for a, o in zip(along, out, strict=True))))
        read = [c for c in cells if all(a.inside(i) for a, i in zip(along, c, strict=True))]
        padded = [c for c in cells if all(a.padded(i) for a, i in zip(along, c, strict=True))]
        yield out, read, len(padded if counts_padding else read)


def _pool(layer: Layer, x: Array) -> Array:
    y = np.empty(output_shape(layer, x.shape), dtype=object)
    for out, read, counted in _windows(layer, x.shape):
        place = () if isinstance(layer, Global) else out
        for n, c in product(range(x.shape[0]), range(x.shape[-1])):
            y[(n, *place, c)] = _pooled(layer, tuple(x[(n, *cell, c)] for cell in read), counted)
    return y


def _conv(layer: Conv, x: Array, weights: Weights) -> Array:
    weight, bias = exact(weights["weight"]), _bias(weights)
    y = np.empty(output_shape(layer, x.shape), dtype=object)
    along = axes(layer, x.shape[1:-1])
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    taps = list(product(*map(range, layer.window)))
    for index in np.ndindex(y.shape):
        n, *out, m = index
        first = m // outputs * inputs
        xs: list[Number] = []
        ws: list[Number] = []
        for tap, c in product(taps, range(inputs)):
            cell = tuple(a.windows[o][t] for a, o, t in zip(along, out, tap, strict=True))
            inside = all(a.inside(i) for a, i in zip(along, cell, strict=True))
            xs.append(x.item((n, *cell, first + c)) if inside else Fraction(0))
            ws.append(weight[(*tap, c, m)])
        y[index] = (
            _scalar("conv.formula", x=xs, w=ws)
            if bias is None
            else _scalar("conv.bias", x=xs, w=ws, b=bias[m])
        )
    return y


def _dense(layer: Dense, x: Array, weights: Weights) -> Array:
    weight, bias = exact(weights["weight"]), _bias(weights)
    y = np.empty(output_shape(layer, x.shape), dtype=object)
    for index in np.ndindex(y.shape):
        *row, m = index
        xs, ws = tuple(x[tuple(row)]), tuple(weight[m])
        y[index] = (
            _scalar("dense.without-bias", x=xs, w=ws)
            if bias is None
            else _scalar("dense.formula", x=xs, w=ws, b=bias[m])
        )
    return y


def _bias(weights: Weights) -> Array | None:
    return exact(weights["bias"]) if "bias" in weights else None


def output(layer: Layer, x: Any, weights: Weights | None = None) -> Array:
    """Return what a layer computes for a canonical input, exactly.

    A window without any cell of the input gives -inf under max, +inf under min, NaN under an
    average that counts no padding, and 0 under the norms. Stochastic pooling is evaluated; see
    ``draws`` for its training.

    Raises:
        ExactError: the layer does not take such an input.
    """
    x, weights = exact(x), weights or {}
    y: Array
    match layer:
        case StochasticPool(training=True):
            raise ExactError("stochastic pooling in training has no single output; see draws")
        case Conv():
            return _conv(layer, x, weights)
        case Dense():
            return _dense(layer, x, weights)
        case Flatten():
            y = x.reshape(output_shape(layer, x.shape))
            return y
        case ReLU():
            y = np.empty(x.shape, dtype=object)
            for index in np.ndindex(x.shape):
                y[index] = _scalar("relu.formula", x=x[index])
            return y
    return _pool(layer, x)


def run(model: Model, x: Any, weights: tuple[Weights, ...] = ()) -> Array:
    """Return what a model computes: each layer's exact output is the next one's input."""
    for i, layer in enumerate(model):
        x = output(layer, x, weights[i] if weights else None)
    return exact(x)


def draws(layer: StochasticPool, x: Any) -> Array:
    """Return, for each output of stochastic pooling in training, the values that may be drawn.

    Each element of the object array is a tuple of (value, probability) pairs, one for each cell
    of the window; for a window of zeros, the one pair (0, 1).
    """
    x = exact(x)
    y = np.empty(output_shape(layer, x.shape), dtype=object)
    for out, read, _ in _windows(layer, x.shape):
        for n, c in product(range(x.shape[0]), range(x.shape[-1])):
            y[(n, *out, c)] = _draws(tuple(x[(n, *cell, c)] for cell in read))
    return y


def _draws(x: Numbers) -> Draws:
    if all(v == 0 for v in _activations(x)):
        return ((number(0), number(1)),)
    probabilities = _formula("pool.stochastic.probability")(x=x)
    assert isinstance(probabilities, tuple)
    return tuple(zip(x, probabilities, strict=True))


LINEAR = (AveragePool, GlobalAveragePool, AdaptiveAveragePool, Flatten, Conv, Dense)
"""The layers whose output is linear in the input, up to a bias."""


def gradient(
    layer: Layer, x: Any, upstream: Any, weights: Weights | None = None
) -> dict[str, Array]:
    """Return the exact gradients of ``sum(layer(x) * upstream)`` for a linear layer.

    The keys are ``input`` and the names in ``weights``. Each entry is the inner product of the
    upstream gradient with the layer's response to a unit in that place.

    Raises:
        ExactError: the layer is not linear.
    """
    if not isinstance(layer, LINEAR):
        raise ExactError(f"{type(layer).__name__} is not linear")
    places = {"input": exact(x), **{name: exact(w) for name, w in (weights or {}).items()}}
    seen = exact(upstream).ravel().tolist()
    gradients = {}
    for name, array in places.items():
        # With every other summand at zero, the response is linear in this place alone.
        still = {k: _zeros(v) if "bias" in (k, name) or k == name else v for k, v in places.items()}
        gradients[name] = _zeros(array)
        for index in np.ndindex(array.shape):
            unit = _zeros(array)
            unit[index] = number(1)
            given = still | {name: unit}
            response = output(layer, given.pop("input"), given).ravel().tolist()
            gradients[name][index] = _scalar("dense.without-bias", x=response, w=seen)
    return gradients


def _zeros(array: Array) -> Array:
    return exact(np.zeros(array.shape))
