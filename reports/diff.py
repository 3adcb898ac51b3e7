"""Two runs, or two subjects of a run, held against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from cnnformance.reports import matrix, render, tables
from cnnformance.reports.printable import cleaned
from cnnformance.reports.records import FAILING, RecordError, Run, Trait, Verdict
from cnnformance.reports.tables import Cell, Table

V = TypeVar("V")
Pair = tuple[str, str]
"""The name of a subject in the first run, and in the second."""


_RUNS = ("first", "second")


@dataclass(frozen=True)
class Change:
    """One question that a pair of subjects answered differently."""

    pair: Pair
    before: Verdict
    after: Verdict

    @property
    def kind(self) -> str:
        """``new failure``, ``fixed`` (failed, passes), or ``changed`` (anything else)."""
        failed, fails = (v.verdict in FAILING for v in (self.before, self.after))
        if fails and not failed:
            return "new failure"
        return "fixed" if failed and self.after.verdict == "pass" else "changed"


@dataclass(frozen=True)
class Difference:
    """What changed from one run to another, in what both asked.

    ``traits`` and ``grades`` map what changed, in words, to before and after; ``only`` lists
    (run, subject, number of questions) for what one run alone has a verdict on.
    """

    runs: tuple[Run, Run]
    pairs: tuple[Pair, ...]
    changes: tuple[Change, ...]
    traits: Mapping[tuple[Pair, str], tuple[str, str]]
    grades: Mapping[tuple[Pair, str], tuple[str, str]]
    only: tuple[tuple[str, str, int], ...]


def _bare(subject: str) -> str:
    """Return a subject's name without its version."""
    name, _, rest = subject.partition("==")
    ends = [at for at in (rest.find(":"), rest.find("@")) if at >= 0]
    return name + (rest[min(ends) :] if ends else "")


def pairs(first: Run, second: Run) -> tuple[Pair, ...]:
    """Return which subjects are compared.

    Those of one name, or of one name but for the version; or, where each run holds one subject,
    these two.
    """
    if len(first.subjects) == len(second.subjects) == 1:
        return ((first.subjects[0], second.subjects[0]),)
    matched = [(s, s) for s in first.subjects if s in second.subjects]
    left = [s for s in first.subjects if s not in second.subjects]
    right = [s for s in second.subjects if s not in first.subjects]
    for subject in left:
        same = [s for s in right if _bare(s) == _bare(subject)]
        rivals = [s for s in left if _bare(s) == _bare(subject)]
        if len(same) == len(rivals) == 1:
            matched.append((subject, same[0]))
    return tuple(matched)


def _cells(
    pair: Pair,
    of: Callable[[Run], Mapping[str, Mapping[str, V]]],
    runs: tuple[Run, Run],
    text: Callable[[V | None], str],
) -> dict[tuple[Pair, str], tuple[str, str]]:
    before, after = (of(run) for run in runs)
    found = {}
    for row in dict.fromkeys([*before, *after]):
        was = text(before.get(row, {}).get(pair[0]))
        now = text(after.get(row, {}).get(pair[1]))
        if was != now:
            found[pair, row] = (was, now)
    return found


def compare(first: Run, second: Run, between: Pair | None = None) -> Difference:
    """Return what changed from ``first`` to ``second``.

    Args:
        first: the run before.
        second: the run after; may be the same, for a comparison of two of its subjects.
        between: the subject of the first and of the second run to compare; otherwise ``pairs``.

    Raises:
        RecordError: no subject can be compared.
    """
    runs = (first, second) = (cleaned(first), cleaned(second))
    for run, name in zip(runs, between or (), strict=False):
        if name not in run.subjects:
            raise RecordError(f"{run.path}: no subject {name!r}; it has {', '.join(run.subjects)}")
    compared = (between,) if between else pairs(first, second)
    if not compared:
        names = " and ".join(", ".join(run.subjects) or "none" for run in runs)
        raise RecordError(f"no subject in common ({names}); name two with --between")
    changes: list[Change] = []
    only: list[tuple[str, str, int]] = []
    traits: dict[tuple[Pair, str], tuple[str, str]] = {}
    grades: dict[tuple[Pair, str], tuple[str, str]] = {}
    for pair in compared:
        before, after = both = _answers(first, pair[0]), _answers(second, pair[1])
        changes += [
            Change(pair, verdict, after[question])
            for question, verdict in before.items()
            if question in after and after[question].verdict != verdict.verdict
        ]
        extra = before.keys() - after.keys(), after.keys() - before.keys()
        only += [
            (which, name, len(questions))
            for which, name, questions in zip(_RUNS, pair, extra, strict=True)
            if questions
        ]
        asked = runs if both[0].keys() == both[1].keys() else _shared(runs, pair)
        traits |= _cells(pair, matrix.traits, asked, _choice)
        grades |= _cells(pair, _grades, asked, lambda grade: str(grade or tables.NOTHING))
    for at, (which, run) in enumerate(zip(_RUNS, runs, strict=True)):
        alone = set(run.subjects) - {pair[at] for pair in compared}
        if not between:
            only += [(which, name, len(_answers(run, name))) for name in sorted(alone)]
    order = ["new failure", "changed", "fixed"]
    changes.sort(key=lambda change: order.index(change.kind))
    return Difference(runs, compared, tuple(changes), traits, grades, tuple(only))


def _answers(run: Run, subject: str) -> dict[str, Verdict]:
    return {v.question: v for v in run.verdicts if v.subject == subject}


def _shared(runs: tuple[Run, Run], pair: Pair) -> tuple[Run, Run]:
    """Return the runs with the questions alone that both asked of a pair.

    No trait names its question: it is shared if it was measured at the same place in both.
    """
    questions = [_answers(run, name).keys() for run, name in zip(runs, pair, strict=True)]
    places = [
        {_place(t) for t in run.traits if t.subject == name}
        for run, name in zip(runs, pair, strict=True)
    ]
    first, second = (
        replace(
            run,
            verdicts=tuple(v for v in run.verdicts if v.question in questions[0] & questions[1]),
            traits=tuple(t for t in run.traits if _place(t) in places[0] & places[1]),
        )
        for run in runs
    )
    return first, second


def _place(trait: Trait) -> tuple[str, str]:
    return trait.trait, repr(sorted(trait.where.items()))


def _choice(choices: Sequence[matrix.Choice] | None) -> str:
    return tables.chosen(choices or ()).text


def _grades(run: Run) -> dict[str, dict[str, str | None]]:
    return {
        f"{layer} {dtype}".strip(): {s: grade.grade for s, grade in cells.items()}
        for (layer, dtype), cells in matrix.grades(run).items()
    }


def _named(pair: Pair) -> str:
    return pair[0] if pair[0] == pair[1] else " / ".join(pair)


def _tables(found: Difference) -> list[Table]:
    verdicts = tuple(
        (
            Cell(change.kind),
            Cell(_named(change.pair)),
            Cell(change.after.layer),
            Cell(change.after.question),
            Cell(change.before.verdict, change.before.verdict),
            Cell(change.after.verdict, change.after.verdict),
            Cell(tables.happened(change.after) or tables.happened(change.before)),
        )
        for change in found.changes
    )
    head = ("change", "subject", "layer", "question", "before", "after", "what")
    made = [Table("Verdicts", head, verdicts)]
    for title, what, cells in (
        ("Traits", "trait", found.traits),
        ("Precision", "layer", found.grades),
    ):
        rows = tuple(
            tuple(map(Cell, (_named(pair), row, *texts))) for (pair, row), texts in cells.items()
        )
        made.append(Table(title, ("subject", what, "before", "after"), rows))
    return [table for table in made if table.rows]


def _closing(found: Difference) -> str:
    kinds = [change.kind for change in found.changes]
    counts = ", ".join(
        f"{kinds.count(kind)} {name}"
        for kind, name in (
            ("new failure", "new failures"),
            ("fixed", "fixed"),
            ("changed", "changed otherwise"),
        )
    )
    alone = ", ".join(
        f"{count} question{'s' * (count != 1)} of {subject} (the {which})"
        for which, subject, count in found.only
    )
    closing = f"{', '.join(map(_named, found.pairs))}: {counts}; {len(found.traits)} traits differ"
    return f"asked in one run alone, and not compared: {alone}\n\n{closing}" if alone else closing


FORMATS = {"table": render.terminal_table, "markdown": render.markdown_table}
"""Every format of a comparison by its name: how it shows one table."""


def text(found: Difference, form: str = "table") -> str:
    """Return a comparison in one of ``FORMATS``."""
    parts = ["# Comparison\n"] if form == "markdown" else []
    for name, run in zip(_RUNS, found.runs, strict=True):
        if banner := tables.banner(run):
            parts.append(f"{name} run: {banner}\n")
    parts += map(FORMATS[form], _tables(found))
    return "\n".join([*parts, _closing(found)]) + "\n"
