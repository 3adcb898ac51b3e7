"""Min pooling: the smallest value of each window; its windows are those of max pooling."""

from __future__ import annotations

from cnnformance.reference.forward import Weights, compute, forward
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.propagation import propagated
from cnnformance.reference.selection import selection_gradient, smallest
from cnnformance.reference.windows import Array
from cnnformance.spec.layers import MaxPool, MinPool


@compute.register
def min_pool(layer: MinPool, x: Array) -> Array:
    """Return ``min(x1, ..., xn)`` of each window's real cells, bit for bit."""
    return smallest(layer, x)


@differentiate.register
def min_pool_gradients(layer: MinPool, x: Array, upstream: Array) -> Gradients:
    """Return the upstream gradient at the first minimal cell of each window."""
    return selection_gradient(layer, x, upstream)


@propagated.register
def propagated_by_a_minimum(layer: MinPool, _weights: Weights, error: Array) -> Array:
    """Return the largest error of each window."""
    return forward(MaxPool(**vars(layer)), error)
