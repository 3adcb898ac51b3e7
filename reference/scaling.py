"""Scaling by powers of two, so that powers of values neither overflow nor vanish."""

from __future__ import annotations

import numpy as np

from cnnformance.reference.windows import Array


def normalised(block: Array) -> tuple[Array, Array]:
    """Return windows ``(..., cells, channels)`` with the largest magnitude in [1/2, 1), and how.

    The second array is the exponent ``e`` of each window, ``(..., 1, channels)``: the scaled
    values times ``2**e`` are the values, exactly but for cells too small to matter to the sum. A
    window of zeros, or with NaN or infinity, is left as it is.
    """
    peak = np.abs(block).max(axis=-2, keepdims=True)
    exponent = np.frexp(np.where(np.isfinite(peak), peak, 0.0))[1]
    return np.ldexp(block, -exponent), exponent
