"""Flatten: the axes joined into one, in row-major order (ONNX Flatten-24, PyTorch Flatten)."""

from __future__ import annotations

import math

from cnnformance.reference.forward import compute
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.shapes import output_shape
from cnnformance.reference.windows import Array, ShapeError
from cnnformance.spec.layers import Flatten, Shape


@output_shape.register
def flatten_shape(layer: Flatten, input_shape: Shape) -> Shape:
    """Return the shape with the last axes joined; raises ``ShapeError``: there are none."""
    if len(input_shape) <= layer.start:
        raise ShapeError(f"{layer}: an input {input_shape} has no axis to start from")
    return (*input_shape[: layer.start], math.prod(input_shape[layer.start :]))


@compute.register
def flatten(layer: Flatten, x: Array) -> Array:
    """Return ``x`` with the axes from ``start`` on joined; a view where possible."""
    return x.reshape(output_shape(layer, x.shape))


@differentiate.register
def flatten_gradients(_layer: Flatten, x: Array, upstream: Array) -> Gradients:
    """Return the upstream gradient in the shape of ``x``."""
    return {"input": upstream.reshape(x.shape)}
