"""Dense, or fully connected: ``y = W x + b`` on the last axis (ONNX Gemm-13, PyTorch Linear)."""

from __future__ import annotations

import math

import numpy as np

from cnnformance.reference.forward import compute
from cnnformance.reference.gradient_bounds import reads
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.shapes import output_shape
from cnnformance.reference.terms import terms
from cnnformance.reference.windows import Array, ShapeError
from cnnformance.spec.layers import Dense, Shape


@output_shape.register
def dense_shape(layer: Dense, input_shape: Shape) -> Shape:
    """Return the shape with the outputs in place of the features; raises ``ShapeError``."""
    if input_shape[-1:] != (layer.in_features,):
        raise ShapeError(f"{layer}: the features of an input {input_shape} do not fit")
    return (*input_shape[:-1], layer.out_features)


@terms.register
def dense_terms(layer: Dense, _shape: Shape) -> int:
    """Return the number of products, and one for the bias."""
    return layer.in_features + layer.bias


@reads.register
def dense_reads(layer: Dense, _shape: Shape) -> int:
    """Return how many outputs read a feature."""
    return layer.out_features


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
