"""Cases by design, of windows at edges: few of them, one cell each, across the ends of blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from cnnformance.conformance.cases_spread import Sized
from cnnformance.conformance.per_type import PerType, of_type
from cnnformance.conformance.small_layers import channels, one_window
from cnnformance.spec import layers as spec

_RANKS = (3, 2, 1)
_PAIRS = ((4, 8), (1, 1), (3, 2), (16, 16), (2, 3))
"""Channels of convolutions, in and out."""


def _sized(layer_type: type[spec.Layer], number: int, spatial: spec.Shape, **fields: Any) -> Sized:
    """Return a layer of windows and two samples for it; the channels change with the number."""
    ins, outs = _PAIRS[number % len(_PAIRS)]
    return {**channels(layer_type, ins, outs), **fields}, (2, *spatial, ins)


def narrow(layer_type: type[spec.Layer]) -> Iterator[Sized]:
    """Yield layers whose result is one or two cells wide along one axis, and four along others.

    One strided column comes first, of each axis; then each axis has another width and stride.
    """
    axes = [(rank, axis) for rank in _RANKS for axis in reversed(range(rank))]
    others = ((1, 2), (3, 2), (1, 1), (3, 1), (2, 2))
    widths = [[(2, 1)] * len(axes)]
    widths += [[others[(n + turn) % 5] for n in range(len(axes))] for turn in range(5)]
    for number, ((stride, count), (rank, axis)) in enumerate(
        pair for turn in widths for pair in zip(turn, axes, strict=True)
    ):
        counts = [count if n == axis else 4 for n in range(rank)]
        left_over = int(stride > 1)
        spatial = tuple(3 + (n - 1) * stride + left_over for n in counts)
        yield _sized(layer_type, number, spatial, window=(3,) * rank, stride=(stride,) * rank)


_POOLED: tuple[dict[str, Any], ...] = (
    {"stride": (2, 3, 2), "dilation": (2, 3, 2)},
    {"stride": (2, 3, 2), "ceil_mode": True},
    {"stride": (1, 1, 1), "dilation": (3, 1, 2)},
    {"stride": (1, 1, 1), "padding": "same"},
    {"stride": (2, 3, 2)},
)
_CONVOLVED: tuple[dict[str, Any], ...] = (
    {"stride": (2, 1, 2), "padding": ((1, 0), (0, 2), (2, 1))},
    {"stride": (2, 3, 2), "dilation": (2, 3, 2), "padding": ((1, 1), (1, 1), (1, 1))},
    {"padding": ((0, 2), (2, 1), (0, 3))},
    {"stride": (2, 3, 2)},
    {"stride": (4, 2, 2), "padding": ((1, 0), (1, 0), (1, 0))},  # moves windows, adds none
    {"dilation": (3, 1, 2), "padding": ((3, 3), (2, 2), (1, 1))},
    {"dilation": (3, 1, 2), "padding": "same"},
    {"groups": 2, "in_channels": 4, "out_channels": 6, "padding": ((1, 2), (0, 1), (1, 1))},
)


_OPTIONS: Mapping[type[spec.Layer], tuple[dict[str, Any], ...]] = {
    spec.Pool: _POOLED,
    spec.Conv: _CONVOLVED,
}


def single(layer_type: type[spec.Layer]) -> Iterator[Sized]:
    """Yield windows of one cell with the options that they can have, which differ by the axis."""
    options = of_type(_OPTIONS, layer_type)
    for turn, (number, option) in itertools.product(range(3), enumerate(options)):
        rank = _RANKS[(number + turn) % 3]
        fields = {k: v[:rank] if isinstance(v, tuple) else v for k, v in option.items()}
        layer, (batch, *spatial, channels) = _sized(
            layer_type, number, (6, 7, 5)[:rank], window=(1,) * rank, **fields
        )
        yield layer, (batch, *spatial, layer.get("in_channels", channels))


def borders(layer_type: type[spec.Layer]) -> Iterator[Sized]:
    """Yield windows that overlap across cells 32, 64, 128 and 256 of each axis."""
    for stride, axis in itertools.product((1, 2), range(3)):
        for rank in (rank for rank in _RANKS if axis < rank):
            window = tuple(3 if n == axis else 2 for n in range(rank))
            spatial = tuple(270 if n == axis else 3 for n in range(rank))
            strides = tuple(stride if n == axis else 1 for n in range(rank))
            yield _sized(layer_type, 2 + axis, spatial, window=window, stride=strides)


def many_cells(layer_type: type[spec.Layer]) -> Iterator[Sized]:
    """Yield windows of more cells than eight bits count, at each rank: inside, and over padding."""
    for number, window in enumerate(((7, 7, 13), (19, 33), (631,))):
        rank = len(window)
        if not issubclass(layer_type, spec.Pool | spec.Conv):
            yield from _of_whole_map(layer_type, window)
            continue
        inside = tuple(n + 3 for n in window)
        yield _sized(layer_type, number + 1, inside, window=window, stride=(2,) * rank)
        pads = tuple((n // 2, n // 2) for n in window)
        padded = {"window": window, "stride": tuple(n // 2 for n in window), "padding": pads}
        yield _sized(layer_type, number + 1, tuple(n + 1 for n in window), **padded)


def _of_whole_map(layer_type: type[spec.Layer], spatial: spec.Shape) -> Iterator[Sized]:
    """Yield the layer whose one window is a map, if it has such."""
    if layer_type.takes_images:
        yield vars(one_window(layer_type, spatial)), (2, *spatial, 2)


def beyond(layer_type: type[spec.Layer]) -> Iterator[Sized]:
    """Yield windows that span more than the map, which padding makes fit, at each rank."""
    if not issubclass(layer_type, spec.Pool | spec.Conv):
        return
    pads = ((2, 2), (3, 2), (2, 3))
    dilated = {"window": (3, 3, 2), "dilation": (2, 2, 3), "padding": "same"}
    options: tuple[dict[str, Any], ...] = (
        {"padding": "same", "stride": (2, 2, 1)},
        {"padding": "same_lower", "stride": (2, 3, 2)},
        {"padding": pads, "stride": (2, 1, 3)},
        {"stride": (1, 1, 1), **dilated},
    )
    for number, (option, rank) in enumerate(itertools.product(options, _RANKS)):
        spans: dict[str, Any] = {"window": (5, 4, 5), **option}
        fields = {k: v[:rank] if isinstance(v, tuple) else v for k, v in spans.items()}
        yield _sized(layer_type, number, (3, 2, 4)[:rank], **fields)


def units(layer_type: type[spec.Layer]) -> Iterator[Sized]:
    """Yield one sample of one cell along an axis, and of one channel, which keeps its axes."""
    for number, (rank, axis) in enumerate((r, a) for r in _RANKS for a in range(r)):
        spatial = tuple(1 if n == axis else 4 for n in range(rank))
        sizes = tuple(min(n, 2) for n in spatial)
        ins = 1 if number % 2 else 3
        shape = (1, *spatial, ins)
        if issubclass(layer_type, spec.Windowed):
            yield {"window": sizes, **channels(layer_type, ins, 2 - number % 2)}, shape
        elif issubclass(layer_type, spec.Adaptive):
            yield {"output": sizes}, shape
        elif issubclass(layer_type, spec.Global):
            yield {"rank": rank}, shape
        elif not layer_type.has_weights:
            yield {}, shape


def remainders(layer_type: type[spec.Layer]) -> Iterator[Sized]:
    """Yield sizes next to those of vectors, in every role.

    One below leaves the largest remainder, and one above the least.
    """
    for n, more in ((15, 31), (31, 7), (7, 15), (17, 33)):
        yield from _remainders(layer_type, n, more)


@PerType
def _remainders(layer_type: type[Any], n: int, more: int) -> Iterator[Sized]:
    del layer_type
    yield {}, (n, more)


@_remainders.register(spec.Dense)
def _of_dense(layer_type: type[spec.Dense], n: int, more: int) -> Iterator[Sized]:
    del layer_type
    yield {"in_features": n, "out_features": more}, (7, n)


@_remainders.register(spec.Windowed)
def _of_windows(layer_type: type[spec.Windowed], n: int, more: int) -> Iterator[Sized]:
    yield {"window": (1, 2), "stride": (1, 1), **channels(layer_type, n, more)}, (7, 1, 4, n)
    yield {"window": (n,), "stride": (1,), **channels(layer_type, 1, 1)}, (1, n + more - 1, 1)


@_remainders.register(spec.Adaptive)
def _of_outputs(layer_type: type[spec.Adaptive], n: int, more: int) -> Iterator[Sized]:
    del layer_type
    yield {"output": (n,)}, (7, more, n)


@_remainders.register(spec.Global)
def _of_maps(layer_type: type[spec.Global], n: int, more: int) -> Iterator[Sized]:
    del layer_type
    yield {"rank": 1}, (7, n, more)


def _dilated(window: spec.Shape, dilation: int, *, padded: bool) -> Sized:
    """Return a dilation of a window, and a map for three windows or more along each axis."""
    reach = [dilation * (w - 1) for w in window]
    pads = tuple((n // 2, n - n // 2) if padded else (0, 0) for n in reach)
    return {"dilation": (dilation,) * len(window), "padding": pads}, tuple(n + 3 for n in reach)


def _strided(window: spec.Shape, word: str) -> Sized:
    """Return a stride of two, and a map on which ``same`` adds an odd cell, or none to single."""
    fields = {"stride": (2,) * len(window), "padding": word}
    return fields, tuple(8 if w > 1 else 7 for w in window)


def grouped() -> Iterator[Sized]:
    """Yield grouped and depthwise convolutions, of long rows too, dilated far or strided."""
    windows: tuple[spec.Shape, ...] = (
        *((1, 5), (3, 3), (5, 1), (1, 2)),
        *((5,), (2,)),
        *((1, 1, 5), (3, 1, 1), (1, 3, 1), (2, 2, 2)),
    )
    channels = ((3, 3, 3), (4, 6, 2), (8, 8, 8), (4, 8, 4))
    for turn, (row, window) in itertools.product(range(4), enumerate(windows)):
        options = (
            _strided(window, "same"),
            _dilated(window, 4, padded=False),
            _strided(window, "same_lower"),
            _dilated(window, 5, padded=True),
        )
        column = (row + turn) % len(options)
        fields, spatial = options[column]
        ins, outs, groups = channels[(row + column) % len(channels)]
        more = {"in_channels": ins, "out_channels": outs, "groups": groups}
        yield {"window": window, **fields, **more}, (2, *spatial, ins)


_ROWS = (
    *((16, 4), (8, 8), (32, 2), (8, 12), (16, 6), (37, 14), (16, 10)),
    *((12, 8), (61, 18), (24, 4), (16, 14), (53, 10), (48, 12)),
)
"""Cells of a row and channels, both even, whose product fills blocks of 32 or leaves a remainder.

Kernels of halves take pairs of products, and blocks of 32 of them, from a row and its channels.
"""


def long_rows(layer_type: type[spec.Layer]) -> Iterator[Sized]:
    """Yield convolutions of long rows of few channels, of each rank and along more than one axis.

    A row has ten windows or more, of which a kernel takes several at once.
    """
    if not issubclass(layer_type, spec.Conv):
        return
    places = (1, 0), (2, 1), (3, 2), (2, 0)
    for number, (row, ins) in enumerate(_ROWS):
        rank, axis = places[number % 4]
        stride, groups = (1, 3)[number % 5 == 4], (1, 2)[number % 3 == 2]
        window = tuple(row if n == axis else 1 + number % 2 for n in range(rank))
        spatial = tuple(row + 12 * stride if n == axis else 3 for n in range(rank))
        fields = {
            "window": window,
            "stride": tuple(stride if n == axis else 1 for n in range(rank)),
        }
        more = {"in_channels": ins * groups, "out_channels": 4, "groups": groups}
        yield {**fields, **more}, (2, *spatial, ins * groups)


def long_groups() -> Iterator[Sized]:
    """Yield grouped and depthwise convolutions of more than 128 cells a window."""
    rows = ((131,), (135,)), ((12, 12), (13, 14)), ((1, 260), (2, 262)), ((1, 1, 131), (1, 2, 133))
    for window, spatial in rows:
        for groups in (2, 4):
            more = {"in_channels": 4, "out_channels": 4, "groups": groups}
            yield {"window": window, **more}, (2, *spatial, 4)
