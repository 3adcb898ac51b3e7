"""The gradients of the layers in plain NumPy."""

from __future__ import annotations

from math import prod

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported, Weights
from cnnformance.adapters.numpy_layers import (
    divisor,
    features,
    fold,
    lp_pool,
    regions,
    stochastic_pool,
    unfold,
    window_of,
)
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
    Windowed,
)


def at_place(cells: Array, place: Array, upstream: Array) -> Array:
    """Return ``upstream`` in the cell at each place, and 0 in all others."""
    out = np.zeros(cells.shape, upstream.dtype)
    np.put_along_axis(out, place[None], upstream[None], 0)
    return out


def window_gradient(layer: Windowed, x: Array, upstream: Array) -> Array:
    """Return the gradient with respect to each cell of each window of a pooling."""
    window = window_of(layer)
    fills: dict[type[Layer], float] = {MaxPool: -np.inf, MinPool: np.inf}
    cells = unfold(x, fills.get(type(layer), 0), **window)
    match layer:
        case MaxPool():
            return at_place(cells, cells.argmax(0), upstream)
        case MinPool():
            return at_place(cells, cells.argmin(0), upstream)
        case AveragePool():
            count = divisor(x.shape[1:-1], layer.count_include_pad, **window)
            return np.broadcast_to(upstream / count.astype(upstream.dtype), cells.shape)
        case LpPool():
            norm = lp_pool(x, p=layer.p, **window)
            share = np.where(norm == 0, 0, np.abs(cells) / norm) ** (layer.p - 1)
            return np.asarray(upstream * np.sign(cells) * share)
        case StochasticPool(training=False):
            total = cells.sum(0)
            slope = (2 * cells - stochastic_pool(x, training=False, **window)) / total
            return upstream * np.where(total == 0, 0, slope)
    raise Unsupported(f"{layer} has no gradient")


def conv_gradients(layer: Conv, x: Array, kernel: Array, upstream: Array) -> dict[str, Array]:
    """Return the gradients of a convolution with respect to input and kernel."""
    window = window_of(layer)
    cells = unfold(x, 0, **window)
    kernels = np.split(kernel.reshape(len(cells), -1, layer.out_channels), layer.groups, -1)
    ups = np.split(upstream, layer.groups, -1)
    axes = tuple(range(x.ndim - 1))
    to_cells = [np.tensordot(u, k, (-1, -1)) for u, k in zip(ups, kernels, strict=True)]
    to_kernels = [
        np.tensordot(c, u, (tuple(a + 1 for a in axes), axes))
        for c, u in zip(np.split(cells, layer.groups, -1), ups, strict=True)
    ]
    return {
        "input": fold(np.moveaxis(np.concatenate(to_cells, -1), -2, 0), x.shape, **window),
        "weight": np.concatenate(to_kernels, -1).reshape(kernel.shape),
    }


def gradients(layer: Layer, weights: Weights, x: Array, upstream: Array) -> dict[str, Array]:
    """Return the gradients of ``sum(layer(x) * upstream)`` in the dtype of the sums."""
    found = {"bias": upstream.sum(tuple(range(x.ndim - 1)))} if "bias" in weights else {}
    match layer:
        case Conv():
            found |= conv_gradients(layer, x, weights["weight"], upstream)
        case Windowed():
            window = window_of(layer)
            found["input"] = fold(window_gradient(layer, x, upstream), x.shape, **window)
        case GlobalMaxPool() | GlobalAveragePool():
            cells = features(x, layer.rank)
            if isinstance(layer, GlobalMaxPool):
                cells = at_place(cells, cells.argmax(0), upstream)
            else:
                cells = np.broadcast_to(upstream / upstream.dtype.type(len(cells)), cells.shape)
            found["input"] = cells.swapaxes(0, 1).reshape(x.shape)
        case AdaptiveMaxPool() | AdaptiveAveragePool():
            pool = GlobalMaxPool if isinstance(layer, AdaptiveMaxPool) else GlobalAveragePool
            found["input"] = np.zeros(x.shape, upstream.dtype)
            for cell, region in regions(x.shape[1:-1], layer.output):
                found["input"][:, *region] += gradients(
                    pool(layer.rank), {}, x[:, *region], upstream[:, *cell]
                )["input"]
        case ReLU():
            found["input"] = np.where(x <= 0, upstream.dtype.type(0), upstream)
        case Flatten():
            found["input"] = upstream.reshape(x.shape)
        case Dense():
            flat = x.reshape(prod(x.shape[:-1]), x.shape[-1])
            up = upstream.reshape(len(flat), layer.out_features)
            found["input"] = (up @ weights["weight"]).reshape(x.shape)
            found["weight"] = up.T @ flat
        case _:
            raise Unsupported(f"{layer} has no gradient")
    return found
