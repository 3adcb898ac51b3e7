"""Two runs, or two subjects of a run, held against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from cnnformance.reports import brief, markdown, matrix, render, tables
from cnnformance.reports.printable import cleaned
from cnnformance.reports.records import FAILING, RecordError, Run, Trait, Verdict
from cnnformance.reports.tables import Cell, Table
from cnnformance.spec.suggestions import instead

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
    def new(self) -> bool:
        """Whether it fails, and did not before."""
        return self.after.verdict in FAILING and self.before.verdict not in FAILING

    @property
    def kind(self) -> str:
        """``regression``, ``repair`` (failed, passes), or ``changed`` (anything else).

        Of two subjects: ``second fails``, ``first fails`` (the other passes), or ``differs``.
        """
        repaired = self.before.verdict in FAILING and self.after.verdict == "pass"
        kinds = _KINDS[_alike(self.pair)]
        return kinds[0] if self.new else kinds[2] if repaired else kinds[1]


_KINDS = {
    True: ("regression", "changed", "repair"),
    False: ("second fails", "differs", "first fails"),
}
"""The kinds of changes, of one subject and of two, in the order in which they are shown."""


@dataclass(frozen=True)
class Difference:
    """What changed from one run to another, in what both asked.

    ``traits`` and ``grades`` map what changed, in words, to before and after; ``only`` lists
    (run, subject, number of questions) for what one run alone has a verdict on, and ``appeared``
    the failing ones that the second alone has.
    """

    runs: tuple[Run, Run]
    pairs: tuple[Pair, ...]
    changes: tuple[Change, ...]
    traits: Mapping[tuple[Pair, str], tuple[str, str]]
    grades: Mapping[tuple[Pair, str], tuple[str, str]]
    only: tuple[tuple[str, str, int], ...]
    appeared: tuple[Verdict, ...] = ()

    @property
    def one_subject(self) -> bool:
        """Whether the same subjects are compared, maybe in other versions."""
        return all(map(_alike, self.pairs))

    def fails(self, on: str) -> bool:
        """Whether a word holds, or the second run alone is partial.

        The words are ``new`` (a failure that the first run has not), ``changed`` (that, or another
        answer) and ``any`` (any difference, and questions that one run alone asked).
        """
        first, second = self.runs
        new = bool(self.appeared) or any(change.new for change in self.changes)
        cut = second.partial and not first.partial
        if on == "new":
            return new or cut
        if on == "changed":
            return new or cut or bool(self.changes)
        return cut or bool(self.changes or self.traits or self.grades or self.only)


def _alike(pair: Pair) -> bool:
    """Whether a pair is one subject, maybe in two versions."""
    return _bare(pair[0]) == _bare(pair[1])


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
            said = f"{run.path}: no subject {name!r}; {instead(name, run.subjects)}"
            raise RecordError(said)
    compared = (between,) if between else pairs(first, second)
    if not compared:
        names = " and ".join(", ".join(run.subjects) or "none" for run in runs)
        raise RecordError(f"no subject in common ({names}); name two with --between")
    changes: list[Change] = []
    only: list[tuple[str, str, int]] = []
    appeared: list[Verdict] = []
    traits: dict[tuple[Pair, str], tuple[str, str]] = {}
    grades: dict[tuple[Pair, str], tuple[str, str]] = {}
    for pair in compared:
        before, after = both = _answers(first, pair[0]), _answers(second, pair[1])
        changes += [
            Change(pair, verdict, after[question])
            for question, verdict in before.items()
            if question in after and _told(pair, after[question]) != _told(pair, verdict)
        ]
        appeared += [v for q, v in after.items() if q not in before and v.verdict in FAILING]
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
            if run is second:
                appeared += [v for v in run.verdicts if v.subject in alone and v.verdict in FAILING]
    changes.sort(key=lambda change: _KINDS[_alike(change.pair)].index(change.kind))
    return Difference(runs, compared, tuple(changes), traits, grades, tuple(only), tuple(appeared))


def _told(pair: Pair, verdict: Verdict) -> str:
    """Return what counts of an answer: two subjects have other divergences, and effects."""
    return _answer(verdict) if _alike(pair) else verdict.verdict


def _answer(verdict: Verdict) -> str:
    """Return a verdict with what it stands on: the effect, or the divergences seen again."""
    effects = [f.effect for f in (verdict.failure, *verdict.others) if f]
    told = verdict.known or (dict.fromkeys(effects) if verdict.verdict in FAILING else ())
    return f"{verdict.verdict} ({', '.join(told)})" if told else verdict.verdict


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
            Cell(_answer(change.before), change.before.verdict),
            Cell(_answer(change.after), change.after.verdict),
            Cell(tables.happened(change.after) or tables.happened(change.before)),
        )
        for change in found.changes
    )
    head = ("change", "subject", "layer", "question", "before", "after", "what")
    appeared = tuple(
        tuple(map(Cell, (v.subject, v.layer, v.question, _answer(v), tables.happened(v))))
        for v in found.appeared
    )
    made = [
        Table("Verdicts", head, verdicts),
        Table(
            "Failures of what the second run alone asked",
            ("subject", "layer", "question", "verdict", "what"),
            appeared,
        ),
    ]
    for title, what, cells in (
        ("Traits", "trait", found.traits),
        ("Precision", "layer", found.grades),
    ):
        rows = tuple(
            tuple(map(Cell, (_named(pair), row, *texts))) for (pair, row), texts in cells.items()
        )
        made.append(Table(title, ("subject", what, "before", "after"), rows))
    return [table for table in made if table.rows]


def _closing(found: Difference) -> list[str]:
    kinds = [change.kind for change in found.changes]
    worse, other, better = (kinds.count(kind) for kind in _KINDS[found.one_subject])
    if found.one_subject:
        counts = (
            f"{worse} regression{'s' * (worse != 1)}, {better} repair{'s' * (better != 1)}, "
            f"{other} changed otherwise"
        )
    else:
        counts = (
            f"{worse} where the second alone fails, {better} where the first alone fails, "
            f"{other} that differ otherwise"
        )
    alone = ", ".join(
        f"{count} question{'s' * (count != 1)} of {subject} (the {which})"
        for which, subject, count in found.only
    )
    traits = len(found.traits)
    differ = f"{traits} trait{'s differ' if traits != 1 else ' differs'}"
    closing = f"{', '.join(map(_named, found.pairs))}: {counts}; {differ}"
    return [f"asked in one run alone, and not compared: {alone}"] * bool(alone) + [closing]


def unlike(found: Difference) -> list[str]:
    """Return in what the runs were not alike, so that more may differ than the subjects."""
    first, second = (run.header for run in found.runs)
    told = [
        ("profiles", first.profile, second.profile, "more was asked of one than of the other"),
        ("seeds", first.seed, second.seed, "other cases were drawn"),
        ("versions of cnnformance", first.cnnformance, second.cnnformance, "questions may differ"),
        ("platforms", first.platform, second.platform, "kernels may differ"),
    ]
    lines = [f"{what} differ: {was}, then {now}: {so}" for what, was, now, so in told if was != now]
    versions = [{s.subject: s.version for s in header.subjects} for header in (first, second)]
    for pair in found.pairs:
        was, now = (of.get(name, "") for of, name in zip(versions, pair, strict=True))
        if _alike(pair) and was != now:
            lines.append(f"{_named(pair)}: version {was or 'unknown'}, then {now or 'unknown'}")
    return lines


def _line(text: str) -> str:
    return " ".join(text.split())


FORMATS: Mapping[str, tuple[Callable[[Table], str], Callable[[str], str]]] = {
    "table": (render.terminal_table, _line),
    "markdown": (markdown.table, markdown.escape),
}
"""Every format of a comparison by its name: how it shows a table, and a line."""


def text(found: Difference, form: str = "table") -> str:
    """Return a comparison in one of ``FORMATS``."""
    table, line = FORMATS[form]
    parts = ["# Comparison\n"] if form == "markdown" else []
    for name, run in zip(_RUNS, found.runs, strict=True):
        if banner := brief.banner(run):
            parts.append(f"{line(f'{name} run: {banner}')}\n")
    parts += [f"{line(told)}\n" for told in unlike(found)]
    parts += map(table, _tables(found))
    return "\n".join([*parts, *(f"{line(told)}\n" for told in _closing(found))])
