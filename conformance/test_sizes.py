"""Sizes at which kernels change their ways: vector tails, blocks, powers of two, long axes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from cnnformance.conformance.asking import Ask
from cnnformance.conformance.cases import Case
from cnnformance.conformance.kinds import by_kind, by_kind_and_dtype
from cnnformance.conformance.large import large
from cnnformance.conformance.test_output import FORMULAS
from cnnformance.spec import layers as spec

_SMALL = (*range(1, 20), 23, 31, 32, 33, 37, 47, 61, 63, 64, 65, 97, 127, 128, 129)
_FEW = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 32, 33, 64, 65, 128, 129, 257, 511)
_ENDS = ("rising", "falling", "integer")
"""Regimes that put the extreme value of every window at its end, at its start, and anywhere."""


def ladder(largest: int) -> Iterator[int]:
    """Yield small sizes, then each power of two with its neighbours, then a few primes.

    Below 1024 only the sizes just past those at which kernels change.
    """
    if largest < 1024:
        yield from _FEW
        return
    yield from _SMALL
    power = 256
    while power <= largest:
        yield from (power - 1, power, power + 1)
        power *= 2
    yield from (n for n in (251, 509, 1021, 8191, 65521) if n < largest)


def _sized(kind: type[spec.Layer], n: int, regimes: tuple[str, ...]) -> Iterator[Case]:
    rows = len(regimes)
    square = n if n <= 33 else 2
    if issubclass(kind, spec.Dense):
        yield Case(kind(n, 3), (rows, n), regimes=regimes)
        yield Case(kind(5, n), (rows, 5), regimes=regimes)
        yield Case(kind(square, square), (rows, square), regimes=regimes)
        yield Case(kind(3, 2), (n, 3), regimes=regimes)
        return
    if issubclass(kind, spec.ReLU | spec.Flatten):
        yield Case(kind(), (rows, n, 1), regimes=("normal", "integer"))
        yield Case(kind(), (rows, square, square, 3), regimes=("normal", "integer"))
        yield Case(kind(), (n, 2, 2), regimes=("normal", "integer"))
        return
    if issubclass(kind, spec.Conv):
        for layer, shape in (
            (kind(window=(3,), in_channels=1, out_channels=1), (rows, n + 2, 1)),
            (
                kind(window=(min(n, 4097),), in_channels=1, out_channels=1),
                (rows, min(n, 4097) + 1, 1),
            ),
            (kind(window=(2, 3), in_channels=2, out_channels=2), (rows, square + 1, square + 2, 2)),
            (kind(window=(2,), in_channels=min(n, 4097), out_channels=2), (rows, 3, min(n, 4097))),
            (kind(window=(2,), in_channels=2, out_channels=min(n, 4097)), (rows, 3, 2)),
            (kind(window=(2, 2), in_channels=1, out_channels=2), (n, 2, 3, 1)),
        ):
            yield Case(layer, shape, regimes=regimes)
        return
    if issubclass(kind, spec.Global):
        yield Case(kind(rank=1), (rows, n, 1), regimes=regimes)
        yield Case(kind(), (rows, square, 3, 1), regimes=regimes)
        yield Case(kind(), (rows, 3, square, 1), regimes=regimes)
        yield Case(kind(), (rows, 2, 2, n), regimes=regimes)
        yield Case(kind(), (n, 2, 2, 1), regimes=regimes)
        return
    if issubclass(kind, spec.Adaptive):
        yield Case(kind(output=(1,)), (rows, n, 1), regimes=regimes)
        yield Case(kind(output=(3, 2)), (rows, square, square, 2), regimes=regimes)
        yield Case(kind(output=(2, 1)), (rows, 2, 2, n), regimes=regimes)
        return
    assert issubclass(kind, spec.Windowed)
    windowed: tuple[tuple[spec.Layer, spec.Shape], ...] = (
        (kind(window=(2,)), (rows, n + 1, 1)),
        (kind(window=(3,), stride=(1,)), (rows, n + 2, 1)),
        (kind(window=(n,)), (rows, 2 * n if n < 5000 else n, 1)),
        (kind(window=(2, 2)), (rows, square + 1, 5, 1)),
        (kind(window=(2, 2)), (rows, 5, square + 1, 1)),
        (kind(window=(min(n, 33), 3), stride=(1, 1)), (rows, min(n, 33) + 1, 4, 1)),
        (kind(window=(3, min(n, 33)), stride=(2, 1)), (rows, 5, min(n, 33) + 1, 1)),
        (kind(window=(2, 2)), (rows, 2, 3, n)),
        (kind(window=(2, 2)), (n, 2, 2, 1)),
        (kind(window=(2, 1, 2)), (rows, 2, min(n, 65), 3, 1)),
    )
    for pool, size in windowed:
        yield Case(pool, size, regimes=regimes)


def sized(kind: type[spec.Layer], largest: int) -> Iterator[Case]:
    """Yield each different case of a layer whose sizes climb the ladder in one role a time."""
    regimes: tuple[str, ...] = _ENDS
    if issubclass(kind, spec.StochasticPool):  # composed everywhere, one call per cell
        regimes, largest = ("positive", "rising"), min(largest, 256)
    seen = set()
    for n in ladder(largest):
        for case in _sized(kind, n, regimes):
            if case not in seen:
                seen.add(case)
                yield case


@by_kind(FORMULAS)
def test_sizes(ask: Ask, kind: type[spec.Layer]) -> None:
    """The layer computes its formula at every size of axis, window, channels and batch."""
    ask.sweep(sized(kind, ask.profile.largest), ask.output)


@by_kind_and_dtype(FORMULAS)
def test_large(ask: Ask, kind: type[spec.Layer], dtype: str) -> None:
    """So it does where several sizes or options are large at once, in every dtype."""
    asked = large(kind, dtype, ask.profile.every)
    if ask.profile.name == "quick" and dtype != "float32":  # the first of each family
        asked = itertools.islice(asked, 8)
    ask.sweep(asked, ask.output)
