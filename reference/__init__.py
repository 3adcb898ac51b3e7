"""How it is computed: a float64 NumPy implementation of every layer, and its error bounds."""

from __future__ import annotations

from cnnformance.reference import (
    adaptive_pool,
    average_pool,
    conv,
    dense,
    flatten,
    global_average_pool,
    global_max_pool,
    lp_pool,
    max_pool,
    min_pool,
    relu,
)
from cnnformance.reference.counts import parameter_count
from cnnformance.reference.forward import Weights, forward, forward_model
from cnnformance.reference.gradients import Gradients, gradients
from cnnformance.reference.propagation import propagated
from cnnformance.reference.selection import maximal
from cnnformance.reference.shapes import model_shapes, output_shape
from cnnformance.reference.stochastic_pool import candidates
from cnnformance.reference.terms import terms
from cnnformance.reference.windows import Array, ShapeError, scatter, windows

__all__ = [
    "Array",
    "Gradients",
    "ShapeError",
    "Weights",
    "adaptive_pool",
    "average_pool",
    "candidates",
    "conv",
    "dense",
    "flatten",
    "forward",
    "forward_model",
    "global_average_pool",
    "global_max_pool",
    "gradients",
    "lp_pool",
    "max_pool",
    "maximal",
    "min_pool",
    "model_shapes",
    "output_shape",
    "parameter_count",
    "propagated",
    "relu",
    "scatter",
    "terms",
    "windows",
]
