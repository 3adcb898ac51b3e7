"""Faults of precision: sums that stop growing, short factors, narrow accumulators, coarse roots.

Each is right in some dtypes, sizes or paths, and elsewhere off by more than any order of summation
in the accumulators that kernels of that dtype have.
"""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Weights
from cnnformance.spec.layers import (
    Adaptive,
    AdaptiveAveragePool,
    AveragePool,
    Conv,
    Dense,
    Global,
    GlobalAveragePool,
    Layer,
    LpPool,
    Shape,
    StochasticPool,
    weight_shapes,
)
from corpus.fault import Edit, Faults, Witness, hook, result, whole
from corpus.faults_networks import When
from corpus.kernels import Honest

FAULTS = Faults("precision")

BITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}
STOPS = {"bfloat16": 256, "float16": 2048}
"""Where a sum of ones stops growing: 1 is half a unit in the last place there."""

LONG: dict[type[Layer], Callable[[int], tuple[Layer, Shape]]] = {
    Conv: lambda n: (Conv((1,), in_channels=n), (1, 1, n)),
    Dense: lambda n: (Dense(n, 1), (1, n)),
    AveragePool: lambda n: (AveragePool((n,)), (1, n, 1)),
    GlobalAveragePool: lambda n: (GlobalAveragePool(1), (1, n, 1)),
    AdaptiveAveragePool: lambda n: (AdaptiveAveragePool((1,)), (1, n, 1)),
    LpPool: lambda n: (LpPool((n,)), (1, n, 1)),
    StochasticPool: lambda n: (StochasticPool((n,)), (1, n, 1)),
}
"""A layer of each kind that joins so many terms, and an input for it."""

MEANS = (AveragePool, GlobalAveragePool, AdaptiveAveragePool)


def add(kind: type[Layer], name: str, edit: Edit, witness: Witness) -> None:
    """Declare a fault of the forward pass."""
    FAULTS.add(kind, name, edit, witness, "precision")


# Where


def terms(layer: Any, x: Array) -> int:
    """Return how many terms an output joins."""
    match layer:
        case Conv():
            return math.prod(layer.window) * (layer.in_channels // layer.groups)
        case Dense():
            return layer.in_features
        case Adaptive():
            return math.prod(-(-n // m) for n, m in zip(x.shape[1:-1], layer.output, strict=True))
        case Global():
            return math.prod(x.shape[1:-1])
    return math.prod(layer.window)


def past(
    cells: int, *dtypes: str, count: Callable[[Any, Array], int] = terms, most: float = math.inf
) -> When:
    """Hold where sums in these dtypes join more terms than ``cells``, and at most ``most``."""
    return lambda layer, x: x.dtype.name in dtypes and cells < count(layer, x) <= most


def also(dtype: str, when: When) -> When:
    """Hold in one dtype, where ``when`` holds too."""
    return lambda layer, x: x.dtype.name == dtype and when(layer, x)


def within(when: When, **changes: Callable[..., Any]) -> Edit:
    """Change methods of ``Honest`` in the forward pass of the layers that ``when`` names."""

    def edit(kind: type[Layer]) -> type[Honest]:
        wrong = hook(**changes)(kind)

        class Faulty(Honest):
            def forward(self, layer: Layer, weights: Weights, x: Array) -> Array:
                if not (isinstance(layer, kind) and x.size and evaluates(layer) and when(layer, x)):
                    return super().forward(layer, weights, x)
                backend = wrong()
                backend.layer = layer
                return backend.forward(layer, weights, x)

        return Faulty

    return edit


def evaluates(layer: Layer) -> bool:
    """Whether a layer draws nothing."""
    return not getattr(layer, "training", False)


# What goes wrong


def times(factor: float) -> Callable[..., Array]:
    """Round a result only after it was multiplied by a factor."""
    return lambda honest, y, dtype: honest(y.astype(np.float64) * factor, dtype)


def shortened(x: Array, bits: int, rounding: Callable[[Array], Array] = np.rint) -> Array:
    """Round values to a number of significant bits."""
    fraction, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(rounding(fraction * 2.0**bits), exponent - bits).astype(x.dtype)


def short(bits: int, other: int | None = None) -> dict[str, Callable[..., Array]]:
    """Round the factors of products: those of the input, and those of the weight."""
    right = bits if other is None else other
    return {"inner": lambda honest, a, b: honest(shortened(a, bits), shortened(b, right))}


def one_by_one(rows: Array, columns: Array, dtype: str) -> Array:
    """Multiply matrices, product after product, in a narrow accumulator."""
    rows, columns = rows.astype(dtype), columns.astype(dtype)
    total = np.zeros((len(rows), columns.shape[1]), dtype)
    for number in range(len(columns)):
        total = total + rows[:, number, None] * columns[number]
    return total.astype(np.float64)


def narrow(dtype: str) -> dict[str, Callable[..., Array]]:
    """Add term after term in a narrow accumulator."""
    return {
        "inner": lambda _honest, a, b: one_by_one(a, b, dtype),
        "total": lambda _honest, t: np.cumsum(t.astype(dtype), axis=-1)[..., -1].astype(np.float64),
    }


def joined(places: Callable[[int], Any]) -> dict[str, Callable[..., Array]]:
    """Join other terms than all: ``places`` gets their number, and returns which."""

    def inner(honest: Any, rows: Array, columns: Array) -> Array:
        chosen = places(len(columns))
        return honest(rows[:, chosen], columns[chosen])

    return {
        "inner": inner,
        "total": lambda honest, terms: honest(terms[..., places(terms.shape[-1])]),
    }


LAST_LOST = joined(lambda n: slice(0, n - 1))
LAST_TWICE = joined(lambda n: [*range(n), n - 1])
FIRST_LOST = joined(lambda n: slice(1, n))


def swapped(honest: Any, rows: Array, columns: Array) -> Array:
    """Multiply with the first and the last row of weights exchanged."""
    places = np.arange(len(columns))
    places[[0, -1]] = places[[-1, 0]]
    return honest(rows, columns[places])


def rooted(change: Callable[[Array], Array]) -> dict[str, Callable[..., Array]]:
    """Change a norm that is not 0; its special values stay."""

    def norm(honest: Any, terms: Array, p: int) -> Array:
        y = honest(terms, p)
        return np.where((y > 0) & np.isfinite(y), change(np.where(y > 0, y, 1.0)), y)

    return {"norm": norm}


def logarithm(bits: int) -> dict[str, Callable[..., Array]]:
    """Take a root by a logarithm to the base 2 with so many bits after the point."""
    return rooted(lambda y: np.exp2(np.rint(np.log2(y) * 2.0**bits) / 2.0**bits))


def by_reciprocal(change: Callable[[Array], Array]) -> dict[str, Callable[..., Array]]:
    """Multiply sums by a reciprocal of the divisor that is not exact."""
    return {
        "mean": lambda honest, terms, n: (
            honest(terms, np.ones_like(n)) * change(1 / n.astype(np.float64))
        )
    }


def through(*dtypes: str) -> dict[str, Callable[..., Array]]:
    """Round results to other dtypes first."""

    def finish(honest: Any, y: Array, dtype: Any) -> Array:
        for name in dtypes:
            y = y.astype(name)
        return honest(y, dtype)

    return {"finish": finish}


def rounds(how: Callable[[Array], Array]) -> dict[str, Callable[..., Array]]:
    """Round results otherwise than to the nearest number."""
    return {
        "finish": lambda honest, y, dtype: honest(
            shortened(y.astype(np.float64), BITS[dtype.name], how), dtype
        )
    }


def away(x: Array) -> Array:
    """Round to a whole number, away from 0."""
    return np.copysign(np.ceil(np.abs(x)), x)


# Witnesses


def long(kind: type[Layer], cells: int, dtype: str) -> Witness:
    """Ask for one output of many whole terms."""
    layer, shape = LONG[kind](cells)
    return result(layer, whole(*shape, dtype=dtype, low=1))


def ones(kind: type[Layer], cells: int, dtype: str, x: float = 1.0) -> Witness:
    """Ask for one output of many equal terms and weights of 1."""
    layer, shape = LONG[kind](cells)
    weights = {name: np.ones(size, dtype) for name, size in weight_shapes(layer).items()}
    return result(layer, np.full(shape, x, dtype), **weights)


def single(layer: Layer, *shape: int, x: float, w: float, dtype: str = "float32") -> Witness:
    """Ask for products of two numbers, one in each output, without bias."""
    weights = {name: np.zeros(size, dtype) for name, size in weight_shapes(layer).items()}
    rows = weights["weight"].reshape(-1, weights["weight"].shape[-1])
    (rows if isinstance(layer, Conv) else rows.T)[0] = w
    return result(layer, np.full(shape, x, dtype), **weights)


def third(dtype: str, layer: Layer, *shape: int) -> Witness:
    """Ask for sums of thirds."""
    x = whole(*shape, low=1).astype(np.float64) / 3
    weights = {name: np.ones(size, dtype) for name, size in weight_shapes(layer).items()}
    return result(layer, x.astype(dtype), **weights)


def thirds(kind: type[Layer], cells: int, dtype: str) -> Witness:
    """Ask for eight outputs that join thirds."""
    layer, shape = LONG[kind](cells)
    return third(dtype, layer, 8, *shape[1:])


# Zeros, and results that are off, where a bound that counts all terms would allow them

KINDS = tuple(LONG)
ASKED = 256
"""The most terms that a stochastic pooling is asked for: it is composed, of a call for each."""

for kind in KINDS:
    for dtype, most in STOPS.items():
        stop = ASKED // 4 if kind is StochasticPool else most
        add(
            kind,
            f"zero-past-{stop}-terms-in-{dtype}",
            within(past(stop, dtype), finish=times(0)),
            long(kind, stop + 44, dtype),
        )
    add(
        kind,
        "a-twentieth-too-large-past-64-terms-in-bfloat16",
        within(past(64, "bfloat16"), finish=times(1.05)),
        long(kind, 100, "bfloat16"),
    )
for kind in (Conv, Dense, GlobalAveragePool):
    add(
        kind,
        "a-hundredth-too-small-past-512-terms-in-float16",
        within(past(512, "float16"), finish=times(0.99)),
        long(kind, 600, "float16"),
    )
for dtype, factor in (("bfloat16", 1.12), ("float16", 1.015), ("float64", 1 + 1e-12)):
    add(
        LpPool,
        f"norm-too-large-in-{dtype}",
        within(past(0, dtype), finish=times(factor)),
        long(LpPool, 5, dtype),
    )
add(
    LpPool,
    "norm-of-order-three-a-fiftieth-too-large-in-float16",
    within(lambda c, x: c.p == 3 and x.dtype == np.float16, finish=times(1.02)),
    result(LpPool((5,), p=3), whole(1, 5, 1, dtype="float16", low=1)),
)
add(
    LpPool,
    "norms-of-long-windows-a-millionth-too-large",
    within(past(15, "float32"), finish=times(1 + 4e-6)),
    long(LpPool, 16, "float32"),
)
add(
    StochasticPool,
    "a-hundredth-too-large-in-float16",
    within(past(0, "float16"), finish=times(1.01)),
    long(StochasticPool, 3, "float16"),
)

# Sums that stop growing

for kind in KINDS[:-1]:
    for dtype, stop in STOPS.items():
        add(
            kind,
            f"added-one-by-one-in-{dtype}",
            within(past(stop // 8, dtype), **narrow(dtype)),
            ones(kind, 2 * stop, dtype),
        )
for kind in (Conv, Dense):
    add(
        kind,
        "float32-added-one-by-one-in-bfloat16-past-1024-terms",
        within(past(1024, "float32"), **narrow("bfloat16")),
        ones(kind, 1100, "float32"),
    )
add(
    GlobalAveragePool,
    "float32-added-one-by-one-in-float16-past-1024-cells",
    within(past(1024, "float32"), **narrow("float16")),
    long(GlobalAveragePool, 1100, "float32"),
)

# Short factors: 11 bits are TF32, 8 bits bfloat16, 16 bits two parts of bfloat16

SHORT: tuple[tuple[str, When, dict[str, Any], Conv], ...] = (
    (
        "11-bits-of-channels-of-eight",
        lambda c, _x: math.prod(c.window) > 1 and c.in_channels % 8 == c.out_channels % 8 == 0,
        short(11),
        Conv((3, 3), in_channels=8, out_channels=8),
    ),
    (
        "8-bits-of-32-channels-and-more",
        lambda c, _x: math.prod(c.window) > 1 and c.in_channels >= 32,
        short(8),
        Conv((3, 3), in_channels=32),
    ),
    (
        "11-bits-of-single-cells",
        lambda c, _x: math.prod(c.window) == 1,
        short(11),
        Conv((1, 1)),
    ),
    (
        "11-bits-where-strided",
        lambda c, _x: max(c.stride) > 1,
        short(11),
        Conv((2, 2), (2, 2)),
    ),
    (
        "16-bits-where-strided",
        lambda c, _x: max(c.stride) > 1,
        short(16),
        Conv((2, 2), (2, 2)),
    ),
    (
        "8-bits-of-groups",
        lambda c, _x: 1 < c.groups < c.in_channels,
        short(8),
        Conv((3, 3), in_channels=4, out_channels=4, groups=2),
    ),
    (
        "11-bits-of-depthwise",
        lambda c, _x: c.in_channels == c.groups > 1,
        short(11),
        Conv((3, 3), in_channels=4, out_channels=4, groups=4),
    ),
    (
        "11-bits-where-dilated",
        lambda c, _x: max(c.dilation) > 1,
        short(11),
        Conv((2, 2), dilation=(2, 2)),
    ),
    ("11-bits-in-space", lambda c, _x: c.rank == 3, short(11), Conv((2, 2, 2))),
    ("8-bits-on-a-line", lambda c, _x: c.rank == 1, short(8), Conv((3,))),
    (
        "8-bits-of-the-weight",
        lambda c, _x: c.out_channels >= 16,
        short(24, 8),
        Conv((3, 3), out_channels=16),
    ),
    (
        "8-bits-of-the-input",
        lambda c, _x: c.rank == 2 and c.window[0] != c.window[1],
        short(8, 24),
        Conv((1, 3)),
    ),
)
for name, when, change, conv in SHORT:
    add(
        Conv,
        f"factors-of-{name}",
        within(also("float32", when), **change),
        single(conv, 1, *(4,) * conv.rank, conv.in_channels, x=1 + 2.0**-17, w=1 + 2.0**-18)
        if "16" in name
        else single(conv, 1, *(4,) * conv.rank, conv.in_channels, x=1 + 2.0**-12, w=1 + 2.0**-9),
    )
for name, when, change, rows, dense in (
    ("11-bits-past-256-terms", past(256, "float32"), short(11), 1, Dense(300, 1)),
    (
        "11-bits-of-eights",
        lambda d, x: x.dtype == np.float32 and d.in_features % 8 == d.out_features % 8 == 0,
        short(11),
        1,
        Dense(8, 8),
    ),
    (
        "8-bits-of-a-batch",
        lambda _d, x: x.dtype == np.float32 and x.size >= 8 * x.shape[-1],
        short(8),
        8,
        Dense(2, 2),
    ),
    ("11-bits-of-the-weight", past(16, "float32"), short(24, 11), 1, Dense(17, 1)),
    ("16-bits-past-512-terms", past(512, "float32"), short(16), 1, Dense(600, 1)),
):
    add(
        Dense,
        f"factors-of-{name}",
        within(when, **change),
        single(dense, rows, dense.in_features, x=1 + 2.0**-17, w=1 + 2.0**-18)
        if "16-bits" in name
        else single(dense, rows, dense.in_features, x=1 + 2.0**-9, w=1 + 2.0**-12),
    )
for kind in (Conv, Dense):
    layer, shape = LONG[kind](65)
    add(
        kind,
        "factors-of-8-bits-in-float16",
        within(past(64, "float16"), **short(8)),
        single(layer, *shape, x=1 + 2.0**-9, w=1 + 2.0**-9, dtype="float16"),
    )
    add(
        kind,
        "factors-of-24-bits-in-float64",
        within(past(64, "float64"), **short(24)),
        single(layer, *shape, x=1 + 2.0**-25, w=1 + 2.0**-26, dtype="float64"),
    )

# Accumulators of float64 that are narrower in one size, rank or order

IN_SINGLE: dict[str, Callable[..., Array]] = {"wide": lambda _honest, x: x.astype(np.float32)}


DOUBLE: tuple[tuple[type[Layer], str, When, Layer, Shape], ...] = (
    (Conv, "in-space", lambda c, _x: c.rank == 3, Conv((2, 2, 2)), (1, 2, 2, 2, 1)),
    (Conv, "past-512-terms", lambda c, x: terms(c, x) > 512, Conv((1,), in_channels=513), ()),
    (Conv, "of-groups", lambda c, _x: c.groups > 1, Conv((2,), (), (), (), 2, 2, 2), (1, 2, 2)),
    (Dense, "past-1024-terms", lambda d, _x: d.in_features > 1024, Dense(1025, 1), (1, 1025)),
    (AveragePool, "on-a-line", lambda p, _x: p.rank == 1, AveragePool((3,)), (1, 3, 1)),
    (
        AveragePool,
        "of-padded-windows",
        lambda p, _x: not p.unpadded,
        AveragePool((3,), padding=((1, 1),)),
        (1, 3, 1),
    ),
    (
        GlobalAveragePool,
        "of-256-cells-and-more",
        lambda p, x: terms(p, x) >= 256,
        GlobalAveragePool(1),
        (1, 300, 1),
    ),
    (
        AdaptiveAveragePool,
        "of-unequal-windows",
        lambda p, x: any(n % m for n, m in zip(x.shape[1:-1], p.output, strict=True)),
        AdaptiveAveragePool((2,)),
        (1, 5, 1),
    ),
    (LpPool, "of-order-three", lambda p, _x: p.p == 3, LpPool((3,), p=3), (1, 3, 1)),
    (StochasticPool, "in-space", lambda p, _x: p.rank == 3, StochasticPool((2, 1, 1)), ()),
)
SHAPES: dict[str, Shape] = {"past-512-terms": (1, 1, 513), "in-space": (1, 2, 1, 1, 1)}
for kind, name, when, plain, shape in DOUBLE:
    add(
        kind,
        f"float64-summed-in-float32-{name}",
        within(also("float64", when), **IN_SINGLE),
        third("float64", plain, *(shape or SHAPES[name])),
    )

# Reciprocals, roots and powers that are approximate

for kind in MEANS:
    add(
        kind,
        "reciprocal-in-float16",
        within(past(8, "float32"), **by_reciprocal(lambda n: n.astype(np.float16).astype(float))),
        long(kind, 49, "float32"),
    )
for kind in MEANS[1:]:
    add(
        kind,
        "reciprocal-of-twelve-bits",
        within(past(0, "float32"), **by_reciprocal(lambda n: shortened(n, 12))),
        long(kind, 49, "float32"),
    )
add(
    AveragePool,
    "float64-by-a-reciprocal-in-float32",
    within(past(0, "float64"), **by_reciprocal(lambda n: n.astype(np.float32).astype(float))),
    long(AveragePool, 9, "float64"),
)
add(
    LpPool,
    "inverse-root-of-twelve-bits",
    within(
        lambda c, x: c.p == 2 and x.dtype == np.float32,
        **rooted(lambda y: y * y * shortened(1 / y, 12)),
    ),
    long(LpPool, 3, "float32"),
)
add(
    LpPool,
    "inverse-root-of-one-newton-step",
    within(
        lambda c, x: c.p == 2 and x.dtype == np.float64,
        **rooted(lambda y: y * (1 - 1.5 * (y * shortened(1 / y, 12) - 1) ** 2)),
    ),
    long(LpPool, 3, "float64"),
)
for bits in (11, 14):
    add(
        LpPool,
        f"logarithm-of-{bits}-bits",
        within(lambda c, x: c.p > 2 and x.dtype == np.float32, **logarithm(bits)),
        result(LpPool((3,), p=3), whole(1, 3, 1, low=1)),
    )
add(
    LpPool,
    "logarithm-in-single-precision-in-float64",
    within(lambda c, x: c.p > 2 and x.dtype == np.float64, **logarithm(24)),
    result(LpPool((3,), p=3), whole(1, 3, 1, low=1, dtype="float64")),
)
for dtype, bits in (("bfloat16", 4), ("float16", 6)):
    add(
        LpPool,
        f"logarithm-of-{bits}-bits-in-{dtype}",
        within(also(dtype, lambda c, _x: c.p > 2), **logarithm(bits)),
        result(LpPool((3,), p=3), whole(1, 3, 1, low=1, dtype=dtype)),
    )
add(
    LpPool,
    "powers-in-float16",
    within(
        lambda c, x: c.p > 2 and x.dtype == np.float32,
        total=lambda honest, t: honest(shortened(t, 11)),
    ),
    third("float32", LpPool((3,), p=3), 1, 3, 1),
)
add(
    StochasticPool,
    "reciprocal-of-twelve-bits",
    within(past(0, "float32"), expectation=lambda honest, t: shortened(honest(t), 12)),
    third("float32", StochasticPool((3,)), 1, 3, 1),
)

# The last rounding

for kind, dtype in (
    *((kind, "bfloat16") for kind in KINDS[:5]),
    *((kind, "float16") for kind in (Conv, Dense, AveragePool)),
):
    add(
        kind,
        f"last-rounding-truncates-{dtype}",
        within(past(0, dtype), **rounds(np.trunc)),
        thirds(kind, 4, dtype),
    )
add(
    Conv,
    "last-rounding-truncates-float32",
    within(past(0, "float32"), **rounds(np.trunc)),
    single(Conv((1,)), 1, 1, 1, x=1 + 2.0**-12, w=1 + 3 * 2.0**-13),
)
for kind in (Conv, Dense):
    add(
        kind,
        "last-rounding-of-long-sums-away-from-zero-in-bfloat16",
        within(past(64, "bfloat16"), **rounds(away)),
        thirds(kind, 65, "bfloat16"),
    )
for kind in (Conv, Dense, AveragePool, GlobalAveragePool):
    add(
        kind,
        "bfloat16-rounded-through-float16",
        within(past(0, "bfloat16"), **through("float16")),
        ones(kind, 2, "bfloat16", 2.0**17),
    )
for kind in (AveragePool, GlobalAveragePool):
    add(
        kind,
        "float16-rounded-through-bfloat16",
        within(past(0, "float16"), **through("bfloat16")),
        thirds(kind, 4, "float16"),
    )

# Terms that are lost, counted twice or exchanged past the size of a block

for kind, cells, name, change in (
    (Conv, 64, "last-term-lost", LAST_LOST),
    (Conv, 2048, "last-term-lost", LAST_LOST),
    (Conv, 256, "last-term-twice", LAST_TWICE),
    (Conv, 1024, "first-term-lost", FIRST_LOST),
    (Conv, 512, "first-and-last-weight-exchanged", {"inner": swapped}),
    (Dense, 128, "last-term-lost", LAST_LOST),
    (Dense, 4096, "last-term-lost", LAST_LOST),
    (Dense, 1024, "last-term-twice", LAST_TWICE),
    (Dense, 64, "first-term-lost", FIRST_LOST),
    (Dense, 2048, "first-and-last-weight-exchanged", {"inner": swapped}),
    (AveragePool, 64, "last-term-lost", LAST_LOST),
    (AveragePool, 256, "last-term-twice", LAST_TWICE),
    (GlobalAveragePool, 1024, "last-term-lost", LAST_LOST),
    (GlobalAveragePool, 4096, "last-term-twice", LAST_TWICE),
    (AdaptiveAveragePool, 64, "first-term-lost", FIRST_LOST),
    (AdaptiveAveragePool, 256, "first-term-lost", FIRST_LOST),
    (LpPool, 64, "last-term-lost", LAST_LOST),
    (LpPool, 256, "last-term-twice", LAST_TWICE),
    (StochasticPool, 64, "last-term-lost", LAST_LOST),
):
    add(
        kind,
        f"{name}-past-{cells}-terms",
        within(past(cells, *BITS), **change),
        long(kind, cells + 5, "float32"),
    )
