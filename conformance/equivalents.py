"""Layers that compute the same as another on inputs of one shape, written with other options.

Whether a framework agrees is seen by asking it: these are what is worth a try.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.reference import ShapeError, output_shape
from cnnformance.spec import layers as spec

Weights = Mapping[str, Array]
Written = tuple[spec.Layer, Weights, tuple[str, ...]]
"""A layer, its weights, and the lines of NumPy that give its ``y`` the other's shape."""


def same_pads(layer: spec.Windowed, spatial: spec.Shape) -> spec.Pads:
    """Return the cells before and after each axis that a padding word stands for."""
    axes = zip(spatial, layer.extent, layer.stride, strict=True)
    totals = [max((-(-n // s) - 1) * s + e - n, 0) for n, e, s in axes]
    pairs = [(total // 2, total - total // 2) for total in totals]
    return tuple(pairs if layer.padding == "same" else [(b, a) for a, b in pairs])


def _overhang(layer: spec.Pool, spatial: spec.Shape, pads: spec.Pads) -> spec.Pads | None:
    """Return pads with which rounding down gives the windows of rounding up; None: none do."""
    sizes = output_shape(layer, (1, *spatial, 1))[1:-1]
    axes = zip(spatial, pads, sizes, layer.stride, layer.extent, strict=True)
    wider = tuple(
        (before, max(0, (size - 1) * s + e - n - before)) for n, (before, _), size, s, e in axes
    )
    inside = all(max(pair) < e for pair, e in zip(wider, layer.extent, strict=True))
    return wider if inside else None


def _paddings(layer: spec.Windowed, spatial: spec.Shape) -> Iterator[spec.Windowed]:
    """Yield the layer with its padding as a word, or as numbers, and rounding down."""
    word = isinstance(layer.padding, str)
    pads = same_pads(layer, spatial) if word else layer.padding
    assert not isinstance(pads, str)
    if isinstance(layer, spec.Pool) and layer.ceil_mode:
        plain = layer.replace(ceil_mode=False)
        wider = _overhang(layer, spatial, pads)
        if wider is None or (isinstance(layer, spec.AveragePool) and layer.count_include_pad):
            return
        yield from _paddings(plain.replace(padding=wider), spatial)
        return
    yield layer
    other = layer.replace(padding=pads) if word else layer.replace(padding="same")
    if word or same_pads(other, spatial) == pads:
        yield other


def _undilated(layer: spec.Conv, weights: Weights) -> tuple[spec.Conv, Weights]:
    """Return a convolution whose kernel holds the zeros between its cells."""
    kernel = weights["weight"]
    wide = np.zeros((*layer.extent, *kernel.shape[-2:]), kernel.dtype)
    wide[tuple(slice(None, None, d) for d in layer.dilation)] = kernel
    return layer.replace(window=layer.extent, dilation=()), {**weights, "weight": wide}


def equivalent(layer: spec.Layer, shape: spec.Shape, weights: Weights) -> Iterator[Written]:
    """Yield the layer itself, and then others that compute the same on inputs of this shape."""
    yield layer, weights, ()
    spatial = shape[1:-1]
    try:
        match layer:
            case spec.Windowed():
                yield from (
                    (each, weights, ()) for each in _paddings(layer, spatial) if each != layer
                )
                if isinstance(layer, spec.Conv) and max(layer.dilation) > 1:
                    own, wide = _undilated(layer, weights)
                    yield from ((each, wide, ()) for each in _paddings(own, spatial))
            case spec.GlobalMaxPool() | spec.GlobalAveragePool():
                most = isinstance(layer, spec.GlobalMaxPool)
                windowed = (spec.MaxPool if most else spec.AveragePool)(spatial)
                adaptive = spec.AdaptiveMaxPool if most else spec.AdaptiveAveragePool
                flat = ("y = y.reshape(len(y), -1)",)
                yield windowed, weights, flat
                yield adaptive((1,) * layer.rank), weights, flat
            case spec.AdaptiveMaxPool() | spec.AdaptiveAveragePool():
                yield from _steady(layer, spatial)
    except (spec.LayerError, ShapeError):
        return


def _steady(layer: spec.Adaptive, spatial: spec.Shape) -> Iterator[Written]:
    """Yield the pooling of windows side by side, where the output divides the input."""
    if all(n % m == 0 for n, m in zip(spatial, layer.output, strict=True)):
        window = tuple(n // m for n, m in zip(spatial, layer.output, strict=True))
        kind = spec.MaxPool if isinstance(layer, spec.AdaptiveMaxPool) else spec.AveragePool
        yield kind(window), {}, ()
