"""Cases by design, of layers as published networks have them: kernels are written for these."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from cnnformance.spec import layers as spec

Sized = tuple[dict[str, Any], spec.Shape]
"""The fields of a layer, and the shape of its input."""

MANY = 65537
"""Samples, or channels: more than fit into 16 bits."""

_ONE = ((1, 1), (1, 1))
_MAPS = tuple((n, n + more) for n in (1, 2, 4, 5, 7, 8, 12, 17, 33) for more in (0, 1, 14))
"""Maps whose tiles, of two to sixteen cells an axis, leave every remainder."""


def _convolution(window: spec.Shape, channels: spec.Shape, shape: spec.Shape, **more: Any) -> Sized:
    """Return a convolution by its channels, in and out, and the batch and map of its input."""
    fields = {"window": window, "in_channels": channels[0], "out_channels": channels[1]}
    return {**fields, **more}, (*shape, channels[0])


def _dense_convolutions() -> Iterator[Sized]:
    for size in _MAPS:
        yield _convolution((3, 3), (1, 1), (2, *size), padding=_ONE)
    for size in ((5, 6), (7, 7), (8, 9), (14, 14)):
        yield _convolution((3, 3), (1, 2), (2, *size), padding=_ONE, stride=(2, 2))
        yield _convolution((3, 3), (2, 1), (2, *size), stride=(2, 2))
    for channels in ((8, 16), (16, 8), (1, 512), (512, 1), (64, 64)):
        yield _convolution((3, 3), channels, (2, 6, 7), padding=_ONE)
    yield _convolution((5, 5), (1, 1), (5, 33, 33), padding="same")
    yield _convolution((7, 7), (3, 8), (2, 17, 18), padding=((3, 3), (3, 3)), stride=(2, 2))
    yield _convolution((1, 1), (64, 16), (2, 5, 6))
    yield _convolution((3,), (1, 16), (2, 50), stride=(2,), padding=((1, 1),))
    for channels in ((8, 8), (16, 16)):
        yield _convolution((2, 2, 2), channels, (2, 2, 3, 4))
    yield _convolution((3, 3, 3), (1, 8), (2, 5, 6, 7), padding=((1, 1),) * 3)
    for rank in (1, 2, 3):
        yield _convolution((2,) * rank, (1, 1), (33, *(2, 3, 2)[:rank]))
    yield _convolution((1,), (1, MANY), (1, 2))
    yield _convolution((1,), (1, 1), (MANY, 2))


def _grouped_convolutions() -> Iterator[Sized]:
    for channels, stride in itertools.product((2, 8, 24, 32), ((1, 1), (2, 2))):
        for cells in (1, 2):
            pads = {"padding": ((cells, cells),) * 2, "dilation": (cells, cells)}
            more = {"groups": channels, "stride": stride, **pads}
            sizes = {channels: (8, 10), 2 * channels: (7, 9)}  # with each border cell read, or not
            for out, size in sizes.items():
                yield _convolution((3, 3), (channels, out), (2, *size), **more)
            more["padding"] = ((0, 0), (0, 0))
            yield _convolution((2, 2), (channels, channels), (2, 5, 5), **more)
            yield _convolution((3, 3), (channels, channels), (2, 5, 5), **more)
    for groups, both in ((2, (2, 4)), (2, (4, 16)), (4, (8, 4)), (4, (16, 16)), (8, (16, 32))):
        yield _convolution((3, 3), both, (2, 6, 7), padding=_ONE, groups=groups)
        yield _convolution((1, 1), both, (1, 1, 1), groups=groups)
    yield _convolution((1, 1), (2, 2), (1, 1, 1), groups=2)
    yield _convolution((128,), (4, 4), (2, 140), groups=2)


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
    yield {"window": (2, 2, 2)}, (MANY, 2, 2, 2, 1)


def _whole() -> Iterator[Sized]:
    """Yield padded windows as large as the map, which are no global poolings, and maps of one."""
    for rank in (1, 2, 3):
        window = (3,) * rank
        for pads in ((1, 0), (0, 1), (1, 1)):
            for size in (3, 1):
                if size + sum(pads) >= 3:
                    yield {"window": window, "padding": (pads,) * rank}, (1, *(size,) * rank, 1)


POOLS = (*_pools(), *_whole())
CONVOLUTIONS = (*_dense_convolutions(), *_grouped_convolutions())
DENSE: tuple[Sized, ...] = (
    ({"in_features": 1, "out_features": 1}, (33, 1)),
    ({"in_features": 3, "out_features": 2}, (65, 3)),
    ({"in_features": 1, "out_features": 1}, (MANY, 1, 1)),
    ({"in_features": 1024, "out_features": 10}, (2, 1024)),
)
GLOBAL: tuple[Sized, ...] = (({}, (2, 7, 7, 64)), ({}, (2, 8, 8, 280)), ({"rank": 1}, (2, 2, 65)))
ADAPTIVE: tuple[Sized, ...] = (
    ({"output": (7, 7)}, (2, 14, 15, 65)),
    ({"output": (1, 1)}, (2, 7, 7, 64)),
    ({"output": (6,)}, (2, 13, 2)),
)


def usual(kind: type[spec.Layer]) -> tuple[Sized, ...]:
    """Return the layers of a kind with their inputs; none for layers without options."""
    if issubclass(kind, spec.Conv):
        return CONVOLUTIONS
    if issubclass(kind, spec.Dense):
        return DENSE
    if issubclass(kind, spec.Global):
        return GLOBAL
    if issubclass(kind, spec.Adaptive):
        return ADAPTIVE
    return POOLS if issubclass(kind, spec.Pool) else ()
