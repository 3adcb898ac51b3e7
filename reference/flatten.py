"""Flatten: the axes joined into one, in row-major order (ONNX Flatten-24, PyTorch Flatten)."""

from __future__ import annotations

from cnnformance.reference.forward import compute
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.shapes import output_shape
from cnnformance.reference.windows import Array
from cnnformance.spec.layers import Flatten


@compute.register
def flatten(layer: Flatten, x: Array) -> Array:
    """Return ``x`` with the axes from ``start`` on joined; a view where possible."""
    return x.reshape(output_shape(layer, x.shape))


@differentiate.register
def flatten_gradients(_layer: Flatten, x: Array, upstream: Array) -> Gradients:
    """Return the upstream gradient in the shape of ``x``."""
    return {"input": upstream.reshape(x.shape)}
