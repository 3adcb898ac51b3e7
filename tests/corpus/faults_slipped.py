"""Faults that hide in the corners of a layer: few windows, far groups, many places, no cells.

Kernels for one rank, one dtype and one shape of the result; positions that are computed in the
dtype of the values; static answers and refusals that forget a rule.
"""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.spec import layers as spec
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
    Shape,
)
from corpus.fault import Edit, Faults, Witness, gradient, hook, refused, result, static, whole
from corpus.faults_kernels import PADS_BEFORE, misread, repeats, runs, without
from corpus.faults_memory import called
from corpus.faults_networks import ALL, HALF, When, conv, depthwise, loses, spoils
from corpus.faults_refusals import clipped
from corpus.kernels import Axis, Honest, but

FAULTS = Faults("corners")
add = FAULTS.add

TWO, THREE = (2, 2), (3, 3)
SPACE = (3, 3, 3)

# One or two windows along an axis


def narrow(of: Any, axis: int, count: int, dtype: str) -> When:
    """Whether a layer of this window and stride has so many places on one axis, more on others."""

    def when(layer: Any, x: Array) -> bool:
        alike = (layer.window, layer.stride) == (of.window, of.stride)
        if not alike or not layer.unpadded or x.dtype.name != dtype:
            return False
        room = zip(x.shape[1:-1], layer.extent, layer.stride, strict=True)
        found = [(n - e) // s + 1 for n, e, s in room]
        return found.pop(axis) == count and min(found) > 2

    return when


for name, few, spatial, dtype, axis, count in (
    ("one-column-of-space", conv(SPACE, stride=(2, 2, 2)), (7, 7, 4), "bfloat16", 2, 1),
    ("one-strided-row", conv(THREE, stride=TWO), (4, 9), "float16", 0, 1),
    ("one-strided-column", LpPool(THREE, TWO), (9, 4), "bfloat16", 1, 1),
    ("two-rows-of-space", MaxPool(SPACE, (1, 1, 1)), (6, 4, 6), "float32", 1, 2),
    ("two-planes-apart", AveragePool(SPACE, SPACE), (6, 9, 9), "float32", 0, 2),
):
    add(
        type(few),
        name,
        spoils(narrow(few, axis, count, dtype), ALL),
        result(few, whole(1, *spatial, 1, low=1, dtype=dtype)),
        "semantics",
    )

# Groups that are dilated far, of long rows, of many cells


def far(layer: Conv, rank: int) -> bool:
    """Whether the groups of this rank are dilated by four or more."""
    return layer.rank == rank and layer.groups > 1 and max(layer.dilation) >= 4


def row(layer: Conv) -> bool:
    """Whether the window is a row, or a column, of several cells."""
    return layer.rank == 2 and min(layer.window) == 1 < max(layer.window)


add(
    Conv,
    "depthwise-dilated-by-four",
    spoils(lambda c, _x: far(c, 2) and depthwise(c) and not row(c), -1, -1, ALL),
    result(conv(THREE, 3, 3, groups=3, dilation=(4, 4)), whole(1, 9, 9, 3, low=1)),
    "semantics",
)
add(
    Conv,
    "depthwise-line-dilated-by-five",
    spoils(lambda c, _x: far(c, 1) and depthwise(c) and c.dilation == (5,), -1, ALL),
    result(conv((2,), 3, 3, groups=3, dilation=(5,)), whole(1, 9, 3, low=1)),
    "semantics",
)
add(
    Conv,
    "groups-of-dilated-columns",
    runs(
        lambda c, _x: far(c, 2) and not depthwise(c) and row(c),
        without(np.s_[-1]),
    ),
    result(conv((5, 1), 4, 6, groups=2, dilation=(4, 4)), whole(1, 17, 2, 4, low=1)),
    "semantics",
)
add(
    Conv,
    "depthwise-rows-of-stride-two-pad-before",
    runs(
        lambda c, _x: c.padding == "same" and c.stride == TWO and depthwise(c) and row(c),
        PADS_BEFORE,
    ),
    result(conv((1, 5), 3, 3, groups=3, stride=TWO, padding="same"), whole(1, 7, 8, 3, low=1)),
    "semantics",
)
add(
    Conv,
    "cells-beyond-128-of-groups",
    runs(lambda c, _x: c.groups > 1 and c.window[0] > 128, without(np.s_[128:])),
    result(conv((131,), 4, 4, groups=2), whole(1, 133, 4, low=1)),
    "semantics",
)

# More places than the numbers of a half can count


def in_element_type(honest: Any, x: Array, axes: Sequence[Axis]) -> Array:
    """Compute the positions of cells in the dtype of the values."""
    if x.dtype.name in HALF:
        axes = [dataclasses.replace(a, index=a.index.astype(x.dtype).astype(int)) for a in axes]
    return honest(x, axes)


for placed in (
    conv((2,)),
    AveragePool((2,)),
    LpPool((2,)),
    MinPool((2,)),
    AdaptiveAveragePool((100,)),
    AdaptiveMaxPool((100,)),
):
    add(
        type(placed),
        "positions-in-the-element-type",
        hook(gather=in_element_type),
        result(placed, whole(1, 300, 1, dtype="bfloat16", low=1)),
        "semantics",
    )

# Windows that overlap across the end of a block


def across(border: int, rank: int, axis: int) -> tuple[When, tuple[Any, ...]]:
    """Return when windows overlap, side by side, across a border of an axis, and which one."""

    def when(layer: Any, x: Array) -> bool:
        side_by_side = layer.rank == rank and layer.stride[axis] == 1 < layer.window[axis]
        return side_by_side and layer.unpadded and x.shape[1 + axis] > border + 1

    return when, (*(ALL,) * axis, border - 1, *(ALL,) * (rank - axis))


for overlapping, border, axis in (
    (conv((2, 3, 2)), 64, 1),
    (MaxPool((2, 2, 3), (1, 1, 1)), 256, 2),
    (AveragePool((3, 2), (1, 1)), 128, 0),
    (LpPool((3, 2, 2), (1, 1, 1)), 128, 0),
    (conv((2, 2, 3)), 32, 2),
):
    rank = overlapping.rank
    sizes = tuple(border + 4 if n == axis else 3 for n in range(rank))
    when, cells = across(border, rank, axis)
    add(
        type(overlapping),
        f"windows-across-cell-{border}-of-axis-{axis}",
        spoils(when, *cells),
        result(overlapping, whole(1, *sizes, 1, low=1)),
        "semantics",
    )

# Windows of one cell


def one_cell(layer: Any) -> bool:
    """Whether the windows are single cells."""
    return set(layer.window) == {1}


add(
    MaxPool,
    "one-cell-in-ceil-mode-repeats-the-last",
    runs(
        lambda p, x: one_cell(p) and p.ceil_mode and p.rank == 3 and x.shape[3] > 2,
        lambda honest, p, w, x: repeats(y := honest(p, w, x), 3, y.shape[3] - 1),
    ),
    result(
        MaxPool((1, 1, 1), (2, 2, 2), ceil_mode=True),
        np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5, 1),
    ),
    "semantics",
)
add(
    AveragePool,
    "one-cell-strided-takes-dilation-for-stride",
    runs(
        lambda p, _x: one_cell(p) and min(p.stride) > 1 and max(p.dilation) > 1,
        lambda honest, p, w, x: np.roll(honest(p, w, x), 1, 1),
    ),
    result(AveragePool((1,), (2,), dilation=(2,)), whole(1, 7, 1, low=1)),
    "semantics",
)
add(
    Conv,
    "one-cell-with-uneven-padding-in-space",
    runs(
        lambda c, _x: (
            one_cell(c)
            and c.rank == 3
            and not isinstance(c.padding, str)
            and any(before != after for before, after in c.padding)
        ),
        misread(lambda c: {"padding": tuple((after, before) for before, after in c.padding)}),
    ),
    result(conv((1, 1, 1), padding=((1, 0), (0, 2), (2, 1))), whole(1, 2, 3, 2, 1, low=1)),
    "semantics",
)
add(
    Conv,
    "one-cell-strided-and-dilated",
    runs(
        lambda c, _x: one_cell(c) and min(c.stride) > 1 and max(c.dilation) > 1,
        lambda honest, c, w, x: np.roll(honest(c, w, x), 1, 1),
    ),
    result(conv((1,), stride=(2,), dilation=(2,), padding=((1, 1),)), whole(1, 6, 1, low=1)),
    "semantics",
)

# Sizes of one rank alone, or in groups


for name, sized, shape, when, cells in (
    (
        "channels-beyond-64-of-space",
        MaxPool((2, 2, 2)),
        (2, 2, 2, 70),
        lambda p, x: p.rank == 3 and x.shape[-1] > 64,
        (slice(64, None),),
    ),
    (
        "outputs-beyond-128-of-space",
        conv((2, 2, 2), 1, 131),
        (2, 2, 2, 1),
        lambda c, _x: c.rank == 3 and c.out_channels > 128,
        (slice(128, None),),
    ),
    (
        "outputs-beyond-64-of-lines-in-groups",
        conv((2,), 131, 131, groups=131),
        (3, 131),
        lambda c, _x: c.rank == 1 and c.groups > 64,
        (slice(64, None),),
    ),
    (
        "window-beyond-128-of-columns",
        AveragePool((131, 1), (1, 1)),
        (132, 1, 1),
        lambda p, _x: p.rank == 2 and p.window[0] > 128,
        (ALL,),
    ),
    (
        "channels-beyond-128-of-lines",
        AdaptiveMaxPool((2,)),
        (3, 131),
        lambda p, x: p.rank == 1 and x.shape[-1] > 128,
        (slice(128, None),),
    ),
    (
        "channels-beyond-128-of-space",
        GlobalMaxPool(3),
        (2, 1, 2, 131),
        lambda p, x: p.rank == 3 and x.shape[-1] > 128,
        (slice(128, None),),
    ),
):
    add(
        type(sized),
        name,
        spoils(when, *cells),
        result(sized, whole(1, *shape, low=1)),
        "semantics",
    )
add(
    LpPool,
    "batch-beyond-64-of-space",
    runs(
        lambda p, x: p.rank == 3 and len(x) > 64,
        lambda honest, p, w, x: repeats(honest(p, w, x), 0, 64),
    ),
    result(LpPool((2, 2, 2)), np.arange(70 * 8, dtype=np.float32).reshape(70, 2, 2, 2, 1)),
    "semantics",
)

# Static answers for what the call refuses


def states(repaired: Callable[[Any, Shape], Layer]) -> Edit:
    """Answer statically for a repaired layer where the honest answer is a refusal."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def output_shape(self, layer: Layer, shape: Shape) -> Shape:
                try:
                    return super().output_shape(layer, shape)
                except ValueError:
                    if not isinstance(layer, kind):
                        raise
                    return super().output_shape(repaired(layer, shape), shape)

        return Faulty

    return edit


def undivided(layer: Any, shape: Shape) -> Layer:
    """Return a convolution without groups, if they do not divide the channels."""
    divides = layer.in_channels % layer.groups == layer.out_channels % layer.groups == 0
    return layer if divides else but(layer, groups=1, in_channels=shape[-1])


def raised(field: str) -> Callable[[Any, Shape], Layer]:
    """Return what raises the values of a field to a least one."""
    return lambda layer, _shape: clipped(field)(layer)


def stated(layer: Layer, *shape: int, **fields: Any) -> Witness:
    """Ask whether a static answer for a layer with invalid fields is refused."""
    return refused(static(but(layer, **fields), *shape))


add(
    Conv,
    "static-groups-that-do-not-divide",
    states(undivided),
    stated(conv((1,), 4, 6), 1, 5, 4, groups=3),
    "refusal",
)
for kept, field in (
    (MaxPool((2,), (1,)), "stride"),
    (LpPool((2,), (1,)), "window"),
    (AveragePool((2,), (1,)), "dilation"),
    (conv((2,)), "dilation"),
):
    add(
        type(kept),
        f"static-{field}-0-taken-for-1",
        states(raised(field)),
        stated(kept, 1, 6, 1, **{field: (0,)}),
        "refusal",
    )


def below_zero(kind: type[Layer]) -> type[Honest]:
    """State the output sizes of an adaptive pooling as they are given."""

    class Faulty(Honest):
        def output_shape(self, layer: Layer, shape: Shape) -> Shape:
            if isinstance(layer, spec.Adaptive) and isinstance(layer, kind):
                return (shape[0], *layer.output, shape[-1])
            return super().output_shape(layer, shape)

    return Faulty


add(
    AdaptiveAveragePool,
    "static-size-below-zero",
    below_zero,
    stated(AdaptiveAveragePool((2,)), 1, 5, 1, output=(-1,)),
    "refusal",
)


def no_size(kind: type[Layer]) -> type[Honest]:
    """State what the formula gives where no window fits, though it is less than nothing."""

    class Faulty(Honest):
        def output_shape(self, layer: Layer, shape: Shape) -> Shape:
            if not isinstance(layer, spec.Windowed) or not isinstance(layer, kind):
                return super().output_shape(layer, shape)
            self.layer = layer = self.validated(layer)
            sizes = (self.output_size(layer, n, size) for n, size in enumerate(shape[1:-1]))
            return (shape[0], *sizes, shape[-1])

    return Faulty


add(
    AveragePool,
    "static-size-below-zero-where-no-window-fits",
    no_size,
    refused(static(AveragePool((5,), (1,)), 1, 3, 1)),
    "refusal",
)


def nothing_at_all(kind: type[Layer]) -> type[Honest]:
    """Answer with no cells where no window fits; state that no axis has any."""

    class Faulty(Honest):
        def no_window(self, layer: spec.Windowed, size: int) -> int:
            return 0 if isinstance(layer, kind) else super().no_window(layer, size)

        def output_shape(self, layer: Layer, shape: Shape) -> Shape:
            found = super().output_shape(layer, shape)
            if not isinstance(layer, kind) or 0 not in found[1:-1]:
                return found
            return (found[0], *(0 for _ in found[1:-1]), found[-1])

    return Faulty


add(
    MinPool,
    "static-answer-empties-every-axis",
    nothing_at_all,
    refused(static(MinPool((3, 1), (1, 1)), 1, 2, 4, 1)),
    "refusal",
)

# Flatten past the rank, maps without cells

add(
    Flatten,
    "axis-past-the-rank-clipped",
    hook(check_shape=lambda _honest, _layer, _shape: None),
    refused(result(Flatten(4), whole(2, 3))),
    "refusal",
)
add(
    Flatten,
    "static-axis-past-the-rank-clipped",
    states(lambda _layer, shape: Flatten(len(shape))),
    refused(static(Flatten(4), 2, 3)),
    "refusal",
)


def filled(value: float) -> Edit:
    """Take an axis without cells for one of a single cell that holds the value."""

    def change(_store: Any, honest: Any, layer: Any, weights: dict[str, Array], x: Array) -> Array:
        if 0 in x.shape[1:-1]:
            inner = (n or 1 for n in x.shape[1:-1])
            x = np.full((x.shape[0], *inner, x.shape[-1]), value, x.dtype)
        return honest(layer, weights, x)

    return called(change)


NO_CELLS = np.zeros((1, 0, 4, 1), np.float32)
for pooled in (
    GlobalAveragePool(),
    GlobalMaxPool(),
    AdaptiveAveragePool((2, 1)),
    AdaptiveMaxPool((2, 1)),
):
    add(
        type(pooled),
        "zero-of-no-cells",
        filled(0),
        refused(result(pooled, NO_CELLS)),
        "refusal",
    )
add(
    GlobalMaxPool,
    "lowest-number-of-no-cells",
    filled(float(np.finfo(np.float16).min)),
    refused(result(GlobalMaxPool(), NO_CELLS)),
    "refusal",
)
add(
    LpPool,
    "one-cell-for-no-cells",
    filled(0),
    result(LpPool((2, 2), (1, 1), ((1, 1), (1, 1))), NO_CELLS),
    "semantics",
)


def without_bias(
    _store: Any, honest: Any, layer: Conv, weights: dict[str, Array], x: Array
) -> Array:
    """Leave the bias out where the input has no cells, as where there is nothing to do."""
    if 0 in x.shape[1:-1] and layer.bias:
        weights["bias"] = np.zeros_like(weights["bias"])
    return honest(layer, weights, x)


add(
    Conv,
    "no-bias-around-no-cells",
    called(without_bias),
    result(conv((2, 2), padding=((1, 1), (1, 1))), NO_CELLS, bias=np.full(1, 3, np.float32)),
    "semantics",
)

# Options of one axis or three, samples and axes of one


def lowest_but_one(
    _store: Any, honest: Any, layer: Any, weights: dict[str, Array], x: Array
) -> Array:
    """Pad with the negative of the largest int8, which is not the lowest."""
    y = honest(layer, weights, x)
    return y if layer.unpadded or x.dtype != np.int8 else np.maximum(y, np.int8(-127))


def one_sample(_store: Any, honest: Any, layer: Any, weights: dict[str, Array], x: Array) -> Array:
    """Drop the axis of the samples with that of the only plane."""
    y = honest(layer, weights, x)
    return y[0] if x.ndim == 5 and x.shape[:2] == (1, 1) else y


def first_sample(
    _store: Any, honest: Any, layer: Any, weights: dict[str, Array], x: Array
) -> Array:
    """Answer the first sample for all, where a sample has more cells than 16 bits count."""
    y = honest(layer, weights, x)
    return y if len(x) < 2 or x[0].size <= 2**16 else np.repeat(y[:1], len(y), axis=0)


def lost_tail(_store: Any, honest: Any, layer: Any, weights: dict[str, Array], x: Array) -> Array:
    """Leave out what is left over from blocks of eight, in float16 that is not contiguous."""
    y = honest(layer, weights, x).copy()
    if x.dtype == np.float16 and not x.flags.c_contiguous and x.size % 8:
        y.flat[-(x.size % 8) :] = 0
    return y


def exchanged(_store: Any, honest: Any, layer: Any, weights: dict[str, Array], x: Array) -> Array:
    """Read the samples of five axes with the second and the third exchanged."""
    if x.ndim != 5:
        return honest(layer, weights, x)
    return honest(layer, weights, np.swapaxes(x, 1, 2).reshape(x.shape))


add(
    ReLU,
    "float16-apart-loses-tail",
    called(lost_tail),
    result(ReLU(), whole(3, 7, dtype="float16", low=1)[:, ::2]),
    "memory",
)
add(
    Dense,
    "two-of-five-axes-exchanged",
    called(exchanged),
    result(Dense(2, 3), whole(1, 3, 2, 1, 2)),
    "document",
)
add(
    MaxPool,
    "lowest-int8-but-one-in-padding",
    called(lowest_but_one),
    result(MaxPool(TWO, TWO, ((1, 1), (1, 1))), np.full((1, 2, 2, 1), -128, np.int8)),
    "semantics",
)
add(
    GlobalMaxPool,
    "one-sample-of-one-plane-dropped",
    called(one_sample),
    result(GlobalMaxPool(3), whole(1, 1, 3, 4, 2)),
    "document",
)
add(
    GlobalAveragePool,
    "first-of-many-cells-repeated",
    called(first_sample),
    result(GlobalAveragePool(1), whole(2, 2**16 + 5, 1)),
    "document",
)
add(
    Conv,
    "strided-cell-between-pads",
    spoils(
        lambda c, _x: c.window == (1,) and c.stride > (1,) and not c.unpadded,
        ALL,
    ),
    result(conv((1,), stride=(2,), padding=((1, 1),)), whole(1, 6, 1)),
    "semantics",
)
add(
    MaxPool,
    "gradient-zero-of-dilated-columns-of-space",
    loses("input", lambda p, _x: p.rank == 3 and p.dilation[2] > 1, ALL),
    gradient(MaxPool((2, 2, 2), (1, 1, 1), dilation=(1, 1, 2)), whole(1, 3, 3, 4, 1)),
    "gradient",
)


def all_zero(_store: Any, honest: Any, layer: Any, weights: dict[str, Array], x: Array) -> Array:
    """Answer a blank input without a look at the weights that it would meet."""
    if x.any():
        return honest(layer, weights, x)
    return honest(layer, {**weights, "weight": np.zeros_like(weights["weight"])}, x)


BLANK = np.zeros((2, 3, 3, 1), np.float32)
for weighted in (conv(TWO), Dense(1, 1)):
    spoilt = np.full(spec.weight_shapes(weighted)["weight"], np.nan, np.float32)
    add(
        type(weighted),
        "blank-input-hides-nan-weights",
        called(all_zero),
        result(weighted, BLANK, weight=spoilt),
        "semantics",
    )


def remainder(of: int) -> When:
    """Whether a half or a double leaves the largest remainder of a vector in its last axis."""
    return lambda _layer, x: x.dtype.name in ("float64", "float16") and x.shape[-1] % of == of - 1


for plain, shape in (
    (Dense(15, 2), (3, 15)),
    (conv(TWO, 15, 2), (1, 3, 3, 15)),
    (AveragePool(TWO), (1, 4, 4, 15)),
    (ReLU(), (3, 15)),
):
    add(
        type(plain),
        "largest-remainder-of-doubles",
        spoils(remainder(16), ALL),
        result(plain, whole(*shape, low=1, dtype="float64")),
        "document",
    )
