"""What the layers share that select one cell of each window."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnformance.reference.gradients import Gradients
from cnnformance.reference.windows import Array, Located, over_windows, scatter, windows
from cnnformance.spec.layers import AdaptiveMaxPool, GlobalMaxPool, MaxPool, MinPool

Selection = MaxPool | MinPool | GlobalMaxPool | AdaptiveMaxPool


def _is_integer(dtype: np.dtype[Any]) -> bool:
    return np.issubdtype(dtype, np.integer)


def lowest(dtype: np.dtype[Any]) -> Any:
    """Return what never wins a maximum: -inf, or the smallest integer."""
    return np.iinfo(dtype).min if _is_integer(dtype) else -np.inf


def highest(dtype: np.dtype[Any]) -> Any:
    """Return what never wins a minimum: inf, or the largest integer."""
    return np.iinfo(dtype).max if _is_integer(dtype) else np.inf


def largest(layer: Located, x: Array) -> Array:
    """Return the largest real cell of each window, in the dtype of ``x``; NaN propagates."""
    return over_windows(layer, x, lowest(x.dtype), lambda block: block.max(axis=-2))


def smallest(layer: Located, x: Array) -> Array:
    """Return the smallest real cell of each window, in the dtype of ``x``; NaN propagates."""
    return over_windows(layer, x, highest(x.dtype), lambda block: block.min(axis=-2))


def maximal(layer: Selection, x: Array) -> Array:
    """Return which cells may be selected, a mask ``(batch, *out, cells, channels)``.

    True where a real cell equals the window's maximum (for min pooling, its minimum): more than
    one at a tie, none in a window with NaN. Any convex combination over the true cells is a
    gradient of the selection.
    """
    values, real = windows(layer, x, highest(x.dtype) if layer.least else lowest(x.dtype))
    with np.errstate(invalid="ignore"):  # a half-precision NaN
        peak = (values.min if layer.least else values.max)(axis=-2, keepdims=True)
    mask: Array = (values == peak) & real[..., None]
    return mask


def selection_gradient(layer: Selection, x: Array, upstream: Array) -> Gradients:
    """Return the gradient that gives each window's share to its first maximal cell."""
    candidates = maximal(layer, x)
    first = candidates & (candidates.cumsum(axis=-2) == 1)
    shares = np.where(first, upstream[..., None, :], 0.0)
    return {"input": scatter(layer, x.shape, shares)}
