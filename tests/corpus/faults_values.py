"""Faults in values: special ones, overflow, dtypes other than float32, and lost precision."""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
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
    Edit,
    Faults,
    computes,
    hook,
    inputs,
    output,
    result,
    values,
    weighs,
    whole,
)
from corpus.kernels import FLOATS, extreme

FAULTS = Faults("special values")
add = FAULTS.add

kind: Any
layer: Any

inf, nan = np.inf, np.nan
PAIR = (2,)
TINY = 1e-40
"""A subnormal float32."""


def floating(x: Array) -> bool:
    """Whether the dtype is one of the floating-point dtypes."""
    return x.dtype.name in FLOATS


def on_floats(change: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Apply a change to floating-point arrays only."""
    return lambda x: change(x) if floating(x) else x


def without_nan(sign: int) -> Callable[..., Array]:
    """Compare as ``best = c > best ? c : best``: NaN stays where it comes first, else is lost."""

    def fold(_honest: Any, cells: Array, inside: Array) -> Array:
        wide = cells.astype(np.float32) if cells.dtype.name in FLOATS[:2] else cells
        wide = np.where(inside, wide, extreme(wide.dtype, -sign))
        later = wide[..., 1:]
        numbers = np.where(np.isnan(later), extreme(wide.dtype, -sign), later)
        first = wide[..., 0]
        rest = (
            numbers.max(-1, initial=extreme(wide.dtype, -1))
            if sign > 0
            else numbers.min(-1, initial=extreme(wide.dtype, 1))
        )
        beats = rest > first if sign > 0 else rest < first
        return np.where(beats, rest, first)

    return fold


# NaN

LATE_NAN = values(1, nan, nan, 1)
add(
    MaxPool,
    "nan-lost-unless-first",
    hook(maximum=without_nan(1)),
    result(MaxPool(PAIR), LATE_NAN),
    "semantics",
)
add(
    MinPool,
    "nan-lost-unless-first",
    hook(minimum=without_nan(-1)),
    result(MinPool(PAIR), LATE_NAN),
    "semantics",
)
add(
    GlobalMaxPool,
    "nan-lost-unless-first",
    hook(maximum=without_nan(1)),
    result(GlobalMaxPool(1), LATE_NAN[:, :2]),
    "semantics",
)
add(
    AdaptiveMaxPool,
    "nan-lost-unless-first",
    hook(maximum=without_nan(1)),
    result(AdaptiveMaxPool((2,)), LATE_NAN),
    "semantics",
)
add(
    MaxPool,
    "nan-lost-beyond-eight-channels",
    computes(
        lambda honest, p, w, x: honest(
            p,
            w,
            np.where((np.arange(x.shape[-1]) >= 8) & np.isnan(x), x.dtype.type(-inf), x)
            if floating(x)
            else x,
        )
    ),
    result(MaxPool(PAIR), np.tile(LATE_NAN, 9)),
    "semantics",
)
add(
    MaxPool,
    "nan-is-minus-infinity-in-padded-windows",
    hook(
        maximum=lambda honest, cells, inside: (
            honest(cells, inside & ~np.isnan(cells)) if not inside.all() else honest(cells, inside)
        )
    ),
    result(MaxPool(PAIR, padding=((1, 0),)), LATE_NAN),
    "semantics",
)
add(
    MaxPool,
    "nan-becomes-zero",
    inputs(on_floats(lambda x: np.where(np.isnan(x), 0, x))),
    result(MaxPool(PAIR), values(nan, nan)),
    "semantics",
)
for kind, layer in (
    (AveragePool, AveragePool(PAIR)),
    (LpPool, LpPool(PAIR)),
    (GlobalAveragePool, GlobalAveragePool(1)),
    (Conv, Conv(PAIR, in_channels=1, out_channels=1)),
    (Dense, Dense(1, 2)),
):
    add(
        kind,
        "nan-becomes-zero",
        inputs(lambda x: np.where(np.isnan(x), 0, x)),
        result(layer, values(nan, 2)),
        "semantics",
    )
add(
    ReLU,
    "nan-becomes-zero-at-odd-positions",
    computes(
        lambda honest, r, w, x: np.where(
            np.isnan(y := honest(r, w, x)) & (np.arange(y.size).reshape(y.shape) % 2 == 1),
            y.dtype.type(0),
            y,
        )
    ),
    result(ReLU(), values(nan, nan)),
    "semantics",
)
add(
    ReLU,
    "nan-becomes-infinity",
    output(on_floats(lambda y: np.where(np.isnan(y), inf, y))),
    result(ReLU(), values(nan, 1)),
    "semantics",
)
add(
    Flatten,
    "nan-becomes-zero",
    output(on_floats(lambda y: np.where(np.isnan(y), 0, y))),
    result(Flatten(), values(nan, 1)),
    "semantics",
)
add(
    Dense,
    "nan-spreads-over-batch",
    output(lambda y: np.where(np.isnan(y).any(0, keepdims=True), np.nan, y)),
    result(Dense(1, 2), values(nan, 2)[0]),
    "semantics",
)
add(
    AveragePool,
    "nan-spreads-to-next-window",
    output(lambda y: np.where(np.isnan(np.roll(y, 1, 1)), np.nan, y)),
    result(AveragePool(PAIR), values(nan, 2, 3, 4)),
    "semantics",
)

# Infinities

add(
    MaxPool,
    "infinity-clipped",
    output(
        on_floats(lambda y: np.where(np.isposinf(y.astype(float)), np.finfo(np.float16).max, y))
    ),
    result(MaxPool(PAIR), values(inf, 1)),
    "semantics",
)
add(
    MaxPool,
    "minus-infinity-window-is-nan",
    output(on_floats(lambda y: np.where(np.isneginf(y.astype(float)), nan, y))),
    result(MaxPool(PAIR), values(-inf, -inf)),
    "semantics",
)
add(
    MaxPool,
    "minus-infinity-window-is-zero",
    output(on_floats(lambda y: np.where(np.isneginf(y.astype(float)), 0, y))),
    result(MaxPool(PAIR), values(-inf, -inf)),
    "semantics",
)
add(
    MinPool,
    "infinite-window-is-largest-finite",
    output(on_floats(lambda y: np.where(np.isposinf(y.astype(float)), 6e4, y))),
    result(MinPool(PAIR), values(inf, inf)),
    "semantics",
)
add(
    AveragePool,
    "infinity-is-nan",
    output(lambda y: np.where(np.isinf(y.astype(float)), nan, y)),
    result(AveragePool(PAIR), values(inf, 1)),
    "semantics",
)
add(
    AveragePool,
    "opposite-infinities-cancel",
    hook(
        mean=lambda honest, terms, n: np.where(
            np.isposinf(terms).any(-1) & np.isneginf(terms).any(-1), 0, honest(terms, n)
        )
    ),
    result(AveragePool(PAIR), values(inf, -inf)),
    "semantics",
)
add(
    GlobalAveragePool,
    "infinities-ignored",
    inputs(lambda x: np.where(np.isinf(x.astype(float)), 0, x)),
    result(GlobalAveragePool(1), values(inf, 1)),
    "semantics",
)
add(
    LpPool,
    "infinity-is-nan",
    hook(norm=lambda honest, terms, p: np.where(np.isinf(terms).any(-1), nan, honest(terms, p))),
    result(LpPool(PAIR), values(inf, 1)),
    "semantics",
)
add(
    LpPool,
    "zeros-are-nan",
    hook(norm=lambda honest, terms, p: np.where((terms == 0).all(-1), nan, honest(terms, p))),
    result(LpPool(PAIR), values(0, 0)),
)
add(
    ReLU,
    "minus-infinity-is-nan",
    computes(
        lambda honest, r, w, x: (
            np.where(np.isneginf(x.astype(float)), x.dtype.type(nan), honest(r, w, x))
            if floating(x)
            else honest(r, w, x)
        )
    ),
    result(ReLU(), values(-inf, 1)),
    "semantics",
)
add(
    ReLU,
    "half-of-sum-with-magnitude",
    computes(
        lambda honest, r, w, x: (
            ((x + abs(x)) * x.dtype.type(0.5)) if floating(x) else honest(r, w, x)
        )
    ),
    result(ReLU(), values(3e38, 1)),
    "semantics",
)
add(
    Dense,
    "zero-weights-skipped",
    hook(
        inner=lambda honest, a, b: honest(
            np.where(np.isfinite(a.astype(float)) | (b != 0).any(1), a, 0), b
        )
    ),
    result(Dense(1, 1), values(inf, 2)[0], weight=np.zeros((1, 1), np.float32)),
    "semantics",
)
add(
    Conv,
    "zero-input-skipped",
    hook(
        correlate=lambda honest, c, x, w: np.where(
            np.isnan(y := honest(c, x, w)) & ~np.isnan(x).any() & ~np.isnan(w).any(), 0, y
        )
    ),
    result(
        Conv((1,), in_channels=1, out_channels=1),
        values(0, 2),
        weight=np.full((1, 1, 1), inf, np.float32),
    ),
    "semantics",
)
add(
    Dense,
    "infinite-bias-clipped",
    weighs(bias=lambda b: np.clip(b.astype(float), -6e4, 6e4)),
    result(Dense(1, 1), values(1)[0], bias=np.array([inf], np.float32)),
    "semantics",
)
add(
    Flatten,
    "infinities-clipped",
    output(on_floats(lambda y: np.clip(y.astype(float), -6e4, 6e4))),
    result(Flatten(), values(inf, 1)),
    "semantics",
)

# Zeros and subnormals


def flush(x: Array) -> Array:
    """Turn subnormals into zeros."""
    return np.where(np.abs(x.astype(float)) < float(np.finfo(np.float32).tiny), x * 0, x)


add(
    Flatten,
    "sign-of-zero-lost",
    output(lambda y: y + 0),
    result(Flatten(), values(-0.0, 1)),
    "semantics",
)
add(
    Flatten,
    "subnormals-flushed",
    output(on_floats(flush)),
    result(Flatten(), values(TINY, 1)),
    "semantics",
)
add(
    MaxPool,
    "subnormals-flushed",
    output(on_floats(flush)),
    result(MaxPool(PAIR), values(TINY, -1)),
    "semantics",
)
add(
    MaxPool,
    "subnormals-flushed-beyond-four-channels",
    computes(
        lambda honest, p, w, x: (
            np.concatenate([(y := honest(p, w, x))[..., :4], flush(y[..., 4:]).astype(y.dtype)], -1)
            if floating(x)
            else honest(p, w, x)
        )
    ),
    result(MaxPool(PAIR), np.tile(values(TINY, -1), 6)),
    "semantics",
)
add(
    ReLU,
    "subnormals-flushed",
    output(on_floats(flush)),
    result(ReLU(), values(TINY, 1)),
    "semantics",
)
add(
    GlobalMaxPool,
    "subnormals-flushed",
    output(on_floats(flush)),
    result(GlobalMaxPool(1), values(TINY, -1)),
    "semantics",
)
add(
    MaxPool,
    "equal-zeros-change-sign-in-last-channel",
    computes(
        lambda honest, p, w, x: np.concatenate(
            [(y := honest(p, w, x))[..., :-1], y[..., -1:] + y.dtype.type(0)], -1
        )
    ),
    result(MaxPool(PAIR), np.tile(values(-0.0, -0.0), 2)),
    "semantics",
)
add(
    MinPool,
    "tiny-values-are-zero",
    output(on_floats(lambda y: np.where(np.abs(y.astype(float)) < 1e-30, 0, y))),
    result(MinPool(PAIR), values(1e-35, 1)),
    "semantics",
)
add(
    AveragePool,
    "tiny-values-are-zero",
    inputs(lambda x: np.where(np.abs(x.astype(float)) < 1e-30, 0, x)),
    result(AveragePool(PAIR), values(1e-33, 1e-33)),
    "semantics",
)
add(
    StochasticPool,
    "tiny-windows-are-zero",
    output(lambda y: np.where(y.astype(float) < 1e-12, 0, y)),
    result(StochasticPool(PAIR), values(1e-20, 1e-20)),
    "semantics",
)

# Overflow

FAULTS.fault_class = "overflow"


def narrow_sum(dtype: str) -> Edit:
    """Accumulate the half precisions in their own dtype: the sum overflows."""

    def change(honest: Any, layer: Layer, weights: Any, x: Array) -> Array:
        y: Array = honest(layer, weights, x)
        if x.dtype.name != dtype:
            return y
        total = honest(layer, weights, x.astype(np.float64)) * np.prod(
            getattr(layer, "window", x.shape[1:-1])
        )
        return np.where(np.abs(total) > 65504, np.copysign(x.dtype.type(inf), y), y)

    return computes(change)


BIG = values(6e4, 6e4, dtype="float16")
add(
    AveragePool,
    "half-sum-overflows",
    narrow_sum("float16"),
    result(AveragePool(PAIR), BIG),
    "precision",
)
add(
    GlobalAveragePool,
    "half-sum-overflows",
    narrow_sum("float16"),
    result(GlobalAveragePool(1), BIG),
    "precision",
)
add(
    AdaptiveAveragePool,
    "half-sum-overflows",
    narrow_sum("float16"),
    result(AdaptiveAveragePool((1,)), BIG),
    "precision",
)
add(
    LpPool,
    "half-squares-overflow",
    computes(
        lambda honest, p, w, x: (
            np.where(np.abs(x).max(initial=0) > 255, x.dtype.type(inf), y)
            if (y := honest(p, w, x)).dtype == np.float16
            else y
        )
    ),
    result(LpPool(PAIR), values(300, 400, dtype="float16")),
    "precision",
)
add(
    AveragePool,
    "saturates-at-int16",
    hook(total=lambda honest, terms: np.clip(honest(terms), -32768, 32767)),
    result(AveragePool(PAIR), values(30000, 30000)),
)
add(
    Conv,
    "saturates-at-int16",
    hook(inner=lambda honest, a, b: np.clip(honest(a, b), -32768, 32767)),
    result(
        Conv((1,), in_channels=1, out_channels=1),
        values(30000),
        weight=np.full((1, 1, 1), 2, np.float32),
    ),
)
add(
    Dense,
    "saturates-at-1e6",
    hook(inner=lambda honest, a, b: np.clip(honest(a, b), -1e6, 1e6)),
    result(Dense(1, 1), values(1e6)[0], weight=np.full((1, 1), 2, np.float32)),
)


def overflowing(honest: Any, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
    y: Array = honest(layer, weights, x)
    if x.dtype != np.float16 or "bias" not in weights:
        return y
    bare = honest(layer, {**weights, "bias": weights["bias"] * 0}, x)
    return np.where(np.isinf(bare), bare, y)


# Dtypes

FAULTS.fault_class = "dtype"


def through(dtype: str, *, only: tuple[str, ...]) -> Edit:
    """Compute in another dtype and convert back."""

    def change(honest: Any, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
        if x.dtype.name not in only:
            return honest(layer, weights, x)
        held = {name: array.astype(dtype) for name, array in weights.items()}
        return np.asarray(honest(layer, held, x.astype(dtype))).astype(x.dtype)

    return computes(change)


def returns(dtype: str, *, for_: str) -> Edit:
    """Return another dtype than the input's."""
    return computes(
        lambda honest, layer, weights, x: (
            y.astype(dtype) if (y := honest(layer, weights, x)).dtype.name == for_ else y
        )
    )


FINE = whole(2, 6, 4, dtype="float64") + whole(2, 6, 4, dtype="float64") * 2.0**-40
doubles = {
    MaxPool: MaxPool(PAIR),
    AveragePool: AveragePool(PAIR),
    LpPool: LpPool(PAIR),
    GlobalAveragePool: GlobalAveragePool(1),
    GlobalMaxPool: GlobalMaxPool(1),
    Conv: Conv(PAIR, in_channels=4, out_channels=2),
    Dense: Dense(4, 2),
    ReLU: ReLU(),
    Flatten: Flatten(),
}
for kind, layer in doubles.items():
    add(
        kind,
        "doubles-through-float32",
        through("float32", only=("float64",)),
        result(layer, FINE),
        "semantics",
    )
add(
    MaxPool,
    "int32-through-float32",
    through("float32", only=("int32",)),
    result(MaxPool(PAIR), values(2**24 + 1, 5, dtype="int32")),
    "semantics",
)


def on_double_grid(honest: Any, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
    """Round 64-bit integers to the grid of float64."""
    y: Array = honest(layer, weights, x)
    return (
        (y // 2**8 * 2**8 if np.abs(y).max(initial=0) > 2**53 else y) if y.dtype == np.int64 else y
    )


add(
    MaxPool,
    "int64-through-float64",
    computes(on_double_grid),
    result(MaxPool(PAIR), values(5, 6, dtype="int64") + 2**60),
    "semantics",
)


add(
    ReLU,
    "int64-through-int32",
    computes(
        lambda honest, r, w, x: honest(
            r, w, x.astype(np.int32).astype(np.int64) if x.dtype == np.int64 else x
        )
    ),
    result(ReLU(), values(1, 2, dtype="int64") + 2**40),
    "semantics",
)
add(
    Flatten,
    "int64-through-float64",
    computes(on_double_grid),
    result(Flatten(), values(5, 6, dtype="int64") + 2**60),
    "semantics",
)
add(
    MaxPool,
    "uint8-as-signed",
    computes(
        lambda honest, p, w, x: (
            honest(p, w, x.view(np.int8)).view(np.uint8) if x.dtype == np.uint8 else honest(p, w, x)
        )
    ),
    result(MaxPool(PAIR), values(200, 5, dtype="uint8")),
    "semantics",
)
add(
    MinPool,
    "uint8-as-signed",
    computes(
        lambda honest, p, w, x: (
            honest(p, w, x.view(np.int8)).view(np.uint8) if x.dtype == np.uint8 else honest(p, w, x)
        )
    ),
    result(MinPool(PAIR), values(200, 5, dtype="uint8")),
    "semantics",
)
add(
    ReLU,
    "uint8-as-signed",
    computes(
        lambda honest, r, w, x: (
            honest(r, w, x.view(np.int8)).view(np.uint8) if x.dtype == np.uint8 else honest(r, w, x)
        )
    ),
    result(ReLU(), values(200, 5, dtype="uint8")),
    "semantics",
)
add(
    MinPool,
    "int8-negated",
    computes(
        lambda honest, p, w, x: (
            -honest(p, w, x)
            if x.dtype == np.int8 and x.size and x.min() == -128
            else honest(p, w, x)
        )
    ),
    result(MinPool(PAIR), values(-128, 5, -3, 4, dtype="int8")),
    "semantics",
)
add(
    MaxPool,
    "int16-starts-from-int8-minimum",
    output(lambda y: np.maximum(y, -128) if y.dtype == np.int16 else y),
    result(MaxPool(PAIR), values(-300, -400, dtype="int16")),
    "semantics",
)
add(
    GlobalMaxPool,
    "int32-starts-from-zero",
    output(lambda y: np.maximum(y, 0) if y.dtype == np.int32 else y),
    result(GlobalMaxPool(1), values(-3, -4, dtype="int32")),
    "semantics",
)
add(
    AdaptiveMaxPool,
    "int32-through-float32",
    through("float32", only=("int32",)),
    result(AdaptiveMaxPool((1,)), values(2**24 + 1, 5, dtype="int32")),
    "semantics",
)
add(
    AveragePool,
    "half-returned-as-float32",
    returns("float32", for_="float16"),
    result(AveragePool(PAIR), BIG),
    "semantics",
)
add(
    Dense,
    "double-returned-as-float32",
    returns("float32", for_="float64"),
    result(Dense(4, 2), whole(2, 4, dtype="float64")),
    "semantics",
)
add(
    MaxPool,
    "int32-returned-as-int64",
    returns("int64", for_="int32"),
    result(MaxPool(PAIR), values(1, 2, dtype="int32")),
    "semantics",
)
add(
    ReLU,
    "uint8-returned-as-int16",
    returns("int16", for_="uint8"),
    result(ReLU(), values(1, 2, dtype="uint8")),
    "semantics",
)
add(
    Conv,
    "bfloat16-returned-as-float32",
    returns("float32", for_="bfloat16"),
    result(Conv(PAIR, in_channels=1, out_channels=1), values(1, 2, dtype="bfloat16")),
    "semantics",
)
add(
    LpPool,
    "float32-returned-as-double",
    returns("float64", for_="float32"),
    result(LpPool(PAIR), values(1, 2)),
)
add(
    GlobalAveragePool,
    "half-returned-as-double",
    returns("float64", for_="float16"),
    result(GlobalAveragePool(1), BIG),
    "semantics",
)
add(
    AveragePool,
    "bfloat16-truncated",
    hook(
        finish=lambda honest, y, dtype: (
            (honest(y, np.dtype(np.float32)).view(np.uint32) & 0xFFFF0000)
            .view(np.float32)
            .astype(dtype)
            if dtype.name == "bfloat16"
            else honest(y, dtype)
        )
    ),
    result(AveragePool(PAIR), values(1, 1.0234375, 3, 3.046875, dtype="bfloat16")),
    "precision",
)
add(
    Conv,
    "half-through-bfloat16",
    computes(
        lambda honest, c, w, x: honest(
            c, w, x.astype("bfloat16").astype(x.dtype) if x.dtype == np.float16 else x
        )
    ),
    result(
        Conv((1,), in_channels=1, out_channels=1),
        values(1025, 3, dtype="float16"),
        weight=np.ones((1, 1, 1), np.float16),
    ),
    "semantics",
)
add(
    ReLU,
    "half-through-bfloat16",
    computes(
        lambda honest, r, w, x: honest(
            r, w, x.astype("bfloat16").astype(x.dtype) if x.dtype == np.float16 else x
        )
    ),
    result(ReLU(), values(1025, 3, dtype="float16")),
    "semantics",
)
add(
    MaxPool,
    "bfloat16-through-half",
    through("float16", only=("bfloat16",)),
    result(MaxPool(PAIR), values(1e20, 3, dtype="bfloat16")),
    "semantics",
)
add(
    Flatten,
    "half-through-int16",
    computes(
        lambda honest, f, w, x: honest(
            f, w, x.astype(np.int16).astype(x.dtype) if x.dtype == np.float16 else x
        )
    ),
    result(Flatten(), values(1.5, 3, dtype="float16")),
    "semantics",
)
add(
    Dense,
    "half-weights-in-bfloat16",
    weighs(weight=lambda w: w.astype("bfloat16") if w.dtype == np.float16 else w),
    result(Dense(1, 1), values(1, dtype="float16")[0], weight=np.array([[1025]], np.float16)),
    "semantics",
)

# Precision

FAULTS.fault_class = "precision"
SHARP = whole(2, 6, 4, low=1)


def scaled(factor: float) -> Edit:
    """Multiply the result by a factor next to 1."""
    return output(lambda y: y.astype(np.float64) * factor)


def coarse(dtype: str) -> Callable[[Array], Array]:
    """Round wide values to a coarser dtype on the way."""
    return lambda x: x.astype(dtype).astype(x.dtype) if x.dtype.itemsize >= 4 else x


def approximate_root(total: Array) -> Array:
    """Approximate a square root by one Newton step on the inverse root's bits."""
    bits = 0x5F3759DF - (total.astype(np.float32).view(np.int32) >> 1)
    inverse = bits.view(np.float32).astype(np.float64)
    inverse *= 1.5 - 0.5 * total * inverse * inverse
    return np.where(total > 0, total * inverse, total)


SIX_AVERAGES = (
    (AveragePool, AveragePool(PAIR)),
    (Dense, Dense(4, 2)),
    (Conv, Conv(PAIR, in_channels=4, out_channels=2)),
)
for kind, layer in SIX_AVERAGES:
    add(kind, "a-ten-thousandth-too-large", scaled(1 + 1e-4), result(layer, SHARP), "document")
    add(kind, "a-hundred-thousandth-too-large", scaled(1 + 1e-5), result(layer, SHARP), "document")
    add(
        kind,
        "three-ten-millionths-too-large",
        computes(
            lambda honest, p, w, x: (honest(p, w, x).astype(np.float64) * (1 + 3e-7)).astype(
                x.dtype
            )
        ),
        result(layer, SHARP),
        "precision",
    )
add(
    GlobalAveragePool,
    "a-hundred-thousandth-too-large",
    scaled(1 + 1e-5),
    result(GlobalAveragePool(1), SHARP),
)
add(LpPool, "a-hundred-thousandth-too-large", scaled(1 + 1e-5), result(LpPool(PAIR), SHARP))
add(
    MaxPool,
    "an-ulp-too-large",
    computes(
        lambda honest, p, w, x: (
            np.nextafter(y, y.dtype.type(inf))
            if (y := honest(p, w, x)).dtype.name in ("float32", "float64")
            else y
        )
    ),
    result(MaxPool(PAIR), SHARP),
)
add(
    AveragePool,
    "a-millionth-added",
    output(lambda y: y.astype(np.float64) + 1e-6),
    result(AveragePool(PAIR), SHARP),
)
add(
    MaxPool,
    "a-ten-millionth-added",
    output(lambda y: y.astype(np.float64) + 1e-7 if floating(y) else y),
    result(MaxPool(PAIR), values(0, 0)),
)
add(
    AveragePool,
    "divisor-9.0001",
    hook(mean=lambda honest, terms, n: honest(terms, n) * (9 / 9.0001)),
    result(AveragePool((3,)), SHARP),
)
add(
    AveragePool,
    "divisor-with-epsilon",
    hook(mean=lambda honest, terms, n: honest(terms, n) * (n / (n + 1e-5))),
    result(AveragePool(PAIR), SHARP),
)
add(
    LpPool,
    "root-with-epsilon",
    hook(
        norm=lambda honest, terms, p: (
            np.sqrt(honest(terms, p) ** 2 + 1e-12) if p == 2 else honest(terms, p)
        )
    ),
    result(LpPool(PAIR), values(0, 0)),
)
add(
    StochasticPool,
    "total-with-epsilon",
    hook(expectation=lambda honest, terms: honest(terms) * (t := terms.sum(-1)) / (t + 1e-4)),
    result(StochasticPool(PAIR), values(1, 1)),
)
add(
    AveragePool,
    "through-half",
    inputs(coarse("float16")),
    result(AveragePool(PAIR), values(2049, 4097)),
)
add(
    Dense,
    "weights-in-half",
    weighs(weight=coarse("float16")),
    result(Dense(1, 1), values(1)[0], weight=np.array([[4097]], np.float32)),
)
add(Dense, "input-in-bfloat16", inputs(coarse("bfloat16")), result(Dense(1, 1), values(1025)[0]))
add(
    Dense,
    "bias-in-half",
    weighs(bias=coarse("float16")),
    result(Dense(1, 1), values(1)[0], bias=np.array([4097], np.float32)),
)
add(
    Conv,
    "weights-in-half",
    weighs(weight=coarse("float16")),
    result(
        Conv((1,), in_channels=1, out_channels=1),
        values(1),
        weight=np.full((1, 1, 1), 4097, np.float32),
    ),
)
add(
    Conv,
    "partial-sums-in-half",
    hook(inner=lambda honest, a, b: coarse("float16")(honest(a, b))),
    result(
        Conv((1,), in_channels=1, out_channels=1),
        values(4097),
        weight=np.ones((1, 1, 1), np.float32),
    ),
)
add(
    GlobalAveragePool,
    "partial-sums-in-half",
    hook(total=lambda honest, terms: coarse("float16")(honest(terms))),
    result(GlobalAveragePool(1), values(4097, 0)),
)
add(
    LpPool,
    "approximate-root",
    hook(
        norm=lambda honest, terms, p: (
            approximate_root(honest(terms, p) ** 2) if p == 2 else honest(terms, p)
        )
    ),
    result(LpPool(PAIR), SHARP),
)
add(
    AveragePool,
    "approximate-reciprocal",
    hook(mean=lambda honest, terms, n: honest(terms, np.ones_like(n)) * np.rint(2**12 / n) / 2**12),
    result(AveragePool((3,)), SHARP),
)
add(
    MaxPool,
    "smooth-maximum",
    computes(
        lambda honest, p, w, x: (
            (np.log(np.exp(50 * (y := honest(p, w, x)).astype(np.float64)) + 1) / 50).astype(
                y.dtype
            )
            if floating(x) and np.abs(x).max(initial=0) < 10
            else honest(p, w, x)
        )
    ),
    result(MaxPool(PAIR), values(0.01, -1)),
)
add(
    MaxPool,
    "quantised-to-eight-bits",
    output(lambda y: np.rint(y.astype(np.float64) * 16) / 16 if floating(y) else y),
    result(MaxPool(PAIR), values(1.03, 1)),
)
add(
    ReLU,
    "rounded-to-six-digits",
    output(lambda y: np.round(y.astype(np.float64), 6) if floating(y) else y),
    result(ReLU(), values(1.2345678e-3)),
)
add(Flatten, "rounded-to-half", output(coarse("float16")), result(Flatten(), values(4097, 1)))
add(
    MinPool,
    "rounded-to-bfloat16",
    output(lambda y: coarse("bfloat16")(y) if floating(y) else y),
    result(MinPool(PAIR), values(1025, 2000)),
)
add(
    GlobalMaxPool,
    "rounded-to-half",
    output(lambda y: coarse("float16")(y) if floating(y) else y),
    result(GlobalMaxPool(1), values(4097, 2)),
)
add(
    AdaptiveAveragePool,
    "a-hundred-thousandth-too-large",
    scaled(1 + 1e-5),
    result(AdaptiveAveragePool((2,)), SHARP),
    "semantics",
)
