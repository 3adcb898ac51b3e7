"""Faults of precision in the backward pass: the forward pass is honest."""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Weights
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    GlobalAveragePool,
    Layer,
    LpPool,
    Shape,
    StochasticPool,
    weight_shapes,
)
from corpus.fault import Edit, Faults, Witness, backpropagates, gradient, hook, whole
from corpus.faults_kernels import derives
from corpus.faults_networks import When
from corpus.faults_precision import BITS, LONG, MEANS, STOPS, one_by_one, past, shortened
from corpus.kernels import Honest

FAULTS = Faults("precision")


def add(kind: type[Layer], name: str, edit: Edit, witness: Witness) -> None:
    """Declare a fault of a gradient."""
    FAULTS.add(kind, f"gradient-{name}", edit, witness, "gradient")


# Where


def positions(layer: Layer, x: Array) -> int:
    """Return how many terms the gradient of a weight joins."""
    return math.prod(Honest().output_shape(layer, x.shape)[:-1])


def reads(layer: Any, _x: Array) -> int:
    """Return how many terms the gradient of an input joins, of a layer with weights."""
    if isinstance(layer, Dense):
        return layer.out_features
    return math.prod(layer.window) * (layer.out_channels // layer.groups)


def many(layer: Layer, *shape: int, dtype: str) -> Witness:
    """Ask for the gradients at whole inputs and weights."""
    sizes = weight_shapes(layer).items()
    held = {name: whole(*size, dtype=dtype, low=1) for name, size in sizes}
    return gradient(layer, whole(*shape, dtype=dtype, low=1), **held)


def unit(layer: Layer, *shape: int, dtype: str) -> Witness:
    """Ask for the gradients where inputs, weights and upstream gradients are 1."""
    weights = {name: np.ones(size, dtype) for name, size in weight_shapes(layer).items()}
    x = np.ones(shape, dtype)

    def witness(backend: Any) -> Any:
        upstream = np.ones(Honest().output_shape(layer, shape), dtype)
        return backend.gradients(layer, weights, x, upstream)

    return witness


def summed(name: str, when: When, dtype: str) -> Edit:
    """Add up one gradient of a layer with weights term by term in a narrow accumulator."""

    def change(
        grads: dict[str, Array], layer: Any, weights: Weights, x: Array, g: Array
    ) -> dict[str, Array]:
        if not (x.size and g.size and when(layer, x)):
            return grads
        sent = g.reshape(math.prod(g.shape[:-1]), g.shape[-1])
        if name == "bias":
            found = one_by_one(sent.T, np.ones((len(sent), 1)), dtype)[:, 0]
        elif name == "input":
            found = one_by_one(sent, weights["weight"], dtype).reshape(x.shape)
        elif isinstance(layer, Dense):
            found = one_by_one(sent.T, x.reshape(len(sent), -1), dtype)
        else:
            cells, inside, _axes = Honest().windows(layer, x)
            read = Honest().terms(cells, inside).reshape(len(sent), -1)
            found = one_by_one(read.T, sent, dtype).reshape(*cells.shape[-2:], -1)
            found = found.swapaxes(0, 1).reshape(weights["weight"].shape)
        return {**grads, name: found}

    return backpropagates(change)


def used(cells: int, *dtypes: str) -> When:
    """Hold where the gradient of a weight joins more terms than ``cells``, in one group."""
    large = past(cells, *dtypes, count=positions)
    return lambda layer, x: getattr(layer, "groups", 1) == 1 and large(layer, x)


def sent_to(cells: int, *dtypes: str) -> When:
    """Hold where the gradient of an input joins more terms than ``cells``."""
    return past(cells, *dtypes, count=reads)


def multiplied(factor: float) -> Callable[[Array, Array], Array]:
    """Multiply a gradient."""
    return lambda d, _x: d * factor


def in_format(dtype: str) -> Callable[[Array, Array], Array]:
    """Round a gradient to a format on the way."""
    return lambda d, _x: d.astype(dtype).astype(np.float64)


Operands = tuple[dict[str, Array], Array, Array]


def of_other(name: str, when: When, change: Callable[[Array], Array]) -> Edit:
    """Take one gradient of a layer at another upstream gradient."""
    return of_others(name, when, lambda weights, x, g: (weights, x, change(g)))


def of_others(name: str, when: When, change: Callable[..., Operands]) -> Edit:
    """Take one gradient of a layer at other weights, another input and upstream gradient."""

    def wrong(
        grads: dict[str, Array], layer: Any, weights: Weights, x: Array, g: Array
    ) -> dict[str, Array]:
        if not (x.size and g.size and when(layer, x)):
            return grads
        held, read, sent = change(dict(weights), x, g)
        return {**grads, name: Honest().backward(layer, held, read, sent)[name]}

    return backpropagates(wrong)


def cut(bits: int) -> Callable[..., Operands]:
    """Round all factors to so many bits."""

    def operands(weights: dict[str, Array], x: Array, g: Array) -> Operands:
        held = {name: shortened(weight, bits) for name, weight in weights.items()}
        return held, shortened(x, bits), shortened(g, bits)

    return operands


def last(factor: float) -> Callable[[Array], Array]:
    """Multiply the last element."""

    def change(g: Array) -> Array:
        flat = g.ravel().copy()
        flat[-1] *= factor
        return flat.reshape(g.shape)

    return change


def exchanged(g: Array) -> Array:
    """Exchange the first and the last element."""
    flat = g.ravel().copy()
    flat[[0, -1]] = flat[[-1, 0]]
    return flat.reshape(g.shape)


kind: type[Layer]
layer: Layer
shape: Shape

POINT = Conv((1,))
for dtype, stop in STOPS.items():
    for kind, layer, shape in (
        (Conv, POINT, (1, stop + 44, 1)),
        (Dense, Dense(1, 1), (stop + 44, 1)),
    ):
        for name in ("weight", "bias"):
            add(
                kind,
                f"{name}-zero-past-{stop}-terms-in-{dtype}",
                derives(name, used(stop, dtype), multiplied(0)),
                many(layer, *shape, dtype=dtype),
            )
            add(
                kind,
                f"{name}-added-one-by-one-in-{dtype}",
                summed(name, used(stop // 8, dtype), dtype),
                unit(layer, 1, 2 * stop, 1, dtype=dtype),
            )
    add(
        Dense,
        f"input-zero-past-{stop}-terms-in-{dtype}",
        derives("input", sent_to(stop, dtype), multiplied(0)),
        many(Dense(1, stop + 44), 1, 1, dtype=dtype),
    )
    add(
        Dense,
        f"input-added-one-by-one-in-{dtype}",
        summed("input", sent_to(stop // 8, dtype), dtype),
        unit(Dense(1, 2 * stop), 1, 1, dtype=dtype),
    )
    add(
        Conv,
        f"input-zero-past-{stop}-terms-in-{dtype}",
        derives("input", sent_to(stop, dtype), multiplied(0)),
        many(Conv((1,), out_channels=stop + 44), 1, 1, 1, dtype=dtype),
    )

# The factors of gradients, cut short

FINE = np.float32(1 + 2.0**-12)
for kind, name, bits, when, layer, shape in (
    (Conv, "weight", 11, used(0, "float32"), Conv((3, 3), in_channels=2), (1, 4, 4, 2)),
    (
        Conv,
        "input",
        11,
        lambda c, x: x.dtype == np.float32 and max(c.stride) > 1,
        Conv((2, 2), (2, 2)),
        (1, 4, 4, 1),
    ),
    (
        Conv,
        "weight",
        8,
        lambda c, x: x.dtype == np.float32 and c.groups > 1,
        Conv((2,), in_channels=2, out_channels=2, groups=2),
        (1, 3, 2),
    ),
    (Dense, "weight", 11, used(15, "float32"), Dense(3, 2), (16, 3)),
    (Dense, "input", 11, sent_to(63, "float32"), Dense(3, 64), (2, 3)),
    (Dense, "weight", 16, used(0, "float32"), Dense(3, 2), (4, 3)),
):
    add(
        kind,
        f"{name}-by-factors-of-{bits}-bits",
        of_others(name, when, cut(bits)),
        gradient(
            layer,
            np.full(shape, 1 + 2.0**-18, np.float32),
            weight=np.full(weight_shapes(layer)["weight"], FINE),
        ),
    )

# Terms of gradients that are lost, counted twice or exchanged past the size of a block

for kind, name, cells, what, change in (
    (Conv, "weight", 1024, "last-term-lost", last(0)),
    (Conv, "weight", 4096, "last-term-twice", last(2)),
    (Conv, "bias", 256, "last-term-lost", last(0)),
    (Dense, "weight", 64, "last-term-lost", last(0)),
    (Dense, "weight", 2048, "last-term-twice", last(2)),
    (Dense, "weight", 256, "first-and-last-term-exchanged", exchanged),
    (Dense, "bias", 1024, "last-term-twice", last(2)),
):
    layer, shape = (POINT, (1, cells + 4, 1)) if kind is Conv else (Dense(1, 1), (cells + 4, 1))
    add(
        kind,
        f"{name}-{what}-past-{cells}-terms",
        of_other(name, used(cells, *BITS), change),
        many(layer, *shape, dtype="float32"),
    )
for kind, cells, what, change in (
    (Conv, 64, "last-term-lost", last(0)),
    (Conv, 512, "last-term-twice", last(2)),
    (Dense, 1024, "last-term-lost", last(0)),
    (Dense, 128, "first-and-last-term-exchanged", exchanged),
):
    layer = Conv((1,), out_channels=cells + 4) if kind is Conv else Dense(1, cells + 4)
    add(
        kind,
        f"input-{what}-past-{cells}-terms",
        of_other("input", sent_to(cells, *BITS), change),
        many(layer, 1, *(1,) * (kind is Conv), 1, dtype="float32"),
    )

# Gradients of means and norms


def shares(bits: int) -> Edit:
    """Round the share of each cell in its window to so many bits."""
    return hook(cell_gradient=lambda honest, *given: shortened(honest(*given), bits))


for kind in MEANS:
    layer, shape = LONG[kind](7)
    add(kind, "shares-of-twelve-bits", shares(12), many(layer, *shape, dtype="float32"))
    for dtype, stop in STOPS.items():
        layer, shape = LONG[kind](stop + 44)
        add(
            kind,
            f"zero-past-{stop}-cells-in-{dtype}",
            derives("input", past(stop, dtype), multiplied(0)),
            many(layer, *shape, dtype=dtype),
        )
add(
    AveragePool,
    "overlaps-added-in-bfloat16",
    derives(
        "input",
        lambda p, x: x.dtype == np.float32 and p.stride < p.window,
        in_format("bfloat16"),
    ),
    many(AveragePool((3,), (1,)), 1, 9, 1, dtype="float32"),
)
for pool, dtype, name, factor in (
    (LpPool((3,)), "bfloat16", "zero", 0),
    (LpPool((3,)), "float16", "a-quarter-lost", 0.75),
    (LpPool((3,)), "float32", "off-by-thirty-millionths", 1 + 3e-5),
    (LpPool((3,)), "float64", "off-by-a-billionth", 1 + 1e-9),
    (StochasticPool((3,)), "bfloat16", "zero", 0),
    (StochasticPool((3,)), "float16", "a-tenth-too-large", 1.1),
    (StochasticPool((3,)), "float32", "off-by-a-ten-thousandth", 1 + 1e-4),
):
    add(
        type(pool),
        f"{name}-in-{dtype}",
        derives("input", past(0, dtype), multiplied(factor)),
        many(pool, 1, 9, 1, dtype=dtype),
    )
add(
    LpPool,
    "of-order-three-through-float16",
    derives("input", lambda c, x: c.p == 3 and x.dtype == np.float32, in_format("float16")),
    many(LpPool((3,), p=3), 1, 9, 1, dtype="float32"),
)
for kind, layer, shape, names in (
    (Conv, Conv((2, 2)), (1, 4, 4, 1), ("input", "weight")),
    (Dense, Dense(3, 4), (2, 3), ("input", "weight")),
    (AveragePool, AveragePool((3,)), (1, 9, 1), ("input",)),
    (GlobalAveragePool, GlobalAveragePool(1), (1, 9, 1), ("input",)),
    (LpPool, LpPool((3,)), (1, 9, 1), ("input",)),
):
    for name in names:
        exact = np.full(shape, 1 / 3)
        weights = {n: np.full(size, 1 / 3) for n, size in weight_shapes(layer).items()}
        add(
            kind,
            f"{name}-of-float64-through-float32",
            derives(name, past(0, "float64"), in_format("float32")),
            gradient(layer, exact, **weights),
        )
