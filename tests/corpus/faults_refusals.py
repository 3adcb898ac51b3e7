"""Missing refusals: what is invalid gets repaired in silence and answered."""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Weights
from cnnformance.spec import layers as spec
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AveragePool,
    Conv,
    Dense,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    Shape,
    StochasticPool,
)
from corpus.fault import Edit, Faults, Witness, refused, result, static, whole
from corpus.kernels import Honest, but

FAULTS = Faults("missing refusal")
add = FAULTS.add

kind: Any
layer: Any

X = whole(2, 6, 6, 3, low=1)
POOL = (2, 2)
CONV = Conv((2, 2), in_channels=3, out_channels=3)
DENSE = Dense(3, 3)


def repairs(change: Callable[[Any], Layer]) -> Edit:
    """Repair an invalid layer instead of refusing it."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def validated(self, layer: Any) -> Any:
                return super().validated(change(layer) if isinstance(layer, kind) else layer)

        return Faulty

    return edit


def clipped(field: str, low: int = 1) -> Callable[[Any], Layer]:
    """Raise the values of a field to a least one."""
    return lambda layer: but(layer, **{field: tuple(max(low, v) for v in getattr(layer, field))})


def adapts(change: Callable[[Any, Array], Array]) -> Edit:
    """Make an unfit input fit instead of refusing it."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def call(self, layer: Layer, weights: Weights, x: Array) -> Array:
                return super().call(
                    layer, weights, change(layer, x) if isinstance(layer, kind) else x
                )

        return Faulty

    return edit


def reshapes_weights(change: Callable[[Shape, Array], Array]) -> Edit:
    """Make weights of a wrong shape fit instead of refusing them; gets the right shape."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
                if isinstance(layer, kind):
                    shapes = spec.weight_shapes(layer)
                    weights = {name: change(shapes[name], w) for name, w in weights.items()}
                return super().build(layer, weights)

        return Faulty

    return edit


def invalid(layer: Layer, **fields: Any) -> Witness:
    """Ask whether a layer with invalid fields is refused."""
    return refused(lambda backend: backend.build(but(layer, **fields), {})(X))


def unfit(layer: Layer, x: Array, **weights: Array) -> Witness:
    """Ask whether an input or weight that does not fit is refused."""
    return refused(result(layer, x, **weights))


# Layers


def windowless(layer: Any) -> Layer:
    """Make windows as small as the field's values demand."""
    return but(
        layer,
        window=tuple(max(1, w) for w in layer.window),
        stride=tuple(max(1, s) for s in layer.stride),
    )


def positive_pads(layer: Any) -> Layer:
    """Raise negative pads to 0."""
    if isinstance(layer.padding, str):
        return but(layer)
    return but(layer, padding=tuple((max(0, a), max(0, b)) for a, b in layer.padding))


def small_pads(layer: Any) -> Layer:
    """Lower pads to less than the window."""
    if isinstance(layer.padding, str) or layer.padding == ():
        return but(layer)
    extent = [
        (w - 1) * d + 1
        for w, d in zip(layer.window, layer.dilation or (1,) * len(layer.window), strict=True)
    ]
    pads = zip(layer.padding, extent, strict=True)
    return but(layer, padding=tuple((min(a, e - 1), min(b, e - 1)) for (a, b), e in pads))


for kind in (MaxPool, AveragePool):
    add(
        kind,
        "window-0-taken-for-1",
        repairs(windowless),
        invalid(kind(POOL), window=(0, 2)),
        "refusal",
    )
    add(
        kind,
        "padding-of-window-size-clipped",
        repairs(small_pads),
        invalid(kind(POOL), padding=((2, 2), (2, 2))),
        "refusal",
    )
add(
    MaxPool,
    "stride-0-taken-for-1",
    repairs(clipped("stride")),
    invalid(MaxPool(POOL), stride=(0, 1)),
    "refusal",
)
add(
    LpPool,
    "stride-0-taken-for-1",
    repairs(clipped("stride")),
    invalid(LpPool(POOL), stride=(0, 1)),
    "refusal",
)
add(
    StochasticPool,
    "stride-0-taken-for-1",
    repairs(clipped("stride")),
    invalid(StochasticPool(POOL), stride=(0, 1)),
    "refusal",
)
add(
    Conv,
    "stride-negative-taken-for-1",
    repairs(clipped("stride")),
    refused(
        lambda backend: backend.build(
            but(CONV, stride=(-1, 1)), {"weight": whole(2, 2, 3, 3), "bias": whole(3)}
        )(X)
    ),
    "refusal",
)
add(
    MaxPool,
    "padding-negative-taken-for-0",
    repairs(positive_pads),
    invalid(MaxPool(POOL), padding=((-1, 0), (0, 0))),
    "refusal",
)
add(
    AveragePool,
    "padding-negative-taken-for-0",
    repairs(positive_pads),
    invalid(AveragePool(POOL), padding=((0, 0), (-1, 0))),
    "refusal",
)
add(
    MinPool,
    "dilation-0-taken-for-1",
    repairs(clipped("dilation")),
    invalid(MinPool(POOL), dilation=(0, 0)),
    "refusal",
)
add(
    LpPool,
    "order-0-taken-for-1",
    repairs(lambda p: but(p, p=max(1, p.p))),
    invalid(LpPool(POOL), p=0),
    "refusal",
)
add(
    AdaptiveAveragePool,
    "output-0-taken-for-1",
    repairs(clipped("output")),
    invalid(AdaptiveAveragePool(POOL), output=(0, 2)),
    "refusal",
)

# Inputs


def larger(layer: Any, x: Array) -> Array:
    """Pad an image with zeros up to the window."""
    if isinstance(layer.padding, str) or x.ndim != layer.rank + 2:
        return x
    lacks = [
        max(0, e - n - a - b)
        for e, n, (a, b) in zip(layer.extent, x.shape[1:-1], layer.padding, strict=True)
    ]
    return np.pad(x, [(0, 0), *((0, n) for n in lacks), (0, 0)])


def clips_window(layer: Any, x: Array) -> Any:
    """Shrink windows to the image."""
    return but(
        layer, window=tuple(min(w, n) for w, n in zip(layer.window, x.shape[1:-1], strict=False))
    )


SMALL = X[:, :2, :2]
for kind in (MaxPool, AveragePool, LpPool):
    add(
        kind,
        "image-smaller-than-window-padded",
        adapts(larger),
        unfit(kind((3, 3)), SMALL),
        "refusal",
    )
add(
    Conv,
    "image-smaller-than-kernel-padded",
    adapts(larger),
    unfit(CONV.replace(window=(3, 3)), SMALL),
    "refusal",
)
add(
    MinPool,
    "image-smaller-than-window-repeated",
    adapts(
        lambda p, x: (
            np.pad(
                x,
                [
                    (0, 0),
                    *((0, max(0, e - n)) for e, n in zip(p.extent, x.shape[1:-1], strict=True)),
                    (0, 0),
                ],
                mode="edge",
            )
            if p.unpadded and x.ndim == p.rank + 2 and x.size
            else x
        )
    ),
    unfit(MinPool((3, 3)), SMALL),
    "refusal",
)


def negative_answer(kind: type[Layer]) -> type[Honest]:
    """Tell a negative or empty static size where no window fits."""

    class Faulty(Honest):
        def no_window(self, layer: spec.Windowed, size: int) -> int:
            return 1 if isinstance(layer, kind) else super().no_window(layer, size)

    return Faulty


add(
    StochasticPool,
    "one-window-where-none-fits",
    negative_answer,
    refused(static(StochasticPool((3, 3)), 1, 2, 2, 1)),
    "refusal",
)
add(
    AveragePool,
    "one-window-where-none-fits",
    negative_answer,
    unfit(AveragePool((3, 3)), SMALL),
    "refusal",
)


def of_channels(count: int, x: Array) -> Array:
    """Cut or pad the last axis to a number of values."""
    return np.pad(x[..., :count], [(0, 0)] * (x.ndim - 1) + [(0, max(0, count - x.shape[-1]))])


add(
    Conv,
    "surplus-channels-ignored",
    adapts(lambda c, x: x[..., : c.in_channels]),
    unfit(CONV, whole(2, 6, 6, 4)),
    "refusal",
)
add(
    Conv,
    "missing-channels-taken-for-zero",
    adapts(lambda c, x: of_channels(max(c.in_channels, x.shape[-1]), x)),
    unfit(CONV, X[..., :2]),
    "refusal",
)
add(
    Dense,
    "surplus-features-ignored",
    adapts(lambda d, x: x[..., : d.in_features]),
    unfit(DENSE, whole(2, 4)),
    "refusal",
)
add(
    Dense,
    "missing-features-taken-for-zero",
    adapts(lambda d, x: of_channels(max(d.in_features, x.shape[-1]), x)),
    unfit(DENSE, whole(2, 2)),
    "refusal",
)
add(
    Dense,
    "axes-joined-to-fit",
    adapts(
        lambda d, x: (
            x.reshape(len(x), -1)
            if x.size and x.shape[-1] != d.in_features and math.prod(x.shape[1:]) == d.in_features
            else x
        )
    ),
    unfit(DENSE, whole(2, 3, 1)),
    "refusal",
)
add(
    MaxPool,
    "missing-axis-added",
    adapts(lambda p, x: x[:, :, None] if x.ndim == 3 and p.rank == 2 else x),
    unfit(MaxPool((2, 1)), X[:, 0]),
    "refusal",
)
add(
    AveragePool,
    "surplus-axes-joined",
    adapts(lambda p, x: x.reshape(-1, *x.shape[-p.rank - 1 :]) if x.ndim > p.rank + 2 else x),
    unfit(AveragePool(POOL), whole(2, 2, 4, 4, 1)),
    "refusal",
)
add(
    Conv,
    "surplus-axes-joined",
    adapts(lambda c, x: x.reshape(-1, *x.shape[-c.rank - 1 :]) if x.ndim > c.rank + 2 else x),
    unfit(CONV, whole(2, 2, 4, 4, 3)),
    "refusal",
)


def cut_or_repeated(shape: Shape, w: Array) -> Array:
    """Cut or repeat weights to the right shape."""
    return np.resize(w, shape) if w.ndim == len(shape) and w.size else w


def same_size(shape: Shape, w: Array) -> Array:
    """Reshape weights of the right size."""
    return w.reshape(shape) if w.size == math.prod(shape) else w


add(
    Dense,
    "bias-cut-or-repeated",
    reshapes_weights(cut_or_repeated),
    unfit(DENSE, whole(2, 3), bias=whole(5)),
    "refusal",
)
add(
    Conv,
    "bias-cut-or-repeated",
    reshapes_weights(cut_or_repeated),
    unfit(CONV, X, bias=whole(4)),
    "refusal",
)
add(
    Dense,
    "weight-of-same-size-reshaped",
    reshapes_weights(same_size),
    unfit(Dense(3, 2), whole(2, 3), weight=whole(3, 2)),
    "refusal",
)
add(
    Conv,
    "weight-of-same-size-reshaped",
    reshapes_weights(same_size),
    unfit(CONV.replace(window=(1, 2)), X, weight=whole(2, 1, 3, 3)),
    "refusal",
)


def any_backend(kind: type[Layer]) -> type[Honest]:
    """Answer whatever is asked, with zeros where the honest kernels refuse."""

    class Faulty(Honest):
        def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
            try:
                call = super().build(layer, weights)
            except (ValueError, TypeError):
                if not isinstance(layer, kind):
                    raise
                return np.zeros_like

            def lenient(x: Array) -> Array:
                try:
                    result: Array = call(x)
                except (ValueError, TypeError):
                    if not isinstance(layer, kind):
                        raise
                    return np.zeros_like(x)
                return result

            return lenient

    return Faulty


add(
    MaxPool,
    "zeros-instead-of-errors",
    any_backend,
    invalid(MaxPool(POOL), window=(-1, 2)),
    "refusal",
)
add(Conv, "zeros-instead-of-errors", any_backend, unfit(CONV, whole(2, 6, 6, 4)), "refusal")
add(Dense, "zeros-instead-of-errors", any_backend, unfit(DENSE, whole(2, 4)), "refusal")
