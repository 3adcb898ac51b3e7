"""What a layer computes, and a model.

``compute`` is a generic function; each layer's file registers its own. Those take an input of a
fitting shape, and the weights as keyword arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from types import MappingProxyType

import numpy as np

from cnnformance.reference.shapes import output_shape
from cnnformance.reference.windows import Array, ShapeError
from cnnformance.spec.layers import Layer, Model, weight_shapes

Weights = Mapping[str, Array]

NO_WEIGHTS: Weights = MappingProxyType({})


@singledispatch
def compute(layer: Layer, x: Array, **_weights: Array) -> Array:
    """Return the layer's values for an input of a fitting shape; registered per layer type."""
    raise NotImplementedError(f"{type(layer).__name__} has no reference for input {x.shape}")


def checked(layer: Layer, weights: Weights) -> Weights:
    """Return the layer's weights, refusing those of another shape."""
    expected = weight_shapes(layer)
    actual = {name: weight.shape for name, weight in weights.items()}
    if actual != expected:
        raise ShapeError(f"{layer}: needs weights {expected}, got {actual}")
    return weights


def forward(layer: Layer, x: Array, weights: Weights = NO_WEIGHTS) -> Array:
    """Return what the layer computes for ``x``, ``(batch, *spatial, channels)``.

    Layers that select or reshape keep the dtype of ``x`` and its bits; flatten may return a view.
    Layers that sum convert to float64 first and return float64, rounded no further. NaN and
    infinity come out as IEEE 754 arithmetic in float64 has them, without warnings; a sum that
    overflows on the way to a finite mean or norm does not. A window of padding alone pools to
    the fill: -inf or the smallest integer for a maximum, the opposite for a minimum, 0 for a
    norm, and for a mean without counted padding, which has no cell to divide by, NaN.

    Raises:
        ShapeError: the input or a weight does not fit the layer.
        ValueError: the layer draws at random (stochastic pooling in training).
    """
    output_shape(layer, x.shape)
    with np.errstate(all="ignore"):
        return compute(layer, x, **checked(layer, weights))


def forward_model(layers: Model, weights_list: Sequence[Weights], x: Array) -> Array:
    """Return what a model computes: each layer on the output of the one before."""
    for layer, weights in zip(layers, weights_list, strict=True):
        x = forward(layer, x, weights)
    return x
