"""Lp pooling, L2 among it: the norm of each window (ONNX LpPool-22)."""

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
from cnnformance.reference.gradient_bounds import exponents, meets
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.propagation import propagated
from cnnformance.reference.scaling import normalised
from cnnformance.reference.terms import power_of_two
from cnnformance.reference.windows import Array, over_windows, scatter, windows
from cnnformance.spec.layers import LpPool, Shape


def _root(sums: Array, p: int) -> Array:
    match p:
        case 1:
            return sums
        case 2:
            return np.sqrt(sums)
        case 3:
            return np.cbrt(sums)
        case _:
            return sums ** (1 / p)


@compute.register
def lp_pool(layer: LpPool, x: Array) -> Array:
    """Return ``sum(|x|**p) ** (1/p)`` of each window, scaled against overflow and underflow."""

    def norm(block: Array) -> Array:
        scaled, exponent = normalised(block)
        sums = (np.abs(scaled) ** layer.p).sum(axis=-2)
        return np.ldexp(_root(sums, layer.p), exponent[..., 0, :])

    return over_windows(layer, x.astype(np.float64, copy=False), 0.0, norm)


@differentiate.register
def lp_pool_gradients(layer: LpPool, x: Array, upstream: Array) -> Gradients:
    """Return ``upstream * sign(x) * (|x| / y)**(p-1)`` at each cell, with ``y`` the norm."""
    x = x.astype(np.float64, copy=False)
    values, _ = windows(layer, x, 0.0)
    norms = lp_pool(layer, x)[..., None, :]
    ratio = np.divide(np.abs(values), norms, out=np.zeros_like(values), where=norms != 0)
    slopes = np.sign(values) * ratio ** (layer.p - 1)
    return {"input": scatter(layer, x.shape, slopes * upstream[..., None, :])}


@rounding_error.register
def norm_error(layer: LpPool, of: Operands, inner: Format, roundings: Array) -> Array:
    """Bound a p-norm: powers, their sum, and a root that divides relative errors by p.

    A square root is rounded once; any other power or root is right to one unit in the last place,
    and a root's exponent ``1 / p`` is rounded unless p is a power of two (section c).
    """
    p, value = layer.p, of.sums.value
    relative = norm_growth(p, roundings, inner.unit, value, layer.window)
    oracle = growth(roundings + 4 * p + 8, DOUBLE) * (1 + logarithm(value))
    with np.errstate(all="ignore"):
        power = value**p
        flushed = (2 * roundings + math.prod(layer.window)) * inner.tiny  # their mean too
        below = value - np.maximum(power - flushed, 0.0) ** (1 / p)
        above = (power + 2 * roundings * inner.unit * inner.tiny) ** (1 / p) - value
        error = value * (relative + oracle) + np.maximum(below, above)
    return np.asarray(np.where(np.isfinite(power), error, value * (relative + oracle)))


def logarithm(value: Array) -> Array:
    """Return the size of the natural logarithm, 0 where there is none."""
    return np.abs(np.log(np.where(np.isfinite(value) & (value > 0), value, 1.0)))


def norm_growth(p: int, count: Array, unit: float, value: Array, window: Shape) -> Array:
    """Return the relative error of a norm of so many cells that are not zero (section c)."""
    powers = 0 if p == 1 else 1 if p == 2 else max(p - 1, 2)
    by_mean = 0 if power_of_two(math.prod(window)) else 2
    meets = powers + np.maximum(count - 1, 0) + by_mean
    if p == 1:
        return np.asarray(growth(meets, unit))
    under = growth(np.maximum(meets, p), unit) / p
    root = growth(1 if p == 2 else 2, unit)
    exponent = 0.0 if power_of_two(p) else np.expm1(unit * logarithm(value))
    return np.asarray((1 + under) * (1 + root) * (1 + exponent) - 1)


@largest_partial.register
def largest_power(layer: LpPool, of: Operands) -> Array:
    """Return the sum of powers; their mean is no larger."""
    with np.errstate(all="ignore"):
        return np.asarray(np.abs(of.sums.value) ** layer.p)


@meets.register
def norm_gradient_meets(layer: LpPool, x: Array) -> int:
    """Return the roundings of a term of a norm's gradient, but those of additions.

    The cells that are not zero count, of the window that has the most.

    The power of x; the sum of powers, to the exponent 1/p - 1, with the two roundings of a mean;
    that power, the products with p, 1/p and the upstream gradient. A factor in the denominator
    counts twice.
    """
    p, (some, _) = layer.p, windows(layer, (x != 0).astype(np.float64), 0.0)
    cells = int(some.sum(axis=-2).max(initial=0.0))
    if p == 1:
        return 2
    powers = p - 1 if p == 2 else max(p - 1, 2)
    inside = max(p - 1, 2) if p > 2 else 1
    denominator = 2 * math.ceil((1 - 1 / p) * (inside + cells + 1))
    return (0 if p == 2 else powers) + denominator + 4 + 4


@exponents.register
def norm_exponents(layer: LpPool, x: Array) -> float:
    """Return by how many units more a rounded exponent ``1/p - 1`` may move a norm's gradient."""
    if power_of_two(layer.p):
        return 0.0
    norms = np.asarray(forward(layer, x))
    finite = norms[np.isfinite(norms) & (norms > 0)]
    return (layer.p - 1) * float(np.abs(np.log(finite)).max(initial=0.0))


@propagated.register
def propagated_by_a_norm(layer: LpPool, _weights: Weights, error: Array) -> Array:
    """Return the norm of the errors, by the triangle inequality."""
    return forward(layer, error)
