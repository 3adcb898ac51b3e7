"""A run for spreadsheets: a line of comma-separated values for each verdict."""

from __future__ import annotations

import csv
import io
import re

from cnnformance.reports import tables
from cnnformance.reports.records import Run, Verdict

COLUMNS = (
    "subject", "version", "layer", "question", "dtype", "level", "clauses", "verdict", "effect",
    "known", "examples", "planned", "seconds", "grade", "share", "sharpness", "composed",
    "expected", "actual", "what",
)  # fmt: skip
"""The first line."""

_FORMULA = re.compile(r"[=+\-@|\uff1d\uff0b\uff0d\uff20]")
"""What begins a text that a spreadsheet would compute."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def text(run: Run) -> str:
    """Return the verdicts as comma-separated values (RFC 4180, lines end in a line feed).

    Each is on one line. A text that a spreadsheet would compute begins with an apostrophe.
    """
    versions = {s.subject: s.version for s in run.header.subjects}
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(safe, _row(v, versions.get(v.subject, ""))) for v in run.verdicts)
    return file.getvalue()


def _row(verdict: Verdict, version: str) -> list[object]:
    failure = verdict.failure
    return [
        verdict.subject,
        version,
        verdict.layer,
        verdict.question,
        verdict.dtype,
        verdict.level,
        " ".join(verdict.clauses),
        verdict.verdict,
        failure and failure.effect,
        " ".join(verdict.known),
        verdict.examples,
        verdict.planned,
        verdict.seconds,
        verdict.grade,
        verdict.share,
        verdict.sharpness,
        verdict.composed,
        failure and failure.expected,
        failure and failure.actual,
        tables.happened(verdict),
    ]


def safe(value: object) -> str:
    """Return a cell: on one line, and nothing that a spreadsheet would compute."""
    told = " ".join(str("" if value is None else value).split())
    return f"'{told}" if _FORMULA.match(told) and not _NUMBER.fullmatch(told) else told
