"""The layers of Keras, whichever framework computes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Tensor, call
from cnnformance.adapters.compositions import rounds_down
from cnnformance.adapters.padding import undilated, word
from cnnformance.adapters.table import Definition, Table
from cnnformance.spec.layers import (
    Adaptive,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Global,
    Layer,
    MaxPool,
    Pool,
    ReLU,
)


def keras_layer(layer: Layer) -> tuple[str, dict[str, Any]]:  # noqa: PLR0911 - a table, one case per layer
    """Return the name of a layer of Keras, and its options."""
    rank = getattr(layer, "rank", 0)
    if isinstance(layer, Pool):
        undilated(layer, "Keras")
    zeros = {"kernel_initializer": "zeros"}  # random ones take long, and are replaced
    match layer:
        case MaxPool(window, stride) | AveragePool(window, stride):
            at = {"pool_size": window, "strides": stride, "padding": word(layer, "Keras")}
            return f"{type(layer).__name__}ing{rank}D", at
        case Global():
            return f"{type(layer).__name__}ing{rank}D", {}
        case Adaptive(output):
            return f"{type(layer).__name__}ing{rank}D", {"output_size": output}
        case Conv(stride=stride, dilation=dilation) if max(stride) > 1 and max(dilation) > 1:
            raise Unsupported("Keras convolves with a stride or a dilation, and not both")
        case Conv(window, stride, _, dilation, _, filters, groups, bias):
            at = {"strides": stride, "padding": word(layer, "Keras"), "dilation_rate": dilation}
            given = {"filters": filters, "kernel_size": window, "groups": groups, "use_bias": bias}
            return f"Conv{rank}D", given | at | zeros
        case Dense(_, units, bias) if units != 0:
            return "Dense", {"units": units, "use_bias": bias} | zeros
        case ReLU():
            return "ReLU", {}
        case Flatten(start=1):
            return "Flatten", {}
    raise Unsupported(f"Keras has no layer for {layer}")


class KerasLayers(Table):
    """The layers of Keras, each made in the dtype of its input: it would cast that to its own."""

    dense_layout = "io"

    def native(self, layer: Layer, x: Tensor) -> Call:
        """Return the layer of Keras, called with ``x``."""
        rounds_down(layer)
        name, options = keras_layer(layer)
        return call(f"keras.layers.{name}", **options, dtype=x.dtype)(x)

    def hold(self, layer: Layer, like: Mapping[str, Array]) -> list[str]:
        """Return the lines that build the layer of Keras, and set its weights."""
        return [
            f"layer.build({input_shape(layer)})",
            "layer.set_weights(list(weights.values()))",
        ]

    def counted(self, layer: Layer, made: Definition) -> list[str]:
        """Return Keras's count, of variables that are not yet given their values."""
        lines = ["count = 0", "with keras.StatelessScope(initialize_variables=False):"]
        for name, text in made.layers.items():
            lines += [f"    {name} = {text}", f"    {name}.build({input_shape(layer)})"]
            lines += [f"    count += {name}.count_params()"]
        return lines if made.layers else lines[:1]

    def stated(self, layer: Layer, made: Definition) -> list[str]:
        """Return the answer of Keras's layers."""
        if not made.layers:
            raise Unsupported("Keras has no layer to ask for a shape")
        layers = reversed(list(made.layers.values()))  # the first is that which is called last
        return [f"shape = tuple({text}.compute_output_shape(shape))" for text in layers]


def input_shape(layer: Layer) -> tuple[int | None, ...]:
    """Return the shape that a layer of Keras is built for; ``None`` is any size."""
    match layer:
        case Conv(in_channels=channels):
            return (*[None] * (layer.rank + 1), channels)
        case Dense(features):
            return (None, features)
    return (None,) * (getattr(layer, "rank", 0) + 2)
