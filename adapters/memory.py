"""How an array may lie in memory, besides plainly."""

from __future__ import annotations

import numpy as np

from cnnformance.adapters.backend import Array


def arranged(x: Array, memory: str) -> Array:  # noqa: PLR0911 - a table, one case per layout
    """Return an array equal to ``x`` whose memory is laid out in another way.

    ``contiguous``; ``fortran`` order; ``strided`` (every second element of a larger buffer);
    ``sliced`` (every second sample of one); ``narrowed`` (cut from one with a longer last axis);
    ``cropped`` (from one whose axes between the first and last are longer); ``broadcast`` (stride
    0 along each axis on which it is constant); ``reversed`` (negative strides); ``offset`` (not at
    the start of its buffer); ``readonly``.
    """
    if x.ndim == 0 and memory != "readonly":  # no axis to lay out
        return x
    match memory:
        case "fortran":
            return np.asfortranarray(x)
        case "strided":
            return np.repeat(x, 2, axis=-1)[..., ::2]
        case "reversed":
            flip = (slice(None, None, -1),) * x.ndim
            return np.ascontiguousarray(x[flip])[flip]
        case "sliced":
            return np.repeat(x, 2, axis=0)[::2]
        case "narrowed" | "cropped":
            inner = range(1, x.ndim - 1) if memory == "cropped" else range(x.ndim)[-1:]
            more = [(0, int(axis in inner)) for axis in range(x.ndim)]
            return np.pad(x, more, constant_values=1)[tuple(slice(n) for n in x.shape)]
        case "broadcast":
            return _broadcast(x)
        case "offset":
            larger = np.concatenate([x.ravel()[:1], x.ravel()]) if x.size else x.ravel()
            return larger[larger.size - x.size :].reshape(x.shape)
        case "readonly":
            x = x.copy()
            x.setflags(write=False)
            return x
        case _:
            return np.ascontiguousarray(x)


def _broadcast(x: Array) -> Array:
    """Return an equal array with stride 0 along each axis on which its bits are the same."""
    cells = x
    for axis in range(x.ndim):
        first = cells[(slice(None),) * axis + (slice(1),)]
        if np.broadcast_to(first, cells.shape).tobytes() == cells.tobytes():
            cells = first
    return x if cells.shape == x.shape else np.broadcast_to(cells, x.shape)
