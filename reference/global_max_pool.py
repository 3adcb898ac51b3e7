"""Global max pooling: the largest value of each feature map (ONNX GlobalMaxPool-22)."""

from __future__ import annotations

from cnnformance.reference.forward import compute
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.selection import largest, selection_gradient
from cnnformance.reference.windows import Array
from cnnformance.spec.layers import GlobalMaxPool


@compute.register
def global_max_pool(layer: GlobalMaxPool, x: Array) -> Array:
    """Return the largest value over all spatial axes, bit for bit."""
    return largest(layer, x)


@differentiate.register
def global_max_pool_gradients(layer: GlobalMaxPool, x: Array, upstream: Array) -> Gradients:
    """Return the upstream gradient at the first maximal cell of each feature map."""
    return selection_gradient(layer, x, upstream)
