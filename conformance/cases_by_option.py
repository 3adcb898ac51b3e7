"""Cases by design, for what drawing may miss: each option alone, each rank, equal sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from cnnformance.conformance.cases import Case
from cnnformance.conformance.per_type import PerType
from cnnformance.conformance.regimes import SPARSE, is_integer
from cnnformance.conformance.small_layers import channels, one_window
from cnnformance.reference import fast_algorithms
from cnnformance.spec import layers as spec

_SPATIAL = {1: (9,), 2: (7, 8), 3: (4, 6, 7)}
_WINDOWS: dict[int, tuple[tuple[spec.Shape, spec.Shape], ...]] = {
    1: (((2,), (2,)), ((3,), (2,))),
    2: (((2, 2), (2, 2)), ((3, 3), (1, 1)), ((1, 1), (2, 3)), ((3, 2), (2, 1))),
    3: (((2, 2, 2), (2, 2, 2)), ((2, 3, 1), (1, 2, 1))),
}
"""Windows and strides: side by side, overlapping, unequal, and single cells that are skipped."""


def _telling(case: Case) -> Case:
    """Return the case with weights that are not all zero, which would show nothing."""
    few = case.layer.has_weights and math.prod(spec.weight_shapes(case.layer)["weight"]) < 4
    while few and not case.weights["weight"].any():
        case = case.with_(seed=case.seed + 1)
    return case


def of_regimes(
    dtype: str,
    *pairs: tuple[spec.Layer, spec.Shape],
    regimes: tuple[str, ...] = ("integer", "negative"),
) -> Iterator[Case]:
    """Yield a case of each layer and shape, in these regimes if the layer and dtype take them.

    Sums of two samples get a third one with few values that are not zero, where the bounds are
    sharp whatever the number of terms; and where Winograd's algorithm exists, float32 is asked such
    weights too, in which it can be told from short factors.
    """
    if is_integer(dtype):
        regimes = ("integer", "ends")
    for number, (layer, shape) in enumerate(pairs):
        if layer.draws:
            yield Case(layer, shape, dtype, ("positive",))
        elif layer.elementwise:  # of negative numbers it may make zeros, as a lost tail does
            yield Case(layer, shape, dtype, regimes[::-1])
        elif layer.exact or shape[0] != 2:
            yield _telling(Case(layer, shape, dtype, regimes))
        else:
            few = SPARSE[number % len(SPARSE)]
            yield _telling(Case(layer, (3, *shape[1:]), dtype, (*regimes, few)))
            if dtype == "float32" and fast_algorithms.winograd_tiles(layer):
                yield Case(layer, shape, dtype, SPARSE, "sparse")


Group = Sequence[tuple[spec.Layer, spec.Shape]]
"""Layers that are alike, each with the shape of an input."""


@PerType
def described(layer_type: type[Any]) -> Iterator[Group]:
    """Yield a layer as the document describes it, at each rank, in groups."""
    for spatial in _SPATIAL.values():
        yield [(one_window(layer_type, spatial), (2, *spatial, 3))]


@described.register(spec.Adaptive)
def _adaptive(layer_type: type[spec.Adaptive]) -> Iterator[Group]:
    for rank, spatial in _SPATIAL.items():
        cubes = [(layer_type(output=(n,) * rank), (2, *spatial, 3)) for n in (1, 3, 4, 12)]
        yield [*cubes, (layer_type(output=(2, 4, 5)[-rank:]), (2, *(6,) * rank, 3))]


@described.register(spec.Windowed)
def _windowed(layer_type: type[spec.Windowed]) -> Iterator[Group]:
    for rank, spatial in _SPATIAL.items():
        for window, stride in _WINDOWS[rank]:
            both = (layer_type(window, stride, **channels(layer_type, 3, outs)) for outs in (3, 2))
            yield [(layer, (2, *spatial, 3)) for layer in dict.fromkeys(both)]


@described.register(spec.Dense)
def _dense(layer_type: type[spec.Dense]) -> Iterator[Group]:
    yield (layer_type(4, 3), (5, 4)), (layer_type(4, 4), (4, 4)), (layer_type(1, 5), (3, 1))


def plain(layer_type: type[spec.Layer], dtype: str = "float32") -> Iterator[Case]:
    """Yield a layer as the document describes it, at each rank; weights square, and not."""
    for group in described(layer_type):
        yield from of_regimes(dtype, *group)


Options = list[dict[str, Any]]

_PADDING: Options = [
    {"padding": "same"},
    {"padding": "same_lower"},
    {"padding": ((1, 0), (0, 2))},
    {"padding": ((0, 1), (2, 0))},  # the padded map is as large as the one before
    {"padding": ((0, 1), (2, 1))},
    {"padding": ((1, 1), (1, 1))},
]
_DILATION: Options = [{"dilation": (2, 1)}, {"dilation": (1, 3)}]
_CEIL: Options = [
    {"ceil_mode": True},
    {"ceil_mode": True, "padding": ((1, 1), (1, 1))},
    {"ceil_mode": True, "padding": ((0, 1), (0, 2))},  # a last window would start past the input
]
_TOGETHER: Options = [
    {"dilation": (2, 3), "ceil_mode": True},
    {"dilation": (3, 2), "padding": "same_lower"},
    {"dilation": (2, 1), "padding": ((0, 1), (2, 0)), "ceil_mode": True},
]


@PerType
def choices(layer_type: type[Any]) -> Options:
    """Return the options of a layer of windows, alone and in pairs: what fails most first."""
    del layer_type
    return []


@choices.register(spec.Pool)
def _of_pools(layer_type: type[spec.Pool]) -> Options:
    del layer_type
    return [*_CEIL, *_PADDING, *_DILATION, *_TOGETHER]


@choices.register(spec.AveragePool)
def _of_averages(layer_type: type[spec.AveragePool]) -> Options:
    del layer_type
    counted = [{**option, "count_include_pad": True} for option in (*_CEIL, *_PADDING)]
    ceiled = len(_CEIL)
    return [*counted[:ceiled], *_CEIL, *_PADDING, *counted[ceiled:], *_DILATION, *_TOGETHER]


@choices.register(spec.LpPool)
def _of_norms(layer_type: type[spec.LpPool]) -> Options:
    del layer_type
    orders: Options = [{"p": p} for p in (1, 3, 5, 10, 18)]
    orders += [{"p": p, "padding": ((0, 1), (1, 0)), "ceil_mode": True} for p in (1, 3)]
    return [*_CEIL, *_PADDING, *orders, *_DILATION, *_TOGETHER]


@choices.register(spec.Conv)
def _of_convolutions(layer_type: type[spec.Conv]) -> Options:
    del layer_type
    more: Options = [
        {"bias": False},
        {"padding": "same", "dilation": (2, 2)},
        {"padding": "same_lower", "dilation": (2, 3)},
        {"groups": 2, "padding": "same", "dilation": (2, 1)},
        {"groups": 2, "padding": ((1, 0), (0, 2)), "dilation": (1, 3)},
    ]
    return [{"groups": 2}, *_PADDING, *more, *_DILATION]


@PerType
def without_windows(layer_type: type[Any]) -> Group:
    """Return the options of a layer that has no windows."""
    del layer_type
    return ()


@without_windows.register(spec.Dense)
def _biases(layer_type: type[spec.Dense]) -> Group:
    several = (layer_type(3, 5), (2, 4, 3)), (layer_type(3, 3), (2, 2, 3, 3))
    square = (layer_type(3, 3), (2, 4, 3))
    return *several, square, (layer_type(4, 3, bias=False), (5, 4))


@without_windows.register(spec.Flatten)
def _axes(layer_type: type[spec.Flatten]) -> Group:
    shapes = ((2, 3, 2), (2, 3, 4, 2), (2, 3, 2, 4, 2))
    return [(layer_type(n), s) for s in shapes for n in range(2, len(s))]


_OTHER_RANKS: tuple[tuple[spec.Shape, spec.Shape, spec.Shape], ...] = (
    ((2, 3, 2), (2, 3, 1), (7, 8, 6)),
    ((3,), (3,), (8,)),
    ((3,), (1,), (8,)),
)
"""Windows, strides and maps of three axes and of one, apart and overlapping."""


def options(
    layer_type: type[Any],
    dtype: str = "float32",
    strides: tuple[spec.Shape, ...] = ((1, 1), (2, 3)),
    sizes: tuple[spec.Shape, ...] = ((7, 8), (8, 9)),
) -> Iterator[Case]:
    """Yield each option of a layer alone and in the pairs that meet at a border, axis by axis."""
    yield from of_regimes(dtype, *without_windows(layer_type))
    weights = channels(layer_type, 2, 4)
    for spatial, stride, option in itertools.product(sizes, strides, choices(layer_type)):
        layer = layer_type(window=(2, 3), stride=stride, **weights, **option)
        yield from of_regimes(dtype, (layer, (2, *spatial, 2)))
    for (windows, steps, cells), option in itertools.product(_OTHER_RANKS, choices(layer_type)):
        rank = len(windows)
        fields = {**{name: of_rank(value, rank) for name, value in option.items()}, **weights}
        layer = layer_type(window=windows, stride=steps, **fields)
        yield from of_regimes(dtype, (layer, (2, *cells, 2)))


def one_size(layer_type: type[Any], dtype: str = "float32") -> Iterator[Case]:
    """Yield each option of a layer on a map of each rank: of two axes, three, one, and one again.

    The options follow one another, those of one rank after those of another.
    """
    yield from options(layer_type, dtype, strides=((2, 3),), sizes=((7, 8),))


def in_turn(layer_type: type[Any], dtype: str, turn: int) -> Iterator[Case]:
    """Yield each option of a layer once, on a map whose rank changes with the option and turn."""
    listed = list(one_size(layer_type, dtype))
    first, count = len(without_windows(layer_type)), len(choices(layer_type))
    yield from listed[:first]
    ranks = (len(listed) - first) // max(count, 1)
    for number in range(count):
        yield listed[first + (number + turn) % ranks * count + number]


def of_rank(value: Any, rank: int) -> Any:
    """Return an option of two axes for one axis or three, which differ where the two do."""
    if not isinstance(value, tuple):
        return value
    if rank == 1 or value[0] == value[1]:
        return (*value, value[1])[-rank:]
    return (*value, (0, 1) if isinstance(value[0], tuple) else 5 - max(value))


def with_rank(layer: spec.Layer, rank: int) -> spec.Layer:
    """Return a layer for maps of two axes as one for maps of one axis or three."""
    if isinstance(layer, spec.Global):
        return layer.replace(rank=rank)
    if not isinstance(layer, spec.Windowed | spec.Adaptive):
        return layer
    return layer.replace(**{name: of_rank(value, rank) for name, value in vars(layer).items()})


def has_options(layer_type: type[spec.Layer]) -> bool:
    """Whether a layer type has options beyond what the document describes."""
    return bool(choices(layer_type) or without_windows(layer_type))
