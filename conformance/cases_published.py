"""Cases by design, of layers as published networks have them, for which kernels are written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from cnnformance.conformance import cases_at_edges
from cnnformance.conformance.cases_spread import Sized, first, interleaved, spread
from cnnformance.conformance.per_type import PerType
from cnnformance.conformance.strategies import every_window_reads
from cnnformance.spec import layers as spec

MANY = 65537
"""Samples, or channels: more than fit into 16 bits."""

_ONE = ((1, 1), (1, 1))
_MAPS = tuple((n, n + more) for n in (1, 2, 4, 5, 7, 8, 12, 17, 33) for more in (0, 1, 14))
"""Maps whose tiles, of two to sixteen cells an axis, leave every remainder."""


def triples(*axes: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield 125 choices of one option an axis, in which any options of three axes meet.

    For up to six axes of up to five options: an orthogonal array of strength three (K. A. Bush,
    Orthogonal arrays of index unity, Annals of Mathematical Statistics 23, 1952). Its rows are the
    polynomials of degree two modulo 5, by their values at each point and their leading coefficient.
    They come in fives that have each option of each axis.
    """
    for i, j, a in itertools.product(range(5), repeat=3):
        b, c = (a + j) % 5, (a + i) % 5
        levels = [*((a + b * t + c * t * t) % 5 for t in range(5)), c]
        yield tuple(axis[n % len(axis)] for axis, n in zip(axes, levels, strict=False))


def _pads(name: str, half: spec.Shape, before: spec.Shape) -> spec.Padding:
    """Return a padding by its name: the word itself, none, at both ends alike, or before alone."""
    if name == "same":
        return name
    none = (0,) * len(half)
    ends = {"none": (none, none), "half": (half, half), "before": (before, none)}
    return tuple(zip(*ends[name], strict=True))


def _map(layer: spec.Windowed, row: int) -> spec.Shape:
    """Return a map whose windows an axis, and what is left over, change by the row."""
    pads = [(0, 0)] * layer.rank if isinstance(layer.padding, str) else layer.padding
    counts = (row % 7, row // 2 % 8, row % 3)
    sizes = []
    for axis, (extent, stride) in enumerate(zip(layer.extent, layer.stride, strict=True)):
        least = max(1, extent - sum(pads[axis]))
        sizes.append(least + stride * (2 + counts[axis]) + row // (2 + axis) % stride)
    return tuple(sizes)


_KERNELS = {
    1: ((1,), (3,), (5,), (7,), (4,)),
    2: ((1, 1), (3, 3), (5, 5), (7, 7), (4, 4)),
    3: ((1, 1, 1), (3, 3, 3), (2, 3, 1), (1, 3, 3), (2, 2, 2)),
}
_WIDE = ((3, 32), (8, 8), (16, 4), (32, 16), (72, 72))
_NARROW = ((3, 8), (8, 8), (16, 4), (1, 16), (2, 3))


def _kernels(rank: int) -> Iterator[Sized]:
    """Yield convolutions in which any three of their options meet."""
    chosen = triples(
        _KERNELS[rank],
        (1, 2, 4),
        ("half", "none", "same", "before"),
        ("one", "each", "four", "doubled"),
        _WIDE if rank == 2 else _NARROW,
        ((True, 1), (False, 1), (True, 2), (False, 2)),
    )
    for row, (window, stride, padding, grouped, (ins, outs), (bias, dilation)) in enumerate(chosen):
        groups = {"one": 1, "each": ins, "four": 4, "doubled": ins}[grouped]
        reach = tuple(dilation * (w - 1) for w in window)
        half = tuple(n // 2 for n in reach)
        layer = spec.Conv(
            window,
            stride=(stride,) * rank,
            padding=_pads(padding, half, reach),
            dilation=(dilation,) * rank,
            in_channels=max(ins, groups),
            out_channels={"each": groups, "doubled": 2 * groups}.get(grouped, max(outs, groups)),
            groups=groups,
            bias=bias,
        )
        yield vars(layer), (2, *_map(layer, row), layer.in_channels)


_POOLED = {
    1: ((2,), (3,), (7,), (9,), (4,)),
    2: ((2, 2), (3, 3), (7, 7), (9, 9), (3, 2)),
    3: ((2, 2, 2), (3, 3, 3), (2, 3, 3), (3, 2, 2), (3, 2, 4)),
}


def _windows(layer_type: type[spec.Pool], rank: int) -> Iterator[Sized]:
    """Yield poolings in which any three of their options meet.

    Strides beyond the window, and windows wholly in padding, are left out.
    """
    chosen = triples(
        _POOLED[rank],
        (2, 1, 3),
        ("none", "half", "same", "before"),
        ({}, {"ceil_mode": True}, {"count_include_pad": True}, {"dilation": (2,) * rank}),
        (1, 32, 3, 64, 8) if rank == 2 else (1, 3, 8, 2, 16),
    )
    for row, (window, stride, padding, options, channels) in enumerate(chosen):
        fields = {k: v for k, v in options.items() if k in layer_type.__dataclass_fields__}
        if padding == "same":
            fields.pop("ceil_mode", None)
        half = tuple(w // 2 for w in window)
        layer = layer_type(window, (stride,) * rank, _pads(padding, half, half), **fields)
        shape = (2, *_map(layer, row), channels)
        if stride <= min(window) and every_window_reads(layer, shape[1:-1]):
            yield vars(layer), shape


def _convolution(window: spec.Shape, channels: spec.Shape, shape: spec.Shape, **more: Any) -> Sized:
    """Return a convolution by its channels, in and out, and the batch and map of its input."""
    fields = {"window": window, "in_channels": channels[0], "out_channels": channels[1]}
    return {**fields, **more}, (*shape, channels[0])


def _tiled_convolutions() -> Iterator[Sized]:
    """Yield those that kernels compute in tiles, the wider by Winograd's algorithm."""
    for size in _MAPS:
        yield _convolution((3, 3), (1, 1), (2, *size), padding=_ONE)
    for pads in (_ONE, ((0, 0), (0, 0))):
        for size in ((5, 4), (4, 7), (9, 6), (7, 13), (15, 8), (12, 12)):
            yield _convolution((3, 3), (16, 16), (2, *size), padding=pads)


def _dense_convolutions() -> Iterator[Sized]:
    for size in ((5, 6), (7, 7), (8, 9), (14, 14)):
        yield _convolution((3, 3), (1, 2), (2, *size), padding=_ONE, stride=(2, 2))
        yield _convolution((3, 3), (2, 1), (2, *size), stride=(2, 2))
    for channels in ((8, 16), (16, 8), (1, 512), (512, 1), (64, 64)):
        yield _convolution((3, 3), channels, (2, 6, 7), padding=_ONE)
    yield _convolution((5, 5), (1, 1), (5, 33, 33), padding="same")
    yield _convolution((7, 7), (3, 8), (2, 17, 18), padding=((3, 3), (3, 3)), stride=(2, 2))
    yield _convolution((1, 1), (64, 16), (2, 5, 6))
    yield _convolution((1, 1), (16, 4), (2, 8, 8), stride=(2, 2))
    yield _convolution((3,), (1, 16), (2, 50), stride=(2,), padding=((1, 1),))
    for channels in ((8, 8), (16, 16)):
        yield _convolution((2, 2, 2), channels, (2, 2, 3, 4))
    yield _convolution((3, 3, 3), (1, 8), (2, 5, 6, 7), padding=((1, 1),) * 3)
    for rank in (1, 2, 3):
        yield _convolution((2,) * rank, (1, 1), (33, *(2, 3, 2)[:rank]))
    yield _convolution((1,), (1, MANY), (1, 2))
    yield _convolution((1,), (1, 1), (MANY, 2))
    yield _convolution((11, 11), (3, 4), (2, 35, 36), stride=(4, 4))
    for n in (4, 16):
        yield _convolution((n, n), (3, 2), (2, 2 * n + 1, 2 * n + 3), stride=(n, n))
    yield _convolution((9, 9), (1, 2), (2, 16, 17), padding=((4, 4),) * 2)
    yield _convolution((3, 3), (1, 1), (2, 72, 73), padding=_ONE)
    yield _convolution((1, 1), (128, 130), (2, 4, 5))
    yield _convolution((260,), (1, 2), (2, 300), padding=((130, 129),))
    yield _convolution((2, 2), (6, 6), (2, 3, 6))
    yield _convolution((3, 3), (4, 4), (4, 4, 4), padding=_ONE)
    for apart, size in ((18, (21, 22)), (6, (5, 9)), (12, (7, 30))):
        pads = {"padding": ((apart, apart),) * 2, "dilation": (apart, apart)}
        yield _convolution((3, 3), (2, 2), (2, *size), **pads)
    for window in ((1, 7), (7, 1), (1, 3), (3, 1), (3, 1, 1), (1, 3, 3), (3, 3, 3)):
        half = tuple((w // 2, w // 2) for w in window)
        yield _convolution(window, (16, 4), (2, 9, 8, 4)[: len(window) + 1], padding=half)


def _grouped_convolutions() -> Iterator[Sized]:
    for channels, stride in itertools.product((2, 8, 24, 32), ((1, 1), (2, 2))):
        for cells in (1, 2):
            pads = {"padding": ((cells, cells),) * 2, "dilation": (cells, cells)}
            more = {"groups": channels, "stride": stride, **pads}
            sizes = {channels: (8, 10), 2 * channels: (7, 9)}  # with each border cell read, or not
            for out, size in sizes.items():
                yield _convolution((3, 3), (channels, out), (2, *size), **more)
            more["padding"] = "same"
            yield _convolution((3, 3), (channels, channels), (2, 7, 8), **more)
            more["padding"] = ((0, 0), (0, 0))
            yield _convolution((2, 2), (channels, channels), (2, 5, 5), **more)
            yield _convolution((3, 3), (channels, channels), (2, 5, 5), **more)
    for groups, both in ((2, (2, 4)), (2, (4, 16)), (4, (8, 4)), (4, (16, 16)), (8, (16, 32))):
        yield _convolution((3, 3), both, (2, 6, 7), padding=_ONE, groups=groups)
        yield _convolution((1, 1), both, (1, 1, 1), groups=groups)
    yield _convolution((1, 1), (2, 2), (1, 1, 1), groups=2)
    yield _convolution((128,), (4, 4), (2, 140), groups=2)
    for n, step in ((4, 1), (8, 2)):
        line, space = {"stride": (step,)}, {"stride": (step,) * 3}
        yield _convolution((4,), (n, n), (2, 9), groups=n, padding=((3, 0),), **line)
        yield _convolution((3, 3, 3), (n, n), (2, 5, 4, 6), groups=n, **space)


def _pools() -> Iterator[Sized]:
    for size in ((9, 9), (10, 11), (34, 35)):
        for channels in (1, 32):
            yield {"window": (3, 3), "stride": (1, 1), "padding": _ONE}, (2, *size, channels)
            yield {"window": (3, 3), "stride": (2, 2), "padding": _ONE}, (2, *size, channels)
            yield {"window": (3, 3), "stride": (2, 2), "padding": "same"}, (2, *size, channels)
            yield {"window": (2, 2)}, (2, *size, channels)
    yield {"window": (5, 5), "stride": (1, 1)}, (2, 9, 10, 64)
    yield {"window": (3, 3), "stride": (2, 2)}, (2, 5, 6, 280)
    yield {"window": (2, 2, 2)}, (2, 3, 4, 3, 65)
    yield {"window": (2,)}, (2, 3, 65)
    yield {"window": (257,)}, (2, 600, 1)
    yield {"window": (20, 20)}, (2, 20, 41, 2)
    yield {"window": (260,), "stride": (40,), "padding": ((130, 130),)}, (2, 300, 1)
    yield {"window": (2, 2)}, (2, 3, 6, 6)
    yield {"window": (2, 2)}, (4, 4, 4, 4)
    yield {"window": (2, 2, 2)}, (MANY, 2, 2, 2, 1)
    yield {"window": (2, 2)}, (2, 144, 146, 1)
    stem = {"window": (3, 3, 3), "stride": (2, 2, 2), "padding": ((1, 1),) * 3}
    yield stem, (2, 7, 8, 8, 16)


def _whole() -> Iterator[Sized]:
    """Yield windows as large as the map that are no global poolings, and maps of one cell."""
    for rank in (1, 2, 3):
        yield {"window": (2,) * rank, "dilation": (2,) * rank}, (2, *(3,) * rank, 2)
        window = (3,) * rank
        for pads in ((1, 0), (0, 1), (1, 1)):
            for size in (3, 1):
                if size + sum(pads) >= 3:
                    yield {"window": window, "padding": (pads,) * rank}, (1, *(size,) * rank, 1)


POOLS = (*_pools(), *_whole())
DENSE: tuple[Sized, ...] = (
    ({"in_features": 1, "out_features": 1}, (33, 1)),
    ({"in_features": 3, "out_features": 2}, (65, 3)),
    ({"in_features": 1, "out_features": 1}, (MANY, 1, 1)),
    ({"in_features": 1024, "out_features": 10}, (2, 1024)),
    *(
        ({"in_features": ins, "out_features": outs, "bias": math.prod(rows) != 5}, (*rows, ins))
        for ins in (5, 70, 515)
        for outs in (3, 66, 130)
        for rows in ((1,), (5,), (33,), (2, 40))
    ),
)
GLOBAL: tuple[Sized, ...] = (
    ({}, (2, 7, 7, 64)),
    ({}, (2, 8, 8, 280)),
    ({}, (2, 66, 67, 9)),
    ({"rank": 1}, (2, 2, 65)),
    ({}, (2, 3, 6, 6)),
    ({}, (4, 4, 4, 4)),
)
ADAPTIVE: tuple[Sized, ...] = (
    ({"output": (7, 7)}, (2, 14, 15, 65)),
    ({"output": (1, 1)}, (2, 7, 7, 64)),
    ({"output": (6,)}, (2, 13, 2)),
    *(({"output": (more,)}, (2, size, 2)) for more in (7, 82, 98) for size in (2, 3, 5)),
)


@PerType
def few_windows(layer_type: type[Any], every: int = 1) -> tuple[Sized, ...]:
    """Return the first one in ``every`` of the layers with few windows along an axis."""
    del layer_type, every
    return ()


@few_windows.register(spec.Pool, spec.Conv)
def _few(layer_type: type[spec.Windowed], every: int = 1) -> tuple[Sized, ...]:
    return first(tuple(cases_at_edges.narrow(layer_type)), every)


Families = list[tuple[Sized, ...]]


@PerType
def all_families(layer_type: type[Any]) -> Families:
    """Return the families of other layers; none for layers without options.

    Each is in an order in which a prefix covers as much as it can.
    """
    del layer_type
    return []


@all_families.register(spec.Conv)
def _of_convolutions(layer_type: type[spec.Conv]) -> Families:
    return [
        tuple(cases_at_edges.long_groups()),
        tuple(cases_at_edges.grouped()),
        tuple(cases_at_edges.single(layer_type)),
        tuple(cases_at_edges.borders(layer_type)),
        tuple(_kernels(2)),
        spread(_grouped_convolutions()),
        spread(_tiled_convolutions()),
        spread(_dense_convolutions()),
    ]


@all_families.register(spec.Pool)
def _of_pools(layer_type: type[spec.Pool]) -> Families:
    return [
        tuple(cases_at_edges.single(layer_type)),
        tuple(cases_at_edges.borders(layer_type)),
        tuple(_windows(layer_type, 2)),
        spread(_pools()),
        spread(_whole()),
    ]


@all_families.register(spec.Dense)
def _of_dense(layer_type: type[spec.Dense]) -> Families:
    del layer_type
    return [spread(DENSE)]


@all_families.register(spec.Global)
def _of_global(layer_type: type[spec.Global]) -> Families:
    del layer_type
    return [GLOBAL]


@all_families.register(spec.Adaptive)
def _of_adaptive(layer_type: type[spec.Adaptive]) -> Families:
    del layer_type
    return [spread(ADAPTIVE)]


def families(layer_type: type[spec.Layer], every: int = 1) -> Families:
    """Return the first one in ``every`` of each family of layers of published networks."""
    return [first(family, every) for family in all_families(layer_type)]


def published(layer_type: type[spec.Layer], every: int = 1) -> tuple[Sized, ...]:
    """Return the layers with few windows, and then all families, the first of each first."""
    return (*few_windows(layer_type, every), *interleaved(*families(layer_type, every)))


@PerType
def _other_ranks(layer_type: type[Any]) -> Families:
    del layer_type
    return []


@_other_ranks.register(spec.Conv)
def _other_convolutions(layer_type: type[spec.Conv]) -> Families:
    del layer_type
    return [tuple(_kernels(1)), tuple(_kernels(3))]


@_other_ranks.register(spec.Pool)
def _other_pools(layer_type: type[spec.Pool]) -> Families:
    return [tuple(_windows(layer_type, 1)), tuple(_windows(layer_type, 3))]


def of_other_ranks(layer_type: type[spec.Layer], every: int = 1) -> Families:
    """Return the first one in ``every`` of each family of layers of one and of three dimensions."""
    return [first(family, every) for family in _other_ranks(layer_type)]
