"""Dense, or fully connected: ``y = W x + b`` on the last axis (ONNX Gemm-13, PyTorch Linear)."""

from __future__ import annotations

import math

import numpy as np

from cnnformance.reference.forward import compute
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.windows import Array
from cnnformance.spec.layers import Dense


@compute.register
def dense(_layer: Dense, x: Array, *, weight: Array, bias: Array | None = None) -> Array:
    """Return ``W x + b`` in float64; with no features, the bias."""
    sums: Array = x.astype(np.float64, copy=False) @ weight.astype(np.float64, copy=False).T
    return sums if bias is None else sums + bias


@differentiate.register
def dense_gradients(
    layer: Dense, x: Array, upstream: Array, *, weight: Array, bias: Array | None = None
) -> Gradients:
    """Return the gradients of input, weight and bias, summed over all leading axes."""
    count = math.prod(x.shape[:-1])
    rows = upstream.reshape(count, layer.out_features)
    found = {
        "input": upstream @ weight.astype(np.float64, copy=False),
        "weight": rows.T @ x.reshape(count, layer.in_features).astype(np.float64, copy=False),
    }
    if bias is not None:
        found["bias"] = rows.sum(axis=0)
    return found
