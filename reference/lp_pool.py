"""Lp pooling, L2 among it: the norm of each window (ONNX LpPool-22)."""

from __future__ import annotations

import numpy as np

from cnnformance.reference.forward import compute
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.scaling import normalised
from cnnformance.reference.windows import Array, over_windows, scatter, windows
from cnnformance.spec.layers import LpPool


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
