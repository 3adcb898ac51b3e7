"""How many learnable parameters a layer or model holds, as the document counts them."""

from __future__ import annotations

import math

from cnnformance.spec.layers import Layer, Model, weight_shapes


def parameter_count(model: Layer | Model) -> int:
    """Return the exact number of weights and biases; of a model, the sum over its layers.

    ``N * M + M`` for a dense layer, window by channels for a convolution, 0 for the others. No
    input size occurs in it.
    """
    layers = [model] if isinstance(model, Layer) else model
    return sum(math.prod(shape) for layer in layers for shape in weight_shapes(layer).values())
