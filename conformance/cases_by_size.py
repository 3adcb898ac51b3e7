"""Cases by design, of sizes and options past those at which kernels work in blocks or tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from cnnformance.conformance import cases_at_edges
from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_by_option import of_regimes
from cnnformance.conformance.cases_published import MANY, families, few_windows, of_other_ranks
from cnnformance.conformance.cases_published import POOLS as PUBLISHED_POOLS
from cnnformance.conformance.cases_spread import Sized, first, interleaved, spread
from cnnformance.conformance.parametrize import HALVES
from cnnformance.conformance.per_type import PerType, of_type
from cnnformance.conformance.small_layers import channels
from cnnformance.reference import bounds
from cnnformance.spec import layers as spec

CONVOLUTIONS: tuple[Sized, ...] = (
    ({"window": (3, 3), "in_channels": 2, "out_channels": 3}, (2, 5, 70, 2)),
    ({"window": (3, 2), "in_channels": 2, "out_channels": 3}, (2, 67, 4, 2)),
    ({"window": (7, 7), "in_channels": 1, "out_channels": 2}, (2, 9, 10, 1)),
    ({"window": (1, 9), "in_channels": 2, "out_channels": 2}, (2, 3, 12, 2)),
    ({"window": (2, 2, 2), "in_channels": 2, "out_channels": 2}, (2, 19, 3, 4, 2)),
    ({"window": (1, 1), "in_channels": 17, "out_channels": 20}, (2, 4, 3, 17)),
    ({"window": (2, 2), "in_channels": 33, "out_channels": 33}, (2, 4, 5, 33)),
    ({"window": (2, 2), "in_channels": 70, "out_channels": 3}, (1, 4, 5, 70)),
    ({"window": (3,), "in_channels": 1, "out_channels": 1}, (9, 4, 1)),
    ({"window": (2,), "in_channels": 1, "out_channels": 1}, (1, 140_003, 1)),
    ({"window": (2,), "in_channels": 1, "out_channels": 2}, (MANY, 2, 1)),
    ({"window": (3,), "stride": (2,), "in_channels": 2, "out_channels": 2}, (2, 131, 2)),
    *(
        (
            {"window": (3, 2), "in_channels": i, "out_channels": o, "groups": i},
            (2, 6, 5, i),
        )
        for i, o in ((4, 8), (9, 9), (12, 24), (40, 40))
    ),
    (
        {
            "window": (2, 2, 2),
            "dilation": (1, 2, 3),
            "in_channels": 2,
            "out_channels": 4,
            "groups": 2,
        },
        (2, 5, 6, 8, 2),
    ),
    (
        {
            "window": (2, 2),
            "dilation": (17, 5),
            "padding": ((2, 3), (1, 0)),
            "in_channels": 2,
            "out_channels": 2,
        },
        (2, 21, 12, 2),
    ),
    ({"window": (2, 3), "dilation": (4, 4), "in_channels": 2, "out_channels": 2}, (2, 9, 13, 2)),
    (
        {
            "window": (2, 2),
            "stride": (2, 2),
            "dilation": (2, 3),
            "padding": "same_lower",
            "in_channels": 2,
            "out_channels": 2,
        },
        (2, 9, 11, 2),
    ),
    (
        {
            "window": (3, 3),
            "stride": (1, 3),
            "padding": ((1, 1), (0, 2)),
            "in_channels": 2,
            "out_channels": 2,
        },
        (2, 7, 8, 2),
    ),
    (
        {"window": (1, 1), "padding": ((1, 1), (1, 2)), "in_channels": 3, "out_channels": 2},
        (2, 4, 5, 3),
    ),
    ({"window": (2,), "padding": ((3, 2),), "in_channels": 2, "out_channels": 2}, (2, 5, 2)),
    (
        {
            "window": (1,),
            "stride": (2,),
            "padding": ((1, 1),),
            "in_channels": 2,
            "out_channels": 2,
        },
        (2, 6, 2),
    ),
)
POOLS: tuple[Sized, ...] = (
    ({"window": (2, 2)}, (2, 4, 71, 2)),
    ({"window": (2, 2)}, (2, 127, 5, 2)),
    ({"window": (6, 6), "stride": (3, 2)}, (2, 13, 12, 2)),
    ({"window": (40,), "stride": (7,)}, (2, 131, 2)),
    ({"window": (3, 4, 3)}, (2, 7, 9, 6, 2)),
    ({"window": (2, 2, 2)}, (2, 19, 4, 5, 2)),
    ({"window": (2,), "stride": (1,)}, (2, 140_003, 1)),
    ({"window": (2,)}, (MANY, 2, 1)),
)
OPTIONS: tuple[Sized, ...] = (
    *(
        (
            {
                "window": (3,),
                "stride": (2,),
                "dilation": (2,),
                "padding": (pads,),
                "ceil_mode": True,
            },
            (2, n, 2),
        )
        for pads in ((1, 0), (0, 1), (1, 1))
        for n in (8, 9, 10)
    ),
    *(
        (
            {
                "window": (2,),
                "stride": (3,),
                "dilation": (2,),
                "padding": ((1, after),),
                "ceil_mode": True,
            },
            (2, n, 2),
        )
        for after in (0, 1)
        for n in (5, 6, 7)
    ),
    (
        {"window": (2, 2, 2), "stride": (2, 3, 2), "dilation": (2, 1, 2), "ceil_mode": True},
        (2, 6, 6, 7, 2),
    ),
    ({"window": (2, 2), "stride": (1, 1), "dilation": (5, 17)}, (2, 8, 20, 2)),
)
_SPARSE: tuple[Sized, ...] = tuple(
    ({"window": (window,), "stride": (stride,), "padding": word}, (2, n, 2))
    for word in ("same", "same_lower")
    for window, stride in ((1, 3), (2, 5))
    for n in range(stride, 2 * stride + 2)
)
"""Strides past the window, at which ``same`` needs less than no padding."""


def left_over(layer_type: type[spec.Layer]) -> Iterator[Sized]:
    """Yield layers whose number of windows depends on what is left over at the end of a map."""
    ceiled = OPTIONS if issubclass(layer_type, spec.Pool) else ()
    for fields, shape in (*ceiled, *_SPARSE, *cases_at_edges.beyond(layer_type)):
        yield {**channels(layer_type, shape[-1], 3), **fields}, shape


_GLOBAL: tuple[Sized, ...] = tuple(
    ({"rank": len(shape) - 2}, shape)
    for shape in (
        (2, 3, 70, 2),
        (2, 70, 3, 2),
        (2, 11, 12, 10, 2),
        (2, 2001, 2),
        (2, 70001, 1),
        (MANY, 2, 1),
    )
)
_ADAPTIVE: tuple[Sized, ...] = (
    ({"output": (130,)}, (2, 300, 2)),
    ({"output": (130, 2)}, (2, 300, 3, 1)),
    ({"output": (5, 4)}, (2, 5, 4, 2)),
    # ends of windows that a scale, a reciprocal or a fraction, in halves to doubles, gets wrong
    ({"output": (83,)}, (2, 83, 2)),
    ({"output": (75,)}, (2, 87, 2)),
    ({"output": (30, 2)}, (2, 70, 3, 1)),
    ({"output": (2, 49, 3)}, (2, 3, 7, 4, 1)),
    ({"output": (1,)}, (MANY, 2, 1)),
    # ends that are products past what float32 counts by ones
    ({"output": (32_790,)}, (2, 65_580, 1)),
    ({"output": (5_000,)}, (2, 12_347, 1)),
)
BY_SIZE: Mapping[type[spec.Layer], tuple[Sized, ...]] = {
    spec.Pool: (*POOLS, *OPTIONS, *_SPARSE),
    spec.Dense: (
        ({"in_features": 515, "out_features": 3}, (1, 515)),
        ({"in_features": 1025, "out_features": 2}, (2, 1025)),
        ({"in_features": 2049, "out_features": 1}, (1, 2049)),
        ({"in_features": 70, "out_features": 66}, (17, 70)),
        ({"in_features": 53, "out_features": 5}, (3, 53)),
        ({"in_features": 3, "out_features": 2}, (2, 3, 2, 2, 3)),
        ({"in_features": 3, "out_features": 2}, (1300, 3)),
        ({"in_features": 2, "out_features": 1}, (MANY, 2)),
    ),
    spec.Conv: (
        *CONVOLUTIONS,
        *(({**fields, "in_channels": 2, "out_channels": 3}, shape) for fields, shape in _SPARSE),
    ),
    spec.StochasticPool: POOLS[:-2],
    spec.GlobalAveragePool: _GLOBAL,
    spec.GlobalMaxPool: (*_GLOBAL, ({"rank": 1}, (2, 4 * MANY, 2))),
    spec.AdaptiveAveragePool: _ADAPTIVE,
    spec.AdaptiveMaxPool: _ADAPTIVE,
    spec.Flatten: (
        ({}, (2, 2, 3, 2, 4, 2)),
        ({"start": 2}, (2, 2, 3, 2, 4, 2)),
        ({}, (3, 70, 5)),
        ({}, (1, 350, 401)),
        ({}, (MANY, 2, 1)),
    ),
    spec.Layer: (
        *(({}, (2, 5003)), ({}, (2, 140_003)), ({}, (2, 7, 11, 5))),
        *(({}, (37,)), ({}, (2, 3, 2, 2, 3, 2))),  # of one axis, and of six
    ),
}
"""By type or base class: sizes past those of blocks and of 16 bits."""
COUNTED = spread(
    ({**fields, "count_include_pad": True}, shape)
    for fields, shape in (*OPTIONS, *PUBLISHED_POOLS)
    if fields.keys() & {"padding", "ceil_mode"}
)


@PerType
def _positions(layer_type: type[Any], most: int) -> Iterator[Sized]:
    """Yield layers over more places than ``most``, along each axis and in all."""
    del layer_type, most
    yield from ()


@_positions.register(spec.Adaptive)
def _adaptive_positions(layer_type: type[spec.Adaptive], most: int) -> Iterator[Sized]:
    del layer_type
    more = most + 44
    yield {"output": (more // 3,)}, (2, more, 1)
    yield {"output": (3, 2)}, (2, 4, more, 1)
    yield {"output": (more, 2)}, (2, 7, 3, 1)


@_positions.register(spec.Global)
def _global_positions(layer_type: type[spec.Global], most: int) -> Iterator[Sized]:
    del layer_type
    yield from (({"rank": len(line)}, (2, *line, 1)) for line in _lines(most)[:2])


@_positions.register(spec.Pool, spec.Conv)
def _windowed_positions(layer_type: type[spec.Windowed], most: int) -> Iterator[Sized]:
    side = math.isqrt(most) + 3
    strided: tuple[tuple[spec.Shape, int], ...] = (((2 * most + 88,), 2), ((side, side), 2))
    for line, stride in (*((line, 1) for line in _lines(most)), *strided):
        fields = {"window": (2,) * len(line), "stride": (stride,) * len(line)}
        yield {**fields, **channels(layer_type, 1, 2)}, (2, *line, 1)


def _lines(most: int) -> tuple[spec.Shape, ...]:
    """Return maps of more cells than ``most``."""
    more = most + 44
    return (more,), (3, more), (more, 2), (2, more, 2), (2, 2, more)


def large(layer_type: type[spec.Layer], dtype: str = "float32", every: int = 1) -> Iterator[Case]:
    """Yield the cases of a layer type, in regimes that show a lost tail, a swap and a drowned sum.

    Of the layers of published networks it is one in ``every``; those of one and three dimensions in
    float32 and float64 alone. Few windows come first, for which dtypes have kernels of their own;
    then each prefix holds its share of every family. Halves are asked with more places than they
    can count.
    """
    few = few_windows(layer_type, max(1, every // 2) if dtype == "float32" else every)
    sized = [
        *families(layer_type, every),
        spread(of_type(BY_SIZE, layer_type)),
        tuple(cases_at_edges.units(layer_type)),
        tuple(cases_at_edges.remainders(layer_type)),
        tuple(cases_at_edges.many_cells(layer_type)),
        tuple(cases_at_edges.long_rows(layer_type)),
        tuple(cases_at_edges.beyond(layer_type)),
    ]
    if "count_include_pad" in layer_type.__dataclass_fields__:
        sized.append(first(COUNTED, every))
    if dtype in HALVES:
        sized.insert(0, tuple(_positions(layer_type, 2 ** bounds.format_of(dtype).bits)))
    if dtype in ("float32", "float64"):
        sized += of_other_ranks(layer_type, every)
    regimes: tuple[str, ...] = ("negative", "integer")
    batch = 2
    if layer_type.draws:
        regimes = ("positive", "faint")
    elif layer_type.exact:  # the extreme value at either end, or in no padding
        regimes = ("rising", "falling", "negative")
        batch = 3
    pairs = (
        (layer_type(**fields), (batch if n == 2 else n, *rest))
        for fields, (n, *rest) in (*few, *interleaved(*sized))
    )
    yield from of_regimes(dtype, *pairs, regimes=regimes)
    if layer_type.averages and issubclass(
        layer_type, spec.Windowed
    ):  # a running sum loses what larger neighbours drown
        running = [
            (layer_type(window=window, stride=(1,) * len(window)), (2, *spatial, 2))
            for window, spatial in (((3,), (40,)), ((9,), (80,)), ((7, 5), (24, 9)))
        ]
        yield from of_regimes(dtype, *running, regimes=("wide", "cancellation"))
