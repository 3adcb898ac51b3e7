"""Regimes: families of input values, each aimed at one way for a kernel to go wrong.

A case may hold several regimes along the batch axis: row ``i`` of the input holds regime
``i % len(regimes)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.reference.bounds import format_of

Generator = np.random.Generator
Shape = tuple[int, ...]


def is_integer(dtype: str) -> bool:
    """Whether a dtype's name is that of an integer type."""
    return dtype.startswith(("int", "uint"))


def _magnitude(dtype: str, terms: int, *, weighted: bool) -> float:
    """Return the largest integer for which every partial sum of ``terms`` is exact.

    Inputs and weights of a product stay below 9: then the rounding of a Winograd or FFT kernel,
    which follows the largest values, stays below the 1 by which a fault changes an integer. Below 1
    it is the share of the terms that may be one, and not zero.
    """
    room = 2 ** format_of(dtype).bits / max(terms, 1)
    return min(8, math.sqrt(room)) if weighted and room > 1 else room


def _integer(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    del dtype
    most = min(500, max(1, int(magnitude)))
    values = rng.integers(-most, most, shape, endpoint=True).astype(np.float64)
    return values if magnitude >= 1 else np.where(rng.random(shape) < magnitude, values, 0.0)


def _awkward(rng: Generator, shape: Shape) -> Array:
    """Return numbers from 1 to 4 of full precision; half of them just below a tie of 8 and 11 bits.

    Factors that get rounded to so few bits are off by the most that they can be.
    """
    values = 1 + rng.random(shape)
    ties = 1 + 2.0**-8 + 2.0**-11 - 2.0**-20 * (1 + rng.random(shape))
    values = np.where(rng.random(shape) < 0.5, ties, values)
    return np.asarray(values * rng.choice([-2.0, -1.0, 1.0, 2.0], shape))


def _sparse(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """Few values that are not zero: in each row about four, wherever they are."""
    del dtype, magnitude
    values = np.zeros(shape)
    size = math.prod(shape[1:])
    for row in values.reshape(len(values), -1) if values.size else ():
        place = rng.permutation(size)[: min(size, max(1, round(size / 16), 4))]
        row[place] = _awkward(rng, place.shape)
    return values


def _onehot(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """One value in each row: every sum is one product, rounded once."""
    del dtype, magnitude
    values = np.zeros(shape)
    for row in values.reshape(len(values), -1) if values.size else ():
        row[rng.integers(len(row))] = _awkward(rng, (1,))[0]
    return values


def _normal(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    del dtype, magnitude
    return rng.standard_normal(shape)


def _positive(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    del dtype, magnitude
    return np.abs(rng.standard_normal(shape)) * (rng.random(shape) < 0.8)


def _negative(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    del dtype, magnitude
    return -np.abs(rng.standard_normal(shape)) - 0.25


def _wide(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """Exponents over a quarter of the format's range, so that products stay inside it."""
    del magnitude
    reach = math.log2(format_of(dtype).largest) / 4
    return rng.standard_normal(shape) * np.exp2(rng.uniform(-reach, reach, shape))


def _cancellation(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """Large neighbours of opposite sign, with small remainders."""
    del magnitude
    large = 2.0 ** (format_of(dtype).bits // 2)
    signs = np.resize([1.0, -1.0], math.prod(shape)).reshape(shape)
    return signs * large + rng.standard_normal(shape)


def _ties(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    del dtype, magnitude
    return rng.choice([-2.0, 1.0, 3.0], shape)


def _large(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """Up to the largest number, both signs: only a selection keeps them."""
    del magnitude
    return rng.uniform(-1, 1, shape) * format_of(dtype).largest


def _small(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """A few times the smallest normal number."""
    del magnitude
    values: Array = rng.uniform(1, 4, shape) * rng.choice([-1, 1], shape)
    return values * format_of(dtype).tiny


def _faint(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """So small that a constant added or compared drowns them; squares are normal."""
    del magnitude
    values: Array = rng.uniform(1, 4, shape)
    return values * 2.0 ** math.floor(math.log2(format_of(dtype).tiny) / 3)


def _infinite(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """Normal values with infinities of both signs here and there."""
    values = _normal(rng, shape, dtype, magnitude)
    place = rng.random(shape)
    values[place < 0.08] = np.inf
    values[place > 0.9] = -np.inf
    return values


def _lowest(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """Minus infinity almost everywhere: whole windows of it."""
    values = np.full(shape, -np.inf)
    some = rng.random(shape) < 0.1
    values[some] = _normal(rng, shape, dtype, magnitude)[some]
    return values


def _highest(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    return -_lowest(rng, shape, dtype, magnitude)


def _nan(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """Normal values with NaN of both signs here and there: x86 makes those with the sign set."""
    values = _normal(rng, shape, dtype, magnitude)
    place = rng.random(shape) < 0.1
    values[place] = np.copysign(np.nan, values[place])
    return values


def _rising(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """Rising values, distinct as far as the format goes; the last is larger than all others."""
    del rng, dtype
    magnitude = max(1, int(magnitude))
    size = math.prod(shape)
    steps = np.arange(size, dtype=np.float64)
    values = steps + 1 if size <= magnitude else np.floor(steps * ((magnitude - 1) / size)) + 1
    values[-1:] = min(size, magnitude)
    return values.reshape(shape)


def _falling(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    return _rising(rng, shape, dtype, magnitude)[(slice(None, None, -1),) * len(shape)]


def _block(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """Whole numbers in one part of each row, another for each: together they are everywhere."""
    del dtype, magnitude
    values = np.zeros((shape[0], math.prod(shape[1:])))
    if values.size:
        part = -(-values.shape[1] // len(values))
        for row, start in zip(values, range(0, values.shape[1], part), strict=False):
            place = row[start : start + part]
            place[:] = rng.choice([1.0, 2.0, 3.0], place.shape)
            place[:1], place[-1:] = 1.0, 3.0  # the ends, where terms get lost, differ
    return values.reshape(shape)


def _units(rng: Generator, shape: Shape, dtype: str, magnitude: float) -> Array:
    """Small whole numbers, and no zero."""
    del dtype, magnitude
    return rng.choice([-2.0, -1.0, 1.0, 2.0], shape)


REGIMES: dict[str, Callable[[Generator, Shape, str, float], Array]] = {
    "integer": _integer,
    "normal": _normal,
    "positive": _positive,
    "negative": _negative,
    "rising": _rising,
    "falling": _falling,
    "wide": _wide,
    "cancellation": _cancellation,
    "ties": _ties,
    "large": _large,
    "small": _small,
    "faint": _faint,
    "infinite": _infinite,
    "lowest": _lowest,
    "highest": _highest,
    "nan": _nan,
    "sparse": _sparse,
    "onehot": _onehot,
    "block": _block,
    "units": _units,
}

SPARSE = ("onehot", "sparse")
"""The regimes of few values that are not zero."""

_DETERMINED = ("rising", "falling")

FINITE = (
    "integer",
    "normal",
    "negative",
    "wide",
    "cancellation",
    "ties",
    "small",
    "positive",
    "faint",
    "sparse",
    "onehot",
)
"""The regimes whose results the document's arithmetic defines for every layer."""


def one_tap(rng: Generator, shape: Shape, dtype: str) -> Array:
    """Return a kernel ``(*window, in, out)`` whose channel pairs have one cell that is not 0."""
    cells = math.prod(shape[:-2])
    values = np.zeros((cells, math.prod(shape[-2:])))
    if values.size:
        columns = np.arange(values.shape[1])
        values[rng.integers(cells, size=len(columns)), columns] = _awkward(rng, columns.shape)
    return values.reshape(shape).astype(dtype_named(dtype))


def _integers(rng: Generator, shape: Shape, info: np.iinfo[Any], regimes: tuple[str, ...]) -> Array:
    values = rng.integers(info.min, info.max, shape, dtype=info.dtype, endpoint=True)
    for first, name in enumerate(regimes[: shape[0]]):
        if name == "ends":
            rows = values[first :: len(regimes)]
            ends = np.array([info.min, info.min + 1, 0, 1, info.max - 1, info.max], info.dtype)
            rows[...] = rng.choice(ends, rows.shape, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    return values


def fill(
    rng: Generator,
    shape: Shape,
    dtype: str,
    regimes: tuple[str, ...],
    terms: int,
    *,
    weighted: bool,
) -> Array:
    """Return an array of ``shape`` whose row ``i`` holds regime ``i % len(regimes)``.

    ``terms`` bounds how many values are added up anywhere, so that the sums of the ``integer``
    regime are exact. For integer dtypes ``ends`` is the ends of their range and their neighbours,
    and every other regime is full-range integers.
    """
    if is_integer(dtype):
        return _integers(rng, shape, np.iinfo(dtype), regimes)
    magnitude = _magnitude(dtype, terms, weighted=weighted)
    values = np.empty(shape)
    for first, name in enumerate(regimes[: shape[0]]):
        rows = values[first :: len(regimes)]
        drawn = (1, *shape[1:]) if name in _DETERMINED else rows.shape
        rows[...] = REGIMES[name](rng, drawn, dtype, magnitude)
    return values.astype(dtype_named(dtype))
