"""ReLU: ``max(x, 0)``, element by element (ONNX Relu-14)."""

from __future__ import annotations

import numpy as np

from cnnformance.reference.forward import compute
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.windows import Array
from cnnformance.spec.layers import ReLU


@compute.register
def relu(_layer: ReLU, x: Array) -> Array:
    """Return ``max(x, 0)`` in the dtype of ``x``; NaN propagates."""
    return np.maximum(x, np.zeros((), x.dtype))


@differentiate.register
def relu_gradients(_layer: ReLU, x: Array, upstream: Array) -> Gradients:
    """Return the upstream gradient where ``x`` is positive, else 0."""
    return {"input": np.where(x > 0, upstream, 0.0)}
