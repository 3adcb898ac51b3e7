"""Variants of a drawn case: another layer, shape or order of cells, as laws need them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.conformance.cases import Case
from cnnformance.reference.windows import explicit_pads
from cnnformance.spec import layers as spec


def windowed(case: Case) -> Any:
    """Return the case's layer, for access to the fields of its own type."""
    return case.layer


def random(case: Case) -> np.random.Generator:
    """Return the random numbers for what a question chooses beyond the case's input."""
    return np.random.default_rng([case.seed, 2])


def single_window(case: Case) -> Case:
    """Return the case with windows side by side, and an input of one window."""
    layer = windowed(case)
    tiled = layer.replace(stride=layer.window)
    return case.with_(layer=tiled, shape=(case.shape[0], *layer.window, case.shape[-1]))


def shuffled(case: Case) -> Array:
    """Return the case's input with its spatial cells in another order."""
    x = case.x.reshape(case.shape[0], -1, case.shape[-1])
    return x[:, random(case).permutation(x.shape[1])].reshape(case.shape)


def unit_cells(spatial: spec.Shape, dtype: str = "float32") -> Array:
    """Return for each spatial cell a sample of one channel that is 1 there and 0 elsewhere."""
    return np.eye(math.prod(spatial), dtype=dtype).reshape(-1, *spatial, 1)


def padded(layer: spec.Windowed, x: Array, fill: float) -> tuple[spec.Windowed, Array]:
    """Return the layer without padding, and the input with the padding around it."""
    pads = ((0, 0), *explicit_pads(layer, x.shape[1:-1]), (0, 0))
    return layer.replace(padding=()), np.pad(x, pads, constant_values=fill)


def counting_padding(case: Case, counts: bool) -> Case:
    """Return the case with padding counted in the means, or not, of a layer with that option."""
    layer = windowed(case)
    if not hasattr(layer, "count_include_pad"):
        return case
    return case.with_(layer=layer.replace(count_include_pad=counts))


def longer(case: Case) -> Case:
    """Return the case with one stride more of input along each axis."""
    sizes = zip(case.shape[1:-1], windowed(case).stride, strict=True)
    return case.with_(shape=(case.shape[0], *(n + s for n, s in sizes), case.shape[-1]))
