"""Where windows lie: output sizes, padding, and the cells that each window covers.

Every layer that looks at neighbourhoods (pooling over windows, over all axes, or to a given
size, and convolution) is described by one ``Grid``: for each output the flat positions of its
cells in the input. ``windows`` reads through a grid and ``scatter`` writes back through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cnnformance.spec.layers import Adaptive, Global, Pads, Pool, Shape, Windowed

Array = np.ndarray[Any, np.dtype[Any]]
Located = Windowed | Global | Adaptive
"""The layers whose outputs are made from windows of the input."""

BLOCK = 1 << 22
"""How many elements of windows are held in memory at once."""


class ShapeError(ValueError):
    """An input that the layer cannot take; the message names the layer and the sizes."""


def explicit_pads(layer: Windowed, sizes: Shape) -> Pads:
    """Return the padding per axis as (before, after), with ``same`` and ``same_lower`` resolved.

    The two words make the output ``ceil(size / stride)``; an odd cell of padding lies after, or
    for ``same_lower`` before (``auto_pad`` of ONNX MaxPool-22).
    """
    if not isinstance(layer.padding, str):
        return layer.padding
    pads = []
    for size, stride, extent in zip(sizes, layer.stride, layer.extent, strict=True):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if layer.padding == "same" else (large, small))
    return tuple(pads)


def output_sizes(layer: Located, sizes: Shape) -> Shape:
    """Return the spatial sizes of the output for the spatial sizes of the input.

    A window one stride or less longer than the padded input has no place: the size is 0, unless
    ``ceil_mode`` lets it hang over the end (ONNX MaxPool-22, PyTorch MaxPool2d).

    Raises:
        ShapeError: the number of axes differs, a size would be negative, or a pooling over all
            cells, or to a given size, has an empty axis and so nothing to pool.
    """
    if len(sizes) != layer.rank:
        raise ShapeError(f"{layer}: has {layer.rank} spatial axes, the input has sizes {sizes}")
    if not isinstance(layer, Windowed):
        if 0 in sizes:
            raise ShapeError(f"{layer}: nothing to pool in spatial sizes {sizes}")
        return layer.output if isinstance(layer, Adaptive) else ()
    if isinstance(layer.padding, str):
        return tuple(-(-size // stride) for size, stride in zip(sizes, layer.stride, strict=True))
    rounds_up = isinstance(layer, Pool) and layer.ceil_mode
    out = []
    for size, (before, after), stride, extent in zip(
        sizes, layer.padding, layer.stride, layer.extent, strict=True
    ):
        room = size + before + after - extent
        count = (-(-room // stride) if rounds_up else room // stride) + 1
        if rounds_up and (count - 1) * stride >= size + before:
            count -= 1
        if count < 0:
            raise ShapeError(f"{layer}: the window does not fit spatial sizes {sizes}")
        out.append(count)
    return tuple(out)


def axis_cells(layer: Located, sizes: Shape) -> list[Array]:
    """Return per axis an array ``(outputs, window)`` of the input positions of each window.

    Positions below 0, and from the axis' size on, are padding (or, for an adaptive window
    shorter than the longest, no cell at all).
    """
    match layer:
        case Windowed():
            out, pads = output_sizes(layer, sizes), explicit_pads(layer, sizes)
            return [
                (np.arange(o) * stride - before)[:, None] + np.arange(w) * dilation
                for o, (before, _), stride, w, dilation in zip(
                    out, pads, layer.stride, layer.window, layer.dilation, strict=True
                )
            ]
        case Adaptive():
            axes = []
            for m, size in zip(layer.output, sizes, strict=True):
                first = np.arange(m) * size // m
                end = -(-np.arange(1, m + 1) * size // m)
                cells = first[:, None] + np.arange((end - first).max())
                axes.append(np.where(cells < end[:, None], cells, size))
            return axes
        case _:
            return [np.arange(size)[None] for size in sizes]


@dataclass(frozen=True)
class Grid:
    """The windows of a layer over an input of given spatial sizes.

    Attributes:
        out: the spatial sizes of the output.
        size: the number of spatial positions of the input.
        cells: ``(outputs, cells)``, flat spatial positions; ``size`` stands for padding.
        padded: whether any cell is padding.
    """

    out: Shape
    size: int
    cells: Array
    padded: bool

    def blocks(self, width: int) -> Iterator[slice]:
        """Yield slices of outputs whose cells, each ``width`` elements wide, fit ``BLOCK``."""
        outputs, cells = self.cells.shape
        step = max(1, BLOCK // max(1, cells * width))
        for start in range(0, max(1, outputs), step):
            yield slice(start, start + step)


@lru_cache(maxsize=32)
def grid(layer: Located, sizes: Shape) -> Grid:
    """Return where the windows of a layer lie; raises ``ShapeError`` as ``output_sizes`` does."""
    out = output_sizes(layer, sizes)
    rank, size = len(sizes), math.prod(sizes)
    flat: Any = 0
    real: Any = True
    for axis, cells in enumerate(axis_cells(layer, sizes)):
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = cells.shape
        inside = (cells >= 0) & (cells < sizes[axis])
        flat = flat * sizes[axis] + cells.reshape(shape)
        real = real & inside.reshape(shape)
    padded = not real.all()
    if padded:
        flat = np.where(real, flat, size)
    cells = flat.reshape(math.prod(out), math.prod(flat.shape[rank:]))
    cells.flags.writeable = False
    return Grid(out, size, cells, padded)


def _source(at: Grid, x: Array, fill: Any) -> Array:
    """Return ``x`` with its spatial axes joined and, if needed, a row of ``fill`` at the end."""
    batch, channels = x.shape[0], x.shape[-1]
    flat = x.reshape(batch, at.size, channels)
    if not at.padded:
        return flat
    return np.concatenate([flat, np.full((batch, 1, channels), fill, x.dtype)], axis=1)


def window_blocks(layer: Located, x: Array, fill: Any) -> Iterator[tuple[slice, Array]]:
    """Yield the windows in blocks that fit into memory.

    Each is a slice of the flattened outputs, and their values ``(batch, outputs, cells,
    channels)`` with ``fill`` for padding.
    """
    at = grid(layer, x.shape[1:-1])
    source = _source(at, x, fill)
    for rows in at.blocks(x.shape[0] * x.shape[-1]):
        yield rows, source.take(at.cells[rows], axis=1)


def over_windows(layer: Located, x: Array, fill: Any, function: Callable[[Array], Array]) -> Array:
    """Apply ``(batch, outputs, cells, channels) -> (batch, outputs, any)`` to all windows.

    Returns an array ``(batch, *out, any)``. Padding cells hold ``fill``.
    """
    parts = [function(block) for _, block in window_blocks(layer, x, fill)]
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return joined.reshape(x.shape[0], *grid(layer, x.shape[1:-1]).out, joined.shape[-1])


def windows(layer: Located, x: Array, fill: Any) -> tuple[Array, Array]:
    """Return every window's values ``(batch, *out, cells, channels)``, and which cells are real.

    The values have the dtype of ``x``, with ``fill`` in the cells that are padding; the mask has
    the shape ``(*out, cells)`` and is false there. Cells are in row-major order of the window.
    """
    at = grid(layer, x.shape[1:-1])
    shape = (*at.out, at.cells.shape[1])
    values = _source(at, x, fill).take(at.cells, axis=1)
    return values.reshape(x.shape[0], *shape, x.shape[-1]), (at.cells < at.size).reshape(shape)


def scatter_rows(at: Grid, rows: slice, total: Array, values: Array) -> None:
    """Add the values of some outputs' windows into ``total``, in place.

    Values are ``(batch, outputs, cells, channels)`` and ``total`` ``(batch, size + 1, channels)``;
    its last row receives what falls onto padding.
    """
    cells = at.cells[rows].ravel()
    if not cells.size:
        return
    order = cells.argsort(kind="stable")
    cells = cells[order]
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    flat = values.reshape(total.shape[0], len(cells), total.shape[2])
    total[:, cells[starts]] += np.add.reduceat(flat.take(order, axis=1), starts, axis=1)


def scatter(layer: Located, x_shape: Shape, cell_values: Array) -> Array:
    """Add values per window and cell back to the input positions: the adjoint of ``windows``.

    Takes ``(batch, *out, cells, channels)`` and returns float64 of shape ``x_shape``. Values on
    padding cells are dropped.
    """
    at = grid(layer, x_shape[1:-1])
    total = np.zeros((x_shape[0], at.size + 1, x_shape[-1]))
    values = cell_values.reshape(x_shape[0], *at.cells.shape, x_shape[-1])
    with np.errstate(all="ignore"):
        scatter_rows(at, slice(None), total, values)
    return total[:, : at.size].reshape(x_shape)
