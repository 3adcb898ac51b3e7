"""Faults of convolution, dense layers, ReLU and flatten."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.spec.layers import Conv, Dense, Flatten, Layer, ReLU
from corpus.fault import Call, Faults, computes, hook, inputs, output, reads, result, weighs, whole
from corpus.faults_pool import moved, one_less, padding, swapped, unpadded
from corpus.kernels import but

FAULTS = Faults("convolution")
add = FAULTS.add

X = whole(2, 7, 9, 2)
SQUARE = Conv((3, 3), in_channels=2, out_channels=2)
WIDE = Conv((2, 3), in_channels=2, out_channels=3)
DEEP = whole(1, 8, 8, 4)
GROUPED = Conv((2, 2), in_channels=4, out_channels=4, groups=2)
SAME = Conv((2, 2), padding="same", in_channels=2, out_channels=2)
PADDED = Conv((3, 3), (2, 2), ((1, 1), (1, 1)), in_channels=2, out_channels=2)


def kernel(change: Callable[[Array], Array]) -> Any:
    """Change the kernel."""
    return weighs(weight=change)


def stepped(change: Callable[[Any], Layer]) -> Any:
    """Misread the layer wherever the windows lie."""
    return reads(change)


def spatially(w: Array, change: Callable[[Array], Array]) -> Array:
    """Apply a change to the spatial axes of a kernel when it has two."""
    return change(w) if w.ndim == 4 else w


# Convolution

add(Conv, "kernel-flipped", kernel(lambda w: np.flip(w, tuple(range(w.ndim - 2)))), result(WIDE, X))
add(
    Conv,
    "kernel-flipped-along-last-axis",
    kernel(lambda w: np.flip(w, w.ndim - 3)),
    result(WIDE, X),
)
add(
    Conv,
    "square-kernel-transposed",
    kernel(lambda w: w.swapaxes(0, 1) if w.ndim == 4 and w.shape[0] == w.shape[1] else w),
    result(SQUARE, X),
)
add(
    Conv,
    "channels-in-and-out-transposed",
    kernel(lambda w: w.swapaxes(-1, -2) if w.shape[-1] == w.shape[-2] else w),
    result(SQUARE, X),
)
add(
    Conv,
    "kernel-reshaped-out-first",
    kernel(lambda w: np.moveaxis(w.reshape(w.shape[-1], *w.shape[:-1]), 0, -1)),
    result(WIDE, X),
)
add(
    Conv,
    "last-kernel-cell-lost",
    hook(correlate=lambda honest, layer, x, w: honest(layer, x, _without_last(w))),
    result(WIDE, X),
)
add(Conv, "bias-forgotten", hook(add_bias=lambda _honest, y, _w: y), result(WIDE, X))
add(
    Conv, "bias-twice", hook(add_bias=lambda honest, y, w: honest(honest(y, w), w)), result(WIDE, X)
)
add(Conv, "bias-subtracted", weighs(bias=np.negative), result(WIDE, X))
add(Conv, "bias-reversed", weighs(bias=lambda b: b[::-1]), result(WIDE, X))
add(Conv, "bias-of-first-channel", weighs(bias=lambda b: np.full_like(b, b[0])), result(WIDE, X))
add(
    Conv,
    "bias-along-width",
    hook(
        add_bias=lambda honest, y, w: (
            y + w["bias"][:, None] if "bias" in w and y.shape[-2] == y.shape[-1] else honest(y, w)
        )
    ),
    result(Conv((2, 2), in_channels=2, out_channels=3), whole(1, 4, 4, 2)),
)
add(Conv, "bias-for-each-cell", weighs(bias=lambda b: b * 4), result(WIDE, X))
add(
    Conv,
    "groups-in-reverse",
    computes(lambda honest, c, w, x: honest(c, w, _groups_reversed(x, c.groups))),
    result(GROUPED, DEEP),
    "semantics",
)
add(
    Conv,
    "first-group-for-all",
    computes(
        lambda honest, c, w, x: honest(
            c, w, np.concatenate([x[..., : c.in_channels // c.groups]] * c.groups, -1)
        )
    ),
    result(GROUPED, DEEP),
    "semantics",
)
add(
    Conv,
    "groups-interleaved",
    computes(lambda honest, c, w, x: honest(c, w, interleaved(x, c.groups))),
    result(GROUPED, DEEP),
    "semantics",
)
add(
    Conv,
    "depthwise-outputs-interleaved",
    computes(
        lambda honest, c, w, x: (
            interleaved(honest(c, w, x), c.groups)
            if c.groups > 1 and c.groups == c.in_channels
            else honest(c, w, x)
        )
    ),
    result(Conv((2, 2), in_channels=2, out_channels=6, groups=2), X),
    "semantics",
)
add(
    Conv,
    "last-input-channel-lost",
    kernel(
        lambda w: np.concatenate([w[..., :-1, :], 0 * w[..., -1:, :]], -2) if w.shape[-2] > 1 else w
    ),
    result(WIDE, X),
)
add(
    Conv,
    "last-output-channel-zero",
    output(lambda y: np.concatenate([y[..., :-1], 0 * y[..., -1:]], -1)),
    result(WIDE, X),
)
add(Conv, "input-channels-reversed", inputs(lambda x: x[..., ::-1]), result(WIDE, X))
add(Conv, "input-channels-averaged", kernel(lambda w: w / w.shape[-2]), result(WIDE, X))
add(
    Conv,
    "border-row-zero",
    output(
        lambda y: np.where(
            (np.arange(y.shape[1]) == y.shape[1] - 1).reshape(-1, *[1] * (y.ndim - 2)), 0, y
        )
    ),
    result(WIDE, X),
)
add(Conv, "relu-fused", output(lambda y: np.where(y < 0, 0, y)), result(WIDE, X))
add(Conv, "absolute-weights", kernel(np.abs), result(WIDE, X))
add(Conv, "squared-input", inputs(lambda x: x * abs(x)), result(WIDE, X))
add(Conv, "stride-swapped", stepped(swapped("stride")), result(WIDE.replace(stride=(1, 2)), X))
add(
    Conv,
    "stride-of-first-axis",
    stepped(lambda c: but(c, stride=c.stride[:1] * c.rank)),
    result(WIDE.replace(stride=(1, 2)), X),
)
add(
    Conv,
    "stride-ignored",
    stepped(lambda c: but(c, stride=(1,) * c.rank)),
    result(WIDE.replace(stride=(2, 2)), X),
)
add(
    Conv,
    "strided-windows-start-late",
    hook(
        axis=lambda honest, c, n, size: (
            moved(1)(honest, c, n, size) if c.stride[n] > 1 else honest(c, n, size)
        )
    ),
    result(WIDE.replace(stride=(2, 2)), X),
)
add(
    Conv,
    "size-rounded-up",
    hook(
        output_size=lambda honest, c, n, size: (
            -(-(honest(but(c, stride=(1,) * c.rank), n, size) - 1) // c.stride[n]) + 1
            if not isinstance(c.padding, str)
            else honest(c, n, size)
        )
    ),
    result(WIDE.replace(stride=(2, 2)), whole(1, 7, 8, 2)),
)
add(Conv, "last-window-missing", hook(output_size=one_less), result(WIDE, X))
add(
    Conv,
    "valid-treated-as-same",
    stepped(lambda c: but(c, padding="same") if c.unpadded else c),
    result(WIDE, X),
)
add(
    Conv,
    "dilation-swapped",
    stepped(swapped("dilation")),
    result(WIDE.replace(dilation=(1, 2)), X),
    "semantics",
)
add(
    Conv,
    "dilation-ignored",
    stepped(lambda c: but(c, dilation=(1,) * c.rank)),
    result(WIDE.replace(dilation=(2, 2)), X),
    "semantics",
)
add(
    Conv,
    "dilation-one-more",
    stepped(lambda c: but(c, dilation=tuple(d + (d > 1) for d in c.dilation))),
    result(WIDE.replace(dilation=(2, 2)), X),
    "semantics",
)
add(
    Conv,
    "dilation-taken-for-stride",
    stepped(
        lambda c: but(c, stride=c.dilation, dilation=(1,) * c.rank) if max(c.dilation) > 1 else c
    ),
    result(WIDE.replace(dilation=(2, 2)), X),
    "semantics",
)
add(
    Conv,
    "padding-swapped",
    stepped(swapped("padding")),
    result(WIDE.replace(padding=((1, 1), (0, 0))), X),
    "semantics",
)
add(Conv, "padding-ignored", stepped(unpadded), result(PADDED, X), "semantics")
add(
    Conv,
    "pads-before-and-after-swapped",
    stepped(padding(lambda a, b: (b, a))),
    result(PADDED.replace(padding=((1, 0), (1, 0))), X),
    "semantics",
)
add(
    Conv,
    "padding-twice-before",
    stepped(padding(lambda a, b: (a + b, 0))),
    result(PADDED, X),
    "semantics",
)
add(
    Conv,
    "same-extra-cell-before",
    hook(split=lambda _honest, _padding, cells: (cells - cells // 2, cells // 2)),
    result(SAME, X),
    "semantics",
)
add(
    Conv,
    "same-lower-as-same",
    hook(split=lambda _honest, _padding, cells: (cells // 2, cells - cells // 2)),
    result(SAME.replace(padding="same_lower"), X),
    "semantics",
)
add(
    Conv,
    "same-ignores-dilation",
    hook(extent=lambda honest, c, n: c.window[n] if isinstance(c.padding, str) else honest(c, n)),
    result(SAME.replace(dilation=(2, 2)), X),
    "semantics",
)
add(
    Conv,
    "same-pads-without-stride",
    hook(
        pads=lambda honest, c, n, size: (
            ((c.window[n] - 1) // 2, c.window[n] // 2)
            if isinstance(c.padding, str)
            else honest(c, n, size)
        )
    ),
    result(Conv((3, 3), (2, 2), "same", in_channels=2, out_channels=2), whole(1, 8, 8, 2)),
    "semantics",
)
add(
    Conv,
    "same-size-rounded-down",
    hook(
        output_size=lambda honest, c, n, size: (
            size // c.stride[n] if isinstance(c.padding, str) else honest(c, n, size)
        )
    ),
    result(SAME.replace(stride=(2, 2)), X),
    "semantics",
)
add(
    Conv,
    "edge-in-padding",
    computes(lambda honest, c, w, x: padded_by(honest, c, w, x, "edge")),
    result(PADDED, X),
    "semantics",
)
add(
    Conv,
    "circular-padding",
    computes(lambda honest, c, w, x: padded_by(honest, c, w, x, "wrap")),
    result(PADDED, X),
    "semantics",
)
add(
    Conv,
    "reflected-padding",
    computes(lambda honest, c, w, x: padded_by(honest, c, w, x, "reflect")),
    result(PADDED, X),
    "semantics",
)
add(
    Conv,
    "flipped-in-1d",
    kernel(lambda w: w[::-1] if w.ndim == 3 else w),
    result(Conv((3,), in_channels=2, out_channels=2), whole(1, 9, 2)),
)
add(
    Conv,
    "depth-lost-in-3d",
    kernel(lambda w: np.concatenate([w[:1], 0 * w[1:]]) if w.ndim == 5 else w),
    result(Conv((2, 2, 2), in_channels=2, out_channels=2), whole(1, 4, 4, 4, 2)),
)


def _without_last(weight: Array) -> Array:
    """Return a kernel whose last spatial cell is 0."""
    flat = weight.reshape(-1, *weight.shape[-2:]).copy()
    flat[-1] = 0 if len(flat) > 1 else flat[-1]
    return flat.reshape(weight.shape)


def _groups_reversed(x: Array, groups: int) -> Array:
    """Return the channels with the order of their groups reversed."""
    return x.reshape(*x.shape[:-1], groups, -1)[..., ::-1, :].reshape(x.shape) if x.size else x


def interleaved(x: Array, groups: int) -> Array:
    """Return the channels taken round the groups in turn."""
    return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape) if x.size else x


def padded_by(honest: Call, layer: Conv, weights: dict[str, Array], x: Array, mode: Any) -> Array:
    """Compute with explicit pads filled from the image."""
    if isinstance(layer.padding, str) or layer.unpadded or not x.size:
        return honest(layer, weights, x)
    filled = np.pad(x, [(0, 0), *layer.padding, (0, 0)], mode=mode)
    return honest(unpadded(layer), weights, filled)


# Dense

FAULTS.fault_class = "dense"
ROWS = whole(3, 5)
WIDER = Dense(5, 3)
EQUAL = Dense(5, 5)

add(
    Dense,
    "square-weight-transposed",
    kernel(lambda w: w.T if w.shape[0] == w.shape[1] else w),
    result(EQUAL, ROWS),
)
add(
    Dense,
    "weight-reshaped-in-first",
    kernel(lambda w: w.reshape(w.shape[::-1]).T),
    result(WIDER, ROWS),
)
add(Dense, "bias-forgotten", hook(add_bias=lambda _honest, y, _w: y), result(WIDER, ROWS))
add(
    Dense,
    "bias-twice",
    hook(add_bias=lambda honest, y, w: honest(honest(y, w), w)),
    result(WIDER, ROWS),
)
add(Dense, "bias-subtracted", weighs(bias=np.negative), result(WIDER, ROWS))
add(
    Dense,
    "bias-on-first-unit-only",
    weighs(bias=lambda b: np.where(np.arange(len(b)) == 0, b, 0)),
    result(WIDER, ROWS),
)
add(
    Dense,
    "bias-along-batch",
    hook(
        add_bias=lambda honest, y, w: (
            y + w["bias"][:, None]
            if "bias" in w and y.ndim == 2 and len(y) == y.shape[-1]
            else honest(y, w)
        )
    ),
    result(WIDER, ROWS),
)
add(Dense, "bias-rolled", weighs(bias=lambda b: np.roll(b, 1)), result(WIDER, ROWS))
add(
    Dense,
    "bias-on-first-row-only",
    computes(
        lambda honest, d, w, x: np.concatenate(
            [honest(d, w, x[:1]), honest(d, {k: v * (k != "bias") for k, v in w.items()}, x[1:])]
        )
    ),
    result(WIDER, ROWS),
)
add(
    Dense,
    "last-feature-lost",
    inputs(lambda x: np.concatenate([x[..., :-1], 0 * x[..., -1:]], -1)),
    result(WIDER, ROWS),
)
add(
    Dense,
    "first-feature-lost",
    inputs(lambda x: np.concatenate([0 * x[..., :1], x[..., 1:]], -1)),
    result(WIDER, ROWS),
)
add(
    Dense,
    "last-unit-zero",
    output(lambda y: np.concatenate([y[..., :-1], 0 * y[..., -1:]], -1)),
    result(WIDER, ROWS),
)
add(Dense, "units-reversed", output(lambda y: y[..., ::-1]), result(WIDER, ROWS))
add(Dense, "features-reversed", inputs(lambda x: x[..., ::-1]), result(WIDER, ROWS))
add(Dense, "relu-fused", output(lambda y: np.where(y < 0, 0, y)), result(WIDER, -ROWS))
add(Dense, "absolute-weights", kernel(np.abs), result(WIDER, ROWS))
add(
    Dense,
    "divided-by-features",
    hook(inner=lambda honest, a, b: honest(a, b) / max(1, len(b))),
    result(WIDER, ROWS),
)
add(
    Dense,
    "first-row-for-all",
    computes(lambda honest, d, w, x: honest(d, w, np.broadcast_to(x[:1], x.shape))),
    result(WIDER, ROWS),
)
add(
    Dense,
    "single-row-squeezed",
    output(lambda y: y[0] if len(y) == 1 and y.ndim == 2 else y),
    result(WIDER, ROWS[:1]),
)
add(
    Dense,
    "first-position-for-all-in-3d",
    computes(
        lambda honest, d, w, x: honest(
            d, w, np.broadcast_to(x[:, :1], x.shape) if x.ndim == 3 else x
        )
    ),
    result(WIDER, whole(2, 4, 5)),
    "semantics",
)
add(
    Dense,
    "positions-transposed-in-3d",
    computes(
        lambda honest, d, w, x: (
            np.ascontiguousarray(honest(d, w, x).swapaxes(0, 1)).reshape(*x.shape[:-1], -1)
            if x.ndim == 3 and x.size
            else honest(d, w, x)
        )
    ),
    result(WIDER, whole(2, 4, 5)),
    "semantics",
)
add(
    Dense,
    "no-bias-means-ones",
    hook(add_bias=lambda honest, y, w: honest(y, w) if "bias" in w else y + 1),
    result(Dense(5, 3, bias=False), ROWS),
    "semantics",
)
add(
    Dense,
    "no-features-no-bias",
    computes(
        lambda honest, d, w, x: (
            honest(d, w, x) if x.shape[-1] else np.zeros((*x.shape[:-1], d.out_features), x.dtype)
        )
    ),
    result(Dense(0, 3), ROWS[:, :0]),
    "semantics",
)
add(
    Dense,
    "sigmoid-fused",
    output(lambda y: 1 / (1 + np.exp(-y.astype(np.float64)))),
    result(WIDER, ROWS),
)
add(
    Dense,
    "centred-input",
    inputs(lambda x: x - x.mean(-1, keepdims=True) if x.size else x),
    result(WIDER, ROWS),
)

# ReLU

FAULTS.fault_class = "relu"
SIGNED = whole(2, 5, 3)
SMALL = np.array([1e-3, 2e-5, 1e-7, 1e-12, 3, -2], np.float32)
LARGE = np.array([1, 7, 100, 3e5, -2], np.float32)


def acts(change: Callable[[Array], Array]) -> Any:
    """Replace the function of an element."""
    return computes(lambda _honest, _layer, _weights, x: np.asarray(change(x)).astype(x.dtype))


add(
    ReLU,
    "leaks-a-thousandth",
    acts(lambda x: np.where(x < 0, x * 1e-3, x) if x.dtype.kind not in "iu" else np.maximum(x, 0)),
    result(ReLU(), SIGNED),
)
add(
    ReLU,
    "leaks-a-ten-millionth",
    acts(lambda x: np.where(x < 0, x * 1e-7, x) if x.dtype.kind not in "iu" else np.maximum(x, 0)),
    result(ReLU(), SIGNED),
)
add(ReLU, "clipped-at-6", acts(lambda x: np.clip(x, 0, 6)), result(ReLU(), LARGE))
add(
    ReLU,
    "clipped-at-65504",
    acts(
        lambda x: (
            np.where(x > 65504, 65504, np.where(x < 0, 0, x))
            if x.dtype.name in ("float32", "float64")
            else np.where(x < 0, 0, x)
        )
    ),
    result(ReLU(), LARGE),
)
add(
    ReLU,
    "kills-below-a-thousandth",
    acts(lambda x: np.where(x < 2e-3, 0, x)),
    result(ReLU(), SMALL),
)
add(ReLU, "kills-below-1e-6", acts(lambda x: np.where(x < 1e-6, 0, x)), result(ReLU(), SMALL))
add(ReLU, "magnitude", acts(np.abs), result(ReLU(), SIGNED))
add(ReLU, "keeps-negatives", acts(lambda x: x.copy()), result(ReLU(), SIGNED))
add(ReLU, "minimum", acts(lambda x: np.where(x > 0, 0, x)), result(ReLU(), SIGNED))
add(ReLU, "step", acts(lambda x: x > 0), result(ReLU(), SIGNED))
add(
    ReLU,
    "elu-below-zero",
    acts(
        lambda x: (
            np.where(x < 0, np.expm1(np.minimum(x, 0).astype(np.float64)), x)
            if x.dtype.kind not in "iu"
            else np.maximum(x, 0)
        )
    ),
    result(ReLU(), SIGNED),
)
add(ReLU, "threshold-at-one", acts(lambda x: np.where(x < 1, 0, x)), result(ReLU(), SMALL))
add(
    ReLU,
    "minus-one-survives",
    acts(lambda x: np.where(x == -1, x, np.where(x < 0, 0, x))),
    result(ReLU(), np.array([-1, -2, 3], np.float32)),
)
add(
    ReLU,
    "first-channel-only",
    acts(
        lambda x: (
            np.concatenate([np.where(x[..., :1] < 0, 0, x[..., :1]), x[..., 1:]], -1)
            if x.ndim
            else x
        )
    ),
    result(ReLU(), SIGNED),
)
add(ReLU, "swish", acts(lambda x: x / (1 + np.exp(-x.astype(np.float64)))), result(ReLU(), SIGNED))
add(
    ReLU,
    "joins-axes",
    output(lambda y: y.reshape(len(y), -1) if y.size and y.ndim > 2 else y),
    result(ReLU(), SIGNED),
)

# Flatten

FAULTS.fault_class = "flatten"
CUBE = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)


def joins(change: Callable[[Array], Array]) -> Any:
    """Change what is flattened."""
    return computes(lambda honest, layer, weights, x: honest(layer, weights, change(x)))


add(
    Flatten,
    "fortran-order",
    computes(
        lambda honest, f, w, x: x.transpose(
            *range(f.start), *range(x.ndim - 1, f.start - 1, -1)
        ).reshape(honest(f, w, x).shape)
    ),
    result(Flatten(), CUBE),
)
add(
    Flatten,
    "channels-first-order",
    computes(
        lambda honest, f, w, x: (
            np.moveaxis(x, -1, 1).reshape(honest(f, w, x).shape)
            if f.start == 1 and x.ndim > 2
            else honest(f, w, x)
        )
    ),
    result(Flatten(), CUBE),
)
add(
    Flatten,
    "rows-and-columns-swapped",
    joins(lambda x: x.swapaxes(1, 2).reshape(x.shape) if x.ndim > 3 else x),
    result(Flatten(), CUBE),
)
add(Flatten, "reversed", output(lambda y: y[..., ::-1]), result(Flatten(), CUBE))
add(Flatten, "batch-joined", output(lambda y: y.reshape(-1)), result(Flatten(), CUBE))
add(
    Flatten,
    "batch-scattered",
    output(lambda y: y.reshape(y.shape[::-1]).T if y.ndim == 2 else y),
    result(Flatten(), CUBE),
)
add(Flatten, "sorted", output(lambda y: np.sort(y, -1)), result(Flatten(), -CUBE))
add(
    Flatten,
    "snake-order",
    joins(
        lambda x: (
            np.where(
                np.arange(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2)) % 2 == 0, x, np.flip(x, 2)
            )
            if x.ndim > 2
            else x
        )
    ),
    result(Flatten(), CUBE),
)
add(Flatten, "start-ignored", reads(lambda _: Flatten()), result(Flatten(2), CUBE), "semantics")
add(
    Flatten,
    "start-one-more",
    reads(lambda f: but(f, start=f.start + 1) if f.start > 1 else f),
    result(Flatten(2), CUBE),
    "semantics",
)
add(Flatten, "last-value-lost", output(lambda y: y[..., :-1]), result(Flatten(), CUBE))
add(
    Flatten,
    "padded-to-four",
    output(lambda y: np.pad(y, [(0, 0)] * (y.ndim - 1) + [(0, -y.shape[-1] % 4)])),
    result(Flatten(), CUBE[..., :1][:, :1]),
)
add(
    Flatten,
    "last-axis-kept",
    computes(
        lambda _honest, f, _w, x: (
            x.reshape(*x.shape[: f.start], math.prod(x.shape[f.start : -1]), x.shape[-1])
            if x.ndim > f.start + 1
            else x.copy()
        )
    ),
    result(Flatten(), CUBE),
)
add(Flatten, "fused-relu", output(lambda y: np.where(y < 0, 0, y)), result(Flatten(), -CUBE))
add(
    Flatten,
    "fortran-order-in-3d",
    computes(
        lambda honest, f, w, x: (
            x.transpose(0, 3, 2, 1, 4).reshape(honest(f, w, x).shape)
            if x.ndim == 5 and f.start == 1
            else honest(f, w, x)
        )
    ),
    result(Flatten(), np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4, 1)),
)
