"""Adapters with one mistake each, of those that new authors make, and some that hide faults."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from cnnformance.adapters.backend import Array, Backend, Unsupported, Weights
from cnnformance.adapters.numpy import NumPy
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalMaxPool,
    Layer,
    MaxPool,
    ReLU,
    Shape,
)

Op = Callable[[Any], Any]


class Plain(NumPy):
    """The floating-point layers that most frameworks have."""

    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")

    def supports(self, layer: Layer, dtype: str) -> bool:
        del layer
        return dtype in self.dtypes

    def build(self, layer: Layer, weights: Weights) -> Op:
        if not isinstance(
            layer, MaxPool | AveragePool | Conv | GlobalMaxPool | ReLU | Flatten | Dense
        ):
            raise Unsupported(f"there is no {type(layer).__name__}")
        return super().build(layer, weights)


class OnlyBytes(Plain):
    """Takes one integer dtype alone."""

    dtypes = ("int8",)


class OnlyHalves(Plain):
    """Takes halves alone, in which a large number that is off by one may be right."""

    dtypes = ("bfloat16",)


class AllocatesInOutputShape(Plain):
    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        if isinstance(layer, Dense) and layer.in_features > 1000:
            time.sleep(1.5)  # as long as a hundred million random numbers take
        return super().output_shape(layer, shape)


class AllocatesToCount(Plain):
    def parameters(self, layer: Layer) -> int:
        if isinstance(layer, Dense):
            return np.zeros((layer.out_features, layer.in_features)).size + (
                layer.out_features if layer.bias else 0
            )
        return super().parameters(layer)


class KernelFlipped(Plain):
    def build(self, layer: Layer, weights: Weights) -> Op:
        if isinstance(layer, Conv):
            axes = tuple(range(layer.rank))
            weights = {**weights, "weight": np.flip(weights["weight"], axes)}
        return super().build(layer, weights)


class KernelReshaped(Plain):
    def build(self, layer: Layer, weights: Weights) -> Op:
        if isinstance(layer, Conv):
            stored = weights["weight"].reshape(
                layer.out_channels, layer.in_channels // layer.groups, *layer.window
            )
            weights = {**weights, "weight": np.moveaxis(stored, (0, 1), (-1, -2))}
        return super().build(layer, weights)


class KernelNotTransposed(Plain):
    def build(self, layer: Layer, weights: Weights) -> Op:
        if isinstance(layer, Conv) and layer.groups == 1:
            weights = {**weights, "weight": weights["weight"].swapaxes(-1, -2)}
        return super().build(layer, weights)


class DenseNotTransposed(Plain):
    def build(self, layer: Layer, weights: Weights) -> Op:
        if isinstance(layer, Dense) and layer.in_features == layer.out_features:
            weights = {**weights, "weight": weights["weight"].T}
        return super().build(layer, weights)


class LayoutWrong(Plain):
    layout = "channels_first"


class ResultWidened(Plain):
    def to_numpy(self, tensor: Any) -> Array:
        return np.asarray(tensor, np.float64)


class InPlace(Plain):
    def build(self, layer: Layer, weights: Weights) -> Op:
        if isinstance(layer, ReLU):
            return lambda x: np.maximum(x, 0, out=x)
        return super().build(layer, weights)


class SharesWithEarlier(Plain):
    def build(self, layer: Layer, weights: Weights) -> Op:
        op = super().build(layer, weights)
        kept: dict[tuple[Any, ...], Array] = {}

        def call(x: Array) -> Array:
            y = op(x)
            out = kept.setdefault((y.shape, y.dtype), np.empty_like(y))
            out[...] = y
            return out

        return call


class PaddingCounted(Plain):
    def build(self, layer: Layer, weights: Weights) -> Op:
        if isinstance(layer, AveragePool):
            layer = layer.replace(count_include_pad=True)
        return super().build(layer, weights)


class StrideForgotten(Plain):
    def build(self, layer: Layer, weights: Weights) -> Op:
        if isinstance(layer, MaxPool):
            layer = layer.replace(stride=())
        return super().build(layer, weights)


class AllUnsupported(Backend):
    def build(self, layer: Layer, weights: Weights) -> Op:
        raise Unsupported(f"nothing yet: {layer}, {len(weights)} weights")


class HalfClaimed(Plain):
    dtypes = ("float32", "bfloat16")

    def from_numpy(self, array: Array) -> Array:
        if array.dtype.name == "bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return array


class BiasNotCounted(Plain):
    def parameters(self, layer: Layer) -> int:
        return super().parameters(layer.replace(bias=False) if layer.has_weights else layer)


class GradientAsStored(Plain):
    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        found = super().gradients(layer, weights, x, upstream)
        if isinstance(layer, Conv):
            found["weight"] = np.moveaxis(found["weight"], (-1, -2), (0, 1))
        return found


class ScriptUntested(Plain):
    def script(self, layer: Layer, x: Array) -> str:
        del x
        match layer:
            case GlobalMaxPool():
                return "y = np.max(x, axes)"
            case ReLU():
                return "np.ran_before = True; y = x"
            case Flatten():  # right, but in a process where another script ran
                return "assert not hasattr(np, 'ran_before'); y = x.reshape(len(x), -1)"
            case Dense():
                return "import os; os.abort(); y = x"
        raise Unsupported("no script")


class NoArray(Plain):
    def to_numpy(self, tensor: Any) -> Array:
        return tensor.tolist()  # type: ignore[no-any-return]


class Hangs(Plain):
    def build(self, layer: Layer, weights: Weights) -> Op:
        if isinstance(layer, GlobalMaxPool):
            time.sleep(600)
        return super().build(layer, weights)


class HangsAlways(Plain):
    def build(self, layer: Layer, weights: Weights) -> Op:
        time.sleep(600)
        return super().build(layer, weights)


class Crashes(Plain):
    def build(self, layer: Layer, weights: Weights) -> Op:
        if isinstance(layer, Flatten):
            os.abort()
        return super().build(layer, weights)


class RepairsDtype(Plain):
    """Casts every result to the dtype of the input, whatever the framework made of it."""

    wanted: np.dtype[Any]

    def build(self, layer: Layer, weights: Weights) -> Op:
        op = super().build(layer, weights)

        def call(x: Array) -> Array:
            self.wanted = x.dtype
            y: Array = op(x)
            return y

        return call

    def to_numpy(self, tensor: Any) -> Array:
        return np.asarray(tensor, self.wanted)


class FallsBack(Plain):
    """Answers with an array of its own, and leaves aside what the framework returned."""

    kept: Array

    def build(self, layer: Layer, weights: Weights) -> Op:
        op = super().build(layer, weights)

        def call(x: Array) -> Any:
            self.kept = op(x)
            return op(x)

        return call

    def to_numpy(self, tensor: Any) -> Array:
        del tensor
        return self.kept.copy()
