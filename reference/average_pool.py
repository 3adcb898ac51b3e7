"""Average pooling: the mean of each window (ONNX AveragePool-22, PyTorch AvgPool2d)."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np

from cnnformance.reference.forward import compute
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.terms import divides_exactly, power_of_two
from cnnformance.reference.windows import (
    Array,
    Located,
    axis_cells,
    explicit_pads,
    grid,
    over_windows,
    scatter,
)
from cnnformance.spec.layers import AveragePool, Shape


def divisors(layer: Located, sizes: Shape) -> Array:
    """Return how many cells of each window count, an integer array of the output's sizes.

    Cells in the input count and, with ``count_include_pad``, those in the padding; those beyond
    the padding never do.
    """
    if not (isinstance(layer, AveragePool) and layer.count_include_pad):
        at = grid(layer, sizes)
        counted: Array = np.count_nonzero(at.cells < at.size, axis=1)
        return counted.reshape(at.out)
    counts = [
        np.count_nonzero(cells < size + after, axis=1)
        for cells, size, (_, after) in zip(
            axis_cells(layer, sizes), sizes, explicit_pads(layer, sizes), strict=True
        )
    ]
    product: Array = reduce(np.multiply.outer, counts)
    return product


def _sums(layer: Located, x: Array) -> Array:
    return over_windows(layer, x, 0.0, lambda block: block.sum(axis=-2))


def _mean_without_overflow(layer: Located, x: Array, divisor: Array) -> Array:
    """Return the mean from values scaled down by a power of two.

    The mean lies between the least and the greatest value, or 0 where padding counts, even where
    rounding the scaled sum would take it past the largest number.
    """
    shift = int(divisor.max(initial=1)).bit_length()
    mean = np.ldexp(_sums(layer, np.ldexp(x, -shift)) / divisor, shift)
    least = over_windows(layer, x, 0.0, lambda block: block.min(axis=-2))
    greatest = over_windows(layer, x, 0.0, lambda block: block.max(axis=-2))
    return np.clip(mean, least, greatest)


def mean(layer: Located, x: Array) -> Array:
    """Return the float64 mean of each window; it overflows nowhere."""
    x = x.astype(np.float64, copy=False)
    divisor = divisors(layer, x.shape[1:-1])[..., None]
    sums = _sums(layer, x)
    finite = np.isfinite(sums)
    if finite.all():
        return sums / divisor
    return np.where(finite, sums / divisor, _mean_without_overflow(layer, x, divisor))


def mean_gradient(layer: Located, x: Array, upstream: Array) -> Gradients:
    """Return an equal share of the upstream gradient for every counted cell of a window."""
    sizes = x.shape[1:-1]
    cells = grid(layer, sizes).cells.shape[1]
    share = upstream / divisors(layer, sizes)[..., None]
    shape = (*share.shape[:-1], cells, share.shape[-1])
    return {"input": scatter(layer, x.shape, np.broadcast_to(share[..., None, :], shape))}


@divides_exactly.register
def divides_average_exactly(layer: AveragePool, _shape: Shape) -> bool:
    """Whether every window counts as many cells, a power of two."""
    whole = layer.count_include_pad or layer.unpadded
    return whole and not layer.ceil_mode and power_of_two(math.prod(layer.window))


@compute.register
def average_pool(layer: AveragePool, x: Array) -> Array:
    """Return ``(x1 + ... + xn) / n`` of each window, with ``n`` from ``divisors``."""
    return mean(layer, x)


@differentiate.register
def average_pool_gradients(layer: AveragePool, x: Array, upstream: Array) -> Gradients:
    """Return ``upstream / n`` at each cell of each window."""
    return mean_gradient(layer, x, upstream)
