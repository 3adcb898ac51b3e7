"""Stochastic pooling of non-negative activations (Zeiler & Fergus 2013)."""

from __future__ import annotations

import math

import numpy as np

from cnnformance.reference.bounds import (
    DOUBLE,
    Format,
    Operands,
    growth,
    largest_partial,
    rounding_error,
)
from cnnformance.reference.forward import Weights, compute, forward
from cnnformance.reference.gradient_bounds import gradient_sizes, meets
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.scaling import normalised
from cnnformance.reference.windows import Array, over_windows, scatter, windows
from cnnformance.spec.layers import StochasticPool


def _refuse_training(layer: StochasticPool) -> None:
    if layer.training:
        raise ValueError(f"{layer}: training draws at random; candidates() gives the distribution")


def candidates(layer: StochasticPool, x: Array) -> tuple[Array, Array]:
    """Return what training may draw, and how probably.

    Two arrays ``(batch, *out, channels, cells)``: the values, in the dtype of ``x``, and their
    float64 probabilities, proportional to the values (section 3 of the paper). A window of zeros
    draws each cell alike.
    """
    values, _ = windows(layer, x, 0)
    values = np.moveaxis(values, -2, -1)
    with np.errstate(all="ignore"):
        scaled = normalised(np.moveaxis(values, -1, -2).astype(np.float64, copy=False))[0]
        weights = np.moveaxis(scaled, -2, -1)
        total = weights.sum(axis=-1, keepdims=True)
        return values, np.where(total == 0, 1 / values.shape[-1], weights / total)


@compute.register
def stochastic_pool(layer: StochasticPool, x: Array) -> Array:
    """Return ``sum(x**2) / sum(x)`` of each window, 0 for a window of zeros (section 3.2)."""
    _refuse_training(layer)

    def expectation(block: Array) -> Array:
        scaled, exponent = normalised(block)
        sums = scaled.sum(axis=-2)
        ratio = (scaled * scaled).sum(axis=-2) / sums
        zero = ~scaled.any(axis=-2)
        return np.where(zero, 0.0, np.ldexp(ratio, exponent[..., 0, :]))

    return over_windows(layer, x.astype(np.float64, copy=False), 0.0, expectation)


@differentiate.register
def stochastic_pool_gradients(layer: StochasticPool, x: Array, upstream: Array) -> Gradients:
    """Return ``upstream * (2 x - y) / sum(x)`` at each cell, with ``y`` the output.

    In a window of zeros it is 0. The slopes do not change when a window is scaled, so they are
    taken of the scaled window.
    """
    _refuse_training(layer)
    values, _ = windows(layer, x.astype(np.float64, copy=False), 0.0)
    scaled, _ = normalised(values)
    sums = scaled.sum(axis=-2, keepdims=True)
    means = (scaled * scaled).sum(axis=-2, keepdims=True) / sums
    slopes = np.where(sums == 0, 0.0, (2 * scaled - means) / sums)
    return {"input": scatter(layer, x.shape, slopes * upstream[..., None, :])}


@rounding_error.register
def weighted_error(layer: StochasticPool, of: Operands, inner: Format, roundings: Array) -> Array:
    """Bound ``sum(x**2) / sum(x)``, also as ``sum((x / sum(x)) * x)``, of x > 0 (section i)."""
    values, _ = windows(layer, np.asarray(of.x, dtype=np.float64), 0.0)
    total = values.sum(axis=-2)
    meets = 3 * roundings + 3
    lost = 2 * roundings * inner.tiny
    error = of.sums.value * (growth(meets, inner.unit) + growth(meets, DOUBLE))
    share = np.divide(lost, total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(error + lost + share)


@largest_partial.register
def largest_square(layer: StochasticPool, of: Operands) -> Array:
    """Return the sum of squares."""
    values, _ = windows(layer, np.asarray(of.x, dtype=np.float64), 0.0)
    with np.errstate(all="ignore"):
        return np.asarray((values**2).sum(axis=-2))


@meets.register
def weighted_gradient_meets(layer: StochasticPool, _x: Array) -> int:
    """Return the roundings of a term of ``(2 x - y) / sum(x)``, but those of additions."""
    return 6 * math.prod(layer.window) + 12


@gradient_sizes.register
def weighted_gradient_sizes(
    layer: StochasticPool, x: Array, _weights: Weights, upstream: Array
) -> Gradients:
    """Return the gradient of the evaluation with the parts of ``(2 x - y) / sum(x)`` added up."""
    x, upstream = np.abs(x.astype(np.float64)), np.abs(upstream.astype(np.float64))
    values, _ = windows(layer, x, 0.0)
    with np.errstate(all="ignore"):
        shares = np.nan_to_num(upstream / values.sum(axis=-2), posinf=0.0, neginf=0.0)
    parts = 2 * values + forward(layer, x)[..., None, :]
    return {"input": scatter(layer, x.shape, parts * shares[..., None, :])}
