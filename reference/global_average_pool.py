"""Global average pooling: the mean of each feature map (ONNX GlobalAveragePool-22)."""

from __future__ import annotations

from cnnformance.reference.average_pool import mean, mean_gradient
from cnnformance.reference.forward import compute
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.terms import cells, divides_exactly, power_of_two
from cnnformance.reference.windows import Array
from cnnformance.spec.layers import GlobalAveragePool, Shape


@divides_exactly.register
def divides_map_exactly(layer: GlobalAveragePool, shape: Shape) -> bool:
    """Whether the map has a power of two of cells."""
    return power_of_two(cells(layer, shape))


@compute.register
def global_average_pool(layer: GlobalAveragePool, x: Array) -> Array:
    """Return the mean over all spatial axes."""
    return mean(layer, x)


@differentiate.register
def global_average_pool_gradients(layer: GlobalAveragePool, x: Array, upstream: Array) -> Gradients:
    """Return ``upstream / (H * W)`` at every cell."""
    return mean_gradient(layer, x, upstream)
