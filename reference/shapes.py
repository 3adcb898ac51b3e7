"""The shapes that layers and models give, by arithmetic alone: nothing is computed."""

from __future__ import annotations

from functools import singledispatch

from cnnformance.reference.windows import Located, ShapeError, output_sizes
from cnnformance.spec.layers import Adaptive, Global, Layer, Model, Shape, Windowed


@singledispatch
def output_shape(layer: Layer, input_shape: Shape) -> Shape:
    """Return the shape of the output, batch included: that of the input, unless registered.

    Raises:
        ShapeError: rank, channels or features do not fit, or a size would be negative.
    """
    del layer
    return input_shape


@output_shape.register(Windowed)
@output_shape.register(Global)
@output_shape.register(Adaptive)
def image_shape(layer: Located, input_shape: Shape) -> Shape:
    """Return the output's sizes in place of the spatial ones; raises ``ShapeError``."""
    if len(input_shape) != layer.rank + 2:
        raise ShapeError(f"{layer}: needs {layer.rank + 2} axes, got shape {input_shape}")
    return (input_shape[0], *output_sizes(layer, input_shape[1:-1]), input_shape[-1])


def model_shapes(layers: Model, input_shape: Shape) -> list[Shape]:
    """Return the output shape of every layer of a model, in order; raises ``ShapeError``."""
    shapes = []
    for layer in layers:
        input_shape = output_shape(layer, input_shape)
        shapes.append(input_shape)
    return shapes
