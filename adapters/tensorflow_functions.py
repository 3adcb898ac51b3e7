"""The functions of ``tf.nn`` and ``tf.math`` that compute the layers, as calls."""

from __future__ import annotations

from typing import Any

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.calls import Call, Tensor, call
from cnnformance.adapters.padding import is_explicit, with_channels_last, word
from cnnformance.adapters.table import BIAS, WEIGHT
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    ReLU,
    Windowed,
)


def function(layer: Layer, x: Tensor) -> Call:  # noqa: C901, PLR0911, PLR0912 - a table, one case per layer
    """Return the call of a function of TensorFlow; of a convolution, with its bias added."""
    rank = getattr(layer, "rank", 0)
    axes = list(range(1, rank + 1))
    padding: Any = None
    if isinstance(layer, Windowed):
        lists = rank < 3 if isinstance(layer, MaxPool) else isinstance(layer, Conv) and rank == 2
        if is_explicit(layer) and lists and not isinstance(layer.padding, str):
            padding = with_channels_last(layer.padding)
        else:
            padding = word(layer, "TensorFlow").upper()
    match layer:
        case MaxPool(window, stride, _, dilation) | AveragePool(window, stride, _, dilation):
            kind = "max" if isinstance(layer, MaxPool) else "avg"
            if set(dilation) == {1}:
                at = {"ksize": window, "strides": stride, "padding": padding}
                return call(f"tf.nn.{kind}_pool{rank}d", x, **at)
            if max(stride) > 1 or padding != "VALID":
                raise Unsupported("tf.nn.pool dilates at stride 1 and without padding")
            at = {"window_shape": window, "pooling_type": kind.upper(), "dilations": dilation}
            return call("tf.nn.pool", x, **at)
        case GlobalAveragePool():
            return call("tf.math.reduce_mean", x, axis=axes)
        case GlobalMaxPool():
            return call("tf.math.reduce_max", x, axis=axes)
        case Conv(groups=groups) if groups > 1 and rank == 3:
            raise Unsupported("tf.nn.conv3d has no groups on a CPU")
        case Conv(_, stride, _, dilation):
            at = {"stride" if rank == 1 else "strides": [1, *stride, 1]}
            at |= {"padding": padding, "dilations": [1, *dilation, 1]}
            y = call(f"tf.nn.conv{rank}d", x, WEIGHT, **at)
            return call("tf.nn.bias_add", y, BIAS) if layer.bias else y
        case Dense():
            y = call("tf.linalg.matmul", x, WEIGHT)
            return call("tf.nn.bias_add", y, BIAS) if layer.bias else y
        case ReLU():
            return call("tf.nn.relu", x)
        case Flatten():
            return call("tf.reshape", x, x.joined(layer.start))
    raise Unsupported(f"TensorFlow has no function for {layer}")
