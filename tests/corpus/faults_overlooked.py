"""Faults of options in pairs, of narrow places, of what is packed, and of static answers.

Padding on one side of a rounded-up number of windows, windows that span more than their map,
weights that differ in a part from those before, and kernels of one dtype for memory as it lies.
"""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Backend, Weights
from cnnformance.adapters.wire import dtype_named
from cnnformance.reference import bounds
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    Shape,
    StochasticPool,
)
from corpus.fault import (
    Call,
    Edit,
    Faults,
    Witness,
    backpropagates,
    gradient,
    hook,
    output,
    refused,
    result,
    static,
    tells,
    values,
    weights_of,
    whole,
)
from corpus.faults_kernels import misread, runs
from corpus.faults_memory import Answer, as_stored, called
from corpus.faults_networks import conv
from corpus.kernels import Honest, but

FAULTS = Faults("overlooked")
add = FAULTS.add

# Where windows begin and end


def kept_past_the_input(honest: Any, layer: Any, number: int, size: int) -> int:
    """Keep the window that begins in the padding after the input, where none is before."""
    if isinstance(layer.padding, str) or not layer.ceil_mode or layer.padding[number][0]:
        return honest(layer, number, size)
    room = size + layer.padding[number][1] - (layer.window[number] - 1) * layer.dilation[number] - 1
    return -(-room // layer.stride[number]) + 1


def clamped_to_the_map(honest: Any, layer: Any, number: int, size: int) -> tuple[int, int]:
    """Compute the padding of ``same`` as if no window spanned more than the map."""
    extent = (layer.window[number] - 1) * layer.dilation[number] + 1
    if layer.padding != "same" or extent <= size:
        return honest(layer, number, size)
    cells = (-(-size // layer.stride[number]) - 1) * layer.stride[number]
    return cells // 2, cells - cells // 2


for pool in (MaxPool, LpPool):
    add(
        pool,
        "window-past-the-input-without-padding-before",
        hook(output_size=kept_past_the_input),
        result(pool((2,), (2,), ((0, 1),), ceil_mode=True), values(1, 2, 3, 4)),
        "semantics",
    )
for wide in (MinPool((5,), (2,), "same"), conv((5,), stride=(2,), padding="same")):
    add(
        type(wide),
        "same-padding-of-a-window-clamped-to-the-map",
        hook(pads=clamped_to_the_map),
        result(wide, values(1, 2, 9)),
        "semantics",
    )
add(
    Conv,
    "strided-single-cells-without-the-padding-that-moves-them",
    runs(
        lambda c, x: (
            set(c.window) == {1}
            and max(c.stride) > 1
            and not isinstance(c.padding, str)
            and all(
                (n + sum(pads) - 1) // s == (n - 1) // s
                for n, pads, s in zip(x.shape[1:-1], c.padding, c.stride, strict=True)
            )
        ),
        misread(lambda c: {"padding": ((0, 0),) * c.rank}),
    ),
    result(conv((1,), stride=(2,), padding=((1, 0),)), values(1, 2, 3, 4, 5)),
    "semantics",
)

# One dtype, one rank, one option


def of(dtype: str, when: Callable[[Any], bool]) -> Callable[[Any, Array], bool]:
    """Return when an input is of a dtype, and its layer is as ``when`` says."""
    return lambda layer, x: x.dtype.name == dtype and when(layer)


def undilated(honest: Call, layer: Any, weights: dict[str, Array], x: Array) -> Array:
    """Compute the first windows of the layer without dilation."""
    y = honest(layer, weights, x)
    wide = honest(but(layer, dilation=(1,) * layer.rank), weights, x)
    return wide[tuple(map(slice, y.shape))]


add(
    Conv,
    "groups-of-doubles-without-dilation",
    runs(of("float64", lambda c: c.groups > 1 and max(c.dilation) > 1), undilated),
    result(conv((2,), 2, 2, groups=2, dilation=(2,)), whole(1, 6, 2, dtype="float64")),
    "semantics",
)
add(
    MaxPool,
    "integers-of-64-bits-without-dilation",
    runs(of("int64", lambda p: max(p.dilation) > 1), undilated),
    result(MaxPool((2,), (1,), dilation=(2,)), whole(1, 6, 2, dtype="int64")),
    "semantics",
)
add(
    LpPool,
    "third-order-of-halves-in-a-line-is-the-second",
    runs(of("float16", lambda p: p.p == 3 and p.rank == 1), misread(lambda _p: {"p": 2})),
    result(LpPool((2,), p=3), values(1, 1, 2, 2, dtype="float16")),
    "semantics",
)


def reversed_groups(
    grads: dict[str, Array], layer: Any, _weights: Weights, x: Array, _g: Array
) -> dict[str, Array]:
    """Return the gradient of the bias of groups in reversed order."""
    if x.dtype.name == "float16" and layer.groups > 1 and "bias" in grads:
        grads["bias"] = grads["bias"][::-1]
    return grads


def doubled_where_upsampled(
    grads: dict[str, Array], layer: Any, _weights: Weights, x: Array, _g: Array
) -> dict[str, Array]:
    """Double the gradient of an output larger than the map."""
    larger = any(m > n for m, n in zip(layer.output, x.shape[1:-1], strict=True))
    twice = x.dtype.name == "bfloat16" and larger
    return {"input": grads["input"] * 2} if twice else grads


add(
    Conv,
    "bias-gradient-of-groups-of-halves-reversed",
    backpropagates(reversed_groups),
    gradient(conv((1,), 2, 2, groups=2), whole(1, 5, 2, dtype="float16")),
    "gradient",
)
add(
    AdaptiveAveragePool,
    "gradient-of-upsampled-bfloat16-doubled",
    backpropagates(doubled_where_upsampled),
    gradient(AdaptiveAveragePool((5,)), whole(1, 3, 2, dtype="bfloat16")),
    "gradient",
)

# Gradients of draws


def to_the_largest(honest: Any, layer: Any, cells: Array, inside: Array, divisor: Array) -> Array:
    """Send the gradient of a draw, of other ranks than two, to the largest cell."""
    if not layer.training or layer.rank == 2:
        return honest(layer, cells, inside, divisor)
    return (np.arange(cells.shape[-1]) == cells.argmax(-1)[..., None]).astype(float)


def as_in_evaluation(honest: Any, layer: Any, cells: Array, inside: Array, divisor: Array) -> Array:
    """Give doubles in training the gradient of evaluation."""
    doubles = cells.dtype.name == "float64"
    return honest(but(layer, training=layer.training and not doubles), cells, inside, divisor)


DRAWN = StochasticPool((1, 2, 2), training=True)
add(
    StochasticPool,
    "gradient-of-draws-in-space-to-the-largest",
    hook(cell_gradient=to_the_largest),
    gradient(DRAWN, whole(2, 4, 4, 4, 2, low=1)),
    "gradient",
)
add(
    StochasticPool,
    "gradient-of-draws-of-doubles-as-in-evaluation",
    hook(cell_gradient=as_in_evaluation),
    gradient(DRAWN, whole(1, 2, 4, 4, 2, low=1, dtype="float64")),
    "gradient",
)

# Static answers


def by_the_window(shape: Shape, layer: Any, given: Shape) -> Shape:
    """State the number of windows in ceil mode as without dilation."""
    if not layer.ceil_mode or max(layer.dilation) == 1 or isinstance(layer.padding, str):
        return shape
    pads = zip(given[1:-1], layer.padding, layer.window, layer.stride, strict=True)
    return (shape[0], *(-(-(n + sum(p) - w) // s) + 1 for n, p, w, s in pads), shape[-1])


def rounded_down(shape: Shape, layer: Any, given: Shape) -> Shape:
    """State the size of ``same`` rounded down where strides skip cells."""
    if not isinstance(layer.padding, str):
        return shape
    sizes = zip(given[1:-1], shape[1:-1], layer.stride, layer.window, strict=True)
    return (shape[0], *(n // s if s > w else o for n, o, s, w in sizes), shape[-1])


add(
    MaxPool,
    "stated-without-dilation-in-ceil-mode",
    tells(by_the_window),
    static(MaxPool((3,), (2,), dilation=(2,), ceil_mode=True), 1, 9, 1),
    "semantics",
)
for skipping in (AveragePool((2,), (5,), "same"), conv((2,), stride=(5,), padding="same")):
    add(
        type(skipping),
        "stated-rounded-down-where-strides-skip",
        tells(rounded_down),
        static(skipping, 1, 7, 1),
        "semantics",
    )

# Sums


def from_the_first(honest: Call, layer: Any, weights: dict[str, Array], x: Array) -> Array:
    """Compute wide windows as differences of the sums from the first cell on."""
    sums = np.cumsum(np.pad(x, ((0, 0), (1, 0), (0, 0))), axis=1, dtype=x.dtype)
    starts = np.arange(honest(layer, weights, x).shape[1]) * layer.stride[0]
    return (sums[:, starts + layer.window[0]] - sums[:, starts]) / layer.window[0]


add(
    AveragePool,
    "wide-windows-by-sums-from-the-first-cell",
    runs(
        lambda p, x: (
            p.rank == 1
            and p.window[0] >= 7
            and p.unpadded
            and not p.ceil_mode
            and max(p.dilation) == 1
            and x.dtype.name == "float32"
        ),
        from_the_first,
    ),
    result(AveragePool((7,), (1,)), values(1e9, *[1] * 9)),
    "precision",
)

# What is packed for the next call


def packed_by(key: Callable[[dict[str, Array]], bytes]) -> Edit:
    """Keep the weights of a layer for all that have the same key."""

    def change(
        store: Any, honest: Answer, layer: Layer, weights: dict[str, Array], x: Array
    ) -> Array:
        return honest(layer, store.setdefault((layer, x.dtype.name, key(weights)), weights), x)

    return called(change)


def packed(layer: Layer, change: Callable[[dict[str, Array]], dict[str, Array]]) -> Witness:
    """Ask with weights, then with changed ones; look at the second answer."""

    def witness(backend: Backend) -> Array:
        weights = weights_of(layer)
        x = whole(1, 4)
        for held in (weights, {**weights, **change(weights)}):
            y: Array = backend.build(layer, held)(x)
        return y

    return witness


add(
    Dense,
    "packed-without-the-bias",
    packed_by(lambda weights: weights["weight"].tobytes()),
    packed(Dense(4, 3), lambda weights: {"bias": weights["bias"] + 1}),
    "memory",
)
add(
    Dense,
    "packed-by-the-sum-of-the-weights",
    packed_by(lambda weights: b"".join(w.sum(dtype=float).tobytes() for w in weights.values())),
    packed(Dense(4, 3), lambda weights: {"weight": weights["weight"][::-1].copy()}),
    "memory",
)


def stored(dtype: str) -> Edit:
    """Read the weights of a dtype in the order in which they lie."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
                if isinstance(layer, kind):
                    weights = {
                        name: as_stored(w) if w.dtype.name == dtype else w
                        for name, w in weights.items()
                    }
                return super().build(layer, weights)

        return Faulty

    return edit


for kind, dtype, shape in ((Dense, "float64", (3, 4)), (Conv, "bfloat16", (2, 3, 2))):
    layer = Dense(4, 3) if kind is Dense else conv((2,), 3, 2)
    x = whole(1, 4, dtype=dtype) if kind is Dense else whole(1, 5, 3, dtype=dtype)
    add(
        kind,
        f"weights-of-{dtype}-read-as-they-lie",
        stored(dtype),
        result(layer, x, weight=np.asfortranarray(whole(*shape, dtype=dtype))),
        "memory",
    )


def reinterpreted(
    _store: Any, honest: Answer, layer: Layer, weights: dict[str, Array], x: Array
) -> Array:
    """Take the bits of a half of one kind for those of the other."""
    if x.dtype.itemsize == 2:
        weights = {name: w.view(x.dtype) if w.itemsize == 2 else w for name, w in weights.items()}
    return honest(layer, weights, x)


def broken_by_refusals(kind: type[Layer]) -> type[Honest]:
    """Answer zeros from a layer that has refused an input."""

    class Faulty(Honest):
        def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
            honest = super().build(layer, weights)
            refused: list[Exception] = []

            def call(x: Array) -> Array:
                try:
                    y: Array = honest(x)
                except (TypeError, ValueError) as error:
                    refused.append(error)
                    raise
                return y * 0 if refused else y

            return call if isinstance(layer, kind) else honest

    return Faulty


def after_a_refusal(layer: Layer, x: Array) -> Witness:
    """Ask with an axis too few, and then rightly; look at the second answer."""

    def witness(backend: Backend) -> Array:
        call = backend.build(layer, weights_of(layer))
        with contextlib.suppress(TypeError, ValueError):
            call(x[0, 0])
        y: Array = call(x)
        return y

    return witness


for usual, x in ((conv((2,), 3, 2), whole(1, 5, 3)), (MinPool((2, 2)), whole(1, 4, 4, 2))):
    add(
        type(usual),
        "zeros-after-a-refusal",
        broken_by_refusals,
        after_a_refusal(usual, x),
        "memory",
    )

HALF = whole(1, 4, dtype="float16")
for kind, layer in ((Conv, conv((2,), 1, 2)), (Dense, Dense(4, 2))):
    x = HALF[..., None] if kind is Conv else HALF
    add(
        kind,
        "halves-taken-for-the-other-kind",
        called(reinterpreted),
        refused(result(layer, x, **weights_of(layer, "bfloat16"))),
        "refusal",
    )

# Values and places


def flushed(y: Array) -> Array:
    """Return an array of doubles without its subnormal numbers."""
    small = y.dtype.name == "float64" and np.abs(y) < bounds.format_of("float64").tiny
    return np.where(small, y.dtype.type(0), y)


add(
    Flatten,
    "subnormal-doubles-flushed",
    output(flushed),
    result(Flatten(), values(1, 1e-310, dtype="float64")),
    "semantics",
)


def placed(dtype: str, counts: Callable[[Array], Array]) -> Edit:
    """Keep the place of a winner in a map, of values of a dtype, as far as it counts."""

    def change(
        grads: dict[str, Array], _layer: Layer, _weights: Weights, x: Array, _g: Array
    ) -> dict[str, Array]:
        cells = math.prod(x.shape[1:-1])
        if x.dtype.name != dtype or not x.size:
            return grads
        flat = np.asarray(grads["input"], np.float64).reshape(len(x), cells, x.shape[-1])
        moved = np.zeros_like(flat)
        places = counts(np.arange(cells)).astype(int).clip(0, cells - 1)
        np.add.at(moved.swapaxes(0, 1), places, flat.swapaxes(0, 1))
        return {"input": moved.reshape(x.shape)}

    return backpropagates(change)


for selecting, dtype, bits in (
    (AdaptiveMaxPool((1,)), "bfloat16", 8),
    (GlobalMaxPool(1), "float16", 11),
    (MinPool((2,)), "bfloat16", 8),
):
    peak = np.zeros((1, 2**bits + 44, 1))
    peak[:, -3::-2] = -int(selecting.least)
    peak[0, -3] = -2 if selecting.least else 1
    of_halves = peak.astype(dtype_named(dtype))
    add(
        type(selecting),
        f"place-of-the-winner-in-{dtype}",
        placed(dtype, partial(np.ndarray.astype, dtype=dtype_named(dtype))),
        gradient(selecting, of_halves),
        "gradient",
    )
add(
    MaxPool,
    "place-of-the-winner-in-fifteen-bits",
    placed("float32", lambda places: places % 2**15),
    gradient(MaxPool((2,)), np.arange(33000, dtype=np.float32).reshape(1, -1, 1)),
    "gradient",
)
