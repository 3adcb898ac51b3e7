"""A counterexample as a picture: the input's cells, the padding, the window, the wrong output."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnformance.reports import arrays, likely
from cnnformance.reports.records import Failure
from cnnformance.reports.windows import Reach, channels, reaches
from cnnformance.spec.layers import Layer, from_json

MOST = 13
"""The most cells along an axis that are drawn; of a larger map, those around the window."""

MARGIN = 2
"""The cells that are drawn around the window of a larger map."""

HEIGHT = 26
"""The height of a cell."""

_UNREADABLE = (
    LookupError, TypeError, ValueError, ArithmeticError, SyntaxError, MemoryError, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Square:
    """A cell of the input or of its padding, with its place in the picture."""

    x: int
    y: int
    text: str
    padding: bool
    read: bool

    @property
    def kind(self) -> str:
        """Of what kind it is: ``cell`` or ``pad``, with ``read`` where the window reads it."""
        return ("pad" if self.padding else "cell") + (" read" if self.read else "")


@dataclass(frozen=True)
class Frame:
    """A rectangle of the picture."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Drawing:
    """A picture of one output of a layer: what it reads, and what it should be.

    ``caption`` says all of it in words; ``source`` where the wrong number comes from, where
    arithmetic tells it.
    """

    cell: int
    width: int
    height: int
    squares: tuple[Square, ...]
    window: Frame
    expected: str
    actual: str
    caption: str
    source: str


@dataclass(frozen=True)
class _Seen:
    """One output and what it reads: ``plane`` is the map of one input channel.

    ``reach`` is along the two axes of the plane, ``every`` along all axes of the input.
    """

    layer: Layer
    index: tuple[int, ...]
    plane: np.ndarray[Any, np.dtype[Any]]
    reach: tuple[Reach, Reach]
    every: tuple[Reach, ...]
    channel: int
    of: int


def number(value: object) -> str:
    """Return a number in few digits; a zero keeps its sign."""
    if isinstance(value, float | np.floating):
        value = float(value)
        if math.isfinite(value):
            return f"{value:.4g}"
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    return str(value)


def shortened(text: str) -> str:
    """Return a recorded number in few digits; any other text as it is."""
    try:
        return number(float(text))
    except ValueError:
        return text


def draw(failure: Failure) -> Drawing | None:
    """Return the picture of a failure; None where a record shows no output of a windowed layer."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            seen = _seen(failure)
    except _UNREADABLE:  # the record of another version, or malformed: words alone tell it
        return None
    if seen is None:
        return None
    rows, columns = _shown(seen.reach)
    if len(rows) > MOST + 2 or len(columns) > MOST + 2:
        return None
    return _drawn(seen, failure, rows, columns)


def _seen(failure: Failure) -> _Seen | None:
    case: Mapping[str, Any] = failure.case or {}
    layers = case.get("layers", ())
    x = failure.arrays.get("x")
    told = failure.index is not None and failure.expected and failure.actual
    if len(layers) != 1 or x is None or not told or failure.call not in ("", "forward"):
        return None
    float(failure.actual)  # else a ValueError: what is no number is told in words alone
    layer, values = from_json(layers[0]), arrays.unpack(x)
    sizes = values.shape[1:-1]
    index = failure.index or ()
    if not (1 <= len(sizes) <= 3) or len(index) < 2:
        return None
    at = index[1:-1] if len(index) == values.ndim else (0,) * len(sizes)
    read = channels(layer, index[-1])
    reach = reaches(layer, sizes, at)
    if not reach or not read:
        return None
    plane = values[index[0], ..., read[0]]
    *depth, down, across = (Reach((0,), 1, 0, 1), *reach) if len(reach) == 1 else reach
    if len(reach) == 1:
        plane = plane[None]
    for axis in depth:
        if len(axis.cells) != 1 or not axis.inside:
            return None  # a window of several slices is no plane
        plane = plane[axis.cells[0]]
    return _Seen(layer, index, plane, (down, across), reach, read[0], len(read))


def _shown(reach: tuple[Reach, Reach]) -> tuple[range, range]:
    rows, columns = (
        range(axis.first, axis.last)
        if axis.last - axis.first <= MOST
        else range(
            max(axis.first, axis.cells[0] - MARGIN), min(axis.last, axis.cells[-1] + 1 + MARGIN)
        )
        for axis in reach
    )
    return rows, columns


def _drawn(seen: _Seen, failure: Failure, rows: range, columns: range) -> Drawing:
    down, across = seen.reach
    texts: dict[tuple[int, int], str] = {
        (r, c): number(seen.plane[r, c].item())
        for r in rows
        for c in columns
        if 0 <= r < down.size and 0 <= c < across.size
    }
    width = max(30, 8 * max(map(len, texts.values()), default=1) + 10)
    squares = tuple(
        Square(
            x=(c - columns[0]) * width,
            y=(r - rows[0]) * HEIGHT,
            text=texts.get((r, c), ""),
            padding=(r, c) not in texts,
            read=r in down.cells and c in across.cells,
        )
        for r in rows
        for c in columns
    )
    window = Frame(
        (across.cells[0] - columns[0]) * width,
        (down.cells[0] - rows[0]) * HEIGHT,
        (across.cells[-1] + 1 - across.cells[0]) * width,
        (down.cells[-1] + 1 - down.cells[0]) * HEIGHT,
    )
    expected, actual = shortened(failure.expected), shortened(failure.actual)
    return Drawing(
        width,
        len(columns) * width,
        len(rows) * HEIGHT,
        squares,
        window,
        expected,
        actual,
        _caption(seen, squares, expected, actual),
        _source(seen, failure),
    )


def _caption(seen: _Seen, squares: tuple[Square, ...], expected: str, actual: str) -> str:
    read = [s.text for s in squares if s.read and not s.padding]
    padded = sum(s.read and s.padding for s in squares)
    values = ", ".join(read[:9]) + (", …" if len(read) > 9 else "")
    pads = f" and {padded} cell{'s' if padded > 1 else ''} outside the input" if padded else ""
    part = f" (channel {seen.channel} of {seen.of} that it reads)" if seen.of > 1 else ""
    where = ", ".join(map(str, seen.index))
    return (
        f"The output at ({where}) reads {values or 'no value'}{pads}{part}: "
        f"it should be {expected}, and is {actual}."
    )


def _source(seen: _Seen, failure: Failure) -> str:
    try:
        expected, actual = float(failure.expected), float(failure.actual)
    except ValueError:
        return ""
    return likely.source(seen.layer, seen.every, seen.plane, expected, actual)
