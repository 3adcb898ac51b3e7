"""Faults that show at certain sizes only: vector tails, blocks, wrapped indices, long axes."""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
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
from corpus.fault import Edit, Faults, computes, hook, inputs, output, reads, result, whole
from corpus.kernels import but

FAULTS = Faults("sizes beyond small ones")
add = FAULTS.add

PAIR = (2,)
SQUARE = (2, 2)
Where = Callable[[Array], Array]


def channels(layer: Layer, count: int, dtype: str = "float32") -> Any:
    """Ask with an image of two axes and this many channels."""
    return result(layer, whole(2, 4, 4, count, dtype=dtype, low=1))


def line(layer: Layer, size: int, *, batch: int = 1, of: int = 1) -> Any:
    """Ask with an image of one axis of this length."""
    return result(layer, np.arange(batch * size * of, dtype=np.float32).reshape(batch, size, of))


def spoiled(where: Where, axis: int = -1, *, value: float = 0) -> Edit:
    """Leave a value where it should have been computed; ``where`` gets the numbers of an axis."""

    def change(y: Array) -> Array:
        if y.ndim < 2 or y.ndim <= axis:
            return y
        shape = [1] * y.ndim
        shape[axis] = -1
        return np.where(where(np.arange(y.shape[axis])).reshape(shape), value, y)

    return output(change)


def tail(lanes: int) -> Where:
    """The numbers that a loop over whole vectors leaves over, if it runs at all."""
    return lambda n: (n >= len(n) - len(n) % lanes) & (len(n) > lanes)


def without_tail(lanes: int) -> Callable[[Array], Array]:
    """Zero the values of the last axis that vectors leave over."""
    return lambda x: np.where(tail(lanes)(np.arange(x.shape[-1])), 0, x)


def with_wrong_tail(lanes: int) -> Callable[[Array], Array]:
    """Put 1 where vectors leave values over, all axes taken as one."""
    return lambda y: np.where(tail(lanes)(np.arange(y.size)).reshape(y.shape), 1, y)


def beyond(limit: int) -> Where:
    """The numbers from a limit on."""
    return lambda n: n >= limit


def wrapped(modulus: int, axis: int = 1) -> Edit:
    """Read outputs beyond a limit at their number modulo it, as a narrow index does."""
    return output(
        lambda y: y.take(np.arange(y.shape[axis]) % modulus, axis) if y.ndim > axis else y
    )


# Vector tails

for lanes in (4, 8, 16, 32):
    add(
        MaxPool,
        f"channels-left-over-from-{lanes}",
        spoiled(tail(lanes)),
        channels(MaxPool(SQUARE), lanes + 3),
    )
    add(
        AveragePool,
        f"channels-left-over-from-{lanes}",
        spoiled(tail(lanes)),
        channels(AveragePool(SQUARE), 2 * lanes + 1),
    )
for lanes in (4, 16):
    add(
        Conv,
        f"outputs-left-over-from-{lanes}",
        spoiled(tail(lanes)),
        channels(Conv((2, 2), in_channels=1, out_channels=lanes + 1), 1),
    )
    add(
        Dense,
        f"units-left-over-from-{lanes}",
        spoiled(tail(lanes)),
        result(Dense(3, lanes + 2), whole(2, 3, low=1)),
    )
for lanes in (8, 32):
    add(
        Dense,
        f"features-left-over-from-{lanes}",
        inputs(without_tail(lanes)),
        result(Dense(lanes + 1, 3), whole(2, lanes + 1, low=1)),
    )
add(
    Conv,
    "input-channels-left-over-from-8",
    inputs(lambda x: np.where(tail(8)(np.arange(x.shape[-1])), 0, x)),
    channels(Conv((2, 2), in_channels=9, out_channels=2), 9),
)
add(LpPool, "channels-left-over-from-8", spoiled(tail(8)), channels(LpPool(SQUARE), 11))
add(
    MinPool,
    "columns-left-over-from-8",
    spoiled(tail(8), -2),
    result(MinPool(SQUARE), whole(1, 4, 22, 1, low=1)),
)
add(
    MaxPool,
    "columns-left-over-from-32",
    spoiled(tail(32), -2),
    result(MaxPool((1,)), whole(1, 35, 1, low=1)),
)
for lanes in (8, 16):
    add(
        ReLU,
        f"values-left-over-from-{lanes}",
        output(with_wrong_tail(lanes)),
        result(ReLU(), whole(lanes + 3)),
    )
add(
    GlobalAveragePool,
    "cells-left-over-from-8",
    computes(
        lambda honest, p, w, x: honest(
            p, w, np.where(tail(8)(np.arange(x.shape[1])).reshape(-1, *[1] * (x.ndim - 2)), 0, x)
        )
    ),
    line(GlobalAveragePool(1), 11),
)
add(
    GlobalMaxPool,
    "cells-left-over-from-16",
    computes(
        lambda honest, p, w, x: honest(
            p,
            w,
            np.where(tail(16)(np.arange(x.shape[1])).reshape(-1, *[1] * (x.ndim - 2)), x[:, :1], x),
        )
    ),
    line(GlobalMaxPool(1), 19),
)
add(Flatten, "values-left-over-from-16", spoiled(tail(16)), line(Flatten(), 19))
add(
    AveragePool,
    "window-cells-left-over-from-4",
    hook(
        total=lambda honest, terms: (
            honest(terms[..., : terms.shape[-1] - terms.shape[-1] % 4])
            if terms.shape[-1] > 4
            else honest(terms)
        )
    ),
    line(AveragePool((5,)), 10),
)
add(
    MaxPool,
    "window-cells-left-over-from-8",
    hook(
        maximum=lambda honest, cells, inside: (
            honest(*(a[..., : a.shape[-1] - a.shape[-1] % 8] for a in (cells, inside)))
            if cells.shape[-1] > 8
            else honest(cells, inside)
        )
    ),
    line(MaxPool((9,)), 18),
)

# Blocks, limits and narrow numbers

add(MaxPool, "channels-beyond-16-zero", spoiled(beyond(16)), channels(MaxPool(SQUARE), 20))
add(
    AveragePool,
    "channels-beyond-64-repeat",
    wrapped(64, -1),
    result(AveragePool(PAIR), np.arange(140, dtype=np.float32).reshape(1, 2, 70)),
)
add(MinPool, "channels-beyond-16-zero", spoiled(beyond(16)), channels(MinPool(SQUARE), 20))
add(
    Conv,
    "outputs-beyond-16-zero",
    spoiled(beyond(16)),
    channels(Conv((2, 2), in_channels=1, out_channels=20), 1),
)
add(
    Conv,
    "input-channels-beyond-8-ignored",
    inputs(lambda x: np.where(beyond(8)(np.arange(x.shape[-1])), 0, x)),
    channels(Conv((1, 1), in_channels=12, out_channels=2), 12),
)
add(
    Dense,
    "features-beyond-64-ignored",
    inputs(lambda x: np.where(beyond(64)(np.arange(x.shape[-1])), 0, x)),
    result(Dense(70, 2), whole(1, 70, low=1)),
)
add(
    Dense,
    "features-beyond-1024-ignored",
    inputs(lambda x: np.where(beyond(1024)(np.arange(x.shape[-1])), 0, x)),
    result(Dense(1030, 2), whole(1, 1030, low=1)),
)
add(Dense, "units-beyond-128-repeat", wrapped(128, -1), result(Dense(2, 200), whole(1, 2, low=1)))
add(Dense, "rows-beyond-4-repeat", wrapped(4, 0), result(Dense(2, 2), whole(7, 2, low=1)))
add(
    MaxPool,
    "last-row-zero-if-odd",
    output(
        lambda y: np.where(
            (np.arange(y.shape[1]) == y.shape[1] - 1).reshape(-1, *[1] * (y.ndim - 2))
            & (y.shape[1] % 2 == 1)
            & (y.shape[1] > 1),
            0,
            y,
        )
    ),
    result(MaxPool(SQUARE), whole(1, 6, 6, 1, low=1)),
)
add(
    AveragePool,
    "last-row-repeats-row-before",
    output(lambda y: y.take([*range(y.shape[1] - 1), y.shape[1] - 2], 1) if y.shape[1] > 3 else y),
    line(AveragePool(PAIR), 10),
)
add(
    MaxPool,
    "later-batch-elements-repeat-first",
    output(lambda y: y.take(np.zeros(len(y), int), 0)),
    line(MaxPool(PAIR), 6, batch=2),
)
add(
    LpPool,
    "later-batch-elements-zero",
    output(lambda y: np.where((np.arange(len(y)) > 0).reshape(-1, *[1] * (y.ndim - 1)), 0, y)),
    line(LpPool(PAIR), 6, batch=2),
)
add(
    Conv,
    "batch-beyond-8-repeats",
    wrapped(8, 0),
    result(
        Conv(PAIR, in_channels=1, out_channels=1), np.arange(27, dtype=np.float32).reshape(9, 3, 1)
    ),
)
add(AveragePool, "batch-reversed", output(lambda y: y[::-1]), line(AveragePool(PAIR), 6, batch=2))
add(
    GlobalMaxPool,
    "batch-maximum",
    output(lambda y: np.broadcast_to(y.max(0, keepdims=True), y.shape) if y.size else y),
    line(GlobalMaxPool(1), 6, batch=2),
)
add(
    ReLU,
    "batch-beyond-4-unchanged",
    computes(
        lambda honest, r, w, x: (
            np.concatenate([honest(r, w, x[:4]), x[4:]]) if x.ndim else honest(r, w, x)
        )
    ),
    result(ReLU(), -whole(5, 2, low=1)),
)
add(Flatten, "batch-beyond-8-repeats", wrapped(8, 0), line(Flatten(), 2, batch=9))
add(
    StochasticPool,
    "later-batch-elements-repeat-first",
    output(lambda y: y.take(np.zeros(len(y), int), 0)),
    line(StochasticPool(PAIR), 6, batch=2),
)
add(
    MaxPool,
    "window-clipped-at-7",
    reads(lambda p: but(p, window=tuple(min(w, 7) for w in p.window))),
    line(MaxPool((9,)), 18),
)
add(
    AveragePool,
    "window-clipped-at-15",
    reads(lambda p: but(p, window=tuple(min(w, 15) for w in p.window))),
    line(AveragePool((17,)), 34),
)
add(
    MaxPool,
    "window-area-beyond-32-ignored",
    hook(
        maximum=lambda honest, cells, inside: (
            honest(cells[..., :32], inside[..., :32])
            if cells.shape[-1] < 2**10
            else honest(cells, inside)
        )
    ),
    result(MaxPool((6, 6)), np.arange(36, dtype=np.float32).reshape(1, 6, 6, 1)),
)
add(
    AveragePool,
    "window-area-beyond-64-ignored",
    hook(total=lambda honest, terms: honest(terms[..., :64])),
    result(AveragePool((9, 9)), whole(1, 9, 9, 1, low=1)),
)
add(
    Conv,
    "kernel-area-beyond-25-ignored",
    hook(
        correlate=lambda honest, c, x, w: honest(
            c,
            x,
            np.where(
                (np.arange(int(np.prod(w.shape[:-2]))) >= 25).reshape(*w.shape[:-2], 1, 1), 0, w
            ),
        )
    ),
    result(Conv((6, 6), in_channels=1, out_channels=1), whole(1, 6, 6, 1, low=1)),
)
add(
    Conv,
    "stride-clipped-at-2",
    reads(lambda c: but(c, stride=tuple(min(s, 2) for s in c.stride))),
    line(Conv(PAIR, (3,), in_channels=1, out_channels=1), 11),
)
add(
    MaxPool,
    "stride-clipped-at-4",
    reads(lambda p: but(p, stride=tuple(min(s, 4) for s in p.stride))),
    line(MaxPool((5,)), 20),
)
add(
    Conv,
    "dilation-clipped-at-2",
    reads(lambda c: but(c, dilation=tuple(min(s, 2) for s in c.dilation))),
    line(Conv(PAIR, dilation=(3,), in_channels=1, out_channels=1), 11),
    "semantics",
)
add(
    MaxPool,
    "row-64-of-each-block-zero",
    spoiled(lambda n: n % 64 == 63, 1),
    line(MaxPool((1,)), 70),
)
add(
    AveragePool,
    "block-edge-at-32-shifted",
    output(
        lambda y: y.take(
            np.where((n := np.arange(y.shape[1])) % 32 == 0, np.maximum(n - 1, 0), n), 1
        )
    ),
    line(AveragePool(PAIR), 80),
)
add(
    GlobalAveragePool,
    "cells-beyond-128-ignored",
    hook(total=lambda honest, terms: honest(terms[..., :128])),
    line(GlobalAveragePool(1), 150),
)
add(
    GlobalAveragePool,
    "cells-beyond-4096-ignored",
    hook(total=lambda honest, terms: honest(terms[..., :4096])),
    line(GlobalAveragePool(1), 4100),
)
add(
    LpPool,
    "cells-beyond-16-ignored",
    hook(total=lambda honest, terms: honest(terms[..., :16])),
    line(LpPool((17,)), 17),
)
add(MaxPool, "outputs-beyond-256-repeat", wrapped(256), line(MaxPool((1,)), 300))
add(AveragePool, "outputs-beyond-256-repeat", wrapped(256), line(AveragePool(PAIR), 600))
add(
    ReLU,
    "values-beyond-1024-unchanged",
    computes(
        lambda honest, r, w, x: np.where(
            np.arange(x.size).reshape(x.shape) >= 1024, x, honest(r, w, x)
        )
    ),
    result(ReLU(), -whole(1030, low=1)),
)
add(Flatten, "values-beyond-4096-zero", spoiled(beyond(4096)), line(Flatten(), 4100))
add(
    GlobalMaxPool,
    "cells-beyond-2048-ignored",
    hook(maximum=lambda honest, cells, inside: honest(cells[..., :2048], inside[..., :2048])),
    line(GlobalMaxPool(1), 2050),
)
add(MaxPool, "outputs-beyond-32768-repeat", wrapped(2**15), line(MaxPool((1,)), 2**15 + 3))
add(
    GlobalMaxPool,
    "cells-beyond-65536-ignored",
    hook(maximum=lambda honest, cells, inside: honest(cells[..., : 2**16], inside[..., : 2**16])),
    line(GlobalMaxPool(1), 2**16 + 3),
)
add(MinPool, "outputs-beyond-65536-repeat", wrapped(2**16), line(MinPool((1,)), 2**16 + 3))
add(
    AveragePool,
    "outputs-beyond-131072-zero",
    spoiled(beyond(2**17), 1),
    line(AveragePool((1,)), 2**17 + 3),
)
add(Flatten, "values-beyond-131072-repeat", wrapped(2**17, -1), line(Flatten(), 2**17 + 3))
add(
    MaxPool,
    "power-of-two-lengths-lose-last",
    computes(
        lambda honest, p, w, x: (
            spoil_last(honest(p, w, x))
            if x.shape[1] >= 64 and x.shape[1] & (x.shape[1] - 1) == 0
            else honest(p, w, x)
        )
    ),
    line(MaxPool(PAIR), 64),
)
add(
    Conv,
    "prime-lengths-lose-last",
    computes(
        lambda honest, c, w, x: (
            spoil_last(honest(c, w, x))
            if _prime(x.shape[1]) and x.shape[1] > 10
            else honest(c, w, x)
        )
    ),
    line(Conv(PAIR, in_channels=1, out_channels=1), 13),
)
add(
    AveragePool,
    "lengths-next-to-powers-of-two-lose-last",
    computes(
        lambda honest, p, w, x: (
            spoil_last(honest(p, w, x))
            if x.shape[1] > 30 and (x.shape[1] & (x.shape[1] + 1) == 0)
            else honest(p, w, x)
        )
    ),
    line(AveragePool((1,)), 31),
)
add(
    MaxPool,
    "argument-in-eight-bits",
    hook(
        maximum=lambda honest, cells, inside: (
            np.take_along_axis(cells, (cells.argmax(-1) % 256)[..., None], -1)[..., 0]
            if cells.shape[-1] > 256 and inside.all() and cells.dtype == np.float32
            else honest(cells, inside)
        )
    ),
    line(MaxPool((300,)), 300),
)
add(
    GlobalAveragePool,
    "counts-in-eight-bits",
    hook(mean=lambda honest, terms, n: honest(terms, np.maximum(n % 256, 1))),
    line(GlobalAveragePool(1), 300),
)
add(
    AdaptiveAveragePool,
    "outputs-beyond-8-repeat",
    wrapped(8),
    line(AdaptiveAveragePool((10,)), 20),
    "semantics",
)
add(
    Dense,
    "single-row-of-many-features-truncated",
    computes(
        lambda honest, d, w, x: honest(
            d,
            w,
            np.where(beyond(256)(np.arange(x.shape[-1])), 0, x)
            if len(x) == 1 and x.ndim == 2
            else x,
        )
    ),
    result(Dense(260, 2), whole(1, 260, low=1)),
)
add(
    Conv,
    "one-by-one-kernel-ignores-stride-offset",
    computes(
        lambda honest, c, w, x: (
            honest(c, w, np.roll(x, -1, 1))
            if set(c.window) == {1} and max(c.stride) > 1
            else honest(c, w, x)
        )
    ),
    line(Conv((1,), (2,), in_channels=1, out_channels=1), 7),
)
add(
    MaxPool,
    "window-as-large-as-input-loses-last",
    hook(
        maximum=lambda honest, cells, inside: (
            honest(cells[..., :-1], inside[..., :-1])
            if cells.shape[-1] > 1 and max(cells.shape[1:-2], default=0) == 1
            else honest(cells, inside)
        )
    ),
    line(MaxPool((6,)), 6),
)
add(
    Conv,
    "kernel-as-large-as-input-loses-bias",
    computes(
        lambda honest, c, w, x: honest(
            c, {k: v * (k != "bias") for k, v in w.items()} if c.window == x.shape[1:-1] else w, x
        )
    ),
    line(Conv((6,), in_channels=1, out_channels=1), 6),
)
add(
    GlobalAveragePool,
    "float16-count-overflows",
    computes(
        lambda honest, c, w, x: (
            (
                honest(c, w, x)
                * (
                    (x.dtype != np.float16) | (np.prod(x.shape[1:-1]) < 65520)
                )  # what rounds to infinity
            ).astype(x.dtype)
        )
    ),
    result(GlobalAveragePool(), np.ones((1, 256, 256, 1), np.float16)),
)


def spoil_last(y: Array) -> Array:
    """Zero the last row."""
    y = y.copy()
    y[:, -1:] = 0
    return y


def _prime(n: int) -> bool:
    return n > 1 and all(n % k for k in range(2, int(n**0.5) + 1))
