"""Faults of kernels that were written for one shape or option of a layer that networks have.

A stem, a shortcut, a depthwise block, a patch embedding, a pyramid of windows, a layer without
bias, two layers fused into one: the plain layer beside it is computed well.
"""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Backend, Weights
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
    StochasticPool,
)
from corpus.fault import (
    Call,
    Edit,
    Faults,
    Witness,
    backpropagates,
    computes,
    gradient,
    hook,
    inputs,
    result,
    values,
    whole,
)
from corpus.faults_memory import again, called, chain, follows
from corpus.faults_networks import ALL, When, conv, depthwise, loses, spoils
from corpus.faults_pool import adaptive, unpadded
from corpus.faults_values import on_floats
from corpus.faults_weights import interleaved, padded_by
from corpus.kernels import Honest, but

FAULTS = Faults("layers of networks")
add = FAULTS.add

Run = Callable[[Call, Any, dict[str, Array], Array], Array]
"""A forward pass; it gets the honest one, the layer, its weights and ``x``."""


def where(when: When, run: Run) -> Run:
    """Run another forward pass for the layers and inputs that ``when`` names."""

    def either(honest: Call, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
        if not (x.size and when(layer, x)):
            return honest(layer, weights, x)
        return run(honest, layer, weights, x).astype(x.dtype)

    return either


def runs(when: When, run: Run) -> Edit:
    """Run another forward pass for the layers and inputs that ``when`` names, in this layer."""
    return computes(where(when, run))


def misread(fields: Callable[[Any], dict[str, Any]]) -> Run:
    """Compute with some fields of the layer changed."""
    return lambda honest, layer, weights, x: honest(but(layer, **fields(layer)), weights, x)


def without(cells: Any) -> Run:
    """Compute with some cells of the weight taken for 0."""

    def run(honest: Call, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
        weight = weights["weight"].copy()
        weight[cells] = 0
        return honest(layer, {**weights, "weight": weight}, x)

    return run


def turned(honest: Call, layer: Any, weights: dict[str, Array], x: Array) -> Array:
    """Compute with the first two axes of the kernel, and of its padding, swapped."""
    (height, width, *window), (rows, columns, *padding) = layer.window, layer.padding
    layer = but(layer, window=(width, height, *window), padding=(columns, rows, *padding))
    weight = np.ascontiguousarray(weights["weight"].swapaxes(0, 1))
    return honest(layer, {**weights, "weight": weight}, x)


def repeats(y: Array, axis: int, limit: int) -> Array:
    """Repeat the last place before a limit along an axis from there on."""
    return y.take(np.minimum(np.arange(y.shape[axis]), limit - 1), axis)


def derives(name: str, when: When, change: Callable[[Array, Array], Array]) -> Edit:
    """Change one gradient, where ``when`` holds; ``change`` gets it and ``x``."""

    def wrong(
        grads: dict[str, Array], layer: Layer, _weights: Weights, x: Array, _g: Array
    ) -> dict[str, Array]:
        return {**grads, name: change(grads[name], x)} if when(layer, x) else grads

    return backpropagates(wrong)


def padded(layer: Any) -> bool:
    """Whether the layer has explicit padding."""
    return not isinstance(layer.padding, str) and not layer.unpadded


def grouped(layer: Conv) -> bool:
    """Whether there are four groups or more, of several channels each."""
    return layer.groups >= 4 and layer.in_channels > layer.groups


def pads(*sizes: int) -> tuple[tuple[int, int], ...]:
    """Return equal padding before and after each axis."""
    return tuple((size, size) for size in sizes)


TWO = (2, 2)
THREE = (3, 3)
PADS_BEFORE = misread(lambda _layer: {"padding": "same_lower"})
CEILED = (MaxPool(THREE, TWO, ceil_mode=True), AveragePool(THREE, TWO, ceil_mode=True))

# Convolutions of large kernels, of patches, of wide dilation

add(
    Conv,
    "last-row-of-a-large-strided-kernel",
    runs(
        lambda c, _x: c.rank == 2 and min(c.window) > 8 and min(c.stride) > 1,
        without(np.s_[-1]),
    ),
    result(conv((11, 11), stride=(4, 4)), whole(1, 11, 11, 1, low=1)),
)
add(
    Conv,
    "columns-of-a-large-kernel-rolled",
    runs(
        lambda c, _x: c.rank == 2 and min(c.window) > 8 and max(c.stride) == 1,
        lambda honest, c, w, x: np.roll(honest(c, w, x), 1, 2),
    ),
    result(conv((9, 9)), whole(1, 10, 10, 1, low=1)),
)
add(
    Conv,
    "patches-cropped-before-the-first",
    runs(
        lambda c, _x: (
            c.rank == 2
            and c.window == c.stride
            and min(c.window) >= 4
            and c.unpadded
            and max(c.dilation) == 1
        ),
        lambda honest, c, w, x: honest(
            c, w, x[:, x.shape[1] % c.window[0] :, x.shape[2] % c.window[1] :]
        ),
    ),
    result(conv((4, 4), stride=(4, 4)), whole(1, 6, 6, 1, low=1)),
)
add(
    Conv,
    "centre-of-a-kernel-wider-than-one-axis",
    runs(
        lambda c, x: (
            c.rank == 2
            and c.window == THREE
            and c.padding == pads(*c.dilation)
            and max(c.stride) == 1
            and c.dilation[0] > 1
            and c.dilation[0] >= min(x.shape[1:3])
        ),
        lambda honest, c, w, x: honest(
            but(c, window=(1, 1), dilation=(1, 1), padding=pads(0, 0)),
            {**w, "weight": w["weight"][1:2, 1:2]},
            x,
        ),
    ),
    result(conv(THREE, dilation=(6, 6), padding=pads(6, 6)), whole(1, 5, 9, 1, low=1)),
    "semantics",
)


def in_four_bits(honest: Call, layer: Any, weights: dict[str, Array], x: Array) -> Array:
    """Keep the dilation in four bits, and as many outputs as there have to be."""
    dilation = tuple(d & 15 or 1 for d in layer.dilation)
    lost = [
        (d - kept) * (size - 1)
        for d, kept, size in zip(layer.dilation, dilation, layer.window, strict=True)
    ]
    padding = tuple(
        (before - cells // 2, after - (cells - cells // 2))
        for (before, after), cells in zip(layer.padding, lost, strict=True)
    )
    if min(map(min, padding)) < 0:
        return -honest(layer, weights, x) - 1
    return honest(but(layer, dilation=dilation, padding=padding), weights, x)


add(
    Conv,
    "dilation-in-four-bits",
    runs(lambda c, _x: max(c.dilation) > 15 and not isinstance(c.padding, str), in_four_bits),
    result(conv((3,), dilation=(18,), padding=pads(18)), whole(1, 21, 1, low=1)),
    "semantics",
)

# Depthwise and grouped convolutions

add(
    Conv,
    "last-column-of-a-depthwise-5x5",
    runs(
        lambda c, _x: (
            c.rank == 2 and depthwise(c) and c.in_channels % 4 == 0 and c.window == (5, 5)
        ),
        without(np.s_[:, -1]),
    ),
    result(conv((5, 5), 4, 4, groups=4), whole(1, 5, 5, 4, low=1)),
    "semantics",
)
add(
    Conv,
    "causal-depthwise-padded-on-both-sides",
    runs(
        lambda c, _x: (
            c.rank == 1
            and depthwise(c)
            and c.in_channels >= 4
            and not isinstance(c.padding, str)
            and c.padding[0][0] > 1
            and c.padding[0][1] == 0
        ),
        misread(lambda c: {"padding": ((c.padding[0][0] // 2, -(-c.padding[0][0] // 2)),)}),
    ),
    result(conv((4,), 4, 4, groups=4, padding=((3, 0),)), whole(1, 5, 4, low=1)),
    "semantics",
)
add(
    Conv,
    "depthwise-corner-in-space",
    runs(
        lambda c, _x: (
            c.rank == 3 and depthwise(c) and c.in_channels >= 4 and not isinstance(c.padding, str)
        ),
        without(np.s_[-1, :, -1]),
    ),
    result(conv((3, 3, 3), 4, 4, groups=4), whole(1, 3, 3, 3, 4, low=1)),
    "semantics",
)
add(
    Conv,
    "depthwise-same-of-stride-two-pads-before",
    runs(
        lambda c, _x: (
            c.padding == "same" and max(c.stride) == 2 and depthwise(c) and 4 <= c.in_channels < 16
        ),
        PADS_BEFORE,
    ),
    result(conv(THREE, 4, 4, groups=4, stride=TWO, padding="same"), whole(1, 4, 4, 4, low=1)),
    "semantics",
)
add(
    Conv,
    "last-column-of-strided-groups",
    spoils(
        lambda c, x: (
            x.size > 0 and c.rank == 2 and grouped(c) and c.stride == TWO and c.window == THREE
        ),
        slice(-1, None),
        ALL,
    ),
    result(conv(THREE, 8, 8, groups=4, stride=TWO), whole(1, 5, 5, 8, low=1)),
    "semantics",
)


def of_second_group(honest: Call, layer: Conv, weights: dict[str, Array], x: Array) -> Array:
    """Use the second group's weights for the groups after it."""
    size, number = layer.out_channels // layer.groups, np.arange(layer.out_channels)
    used = np.where(number < size, number, size + number % size)
    return honest(layer, {**weights, "weight": weights["weight"][..., used]}, x)


add(
    Conv,
    "groups-of-1x1-use-the-weights-of-the-second",
    runs(
        lambda c, x: (
            c.groups >= 4
            and set(c.window) == {1}
            and math.prod(x.shape[1:-1]) > 1
            and not depthwise(c)
        ),
        of_second_group,
    ),
    result(conv((1, 1), 8, 8, groups=4), whole(1, 2, 2, 8, low=1)),
    "semantics",
)

# Convolutions without bias


def from_sum_before(honest: Call, layer: Conv, weights: dict[str, Array], x: Array) -> Array:
    """Start each cell from the sum of the one before it."""
    y = honest(layer, weights, x).astype(np.float64)
    return np.concatenate([y[:, :1], y[:, 1:] + y[:, :-1]], 1)


def accumulated(
    store: Any, honest: Call, layer: Conv, weights: dict[str, Array], x: Array
) -> Array:
    """Add onto a workspace that holds the last result of the same shape."""
    y = honest(layer, weights, x)
    if layer.bias or layer.out_channels < 16 or not x.size:
        return y
    old, store["y"] = store.get("y"), y.copy()
    fits = old is not None and (old.shape, old.dtype) == (y.shape, y.dtype)
    return y + old if fits else y


add(
    Conv,
    "depthwise-without-bias-starts-from-the-sum-before",
    runs(lambda c, _x: depthwise(c) and c.in_channels >= 8 and not c.bias, from_sum_before),
    result(conv((1, 1), 8, 8, groups=8, bias=False), whole(1, 2, 2, 8, low=1)),
    "semantics",
)
add(
    Conv,
    "bias-of-16-outputs-read-from-the-weights",
    runs(
        lambda c, _x: not c.bias and c.out_channels >= 16,
        lambda honest, c, w, x: honest(c, w, x) + w["weight"].reshape(-1, c.out_channels)[0],
    ),
    result(conv((1, 1), 1, 16, bias=False), whole(1, 1, 1, 1, low=1)),
    "semantics",
)
add(
    Conv,
    "without-bias-adds-onto-the-last-result",
    called(accumulated),
    again(conv(TWO, 3, 16, bias=False)),
    "memory",
    "state",
)

# Convolutions of many channels

add(
    Conv,
    "same-of-stride-two-and-16-channels-pads-before",
    runs(
        lambda c, _x: c.padding == "same" and max(c.stride) == 2 and c.in_channels >= 16,
        PADS_BEFORE,
    ),
    result(conv(THREE, 16, 1, stride=TWO, padding="same"), whole(1, 4, 4, 16, low=1)),
    "semantics",
)
add(
    Conv,
    "shortcut-starts-at-the-second-cell",
    runs(
        lambda c, x: (
            c.rank == 2
            and c.window == (1, 1)
            and c.stride == TWO
            and c.in_channels >= 16
            and c.unpadded
            and x.shape[1] % 2 == x.shape[2] % 2 == 0
        ),
        lambda honest, c, w, x: honest(c, w, np.roll(x, -1, (1, 2))),
    ),
    result(conv((1, 1), 16, 1, stride=TWO), whole(1, 4, 4, 16, low=1)),
)
add(
    Conv,
    "last-eight-channels-of-strided-halves",
    runs(
        lambda c, x: (
            x.dtype == np.float16
            and c.rank == 2
            and c.in_channels >= 16
            and c.in_channels % 8 == 0
            and c.stride == TWO
            and c.window == THREE
            and c.groups == 1
        ),
        without(np.s_[..., -8:, :]),
    ),
    result(conv(THREE, 16, 1, stride=TWO), whole(1, 3, 3, 16, dtype="float16", low=1)),
    "precision",
)
add(
    Conv,
    "kernel-over-time-alone-turned",
    runs(
        lambda c, _x: (
            c.rank == 3
            and c.window == (3, 1, 1)
            and c.in_channels >= 16
            and c.padding == pads(1, 0, 0)
            and c.stride == (1, 1, 1)
        ),
        turned,
    ),
    result(conv((3, 1, 1), 16, 1, padding=pads(1, 0, 0)), whole(1, 3, 3, 3, 16, low=1)),
    "semantics",
)
add(
    Conv,
    "padded-row-kernel-turned",
    runs(
        lambda c, _x: (
            c.rank == 2 and c.window in {(1, 7), (7, 1)} and c.in_channels >= 16 and padded(c)
        ),
        turned,
    ),
    result(conv((1, 7), 16, 1, padding=pads(0, 3)), whole(1, 7, 7, 16, low=1)),
    "semantics",
)
add(
    Conv,
    "second-blocks-of-64-channels",
    runs(
        lambda c, _x: c.groups == 1 and min(c.in_channels, c.out_channels) > 64,
        without(np.s_[..., 64:, 64:]),
    ),
    result(conv((1, 1), 65, 65), whole(1, 1, 1, 65, low=1)),
    fault_class="sizes beyond small ones",
)

# Maps beyond a tile, sequences and blocks of features

FAULTS.fault_class = "sizes beyond small ones"


def beyond_tile(layer: Any, x: Array) -> bool:
    """Whether a map has cells that lie off a tile of 64x64 on both axes."""
    return layer.rank == 2 and min(x.shape[1:3]) > 60


CORNER = (slice(64, None), slice(64, None), ALL)

add(
    Conv,
    "tile-off-both-axes",
    spoils(beyond_tile, *CORNER),
    result(conv((1, 1)), whole(1, 65, 65, 1, low=1)),
)
for pool in (MaxPool(TWO), MinPool(TWO), AveragePool(TWO), LpPool(TWO)):
    add(
        type(pool),
        "tile-off-both-axes",
        spoils(beyond_tile, *CORNER),
        result(pool, whole(1, 130, 130, 1, low=1)),
    )
add(
    GlobalAveragePool,
    "cells-past-4096-of-eight-channels",
    runs(
        lambda p, x: p.rank == 2 and math.prod(x.shape[1:3]) > 4096 and x.shape[-1] >= 8,
        lambda _honest, _p, _w, x: (
            x.reshape(len(x), -1, x.shape[-1])[:, :4096].astype(np.float64).sum(1)
            / math.prod(x.shape[1:3])
        ),
    ),
    result(GlobalAveragePool(), whole(1, 65, 65, 8, low=1)),
)


def blocked(layer: Dense, x: Array) -> bool:
    """Whether a matrix product of four rows or more has a second block on both sides."""
    rows = math.prod(x.shape[:-1])
    return layer.in_features > 256 and layer.out_features > 64 and rows >= 4


BLOCK = (slice(64, None), slice(256, None))

add(
    Dense,
    "second-blocks-of-features-and-units",
    runs(blocked, without(BLOCK)),
    result(Dense(257, 65), whole(4, 257, low=1)),
)
add(
    Dense,
    "gradient-of-second-blocks",
    loses("weight", blocked, *BLOCK),
    gradient(Dense(257, 65), whole(4, 257, low=1)),
    "gradient",
)
add(
    Dense,
    "rows-past-16-of-512-features",
    runs(
        lambda d, x: d.in_features >= 512 and math.prod(x.shape[:-1]) > 16,
        lambda honest, d, w, x: repeats(
            honest(d, w, x).reshape(math.prod(x.shape[:-1]), d.out_features), 0, 16
        ).reshape(*x.shape[:-1], d.out_features),
    ),
    result(Dense(512, 1), whole(17, 512, low=1)),
)
add(
    Dense,
    "positions-past-32-of-a-sequence",
    runs(
        lambda d, x: x.ndim == 3 and x.shape[1] > 32 and d.in_features >= 64,
        lambda honest, d, w, x: repeats(honest(d, w, x), 1, 32),
    ),
    result(Dense(64, 1), whole(1, 33, 64, low=1)),
    "semantics",
)

# Poolings of stems, pyramids and heads

FAULTS.fault_class = "layers of networks"

for pool in CEILED:
    add(
        type(pool),
        "partial-column-of-32-channels",
        spoils(
            lambda p, x: (
                x.size > 0
                and p.rank == 2
                and p.ceil_mode
                and p.window == THREE
                and x.shape[-1] >= 32
                and (x.shape[2] - 3) % p.stride[1] != 0
            ),
            slice(-1, None),
            ALL,
        ),
        result(pool, whole(1, 4, 4, 32, low=1)),
        "semantics",
    )
add(
    MaxPool,
    "padding-of-a-large-window-is-zero",
    runs(
        lambda p, _x: p.rank == 2 and min(p.window) >= 9 and max(p.stride) == 1,
        lambda honest, p, w, x: padded_by(honest, p, w, x, "constant"),
    ),
    result(MaxPool((9, 9), (1, 1), pads(4, 4)), -whole(1, 9, 9, 1, low=1)),
    "semantics",
)
add(
    MaxPool,
    "last-column-of-a-stem-in-space",
    spoils(
        lambda p, x: (
            x.size > 0
            and p.window == (3, 3, 3)
            and p.stride == (2, 2, 2)
            and p.padding == pads(1, 1, 1)
            and x.shape[-1] >= 8
        ),
        slice(-1, None),
        ALL,
    ),
    result(MaxPool((3, 3, 3), (2, 2, 2), pads(1, 1, 1)), whole(1, 3, 3, 3, 8, low=1)),
    "semantics",
)
add(
    MaxPool,
    "gradient-of-large-windows-not-added",
    derives(
        "input",
        lambda p, _x: p.rank == 2 and min(p.window) >= 9 and p.stride == (1, 1),
        lambda grad, _x: grad.clip(-1, 1),
    ),
    gradient(MaxPool((9, 9), (1, 1)), whole(1, 10, 10, 1)),
    "gradient",
    "gradient",
)
add(
    AveragePool,
    "dilated-window-over-the-map-is-global",
    runs(
        lambda p, x: (
            p.unpadded and p.extent == x.shape[1:-1] and max(p.dilation) > 1 and not p.ceil_mode
        ),
        lambda honest, p, w, x: honest(but(p, window=x.shape[1:-1], dilation=(1,) * p.rank), w, x),
    ),
    result(AveragePool((2,), dilation=(2,)), values(1, 5, 2)),
    "semantics",
)
add(
    AveragePool,
    "large-padded-window-divides-by-all-cells",
    runs(
        lambda p, _x: p.rank == 2 and min(p.window) >= 7 and not p.count_include_pad and padded(p),
        misread(lambda _p: {"count_include_pad": True}),
    ),
    result(AveragePool((7, 7), (1, 1), pads(3, 3)), whole(1, 7, 7, 1, low=1)),
    "semantics",
    "divisor",
)


def in_single(i: Array, n: int, m: int) -> Array:
    """Return where an output starts by a ratio of sizes in single precision."""
    return i.astype(np.float32) * (np.float32(n) / np.float32(m))


for kind in (AdaptiveAveragePool, AdaptiveMaxPool):
    add(
        kind,
        "windows-by-a-ratio-in-single-precision",
        adaptive(
            lambda i, n, m: np.floor(in_single(i, n, m)).astype(int),
            lambda i, n, m: np.ceil(in_single(i + 1, n, m)).astype(int),
        ),
        result(kind((28,)), np.arange(4, dtype=np.float32).reshape(1, 4, 1)),
        "semantics",
        "sizes",
    )

# Gradients

FAULTS.fault_class = "gradient"


def nan_at_zero(grad: Array, x: Array) -> Array:
    """Divide by the value itself."""
    return np.where(x == 0, np.nan, grad)


add(
    LpPool,
    "gradient-of-a-zero-is-nan",
    derives("input", lambda _p, _x: True, nan_at_zero),
    gradient(LpPool((2,)), values(0, 1)),
    "gradient",
)
add(
    LpPool,
    "gradient-of-order-one-at-a-zero-is-nan",
    derives("input", lambda p, _x: p.p == 1, nan_at_zero),
    gradient(LpPool((2,), p=1), values(0, 1)),
    "gradient",
)
add(
    Conv,
    "gradient-of-double-groups-through-float32",
    derives(
        "weight",
        lambda c, x: x.dtype == np.float64 and depthwise(c),
        lambda grad, _x: grad.astype(np.float32).astype(np.float64),
    ),
    gradient(conv((1,), 2, 2, groups=2), whole(1, 3, 2, dtype="float64", low=1) + 1e-9),
    "gradient",
)


def within_a_warp(grad: Array, _x: Array) -> Array:
    """Leave the cells of a kernel beyond 32 without gradient."""
    flat = grad.reshape(-1, grad.shape[-1]).copy()
    flat[32:] = 0
    return flat.reshape(grad.shape)


add(
    Conv,
    "gradient-of-depthwise-cells-past-32",
    derives(
        "weight",
        lambda c, _x: depthwise(c) and math.prod(c.window) > 32 and c.in_channels >= 4,
        within_a_warp,
    ),
    gradient(conv((7, 7), 4, 4, groups=4), whole(1, 7, 7, 4, low=1)),
    "gradient",
)
add(
    Conv,
    "gradient-of-the-last-columns-of-strided-groups",
    loses(
        "input",
        lambda c, _x: c.rank == 2 and grouped(c) and c.stride == TWO,
        slice(-2, None),
        ALL,
    ),
    gradient(conv(THREE, 8, 8, groups=4, stride=TWO), whole(1, 5, 5, 8, low=1)),
    "gradient",
)


def from_16_outputs(
    grads: dict[str, Array], layer: Conv, weights: Weights, x: Array, g: Array
) -> dict[str, Array]:
    """Let no more than 16 outputs add to the gradient of the input, without bias."""
    if not layer.bias and layer.out_channels > 16 and layer.groups == 1:
        kept = np.where(np.arange(layer.out_channels) < 16, g, 0)
        grads["input"] = Honest().conv_gradient(layer, weights, x, kept)["input"]
    return grads


add(
    Conv,
    "gradient-without-bias-of-16-outputs",
    backpropagates(from_16_outputs),
    gradient(conv((1,), 1, 17, bias=False), whole(1, 1, 1, low=1)),
    "gradient",
)

# NaN whose sign bit is set, as it comes from arithmetic on some processors

FAULTS.fault_class = "special values"


def unsigned(value: float) -> Edit:
    """Take NaN whose sign bit is set for a number, as a comparison of the bits does."""
    return inputs(on_floats(lambda x: np.where(np.isnan(x) & np.signbit(x), value, x)))


NEGATIVE_NAN = values(np.copysign(np.nan, -1), 1)

add(ReLU, "signed-nan-is-zero", unsigned(0), result(ReLU(), NEGATIVE_NAN), "semantics")
for layer in (MaxPool((2,)), GlobalMaxPool(1), AdaptiveMaxPool((1,))):
    add(
        type(layer),
        "signed-nan-is-lowest",
        unsigned(-np.inf),
        result(layer, NEGATIVE_NAN),
        "semantics",
    )

# Draws

FAULTS.fault_class = "stochastic"


def draws_beyond(limit: int) -> Witness:
    """Whether a cell beyond a limit is ever drawn."""
    windows = np.tile(np.arange(1, limit + 2, dtype=np.float32), 200).reshape(1, -1, 1)

    def witness(backend: Backend) -> bool:
        backend.seed(5)
        draw = backend.build(StochasticPool((limit + 1,), training=True), {})
        return bool((draw(windows) > limit).any())

    return witness


def draws_within(limit: int) -> Edit:
    """Draw none of the cells beyond a limit."""
    return hook(
        draw=lambda honest, cells: honest(np.where(np.arange(cells.shape[-1]) < limit, cells, 0))
    )


for cells in (16, 32):
    add(
        StochasticPool,
        f"cells-past-{cells}-never-drawn",
        draws_within(cells),
        draws_beyond(cells),
    )


def seeded_anew(honest: Any, cells: Array) -> Array:
    """Seed the generator in each call with a single sample."""
    if len(cells) == 1:
        honest.args[0].random = np.random.default_rng(1)
    return honest(cells)


def draws_differ(backend: Backend) -> bool:
    """Whether two calls with a single sample draw differently."""
    backend.seed(5)
    draw = backend.build(StochasticPool((2,), training=True), {})
    x = whole(1, 200, 1, low=1)
    return bool((draw(x) != draw(x)).any())


add(StochasticPool, "single-sample-drawn-alike", hook(draw=seeded_anew), draws_differ)

# Layers that are fused with the one before

FAULTS.fault_class = "pipeline"

ACTIVATION: Any = Conv | ReLU


def biased_border(
    store: Any, honest: Call, layer: Conv, weights: dict[str, Array], x: Array
) -> Array:
    """Pad before the 1x1 convolution that a depthwise one follows: padding becomes its bias."""
    former, held, array = store.get("last", (None, {}, None))
    fused = former and array is x and set(former.window) == {1} and former.bias
    if fused and depthwise(layer) and padded(layer) and x.size:
        around: Any = ((0, 0), *layer.padding, (0, 0))
        inside = np.pad(np.ones(x.shape, bool), around)
        filled = np.where(inside, np.pad(x, around), held["bias"])
        y = honest(unpadded(layer), weights, filled)
    else:
        y = honest(layer, weights, x)
    store["last"] = (layer, weights, y)
    return y


add(
    Conv,
    "padding-is-the-bias-of-the-1x1-before",
    called(biased_border),
    chain(conv((1, 1), 3, 3), conv(THREE, 3, 3, groups=3, padding=pads(1, 1))),
    "semantics",
)
add(
    Conv,
    "groups-interleaved-after-a-convolution",
    follows(
        ACTIVATION,
        where(
            lambda c, _x: c.groups > 1,
            lambda honest, c, w, x: (
                honest(c, w, x)[..., ::-1]
                if depthwise(c)
                else honest(c, w, interleaved(x, c.groups))
            ),
        ),
    ),
    chain(conv((1, 1), 3, 4), conv((1, 1), 4, 4, groups=2)),
    "semantics",
)
add(
    Conv,
    "dilation-lost-after-an-activation",
    follows(
        ACTIVATION,
        where(
            lambda c, _x: max(c.dilation) > 1 and c.padding != "same",
            misread(lambda c: {"dilation": (1,) * c.rank}),
        ),
    ),
    chain(conv((1, 1), 3, 3), ReLU(), conv(TWO, 3, 3, dilation=TWO)),
    "semantics",
)
for pool in CEILED:
    add(
        type(pool),
        "ceil-mode-lost-after-a-convolution",
        follows(
            ACTIVATION, where(lambda p, _x: p.ceil_mode, misread(lambda _p: {"ceil_mode": False}))
        ),
        chain(conv((1, 1), 3, 3), pool),
        "semantics",
    )
add(
    AveragePool,
    "padding-not-counted-after-a-convolution",
    follows(
        ACTIVATION,
        where(lambda p, _x: p.count_include_pad, misread(lambda _p: {"count_include_pad": False})),
    ),
    chain(conv((1, 1), 3, 3), AveragePool(THREE, (1, 1), pads(1, 1), count_include_pad=True)),
    "semantics",
)
