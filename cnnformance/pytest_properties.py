"""What other plugins may read of a verdict, above all pytest's ``--junitxml``."""

from __future__ import annotations

from cnnformance.reports.printable import cleaned
from cnnformance.reports.records import Verdict


def of(record: Verdict) -> list[tuple[str, str]]:
    """Return a verdict as properties of a test: a name and a text each, none of them empty."""
    record = cleaned(record)
    told = {
        "subject": record.subject,
        "layer": record.layer,
        "dtype": record.dtype or "",
        "verdict": record.verdict,
        "effect": record.failure.effect if record.failure else "",
        "level": record.level,
        "clauses": " ".join(record.clauses),
        "known": " ".join(record.known),
        "examples": str(record.examples),
        "planned": str(record.planned),
    }
    return [(name, text) for name, text in told.items() if text]
