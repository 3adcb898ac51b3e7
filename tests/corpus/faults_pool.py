"""Faults of poolings: parameters of the axes, sizes, divisors, padding and initial values."""

# ruff: noqa: ARG001, ARG005 - a change is given all that it may need

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    StochasticPool,
    Windowed,
)
from corpus.fault import Faults, computes, hook, inputs, output, reads, result, whole
from corpus.kernels import Axis, but, over_axes

X = whole(2, 7, 9, 3)
POSITIVE = whole(2, 7, 9, 3, low=1)
LINE = whole(1, 11, 2)
RAMP = np.arange(126, dtype=np.float32).reshape(1, 6, 7, 3)

FAULTS = Faults("axes")
add = FAULTS.add

kind: Any
layer: Any


def swapped(field: str) -> Callable[[Any], Layer]:
    """Read the values of a field in the reverse order of the axes."""
    return lambda layer: but(layer, **{field: _reversed(getattr(layer, field))})


def _reversed(value: Any) -> Any:
    return value if isinstance(value, str) else value[::-1]


def first(field: str) -> Callable[[Any], Layer]:
    """Read the first value of a field for every axis."""
    return lambda layer: but(layer, **{field: getattr(layer, field)[:1] * layer.rank})


def ones(field: str) -> Callable[[Any], Layer]:
    """Ignore a field: 1 on every axis."""
    return lambda layer: but(layer, **{field: (1,) * layer.rank})


def unpadded(layer: Any) -> Layer:
    """Ignore the padding."""
    return but(layer, padding=((0, 0),) * layer.rank)


def padding(change: Callable[[int, int], tuple[int, int]]) -> Callable[[Any], Layer]:
    """Change the explicit pads of every axis."""

    def read(layer: Any) -> Layer:
        if isinstance(layer.padding, str):
            return but(layer)
        return but(layer, padding=tuple(change(*pair) for pair in layer.padding))

    return read


# Axes

for kind in (MaxPool, AveragePool, MinPool, LpPool):
    add(kind, "window-swapped", reads(swapped("window")), result(kind((3, 2), (2, 2)), X))
for kind in (MaxPool, AveragePool, LpPool, StochasticPool):
    add(kind, "stride-swapped", reads(swapped("stride")), result(kind((2, 2), (1, 3)), POSITIVE))
for kind in (MaxPool, AveragePool):
    padded = kind((2, 2), (2, 2), ((1, 1), (0, 0)))
    uneven = kind((2, 2), (2, 2), ((1, 0), (1, 0)))
    add(kind, "padding-swapped", reads(swapped("padding")), result(padded, X), "semantics")
    add(
        kind,
        "pads-before-and-after-swapped",
        reads(padding(lambda before, after: (after, before))),
        result(uneven, X),
        "semantics",
    )
    add(
        kind,
        "stride-clipped-to-window",
        reads(lambda p: but(p, stride=tuple(map(min, p.stride, p.window)))),
        result(kind((2, 2), (3, 3)), X),
    )
add(
    MaxPool,
    "dilation-swapped",
    reads(swapped("dilation")),
    result(MaxPool((2, 2), dilation=(1, 2)), X),
    "semantics",
)
add(MaxPool, "window-of-first-axis", reads(first("window")), result(MaxPool((2, 3), (2, 2)), X))
add(
    AveragePool,
    "window-of-last-axis",
    reads(lambda p: but(p, window=p.window[-1:] * p.rank)),
    result(AveragePool((2, 3), (2, 2)), X),
)
add(MinPool, "stride-of-first-axis", reads(first("stride")), result(MinPool((2, 2), (1, 2)), X))
add(
    MaxPool,
    "stride-is-window",
    reads(lambda p: but(p, stride=p.window)),
    result(MaxPool((2, 2), (1, 1)), X),
)
add(AveragePool, "stride-ignored", reads(ones("stride")), result(AveragePool((2, 2)), X))
add(
    MaxPool,
    "dilation-ignored",
    reads(ones("dilation")),
    result(MaxPool((2, 2), dilation=(2, 2)), X),
    "semantics",
)
add(
    MinPool,
    "padding-ignored",
    reads(unpadded),
    result(MinPool((2, 2), padding=((1, 1), (1, 1))), X),
    "semantics",
)
add(
    AveragePool,
    "pads-averaged",
    reads(padding(lambda before, after: ((before + after) // 2, (before + after + 1) // 2))),
    result(AveragePool((3, 3), (2, 2), ((2, 0), (0, 2))), X),
    "semantics",
)
add(
    LpPool,
    "padding-only-before",
    reads(padding(lambda before, _: (before, 0))),
    result(LpPool((2, 2), padding=((1, 1), (1, 1))), whole(2, 8, 8, 3)),
    "semantics",
)
add(
    MaxPool,
    "depth-and-width-swapped-in-3d",
    reads(lambda p: but(p, window=p.window[::-1]) if p.rank == 3 else p),
    result(MaxPool((1, 2, 3), (1, 1, 1)), whole(1, 5, 5, 5, 2)),
)
add(
    AveragePool,
    "stride-one-in-1d",
    reads(lambda p: but(p, stride=(1,)) if p.rank == 1 else p),
    result(AveragePool((2,)), LINE),
)
add(
    LpPool,
    "middle-axis-stride-in-3d",
    reads(lambda p: but(p, stride=(p.stride[1],) * 3) if p.rank == 3 else p),
    result(LpPool((2, 2, 2), (1, 2, 2)), whole(1, 5, 5, 5, 2)),
)
add(
    MaxPool,
    "image-transposed",
    inputs(lambda x: x.swapaxes(1, 2) if x.ndim == 4 and x.shape[1] == x.shape[2] else x),
    result(MaxPool((2, 2)), whole(1, 6, 6, 1)),
)
add(
    AveragePool,
    "pools-over-channels",
    computes(
        lambda honest, p, w, x: honest(
            p, w, x.swapaxes(-1, -2) if x.shape[-1] == x.shape[-2] else x
        )
    ),
    result(AveragePool((2,)), whole(1, 6, 6)),
)

# Sizes

FAULTS.fault_class = "sizes"


def shorter(layer: Any) -> Layer:
    """Lose the last cell of the window on the last axis."""
    return but(layer, window=(*layer.window[:-1], max(1, layer.window[-1] - 1)))


def narrowed(honest: Any, layer: Windowed, number: int, size: int) -> Axis:
    """Place the windows, then lose the last cell of each."""
    axis: Axis = honest(layer, number, size)
    keep = max(1, axis.index.shape[1] - 1)
    return Axis(axis.index[:, :keep], size, axis.counted[:, :keep])


def widened(honest: Any, layer: Windowed, number: int, size: int) -> Axis:
    """Place the windows, then add a cell after each."""
    axis: Axis = honest(layer, number, size)
    index = np.hstack([axis.index, axis.index[:, -1:] + 1])
    return Axis(index, size, np.hstack([axis.counted, index[:, -1:] < size]))


def moved(by: int) -> Callable[..., Axis]:
    """Place every window some cells off."""

    def axis(honest: Any, layer: Windowed, number: int, size: int) -> Axis:
        placed: Axis = honest(layer, number, size)
        return Axis((placed.index + by).clip(0, size - 1), size, placed.counted)

    return axis


def rounded_up(honest: Any, layer: Windowed, number: int, size: int) -> int:
    """Always round the number of windows up."""
    outputs: int = honest(but(layer, ceil_mode=True), number, size)
    return outputs


def rounded(honest: Any, layer: Windowed, number: int, size: int) -> int:
    """Round the number of windows to nearest."""
    outputs: int = honest(layer, number, size)
    if isinstance(layer.padding, str):
        return outputs
    room = size + sum(layer.padding[number]) - layer.window[number]
    return max(outputs, round(room / layer.stride[number] + 0.01) + 1)


def one_less(honest: Any, layer: Windowed, number: int, size: int) -> int:
    """Lose the last window where there are several."""
    outputs: int = honest(layer, number, size)
    return outputs - (outputs > 1)


for kind in (MaxPool, AveragePool, MinPool, LpPool):
    add(kind, "window-one-short", hook(axis=narrowed), result(kind((2, 2)), X))
    add(kind, "last-window-missing", hook(output_size=one_less), result(kind((2, 2)), X))
for kind in (MaxPool, AveragePool):
    add(kind, "window-one-long", hook(axis=widened), result(kind((2, 2)), X))
    add(kind, "windows-start-late", hook(axis=moved(1)), result(kind((2, 2)), X))
    add(kind, "size-rounded-up", hook(output_size=rounded_up), result(kind((2, 2)), X))
    ragged = kind((2, 2), ceil_mode=True)
    add(
        kind,
        "ceil-mode-ignored",
        reads(lambda p: but(p, ceil_mode=False)),
        result(ragged, X),
        "semantics",
    )
    add(
        kind,
        "ceil-mode-keeps-window-in-padding",
        hook(starts_after=lambda _honest, *_: 0),
        result(kind((2,), (3,), ((1, 1),), ceil_mode=True), whole(1, 5, 1)),
        "semantics",
    )
add(
    StochasticPool,
    "last-window-missing",
    hook(output_size=one_less),
    result(StochasticPool((2, 2)), POSITIVE),
)
add(
    MinPool, "size-rounded", hook(output_size=rounded), result(MinPool((2,), (3,)), whole(1, 10, 1))
)
add(
    MaxPool,
    "overhang-wraps-around",
    hook(
        axis=lambda honest, layer, number, size: Axis(
            (a := honest(layer, number, size)).index % max(size, 1), size, a.counted
        )
    ),
    result(MaxPool((2, 2), ceil_mode=True), X),
    "semantics",
)
add(
    AveragePool,
    "same-size-rounded-down",
    hook(
        output_size=lambda honest, layer, number, size: (
            size // layer.stride[number]
            if isinstance(layer.padding, str)
            else honest(layer, number, size)
        )
    ),
    result(AveragePool((2, 2), padding="same"), X),
    "semantics",
)
add(
    MaxPool,
    "same-extra-cell-before",
    hook(split=lambda _honest, _padding, cells: (cells - cells // 2, cells // 2)),
    result(MaxPool((2, 2), padding="same"), X),
    "semantics",
)
add(
    AveragePool,
    "same-lower-as-same",
    hook(split=lambda _honest, _padding, cells: (cells // 2, cells - cells // 2)),
    result(AveragePool((2, 2), padding="same_lower"), X),
    "semantics",
)
add(
    AveragePool,
    "same-pads-without-stride",
    hook(
        pads=lambda honest, layer, number, size: (
            ((layer.window[number] - 1) // 2, layer.window[number] // 2)
            if isinstance(layer.padding, str)
            else honest(layer, number, size)
        )
    ),
    result(AveragePool((3, 3), (2, 2), "same"), whole(1, 8, 8, 2)),
    "semantics",
)
add(
    MinPool,
    "same-ignores-dilation",
    hook(
        extent=lambda honest, layer, number: (
            layer.window[number] if isinstance(layer.padding, str) else honest(layer, number)
        )
    ),
    result(MinPool((2, 2), (1, 1), "same", (2, 2)), X),
    "semantics",
)


add(
    AveragePool,
    "same-replicates-edge",
    computes(
        lambda honest, p, w, x: (
            honest(
                but(p, padding=()).replace(),
                w,
                np.pad(x, [(0, 0), *_same_pads(p, x.shape[1:-1]), (0, 0)], mode="edge"),
            )
            if p.padding == "same"
            else honest(p, w, x)
        )
    ),
    result(AveragePool((3, 3), (1, 1), "same"), X),
    "semantics",
)


def _same_pads(layer: Windowed, spatial: Sequence[int]) -> list[tuple[int, int]]:
    wholes = [
        max((-(-n // s) - 1) * s + (w - 1) * d + 1 - n, 0)
        for n, s, w, d in zip(spatial, layer.stride, layer.window, layer.dilation, strict=True)
    ]
    return [(cells // 2, cells - cells // 2) for cells in wholes]


# Adaptive windows


def adaptive(
    starts: Callable[[Array, int, int], Array], stops: Callable[[Array, int, int], Array]
) -> Any:
    """Place adaptive windows by other formulas of output number, input size, output size."""

    def axis(honest: Any, outputs: int, size: int) -> Axis:
        numbers = np.arange(outputs)
        start = np.clip(starts(numbers, size, outputs), 0, size - 1)
        stop = np.clip(stops(numbers, size, outputs), start + 1, size)
        placed: Axis = honest.args[0].ragged(start, stop, size)
        return placed

    return hook(adaptive_axis=axis)


def _start(i: Array, n: int, m: int) -> Array:
    return i * n // m


def _stop(i: Array, n: int, m: int) -> Array:
    return -(-(i + 1) * n // m)


for kind in (AdaptiveAveragePool, AdaptiveMaxPool):
    floors = adaptive(_start, lambda i, n, m: (i + 1) * n // m)
    add(kind, "windows-end-early", floors, result(kind((3,)), whole(1, 11, 3)), "semantics")
    equal = adaptive(lambda i, n, m: i * (n // m), lambda i, n, m: (i + 1) * (n // m))
    add(kind, "windows-of-equal-size", equal, result(kind((3,)), whole(1, 11, 3)), "semantics")
    add(
        kind,
        "output-swapped",
        reads(lambda p: but(p, output=p.output[::-1])),
        result(kind((2, 3)), X),
        "semantics",
    )
add(
    AdaptiveAveragePool,
    "windows-rounded",
    adaptive(
        lambda i, n, m: np.rint(i * n / m).astype(int),
        lambda i, n, m: np.rint((i + 1) * n / m).astype(int),
    ),
    result(AdaptiveAveragePool((3,)), whole(1, 11, 3)),
    "semantics",
)
add(
    AdaptiveMaxPool,
    "no-output-larger-than-input",
    adaptive(lambda i, _n, _m: i, lambda i, _n, _m: i + 1),
    result(AdaptiveMaxPool((7,)), whole(1, 4, 3)),
    "semantics",
)

# Divisors

FAULTS.fault_class = "divisor"


def divides(change: Callable[[Array, Any, Sequence[Axis]], Any]) -> Any:
    """Change the divisor; ``change`` gets it, the layer and the axes."""
    return hook(
        divisor=lambda honest, layer, axes: np.asarray(change(honest(layer, axes), layer, axes))
    )


PAD = ((1, 1), (1, 1))
RAGGED = AveragePool((2, 2), ceil_mode=True)
OVERHANGING = AveragePool((3, 3), (2, 2), PAD, ceil_mode=True, count_include_pad=True)
EVEN = whole(2, 8, 8, 3)


def included(layer: Any, axes: Sequence[Axis]) -> Array:
    """Count the cells in the input and in the padding."""
    return over_axes([axis.counted for axis in axes]).sum(-1)


def excluded(_: Any, axes: Sequence[Axis]) -> Array:
    """Count the cells in the input."""
    return over_axes([axis.inside for axis in axes]).sum(-1)


add(
    AveragePool,
    "padding-always-counted",
    divides(lambda _, p, axes: included(p, axes)),
    result(AveragePool((2, 2), padding=PAD), EVEN),
    "semantics",
)
add(
    AveragePool,
    "padding-never-counted",
    divides(lambda _, p, axes: excluded(p, axes)),
    result(AveragePool((2, 2), padding=PAD, count_include_pad=True), EVEN),
    "semantics",
)
add(
    AveragePool,
    "same-padding-counted",
    divides(lambda n, p, axes: included(p, axes) if p.padding == "same" else n),
    result(AveragePool((3, 3), (1, 1), "same"), EVEN),
    "semantics",
)
add(
    AveragePool,
    "overhang-counted",
    divides(
        lambda n, p, _: (
            np.full_like(n, math.prod(p.window)) if p.ceil_mode and not p.count_include_pad else n
        )
    ),
    result(RAGGED, X),
    "semantics",
)
add(
    AveragePool,
    "overhang-counted-with-padding",
    divides(lambda n, p, _: np.full_like(n, math.prod(p.window)) if p.count_include_pad else n),
    result(OVERHANGING, EVEN),
    "semantics",
)
add(
    AveragePool,
    "divides-by-first-axis-squared",
    divides(lambda n, p, _: np.full_like(n, p.window[0] ** p.rank)),
    result(AveragePool((2, 3)), X),
)
add(
    AveragePool,
    "divides-by-sum-of-window",
    divides(lambda n, p, _: np.full_like(n, sum(p.window))),
    result(AveragePool((2, 3)), X),
)
add(
    AveragePool,
    "divides-by-one-less",
    divides(lambda n, *_: np.maximum(n - 1, 1)),
    result(AveragePool((2, 2)), X),
)
add(
    AveragePool, "divides-by-one-more", divides(lambda n, *_: n + 1), result(AveragePool((2, 2)), X)
)
add(
    AveragePool,
    "divides-by-stride",
    divides(lambda n, p, _: np.full_like(n, math.prod(p.stride))),
    result(AveragePool((2, 2), (1, 1)), X),
)
add(
    AveragePool,
    "divides-by-dilated-window",
    divides(lambda n, p, _: np.full_like(n, math.prod(p.extent))),
    result(AveragePool((2, 2), (1, 1), dilation=(2, 2)), X),
    "semantics",
)
add(AveragePool, "sums", divides(lambda n, *_: np.ones_like(n)), result(AveragePool((2, 2)), X))
add(
    AveragePool,
    "rounds-to-integers",
    output(np.rint),
    result(AveragePool((2, 2)), whole(1, 4, 4, 1, low=0)),
)
add(
    AveragePool,
    "divides-by-count-of-nonzero",
    hook(
        mean=lambda honest, terms, n: honest(
            terms, np.maximum((terms != 0).sum(-1), 1) if n is not None else n
        )
    ),
    result(AveragePool((2, 2)), whole(1, 8, 8, 1, low=0, high=2)),
)
add(
    AdaptiveAveragePool,
    "divides-by-mean-window",
    divides(lambda n, p, axes: np.full_like(n, round(float(n.mean())))),
    result(AdaptiveAveragePool((3,)), whole(1, 11, 3)),
    "semantics",
)
add(
    GlobalAveragePool,
    "divides-by-first-axis",
    divides(lambda n, _, axes: np.full_like(n, axes[0].size)),
    result(GlobalAveragePool(), X),
)
add(
    GlobalAveragePool,
    "divides-by-one-less",
    divides(lambda n, *_: np.maximum(n - 1, 1)),
    result(GlobalAveragePool(), X),
)
add(
    GlobalAveragePool,
    "sums",
    divides(lambda n, *_: np.ones_like(n)),
    result(GlobalAveragePool(), X),
)
add(
    GlobalAveragePool,
    "counts-channels",
    computes(lambda honest, p, w, x: (honest(p, w, x) / max(1, x.shape[-1])).astype(x.dtype)),
    result(GlobalAveragePool(), X),
)
add(
    LpPool,
    "mean-of-squares",
    hook(norm=lambda honest, terms, p: honest(terms, p) / terms.shape[-1] ** (1 / p)),
    result(LpPool((2, 2)), X),
)
add(
    LpPool,
    "root-forgotten",
    hook(norm=lambda honest, terms, p: honest(terms, p) ** p),
    result(LpPool((2, 2)), X),
)
add(
    LpPool,
    "sum-of-magnitudes",
    hook(norm=lambda honest, terms, _p: honest(terms, 1)),
    result(LpPool((2, 2)), X),
)
add(
    LpPool,
    "order-ignored",
    hook(norm=lambda honest, terms, _p: honest(terms, 2)),
    result(LpPool((2, 2), p=3), X),
    "semantics",
)
add(
    LpPool,
    "odd-order-without-magnitude",
    hook(
        norm=lambda honest, terms, p: honest(np.maximum(terms, 0), p) if p % 2 else honest(terms, p)
    ),
    result(LpPool((2, 2), p=3), X),
    "semantics",
)
add(
    LpPool,
    "largest-magnitude",
    hook(norm=lambda _honest, terms, _p: np.abs(terms).max(-1)),
    result(LpPool((2, 2)), X),
)
add(
    LpPool,
    "signed-by-sum",
    hook(norm=lambda honest, terms, p: honest(terms, p) * np.where(terms.sum(-1) < 0, -1, 1)),
    result(LpPool((2, 2)), X),
)
add(
    LpPool,
    "edge-windows-rescaled",
    hook(
        norm=lambda honest, terms, p: (
            honest(terms, p) * np.sqrt(terms.shape[-1] / np.maximum((terms != 0).sum(-1), 1))
        )
    ),
    result(LpPool((2, 2), padding=PAD), EVEN),
    "semantics",
)

# Padding and initial values of the extremes

FAULTS.fault_class = "initial value"


def starts(sign: int, value: float) -> Any:
    """Start the search for the extreme from a value."""
    name = "maximum" if sign > 0 else "minimum"

    def change(honest: Any, cells: Array, inside: Array) -> Array:
        best: Array = honest(cells, inside)
        if value and best.dtype.kind in "iu":
            return best
        with np.errstate(all="ignore"):
            start = np.array(value).astype(best.dtype)
        return (
            np.where(best < start, start, best) if sign > 0 else np.where(best > start, start, best)
        )

    return hook(**{name: change})


def fills(value: Callable[[Any], Any]) -> Any:
    """Put a value into the padding."""

    def change(_honest: Any, cells: Array, inside: Array, _sign: int) -> Array:
        wide = cells.astype(np.float32) if cells.dtype.name in ("float16", "bfloat16") else cells
        return np.where(inside, wide, wide.dtype.type(value(wide.dtype)))

    return hook(selectable=change)


NEGATIVE = whole(1, 6, 6, 2, high=-1)
BELOW = np.full((1, 4, 4, 1), -5000, np.float32)
INFINITE = np.full((1, 4, 4, 1), -np.inf, np.float32)
PADDED = MaxPool((3, 3), (2, 2), PAD)
lowest = float(np.finfo(np.float32).min)

add(MaxPool, "padding-of-zeros", fills(lambda _: 0), result(PADDED, NEGATIVE), "semantics")
add(
    MaxPool,
    "padding-of-minus-1000",
    fills(lambda d: -1000 if d.kind == "f" else np.iinfo(d).min),
    result(PADDED, BELOW),
    "semantics",
)
add(
    MaxPool,
    "padding-of-lowest-finite",
    fills(lambda d: np.finfo(d).min if d.kind == "f" else np.iinfo(d).min),
    result(PADDED, INFINITE),
    "semantics",
)
add(
    MinPool,
    "padding-of-zeros",
    fills(lambda _: 0),
    result(MinPool((3, 3), (2, 2), PAD), -NEGATIVE),
    "semantics",
)
add(
    MinPool,
    "padding-of-1000",
    fills(lambda d: 1000 if d.kind == "f" else np.iinfo(d).max),
    result(MinPool((3, 3), (2, 2), PAD), -BELOW),
    "semantics",
)
for kind, layer in (
    (MaxPool, MaxPool((2, 2))),
    (GlobalMaxPool, GlobalMaxPool()),
    (AdaptiveMaxPool, AdaptiveMaxPool((2, 2))),
):
    add(kind, "starts-from-zero", starts(1, 0), result(layer, NEGATIVE))
    add(kind, "starts-from-lowest-finite", starts(1, lowest), result(layer, INFINITE), "semantics")
add(MaxPool, "starts-from-minus-1000", starts(1, -1000), result(MaxPool((2, 2)), BELOW))
add(GlobalMaxPool, "starts-from-minus-1e4", starts(1, -1e4), result(GlobalMaxPool(), 3 * BELOW))
add(
    MaxPool,
    "starts-from-smallest-normal",
    starts(1, float(np.finfo(np.float32).tiny)),
    result(MaxPool((2, 2)), NEGATIVE),
)
add(MinPool, "starts-from-zero", starts(-1, 0), result(MinPool((2, 2)), -NEGATIVE))
add(MinPool, "starts-from-1000", starts(-1, 1000), result(MinPool((2, 2)), -BELOW))
add(
    MinPool,
    "starts-from-largest-finite",
    starts(-1, -lowest),
    result(MinPool((2, 2)), -INFINITE),
    "semantics",
)
add(
    MaxPool,
    "largest-magnitude",
    hook(
        maximum=lambda honest, cells, inside: (
            np.where(-(low := -honest(-cells, inside)) > (high := honest(cells, inside)), low, high)
            if cells.dtype.kind not in "iu"
            else honest(cells, inside)
        )
    ),
    result(MaxPool((2, 2)), X),
)
add(MaxPool, "magnitudes", inputs(np.abs), result(MaxPool((2, 2)), X))
add(
    MaxPool,
    "smallest",
    hook(maximum=lambda honest, cells, inside: honest.args[0].minimum(cells, inside)),
    result(MaxPool((2, 2)), X),
)
add(
    MinPool,
    "largest",
    hook(minimum=lambda honest, cells, inside: honest.args[0].maximum(cells, inside)),
    result(MinPool((2, 2)), X),
)
add(MinPool, "sign-forgotten", output(np.negative), result(MinPool((2, 2)), X))
add(MinPool, "magnitudes", inputs(np.abs), result(MinPool((2, 2)), X))
add(
    MaxPool,
    "second-largest",
    hook(
        maximum=lambda honest, cells, inside: np.sort(
            np.where(inside, cells, honest(cells, inside)[..., None]), -1
        )[..., -2:][..., 0]
    ),
    result(MaxPool((2, 2)), X),
)

# Global poolings

FAULTS.fault_class = "global"


def cut(x: Array, axis: int) -> Array:
    """Lose the last row of an axis that has several."""
    return np.delete(x, -1, axis) if x.shape[axis] > 1 else x


for kind in (GlobalAveragePool, GlobalMaxPool):
    add(
        kind,
        "last-column-ignored",
        computes(lambda honest, p, w, x: honest(p, w, cut(x, -2))),
        result(kind(), RAMP),
    )
    add(
        kind,
        "first-row-only",
        computes(lambda honest, p, w, x: honest(p, w, x[:, :1])),
        result(kind(), RAMP),
    )
    add(kind, "axes-kept", output(lambda y: y[:, None, None, :]), result(kind(), RAMP))
    add(
        kind,
        "over-channels-too",
        output(lambda y: np.broadcast_to(y.max(-1, keepdims=True, initial=-99), y.shape)),
        result(kind(), RAMP),
    )
add(
    GlobalAveragePool,
    "mean-of-unequal-chunks",
    computes(
        lambda honest, p, w, x: (
            ((honest(p, w, x[:, :4]).astype(float) + honest(p, w, x[:, 4:])) / 2).astype(x.dtype)
            if x.shape[1] > 4
            else honest(p, w, x)
        )
    ),
    result(GlobalAveragePool(), X),
)
add(
    GlobalAveragePool,
    "over-the-batch",
    output(lambda y: np.broadcast_to(y.mean(0, keepdims=True), y.shape) if len(y) else y),
    result(GlobalAveragePool(), X),
)
add(
    GlobalAveragePool,
    "median",
    computes(
        lambda _honest, _p, _w, x: np.median(
            x.astype(float), axis=tuple(range(1, x.ndim - 1))
        ).astype(x.dtype)
    ),
    result(GlobalAveragePool(), X),
)
add(
    GlobalMaxPool,
    "mean-of-row-maxima",
    computes(
        lambda honest, p, w, x: (
            x.max(1).mean(tuple(range(1, x.ndim - 2))).astype(x.dtype)
            if x.ndim > 3
            else honest(p, w, x)
        )
    ),
    result(GlobalMaxPool(), X),
)
add(GlobalMaxPool, "channels-reversed", output(lambda y: y[:, ::-1]), result(GlobalMaxPool(), RAMP))
