"""Proven bounds on the rounding error of a correct backward pass, element by element.

A gradient is the adjoint of a sum, so it is a sum too: of one term for each output that read the
cell, or for each position that used the weight (``docs/derivations.md``, section h).
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import numpy as np

from cnnformance.reference.bounds import (
    DOUBLE,
    Accumulated,
    Bound,
    Format,
    accumulated,
    format_of,
    growth,
)
from cnnformance.reference.forward import Weights
from cnnformance.reference.gradients import Gradients, gradients
from cnnformance.reference.windows import Array, scatter, windows
from cnnformance.spec import layers as spec


def _absolute(array: Array) -> Array:
    return np.abs(np.asarray(array, dtype=np.float64))


def _some(array: Array) -> Array:
    return np.asarray(array != 0).astype(np.float64)


def _counts(layer: Any, x: Array, weights: Weights, upstream: Array) -> dict[str, Array]:
    """Return how many terms of each gradient are not zero."""
    if layer.exact:  # the routes do not depend on the upstream gradient
        found = gradients(layer, x, {}, _some(upstream))
        return {name: np.abs(count) for name, count in found.items()}
    if layer.has_weights:
        some = {name: _some(w) for name, w in weights.items()}
        return gradients(layer, _some(x), some, _some(upstream))
    if not layer.takes_images:
        return {"input": _some(upstream)}
    values, _ = windows(layer, x[:1, ..., :1], 0.0)
    cells = values.shape[-2]
    sent = _some(upstream).reshape(len(x), *values.shape[1:-2], 1, x.shape[-1])
    shape = (*sent.shape[:-2], cells, x.shape[-1])
    return {"input": scatter(layer, x.shape, np.broadcast_to(sent, shape))}


@singledispatch
def meets(layer: spec.Layer, _x: Array) -> int:
    """Return how many roundings a term of the input's gradient can meet, but those of additions.

    There are none, or those of a share of a mean: divided, or times a rounded reciprocal, by axis.
    Layers that are neither linear nor exact register theirs.
    """
    if not (layer.linear or layer.exact):
        raise NotImplementedError(f"{type(layer).__name__} has no bound of its gradient")
    if not layer.averages:
        return 0
    rank = layer.rank if isinstance(layer, spec.Windowed) else 3
    return max(4, 2 * rank)


def _roundings(layer: spec.Layer, x: Array, counts: dict[str, Array]) -> dict[str, Array]:
    """Return how many roundings a term of each gradient can meet."""
    if layer.has_weights:
        return counts
    return {"input": np.maximum(counts["input"] - 1, 0) + meets(layer, x)}


@singledispatch
def reads(layer: spec.Layer, shape: spec.Shape) -> int:
    """Return how many outputs of this shape read a cell of the input, at the most."""
    if isinstance(layer, spec.Windowed):
        return math.prod(layer.window)
    return math.prod(shape[:-1])


def _totals(layer: spec.Layer, upstream: Array) -> dict[str, int]:
    """Return how many terms each gradient has at the most, zeros among them."""
    positions = math.prod(upstream.shape[:-1])
    return {"input": reads(layer, upstream.shape), "weight": positions, "bias": positions}


@singledispatch
def exponents(_layer: spec.Layer, _x: Array) -> float:
    """Return by how many units more a rounded exponent may move a gradient."""
    return 0.0


@singledispatch
def gradient_sizes(layer: spec.Layer, x: Array, weights: Weights, upstream: Array) -> Gradients:
    """Return the sums of the absolute terms of each gradient."""
    absolute = {name: _absolute(w) for name, w in weights.items()}
    places = x if layer.exact else _absolute(x)
    return gradients(layer, places, absolute, _absolute(upstream))


def _all(
    layer: spec.Layer, x: Array, weights: Weights, upstream: Array
) -> dict[str, tuple[Array, Array, Array, Accumulated]]:
    """Return each gradient's value, size, roundings, and errors by accumulator."""
    output = format_of(x.dtype.name)
    exact = gradients(layer, x, weights, upstream)
    sizes = gradient_sizes(layer, x, weights, upstream)
    roundings = _roundings(layer, x, _counts(layer, x, weights, upstream))
    moved = exponents(layer, x)
    totals = _totals(layer, upstream)
    found = {}
    for name, value in exact.items():
        size = np.abs(sizes[name])

        def rounded(inner: Format, met: Array, size: Array = size) -> Array:
            grown = growth(met, inner.unit) + growth(met + 4, DOUBLE)
            grown = grown + np.expm1(moved * (inner.unit + DOUBLE)) * (1 + grown)
            return np.asarray(grown * size + 4 * met * inner.tiny)

        by = accumulated(output, value, roundings[name], totals[name], rounded)
        found[name] = (value, size, roundings[name], by)
    return found


def _is_whole(layer: spec.Layer, x: Array, weights: Weights, upstream: Array) -> bool:
    operands = (x, upstream, *weights.values()) if layer.has_weights else ()
    return bool(operands) and all((a == np.rint(a)).all() for a in operands)


def gradient_bounds(
    layer: spec.Layer, x: Array, weights: Weights, upstream: Array, *, judged: bool = True
) -> dict[str, Bound]:
    """Return the bound for each gradient of ``sum(layer(x) * upstream)``, by name.

    The input must not tie where the layer selects. Sums of products of whole numbers are exact, as
    long as the precision holds them (section d); a selection that no other window made too passes
    its upstream gradient on as it is. Halves are judged as in the forward pass; without
    ``judged``, the bound is that of sums in the half in any order, however much it excuses.
    """
    output = format_of(x.dtype.name)
    whole = _is_whole(layer, x, weights, upstream)
    bounds = {}
    with np.errstate(all="ignore"):
        for name, (value, size, roundings, by) in _all(layer, x, weights, upstream).items():
            error = by.judged if judged else np.maximum(by.wide, by.own)
            error = error + output.tiny
            if whole:
                error = np.where(size <= 2.0**output.bits, 0.0, error)
            if layer.exact:
                error = np.where(roundings == 0, 0.0, error)
            # no partial sum of products passes their absolute sum, with a growth of less than 1
            most = size * (2 if layer.has_weights else np.maximum(roundings, 1))
            within = most < output.largest
            bounds[name] = Bound(value, error, within | ~np.isfinite(value))
    return bounds
