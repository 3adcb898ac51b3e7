"""Proven bounds on the rounding error of a correct backward pass, element by element.

A gradient is the adjoint of a sum, so it is a sum too: of one term for each output that read the
cell, or for each position that used the weight (``docs/derivations.md``, section h).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnformance.reference.bounds import (
    SELECTIONS,
    Accumulated,
    Bound,
    Format,
    accumulated,
    format_of,
    growth,
)
from cnnformance.reference.forward import Weights, forward
from cnnformance.reference.gradients import gradients
from cnnformance.reference.windows import Array, scatter, windows
from cnnformance.spec import layers as spec

_DOUBLE = 2.0**-53


def _absolute(array: Array) -> Array:
    return np.abs(np.asarray(array, dtype=np.float64))


def _some(array: Array) -> Array:
    return np.asarray(array != 0).astype(np.float64)


def _counts(layer: Any, x: Array, weights: Weights, upstream: Array) -> dict[str, Array]:
    """Return how many terms of each gradient are not zero."""
    if isinstance(layer, SELECTIONS):  # the routes do not depend on the upstream gradient
        return gradients(layer, x, {}, _some(upstream))
    if layer.has_weights:
        some = {name: _some(w) for name, w in weights.items()}
        return gradients(layer, _some(x), some, _some(upstream))
    values, _ = windows(layer, x[:1, ..., :1], 0.0)
    cells = values.shape[-2]
    sent = _some(upstream).reshape(len(x), *values.shape[1:-2], 1, x.shape[-1])
    shape = (*sent.shape[:-2], cells, x.shape[-1])
    return {"input": scatter(layer, x.shape, np.broadcast_to(sent, shape))}


def _norm_factors(layer: spec.LpPool, x: Array) -> tuple[int, int]:
    """Return the roundings of a term of a norm's gradient, and how often those of a cell count.

    The cells that are not zero count, of the window that has the most.

    The power of x; the sum of powers, to the exponent 1/p - 1, with the two roundings of a mean;
    that power, the products with p, 1/p and the upstream gradient. A factor in the denominator
    counts twice.
    """
    p, (some, _) = layer.p, windows(layer, _some(x), 0.0)
    cells = int(some.sum(axis=-2).max(initial=0.0))
    if p == 1:
        return 2, 0
    powers = p - 1 if p == 2 else max(p - 1, 2)
    inside = max(p - 1, 2) if p > 2 else 1
    denominator = 2 * math.ceil((1 - 1 / p) * (inside + cells + 1))
    return (0 if p == 2 else powers) + denominator + 4 + 4, p


def _roundings(layer: spec.Layer, x: Array, counts: dict[str, Array]) -> dict[str, Array]:
    """Return how many roundings a term of each gradient can meet."""
    if layer.has_weights:
        return counts
    added = np.maximum(counts["input"] - 1, 0)
    match layer:
        case spec.LpPool():
            more = _norm_factors(layer, x)[0]
        case spec.StochasticPool():
            more = 6 * math.prod(layer.window) + 12
        case _ if isinstance(layer, SELECTIONS):
            more = 0
        case _:  # a share of a mean: divided, or times a rounded reciprocal, by axis
            rank = len(layer.window) if isinstance(layer, spec.Windowed) else 3
            more = max(4, 2 * rank)
    return {"input": added + more}


def _totals(layer: spec.Layer, upstream: Array) -> dict[str, int]:
    """Return how many terms each gradient has at the most, zeros among them."""
    positions = math.prod(upstream.shape[:-1])
    match layer:
        case spec.Conv():
            reads = math.prod(layer.window) * (layer.out_channels // layer.groups)
        case spec.Dense():
            reads = layer.out_features
        case spec.Windowed():
            reads = math.prod(layer.window)
        case _:
            reads = positions
    return {"input": reads, "weight": positions, "bias": positions}


def _exponents(layer: spec.Layer, x: Array) -> float:
    """Return by how many units more a rounded exponent ``1/p - 1`` may move a norm's gradient."""
    if not isinstance(layer, spec.LpPool) or layer.p & (layer.p - 1) == 0:
        return 0.0
    norms = np.asarray(forward(layer, x))
    finite = norms[np.isfinite(norms) & (norms > 0)]
    return (layer.p - 1) * float(np.abs(np.log(finite)).max(initial=0.0))


def _parts(layer: spec.StochasticPool, x: Array, upstream: Array) -> Array:
    """Return the gradient of the evaluation with the parts of ``(2 x - y) / sum x`` added up."""
    values, _ = windows(layer, x, 0.0)
    with np.errstate(all="ignore"):
        shares = np.nan_to_num(upstream / values.sum(axis=-2), posinf=0.0, neginf=0.0)
    parts = 2 * values + forward(layer, x)[..., None, :]
    return scatter(layer, x.shape, parts * shares[..., None, :])


def _all(
    layer: spec.Layer, x: Array, weights: Weights, upstream: Array
) -> dict[str, tuple[Array, Array, Array, Accumulated]]:
    """Return each gradient's value, size, roundings, and errors by accumulator."""
    output = format_of(x.dtype.name)
    exact = gradients(layer, x, weights, upstream)
    absolute = {name: _absolute(w) for name, w in weights.items()}
    places = x if isinstance(layer, SELECTIONS) else _absolute(x)
    sizes = gradients(layer, places, absolute, _absolute(upstream))
    if isinstance(layer, spec.StochasticPool):
        sizes = {"input": _parts(layer, places, _absolute(upstream))}
    roundings = _roundings(layer, x, _counts(layer, x, weights, upstream))
    moved = _exponents(layer, x)
    totals = _totals(layer, upstream)
    found = {}
    for name, value in exact.items():
        size = np.abs(sizes[name])

        def rounded(inner: Format, meets: Array, size: Array = size) -> Array:
            grown = growth(meets, inner.unit) + growth(meets + 4, _DOUBLE)
            grown = grown + np.expm1(moved * (inner.unit + _DOUBLE)) * (1 + grown)
            return np.asarray(grown * size + 4 * meets * inner.tiny)

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
            if isinstance(layer, SELECTIONS):
                error = np.where(roundings == 0, 0.0, error)
            # no partial sum of products passes their absolute sum, with a growth of less than 1
            most = size * (2 if layer.has_weights else np.maximum(roundings, 1))
            within = most < output.largest
            bounds[name] = Bound(value, error, within | ~np.isfinite(value))
    return bounds
