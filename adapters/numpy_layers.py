"""Every layer in plain NumPy, one function each.

The keywords of a function are the fields of its layer type, so that a layer is run by
``FORWARD[type(layer)](x, **vars(layer))``. Sums of half precision are held in float32; all else is
computed in the dtype of the input.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from math import prod
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Weights
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
    Padding,
    Pads,
    ReLU,
    Shape,
    StochasticPool,
    Windowed,
)

Slices = tuple[slice, ...]


def widen(x: Array) -> Array:
    """Return ``x`` in the dtype of its sums: float32 for half precision, else its own.

    Raises:
        ValueError: ``x`` holds no floating-point numbers.
    """
    if x.dtype.kind in "iub":
        raise ValueError(f"sums are of floating-point numbers, and not of {x.dtype}")
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def geometry(
    spatial: Shape,
    *,
    window: Shape,
    stride: Shape,
    padding: Padding,
    dilation: Shape,
    ceil_mode: bool = False,
) -> tuple[Pads, Shape]:
    """Return the padding cells (before, after) and the number of windows of each spatial axis.

    Raises:
        ValueError: the axes do not match the window's, or a number of windows is negative.
    """
    pads, sizes = [], []
    for axis, (n, w, s, d) in enumerate(zip(spatial, window, stride, dilation, strict=True)):
        extent = (w - 1) * d + 1
        if isinstance(padding, str):
            total = max((-(-n // s) - 1) * s + extent - n, 0)
            small, large = total // 2, total - total // 2
            before, after = (small, large) if padding == "same" else (large, small)
        else:
            before, after = padding[axis]
        room = before + n + after - extent
        size = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (size - 1) * s >= before + n:
            size -= 1
        if size < 0:
            raise ValueError(f"a window of {extent} cells does not fit into {n} on axis {axis}")
        pads.append((before, after))
        sizes.append(size)
    return tuple(pads), tuple(sizes)


def taps(
    spatial: Shape, window: Shape, stride: Shape, dilation: Shape, **rest: Any
) -> list[Slices]:
    """Return, for each cell of the window, where the padded input holds it for every window."""
    _, sizes = geometry(spatial, window=window, stride=stride, dilation=dilation, **rest)
    return [
        tuple(
            slice(i * d, i * d + size * s, s)
            for i, size, s, d in zip(cell, sizes, stride, dilation, strict=True)
        )
        for cell in np.ndindex(*window)
    ]


def padded(
    x: Array, fill: Any, window: Shape, stride: Shape, dilation: Shape, **rest: Any
) -> Array:
    """Return ``x`` within ``fill``, which reaches as far as the last window does."""
    pads, sizes = geometry(x.shape[1:-1], window=window, stride=stride, dilation=dilation, **rest)
    lengths = [
        max(before + n + after, (size - 1) * s + (w - 1) * d + 1)
        for n, (before, after), size, w, s, d in zip(
            x.shape[1:-1], pads, sizes, window, stride, dilation, strict=True
        )
    ]
    out = np.full((x.shape[0], *lengths, x.shape[-1]), fill, x.dtype)
    out[:, *interior(x.shape[1:-1], pads)] = x
    return out


def interior(spatial: Shape, pads: Pads) -> Slices:
    """Return where a padded input holds the input."""
    return tuple(slice(before, before + n) for n, (before, _) in zip(spatial, pads, strict=True))


def unfold(x: Array, fill: Any, **window: Any) -> Array:
    """Return the windows of ``x``, cell by cell: ``(cells, batch, *windows, channels)``."""
    around = padded(x, fill, **window)
    return np.stack([around[:, *tap] for tap in taps(x.shape[1:-1], **window)])


def fold(cells: Array, shape: Shape, **window: Any) -> Array:
    """Return the sum, over all windows, of their cells at each place: the adjoint of ``unfold``."""
    pads, _ = geometry(shape[1:-1], **window)
    around = padded(np.zeros(shape, cells.dtype), 0, **window)
    for tap, cell in zip(taps(shape[1:-1], **window), cells, strict=True):
        around[:, *tap] += cell
    return around[:, *interior(shape[1:-1], pads)]


def extremes(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the smallest and the largest value of a dtype."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).min, np.iinfo(dtype).max
    return -np.inf, np.inf


def pick(cells: Array, place: Array) -> Array:
    """Return the cell at each place (an ``argmax`` over the cells)."""
    (picked,) = np.take_along_axis(cells, place[None], 0)
    return np.asarray(picked)


def mean(cells: Array) -> Array:
    """Return the mean over the cells."""
    return np.asarray(cells.sum(0) / cells.dtype.type(len(cells)))


def max_pool(x: Array, **window: Any) -> Array:
    """Return the first largest value of each window; a NaN is larger than all."""
    cells = unfold(x, extremes(x.dtype)[0], **window)
    return pick(cells, cells.argmax(0))


def min_pool(x: Array, **window: Any) -> Array:
    """Return the first smallest value of each window; a NaN is smaller than all."""
    cells = unfold(x, extremes(x.dtype)[1], **window)
    return pick(cells, cells.argmin(0))


def divisor(spatial: Shape, count_include_pad: bool, **window: Any) -> Array:
    """Return how many cells each window averages over, as ``(*windows, 1)``."""
    pads, sizes = geometry(spatial, **window)
    counts = []
    for axis, (n, (before, after), size) in enumerate(zip(spatial, pads, sizes, strict=True)):
        starts = np.arange(size) * window["stride"][axis] - before
        cells = starts[:, None] + np.arange(window["window"][axis]) * window["dilation"][axis]
        low, high = (-before, n + after) if count_include_pad else (0, n)
        counts.append(((cells >= low) & (cells < high)).sum(1))
    return np.asarray(reduce(np.multiply.outer, counts))[..., None]


def average_pool(x: Array, *, count_include_pad: bool, **window: Any) -> Array:
    """Return the mean of each window."""
    total: Array = unfold(widen(x), 0, **window).sum(0)
    count = divisor(x.shape[1:-1], count_include_pad, **window)
    return np.divide(total, count, dtype=total.dtype).astype(x.dtype)


def lp_pool(x: Array, *, p: int, **window: Any) -> Array:
    """Return the p-norm of each window."""
    total: Array = (np.abs(unfold(widen(x), 0, **window)) ** p).sum(0)
    # A root taken in float32 would also suffer from the rounding of the exponent 1/p.
    root: Array = np.sqrt(total) if p == 2 else np.float_power(total, 1 / p)
    return root.astype(x.dtype)


def stochastic_pool(
    x: Array, *, training: bool, generator: np.random.Generator | None = None, **window: Any
) -> Array:
    """Draw a cell of each window, or weigh them all, by their share in the window's sum."""
    cells = unfold(widen(x), 0, **window)
    if training:
        heights = cells.cumsum(0)
        draw = (generator or np.random.default_rng()).random(heights.shape[1:])
        y = pick(cells, (heights > draw * heights[-1]).argmax(0))
    else:
        total = cells.sum(0)
        y = np.where(total == 0, 0, (cells * (cells / total)).sum(0))
    return y.astype(x.dtype)


def features(x: Array, rank: int) -> Array:
    """Return the cells of each feature map: ``(cells, batch, channels)``.

    Raises:
        ValueError: ``x`` has not ``rank`` spatial axes.
    """
    if x.ndim != rank + 2:
        raise ValueError(f"an input of {x.ndim} axes has not {rank} spatial axes")
    return x.reshape(x.shape[0], prod(x.shape[1:-1]), x.shape[-1]).swapaxes(0, 1)


def global_max_pool(x: Array, *, rank: int) -> Array:
    """Return the first largest value of each feature map."""
    cells = features(x, rank)
    return pick(cells, cells.argmax(0))


def global_average_pool(x: Array, *, rank: int) -> Array:
    """Return the mean of each feature map."""
    return mean(features(widen(x), rank)).astype(x.dtype)


def regions(spatial: Shape, output: Shape) -> Iterator[tuple[tuple[Any, ...], Slices]]:
    """Yield each output cell of an adaptive pooling, and the input cells that it covers."""
    for cell in np.ndindex(*output):
        yield (
            cell,
            tuple(
                slice(i * n // m, -(-(i + 1) * n // m))
                for i, n, m in zip(cell, spatial, output, strict=True)
            ),
        )


def adaptive(x: Array, output: Shape, pool: Callable[..., Array]) -> Array:
    """Return the global pooling of each region."""
    y = np.empty((x.shape[0], *output, x.shape[-1]), x.dtype)
    for cell, region in regions(x.shape[1:-1], output):
        y[:, *cell] = pool(x[:, *region], rank=len(output))
    return y


def adaptive_max_pool(x: Array, *, output: Shape) -> Array:
    """Return the first largest value of each region."""
    return adaptive(x, output, global_max_pool)


def adaptive_average_pool(x: Array, *, output: Shape) -> Array:
    """Return the mean of each region."""
    return adaptive(x, output, global_average_pool)


def conv(
    x: Array,
    weights: Weights,
    *,
    in_channels: int,
    out_channels: int,
    groups: int,
    bias: bool,
    **window: Any,
) -> Array:
    """Return the cross-correlation with each filter, plus its bias."""
    if x.shape[-1] != in_channels:
        raise ValueError(f"{x.shape[-1]} input channels, and not {in_channels}")
    cells = unfold(widen(x), 0, **window)
    kernel = widen(weights["weight"]).reshape(len(cells), in_channels // groups, out_channels)
    pairs = zip(np.split(cells, groups, -1), np.split(kernel, groups, -1), strict=True)
    y = np.concatenate([np.tensordot(c, k, ((0, -1), (0, 1))) for c, k in pairs], -1)
    return (y + widen(weights["bias"]) if bias else y).astype(x.dtype)


def relu(x: Array) -> Array:
    """Return ``x`` where it is positive or NaN, else 0."""
    return np.where(x <= 0, x.dtype.type(0), x)


def flatten(x: Array, *, start: int) -> Array:
    """Return ``x`` with its axes from ``start`` on joined."""
    if x.ndim < start:
        raise ValueError(f"an input of {x.ndim} axes has no axis {start}")
    return x.reshape(*x.shape[:start], prod(x.shape[start:]))


def dense(x: Array, weights: Weights, *, in_features: int, out_features: int, bias: bool) -> Array:
    """Return ``x W' + b`` on the last axis."""
    if x.ndim < 1 or x.shape[-1] != in_features:
        raise ValueError(f"an input of shape {x.shape} does not end in {in_features} features")
    y = (widen(x) @ widen(weights["weight"]).T).reshape(*x.shape[:-1], out_features)
    return (y + widen(weights["bias"]) if bias else y).astype(x.dtype)


FORWARD: Mapping[type[Layer], Callable[..., Array]] = {
    MaxPool: max_pool,
    MinPool: min_pool,
    AveragePool: average_pool,
    LpPool: lp_pool,
    StochasticPool: stochastic_pool,
    GlobalAveragePool: global_average_pool,
    GlobalMaxPool: global_max_pool,
    AdaptiveAveragePool: adaptive_average_pool,
    AdaptiveMaxPool: adaptive_max_pool,
    Conv: conv,
    ReLU: relu,
    Flatten: flatten,
    Dense: dense,
}

SELECTIONS = (MaxPool, MinPool, GlobalMaxPool, AdaptiveMaxPool, ReLU, Flatten)


def window_of(layer: Windowed) -> dict[str, Any]:
    """Return the fields that say which cells each window covers."""
    fields = ("window", "stride", "padding", "dilation", "ceil_mode")
    return {name: value for name, value in vars(layer).items() if name in fields}


def sources(function: Callable[..., Any], found: dict[str, str]) -> dict[str, str]:
    """Return ``found`` with the source of a function and of those of this module that it calls."""
    if function.__name__ not in found:
        found[function.__name__] = inspect.getsource(function)
        codes = [function.__code__]
        for code in codes:
            codes += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
            for called in map(globals().get, code.co_names):
                if isinstance(called, FunctionType) and called.__module__ == __name__:
                    sources(called, found)
    return found
