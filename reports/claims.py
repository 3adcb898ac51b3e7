"""Claims, measured: what the document compares, and the figures of each subject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cnnformance.reports.clause_views import specification
from cnnformance.reports.matrix import grouped
from cnnformance.reports.records import Run
from cnnformance.reports.tables import Cell, Table
from cnnformance.spec.clauses import Claim, Spec

Told = Mapping[str, str]
"""Figures as they were measured, by their names."""


@dataclass(frozen=True)
class Measured:
    """What was measured, and of which subjects.

    One figure, as ``25.4% (831 of 3,278)``, or those of a claim, as ``shift: convolution 0.9%, max
    pooling 25.4%``.
    """

    text: str
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class ClaimView:
    """A claim, what was found, what of it cannot be measured, and the figures that tell."""

    id: str
    says: str
    holds: bool
    finds: str
    reason: str
    measured: tuple[Measured, ...]


@dataclass(frozen=True)
class ExperimentView:
    """An experiment, how it measures, and its figures by their names, each once."""

    name: str
    says: str
    figures: Mapping[str, tuple[Measured, ...]]


def experiments(run: Run) -> tuple[ExperimentView, ...]:
    """Return the experiments that were made, with all of their figures."""
    measured = [t for t in run.traits if t.experiment]
    return tuple(
        ExperimentView(
            name,
            same[0].experiment,
            {
                figure.removeprefix(f"{name}: "): _alike({t.subject: t.value for t in told})
                for figure, told in grouped(same, lambda t: t.trait).items()
            },
        )
        for name, same in grouped(measured, lambda t: t.trait.partition(": ")[0]).items()
    )


def _alike(told: Mapping[str, str]) -> tuple[Measured, ...]:
    """Return what is told of each subject, once for all of whom the same is."""
    found = grouped(told, told.__getitem__)
    return tuple(Measured(text, tuple(subjects)) for text, subjects in found.items())


def claims(run: Run, spec: Spec) -> tuple[ClaimView, ...]:
    """Return the claims of which a figure was measured, as the specification has them."""
    of = grouped([t for t in run.traits if t.experiment], lambda t: t.subject)
    found = {subject: {t.trait: t.value for t in same} for subject, same in of.items()}
    told = (
        ClaimView(
            claim.id,
            claim.says,
            claim.holds,
            claim.finds,
            claim.reason,
            tuple(_measured(claim.figures, found)),
        )
        for claim in spec.of(Claim)
    )
    return tuple(claim for claim in told if claim.measured)


def _measured(figures: Sequence[str], found: Mapping[str, Told]) -> Iterator[Measured]:
    """Yield the figures of each experiment, where a subject has any."""
    for experiment, names in grouped(figures, lambda name: name.partition(": ")[0]).items():
        told = {subject: _listed(experiment, names, its) for subject, its in found.items()}
        yield from _alike({subject: text for subject, text in told.items() if text})


def _listed(experiment: str, names: Sequence[str], told: Told) -> str:
    """Return the figures that were measured, or nothing."""
    values = {name: told[name].partition(" (")[0] for name in names if name in told}
    listed = (f"{name.removeprefix(f'{experiment}: ')} {v}" for name, v in values.items())
    return f"{experiment}: {', '.join(listed)}" if values else ""


def tables(run: Run) -> list[Table]:
    """Return the claims with the figures that tell, and how the experiments measured them."""
    rows = [
        (claim.says, outcome(claim), "; ".join(_whose(each, run) for each in claim.measured))
        for claim in claims(run, specification())
    ]
    head = ("claim", "as measured", "figures")
    how = [(each.name, each.says) for each in experiments(run)]
    both = [_table("Claims, measured", head, rows)]
    both += [_table("How the claims were measured", ("experiment", "how"), how)]
    return [table for table in both if table.rows]


def _whose(measured: Measured, run: Run) -> str:
    """Return figures, and whose they are where they are not everybody's."""
    whose = ", ".join(measured.subjects)
    return measured.text if measured.subjects == run.subjects else f"{measured.text} ({whose})"


def outcome(claim: ClaimView | Claim) -> str:
    """Return whether a claim holds, and what was found."""
    return f"{'holds' if claim.holds else 'does not hold'}: {claim.finds}"


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    return Table(title, tuple(head), tuple(tuple(map(Cell, row)) for row in rows))
