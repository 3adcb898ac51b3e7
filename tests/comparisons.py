"""Comparisons with an honest backend, for the tests of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from cnnformance.adapters import registry
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import comparing
from cnnformance.conformance.contrast import Both, Side
from cnnformance.conformance.topics import measured
from cnnformance.reports.compare import Row

CORPUS = Path(__file__).parent / "corpus"
HONEST = f"{CORPUS}/kernels.py:Honest"


def both_of(one: str, other: str, **options: object) -> Both:
    first, second = (
        Side(name, "", Subject(registry.parse(name), **options))  # type: ignore[arg-type]
        for name in (one, other)
    )
    for side in (first, second):
        assert side.subject
        side.subject.start()
    return Both((first, second))


@cache
def rows_of(other: str) -> dict[str, Row]:
    """Return the rows of an honest backend and another, both in this process."""
    both = both_of(HONEST, f"{CORPUS}/{other}", in_process=True)
    try:
        return {topic.name: measured(topic, both) for topic in comparing.TOPICS}
    finally:
        both.close()


def apart(rows: dict[str, Row]) -> set[str]:
    return {name for name, row in rows.items() if row.status == "differs"}
