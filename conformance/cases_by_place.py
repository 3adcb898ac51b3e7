"""Selections from more cells than the integers of 16 bits, or of a half, can count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance.cases import Given, given
from cnnformance.conformance.per_type import PerType
from cnnformance.conformance.small_layers import one_window
from cnnformance.reference import bounds
from cnnformance.spec import layers as spec

_MORE = 44

Placed = tuple[spec.Layer, spec.Shape]
"""A layer, and the map that it selects from."""


@PerType
def _selections(layer_type: type[Any], cells: int) -> Iterator[Placed]:
    """Yield layers over maps of so many cells: one window."""
    for spatial in ((cells,), (2, cells // 2)):
        yield one_window(layer_type, spatial), spatial


@_selections.register(spec.Pool)
def _pairs(layer_type: type[spec.Pool], cells: int) -> Iterator[Placed]:
    yield layer_type((2,)), (cells,)
    yield layer_type((2,), (1,)), (cells,)
    yield layer_type((2, 2), (1, 2)), (3, cells // 2)


@_selections.register(spec.Adaptive)
def _halves(layer_type: type[spec.Adaptive], cells: int) -> Iterator[Placed]:
    yield layer_type((cells // 2,)), (cells,)
    yield layer_type((1,)), (cells,)
    yield layer_type((1, 1)), (2, cells // 2)


def _without_ties(spatial: spec.Shape, *, least: bool) -> Array:
    """Return a map of which no five neighbours along an axis are equal, and one value wins all."""
    values = np.zeros(spatial)
    for axis, size in enumerate(spatial):
        steps = np.arange(size) % 5 * 5**axis
        values += steps.reshape(-1, *(1,) * (len(spatial) - 1 - axis))
    values.flat[-3] += 200
    return -values if least else values


def peaks(layer_type: type[spec.Layer]) -> Iterator[Given]:
    """Yield selections whose largest values have places that narrow integers or halves miss.

    Their sizes are past what the format itself counts, or past what 16 bits do.
    """
    for dtype in ("float32", "float16", "bfloat16"):
        counted = 2 ** min(bounds.format_of(dtype).bits, 16)
        for layer, spatial in _selections(layer_type, counted + _MORE):
            x = _without_ties(spatial, least=layer.least)[None, ..., None]
            yield given(layer, np.repeat(x, 2, axis=-1).astype(dtype_named(dtype)))
