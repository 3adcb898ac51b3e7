"""Faults that show where sizes, options, dtypes or special values meet."""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Backend, Weights
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
    Shape,
)
from corpus.fault import (
    Call,
    Faults,
    backpropagates,
    computes,
    gradient,
    hook,
    inputs,
    output,
    result,
    static,
    tells,
    values,
    whole,
)

FAULTS = Faults("sizes, options and values together")
add = FAULTS.add

Grads = dict[str, Array]


def depthwise_order(honest: Call, layer: Conv, weights: Weights, x: Array) -> Array:
    """Write the outputs of four groups and more multiplier by multiplier."""
    y = honest(layer, weights, x)
    if layer.groups < 4 or layer.in_channels != layer.groups:
        return y
    parts = y.reshape(*y.shape[:-1], layer.groups, layer.out_channels // layer.groups)
    return parts.swapaxes(-1, -2).reshape(y.shape)


def without_products(honest: Call, layer: Conv, weights: Weights, x: Array) -> Array:
    """Leave windows of padding alone without their bias."""
    y = honest(layer, weights, x)
    ones = np.ones((1, *x.shape[1:-1], 1), x.dtype)
    plain = layer.replace(in_channels=1, out_channels=1, groups=1, bias=False)
    kernel = np.ones((*layer.window, 1, 1), x.dtype)
    return np.where(honest(plain, {"weight": kernel}, ones) > 0, y, 0)


def clamped(honest: Call, layer: Conv, weights: Weights, x: Array) -> Array:
    """Read the nearest cell in place of padding under a dilation of four and more."""
    if max(layer.dilation) < 4 or layer.unpadded or isinstance(layer.padding, str):
        return honest(layer, weights, x)
    x = np.pad(x, ((0, 0), *layer.padding, (0, 0)), mode="edge")
    return honest(layer.replace(padding=()), weights, x)


def odd_taps(honest: Call, layer: Conv, weights: dict[str, Array], x: Array) -> Array:
    """Unroll rows of seven taps and more by two, and leave an odd one out."""
    if layer.window[-1] > 6 and layer.window[-1] % 2:
        weights["weight"] = weights["weight"].copy()
        weights["weight"][(..., -1, slice(None), slice(None))] = 0
    return honest(layer, weights, x)


def blocks(honest: Call, layer: Conv, weights: dict[str, Array], x: Array) -> Array:
    """Lose the last input channels where both sides are blocked by sixteen."""
    if layer.groups == 1 and min(layer.in_channels, layer.out_channels) > 16:
        weights["weight"] = weights["weight"].copy()
        weights["weight"][..., layer.in_channels // 16 * 16 :, :] = 0
    return honest(layer, weights, x)


def narrowed(honest: Call, layer: Dense, weights: Weights, x: Array) -> Array:
    """Compute float64 of 64 features and more in float32."""
    if x.dtype != np.float64 or layer.in_features < 64:
        return honest(layer, weights, x)
    single = {name: weight.astype(np.float32) for name, weight in weights.items()}
    return honest(layer, single, x.astype(np.float32)).astype(np.float64)


def half_tail(honest: Call, layer: Dense, weights: Weights, x: Array) -> Array:
    """Read no features of halves beyond the last eight."""
    if x.dtype == np.float16 and layer.in_features > 48:
        x = x.copy()
        x[..., layer.in_features // 8 * 8 :] = 0
    return honest(layer, weights, x)


add(
    Conv,
    "depthwise-outputs-in-another-order",
    computes(depthwise_order),
    result(Conv((1,), in_channels=4, out_channels=8, groups=4), whole(1, 3, 4, low=1)),
    "semantics",
)
add(
    Conv,
    "no-bias-in-padding",
    computes(without_products),
    result(Conv((1,), padding=((1, 1),), in_channels=1, out_channels=1), values(1, 2)),
    "semantics",
)
add(
    Conv,
    "wide-dilation-clamps",
    computes(clamped),
    result(
        Conv((2,), dilation=(4,), padding=((2, 2),), in_channels=1, out_channels=1),
        values(1, 2, 3, 4, 5),
    ),
    "semantics",
)
add(
    Conv,
    "odd-tap-of-a-wide-kernel-lost",
    computes(odd_taps),
    result(Conv((1, 7), in_channels=1, out_channels=1), whole(1, 2, 9, 1, low=1)),
)
add(
    Conv,
    "block-of-channels-lost",
    computes(blocks),
    result(Conv((1,), in_channels=17, out_channels=17), whole(1, 2, 17, low=1)),
)
add(
    Dense,
    "many-doubles-through-float32",
    computes(narrowed),
    result(Dense(64, 1), whole(1, 64, dtype="float64") + 1e-9),
    "precision",
)
add(
    Dense,
    "half-features-left-over",
    computes(half_tail),
    result(Dense(53, 1), whole(1, 53, dtype="float16", low=1)),
    "precision",
)
add(
    MaxPool,
    "last-of-wide-rows-repeated",
    output(
        lambda y: (
            np.concatenate([y[:, :, :-1], y[:, :, -2:-1]], 2)
            if y.ndim == 4 and y.shape[2] > 32 and y.shape[2] % 2
            else y
        )
    ),
    result(MaxPool((1, 1)), np.arange(35, dtype=np.float32).reshape(1, 1, 35, 1)),
)


def first_row_only(x: Array) -> Array:
    """Compare the cells of a row beyond 64 in the first row alone."""
    if x.ndim != 4 or x.dtype.kind in "iu":
        return x
    row, column = np.ogrid[: x.shape[1], : x.shape[2]]
    return np.where(((row > 0) & (column > 63))[..., None], -np.inf, x)


add(
    GlobalMaxPool,
    "tail-of-wide-rows-in-one-row",
    inputs(first_row_only),
    result(GlobalMaxPool(), np.arange(2 * 70, dtype=np.float32).reshape(1, 2, 70, 1)),
)


def sixteen_bit(y: Array) -> Array:
    """Leave out the samples that a grid of 65535 blocks does not reach."""
    return np.where((np.arange(len(y)) < 65535).reshape(-1, *[1] * (y.ndim - 1)), y, 0)


add(
    AdaptiveAveragePool,
    "samples-beyond-the-grid",
    output(sixteen_bit),
    result(AdaptiveAveragePool((1,)), np.ones((65537, 1, 1), np.float32)),
)


def running(honest: Call, layer: AveragePool, weights: Weights, x: Array) -> Array:
    """Add the new cell to a running sum, and take the old one off."""
    plain = layer.unpadded and layer.dilation == (1,) and not layer.ceil_mode
    if len(layer.window) != 1 or layer.stride != (1,) or not plain or x.dtype != np.float32:
        return honest(layer, weights, x)
    (cells,) = layer.window
    total = x[:, :cells].sum(1)
    sums = [total]
    for cell in range(cells, x.shape[1]):
        total = total + x[:, cell] - x[:, cell - cells]
        sums.append(total)
    return np.stack(sums, 1) / np.float32(cells)


add(
    AveragePool,
    "running-sum",
    computes(running),
    result(AveragePool((2,), stride=(1,)), values(1e8, 1, 1, 1)),
    "precision",
)


def high_order(honest: Any, terms: Array, p: int) -> Array:
    """Take the root of orders above three by square roots."""
    norm: Array = honest(terms, p)
    return norm ** (p / 2 ** int(math.log2(p))) if p > 3 else norm


add(
    LpPool,
    "high-order-by-square-roots",
    hook(norm=high_order),
    result(LpPool((2,), p=5), values(3, 4)),
    "semantics",
)


def negated(honest: Call, layer: MinPool, weights: Weights, x: Array) -> Array:
    """Take the minimum of integers as the negative maximum of the negatives."""
    if x.dtype.kind != "i":
        return honest(layer, weights, x)
    fields = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "ceil_mode")}
    return -honest(MaxPool(layer.window, **fields), weights, -x)


add(
    MinPool,
    "lowest-integer-negated",
    computes(negated),
    result(MinPool((2,)), values(-(2**31), 5, dtype="int32")),
    "semantics",
)


def widened(x: Array) -> Array:
    """Give subnormal halves the leading bit of normal ones."""
    if x.dtype != np.float16:
        return x
    faint = (np.abs(x) < 2.0**-14) & (x != 0)
    return np.where(faint, np.sign(x) * (np.abs(x.astype(np.float32)) / 2 + 2.0**-15), x)


add(
    MaxPool,
    "half-subnormals-widened-as-normal",
    inputs(widened),
    result(MaxPool((1,)), values(2.0**-24, dtype="float16")),
    "semantics",
)
add(
    MaxPool,
    "nan-lost-in-large-windows",
    computes(
        lambda honest, layer, weights, x: (
            honest(layer, weights, np.where(np.isnan(x), -np.inf, x).astype(x.dtype))
            if math.prod(layer.window) > 31 and x.dtype.kind not in "iu"
            else honest(layer, weights, x)
        )
    ),
    result(MaxPool((33,)), np.where(np.arange(33) == 7, np.nan, 1).reshape(1, 33, 1).astype("f4")),
    "semantics",
)
add(
    ReLU,
    "nan-lost-in-large-arrays",
    inputs(lambda x: np.where(np.isnan(x), 0, x) if x.size > 4095 else x),
    result(ReLU(), np.full((1, 4096), np.nan, np.float32)),
    "semantics",
)


def strided_as_dense(x: Array) -> Array:
    """Take memory for contiguous whose last axis is."""
    inner = x.ndim > 1 and x.size and x.strides[-1] == x.itemsize and x.shape[-1] > 1
    if not inner or x.flags.c_contiguous or min(x.strides) < 0:
        return x
    steps = np.cumprod((1, *x.shape[:0:-1]))[::-1] * x.itemsize
    return np.lib.stride_tricks.as_strided(x, x.shape, [int(step) for step in steps])


add(
    MaxPool,
    "every-second-sample-read-as-all",
    inputs(strided_as_dense),
    result(MaxPool((1,)), np.arange(8, dtype=np.float32).reshape(4, 1, 2)[::2]),
    "memory",
)
add(
    AveragePool,
    "broadcast-samples-lost",
    inputs(lambda x: np.concatenate([x[:1], 0 * x[1:]]) if len(x) > 1 and not x.strides[0] else x),
    result(AveragePool((1,)), np.broadcast_to(values(1, 2), (3, 2, 1))),
    "memory",
)


add(
    AveragePool,
    "empty-halves-not-cast",
    hook(
        finish=lambda honest, y, dtype: honest(
            y, dtype if y.size or dtype.itemsize > 2 else np.dtype(np.float32)
        )
    ),
    result(AveragePool((1,)), np.zeros((0, 2, 1), np.float16)),
    "semantics",
)


def repeated(honest: Call, layer: Layer, weights: Weights, x: Array) -> Array:
    """Join a dense layer's leading axes one too few, from five axes on."""
    y = honest(layer, weights, x)
    return np.broadcast_to(y[:, :1], y.shape) if x.ndim > 4 and y.size else y


add(
    Dense,
    "leading-axes-of-five-repeated",
    computes(repeated),
    result(Dense(1, 1), whole(1, 2, 1, 1, 1)),
    "semantics",
)


# Gradients


def split_batch(grads: Grads, layer: Layer, weights: Weights, x: Array, g: Array) -> Grads:
    """Split batches of more than five in fours, and leave the rest out of the weights' gradient."""
    del layer, weights
    if len(x) > 5 and x.ndim == 2:
        kept = len(x) // 4 * 4
        grads["weight"] = g[:kept].T @ x[:kept].astype(np.float64)
    return grads


add(
    Dense,
    "gradient-of-a-split-batch",
    backpropagates(split_batch),
    gradient(Dense(2, 2), whole(7, 2, low=1)),
    "gradient",
)
add(
    ReLU,
    "gradient-mask-of-halves",
    backpropagates(
        lambda _grads, _layer, _weights, x, g: {"input": np.where(x.astype(np.float16) > 0, g, 0)}
    ),
    gradient(ReLU(), values(1e-9, 1)),
    "gradient",
)


def clobbered(grads: Grads, layer: Layer, weights: Weights, x: Array, g: Array) -> Grads:
    """Write the mask of the backward pass into its input."""
    del layer, weights, g
    x[...] = x > 0
    return grads


def input_after(backend: Backend) -> Array:
    """Return an input after the backward pass."""
    x = values(3, -1)
    backend.gradients(ReLU(), {}, x, values(1, 1))
    return x


add(ReLU, "gradient-written-into-the-input", backpropagates(clobbered), input_after, "gradient")


def rounded(grads: Grads, layer: Layer, weights: Weights, x: Array, g: Array) -> Grads:
    """Cast the gradient to float16 on its way."""
    del layer, weights, g
    return {name: a.astype(np.float16).astype(x.dtype) for name, a in grads.items()}


add(
    AveragePool,
    "gradient-through-float16",
    backpropagates(rounded),
    gradient(AveragePool((3,)), values(1, 2, 3)),
    "gradient",
)
add(
    MaxPool,
    "gradient-of-minus-infinity-lost",
    backpropagates(
        lambda grads, _layer, _weights, x, _g: {
            "input": np.where(np.isneginf(x), 0, grads["input"])
        }
    ),
    gradient(MaxPool((2,)), values(-np.inf, -np.inf)),
    "gradient",
)


# Shapes that are stated, and draws


def too_small(shape: Shape, layer: Any, given: Shape) -> Shape:
    """Round the stated size of a flattened sample to 32 bits."""
    del layer, given
    return (*shape[:-1], int(np.int64(shape[-1]).astype(np.int32)))


add(
    Flatten,
    "stated-size-of-32-bits",
    tells(too_small),
    static(Flatten(), 1, 2**16, 2**16, 3),
    "semantics",
)
