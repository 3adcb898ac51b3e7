"""The backward pass: the gradients of a layer for its input and its weights.

``differentiate`` is a generic function; each layer's file registers its own.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from cnnformance.reference.forward import Weights, checked
from cnnformance.reference.shapes import output_shape
from cnnformance.reference.windows import Array, ShapeError
from cnnformance.spec.layers import Layer

Gradients = dict[str, Array]


@singledispatch
def differentiate(layer: Layer, x: Array, _upstream: Array, **_weights: Array) -> Gradients:
    """Return the layer's gradients for fitting shapes; registered per layer type."""
    raise NotImplementedError(f"{type(layer).__name__} has no reference for input {x.shape}")


def gradients(layer: Layer, x: Array, weights: Weights, upstream: Array) -> Gradients:
    """Return the gradients of ``sum(forward(layer, x, weights) * upstream)`` in float64.

    The keys are ``input`` and the names of the weights, with their shapes. Where a selection is
    tied, or an input is NaN, the gradient is not defined; here the first maximal cell takes all
    (``maximal`` gives every candidate). ReLU has 0 at 0, and a norm 0 at the origin.

    Raises:
        ShapeError: the input, a weight or the upstream gradient does not fit the layer.
        ValueError: the layer draws at random (stochastic pooling in training).
    """
    shape = output_shape(layer, x.shape)
    if upstream.shape != shape:
        raise ShapeError(f"{layer}: the output is {shape}, its gradient {upstream.shape}")
    with np.errstate(all="ignore"):
        upstream = upstream.astype(np.float64, copy=False)
        return differentiate(layer, x, upstream, **checked(layer, weights))
