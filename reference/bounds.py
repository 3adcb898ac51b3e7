"""Proven bounds on the rounding error of a correct kernel, element by element.

Every bound holds for any order of summation, with or without fused multiply-add, with gradual
underflow or with flush to zero. Adding an exact zero rounds nothing, so each computed sum is the
exact one with every term multiplied by at most ``k`` factors ``1 + d``, ``|d| <= u``, where ``u``
is the unit roundoff and ``k`` counts the terms *of this output* that are not zero; it is off by at
most ``((1 + u)**k - 1) * sum(|terms|)`` (Higham, *Accuracy and Stability of Numerical
Algorithms*, 2nd ed., ch. 3 and 4). ``docs/derivations.md`` has the derivations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial, singledispatch
from typing import Any

import ml_dtypes
import numpy as np

from cnnformance.reference.forward import Weights, forward
from cnnformance.reference.terms import cells, divides_exactly, terms
from cnnformance.reference.windows import Array, over_windows
from cnnformance.spec import layers as spec

HALVES = ("float16", "bfloat16")
MOST_GROWTH = 0.25
"""The growth of a half-precision sum past which its bound excuses too much to be evidence."""

DOUBLE = 2.0**-53
"""The unit of the oracle, which sums in float64 and is off as any other sum may be."""


@dataclass(frozen=True)
class Format:
    """A floating-point format: unit roundoff, smallest normal and largest number, precision."""

    unit: float
    tiny: float
    largest: float
    bits: int


@cache
def format_of(dtype: str) -> Format:
    """Return the format of a floating-point dtype, by name. Raises ``ValueError`` for others."""
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call] # it has no types
    return Format(
        float(info.eps) / 2, float(info.smallest_normal), float(info.max), int(info.nmant) + 1
    )


def accumulator(output: Format) -> Format:
    """Return the format that fast kernels, and careful ones, compute in: float32 for halves."""
    return format_of("float32") if output.bits < 24 else output


def growth(factors: Any, unit: float) -> Any:
    """Return ``(1 + u)**k - 1``: how far ``k`` roundings can move a term; ``k`` may be an array."""
    return np.expm1(np.multiply(factors, math.log1p(unit)))


def pairwise(terms: int) -> int:
    """Return the roundings of a term when so many, zeros among them, are added in pairs of pairs.

    The depth of the tree, the product, and up to three for a divisor, as of any mean (section e).
    """
    return (max(terms, 2) - 1).bit_length() + 4


@dataclass(frozen=True)
class Bound:
    """What a correct kernel may return.

    ``value`` is the exact result up to ``float64`` rounding; a correct result lies within
    ``error`` of it, unless ``judged`` is False there: some order of summation overflows.
    All three have the output's shape.
    """

    value: Array
    error: Array
    judged: Array


@dataclass(frozen=True)
class Sums:
    """The sums that a layer's outputs are, or are made of.

    Attributes:
        value: the exact outputs, up to float64 rounding.
        size: the same of absolute values.
        count: how many terms of each output are not zero.
        whole: where all terms are whole numbers that are divided by none, or by a power of two.
    """

    value: Array
    size: Array
    count: Array
    whole: Array


def nonzero(layer: spec.Layer, x: Array, weights: Weights) -> Array:
    """Return how many terms of each output are not zero; it broadcasts to the output's shape."""
    if x.size and x.all() and all(w.all() for w in weights.values()):
        channels = x.shape[-1] if layer.has_weights else 1
        return _all_nonzero(layer, (1, *x.shape[1:-1], channels))
    some = {name: (w != 0).astype(np.float64) for name, w in weights.items()}
    return _counted(layer, (x != 0).astype(np.float64), some)


@lru_cache(maxsize=64)
def _all_nonzero(layer: spec.Layer, shape: spec.Shape) -> Array:
    ones = {name: np.ones(size) for name, size in spec.weight_shapes(layer).items()}
    counts = _counted(layer, np.ones(shape), ones)
    counts.flags.writeable = False
    return counts


def _counted(layer: Any, ones: Array, weights: Weights) -> Array:
    if layer.has_weights:
        return np.asarray(forward(layer, ones, weights))
    if not layer.takes_images:
        return ones
    return over_windows(layer, ones, 0.0, lambda block: block.sum(axis=-2))


def _whole(layer: spec.Layer, x: Array, weights: Weights, axes: int) -> Array:
    """Return which samples hold whole numbers alone, and meet such weights."""
    if not divides_exactly(layer, x.shape) or not all(_is_whole(w).all() for w in weights.values()):
        return np.zeros((1,) * axes, np.bool_)
    rows = _is_whole(x).all(axis=tuple(range(1, x.ndim)))
    return rows.reshape(-1, *(1,) * (axes - 1))


def _is_whole(array: Array) -> Array:
    return np.asarray(np.rint(array) == array)


def sums(layer: spec.Layer, x: Array, weights: Weights) -> Sums:
    """Return the sums of a sum layer."""
    value = np.asarray(forward(layer, x, weights), dtype=np.float64)
    absolute = {name: np.abs(np.asarray(w, dtype=np.float64)) for name, w in weights.items()}
    if layer.linear:
        size = forward(layer, np.abs(np.asarray(x, dtype=np.float64)), absolute)
    else:
        size = np.abs(value)  # all terms are positive
    count = nonzero(layer, x, weights)
    return Sums(value, size, count, _whole(layer, x, weights, value.ndim))


def _roundings(layer: spec.Layer, shape: spec.Shape, count: Array) -> Array:
    """Return how many roundings a term of each output can meet.

    A sum of n products: one multiplication and n - 1 additions; of a bias too, n. A mean of n
    terms: n - 1 additions and, unless the divisor is a power of two, up to four more (the divisor,
    its reciprocal, the product, and the correction of a window at the border), or two an axis
    (section b).
    """
    if not layer.averages:
        return count
    divided = 0 if divides_exactly(layer, shape) else max(4, 2 * (len(shape) - 2))
    return np.asarray(np.maximum(count - 1, 0) + divided)


def _wider(narrow: Format) -> Format:
    """Return the next wider accumulator: float32 for halves, float64, extended precision."""
    if narrow.bits < 24:
        return format_of("float32")
    unit = 2.0**-53 if narrow.bits < 53 else 2.0**-64
    return Format(unit, narrow.tiny, math.inf, 0)


Rounded = Callable[[Format, Any], Array]
"""The error of a result in an accumulator's format, for so many roundings of a term."""


@dataclass(frozen=True)
class Accumulated:
    """The bounds of one result by the accumulator that its sums are kept in.

    Attributes:
        wide: in the next wider format (float32 for halves), rounded once at the end.
        pairwise: in a half, terms added in pairs; zero for other dtypes.
        own: in the output's own format, one by one or in any other order.
        sharp: where the growth of ``own`` is small enough to be evidence.
    """

    wide: Array
    pairwise: Array
    own: Array
    sharp: Array

    @property
    def judged(self) -> Array:
        """The error that is judged: of ``own`` only where that is evidence."""
        best = np.maximum(self.wide, self.pairwise)
        return np.asarray(np.maximum(best, np.where(self.sharp, self.own, 0.0)))


def accumulated(
    output: Format, value: Array, roundings: Array, terms: int, rounded: Rounded
) -> Accumulated:
    """Return a result's bounds by accumulator; the last rounding of ``own`` is among its own.

    ``roundings`` are those of a term in any order, ``terms`` how many there are, zeros among them
    (section e).
    """
    wide = rounded(_wider(output), roundings + 2) * (1 + output.unit)
    wide = wide + output.unit * np.abs(value)
    own = rounded(output, roundings)
    if output.bits >= 24:
        return Accumulated(wide, np.zeros_like(wide), own, np.ones(own.shape, np.bool_))
    sharp = np.broadcast_to(growth(roundings, output.unit) <= MOST_GROWTH, own.shape)
    pairs = np.minimum(rounded(output, np.asarray(pairwise(terms))), own)
    return Accumulated(wide, pairs, own, sharp)


@dataclass(frozen=True)
class Operands:
    """What a layer's sums are made of: its input and weights, and the sums themselves."""

    x: Array
    weights: Weights
    sums: Sums


@singledispatch
def rounding_error(layer: spec.Layer, of: Operands, inner: Format, roundings: Array) -> Array:
    """Return the error of a layer by the format of its sums, short of the last rounding.

    That of a sum of products, for a linear layer (section a); others register theirs.
    """
    if not layer.linear:
        raise NotImplementedError(f"{type(layer).__name__} has no bound of its rounding")
    error = (growth(roundings, inner.unit) + growth(roundings, DOUBLE)) * of.sums.size
    return np.asarray(error + _lost(of.x, of.weights, of.sums.count, inner))


def _lost(x: Array, weights: Weights, count: Array, inner: Format) -> Array:
    """Return what flushing to zero loses: of products and sums, and of subnormal operands."""
    lost = np.asarray(2.0 * count * inner.tiny)
    weight = weights.get("weight")
    for ours, theirs in ((x, weight), (weight, x)):
        if ours is not None and theirs is not None and ours.size and theirs.size:
            size = np.abs(np.asarray(ours, dtype=np.float64))
            if ((size > 0) & (size < inner.tiny)).any():
                most = float(np.abs(np.asarray(theirs, dtype=np.float64)).max())
                lost = lost + count * inner.tiny * most
    return lost


@singledispatch
def largest_partial(layer: spec.Layer, of: Operands) -> Array:
    """Return the largest partial result that a plain way of computing can meet."""
    if layer.averages:  # a mean is divided after it was summed
        return of.sums.size * cells(layer, of.x.shape)
    return of.sums.size


class Analysis:
    """The sums and the error bounds of a layer's outputs, before any output is seen."""

    def __init__(self, layer: spec.Layer, x: Array, weights: Weights) -> None:
        """Take the sums of a layer on an input, for its format and its accumulators."""
        self.output = format_of(x.dtype.name)
        with np.errstate(all="ignore"):
            self.sums = sums(layer, x, weights)
            self._roundings = _roundings(layer, x.shape, self.sums.count)
            operands = Operands(x, weights, self.sums)
            rounded = partial(rounding_error, layer, operands)
            count = terms(layer, x.shape)
            self._by = accumulated(self.output, self.sums.value, self._roundings, count, rounded)
            self._largest = largest_partial(layer, operands)
        self._divisor = cells(layer, x.shape) if layer.averages else 1

    def bound(self) -> Bound:
        """Return the bound that is judged (see ``bound``)."""
        found, output, wide = self.sums, self.output, accumulator(self.output)
        with np.errstate(all="ignore"):
            error = self._by.judged + output.tiny
            exact = found.whole & (found.size * self._divisor <= 2.0**output.bits)
            error = np.where(exact, 0.0, error)
            fits = self._in_range(error, wide)
            if wide is not output:
                fits = np.where(self._by.sharp, self._in_range(error, output), fits)
        return Bound(found.value, error, fits)

    def by_accumulator(self) -> dict[str, Bound]:
        """Return what halves may return by the accumulator of their sums, the best first.

        ``half``, any order in the half itself, may be vacuous: where its growth is large it
        excuses anything. The other two are judged wherever float32 does not overflow.
        """
        by, wide = self._by, accumulator(self.output)
        errors = {
            "float32": (by.wide, wide),
            "pairwise half": (np.maximum(by.wide, by.pairwise), wide),
            "half": (np.maximum(by.wide, by.own), self.output),
        }
        with np.errstate(all="ignore"):
            return {
                name: Bound(
                    self.sums.value,
                    error + self.output.tiny,
                    self._in_range(error + self.output.tiny, inner),
                )
                for name, (error, inner) in errors.items()
            }

    def _in_range(self, error: Array, inner: Format) -> Array:
        """Return where no order overflows an accumulator, or the result itself is not finite."""
        value = self.sums.value
        grown = self._largest * (1 + growth(self._roundings, inner.unit))
        fits = np.nan_to_num(grown, nan=np.inf) < inner.largest
        fits = fits & (np.abs(value) + error < self.output.largest)
        return np.asarray(fits | ~np.isfinite(value))


def bound(layer: spec.Layer, x: Array, weights: Weights) -> Bound:
    """Return the bound that a sum layer is judged by.

    Sums may be kept in the input's own format or a wider one. Halves may add in pairs, and one by
    one as long as the growth of that is at most ``MOST_GROWTH``; past it they need float32. Whole
    numbers whose absolute sum the format holds come out exactly, in any order (section d).
    """
    return Analysis(layer, x, weights).bound()
