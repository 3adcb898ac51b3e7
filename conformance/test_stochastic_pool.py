"""Stochastic pooling in training: draws from the window, in proportion, independently.

Each cell's count is held against the binomial distribution that the clause states. One test alarms
on a correct backend with probability below ``ALPHA / TESTS``; a run makes fewer than ``TESTS``
tests, so that all of them together alarm falsely with probability below ``ALPHA`` = 1e-9, whatever
depends on what (``docs/derivations.md``, section i).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case, Given, given
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.parametrize import FLOATS, by_layer_type, law
from cnnformance.conformance.question import Question
from cnnformance.conformance.strategies import cases
from cnnformance.reference import bounds, candidates, forward
from cnnformance.spec import layers as spec

ALPHA = 1e-9
"""The probability of any false alarm in a run, all questions and subjects together."""

TESTS = 1 << 20
"""More tests than a run makes: about a thousand a subject."""

DRAWS = 1 << 16
"""Draws for each window of a pattern: a weight that is off by a tenth stands out."""

PAIRS = 1 << 14
"""Pairs of equal windows whose draws are held against each other."""

StochasticPool = spec.StochasticPool


def log_tail(count: int, draws: int, p: float) -> float:
    """Return an upper bound on the log of P(C >= count), C binomial, for a count above its mean.

    The terms of the tail fall faster than a geometric series whose ratio is that of the first
    two. Below the mean the bound is 0.
    """
    if count <= draws * p:
        return 0.0
    if count > draws or p == 0:
        return -math.inf
    ways = math.lgamma(draws + 1) - math.lgamma(count + 1) - math.lgamma(draws - count + 1)
    first = ways + count * math.log(p) + (draws - count) * math.log1p(-p)
    ratio = (draws - count) / (count + 1) * p / (1 - p)
    return min(0.0, first - math.log1p(-ratio))


def check(name: str, count: int, draws: int, p: float, slack: float) -> None:
    """Require a count that draws of probability ``p``, give or take ``slack``, can have.

    Raises:
        Failure: so extreme a count has a probability below ``ALPHA / TESTS``.
    """
    least = math.log(ALPHA / TESTS / 2)
    high = log_tail(count, draws, min(p + slack, 1.0))
    low = log_tail(draws - count, draws, min(1 - p + slack, 1.0))
    if min(high, low) < least:
        raise Failure(
            "statistics",
            f"{name} came {count} times in {draws}: {count / draws:.4f}, and should {p:.4f} of "
            f"the time; a correct backend strays so far with probability below "
            f"1e{max(min(high, low) / math.log(10), -9999):.0f}",
            expected=f"{p:.6g}",
            actual=f"{count / draws:.6g}",
            bound=f"{ALPHA / TESTS:.3g}",
        )


def slack(dtype: str, cells: int) -> float:
    """Return how far rounding may move the probability of a cell in a correct kernel."""
    unit = bounds.format_of(dtype).unit
    return float(3 * bounds.growth(cells + 1, unit) + 2 * unit)


def drawn(layer: spec.Layer, x: Array, y: Array) -> None:
    """Require each output to be a cell of its window that has a probability.

    Raises:
        Failure: an output is no cell of its window, or a zero beside a positive value.
    """
    assert isinstance(layer, StochasticPool)
    values, chances = candidates(layer, x)
    judge.same_form(y, values.shape[:-1], x.dtype)
    hit = (values == y[..., None]) & (chances > 0)
    missed = ~hit.any(axis=-1)
    if missed.any():
        index = tuple(int(i) for i in np.argwhere(missed)[0])
        cells = ", ".join(map(judge.text, values[index][:16]))
        raise Failure(
            "value" if math.isfinite(float(y[index])) else "not-finite",
            f"at {index}: {judge.text(y[index])}, should be drawn from {cells}; "
            f"{int(missed.sum())} of {missed.size} elements are wrong",
            index=index,
            expected=f"one of {cells}",
            actual=judge.text(y[index]),
        )


def seeded(ask: Question, seed: int) -> bool:
    """Seed the subject; return whether it says that it can be."""
    try:
        ask.asked(lambda: ask.subject.seed(seed))
    except Unsupported:
        return False
    return True


@dataclass(frozen=True)
class Pattern:
    """A layer, and a small map whose windows are drawn from many times."""

    name: str
    layer: StochasticPool
    tile: tuple[tuple[float, ...], ...]

    def case(self, dtype: str, batch: int, channels: int) -> Given:
        """Return the case that shows the map in each sample and channel."""
        tile = np.array(self.tile).astype(dtype_named(dtype))
        if self.layer.rank != 2:
            tile = tile.reshape(self.layer.window if self.layer.rank == 3 else -1)
        x = np.broadcast_to(tile[None, ..., None], (batch, *tile.shape, channels))
        return given(self.layer, np.ascontiguousarray(x))


def training(window: spec.Shape, stride: spec.Shape = ()) -> StochasticPool:
    """Return the layer in training."""
    return StochasticPool(window, stride or window, training=True)


# Values are exact in every format, and distinct within a window, so that each tells its cell.
PATTERNS = (
    Pattern("pair", training((2,)), ((1, 1.25, 1, 4096, 3, 0, 2, 6),)),
    Pattern("proportional", training((2, 2)), ((1, 2, 4, 3, 0, 3), (3, 4, 2, 1, 0, 1))),
    Pattern("nearly-equal", training((2, 2)), ((1, 1.0625), (1.125, 1.1875))),
    Pattern("tiny-and-large", training((4,)), ((2**-10, 8, 2**-9, 24, 1, 1024, 2, 512),)),
    Pattern("nine-cells", training((3, 3)), ((1, 9, 2), (8, 0, 7), (3, 6, 4))),
    Pattern(
        "sixteen-cells",
        training((4, 4)),
        ((1, 5, 2, 9), (8, 0, 7, 3), (4, 6, 0, 12), (10, 11, 14, 13)),
    ),
    Pattern(
        "forty-nine-cells",
        training((7, 7)),
        tuple(tuple(float(n) for n in range(row + 1, 50, 7)) for row in range(7)),
    ),
    Pattern("two-planes", training((2, 2, 2)), ((1, 2, 3, 4), (9, 0, 12, 33))),
    Pattern("overlapping", training((2,), (1,)), ((1, 2, 5, 3, 0, 4),)),
    Pattern("overlapping-rows", training((2, 2), (1, 2)), ((1, 2), (3, 6), (0, 12), (5, 0))),
    Pattern("skipping", training((2,), (3,)), ((3, 1, 64, 2, 5, 64, 4),)),
)


def check_frequencies(case: Case, y: Array) -> None:
    """Require each value of each window of the map to be drawn as often as its share says."""
    assert isinstance(case.layer, StochasticPool)
    values, chances = candidates(case.layer, case.x[:1, ..., :1])
    judge.same_form(y, (len(case.x), *values.shape[1:-2], case.x.shape[-1]), case.x.dtype)
    cells = values.shape[-1]
    values, chances = values.reshape(-1, cells), chances.reshape(-1, cells)
    draws = np.moveaxis(y, -1, 1).reshape(-1, len(values))
    for own, chance, outputs in zip(values, chances, draws.T, strict=True):
        counts = {value: int((outputs == value).sum()) for value in own[chance > 0]}
        if sum(counts.values()) < outputs.size:
            drawn(case.layer, case.x, y)
        for value, count in counts.items():
            name = f"{judge.text(value)} of the window {own.tolist()}"
            p = float(chance[own == value].sum())
            check(name, count, outputs.size, p, slack(case.dtype, cells))


@pytest.mark.clauses("pool.stochastic.probability", "pool.stochastic.not-fixed")
@law("draw-frequencies")
@pytest.mark.parametrize("dtype", FLOATS)
def test_frequencies(ask: Question, layer_type: type[spec.Layer], dtype: str) -> None:
    """Each cell is drawn as often as its value says, and zeros beside positive values never.

    The windows have 2 to 49 cells, with proportional, nearly equal, tiny, large and zero
    values, apart and overlapping, where each window has a law of its own.
    """
    del layer_type

    def question(case: Case) -> None:
        seeded(ask, ask.seed + 1)
        check_frequencies(case, ask.run(case.layer, case.x))

    patterns = PATTERNS if dtype == "float32" else (PATTERNS[0], PATTERNS[1], PATTERNS[3])
    ask.sweep((p.case(dtype, DRAWS // 64, 64) for p in patterns), question)


@by_layer_type({StochasticPool: ["pool.stochastic.selects", "pool.stochastic.zero-never-drawn"]})
def test_drawn_from_window(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Training returns, bit for bit, a cell of each window, and no zero beside a positive one."""

    def question(case: Case) -> None:
        layer = case.layer.replace(training=True)
        try:
            drawn(layer, case.x, ask.run(layer, case.x))
        except Failure as failure:
            failure.layers = (layer,)
            raise

    ask.explore(cases(layer_type), question, max(6, ask.profile.examples // 6))


def _among(dtype: str, value: float, *, training: bool) -> Iterator[Given]:
    """Yield windows of one value, alone and beside windows of other values."""
    for window in ((17,), (3, 2), (2, 1, 2)):
        layer = StochasticPool(window, training=training)
        tile = np.ones((len(window), 2), dtype=int)
        tile[-1] = 2  # two windows along the last axis
        for other in (value, 3.0):
            spatial = tuple(w * n for w, n in zip(window, tile[:, 1], strict=True))
            x = np.full((3, *spatial, 2), other)
            x[..., : window[-1], :] = value
            x[2] = value
            yield given(layer, x.astype(dtype_named(dtype)))


@law("zero-window")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_zero_window(
    ask: Question, layer_type: type[spec.Layer], dtype: str, *, training: bool
) -> None:
    """A window of zeros gives 0, and leaves the windows beside it as they are."""
    del layer_type

    def question(case: Case) -> None:
        y = ask.run(case.layer, case.x)
        if training:
            drawn(case.layer, case.x, y)
            return
        ask.note(judge.output(case, y))
        zero = forward(case.layer, case.x) == 0
        judge.equal(np.where(zero, y, 0), np.zeros_like(y), "its only value is 0")

    ask.sweep(_among(dtype, 0.0, training=training), question)


@law("draw-frequencies")
@pytest.mark.parametrize("dtype", FLOATS)
def test_equal_window(ask: Question, layer_type: type[spec.Layer], dtype: str) -> None:
    """A window of equal values draws that value, large or small."""
    del layer_type

    def question(case: Case) -> None:
        drawn(case.layer, case.x, ask.run(case.layer, case.x))

    for value in (1.0, 0.375, 2.0**10, 2.0**-10):
        ask.sweep(_among(dtype, value, training=True), question)


def check_pairs(name: str, one: Array, other: Array, shares: Mapping[float, float]) -> None:
    """Require two windows to show each pair of values as often as independent draws do.

    ``shares`` has the probability of each value, in both.
    """
    d = slack(one.dtype.name, len(shares) + 1)
    for a, p in shares.items():
        for b, q in shares.items():
            count = int(((one == a) & (other == b)).sum())
            check(f"{name}: the draws ({a:g}, {b:g})", count, one.size, p * q, d * (2 + d))


def _halves(y: Array, axis: int) -> Iterator[tuple[str, Array, Array]]:
    """Yield the disjoint pairs along an axis: next neighbours, and those half of it apart."""
    size = y.shape[axis] // 2 * 2
    index = np.arange(size)
    yield "neighbours", y.take(index[::2], axis), y.take(index[1::2], axis)
    yield "half the axis apart", y.take(index[: size // 2], axis), y.take(index[size // 2 :], axis)


INDEPENDENT = (
    Pattern("line", training((2,)), ((1, 3),)),
    Pattern("plane", training((2, 2)), ((1, 0), (0, 2))),
    Pattern("space", training((1, 2, 2)), ((1, 2), (0, 3))),
)


def _repeated(pattern: Pattern) -> Given:
    """Return the case of a map of equal windows, several of them along each axis."""
    sizes = {1: (1024,), 2: (8, 16), 3: (4, 4, 8)}[pattern.layer.rank]
    tile = np.array(pattern.tile, dtype=np.float32).reshape(pattern.layer.window)
    batch = 8
    channels = 2 * PAIRS // batch // math.prod(sizes)
    x = np.tile(tile, sizes)
    x = np.broadcast_to(x[None, ..., None], (batch, *x.shape, channels))
    return given(pattern.layer, np.ascontiguousarray(x))


@law("independent-draws")
def test_independent(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Equal windows draw independently: across space, channels, batch, calls and seeds."""
    del layer_type

    def question(case: Case) -> None:
        layer, x = case.layer, case.x
        assert isinstance(layer, StochasticPool)
        seeded(ask, ask.seed + 1)
        first, second = ask.run(layer, x), ask.run(layer, x)
        seeded(ask, ask.seed + 2)
        other = ask.run(layer, x)
        for y in (first, second, other):
            drawn(layer, x, y)
        values, chances = candidates(layer, x[:1, ..., :1])
        pairs = zip(values.ravel(), chances.ravel(), strict=True)
        shares = {float(value): float(p) for value, p in pairs if p > 0}
        for axis in range(first.ndim):
            where = {0: "batch", first.ndim - 1: "channels"}.get(axis, f"spatial axis {axis}")
            for how, one, two in _halves(first, axis):
                check_pairs(f"along {where}, {how}", one, two, shares)
        check_pairs("in two calls", first, second, shares)
        one, two = (ask.run(layer, x[:1]) for _ in range(2))
        check_pairs("in two calls with one sample", one, two, shares)
        check_pairs("after two seeds", first, other, shares)

    ask.sweep(map(_repeated, INDEPENDENT), question)


@law("independent-draws")
def test_seeded(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Equal seeds draw alike, or each call draws anew; which is a trait that must be consistent."""
    del layer_type
    repeats: dict[bool, spec.Shape] = {}

    def question(case: Case) -> None:
        layer, x = case.layer, case.x
        if not seeded(ask, 5):
            raise Unsupported("it takes no seed")
        first = ask.run(layer, x)
        ask.run(layer, x)
        seeded(ask, 5)
        again = ask.run(layer, x)
        repeats[bool((first == again).all())] = x.shape
        if len(repeats) == 2:
            raise Failure(
                "trait",
                f"equal seeds draw alike for the shape {repeats[True]}, not for {repeats[False]}",
                expected="alike always, or never",
                actual="depends on the shape",
                arrays={"x": x},
            )

    ask.sweep(map(_repeated, INDEPENDENT), question)
    for alike, shape in repeats.items():
        value = "draw alike" if alike else "draw anew"
        ask.trait("equal seeds", value, "StochasticPool in training", f"input shape {shape}")


@by_layer_type({StochasticPool: ["pool.stochastic.evaluation"]})
def test_evaluation_is_the_mean_of_training(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Evaluation draws nothing: it gives the mean of what training draws, the same in each call."""
    del layer_type

    def question(case: Case) -> None:
        y = ask.output(case)
        seeded(ask, ask.seed + 3)
        again = ask.output(case)
        if ask.subject.info.deterministic:  # else two sums may round apart
            judge.equal(again, y, "evaluation draws nothing")

    evaluated = (p.case("float32", 2, 3) for p in PATTERNS)
    ask.sweep((given(c.layer.replace(training=False), c.x) for c in evaluated), question)
