"""Faults of state and memory: aliasing, stale caches, layouts, empty arrays, runs that differ."""

# ruff: noqa: ARG001 - a change is given all that it may need

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Backend, Weights
from cnnformance.spec.layers import (
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
    StochasticPool,
)
from corpus.fault import Edit, Faults, Witness, result, weights_of, whole
from corpus.kernels import Honest

FAULTS = Faults("state")
add = FAULTS.add

kind: Any
layer: Any

X = whole(2, 6, 6, 3)
OTHER = X[::-1] + 1
POOL = (2, 2)
CONV = Conv((2, 2), in_channels=3, out_channels=3)
DENSE = Dense(3, 3)

Answer = Callable[[Layer, Weights, Array], Array]


def called(change: Callable[[Any, Answer, Any, dict[str, Array], Array], Array]) -> Edit:
    """Change how a call is answered; ``change`` gets a store, the honest call and its arguments.

    The store lives as long as the backend.
    """

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def __init__(self, mode: str = "", device: str = "cpu") -> None:
                super().__init__(mode, device)
                self.store: dict[Any, Any] = {}

            def call(self, layer: Layer, weights: Weights, x: Array) -> Array:
                honest = super().call
                if not isinstance(layer, kind):
                    return honest(layer, weights, x)
                return change(self.store, honest, layer, dict(weights), x)

        return Faulty

    return edit


def after(change: Callable[[Array, Array], Array]) -> Edit:
    """Change the input or the answer of a call; ``change`` gets both."""
    return called(lambda _store, honest, layer, weights, x: change(x, honest(layer, weights, x)))


# Witnesses


def earlier(layer: Layer) -> Witness:
    """Ask for an answer, then for another, and look at the first."""

    def witness(backend: Backend) -> Array:
        call = backend.build(layer, weights_of(layer))
        first = call(X)
        call(OTHER)
        return first.copy()

    return witness


def again(layer: Layer, *, times: int = 2) -> Witness:
    """Ask the same several times; look at the last answer."""

    def witness(backend: Backend) -> Array:
        call = backend.build(layer, weights_of(layer))
        answers = [call(X) for _ in range(times)]
        return answers[-1]

    return witness


def another(layer: Layer, x: Array = OTHER) -> Witness:
    """Ask with one input, then with another of the same shape; look at the second answer."""

    def witness(backend: Backend) -> Array:
        call = backend.build(layer, weights_of(layer))
        call(X)
        return call(x)

    return witness


def rebuilt(layer: Layer) -> Witness:
    """Build a layer twice, with different weights; look at the second's answer."""

    def witness(backend: Backend) -> Array:
        weights = weights_of(layer)
        backend.build(layer, weights)(X)
        return backend.build(layer, {name: -w for name, w in weights.items()})(X)

    return witness


def intact(layer: Layer, x: Array = X) -> Witness:
    """Ask whether the input survives a call."""

    def witness(backend: Backend) -> bool:
        given = x.copy()
        backend.build(layer, weights_of(layer))(given)
        return np.array_equal(given, x)

    return witness


def apart(layer: Layer, x: Array = X) -> Witness:
    """Ask whether the answer shares memory with the input."""

    def witness(backend: Backend) -> bool:
        given = x.copy()
        return bool(np.shares_memory(given, backend.build(layer, weights_of(layer))(given)))

    return witness


def chain(*layers: Layer) -> Witness:
    """Ask for the output of a sequence of layers."""

    def witness(backend: Backend) -> Array:
        y = X.copy()
        for layer in layers:
            y = backend.build(layer, weights_of(layer))(y)
        return y

    return witness


def steady(layer: Layer, x: Array = X, *, times: int = 100) -> Witness:
    """Ask whether many equal calls agree bit for bit."""

    def witness(backend: Backend) -> bool:
        call = backend.build(layer, weights_of(layer))
        return len({call(x).tobytes() for _ in range(times)}) == 1

    return witness


# State


def reused(store: Any, honest: Answer, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
    """Answer in one buffer per shape."""
    y = honest(layer, weights, x)
    buffer: Array = store.setdefault((y.shape, y.dtype), np.empty_like(y))
    buffer[...] = y
    return buffer


def stale(store: Any, honest: Answer, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
    """Answer from a cache whose key is the input's shape."""
    key = (layer, x.shape, x.dtype)
    if key not in store:
        store[key] = honest(layer, weights, x)
    return np.array(store[key])


def forgetful(
    store: Any, honest: Answer, layer: Layer, weights: dict[str, Array], x: Array
) -> Array:
    """Compute with the weights of the first layer of this description and dtype."""
    return honest(layer, store.setdefault((layer, x.dtype), weights), x)


for kind, layer in (
    (MaxPool, MaxPool(POOL)),
    (AveragePool, AveragePool(POOL)),
    (Conv, CONV),
    (Dense, DENSE),
    (ReLU, ReLU()),
    (Flatten, Flatten()),
):
    add(kind, "buffer-reused", called(reused), earlier(layer), "memory")
for kind, layer in (
    (AveragePool, AveragePool(POOL)),
    (MaxPool, MaxPool(POOL)),
    (GlobalAveragePool, GlobalAveragePool()),
    (ReLU, ReLU()),
):
    add(kind, "answers-cached-by-shape", called(stale), another(layer), "memory")
for kind, layer in ((Conv, CONV), (Dense, DENSE)):
    add(kind, "weights-of-first-build", called(forgetful), rebuilt(layer), "memory")


def writes(change: Callable[[Array], Any]) -> Edit:
    """Write into the input, where it can be written, before answering."""

    def edit(
        store: Any, honest: Answer, layer: Layer, weights: dict[str, Array], x: Array
    ) -> Array:
        y = honest(layer, weights, x)
        if x.flags.writeable and x.size:
            change(x)
        return y

    return called(edit)


def rectifies(x: Array) -> None:
    """Zero the negatives."""
    x[x < 0] = 0


def zero_first(x: Array) -> None:
    """Zero the first value."""
    x.flat[0] = 0


add(ReLU, "in-place", writes(rectifies), intact(ReLU()), "memory")
add(MaxPool, "input-used-as-scratch", writes(zero_first), intact(MaxPool(POOL)), "memory")
add(
    AveragePool,
    "input-scaled-in-place",
    writes(lambda x: np.multiply(x, 2, out=x, casting="unsafe")),
    intact(AveragePool(POOL)),
    "memory",
)
add(
    Dense,
    "input-negated-in-place",
    writes(lambda x: np.negative(x, out=x)),
    intact(DENSE),
    "memory",
)
add(Conv, "border-zeroed-in-place", writes(lambda x: x[:, :1].fill(0)), intact(CONV), "memory")
add(
    GlobalMaxPool,
    "sorts-in-place",
    writes(lambda x: x.sort(axis=1)),
    intact(GlobalMaxPool()),
    "memory",
)
add(
    Flatten,
    "input-reversed-in-place",
    writes(lambda x: x.__setitem__(..., x[..., ::-1].copy())),
    intact(Flatten()),
    "memory",
)
add(
    ReLU,
    "returns-input-if-positive",
    after(lambda x, y: x if x.size and not (x < 0).any() else y),
    apart(ReLU(), np.abs(X)),
    "memory",
)
add(
    MaxPool,
    "returns-input-for-window-one",
    after(lambda x, y: x if x.shape == y.shape and np.array_equal(x, y) else y),
    apart(MaxPool((1, 1))),
    "memory",
)
add(
    AveragePool,
    "returns-input-for-window-one",
    after(lambda x, y: x if x.shape == y.shape and np.array_equal(x, y) else y),
    apart(AveragePool((1, 1))),
    "memory",
)


def into_input(x: Array, y: Array) -> Array:
    if not (
        x.flags.writeable and x.flags.c_contiguous and 0 < y.size <= x.size and x.dtype == y.dtype
    ):
        return y
    target = x.reshape(-1)[: y.size].reshape(y.shape)
    target[...] = y
    return target


add(MinPool, "answers-into-input", after(into_input), intact(MinPool(POOL)), "memory")


def grows(store: Any, honest: Answer, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
    """Add the bias to what earlier calls left of it."""
    if "bias" in weights:
        key = (layer, x.dtype, weights["bias"].tobytes())
        store[key] = store.get(key, 0) + weights["bias"]
        weights["bias"] = store[key].astype(x.dtype)
    return honest(layer, weights, x)


def counted(every: int, change: Callable[[Array], Array]) -> Edit:
    """Go wrong in every so-manieth call."""

    def edit(
        store: Any, honest: Answer, layer: Layer, weights: dict[str, Array], x: Array
    ) -> Array:
        store["calls"] = store.get("calls", 0) + 1
        y = honest(layer, weights, x)
        return change(y).astype(y.dtype) if store["calls"] % every == 0 else y

    return called(edit)


def remembers(
    store: Any, honest: Answer, layer: Layer, weights: dict[str, Array], x: Array
) -> Array:
    """Mix the previous input of the same shape into this one, as a hidden state would."""
    key = (layer, x.shape, x.dtype)
    before, store[key] = store.get(key), x.copy()
    y = honest(layer, weights, x)
    if before is None or np.array_equal(before, x) or not y.size:
        return y
    return np.concatenate([honest(layer, weights, before)[:1], y[1:]])


add(Dense, "bias-grows", called(grows), again(DENSE), "memory")
add(Conv, "bias-grows", called(grows), again(CONV), "memory")
add(
    MaxPool,
    "every-third-call-wrong",
    counted(3, lambda y: y * 0),
    again(MaxPool(POOL), times=3),
    "memory",
)
add(
    Conv,
    "first-call-only-right",
    called(
        lambda store, honest, layer, weights, x: (
            honest(layer, weights, x)
            if store.setdefault(repr((layer, x.shape, x.dtype)), 0) == 0
            and not store.update({repr((layer, x.shape, x.dtype)): 1})
            else honest(layer, weights, x) * x.dtype.type(0)
        )
    ),
    again(CONV),
    "memory",
)
add(Dense, "previous-batch-leaks", called(remembers), another(DENSE), "memory")
add(LpPool, "previous-batch-leaks", called(remembers), another(LpPool(POOL)), "memory")
add(
    GlobalAveragePool,
    "running-average",
    called(lambda store, honest, layer, weights, x: _average(store, honest(layer, weights, x))),
    another(GlobalAveragePool()),
    "memory",
)


def _average(store: Any, y: Array) -> Array:
    key = (y.shape, y.dtype)
    store[key] = (y if key not in store else (store[key] + y) / 2).astype(y.dtype)
    return np.array(store[key])


# Pipelines only

FAULTS.fault_class = "pipeline"


def follows(
    before: type[Layer], change: Callable[[Answer, Layer, dict[str, Array], Array], Array]
) -> Edit:
    """Go wrong when the input is the very array that a layer of a certain type returned."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            last: tuple[Layer | None, Array | None] = (None, None)

            def call(self, layer: Layer, weights: Weights, x: Array) -> Array:
                former, array = self.last
                if isinstance(layer, kind) and isinstance(former, before) and array is x:
                    y = change(super().call, layer, dict(weights), x)
                else:
                    y = super().call(layer, weights, x)
                self.last = (layer, y)
                return y

        return Faulty

    return edit


def no_bias(honest: Answer, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
    """Compute without the bias."""
    return honest(layer, {k: v * (k != "bias") for k, v in weights.items()}, x)


add(
    ReLU,
    "clipped-at-6-after-convolution",
    follows(Conv, lambda honest, r, w, x: np.minimum(honest(r, w, x), x.dtype.type(6))),
    chain(CONV, ReLU()),
)
add(
    ReLU,
    "lost-after-dense",
    follows(Dense, lambda _honest, _r, _w, x: x.copy()),
    chain(DENSE, ReLU()),
)
add(
    ReLU,
    "lost-after-convolution-for-small-values",
    follows(Conv, lambda honest, r, w, x: np.where(x > -8, x, honest(r, w, x))),
    chain(CONV, ReLU()),
)
add(
    Flatten,
    "fortran-order-after-pooling",
    follows(MaxPool, lambda honest, f, w, x: honest(f, w, np.ascontiguousarray(x.swapaxes(1, -1)))),
    chain(MaxPool(POOL), Flatten()),
)
add(
    Flatten,
    "channels-first-after-convolution",
    follows(Conv, lambda honest, f, w, x: honest(f, w, np.moveaxis(x, -1, 1))),
    chain(CONV, Flatten()),
)
add(Dense, "bias-lost-after-flatten", follows(Flatten, no_bias), chain(Flatten(), Dense(108, 3)))
add(
    MaxPool,
    "pools-before-relu",
    follows(ReLU, lambda honest, p, w, x: honest(p, w, x) - x.dtype.type(1)),
    chain(ReLU(), MaxPool(POOL)),
)
add(Conv, "bias-lost-after-pooling", follows(MaxPool, no_bias), chain(MaxPool(POOL), CONV))
add(
    MaxPool,
    "second-pooling-of-a-kind-skipped",
    follows(MaxPool, lambda honest, p, w, x: np.zeros_like(honest(p, w, x))),
    chain(MaxPool(POOL), MaxPool(POOL)),
)
add(
    AveragePool,
    "last-channel-lost-after-convolution",
    follows(
        Conv,
        lambda honest, p, w, x: (
            honest(p, w, x) * (np.arange(x.shape[-1]) < x.shape[-1] - 1).astype(x.dtype)
        ),
    ),
    chain(CONV, AveragePool(POOL)),
)

# Memory layouts

FAULTS.fault_class = "layout"


def mislaid(change: Callable[[Array], Array]) -> Edit:
    """Read the input's memory wrongly."""
    return called(lambda _store, honest, layer, weights, x: honest(layer, weights, change(x)))


def as_stored(x: Array) -> Array:
    """Read the bytes in the order in which they lie."""
    return x.ravel(order="K").reshape(x.shape)


def from_base(x: Array) -> Array:
    """Read on from the start of the buffer, without strides and offset."""
    base = x.base
    if not isinstance(base, np.ndarray) or base.dtype != x.dtype or base.size < x.size:
        return x
    return base.reshape(-1)[: x.size].reshape(x.shape)


def strides_as_magnitudes(x: Array) -> Array:
    """Read negative strides as positive ones."""
    return x[tuple(slice(None, None, -1) if s < 0 else slice(None) for s in x.strides)]


def fortran(x: Array) -> Array:
    """Return the array with its first axis contiguous."""
    return np.asfortranarray(x)


def strided(x: Array) -> Array:
    """Return the array as every second element of a larger one."""
    return np.repeat(x, 2, axis=-1)[..., ::2]


def reverse(x: Array) -> Array:
    """Return the array with negative strides."""
    flip = (slice(None, None, -1),) * x.ndim
    return np.ascontiguousarray(x[flip])[flip]


def offset(x: Array) -> Array:
    """Return the array as the end of a longer one."""
    return np.concatenate([x.ravel()[:1], x.ravel()])[1:].reshape(x.shape)


for kind, layer in ((MaxPool, MaxPool(POOL)), (Flatten, Flatten()), (Dense, DENSE), (ReLU, ReLU())):
    add(kind, "reads-memory-order", mislaid(as_stored), result(layer, fortran(X)), "memory")
for kind, layer in (
    (AveragePool, AveragePool(POOL)),
    (Conv, CONV),
    (GlobalMaxPool, GlobalMaxPool()),
):
    add(kind, "strides-ignored", mislaid(from_base), result(layer, strided(X)), "memory")
for kind, layer in ((MinPool, MinPool(POOL)), (Conv, CONV), (AveragePool, AveragePool(POOL))):
    add(
        kind,
        "negative-strides-ignored",
        mislaid(strides_as_magnitudes),
        result(layer, reverse(X)),
        "memory",
    )
add(
    Dense,
    "offset-ignored",
    mislaid(lambda x: from_base(x) if x.flags.c_contiguous else x),
    result(DENSE, offset(X)),
    "memory",
)
add(
    AveragePool,
    "fortran-order-taken-for-channels-first",
    mislaid(
        lambda x: (
            np.ascontiguousarray(x.T).reshape(x.shape)
            if x.flags.f_contiguous and not x.flags.c_contiguous
            else x
        )
    ),
    result(AveragePool(POOL), fortran(X)),
    "memory",
)


def read_only(x: Array) -> Array:
    """Refuse what cannot be written."""
    if not x.flags.writeable:
        raise ValueError("buffer source array is read-only")
    return x


def frozen(layer: Layer) -> Witness:
    """Ask with an input that cannot be written."""

    def witness(backend: Backend) -> Any:
        x = X.copy()
        x.setflags(write=False)
        try:
            return backend.build(layer, weights_of(layer))(x)
        except ValueError:
            return "refused"

    return witness


add(ReLU, "read-only-input-refused", mislaid(read_only), frozen(ReLU()), "memory")
add(Conv, "read-only-input-refused", mislaid(read_only), frozen(CONV), "memory")

# Empty arrays

FAULTS.fault_class = "empty"
NONE = X[:0]


def emptied(change: Callable[[Array, Array], Any]) -> Edit:
    """Change the answer to an empty input."""
    return after(lambda x, y: change(x, y) if x.size == 0 else y)


def complains(_x: Array, _y: Array) -> Any:
    """Refuse an empty input."""
    raise ValueError("an empty tensor")


def outcome(layer: Layer, x: Array) -> Witness:
    """Ask for the output, or that it is refused."""

    def witness(backend: Backend) -> Any:
        try:
            return backend.build(layer, weights_of(layer))(x)
        except ValueError:
            return "refused"

    return witness


add(MaxPool, "empty-batch-refused", emptied(complains), outcome(MaxPool(POOL), NONE), "semantics")
add(Flatten, "empty-batch-refused", emptied(complains), outcome(Flatten(), NONE), "semantics")
add(
    Conv,
    "empty-batch-loses-its-shape",
    emptied(lambda _x, y: y.reshape(-1)),
    outcome(CONV, NONE),
    "semantics",
)
add(
    AveragePool,
    "empty-batch-keeps-input-shape",
    emptied(lambda x, _y: x.copy()),
    outcome(AveragePool(POOL), NONE),
    "semantics",
)
add(
    GlobalAveragePool,
    "empty-batch-is-one-element",
    emptied(lambda x, _y: np.zeros((1, x.shape[-1]), x.dtype)),
    outcome(GlobalAveragePool(), NONE),
    "semantics",
)
add(
    Dense,
    "empty-batch-is-one-row",
    emptied(lambda _x, y: np.zeros((1, *y.shape[1:]), y.dtype) if len(y) == 0 else y),
    outcome(DENSE, whole(0, 3)),
    "semantics",
)
add(
    ReLU,
    "empty-array-loses-its-shape",
    emptied(lambda x, _y: np.zeros(0, x.dtype)),
    outcome(ReLU(), NONE),
    "semantics",
)
add(
    MinPool,
    "no-channels-become-one",
    emptied(lambda x, y: y if x.shape[-1] else np.zeros((*y.shape[:-1], 1), y.dtype)),
    outcome(MinPool(POOL), X[..., :0]),
    "semantics",
)
add(
    Flatten,
    "no-channels-become-one",
    emptied(lambda x, y: y if x.shape[-1] else np.zeros((len(y), 1), y.dtype)),
    outcome(Flatten(), X[..., :0]),
    "semantics",
)
add(
    AdaptiveMaxPool,
    "empty-batch-as-float64",
    emptied(lambda _x, y: y.astype(np.float64)),
    outcome(AdaptiveMaxPool((2, 2)), NONE),
    "semantics",
)
add(LpPool, "empty-batch-refused", emptied(complains), outcome(LpPool(POOL), NONE), "semantics")
add(
    GlobalMaxPool,
    "empty-batch-refused",
    emptied(complains),
    outcome(GlobalMaxPool(), NONE),
    "semantics",
)
add(
    StochasticPool,
    "empty-batch-refused",
    emptied(complains),
    outcome(StochasticPool(POOL), NONE),
    "semantics",
)

# Runs that differ

FAULTS.fault_class = "nondeterminism"
CHANCE = 0.2


def sometimes(change: Callable[[Array, np.random.Generator], Array]) -> Edit:
    """Go wrong by chance, whatever the seed."""
    chance = np.random.default_rng()

    def edit(_x: Array, y: Array) -> Array:
        return change(y, chance).astype(y.dtype) if chance.random() < CHANCE else y

    return after(edit)


def bumped(y: Array, _chance: np.random.Generator) -> Array:
    """Move every value to the next number."""
    if y.dtype.name not in ("float32", "float64"):
        return y
    return np.nextafter(y, y.dtype.type(np.inf))


add(MaxPool, "zero-by-chance", sometimes(lambda y, _: y * 0), steady(MaxPool(POOL)), "memory")
add(
    Conv,
    "noise-by-chance",
    sometimes(lambda y, chance: y + chance.normal(size=y.shape)),
    steady(CONV),
    "memory",
)
add(AveragePool, "last-bit-by-chance", sometimes(bumped), steady(AveragePool(POOL)), "memory")
add(
    Dense,
    "last-unit-by-chance",
    sometimes(lambda y, _: y * (np.arange(y.shape[-1]) < y.shape[-1] - 1)),
    steady(DENSE),
    "memory",
)
add(
    ReLU,
    "unwritten-by-chance",
    sometimes(lambda y, _: np.where(np.arange(y.size).reshape(y.shape) == 0, 77, y)),
    steady(ReLU()),
    "memory",
)
add(
    Flatten,
    "rows-exchanged-by-chance",
    sometimes(lambda y, _: y[::-1]),
    steady(Flatten()),
    "memory",
)


def by_atomics() -> Edit:
    """Add up maps of 4096 cells and more in any order, so that last bits differ."""
    chance = np.random.default_rng()

    def edit(x: Array, y: Array) -> Array:
        if math.prod(x.shape[1:-1]) < 4096:
            return y
        return np.where(chance.random(y.shape) < 0.5, bumped(y, chance), y)

    return after(edit)


def packs(change: Callable[[Array], Array]) -> Edit:
    """Change the given weight when the layer is built, which has copied it before."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
                call = super().build(layer, weights)
                if isinstance(layer, kind):
                    weights["weight"][...] = change(weights["weight"]).copy()
                return call

        return Faulty

    return edit


def kept(layer: Layer) -> Witness:
    """Ask whether the weights survive the building of a layer."""

    def witness(backend: Backend) -> bool:
        given = weights_of(layer)
        backend.build(layer, given)
        return all(np.array_equal(w, given[name]) for name, w in weights_of(layer).items())

    return witness


add(
    GlobalAveragePool,
    "long-sums-by-atomics",
    by_atomics(),
    steady(GlobalAveragePool(), whole(1, 64, 64, 1)),
    "memory",
)
add(Dense, "packs-its-weight-in-place", packs(lambda w: w[::-1]), kept(DENSE), "memory", "state")
add(Conv, "flips-its-weight-in-place", packs(np.flip), kept(CONV), "memory", "state")
