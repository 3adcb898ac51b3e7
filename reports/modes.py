"""The modes of one framework side by side: what some of them show and others do not."""

from __future__ import annotations

import re

from cnnformance.reports import selection
from cnnformance.reports.history import History, cell, history
from cnnformance.reports.matrix import grouped
from cnnformance.reports.records import Run
from cnnformance.reports.tables import Cell, Table

AS_IS = "as it is"
"""What a subject without a mode, on the usual device, is called beside the modes."""

_FRAMEWORK = re.compile(r"(.+?\.py:\w+|\w+(?:\.\w+)+:\w+|[^:@]+)")
"""The part of a subject's name before its mode: a framework and its version, or a class."""


def _framework(subject: str) -> str:
    match = _FRAMEWORK.match(subject)
    return match[0] if match else subject


def modes(run: Run) -> list[History]:
    """Return what was found of each framework that a run asked in several modes.

    The modes stand in the place of versions. A row that all modes show, or that no other mode can
    show, is left out.
    """
    groups = grouped((s for s in run.subjects if s not in run.missing), _framework)
    told = []
    for name, subjects in groups.items():
        if len(subjects) > 1:
            labels = [subject.removeprefix(name).lstrip(":") or AS_IS for subject in subjects]
            found = history(name, labels, selection.part(run, subjects))
            rows = tuple(row for row in found.rows if row.changed)
            told.append(History(name, found.versions, found.run, rows))
    return told


def table(found: History) -> Table:
    """Return what not all modes of a framework show, one a row, by how many questions met it."""
    rows = tuple((Cell(row.id, row.verdict), *map(cell, row.cells)) for row in found.rows)
    title = f"Modes of {found.name}: the questions that met what not all of them show"
    return Table(title, ("what", *found.versions), rows)


def tables(run: Run) -> list[Table]:
    """Return the table of each framework whose modes differ."""
    return [shown for shown in map(table, modes(run)) if shown.rows]
