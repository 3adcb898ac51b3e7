"""Faults of the kernels that published networks run: one tile, one block, one kind of group.

Each is modelled on one that a framework has had.
"""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Weights
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    GlobalAveragePool,
    Layer,
    MaxPool,
    Shape,
)
from corpus.fault import (
    Call,
    Edit,
    Faults,
    backpropagates,
    computes,
    gradient,
    result,
    static,
    tells,
    whole,
)

FAULTS = Faults("layers of networks")
add = FAULTS.add

When = Callable[[Any, Array], bool]


def spoils(when: When, *cells: int | slice) -> Edit:
    """Make these cells of the result wrong, for the layers and inputs that ``when`` names."""

    def change(honest: Call, layer: Layer, weights: Weights, x: Array) -> Array:
        y = honest(layer, weights, x)
        if y.size and when(layer, x):
            y = y.copy()
            y[(..., *cells)] = -y[(..., *cells)] - 1
        return y

    return computes(change)


def loses(name: str, when: When, *cells: int | slice) -> Edit:
    """Make these cells of one gradient zero, for the layers and inputs that ``when`` names."""

    def change(
        grads: dict[str, Array], layer: Layer, weights: Weights, x: Array, g: Array
    ) -> dict[str, Array]:
        del weights, g
        if when(layer, x):
            grads[name] = grads[name].copy()
            grads[name][(..., *cells)] = 0
        return grads

    return backpropagates(change)


def square(layer: Conv) -> bool:
    """Whether a fast kernel of 3x3 takes the convolution."""
    return layer.window == (3, 3) and layer.stride == layer.dilation == (1, 1)


def depthwise(layer: Conv) -> bool:
    """Whether each channel is convolved by itself."""
    return layer.groups > 1 and layer.groups == layer.in_channels


def tiles(x: Array) -> int:
    """Return how many tiles of 4x4 cells cover what a valid 3x3 convolution returns."""
    return math.ceil((x.shape[1] - 2) / 4) * math.ceil((x.shape[2] - 2) / 4)


def conv(window: Shape, channels: int = 1, out: int = 1, **more: Any) -> Conv:
    """Return a convolution by its channels."""
    return Conv(window, in_channels=channels, out_channels=out, **more)


ALL = slice(None)
HALF = ("float16", "bfloat16")

add(
    Conv,
    "last-winograd-tile-lost",
    spoils(lambda c, x: square(c) and c.groups == 1 and tiles(x) % 8 > 4, -1, -1, ALL),
    result(conv((3, 3)), whole(1, 6, 20, 1, low=1)),
)
add(
    Conv,
    "stride-of-two-with-an-odd-area",
    spoils(
        lambda c, x: c.window == (3, 3) and c.stride == (2, 2) and x.shape[1] % 2 == 1, -1, -1, ALL
    ),
    result(conv((3, 3), stride=(2, 2)), whole(1, 7, 7, 1, low=1)),
)
add(
    Conv,
    "second-half-of-512-outputs",
    spoils(lambda c, _x: square(c) and c.out_channels >= 512, slice(256, None)),
    result(conv((3, 3), 1, 512), whole(1, 3, 3, 1, low=1)),
)
add(
    Conv,
    "wide-kernel-on-a-batch",
    spoils(lambda c, x: c.window == (5, 5) and len(x) > 3 and x.shape[1] > 32, -1, -1, ALL),
    result(conv((5, 5), padding="same"), whole(4, 33, 33, 1, low=1)),
    "semantics",
)
add(
    Conv,
    "channels-of-blocks-in-space",
    spoils(lambda c, _x: c.rank == 3 and c.in_channels % 8 == c.out_channels % 8 == 0, -1),
    result(conv((1, 1, 1), 8, 8), whole(1, 1, 1, 1, 8, low=1)),
)
add(
    Conv,
    "samples-past-32-in-space",
    spoils(lambda c, x: c.rank == 3 and len(x) > 32, 0, 0, 0, 0),
    result(conv((1, 1, 1)), whole(33, 1, 1, 1, 1, low=1)),
)
add(
    Conv,
    "channels-past-65536",
    spoils(lambda c, _x: c.out_channels > 65536, -1),
    result(conv((1,), 1, 65537), whole(1, 1, 1, low=1)),
)
add(
    Conv,
    "half-of-an-eighth-of-the-range",
    spoils(lambda c, x: square(c) and x.dtype == np.float16 and np.abs(x).max() > 6550, ALL),
    result(conv((3, 3)), np.full((1, 3, 3, 1), 8192, np.float16)),
    "precision",
)
add(
    Conv,
    "depthwise-with-dilation-and-padding",
    spoils(lambda c, _x: depthwise(c) and c.window == (3, 3) and max(c.dilation) > 1, ALL),
    result(
        conv((3, 3), 2, 2, groups=2, dilation=(2, 2), padding=((2, 2), (2, 2))),
        whole(1, 3, 3, 2, low=1),
    ),
    "semantics",
)
add(
    Conv,
    "depthwise-with-a-multiplier",
    spoils(lambda c, _x: square(c) and depthwise(c) and c.out_channels > c.in_channels, -1),
    result(conv((3, 3), 2, 4, groups=2), whole(1, 3, 3, 2, low=1)),
    "semantics",
)
add(
    Conv,
    "groups-of-eight-outputs",
    spoils(lambda c, _x: 1 < c.groups < c.out_channels // 4 and c.out_channels % 8 == 0, -1),
    result(conv((1, 1), 4, 16, groups=2), whole(1, 1, 1, 4, low=1)),
    "semantics",
)
add(
    Conv,
    "groups-with-a-long-kernel",
    spoils(lambda c, _x: c.groups > 1 and c.window[0] > 64, ALL),
    result(conv((65,), 2, 2, groups=2), whole(1, 65, 2, low=1)),
    "semantics",
)
add(
    Conv,
    "groups-of-half-precision",
    spoils(lambda c, x: c.window == (3, 3) and c.groups > 1 and x.dtype.name in HALF, ALL),
    result(conv((3, 3), 2, 2, groups=2), whole(1, 3, 3, 2, dtype="float16", low=1)),
    "semantics",
)
add(
    Conv,
    "depthwise-gradient-of-strided-blocks",
    loses(
        "weight",
        lambda c, x: depthwise(c) and x.shape[-1] % 8 == 0 and max(c.stride) > 1,
        slice(-1, None),
        ALL,
        ALL,
        ALL,
    ),
    gradient(conv((1, 1), 8, 8, groups=8, stride=(2, 2)), whole(1, 3, 3, 8, low=1)),
    "gradient",
)
add(
    Conv,
    "gradient-of-grouped-cells",
    loses("weight", lambda c, x: c.groups > 1 and x.shape[1:-1] == (1, 1), ALL),
    gradient(conv((1, 1), 2, 2, groups=2), whole(1, 1, 1, 2, low=1)),
    "gradient",
)
add(
    Conv,
    "static-size-of-dilated-depthwise",
    tells(lambda r, c, s: (s[0], *s[1:-1], r[-1]) if depthwise(c) and max(c.dilation) > 1 else r),
    static(conv((3, 3), 2, 2, groups=2, dilation=(2, 2)), 1, 5, 5, 2),
    "semantics",
)
add(
    MaxPool,
    "last-cell-of-a-padded-window-of-three",
    spoils(lambda p, x: p.window == (3, 3) and not p.unpadded and x.shape[-1] > 31, -1, -1, ALL),
    result(MaxPool((3, 3), (1, 1), ((1, 1), (1, 1))), whole(1, 3, 3, 32, low=1)),
    "semantics",
)
add(
    MaxPool,
    "column-past-a-tile",
    spoils(lambda p, x: p.rank == 2 and min(x.shape[1:3]) > 32, 16, 16, ALL),
    result(MaxPool((2, 2)), whole(1, 34, 34, 1, low=1)),
)
add(
    MaxPool,
    "channels-past-256-in-a-window-of-three",
    spoils(lambda p, x: p.window == (3, 3) and x.shape[-1] > 256, slice(256, None)),
    result(MaxPool((3, 3)), whole(1, 3, 3, 257, low=1)),
)
add(
    MaxPool,
    "channels-of-a-wide-window",
    spoils(lambda p, x: math.prod(p.window) > 16 and x.shape[-1] > 32, slice(32, None)),
    result(MaxPool((5, 5)), whole(1, 5, 5, 33, low=1)),
)
add(
    MaxPool,
    "channels-past-64-in-space",
    spoils(lambda p, x: p.rank == 3 and x.shape[-1] > 64, slice(64, None)),
    result(MaxPool((1, 1, 1)), whole(1, 1, 1, 1, 65, low=1)),
)
add(
    MaxPool,
    "gradient-of-places-past-a-byte",
    loses("input", lambda p, _x: math.prod(p.window) > 256, slice(256, None), ALL),
    gradient(MaxPool((257,)), np.arange(257, dtype=np.float32).reshape(1, 257, 1)),
    "gradient",
)
add(
    AveragePool,
    "gradient-of-channels-past-64",
    loses("input", lambda _p, x: x.shape[-1] > 64, slice(64, None)),
    gradient(AveragePool((2,)), whole(1, 2, 65, low=1)),
    "gradient",
)
add(
    AveragePool,
    "window-of-the-map-ignores-padding",
    spoils(lambda p, x: p.window == x.shape[1:-1] and not p.unpadded and p.count_include_pad, ALL),
    result(AveragePool((3,), padding=((1, 0),), count_include_pad=True), whole(1, 3, 1, low=1)),
    "semantics",
)
add(
    AveragePool,
    "padded-map-of-one-cell",
    spoils(lambda p, x: x.size == 1 and not p.unpadded, ALL),
    result(AveragePool((3,), padding=((1, 1),), count_include_pad=True), whole(1, 1, 1, low=1)),
    "semantics",
)
add(
    GlobalAveragePool,
    "bfloat16-of-a-usual-map",
    spoils(lambda _p, x: x.dtype.name == "bfloat16" and x.shape[-1] > 63, ALL),
    result(GlobalAveragePool(), whole(1, 2, 2, 64, dtype="bfloat16", low=1)),
    "semantics",
)
add(
    Dense,
    "rows-past-65536-of-three-axes",
    spoils(lambda _d, x: x.ndim == 3 and math.prod(x.shape[:-1]) > 65536, ALL),
    result(Dense(1, 1), whole(65537, 1, 1, low=1)),
    "semantics",
)


def without_row_33(
    grads: dict[str, Array], layer: Dense, weights: Weights, x: Array, g: Array
) -> dict[str, Array]:
    """Sum the gradient of the weight over blocks of 32 samples, and leave one over."""
    del layer, weights
    if x.ndim == 2 and len(x) % 32 == 1 and len(x) > 1:  # rows of one sample each
        grads["weight"] = grads["weight"] - np.outer(g[-1], x[-1].astype(np.float64))
    return grads


add(
    Dense,
    "gradient-of-a-batch-of-33",
    backpropagates(without_row_33),
    gradient(Dense(1, 1), whole(33, 1, low=1)),
    "gradient",
)
