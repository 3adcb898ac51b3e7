"""Every format of a report by its name: those for readers, and those for machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cnnformance.reports import badge, github, render, spreadsheet
from cnnformance.reports.printable import cleaned
from cnnformance.reports.records import Run

FORMATS: Mapping[str, Callable[[Run], str]] = {
    **render.FORMATS,
    "csv": lambda run: spreadsheet.text(cleaned(run)),
    "github": lambda run: github.summary(cleaned(run)),
    "annotations": lambda run: github.annotated(cleaned(run)),
    "badge": lambda run: badge.svg(cleaned(run)),
    "endpoint": lambda run: badge.endpoint(cleaned(run)),
}
"""A function from a run to the text."""
