"""Max pooling: the largest value of each window (ONNX MaxPool-22)."""

from __future__ import annotations

from cnnformance.reference.forward import compute
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.selection import largest, selection_gradient
from cnnformance.reference.windows import Array
from cnnformance.spec.layers import MaxPool


@compute.register
def max_pool(layer: MaxPool, x: Array) -> Array:
    """Return ``max(x1, ..., xn)`` of each window's real cells, bit for bit."""
    return largest(layer, x)


@differentiate.register
def max_pool_gradients(layer: MaxPool, x: Array, upstream: Array) -> Gradients:
    """Return the upstream gradient at the first maximal cell of each window."""
    return selection_gradient(layer, x, upstream)
