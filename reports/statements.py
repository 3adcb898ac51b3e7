"""The document section by section: its statements, their clauses, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnformance.reports import matrix
from cnnformance.reports.cells import Part, bar
from cnnformance.reports.claims import outcome
from cnnformance.reports.clause_views import cited
from cnnformance.reports.records import Run, Verdict
from cnnformance.reports.tables import called
from cnnformance.spec.clause import Shown
from cnnformance.spec.clauses import Claim, Clause, Count, Erratum, FormulaClause, Narrative, Spec
from cnnformance.spec.layers import to_json

BEYOND = "What the document leaves open"
"""The heading of the clauses that stand in no section: cited authorities settle them."""


@dataclass(frozen=True)
class Tally:
    """The verdicts of one subject on a clause."""

    subject: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Statement:
    """A clause as it stands in a section.

    ``first`` says whether it stands here for the first time: there it has its anchor, and there
    all is told. ``formula`` is that of a formula or a count, or the order of a claim's figures.
    ``holds`` says what is so instead of a statement that is false or incomplete, which
    ``counterexample`` shows, or what was found of a claim; ``reason`` says why one cannot be
    checked.
    """

    id: str
    first: bool
    says: str
    kind: str
    level: str
    authority: str
    url: str
    formula: str
    holds: str
    counterexample: str
    reason: str
    tallies: tuple[Tally, ...]


@dataclass(frozen=True)
class SectionView:
    """A section of the document, its heading's depth, and its statements."""

    heading: str
    depth: int
    statements: tuple[Statement, ...]


def sections(run: Run, spec: Spec) -> tuple[SectionView, ...]:
    """Return every section in order; then the clauses that stand in none, and unknown ones."""
    found = matrix.by_clause(run)
    seen: set[str] = set()

    def statements(names: Sequence[str]) -> tuple[Statement, ...]:
        told = []
        for name in names:
            told.append(_statement(name, name not in seen, spec, found.get(name, {}), run))
            seen.add(name)
        return tuple(told)

    told = [SectionView(s.heading, s.depth, statements(s.clauses)) for s in spec.sections]
    rest = [name for name in {**spec.clauses, **found} if name not in seen]
    return (*told, *([SectionView(BEYOND, 1, statements(rest))] if rest else ()))


def _statement(
    name: str, first: bool, spec: Spec, found: Mapping[str, Sequence[Verdict]], run: Run
) -> Statement:
    clause = spec.clauses.get(name)
    tallies = tuple(Tally(s, bar(found[s])) for s in run.subjects if s in found)
    if clause is None:
        return Statement(name, first, "", "", "", "", "", "", "", "", "", tallies)
    authority, url = cited(clause, spec.authorities)
    return Statement(
        name,
        first,
        clause.says,
        clause.kind,
        clause.level,
        authority,
        url,
        formula(clause),
        _holds(clause),
        counterexample(clause) if isinstance(clause, Erratum) else "",
        clause.reason if isinstance(clause, Narrative | Claim) else "",
        tallies,
    )


def _holds(clause: Clause) -> str:
    if isinstance(clause, Claim):
        return outcome(clause)
    return clause.holds if isinstance(clause, Erratum) else ""


def formula(clause: Clause) -> str:
    """Return the formula of a clause, and what its names stand for; empty if it has none."""
    match clause:
        case FormulaClause():
            means = ", ".join(f"{name}: {meaning}" for name, meaning in clause.where.items())
            return f"{clause.formula.text}   ({means})" if means else clause.formula.text
        case Count():
            return f"{clause.formula.text} = {clause.value}   {_bound(clause.bindings)}".rstrip()
        case Claim():
            return "; ".join(order.text for order in clause.order)
    return ""


def _bound(bindings: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name} = {_plain(value)}" for name, value in bindings.items())
    return f"({told})" if told else ""


def _plain(value: Any) -> str:
    if isinstance(value, np.ndarray):
        value = value.squeeze().tolist()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_plain, value)) + "]"
    try:
        return f"{float(value):.10g}"
    except OverflowError:
        return str(value)


def counterexample(clause: Erratum) -> str:
    """Return what shows that a statement is false as written."""
    if clause.formula and clause.instead:
        return (
            f"{clause.formula.text} gives {_plain(clause.formula(**clause.bindings))}, "
            f"{clause.instead.text} gives {_plain(clause.instead(**clause.bindings))} "
            f"{_bound(clause.bindings)}"
        )
    return "; ".join(trials(clause))


def trials(clause: Shown) -> tuple[str, ...]:
    """Return each trial of a clause: a model, its weights, an input, and what they give."""
    told = []
    for trial in clause.trials:
        model = ", ".join(called(to_json(layer)) for layer in trial.model)
        weights = "".join(
            f" with {name} {_plain(array)}"
            for each in trial.weights
            for name, array in each.items()
        )
        given, gives = _plain(trial.input), _plain(trial.output)
        told.append(f"{model}{weights} of {given} is {gives}")
    return tuple(told)
