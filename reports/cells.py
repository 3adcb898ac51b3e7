"""The matrix that the page shows: layers, opening to their clauses, by subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cnnformance.reports import matrix
from cnnformance.reports.clause_views import own_file
from cnnformance.reports.declined import UNANSWERED
from cnnformance.reports.records import VERDICTS, Run, Verdict, VerdictName
from cnnformance.spec.clauses import Clause

State = Literal["asked", "not-asked", "not-offered", "not-run"]
"""Whether a subject answered anything, was asked nothing, offers nothing, or was not run."""

Facet = tuple[str, str, str, str]
"""What verdicts are filtered by: level, dtype, verdict and effect; empty where there is none."""


class Facets:
    """The facets of verdicts, each numbered once, so that a cell of a page can name them briefly.

    The page counts by them again when a reader filters.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._numbers: dict[Facet, int] = {}

    @property
    def known(self) -> list[Facet]:
        """Every facet, in the order of the numbers."""
        return list(self._numbers)

    def packed(self, verdicts: Sequence[Verdict]) -> str:
        """Return how often each facet occurs, as ``NUMBER*TIMES`` joined by spaces."""
        times: dict[int, int] = {}
        for v in verdicts:
            effect = v.failure.effect if v.failure else ""
            facet = (v.level, v.dtype or "", v.verdict, effect)
            number = self._numbers.setdefault(facet, len(self._numbers))
            times[number] = times.get(number, 0) + 1
        return " ".join(f"{number}*{n}" for number, n in times.items())


ORDER: tuple[VerdictName, ...] = (
    "pass", *(v for v in reversed(VERDICTS) if v not in ("pass", *UNANSWERED)), *UNANSWERED
)  # fmt: skip
"""Every verdict as bars and figures show them: right, wrong, then without an answer."""


@dataclass(frozen=True)
class Part:
    """One stretch of a stacked bar: where it begins and how long it is, in percent."""

    verdict: VerdictName
    count: int
    start: float
    width: float


def bar(verdicts: Sequence[Verdict]) -> tuple[Part, ...]:
    """Return the stretches of a bar: the verdicts, in their ``ORDER``."""
    counts = matrix.counts(verdicts)
    total, start, parts = sum(counts.values()), 0.0, []
    for verdict in ORDER:
        if counts[verdict]:
            width = 100 * counts[verdict] / total
            parts.append(Part(verdict, counts[verdict], round(start, 2), round(width, 2)))
            start += width
    return tuple(parts)


def state(verdicts: Sequence[Verdict]) -> State:
    """Return whether these questions were answered at all."""
    fallen = {v.verdict for v in verdicts}
    if not fallen:
        return "not-asked"
    if fallen == {"unsupported"}:
        return "not-offered"
    return "asked" if fallen - set(UNANSWERED) else "not-run"


@dataclass(frozen=True)
class Cell:
    """What one subject answered to the questions of a row; ``packed`` is of ``Facets``."""

    state: State
    parts: tuple[Part, ...]
    packed: str
    composed: bool
    cut: int


@dataclass(frozen=True)
class ClauseRow:
    """A clause, as far as questions about one layer ask it."""

    id: str
    says: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class LayerRow:
    """A layer, and the clauses that its questions ask."""

    name: str
    cells: tuple[Cell, ...]
    clauses: tuple[ClauseRow, ...]


def rows(run: Run, clauses: Mapping[str, Clause], facets: Facets) -> tuple[LayerRow, ...]:
    """Return the rows of the matrix; cells are in the order of the run's subjects."""

    def cells(by_subject: Mapping[str, Sequence[Verdict]]) -> tuple[Cell, ...]:
        return tuple(_cell(by_subject.get(s, ()), facets) for s in run.subjects)

    found = []
    for layer, by_subject in matrix.by_layer(run).items():
        of_clause: dict[str, dict[str, list[Verdict]]] = {}
        for subject, verdicts in by_subject.items():
            for verdict in verdicts:
                for clause in verdict.clauses:
                    of_clause.setdefault(clause, {}).setdefault(subject, []).append(verdict)
        told = tuple(
            ClauseRow(name, clauses[name].says if name in clauses else "", cells(of_clause[name]))
            for name in sorted(of_clause, key=lambda name: _place(name, layer, clauses))
        )
        found.append(LayerRow(layer, cells(by_subject), told))
    return tuple(found)


def _place(name: str, layer: str, clauses: Mapping[str, Clause]) -> tuple[bool, bool, str]:
    """Return by what clauses are sorted: a layer's own first, and those of all layers last."""
    file = clauses[name].file if name in clauses else ""
    return file != own_file(layer), file == "pipeline.toml", name


def _cell(verdicts: Sequence[Verdict], facets: Facets) -> Cell:
    return Cell(
        state(verdicts),
        bar(verdicts),
        facets.packed(verdicts),
        any(v.composed for v in verdicts),
        len(matrix.cut(verdicts)),
    )
