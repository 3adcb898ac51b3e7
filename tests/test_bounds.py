"""The bounds hold for every order and rounding, and some order and rounding nearly reaches them.

Computed is in exact fractions, with each operation off by as much as the model of arithmetic lets
it be: by a factor of ``1 + d``, ``|d| <= u``, and by nothing where a term is zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from corpus.winograd import transforms

from cnnformance.reference import bounds, fast_algorithms, forward, gradients
from cnnformance.reference.gradient_bounds import gradient_bounds
from cnnformance.spec import layers as spec

Rounding = Callable[[Fraction], Fraction]
UNIT = Fraction(1, 2**24)
ROOM = Fraction(1, 10**9)
"""What the bounds, evaluated in float64, may be short of."""


def upwards(value: Fraction) -> Fraction:
    return value * (1 + UNIT)


def at_random(rng: np.random.Generator) -> Rounding:
    return lambda value: value * (1 + UNIT * int(rng.integers(-1, 2)))


def added(left: Fraction, right: Fraction, rounded: Rounding) -> Fraction:
    return left + right if 0 in (left, right) else rounded(left + right)


def in_turn(terms: Sequence[Fraction], rounded: Rounding) -> Fraction:
    total = Fraction(0)
    for term in terms:
        total = added(total, term, rounded)
    return total


def in_any_order(
    terms: Sequence[Fraction], rounded: Rounding, rng: np.random.Generator
) -> Fraction:
    left = list(terms)
    while len(left) > 1:
        one, other = (left.pop(int(rng.integers(len(left)))) for _ in range(2))
        left.append(added(one, other, rounded))
    return left[0]


def exact(array: Any) -> list[Fraction]:
    return [Fraction(float(value)) for value in np.ravel(array)]


def dense(x: Any, weight: Any) -> tuple[spec.Dense, Any, dict[str, Any]]:
    layer = spec.Dense(len(x), 1, bias=False)
    held = {"weight": np.array([weight], np.float32)}
    return layer, np.array([x], np.float32), held


def sparse(rng: np.random.Generator, size: int) -> Any:
    values = rng.normal(size=size).astype(np.float32)
    return np.where(rng.random(size) < 0.5, values, np.float32(0))


@pytest.mark.parametrize("seed", range(20))
def test_no_order_of_a_sum_passes_its_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = sparse(rng, 12), sparse(rng, 12)
    bound = bounds.bound(*dense(x, w))
    terms = [a * b for a, b in zip(exact(x), exact(w), strict=True)]
    products = [at_random(rng)(term) for term in terms]
    off = in_any_order(products, at_random(rng), rng) - sum(terms)

    assert abs(off) <= Fraction(float(bound.error[0, 0])) * (1 + ROOM)


@pytest.mark.parametrize("zeros", [0, 500])
def test_a_sum_nearly_reaches_its_bound_however_many_zeros_it_has(zeros: int) -> None:
    x = [1.0] + [2.0**-20] * 30 + [0.0] * zeros
    bound = bounds.bound(*dense(x, np.ones(len(x))))
    off = in_turn([upwards(term) for term in exact(x)], upwards) - sum(exact(x))

    assert 0.9 < off / Fraction(float(bound.error[0, 0])) <= 1 + ROOM


def test_one_product_is_rounded_once() -> None:
    bound = bounds.bound(*dense([0, 0, 3.3, 0], [1, 2, 7.7, 4]))

    assert bound.error[0, 0] == pytest.approx(2.0**-24 * bound.value[0, 0], rel=1e-6)


def test_no_term_at_all_gives_zero() -> None:
    bound = bounds.bound(*dense([0, 0, 3], [1, 2, 0]))

    assert bound.error[0, 0] <= bounds.format_of("float32").tiny


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_whole_numbers_are_exact_as_long_as_their_sum_fits(dtype: str) -> None:
    layer, most = spec.Dense(4000, 1, bias=False), 2 ** bounds.format_of(dtype).bits
    x, weight = np.zeros((2, 4000)), np.ones((1, 4000))
    x[0, :64] = most // 64  # many terms of zero count for nothing
    x[1, :64] = most // 64 + 1
    held = {"weight": weight.astype(bounds_dtype(dtype))}
    error = bounds.bound(layer, x.astype(bounds_dtype(dtype)), held).error

    assert error[0, 0] == 0
    assert error[1, 0] > 0


def bounds_dtype(name: str) -> Any:
    import ml_dtypes  # noqa: PLC0415 - for one dtype

    return ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)


@pytest.mark.parametrize(("dtype", "terms"), [("bfloat16", 300), ("float16", 2100)])
def test_a_half_that_adds_one_by_one_is_no_evidence_past_its_growth(dtype: str, terms: int) -> None:
    layer = spec.Dense(terms, 1, bias=False)
    x = np.random.default_rng(0).normal(size=(1, terms)).astype(bounds_dtype(dtype))
    held = {"weight": np.ones((1, terms), x.dtype)}
    analysis = bounds.Analysis(layer, x, held)
    loose, judged = analysis.by_accumulator()["half"], analysis.bound()

    assert (loose.error > np.abs(loose.value)).all()  # zeros would pass
    assert (judged.error < loose.error / 4).all()


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(4))
def test_no_rounding_of_a_norm_passes_its_bound(p: int, seed: int) -> None:
    rng = np.random.default_rng([p, seed])
    layer = spec.LpPool((6,), p=p)
    x = sparse(rng, 6).reshape(1, 6, 1)
    bound = bounds.bound(layer, x, {})
    rounded: Rounding = upwards if seed == 0 else at_random(rng)
    powers = []
    for value in exact(np.abs(x)):
        power = value
        for _ in range(p - 1):
            power = rounded(power * value)
        powers.append(power)
    total = in_any_order(powers, rounded, rng)
    root = Fraction(math.exp(math.log(total) / p)) if total else Fraction(0)
    off = abs(rounded(root) - Fraction(float(bound.value[0, 0, 0])))

    assert off <= Fraction(float(bound.error[0, 0, 0])) * (1 + ROOM) + root / 2**50


def test_a_norm_of_four_cells_is_off_by_three_units_at_the_most() -> None:
    x = np.array([1, 2, 3, 4], np.float32).reshape(1, 2, 2, 1)
    bound = bounds.bound(spec.LpPool((2, 2)), x, {})

    assert bound.error.item() <= 3.01 * 2.0**-24 * bound.value.item()


def running_mean(values: Sequence[Fraction], rounded: Rounding) -> Fraction:
    mean = values[0]
    for number, value in enumerate(values[1:], start=2):
        step = rounded(rounded(value - mean) / number)
        mean = added(mean, step, rounded)
    return mean


@pytest.mark.parametrize("size", [2, 5, 40])
def test_a_running_mean_keeps_its_bound_and_not_that_of_a_sum(size: int) -> None:
    layer, beyond = spec.GlobalAveragePool(1), False
    most = 0.0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(1, size, 1)).astype(np.float32) + np.float32(3 * (seed % 2))
        tight = Fraction(float(bounds.bound(layer, x, {}).error.item()))
        ((_, error),) = fast_algorithms.alternatives(layer, x, {})
        rounded: Rounding = upwards if seed < 2 else at_random(rng)
        off = abs(running_mean(exact(x), rounded) - sum(exact(x), Fraction(0)) / size)
        most = max(most, float(off / Fraction(float(error.item()))))
        beyond = beyond or off > tight
    assert 0.2 < most <= 1
    assert beyond or size > 2


@pytest.mark.parametrize("tile", fast_algorithms.TILES, ids=str)
def test_the_constants_of_winograd_follow_from_its_matrices(tile: fast_algorithms.Tile) -> None:
    m, r = tile.outputs, tile.taps
    image, kernel, output = transforms(m, r)
    inputs = range(m + r - 1)
    own, other, dense = [], [], []
    for i in range(m):
        for j in range(r):
            pairs = [
                sum(abs(output[i][k] * kernel[k][j] * image[k][n]) for k in inputs) for n in inputs
            ]
            own.append(pairs[i + j])
            other.append(max(pairs))
            dense.append(sum(pairs))

    assert tile.own == pytest.approx(float(max(own)))
    assert tile.other == pytest.approx(float(max(other)))
    assert tile.dense == pytest.approx(float(max(dense)))
    assert tile.roundings >= sum(
        max(sum(value != 0 for value in row) for row in matrix)
        for matrix in (output, kernel, image)
    )


def test_one_pair_in_winograd_is_sharper_than_short_factors() -> None:
    layer = spec.Conv((3, 3), in_channels=16, out_channels=1, bias=False)
    x, weight = np.zeros((1, 8, 8, 16), np.float32), np.zeros((3, 3, 16, 1), np.float32)
    x[0, 4, 4, 3] = weight[1, 1, 3, 0] = 1.5
    (name, error), _ = fast_algorithms.alternatives(layer, x, {"weight": weight})
    read = forward(layer, x, {"weight": weight})[0, ..., 0] != 0

    assert name == "Winograd"
    assert error[0, ..., 0][read] < 2.0**-11 * 2.25 / 20


def test_a_plain_layer_has_no_fast_algorithm() -> None:
    for layer in (
        spec.Conv((1, 1), in_channels=8, out_channels=8),
        spec.Conv((3, 3), stride=(2, 2), in_channels=8, out_channels=8),
        spec.Conv((3, 3), dilation=(2, 2), in_channels=8, out_channels=8),
    ):
        assert not fast_algorithms.winograd_tiles(layer)


def strassen(a: Any, b: Any, rounded: Rounding, rng: np.random.Generator) -> Any:
    """Return the product of two matrices of fractions by one level of Strassen's rule."""

    def plus(x: Any, y: Any) -> Any:
        return np.vectorize(lambda p, q: added(p, q, rounded), otypes=[object])(x, y)

    def times(x: Any, y: Any) -> Any:
        cells = [
            [
                in_any_order(
                    [rounded(p * q) for p, q in zip(row, column, strict=True)], rounded, rng
                )
                for column in y.T
            ]
            for row in x
        ]
        return np.array(cells, dtype=object)

    (n, k), m = a.shape, b.shape[1]
    a11, a12, a21, a22 = (
        a[: n // 2, : k // 2],
        a[: n // 2, k // 2 :],
        a[n // 2 :, : k // 2],
        a[n // 2 :, k // 2 :],
    )
    b11, b12, b21, b22 = (
        b[: k // 2, : m // 2],
        b[: k // 2, m // 2 :],
        b[k // 2 :, : m // 2],
        b[k // 2 :, m // 2 :],
    )
    m1 = times(plus(a11, a22), plus(b11, b22))
    m2, m3 = times(plus(a21, a22), b11), times(a11, plus(b12, -b22))
    m4, m5 = times(a22, plus(b21, -b11)), times(plus(a11, a12), b22)
    m6 = times(plus(a21, -a11), plus(b11, b12))
    m7 = times(plus(a12, -a22), plus(b21, b22))
    top = [plus(plus(m1, m4), plus(-m5, m7)), plus(m3, m5)]
    bottom = [plus(m2, m4), plus(plus(m1, -m2), plus(m3, m6))]
    return np.block([top, bottom])


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("single", [False, True])
def test_strassen_keeps_its_bound(scaled: bool, single: bool) -> None:
    rng = np.random.default_rng(5)
    x, weight = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    if scaled:
        x[0] *= 1000
        weight[1] *= 1000
    if single:
        x = np.where(np.arange(24).reshape(4, 6) == 9, x, 0)
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    layer, held = spec.Dense(6, 4, bias=False), {"weight": weight}
    a, b = (np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(m) for m in (x, weight.T))
    ((_, error),) = fast_algorithms.alternatives(layer, x, held)
    for _ in range(5):
        off = np.abs(strassen(a, b, at_random(rng), rng) - a @ b).astype(np.float64)
        assert (off <= bounds.bound(layer, x, held).error + error).all()


KINDS = [
    spec.Conv((2, 2), in_channels=4, out_channels=3),
    spec.Conv((3, 1), padding="same", in_channels=4, out_channels=6, groups=2),
    spec.Dense(5, 4),
    spec.AveragePool((3, 2), stride=(1, 1), padding=((1, 1), (0, 1))),
    spec.GlobalAveragePool(),
    spec.AdaptiveAveragePool((2, 3)),
    spec.LpPool((2, 2), stride=(1, 1)),
    spec.LpPool((2, 3), p=3),
    spec.MaxPool((2, 2), stride=(1, 1)),
]


@pytest.mark.parametrize("layer", KINDS, ids=str)
def test_gradients_in_float32_keep_their_bounds(layer: Any) -> None:
    rng = np.random.default_rng(1)
    shape = (3, 5) if isinstance(layer, spec.Dense) else (3, 6, 7, 4)
    x = (rng.permutation(math.prod(shape)).reshape(shape) + 1.5).astype(np.float32)
    held = {
        name: rng.normal(size=size).astype(np.float32)
        for name, size in spec.weight_shapes(layer).items()
    }
    upstream = sparse(rng, forward(layer, x, held).size).reshape(forward(layer, x, held).shape)
    exactly = gradients(layer, x, held, upstream)
    for name, bound in gradient_bounds(layer, x, held, upstream).items():
        got = exactly[name].astype(np.float32).astype(np.float64)
        assert (np.abs(got - bound.value) <= bound.error).all()
        assert (bound.error <= 1e-4 * np.abs(bound.value).max() + 1e-30).all()
        if name == "input":  # what no upstream value reaches is zero
            assert (bound.error[exactly[name] == 0] <= 1e-30).all() or layer.has_weights
