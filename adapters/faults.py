"""Faults that are put between a framework's result and its adapter, to see that it passes them on.

An adapter that validates, repairs or falls back would hide them, as it would hide the framework's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cnnformance.adapters.backend import Array, Backend
from cnnformance.adapters.wire import dtype_named


def _one_lost(y: Array) -> Array:
    return y[..., :-1].copy()


def _one_wrong(y: Array) -> Array:
    y = y.copy()
    y.flat[0] = y.flat[0] + 1
    return y


def _not_a_number(y: Array) -> Array:
    y = y.copy()
    y.flat[-1] = np.nan
    return y


NAN = "a NaN"
"""The fault that integers cannot have."""

FAULTS: Mapping[str, Callable[[Array], Array]] = {
    "a dropped sign": np.abs,
    "a sign too many": np.negative,
    "one element off by one": _one_wrong,
    "all elements off by one": lambda y: y + y.dtype.type(1),
    NAN: _not_a_number,
    "a channel lost": _one_lost,
    "all zeros": np.zeros_like,
}
"""What each does to a result. The name of a dtype is a fault too."""


def put(fault: str, backend: Backend, tensor: object) -> object:
    """Return the framework's tensor with a fault of this name."""
    y = backend.to_numpy(tensor)
    wrong = FAULTS[fault](y) if fault in FAULTS else y.astype(dtype_named(fault))
    return backend.from_numpy(np.ascontiguousarray(wrong))
