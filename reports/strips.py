"""How much of the allowed error was used: a strip of marks on a log scale for each cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnformance.reports import matrix, tables
from cnnformance.reports.matrix import Grade
from cnnformance.reports.records import Run, Verdict, VerdictName

LOWEST, HIGHEST = -4, 2
"""The powers of ten between which a strip is drawn; what lies beyond stands at its end."""

STEP = 28
"""The length of a power of ten."""

WIDTH = STEP * (HIGHEST - LOWEST)
"""The length of a strip."""

ALLOWED = -LOWEST * STEP
"""Where on a strip the error is all that is allowed."""


@dataclass(frozen=True)
class Strip:
    """What one subject showed of a layer in a dtype.

    ``marks`` and ``beyond`` are the drawing instructions of a mark for each question, within what
    is allowed and beyond it; ``exact`` counts those without any error, which have no place on a log
    scale. ``told`` is the strip in words.
    """

    marks: str
    beyond: str
    exact: int
    grade: str
    largest: str
    verdict: VerdictName | None
    blunt: str
    told: str


@dataclass(frozen=True)
class StripRow:
    """A layer in a dtype; a strip for each subject of the run, None where nothing was compared."""

    layer: str
    dtype: str
    strips: tuple[Strip | None, ...]


def scale() -> tuple[tuple[int, str], ...]:
    """Return the places on a strip that are labelled, with their labels."""
    return tuple(
        ((power - LOWEST) * STEP, "1" if power == 0 else f"10{_superscript(power)}")
        for power in range(LOWEST, HIGHEST + 1, 2)
    )


def _superscript(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def rows(run: Run) -> tuple[StripRow, ...]:
    """Return a row for each layer and dtype in which an error was measured."""
    blunt = matrix.proves_little(run)
    compared = matrix.grouped(
        [v for v in run.verdicts if v.dtype and v.share is not None],
        lambda v: (v.layer, v.dtype or "", v.subject),
    )
    found = []
    for (layer, dtype), grades in matrix.grades(run).items():
        cell = blunt.get((layer, dtype), {})
        strips = tuple(
            _strip(
                compared.get((layer, dtype, s), []),
                grades[s],
                tables.blunt(cell, s).text if s in cell else "",
            )
            if s in grades
            else None
            for s in run.subjects
        )
        if any(v.share for s in run.subjects for v in compared.get((layer, dtype, s), [])):
            found.append(StripRow(layer, dtype, strips))
    return tuple(found)


def _strip(verdicts: Sequence[Verdict], grade: Grade, blunt: str) -> Strip:
    shares = sorted(v.share for v in verdicts if v.share is not None and not math.isnan(v.share))
    used = [share for share in shares if share > 0]
    largest = tables.part(grade.share) if grade.share else ""
    n, exact = len(verdicts), len(shares) - len(used)
    told = f"{n} question{'s' if n > 1 else ''}, {exact} without any error"
    if used:
        told += f"; errors from {used[0]:.2g} to {used[-1]:.2g} of what is allowed"
    return Strip(
        marks([share for share in used if share <= 1]),
        marks([share for share in used if share > 1]),
        exact,
        grade.grade or "",
        largest,
        grade.verdict,
        blunt,
        told,
    )


def marks(shares: Sequence[float]) -> str:
    """Return the drawing instructions of a mark for each share of what is allowed above 0."""
    places = {min(max(_place(share), 1), WIDTH - 1) for share in shares if share > 0}
    return "".join(f"M{place} 2v10" for place in sorted(places))


def _place(share: float) -> int:
    return WIDTH if math.isinf(share) else round((math.log10(share) - LOWEST) * STEP)


def graded(run: Run) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Return the layers and dtypes that were compared by equality alone, with a word a subject."""
    shown = {(row.layer, row.dtype) for row in rows(run)}
    return tuple(
        (layer, dtype, tuple(tables.graded(cells.get(s)).text for s in run.subjects))
        for (layer, dtype), cells in matrix.grades(run).items()
        if (layer, dtype) not in shown
    )
