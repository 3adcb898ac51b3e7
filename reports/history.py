"""The versions of a framework side by side: what was found in which, and what came and went.

It is made of one run whose subjects are the versions. A finding is one of all versions together;
what is absent from a version is so by the answers of its questions there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from cnnformance.reports import causes, divergences, tables
from cnnformance.reports.clause_views import link
from cnnformance.reports.matrix import grouped
from cnnformance.reports.records import FAILING, Divergence, Run, Verdict, VerdictName
from cnnformance.reports.tables import Cell, Table

State = Literal["seen", "absent", "unknown"]
ANSWERED: tuple[VerdictName, ...] = ("pass", "known")
"""The verdicts of a question that would have failed, had it met what it meets elsewhere."""


@dataclass(frozen=True)
class Seen:
    """What a version showed of something: the ``verdicts`` that met it, or ``why`` none did.

    ``state`` is ``unknown`` where no question that met it in another version was answered.
    """

    state: State
    verdicts: tuple[Verdict, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Row:
    """A finding, or a recorded divergence (``entry``), and what each version showed of it."""

    id: str
    verdict: VerdictName
    layers: tuple[str, ...]
    says: str
    entry: Divergence | None
    cells: tuple[Seen, ...]
    change: str
    versions: str

    @property
    def link(self) -> str:
        """Where a recorded divergence can be read about, if it can be opened; else empty."""
        return link(self.entry.link) if self.entry else ""

    @property
    def changed(self) -> bool:
        """Whether it is in some versions, and not in others."""
        return {"seen", "absent"} <= {cell.state for cell in self.cells}


@dataclass(frozen=True)
class History:
    """What was found of a subject, ``name``, in its versions, which are the subjects of a run."""

    name: str
    versions: tuple[str, ...]
    run: Run
    rows: tuple[Row, ...]


def history(name: str, versions: Sequence[str], run: Run) -> History:
    """Return what came and went, those that changed first.

    Args:
        name: the subject without a version.
        versions: the version of each subject of the run, in their order: the oldest first.
        run: the answers of all versions; recorded divergences are known in each.
    """
    rows = [_divergence(same, versions, run) for same in _recorded(run)]
    rows += [_finding(found, versions, run) for found in causes.joint(run, name)]
    rows.sort(key=lambda row: not row.changed)
    return History(name, tuple(versions), run, tuple(rows))


def _recorded(run: Run) -> list[list[divergences.Seen]]:
    seen = grouped(divergences.seen(run), lambda found: found.id)
    return [seen[name] for name in sorted(seen)]


def _divergence(same: Sequence[divergences.Seen], versions: Sequence[str], run: Run) -> Row:
    verdicts = [v for found in same for v in found.verdicts]
    layers = tuple(dict.fromkeys(layer for found in same for layer in found.layers))
    entry = next((found.entry for found in same if found.entry), None)
    return _row((same[0].id, "known", layers, same[0].says, entry), verdicts, versions, run)


def _finding(found: causes.Finding, versions: Sequence[str], run: Run) -> Row:
    layers = tuple(dict.fromkeys(v.layer for v in found.verdicts))
    where = f" where {' and '.join(found.where)}" if found.where else ""
    told = (f"{found.layer}, {found.effect}{where}", found.verdict, layers)
    return _row((*told, tables.happened(found.shortest), None), found.verdicts, versions, run)


def _row(
    told: tuple[str, VerdictName, tuple[str, ...], str, Divergence | None],
    verdicts: Sequence[Verdict],
    versions: Sequence[str],
    run: Run,
) -> Row:
    questions = {v.question for v in verdicts}
    by_subject = grouped(verdicts, lambda v: v.subject)
    asked = grouped([v for v in run.verdicts if v.question in questions], lambda v: v.subject)
    cells = tuple(_seen(by_subject.get(s, ()), asked.get(s, ())) for s in run.subjects)
    return Row(*told, cells, change(cells, versions), bounds(cells, versions))


def _seen(verdicts: Sequence[Verdict], asked: Sequence[Verdict]) -> Seen:
    if verdicts:
        return Seen("seen", tuple(verdicts))
    if any(v.verdict in ANSWERED for v in asked):
        return Seen("absent")
    if not asked:
        return Seen("unknown", why="not asked")
    most, _ = Counter(v.verdict for v in asked).most_common(1)[0]
    return Seen("unknown", why="fails otherwise" if most in FAILING else most)


def change(cells: Sequence[Seen], versions: Sequence[str]) -> str:
    """Return in words where something appeared and went, as far as versions show it."""
    known = [(n, cell.state) for n, cell in enumerate(cells) if cell.state != "unknown"]
    told = []
    for (before, was), (after, now) in pairwise(known):
        if was != now:
            word = "appeared in" if now == "seen" else "gone since"
            late = after > before + 1
            told.append(f"{word} {versions[after]}" + f", or after {versions[before]}" * late)
    if not told:
        return "in all" if len(known) == len(cells) else "in all that show it"
    return "; ".join(told)


def bounds(cells: Sequence[Seen], versions: Sequence[str]) -> str:
    """Return the versions that show something as bounds, such as ``>=1.18,<1.31``; empty: all.

    Between two versions that differ the later one is the bound. Where it went and came again,
    there are several, in the order of versions.
    """
    spans: list[list[str]] = []
    last: State = "seen"
    for cell, version in zip(cells, versions, strict=True):
        if cell.state == "seen" and (last == "absent" or not spans):
            spans.append([f">={version}"] * (last == "absent"))
        elif cell.state == "absent" and last == "seen" and spans:
            spans[-1].append(f"<{version}")
        last = last if cell.state == "unknown" else cell.state
    return "; ".join(",".join(span) for span in spans)


def cell(seen: Seen) -> Cell:
    """Return how many questions met something; ``no``, or why that is unknown."""
    if seen.state == "seen":
        return Cell(str(len({v.question for v in seen.verdicts})), seen.verdicts[0].verdict)
    return Cell("no" if seen.state == "absent" else f"? {seen.why}")


def recorded(row: Row) -> str:
    """Return for which versions a divergence is recorded; a dash for a finding, which is not."""
    return (row.entry.versions or "all") if row.entry else tables.NOTHING


def table(found: History) -> Table:
    """Return what was found, one a row, and how many questions met it in each version."""
    rows = tuple(
        (Cell(row.id, row.verdict), *map(cell, row.cells), Cell(row.change), Cell(recorded(row)))
        for row in found.rows
    )
    head = ("what", *found.versions, "change", "recorded for")
    return Table(f"History of {found.name}: the questions that met it", head, rows)
