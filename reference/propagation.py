"""The propagation of errors: how far one of a layer's input can move its exact output."""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from cnnformance.reference.forward import Weights, forward
from cnnformance.reference.windows import Array
from cnnformance.spec.layers import Layer


@singledispatch
def propagated(layer: Layer, weights: Weights, error: Array) -> Array:
    """Bound the change of a layer's exact output when its input changes by ``error``.

    Of a linear layer that is what it makes of the error with its absolute weights and no bias; of
    one that is exact, what it makes of the error itself. Others register theirs
    (``docs/derivations.md``, section g).

    Raises:
        TypeError: the layer has no rule: stochastic pooling.
    """
    if not (layer.linear or layer.exact):
        raise TypeError(f"{layer}: no rule carries an error through it")
    linear = {n: np.zeros_like(w) if n == "bias" else np.abs(w) for n, w in weights.items()}
    return np.asarray(forward(layer, error, linear), dtype=np.float64)
