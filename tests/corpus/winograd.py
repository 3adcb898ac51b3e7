"""The matrices of Winograd's short convolutions, in exact fractions (Cook-Toom).

``F(m, r)`` gives ``m`` outputs of a kernel of ``r`` cells from ``m + r - 1`` inputs by as many
products: ``result @ ((kernel @ k) * (image @ d))``. It multiplies two polynomials through their
values at the points and at infinity, transposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

Matrix = list[list[Fraction]]

POINTS = tuple(map(Fraction, ("0", "1", "-1", "2", "-2", "1/2", "-1/2")))
"""The points in the order in which they are taken; infinity is the last of every rule."""


def transforms(outputs: int, cells: int) -> tuple[Matrix, Matrix, Matrix]:
    """Return the matrices for the image, the kernel and the result of ``F(outputs, cells)``."""
    points = POINTS[: outputs + cells - 2]
    others = [[b for b in points if b != a] for a in points]
    image = [[*_monic(roots), Fraction(0)] for roots in others] + [_monic(points)]
    scales = [prod(a - b for b in roots) for a, roots in zip(points, others, strict=True)]
    kernel = [[a**k / scale for k in range(cells)] for a, scale in zip(points, scales, strict=True)]
    result = [[a**k for a in points] + [Fraction(k == outputs - 1)] for k in range(outputs)]
    return image, [*kernel, [Fraction(k == cells - 1) for k in range(cells)]], result


def _monic(roots: Sequence[Fraction]) -> list[Fraction]:
    """Return the coefficients of the monic polynomial with these roots, lowest first."""
    coefficients = [Fraction(1)]
    for root in roots:
        raised, scaled = [Fraction(0), *coefficients], [root * c for c in coefficients]
        coefficients = [a - b for a, b in zip(raised, [*scaled, Fraction(0)], strict=True)]
    return coefficients
