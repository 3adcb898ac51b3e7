"""Sizes at which kernels change their ways: vector tails, blocks, powers of two, long axes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_by_size import large
from cnnformance.conformance.parametrize import by_layer_type, by_layer_type_and_dtype
from cnnformance.conformance.per_type import PerType
from cnnformance.conformance.question import Question
from cnnformance.conformance.small_layers import channels
from cnnformance.conformance.test_output import FORMULAS
from cnnformance.spec import layers as spec

_SMALL = (*range(1, 20), 23, 31, 32, 33, 37, 47, 61, 63, 64, 65, 97, 127, 128, 129)
_FEW = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 32, 33, 64, 65, 128, 129, 257, 511)
_ENDS = ("rising", "falling", "integer")
"""Regimes that put the extreme value of every window at its end, at its start, and anywhere."""
_SUMS = ("rising", "integer", "onehot")
"""Regimes whose sums have each term, terms of either sign, and one term alone."""


def ladder(largest: int) -> Iterator[int]:
    """Yield small sizes, then each power of two with its neighbours, then a few primes.

    Below 1024 only the sizes just past those at which kernels change.
    """
    if largest < 1024:
        yield from (n for n in _FEW if n <= largest)
        return
    yield from _SMALL
    power = 256
    while power <= largest:
        yield from (power - 1, power, power + 1)
        power *= 2
    yield from (n for n in (251, 509, 1021, 8191, 65521) if n < largest)


Role = tuple[spec.Layer, spec.Shape]
"""A layer and its input, in which one size has a role: channels, a window, an axis, the batch."""


def _square(n: int) -> int:
    """Return the side of a square map: the size itself, unless it is large."""
    return n if n <= 33 else 2


@PerType
def roles(layer_type: type[Any], n: int, rows: int) -> Iterator[Role]:
    """Yield a layer with the size n in each role."""
    square = _square(n)
    yield layer_type(), (rows, n, 1)
    yield layer_type(), (rows, square, square, 3)
    yield layer_type(), (n, 2, 2)


@roles.register(spec.Dense)
def _dense(layer_type: type[spec.Dense], n: int, rows: int) -> Iterator[Role]:
    square = _square(n)
    yield layer_type(n, 3), (rows, n)
    yield layer_type(5, n), (rows, 5)
    yield layer_type(square, square), (rows, square)
    yield layer_type(3, 2), (n, 3)


@roles.register(spec.Conv)
def _conv(layer_type: type[spec.Conv], n: int, rows: int) -> Iterator[Role]:
    some, square = min(n, 4097), _square(n)
    yield layer_type((3,)), (rows, n + 2, 1)
    yield layer_type((some,)), (rows, some + 1, 1)
    yield layer_type((2, 3), in_channels=2, out_channels=2), (rows, square + 1, square + 2, 2)
    yield layer_type((2,), in_channels=some, out_channels=2), (rows, 3, some)
    yield layer_type((2,), in_channels=2, out_channels=some), (rows, 3, 2)
    yield layer_type((2, 2), out_channels=2), (n, 2, 3, 1)


@roles.register(spec.Global)
def _global(layer_type: type[spec.Global], n: int, rows: int) -> Iterator[Role]:
    square = _square(n)
    yield layer_type(1), (rows, n, 1)
    yield layer_type(), (rows, square, 3, 1)
    yield layer_type(), (rows, 3, square, 1)
    yield layer_type(), (rows, 2, 2, n)
    yield layer_type(), (n, 2, 2, 1)


@roles.register(spec.Adaptive)
def _adaptive(layer_type: type[spec.Adaptive], n: int, rows: int) -> Iterator[Role]:
    yield layer_type((1,)), (rows, n, 1)
    yield layer_type((3, 2)), (rows, _square(n), _square(n), 2)
    yield layer_type((2, 1)), (rows, 2, 2, n)


@roles.register(spec.Windowed)
def _windowed(layer_type: type[spec.Windowed], n: int, rows: int) -> Iterator[Role]:
    square = _square(n)
    yield layer_type((2,)), (rows, n + 1, 1)
    yield layer_type((3,), (1,)), (rows, n + 2, 1)
    yield layer_type((n,)), (rows, 2 * n if n < 5000 else n, 1)
    yield layer_type((2, 2)), (rows, square + 1, 5, 1)
    yield layer_type((2, 2)), (rows, 5, square + 1, 1)
    yield layer_type((min(n, 33), 3), (1, 1)), (rows, min(n, 33) + 1, 4, 1)
    yield layer_type((3, min(n, 33)), (2, 1)), (rows, 5, min(n, 33) + 1, 1)
    yield layer_type((2, 2)), (rows, 2, 3, n)
    yield layer_type((2, 2)), (n, 2, 2, 1)
    yield layer_type((2, 1, 2)), (rows, 2, min(n, 65), 3, 1)


@PerType
def other_roles(layer_type: type[Any], n: int, rows: int) -> Iterator[Role]:
    """Yield layers of other ranks, and grouped ones, with the size n in each role."""
    del layer_type, n, rows
    yield from ()


@other_roles.register(spec.Global)
def _other_global(layer_type: type[spec.Global], n: int, rows: int) -> Iterator[Role]:
    yield layer_type(1), (rows, 2, n)
    yield layer_type(3), (rows, 2, 1, 2, n)
    yield layer_type(3), (n, 2, 1, 2, 1)


@other_roles.register(spec.Adaptive)
def _other_adaptive(layer_type: type[spec.Adaptive], n: int, rows: int) -> Iterator[Role]:
    yield layer_type((2,)), (rows, 3, n)
    yield layer_type((2, 1, 1)), (rows, 3, 2, 2, n)
    yield layer_type((2, 1, 2)), (rows, 3, n, 2, 1)
    yield layer_type((n,)), (rows, 3, 1)


@other_roles.register(spec.Windowed)
def _other_windowed(layer_type: type[spec.Windowed], n: int, rows: int) -> Iterator[Role]:
    yield from _along_each_axis(layer_type, n, rows)
    yield layer_type((2, 2, 2)), (rows, 2, 3, 2, n)
    yield layer_type((2,)), (rows, 3, n)


@other_roles.register(spec.Conv)
def _other_conv(layer_type: type[spec.Conv], n: int, rows: int) -> Iterator[Role]:
    for rank in (3, 2, 1):
        window, spatial = (2,) * rank, (2, 3, 2)[:rank]
        halves = layer_type(window, in_channels=2 * n, out_channels=4, groups=2)
        yield layer_type(window, out_channels=n), (rows, *spatial, 1)
        yield layer_type(window, in_channels=n, out_channels=n, groups=n), (rows, *spatial, n)
        yield halves, (rows, *spatial, 2 * n)
        yield layer_type(window, in_channels=n), (rows, *spatial, n)
    yield from _along_each_axis(layer_type, n, rows)


def _along_each_axis(layer_type: type[spec.Windowed], n: int, rows: int) -> Iterator[Role]:
    """Yield windows and maps that are long along one axis of each rank, and many samples."""
    two = channels(layer_type, 2, 2)
    count = two.get("in_channels", 1)
    for rank in (3, 2, 1):
        ones, pair = (1,) * rank, (2,) * rank
        for axis in range(rank):
            line, around = ones[:axis], ones[axis + 1 :]
            yield layer_type((*line, n, *around), ones, **two), (rows, *line, n + 1, *around, count)
            spatial = (*pair[:axis], n + 1, *pair[axis + 1 :])
            yield layer_type(pair, ones, **two), (rows, *spatial, count)
        yield layer_type(pair, **two), (n, *pair, count)


def sized(layer_type: type[spec.Layer], largest: int) -> Iterator[Case]:
    """Yield each different case of a layer whose sizes climb the ladder in one role a time.

    In other ranks and in groups they climb a shorter one, of a single size where the first is short
    too: it is past 128, and leaves a rest over of any vector or block.
    """
    regimes: tuple[str, ...] = _ENDS if layer_type.exact else _SUMS
    if layer_type.draws:  # composed everywhere, one call per cell
        regimes, largest = ("positive", "rising"), min(largest, 256)
    elif layer_type.exact and not layer_type.takes_images:
        regimes = ("normal", "integer")
    rows = 2 if layer_type.draws else 3
    sizes = (131,) if largest < 1024 else (131, 5, 18, 33, 64, 260)
    climbing = (
        *(role for n in ladder(largest) for role in roles(layer_type, n, rows)),
        *(role for n in sizes for role in other_roles(layer_type, n, rows)),
    )
    for layer, shape in dict.fromkeys(climbing):
        yield Case(layer, shape, regimes=regimes)


@by_layer_type(FORMULAS)
def test_sizes(ask: Question, layer_type: type[spec.Layer]) -> None:
    """The layer computes its formula at every size of axis, window, channels and batch."""
    ask.sweep(sized(layer_type, ask.profile.largest), ask.output)


@by_layer_type_and_dtype(FORMULAS)
def test_large(ask: Question, layer_type: type[spec.Layer], dtype: str) -> None:
    """The layer computes its formula where several sizes or options are large, in every dtype."""
    asked = large(layer_type, dtype, ask.profile.every)
    if ask.profile.name == "quick" and dtype != "float32":  # the first of each family
        asked = itertools.islice(asked, 32)
    ask.sweep(asked, ask.output)
