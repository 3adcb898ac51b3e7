"""Faults of parameter counts and of static shapes."""

# ruff: noqa: ARG005 - a change is given all that it may need

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnformance.spec.layers import (
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
    Shape,
    StochasticPool,
)
from corpus.fault import Faults, counts, number, static, tells

FAULTS = Faults("parameter count")
add = FAULTS.add

CONV = Conv((3, 2), in_channels=4, out_channels=6)
DENSE = Dense(20, 7)
HUGE = Dense(70000, 70000)
LARGE = Dense(6272, 6001)


def wrapped(bits: int) -> Any:
    """Count in two's complement of so many bits."""
    return lambda count, _layer: (count + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def kernel(layer: Any) -> int:
    """Return the number of values of one kernel plane."""
    return math.prod(layer.window)


add(Conv, "bias-not-counted", counts(lambda n, c: n - c.out_channels * c.bias), number(CONV))
add(
    Conv,
    "absent-bias-counted",
    counts(lambda n, c: n + c.out_channels * (not c.bias)),
    number(CONV.replace(bias=False)),
)
add(
    Conv,
    "groups-ignored",
    counts(lambda n, c: kernel(c) * c.in_channels * c.out_channels + c.bias * c.out_channels),
    number(CONV.replace(groups=2)),
    "semantics",
)
add(
    Conv,
    "bias-by-input-channels",
    counts(lambda n, c: n + c.bias * (c.in_channels - c.out_channels)),
    number(CONV),
)
add(
    Conv,
    "first-window-size-squared",
    counts(
        lambda n, c: (
            n + (c.window[0] ** c.rank - kernel(c)) * c.in_channels // c.groups * c.out_channels
        )
    ),
    number(CONV),
)
add(
    Conv,
    "window-sizes-added",
    counts(
        lambda n, c: n + (sum(c.window) - kernel(c)) * c.in_channels // c.groups * c.out_channels
    ),
    number(CONV),
)
add(
    Conv,
    "input-channels-ignored",
    counts(lambda n, c: kernel(c) * c.out_channels + c.bias * c.out_channels),
    number(CONV),
)
add(
    Conv,
    "bias-for-each-kernel-cell",
    counts(lambda n, c: n + c.bias * c.out_channels * (kernel(c) - 1)),
    number(CONV),
)
add(Conv, "one-bias", counts(lambda n, c: n - c.bias * (c.out_channels - 1)), number(CONV))
add(
    Conv,
    "counted-in-32-bits",
    counts(wrapped(32)),
    number(Conv((1, 1), in_channels=70000, out_channels=70000)),
)
add(
    Conv,
    "counted-in-16-bits",
    counts(wrapped(16)),
    number(Conv((3, 3), in_channels=64, out_channels=64)),
)
add(
    Conv,
    "two-axes-counted",
    counts(lambda n, c: n // c.window[-1] if c.rank == 3 else n),
    number(Conv((2, 2, 2), in_channels=1, out_channels=1, bias=False)),
)
add(
    Conv,
    "dilated-window-counted",
    counts(
        lambda n, c: (
            n + (math.prod(c.extent) - kernel(c)) * c.in_channels // c.groups * c.out_channels
        )
    ),
    number(CONV.replace(dilation=(2, 2))),
    "semantics",
)
add(Dense, "bias-not-counted", counts(lambda n, d: n - d.out_features * d.bias), number(DENSE))
add(
    Dense,
    "absent-bias-counted",
    counts(lambda n, d: n + d.out_features * (not d.bias)),
    number(DENSE.replace(bias=False)),
)
add(
    Dense,
    "bias-by-features",
    counts(lambda n, d: n + d.bias * (d.in_features - d.out_features)),
    number(DENSE),
)
add(Dense, "one-bias", counts(lambda n, d: n - d.bias * (d.out_features - 1)), number(DENSE))
add(Dense, "sizes-added", counts(lambda n, d: d.in_features + d.out_features), number(DENSE))
add(Dense, "counted-in-32-bits", counts(wrapped(32)), number(HUGE))
add(Dense, "counted-in-unsigned-32-bits", counts(lambda n, _: n % 2**32), number(HUGE))
add(Dense, "counted-in-float32", counts(lambda n, _: np.float32(n)), number(LARGE))
add(Dense, "counted-in-float64", counts(lambda n, _: float(n)), number(Dense(2**30 + 1, 2**30 + 1)))
add(
    Dense,
    "counted-in-thousands",
    counts(lambda n, _: round(n, -3) if n > 10**5 else n),
    number(LARGE),
)
add(Dense, "arrays-counted", counts(lambda _n, d: 1 + d.bias), number(DENSE))
add(Conv, "arrays-counted", counts(lambda _n, c: 1 + c.bias), number(CONV))
add(MaxPool, "window-counted", counts(lambda _n, p: kernel(p)), number(MaxPool((2, 2))))
add(AveragePool, "one-divisor-counted", counts(lambda _n, _p: 1), number(AveragePool((2, 2))))
add(LpPool, "order-counted", counts(lambda _n, p: p.p), number(LpPool((2, 2))))
add(Flatten, "start-counted", counts(lambda _n, f: f.start), number(Flatten()))
add(ReLU, "slope-counted", counts(lambda _n, _r: 1), number(ReLU()))
add(GlobalAveragePool, "one-counted", counts(lambda _n, _p: 1), number(GlobalAveragePool()))
add(
    StochasticPool,
    "minus-one-when-unknown",
    counts(lambda _n, _p: -1),
    number(StochasticPool((2, 2))),
)
add(MinPool, "window-counted", counts(lambda _n, p: kernel(p)), number(MinPool((2, 2))))

# Static shapes

FAULTS.fault_class = "static shape"
POOLED = (2, 7, 9, 3)


def spatially(shape: Shape, *sizes: int) -> Shape:
    """Return an image's shape with other spatial sizes."""
    return (shape[0], *sizes, shape[-1])


def rounded_up(result: Shape, layer: Any, shape: Shape) -> Shape:
    """Always round up."""
    if isinstance(layer.padding, str):
        return result
    sizes = [
        -(-(n + sum(p) - e) // s) + 1
        for n, p, e, s in zip(shape[1:-1], layer.padding, layer.extent, layer.stride, strict=True)
    ]
    return spatially(result, *sizes)


def undilated(result: Shape, layer: Any, shape: Shape) -> Shape:
    """Ignore the dilation."""
    if isinstance(layer.padding, str):
        return result
    sizes = [
        (n + sum(p) - w) // s + 1
        for n, p, w, s in zip(shape[1:-1], layer.padding, layer.window, layer.stride, strict=True)
    ]
    return spatially(result, *sizes)


def unpadded(result: Shape, layer: Any, shape: Shape) -> Shape:
    """Ignore the padding."""
    if isinstance(layer.padding, str):
        return result
    sizes = [
        max(0, (n - e) // s + 1)
        for n, e, s in zip(shape[1:-1], layer.extent, layer.stride, strict=True)
    ]
    return spatially(result, *sizes)


add(MaxPool, "static-size-rounded-up", tells(rounded_up), static(MaxPool((2, 2)), *POOLED))
add(AveragePool, "static-size-rounded-up", tells(rounded_up), static(AveragePool((2, 2)), *POOLED))
add(
    Conv,
    "static-size-rounded-up",
    tells(rounded_up),
    static(CONV.replace(stride=(3, 3)), 2, 7, 9, 4),
)
add(
    MaxPool,
    "static-ceil-mode-ignored",
    tells(lambda r, p, shape: unpadded(r, p, shape) if p.unpadded else r),
    static(MaxPool((2, 2), ceil_mode=True), *POOLED),
    "semantics",
)
add(
    Conv,
    "static-dilation-ignored",
    tells(undilated),
    static(CONV.replace(dilation=(2, 2)), 2, 7, 9, 4),
    "semantics",
)
add(
    MaxPool,
    "static-padding-ignored",
    tells(unpadded),
    static(MaxPool((2, 2), padding=((1, 1), (1, 1))), 2, 8, 8, 3),
    "semantics",
)
add(
    Conv,
    "static-padding-ignored",
    tells(unpadded),
    static(CONV.replace(padding=((1, 1), (1, 1))), 2, 8, 8, 4),
    "semantics",
)
add(
    AveragePool,
    "static-same-ignores-stride",
    tells(lambda r, p, shape: shape if isinstance(p.padding, str) else r),
    static(AveragePool((2, 2), padding="same"), *POOLED),
    "semantics",
)
add(
    LpPool,
    "static-axes-swapped",
    tells(lambda r, _p, _s: spatially(r, *r[-2:0:-1])),
    static(LpPool((2, 2)), *POOLED),
)
add(
    MinPool,
    "static-one-too-many",
    tells(lambda r, _p, _s: spatially(r, *(n + 1 for n in r[1:-1]))),
    static(MinPool((2, 2)), *POOLED),
)
add(
    Conv,
    "static-channels-of-input",
    tells(lambda r, c, _s: (*r[:-1], c.in_channels)),
    static(CONV, 2, 7, 9, 4),
)
add(
    Conv,
    "static-stride-ignored",
    tells(
        lambda r, c, shape: (
            spatially(r, *(n - e + 1 for n, e in zip(shape[1:-1], c.extent, strict=True)))
            if c.unpadded
            else r
        )
    ),
    static(CONV.replace(stride=(2, 2)), 2, 7, 9, 4),
)
add(
    Flatten,
    "static-last-axis-ignored",
    tells(
        lambda r, f, shape: (
            (*r[:-1], math.prod(shape[f.start : -1])) if len(shape) > f.start + 1 else r
        )
    ),
    static(Flatten(), *POOLED),
)
add(
    Flatten,
    "static-batch-joined",
    tells(lambda r, _f, shape: (math.prod(shape),)),
    static(Flatten(), *POOLED),
)
add(
    Dense,
    "static-features-for-units",
    tells(lambda r, d, _s: (*r[:-1], d.in_features)),
    static(DENSE, 2, 20),
)
add(
    Dense,
    "static-axes-lost-in-3d",
    tells(lambda r, _d, _s: (r[0], r[-1])),
    static(DENSE, 2, 5, 20),
    "semantics",
)
add(
    GlobalAveragePool,
    "static-axes-kept",
    tells(lambda r, p, _s: (r[0], *[1] * p.rank, r[-1])),
    static(GlobalAveragePool(), *POOLED),
)
add(
    MaxPool,
    "static-size-in-float32",
    tells(lambda r, _p, _s: spatially(r, *(int(np.float32(n)) for n in r[1:-1]))),
    static(MaxPool((2,), (1,)), 1, 2**24 + 4, 1),
)
add(
    GlobalMaxPool,
    "static-channels-lost",
    tells(lambda r, _p, _s: r[:1]),
    static(GlobalMaxPool(), *POOLED),
)
add(
    AdaptiveMaxPool,
    "static-output-swapped",
    tells(lambda r, _p, _s: spatially(r, *r[-2:0:-1])),
    static(AdaptiveMaxPool((2, 3)), *POOLED),
    "semantics",
)
add(
    MaxPool,
    "static-empty-batch-is-one",
    tells(lambda r, _p, _s: (max(1, r[0]), *r[1:])),
    static(MaxPool((2, 2)), 0, 4, 4, 1),
    "semantics",
)
add(ReLU, "static-batch-lost", tells(lambda r, _p, _s: r[1:]), static(ReLU(), 2, 3))
add(
    StochasticPool,
    "static-size-of-division",
    tells(
        lambda r, p, shape: spatially(
            r, *(n // s for n, s in zip(shape[1:-1], p.stride, strict=True))
        )
    ),
    static(StochasticPool((2, 2), (1, 1)), *POOLED),
)
add(
    MaxPool,
    "static-size-of-division",
    tells(
        lambda r, p, shape: (
            spatially(r, *(n // s for n, s in zip(shape[1:-1], p.stride, strict=True)))
            if p.unpadded
            else r
        )
    ),
    static(MaxPool((3, 3), (2, 2)), 2, 8, 8, 3),
)
add(
    AveragePool,
    "static-3d-depth-kept",
    tells(lambda r, p, shape: (r[0], shape[1], *r[2:]) if p.rank == 3 else r),
    static(AveragePool((2, 2, 2)), 1, 4, 4, 4, 1),
)
