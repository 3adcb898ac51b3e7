"""The shapes that layers and models give, by arithmetic alone: nothing is computed."""

from __future__ import annotations

import math

from cnnformance.reference.windows import ShapeError, output_sizes
from cnnformance.spec.layers import (
    Adaptive,
    Conv,
    Dense,
    Flatten,
    Global,
    Layer,
    Model,
    Shape,
    Windowed,
)


def output_shape(layer: Layer, input_shape: Shape) -> Shape:
    """Return the shape of the output, batch included.

    Raises:
        ShapeError: rank, channels or features do not fit, or a size would be negative.
    """
    match layer:
        case Windowed() | Global() | Adaptive():
            if len(input_shape) != layer.rank + 2:
                raise ShapeError(f"{layer}: needs {layer.rank + 2} axes, got shape {input_shape}")
            channels = input_shape[-1]
            if isinstance(layer, Conv):
                if channels != layer.in_channels:
                    raise ShapeError(f"{layer}: the input has {channels} channels")
                channels = layer.out_channels
            return (input_shape[0], *output_sizes(layer, input_shape[1:-1]), channels)
        case Dense():
            if input_shape[-1:] != (layer.in_features,):
                raise ShapeError(f"{layer}: the features of an input {input_shape} do not fit")
            return (*input_shape[:-1], layer.out_features)
        case Flatten():
            if len(input_shape) <= layer.start:
                raise ShapeError(f"{layer}: an input {input_shape} has no axis to start from")
            return (*input_shape[: layer.start], math.prod(input_shape[layer.start :]))
        case _:
            return input_shape


def model_shapes(layers: Model, input_shape: Shape) -> list[Shape]:
    """Return the output shape of every layer of a model, in order; raises ``ShapeError``."""
    shapes = []
    for layer in layers:
        input_shape = output_shape(layer, input_shape)
        shapes.append(input_shape)
    return shapes
