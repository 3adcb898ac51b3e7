"""Adaptive pooling: windows chosen to give an output size (PyTorch AdaptiveAvgPool2d)."""

from __future__ import annotations

from cnnformance.reference.average_pool import mean, mean_gradient
from cnnformance.reference.forward import compute
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.selection import largest, selection_gradient
from cnnformance.reference.terms import cells, divides_exactly, power_of_two
from cnnformance.reference.windows import Array
from cnnformance.spec.layers import AdaptiveAveragePool, AdaptiveMaxPool, Shape


@divides_exactly.register
def divides_adaptive_exactly(layer: AdaptiveAveragePool, shape: Shape) -> bool:
    """Whether all windows are alike, of a power of two of cells."""
    alike = all(n % m == 0 for n, m in zip(shape[1:-1], layer.output, strict=True))
    return alike and power_of_two(cells(layer, shape))


@compute.register
def adaptive_average_pool(layer: AdaptiveAveragePool, x: Array) -> Array:
    """Return the mean of each window."""
    return mean(layer, x)


@differentiate.register
def adaptive_average_pool_gradients(
    layer: AdaptiveAveragePool, x: Array, upstream: Array
) -> Gradients:
    """Return an equal share of the upstream gradient at each cell of each window."""
    return mean_gradient(layer, x, upstream)


@compute.register
def adaptive_max_pool(layer: AdaptiveMaxPool, x: Array) -> Array:
    """Return the largest value of each window, bit for bit."""
    return largest(layer, x)


@differentiate.register
def adaptive_max_pool_gradients(layer: AdaptiveMaxPool, x: Array, upstream: Array) -> Gradients:
    """Return the upstream gradient at the first maximal cell of each window."""
    return selection_gradient(layer, x, upstream)
