"""Faults as the trackers of frameworks tell them: padding words, crops, tiles, caches, wide counts.

Each shows only where it did there: in one order of memory, past one size, or for two layers one
after the other.
"""

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
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    ReLU,
    Shape,
)
from corpus.fault import (
    Edit,
    Faults,
    Witness,
    backpropagates,
    gradient,
    hook,
    result,
    static,
    tells,
    weights_of,
    whole,
)
from corpus.faults_kernels import derives, padded, repeats, runs, without
from corpus.faults_memory import Answer, called, mislaid
from corpus.faults_networks import conv, spoils

FAULTS = Faults("history")
add = FAULTS.add

THREE = (3, 3)
RISING = np.arange(70000, dtype=np.float32).reshape(1, -1, 1)

# Padding: the word same under strides past the window, and pads of more than seven bits


def unclamped(_honest: Any, layer: Any, number: int, size: int) -> tuple[int, int]:
    """Return the padding of an axis, without the rule that it is never below zero."""
    if not isinstance(layer.padding, str):
        return layer.padding[number]
    extent = (layer.window[number] - 1) * layer.dilation[number] + 1
    outputs = -(-size // layer.stride[number])
    total = (outputs - 1) * layer.stride[number] + extent - size
    small = int(total / 2)
    return (small, total - small) if layer.padding == "same" else (total - small, small)


for sparse in (MaxPool((1,), (3,), "same"), conv((1,), stride=(3,), padding="same")):
    add(
        type(sparse),
        "same-of-strides-past-the-window",
        hook(pads=unclamped),
        result(sparse, whole(2, 6, 1)),
        "semantics",
    )
for wide in (MaxPool((260,), (1,), ((130, 130),)), conv((260,), padding=((130, 129),))):
    add(
        type(wide),
        "pads-in-eight-bits",
        runs(
            lambda layer, _x: padded(layer) and max(map(max, layer.padding)) > 127,
            lambda honest, layer, w, x: np.roll(honest(layer, w, x), 1, 1),
        ),
        result(wide, RISING[:, :300]),
        "semantics",
    )

# Crops of larger arrays


def packed(axis: int) -> Edit:
    """Read an array whose axes after ``axis`` are packed as if that axis were so too."""

    def change(x: Array) -> Array:
        inner = math.prod(x.shape[axis + 1 :]) * x.itemsize
        tight = x.ndim == 4 and x.strides[3] == x.itemsize
        if axis == 1:
            tight = tight and x.strides[2] == x.shape[3] * x.itemsize
        if not (tight and x.size and x.shape[axis] > 1 and x.strides[axis] > inner):
            return x
        strides = list(x.strides)
        strides[axis] = inner
        return np.lib.stride_tricks.as_strided(x, strides=tuple(strides)).copy()

    return mislaid(change)


LARGER = whole(2, 8, 8, 4)
add(
    Conv,
    "channels-of-a-wider-image-taken-for-packed",
    packed(2),
    result(conv(THREE, 3, 2), LARGER[..., :3]),
    "memory",
)
add(
    MaxPool,
    "rows-of-a-crop-taken-for-packed",
    packed(1),
    result(MaxPool((2, 2)), LARGER[:, :, :6]),
    "memory",
)

# Winograd's tiles, in layers of many channels


def tiled(layer: Conv) -> bool:
    """Whether a kernel of tiles is taken."""
    plain = max(layer.stride) == max(layer.dilation) == layer.groups == 1
    return plain and layer.window == THREE and min(layer.in_channels, layer.out_channels) >= 16


add(
    Conv,
    "rows-of-tiles-counted-by-the-width",
    runs(
        lambda c, _x: tiled(c),
        lambda honest, c, w, x: repeats(
            y := honest(c, w, x), 1, min(y.shape[1], -(-y.shape[2] // 4) * 4)
        ),
    ),
    result(conv(THREE, 16, 16), whole(1, 12, 6, 16)),
)


def half_tile(honest: Any, layer: Any, weights: dict[str, Array], x: Array) -> Array:
    """Compute the last of an odd number of rows without the last row of the kernel."""
    y = honest(layer, weights, x)
    if y.shape[1] % 2:
        y = y.copy()
        y[:, -1] = without(2)(honest, layer, weights, x)[:, -1]
    return y


add(
    Conv,
    "last-row-of-half-a-tile",
    runs(lambda c, _x: tiled(c), half_tile),
    result(conv(THREE, 16, 16), whole(1, 7, 6, 16)),
)

# Gradients


def wrapped(size: int) -> Edit:
    """Keep the place of the winner in a window modulo ``size``."""

    def change(honest: Any, cells: Array, inside: Array, sign: int) -> Array:
        chosen = honest(cells, inside, sign)
        if chosen.shape[-1] <= size:
            return chosen
        more = [(0, 0)] * (chosen.ndim - 1) + [(0, -chosen.shape[-1] % size)]
        blocks = np.pad(chosen, more).reshape(*chosen.shape[:-1], -1, size)
        kept = np.zeros_like(chosen)
        kept[..., :size] = blocks.any(axis=-2)
        return kept

    return hook(selected=change)


add(
    MaxPool,
    "winner-in-eight-bits",
    wrapped(256),
    gradient(MaxPool((300,)), RISING[:, :600]),
    "gradient",
)
add(
    GlobalMaxPool,
    "winner-in-sixteen-bits",
    wrapped(65536),
    gradient(GlobalMaxPool(rank=1), RISING),
    "gradient",
)
add(
    GlobalAveragePool,
    "gradient-by-a-count-of-sixteen-bits",
    derives(
        "input",
        lambda _g, x: math.prod(x.shape[1:-1]) > 65536,
        lambda g, x: g * math.prod(x.shape[1:-1]) / (math.prod(x.shape[1:-1]) % 65536),
    ),
    gradient(GlobalAveragePool(rank=1), RISING),
    "gradient",
)
add(
    Conv,
    "weight-gradient-of-a-strided-dilated-line",
    derives(
        "weight",
        lambda c, _x: c.rank == 1 and c.stride != c.dilation and min(*c.stride, *c.dilation) > 1,
        lambda g, _x: np.repeat(g[:1], len(g), 0),
    ),
    gradient(conv((3,), stride=(3,), dilation=(2,)), whole(1, 11, 1)),
    "gradient",
)


def unmasked(
    grads: dict[str, Array], _layer: Layer, _weights: Weights, x: Array, upstream: Array
) -> dict[str, Array]:
    """Let all upstream values pass beyond the first 65536."""
    late = np.arange(x.size).reshape(x.shape) >= 65536
    return {**grads, "input": np.where(late, upstream, grads["input"])}


add(
    ReLU,
    "gradient-unmasked-in-a-second-block",
    backpropagates(unmasked),
    gradient(ReLU(), -RISING - 1),
    "gradient",
)


def later_rows(
    grads: dict[str, Array], _layer: Layer, _weights: Weights, x: Array, upstream: Array
) -> dict[str, Array]:
    """Overwrite the sums of the first 1024 rows by those of the later ones."""
    rows, given = x.reshape(-1, x.shape[-1])[1024:], upstream.reshape(-1, upstream.shape[-1])[1024:]
    if len(rows):
        grads["weight"] = given.T @ rows.astype(np.float64)
    return grads


add(
    Dense,
    "weight-gradient-of-the-first-rows-overwritten",
    backpropagates(later_rows),
    gradient(Dense(3, 2), whole(1300, 3)),
    "gradient",
)


def in_any_order(
    grads: dict[str, Array], layer: Any, _weights: Weights, x: Array, upstream: Array
) -> dict[str, Array]:
    """Add what the regions give in float32, in whatever order they come."""
    total = np.zeros(x.shape, np.float32)
    ends = [
        [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
        for n, m in zip(x.shape[1:-1], layer.output, strict=True)
    ]
    cells = list(np.ndindex(*layer.output))
    for number in np.random.default_rng().permutation(len(cells)):
        cell = cells[number]
        spans = [axis[i] for axis, i in zip(ends, cell, strict=True)]
        count = math.prod(stop - start for start, stop in spans)
        share = (upstream[(slice(None), *cell)] / count).astype(np.float32)
        where = (slice(None), *(slice(*span) for span in spans))
        total[where] += share.reshape(len(x), *[1] * len(spans), -1)
    return {**grads, "input": total}


def steadily(layer: Layer, x: Array) -> Witness:
    """Ask whether many equal backward passes agree bit for bit."""

    def witness(backend: Backend) -> bool:
        ask = gradient(layer, x)
        return len({ask(backend)["input"].tobytes() for _ in range(50)}) == 1

    return witness


add(
    AdaptiveAveragePool,
    "gradient-in-any-order",
    backpropagates(in_any_order),
    steadily(AdaptiveAveragePool((5, 5)), whole(2, 7, 7, 3)),
    "memory",
    "nondeterminism",
)

# Caches, static shapes, coincidences


def keyed(store: Any, honest: Answer, layer: Any, weights: dict[str, Array], x: Array) -> Array:
    """Take the plan of an earlier call that had all in common but the dilation."""
    described = layer.window, layer.stride, layer.padding, layer.ceil_mode
    key = *described, x.shape, x.dtype.name, honest(layer, weights, x).shape
    return honest(store.setdefault(key, layer), weights, x)


def in_turn(*layers: Layer, x: Array) -> Witness:
    """Ask one layer after the other; look at the last answer."""

    def witness(backend: Backend) -> Array:
        *_, last = (backend.build(layer, weights_of(layer))(x) for layer in layers)
        return last

    return witness


add(
    MaxPool,
    "cached-without-its-dilation",
    called(keyed),
    in_turn(MaxPool((2,), (3,)), MaxPool((2,), (3,), dilation=(2,)), x=whole(1, 6, 1)),
    "memory",
)


def at_least_one(answer: Shape, layer: Any, shape: Shape) -> Shape:
    """Take an axis of no cells for one whose size is not known."""
    return (*answer[: layer.start], math.prod(n or 1 for n in shape[layer.start :]))


add(Flatten, "static-size-of-no-cells", tells(at_least_one), static(Flatten(), 2, 0, 3), "memory")
add(
    AveragePool,
    "channels-first-guessed-from-the-sizes",
    spoils(lambda p, x: p.rank == 2 and x.shape[1] == 3 < x.shape[2] == x.shape[3], -1),
    result(AveragePool((2, 2)), whole(1, 3, 6, 6)),
)
