"""Faults of NaN, infinities and maps of one value, of operands in other memory, of other dtypes."""

# ruff: noqa: ARG001, ARG005 - a change is given all that it may need

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Backend, Weights
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
    ReLU,
    Shape,
)
from corpus.fault import (
    Edit,
    Faults,
    Witness,
    backpropagates,
    computes,
    hook,
    refused,
    result,
    values,
    weighs,
    weights_of,
    whole,
)
from corpus.kernels import Honest

FAULTS = Faults("special values")
inf, nan = np.inf, np.nan

kind: Any
layer: Any

PAIR = (2,)
CONV = Conv((2, 2), in_channels=2, out_channels=3)
GROUPED = Conv((2, 2), in_channels=2, out_channels=4, groups=2)
DENSE = Dense(4, 3)
MAPS = whole(2, 5, 4, 2)
ROWS = whole(3, 4)
LAYERS: dict[Any, tuple[Any, Array]] = {
    MaxPool: (MaxPool((2, 2)), MAPS),
    MinPool: (MinPool((2, 2)), MAPS),
    AveragePool: (AveragePool((2, 2)), MAPS),
    LpPool: (LpPool((2, 2)), MAPS),
    GlobalMaxPool: (GlobalMaxPool(), MAPS),
    GlobalAveragePool: (GlobalAveragePool(), MAPS),
    AdaptiveAveragePool: (AdaptiveAveragePool((2, 3)), MAPS),
    AdaptiveMaxPool: (AdaptiveMaxPool((2, 3)), MAPS),
    Conv: (CONV, MAPS),
    Dense: (DENSE, ROWS),
    ReLU: (ReLU(), np.abs(ROWS) + 1),
    Flatten: (Flatten(), MAPS),
}


def spoilt(layer: Layer, name: str, special: float, place: int = 0) -> dict[str, Array]:
    """Return drawn weights with a special value at one place of one of them."""
    weights = weights_of(layer)
    weights[name].flat[place] = special
    return weights


# NaN and infinities in weights

WITH = {Conv: (CONV, MAPS), Dense: (DENSE, ROWS)}


def sparse(honest: Any, rows: Array, columns: Array) -> Array:
    """Skip the terms whose input is zero, also where the weight is not finite."""
    if np.isfinite(columns).all():
        return honest(rows, columns)
    with np.errstate(all="ignore"):
        terms = rows[:, :, None].astype(np.float64) * columns.astype(np.float64)
    return np.where(rows[:, :, None] == 0, 0, terms).sum(1)


def without(special: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Turn special values into zeros."""
    return lambda array: np.where(special(array), array.dtype.type(0), array)


def clipped(array: Array) -> Array:
    """Turn infinities into the largest numbers."""
    largest = np.float64(np.finfo(np.float32).max)
    return np.where(np.isinf(array), np.sign(array) * largest, array).astype(array.dtype)


def of_last_group(weight: Array) -> Array:
    """Lose the NaN of the last two outputs."""
    return np.where(np.isnan(weight) & (np.arange(weight.shape[-1]) > 1), 0, weight)


def rows_of_zeros(honest: Any, layer: Any, weights: Any, x: Array) -> Array:
    """Skip samples of zeros: they give the bias."""
    y = honest(layer, weights, x)
    empty = ~x.reshape(len(x), -1).any(1) if x.size else np.zeros(len(x), bool)
    y[empty] = weights.get("bias", 0)
    return y


for kind, (layer, x) in WITH.items():
    FAULTS.add(
        kind,
        "infinite-weight-skips-zeros",
        hook(inner=sparse),
        result(layer, x * 0, **spoilt(layer, "weight", inf)),
        "semantics",
    )
    FAULTS.add(
        kind,
        "nan-weight-skips-samples-of-zeros",
        computes(rows_of_zeros),
        result(layer, x * 0, **spoilt(layer, "weight", nan)),
        "semantics",
    )
    for name in ("weight", "bias"):
        FAULTS.add(
            kind,
            f"nan-of-{name}-is-zero",
            weighs(**{name: without(np.isnan)}),
            result(layer, x, **spoilt(layer, name, nan)),
            "semantics",
        )
    FAULTS.add(
        kind,
        "infinite-weight-is-largest-number",
        weighs(weight=clipped),
        result(layer, x * 0, **spoilt(layer, "weight", -inf)),
        "semantics",
    )
    FAULTS.add(
        kind,
        "negative-infinite-weight-is-zero",
        weighs(weight=without(lambda w: w == -inf)),
        result(layer, x, **spoilt(layer, "weight", -inf)),
        "semantics",
    )
FAULTS.add(
    Conv,
    "nan-weight-lost-in-last-group",
    weighs(weight=of_last_group),
    result(GROUPED, MAPS, **spoilt(GROUPED, "weight", nan, 3)),
    "semantics",
)
FAULTS.add(
    Dense,
    "nan-weight-spoils-values-of-others",
    computes(
        lambda honest, layer, w, x: (
            honest(layer, w, x) + bool(np.isnan(w["weight"]).any())
        ).astype(x.dtype)
    ),
    result(DENSE, ROWS, **spoilt(DENSE, "weight", nan)),
    "semantics",
)

# NaN and infinities in the upstream gradient


def backward(kind: Any, name: str, edit: Edit, witness: Witness) -> None:
    """Declare a fault of the gradient."""
    FAULTS.add(kind, f"gradient-{name}", edit, witness, "gradient")


def upstream(layer: Layer, x: Array, special: float | None = None, **weights: Array) -> Witness:
    """Ask for gradients under an upstream of ones, but for one special value."""
    held = {**weights_of(layer), **weights}

    def witness(backend: Backend) -> Any:
        g = np.ones_like(Honest().build(layer, held)(x))
        if special is not None:
            g.flat[0] = special
        return backend.gradients(layer, held, x, g)

    return witness


def all_of(change: Callable[[Array], Array], only: str = "") -> Edit:
    """Change every gradient, or one."""
    return backpropagates(
        lambda grads, layer, w, x, g: {
            name: change(grad) if only in ("", name) else grad for name, grad in grads.items()
        }
    )


def whole_sample(grads: dict[str, Array], layer: Any, w: Any, x: Array, g: Array) -> Any:
    """Spread NaN over all cells of its sample, as sums that run along a map do."""
    axes = tuple(range(1, x.ndim - 1))
    spread = np.isnan(grads["input"]).any(axes, keepdims=True)
    return {**grads, "input": np.where(spread, nan, grads["input"])}


def whole_batch(grads: dict[str, Array], layer: Any, w: Any, x: Array, g: Array) -> Any:
    """Spread NaN over all samples."""
    spread = np.isnan(grads["input"]).any(0, keepdims=True)
    return {**grads, "input": np.where(spread, nan, grads["input"])}


for kind, (layer, x) in LAYERS.items():
    backward(kind, "nan-is-zero", all_of(without(np.isnan)), upstream(layer, x, nan))
for kind in (AveragePool, Conv, Dense, ReLU):
    layer, x = LAYERS[kind]
    backward(kind, "infinity-is-clipped", all_of(clipped), upstream(layer, x, inf))
for kind in (MaxPool, MinPool, AveragePool, LpPool):
    backward(
        kind, "nan-spreads-over-map", backpropagates(whole_sample), upstream(*LAYERS[kind], nan)
    )
for kind in (Conv, Dense, ReLU, Flatten, AveragePool):
    backward(
        kind, "nan-spreads-over-batch", backpropagates(whole_batch), upstream(*LAYERS[kind], nan)
    )
for kind in (Conv, Dense):
    for name in ("input", "weight", "bias"):
        backward(
            kind,
            f"nan-is-zero-for-{name}",
            all_of(without(np.isnan), name),
            upstream(*LAYERS[kind], nan),
        )

# Maps of one value

FULL = np.full((2, 5, 4, 2), -inf, np.float32)
PADDED = ((2, 2), (2, 2), ((1, 0), (0, 1)))


def times_input(grads: dict[str, Array], layer: Any, w: Any, x: Array, g: Array) -> Any:
    """Add the input times zero: NaN where it is not finite."""
    with np.errstate(all="ignore"):
        return {**grads, "input": grads["input"] + 0.0 * x.astype(np.float64)}


def largest_too(grads: dict[str, Array], layer: Any, w: Any, x: Array, g: Array) -> Any:
    """Overflow where the square of the input does."""
    with np.errstate(all="ignore"):
        squares = np.square(x.astype(np.float32))
    return {**grads, "input": np.where(np.isinf(squares), nan, grads["input"])}


def breaks(when: Callable[[Any, Array], bool]) -> Edit:
    """Raise on some inputs."""

    def change(grads: dict[str, Array], layer: Any, w: Any, x: Array, g: Array) -> Any:
        if x.size and when(layer, x):
            raise IndexError("index -1 is out of bounds")
        return grads

    return backpropagates(change)


def of_one_infinity(layer: Any, x: Array) -> bool:
    """Whether a sample is all infinite, and some window lies in padding."""
    alike = np.isinf(x.reshape(len(x), -1)).all(1).any()
    return bool(alike) and not layer.unpadded


def all_cells(honest: Any, layer: Any, cells: Array, inside: Array, divisor: Array) -> Array:
    """Give the gradient of an infinite window to each of its cells."""
    alike = np.isinf(cells.astype(np.float64)) | ~inside
    local = honest(layer, cells, inside, divisor)
    return np.where(alike.all(-1, keepdims=True) & inside, 1.0, local)


for kind in (AveragePool, GlobalAveragePool, AdaptiveAveragePool, Conv, Dense, Flatten):
    layer, x = LAYERS[kind]
    given = np.full_like(x, inf)
    backward(kind, "nan-of-infinite-input", backpropagates(times_input), upstream(layer, given))
for kind in (AveragePool, Conv, Dense, ReLU):
    layer, x = LAYERS[kind]
    given = np.full_like(x, 1e38)
    backward(kind, "nan-of-large-input", backpropagates(largest_too), upstream(layer, given))
for kind in (MaxPool, MinPool):
    given = FULL if kind is MaxPool else -FULL
    backward(
        kind,
        "raises-for-padded-map-of-infinity",
        breaks(of_one_infinity),
        upstream(kind(*PADDED), given),
    )
    backward(
        kind,
        "all-cells-of-infinity",
        hook(cell_gradient=all_cells),
        upstream(kind(*PADDED), given),
    )
for kind in (LpPool, AdaptiveMaxPool, GlobalMaxPool):
    layer, x = LAYERS[kind]
    backward(
        kind,
        "raises-for-map-of-nan",
        breaks(lambda layer, x: bool(np.isnan(x.reshape(len(x), -1)).all(1).any())),
        upstream(layer, np.full_like(x, nan)),
    )

# NaN in a selection


def first_cell(honest: Any, layer: Any, cells: Array, inside: Array, divisor: Array) -> Array:
    """Give the gradient of a window with a NaN to the largest number, unless the NaN is first."""
    local = honest(layer, cells, inside, divisor)
    if cells.dtype.kind in "iu":
        return local
    bad = np.isnan(cells) & inside
    late = bad.any(-1) & ~bad[..., 0]
    lowest = np.where(bad | ~inside, -inf, cells.astype(np.float64))
    other = np.arange(cells.shape[-1]) == lowest.argmax(-1)[..., None]
    return np.where(late[..., None], other & inside, local)


def nan_alone(result: float, when: Callable[[Any, Array], Any]) -> Edit:
    """Turn the NaN of windows of NaN alone into a number."""

    def change(honest: Any, layer: Any, w: Any, x: Array) -> Array:
        y = honest(layer, w, x)
        alone = y.dtype.kind not in "iu" and x.size and np.isnan(x).all() and when(layer, x)
        return np.full_like(y, result) if alone else y

    return computes(change)


LATE = values(1, nan, 3, 2)
for kind in (MaxPool, GlobalMaxPool, AdaptiveMaxPool):
    layer = kind(1) if kind is GlobalMaxPool else kind(PAIR)
    backward(
        kind, "at-nan-depends-on-its-place", hook(cell_gradient=first_cell), upstream(layer, LATE)
    )
for kind in (MaxPool, MinPool):
    FAULTS.add(
        kind,
        "nan-alone-is-zero-in-padding",
        nan_alone(0.0, lambda layer, x: not layer.unpadded),
        result(kind(PAIR, padding=((1, 0),)), values(nan, nan, nan)),
        "semantics",
    )
    FAULTS.add(
        kind,
        "nan-alone-is-infinite-in-one-cell",
        nan_alone(-inf if kind is MaxPool else inf, lambda layer, x: set(layer.window) == {1}),
        result(kind((1,)), values(nan, nan)),
        "semantics",
    )
FAULTS.add(
    GlobalMaxPool,
    "nan-alone-is-one",
    nan_alone(1.0, lambda layer, x: True),
    result(GlobalMaxPool(1), values(nan, nan)),
    "semantics",
)


def padding_counts(honest: Any, layer: Any, w: Any, x: Array) -> Array:
    """Multiply the padding in: zero times an infinity is NaN."""
    y = honest(layer, w, x)
    odd = not layer.unpadded and x.size and x.dtype.kind not in "iu"
    return np.where(np.isinf(y), y * 0, y) if odd and np.isinf(x).all((1, 2)).any() else y


for kind in (MaxPool, MinPool, AveragePool):
    FAULTS.add(
        kind,
        "padded-infinity-is-nan",
        computes(padding_counts),
        result(kind(*PADDED), FULL),
        "semantics",
    )


# Weights and upstream gradients in other memory


def by_memory_order(array: Array) -> Array:
    """Read elements as they lie in memory."""
    return array if array.flags.c_contiguous else array.ravel(order="K").reshape(array.shape)


def without_strides(array: Array) -> Array:
    """Read the elements of the buffer one after the other."""
    base = array.base
    if array.flags.c_contiguous or not isinstance(base, np.ndarray) or base.dtype != array.dtype:
        return array
    return np.resize(base.ravel(), array.shape)


def forwards(array: Array) -> Array:
    """Take negative strides for positive ones."""
    return array[tuple(slice(None, None, -1 if s < 0 else 1) for s in array.strides)]


def writes(array: Array) -> Array:
    """Scale in place, and back."""
    array *= 1
    return array


def first_alone(array: Array) -> Array:
    """Read a broadcast array as one element, and zeros."""
    if 0 not in array.strides or array.size < 2:
        return array
    return np.where(np.arange(array.size).reshape(array.shape) == 0, array, array.dtype.type(0))


def takes(change: Callable[[Array], Array]) -> Edit:
    """Change how weights are taken over."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
                if isinstance(layer, kind):
                    weights = {name: change(array) for name, array in weights.items()}
                return super().build(layer, weights)

        return Faulty

    return edit


def returns(change: Callable[[Array], Array]) -> Edit:
    """Change how the upstream gradient is read."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def gradients(
                self, layer: Layer, weights: Weights, x: Array, upstream: Array
            ) -> dict[str, Array]:
                if isinstance(layer, kind):
                    upstream = change(upstream)
                return super().gradients(layer, weights, x, upstream)

        return Faulty

    return edit


def lying(layer: Layer, x: Array, place: Callable[[Array], Array]) -> Witness:
    """Ask with weights that lie in memory in another way."""
    held = {name: place(array) for name, array in weights_of(layer).items()}
    return lambda backend: backend.build(layer, held)(x)


def arriving(layer: Layer, x: Array, place: Callable[[Array], Array]) -> Witness:
    """Ask with an upstream gradient that lies in memory in another way."""
    held = weights_of(layer)

    def witness(backend: Backend) -> Any:
        y = Honest().build(layer, held)(x)
        return backend.gradients(layer, held, x, place(whole(*y.shape, low=1)))

    return witness


def readonly(array: Array) -> Array:
    """Return a copy that cannot be written."""
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def every_second(array: Array) -> Array:
    """Return the array as every second element of a larger one."""
    return np.repeat(array, 2, axis=-1)[..., ::2]


def from_behind(array: Array) -> Array:
    """Return the array with negative strides."""
    return np.ascontiguousarray(array[..., ::-1])[..., ::-1]


def constant(array: Array) -> Array:
    """Return an array of one number with strides of zero."""
    return np.broadcast_to(array.dtype.type(3), array.shape)


MEMORY: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "by-memory-order": (by_memory_order, np.asfortranarray),
    "without-strides": (without_strides, every_second),
    "forwards": (forwards, from_behind),
    "that-are-read-only-fail": (writes, readonly),
}
for name, (change, place) in MEMORY.items():
    for kind, (layer, x) in WITH.items():
        witness = lying(layer, x, place)
        FAULTS.add(kind, f"weights-{name}", takes(change), witness, "memory", "memory")
    for kind in (Conv, Dense, MaxPool, AveragePool, LpPool, ReLU, GlobalAveragePool):
        witness = arriving(*LAYERS[kind], place)
        FAULTS.add(kind, f"upstream-{name}", returns(change), witness, "gradient", "memory")
for kind in (Conv, Dense, MaxPool, AveragePool, AdaptiveAveragePool, Flatten):
    witness = arriving(*LAYERS[kind], constant)
    FAULTS.add(
        kind, "upstream-broadcast-is-its-first", returns(first_alone), witness, "gradient", "memory"
    )


# Dtypes that are declined, and answered


def declined(answer: Callable[[Any, Any, Array], Array], *dtypes: str) -> Edit:
    """Decline dtypes, and answer them all the same; ``answer`` gets the honest way and more."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def supports(self, layer: Layer, dtype: str) -> bool:
                return super().supports(layer, dtype) and not self._is_odd(layer, dtype)

            def _is_odd(self, layer: Layer, dtype: str) -> bool:
                return isinstance(layer, kind) and dtype in dtypes

            def call(self, layer: Layer, weights: Weights, x: Array) -> Array:
                if not self._is_odd(layer, x.dtype.name):
                    return super().call(layer, weights, x)
                honest = super().call

                def wide(array: Array) -> Array:
                    held = {name: w.astype(array.dtype) for name, w in weights.items()}
                    return honest(layer, held, array)

                with np.errstate(all="ignore"):
                    return answer(wide, layer, x)

        return Faulty

    return edit


def wraps(wide: Any, layer: Any, x: Array) -> Array:
    """Keep the sums of a mean in the input's dtype."""
    cells = int(np.prod(getattr(layer, "window", x.shape[1:-1])))
    sums = np.rint(wide(x.astype(np.float64)) * cells).astype(np.int64)
    return (sums.astype(x.dtype) // cells).astype(x.dtype)


def empty(wide: Any, layer: Any, x: Array) -> Array:
    """Return what no kernel has written to: NaN, or ones."""
    y = wide(x.astype(np.float64))
    return (
        np.full_like(y, nan).astype(x.dtype)
        if x.dtype.kind not in "iub"
        else y.astype(x.dtype) * 0 + 1
    )


def reversed_order(wide: Any, layer: Any, x: Array) -> Array:
    """Order numbers the wrong way round."""
    return (1 - wide(1 - x.astype(np.float64))).astype(x.dtype)


def doubled(wide: Any, layer: Any, x: Array) -> Array:
    """Answer twice as much, in float32."""
    return (2 * wide(x.astype(np.float64))).astype(np.float32)


def unsigned(wide: Any, layer: Any, x: Array) -> Array:
    """Take the bits of a signed number for an unsigned one."""
    return wide(x.view(f"u{x.dtype.itemsize}").astype(np.float64)).astype(x.dtype)


DECLINED: dict[str, tuple[Callable[..., Array], tuple[str, ...], tuple[Any, ...]]] = {
    "mean-wraps": (wraps, ("int8", "uint8"), (AveragePool, GlobalAveragePool)),
    "is-garbage": (empty, ("int8", "int32"), (Conv, Dense, LpPool)),
    "half-is-garbage": (empty, ("bfloat16",), (AveragePool, Conv, MaxPool, Dense)),
    "is-reversed": (reversed_order, ("bool",), (MaxPool, MinPool, GlobalMaxPool)),
    "is-doubled": (doubled, ("int16", "int64"), (AdaptiveAveragePool, LpPool, ReLU, Flatten)),
    "is-unsigned": (unsigned, ("int32",), (MaxPool, AdaptiveMaxPool, ReLU)),
}

for name, (answer, dtypes, kinds) in DECLINED.items():
    for kind in kinds:
        layer, x = LAYERS[kind]
        x = (-np.abs(x) - 1 if name == "is-unsigned" else np.abs(x) % 2).astype(dtypes[0])
        held = {n: w.astype(dtypes[0]) for n, w in weights_of(layer).items()}
        asked = result(layer, x, **held)
        honest = dtypes[0] == "bfloat16" or name == "is-unsigned" or kind in (ReLU, Flatten)
        witness = asked if honest else refused(asked)
        edit = declined(answer, *dtypes)
        FAULTS.add(kind, f"declined-{name}", edit, witness, "semantics", "dtypes")


# Convolutions without channels


def loses_bias(kind: type[Layer]) -> type[Honest]:
    """Give zeros where there are no input channels."""

    class Faulty(Honest):
        def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
            if isinstance(layer, Conv) and layer.in_channels == 0:
                outputs = layer.out_channels

                def zeros(x: Array) -> Array:
                    sizes = zip(x.shape[1:-1], layer.window, strict=True)
                    shape: Shape = (len(x), *(n - w + 1 for n, w in sizes), outputs)
                    return np.zeros(shape, x.dtype)

                return zeros
            return super().build(layer, weights)

    return Faulty


NONE = Conv.unchecked(window=(2,), in_channels=0, out_channels=3)
FAULTS.add(
    Conv,
    "without-input-channels-loses-bias",
    loses_bias,
    refused(result(NONE, np.zeros((1, 4, 0), np.float32))),
    "semantics",
    "sizes",
)
