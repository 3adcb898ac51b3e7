"""The runs of a folder, one a line: when, of what, how much, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cnnformance.reports import brief, matrix, places, tables
from cnnformance.reports.printable import cleaned
from cnnformance.reports.records import RecordError, Run, read
from cnnformance.reports.tables import Cell, Table


@dataclass(frozen=True)
class Listed:
    """A run by its name; ``unreadable`` says why there is no run to show."""

    name: str
    run: Run | None
    unreadable: str = ""

    @property
    def subjects(self) -> tuple[str, ...]:
        """Each subject with its version."""
        header = self.run and self.run.header
        return tuple(
            f"{s.subject} {s.version}".strip() for s in (header.subjects if header else ())
        )

    @property
    def state(self) -> str:
        """``complete``, what is missing, or why it cannot be read."""
        return self.unreadable if self.run is None else brief.banner(self.run) or "complete"


def runs(folder: Path) -> Iterator[Listed]:
    """Yield the runs that were made in a folder, the newest first."""
    for path in places.runs(folder):
        try:
            yield Listed(path.parent.name, cleaned(read(path)))
        except RecordError as error:
            yield Listed(path.parent.name, None, str(error).removeprefix(f"{path}").lstrip(":, "))


def table(listed: list[Listed]) -> Table:
    """Return the list as a table."""
    rows = []
    for each in listed:
        header = each.run and each.run.header
        counts = matrix.counts(each.run.verdicts) if each.run else {}
        cells = (
            each.name,
            header.started[:19].replace("T", " ") if header else tables.NOTHING,
            ", ".join(each.subjects) or tables.NOTHING,
            header.profile if header else tables.NOTHING,
            ", ".join(f"{n} {name}" for name, n in counts.items()) or tables.NOTHING,
            each.state,
        )
        rows.append(tuple(map(Cell, cells)))
    head = ("run", "begun", "subjects", "profile", "verdicts", "state")
    return Table("Runs, the newest first", head, tuple(rows))


def data(listed: list[Listed]) -> list[dict[str, object]]:
    """Return the list as data of JSON."""
    return [
        {
            "run": each.name,
            "started": each.run and each.run.header.started,
            "subjects": each.subjects,
            "profile": each.run and each.run.header.profile,
            "seed": each.run and each.run.header.seed,
            "verdicts": matrix.counts(each.run.verdicts) if each.run else {},
            "complete": each.run is not None and not each.run.partial,
            "state": each.state,
        }
        for each in listed
    ]
