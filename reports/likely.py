"""Where a wrong number comes from, as far as plain arithmetic tells it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnformance.reports.windows import Reach
from cnnformance.spec.layers import Layer

_TIMES = "\N{MULTIPLICATION SIGN}"

Plane = np.ndarray[Any, np.dtype[Any]]


def source(
    layer: Layer, reach: Sequence[Reach], plane: Plane, expected: float, actual: float
) -> str:
    """Return in one sentence where a wrong output comes from; empty where nothing tells it.

    Args:
        layer: the layer.
        reach: what the output reads, along each spatial axis.
        plane: the map that it reads: of a rank above 2, that of the one slice that it reads; of
            rank 1, a single row.
        expected: the right output.
        actual: the wrong one.
    """
    if not (math.isfinite(expected) and math.isfinite(actual)):
        return ""
    if layer.averages:
        return _divisor(reach, expected, actual)
    return _selected(reach, plane, actual) if layer.compares else ""


def _divisor(reach: Sequence[Reach], expected: float, actual: float) -> str:
    """Say what a mean was divided by, where its ratio to the right one is that of two divisors."""
    inside = math.prod(axis.inside for axis in reach)
    whole = math.prod(len(axis.cells) for axis in reach)
    names = {inside: "the cells in the input", whole: "all cells of the window"}
    for wrong, right in ((whole, inside), (inside, whole)):
        same = actual != 0 and math.isclose(actual * wrong, expected * right, rel_tol=1e-2)
        if wrong != right and same:
            equal = f"{actual:.4g} {_TIMES} {wrong} = {expected:.4g} {_TIMES} {right}"
            return f"{equal}: it divides by {wrong}, {names[wrong]}, and not by {right}."
    return ""


def _selected(reach: Sequence[Reach], plane: Plane, actual: float) -> str:
    """Say where the value that was selected stands, if not in the window."""
    rows = reach[-2].cells if len(reach) > 1 else (0,)
    places = np.argwhere(plane == actual)
    if any(r in rows and c in reach[-1].cells for r, c in places):
        return ""
    if len(places) == 1:
        at = [*(axis.cells[0] for axis in reach[:-2]), *places[0][-min(len(reach), 2) :]]
        told = ", ".join(map(str, at))
        return f"{actual:.4g} stands at ({told}), which this output does not read."
    padded = any(axis.inside < len(axis.cells) for axis in reach)
    if not len(places) and not actual and padded:
        return "No cell that it reads is 0: the padding wins."
    return ""
