"""What a report says, as plain text in tables: one content for every format."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from textwrap import shorten
from typing import Any

from cnnformance.reports import arrays, causes, matrix
from cnnformance.reports.declined import reasons
from cnnformance.reports.divergences import Seen, seen
from cnnformance.reports.reasons import MEANINGS
from cnnformance.reports.records import Run, Verdict, VerdictName
from cnnformance.spec.clauses import Clause, load
from cnnformance.spec.reading import DataError

NOTHING = "-"
"""Shown where nothing was recorded: neither a pass nor a failure."""


@dataclass(frozen=True)
class Cell:
    """A piece of text, with the verdict that colours it."""

    text: str
    verdict: VerdictName | None = None


@dataclass(frozen=True)
class Table:
    """A titled table; rows are as long as the head."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Detail:
    """One labelled fact of a failure; ``block`` keeps its lines."""

    label: str
    text: str
    block: bool = False


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> Table:
    cells = [tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in rows]
    return Table(title, tuple(head), tuple(cells))


@cache
def _clauses() -> Mapping[str, Clause]:
    try:
        return load().clauses
    except DataError:  # the records stand without the paraphrases
        return {}


def clause(name: str) -> str:
    """Return a clause's id, level, section and paraphrase; the id alone if it is unknown."""
    found = _clauses().get(name)
    return f"{name} ({found.level}, {found.section}): {found.says}" if found else name


def counted(verdicts: Collection[Verdict]) -> Cell:
    """Return the counts of some verdicts, coloured by the worst; a dash for none."""
    found = matrix.counts(verdicts)
    if not found:
        return Cell(NOTHING)
    text = ", ".join(f"{n} {name}" for name, n in found.items())
    short = len(matrix.cut(verdicts))
    notes = [f"{short} cut short"] if short else []
    notes += ["composed"] if any(v.composed for v in verdicts) else []
    return Cell(f"{text} ({', '.join(notes)})" if notes else text, matrix.worst(found))


def subjects(run: Run) -> Table:
    """Return the table of subjects: their versions and verdicts."""
    rows: list[list[Cell | str]] = []
    for s in run.header.subjects:
        answered = counted([v for v in run.verdicts if v.subject == s.subject])
        rows.append([s.subject, s.version, answered])
    return _table("Subjects", ["subject", "version", "verdicts"], rows)


def layers(run: Run) -> Table:
    """Return the matrix of layers by subjects."""
    rows: list[list[Cell | str]] = [
        [name, *(counted(cells.get(s, [])) for s in run.subjects)]
        for name, cells in matrix.by_layer(run).items()
    ]
    return _table("Layers", ["layer", *run.subjects], rows)


def clauses(run: Run, *, telling: bool = False) -> Table:
    """Return the matrix of clauses by subjects: all of the specification, and all recorded.

    If ``telling``, it has those alone of which a subject did more, or less, than pass.
    """
    found = matrix.by_clause(run)
    rows: list[list[Cell | str]] = []
    listed = () if isinstance(run, causes.Part) else _clauses()
    for name in dict.fromkeys([*listed, *found]):
        known = _clauses().get(name)
        if known is not None and known.kind == "narrative" and name not in found:
            cells = [Cell("narrative") for _ in run.subjects]
        else:
            cells = [counted(found.get(name, {}).get(s, [])) for s in run.subjects]
        if not telling or any(cell.verdict not in (None, "pass") for cell in cells):
            rows.append([name, known.says if known else "", *cells])
    title = "Clauses that did not pass everywhere" if telling else "Clauses"
    return _table(title, ["clause", "says", *run.subjects], rows)


def chosen(choices: Sequence[matrix.Choice]) -> Cell:
    """Return the choices of one subject for one trait."""
    if sum(c.values for c in choices) > 1:
        each = (f"{c.value} ({', '.join(c.where) or f'{c.measured} times'})" for c in choices)
        return Cell(f"inconsistent: {'; '.join(each)}")
    return Cell(choices[0].value if choices else NOTHING)


def traits(run: Run, *, telling: bool = False) -> Table:
    """Return the matrix of traits by subjects.

    If ``telling``, it has those alone in which subjects differ, or one is inconsistent.
    """
    rows: list[list[Cell | str]] = [
        [name, *(chosen(cells.get(s, ())) for s in run.subjects)]
        for name, cells in matrix.traits(run).items()
        if not telling or len({choice.value for each in cells.values() for choice in each}) > 1
    ]
    title = "Traits in which subjects differ, or one is inconsistent" if telling else "Traits"
    return _table(title, ["trait", *run.subjects], rows)


def graded(grade: matrix.Grade | None) -> Cell:
    """Return a precision grade and the share of the bound used; of a faulty cell, its verdict."""
    if grade is None:
        return Cell(NOTHING)
    exact = grade.grade is None and grade.share == 0
    share = "" if grade.share is None or exact else part(grade.share)
    text = ", ".join(filter(None, [grade.verdict, grade.grade, share]))
    return Cell(text or "exact", grade.verdict)


def part(share: float) -> str:
    """Return a share of the bound in the fewest digits, two or more, that keep its side of 1."""
    digits = 2
    while share > 1 >= float(f"{share:.{digits}g}"):
        digits += 1
    text = f"{share:.{digits}g}"
    return "1.00 of the bound (within)" if share < 1 <= float(text) else f"{text} of the bound"


def precision(run: Run) -> Table:
    """Return the matrix of layer and dtype by subjects: loosest grade, largest share."""
    rows: list[list[Cell | str]] = [
        [layer, dtype, *(graded(cells.get(s)) for s in run.subjects)]
        for (layer, dtype), cells in matrix.grades(run).items()
    ]
    return _table("Precision", ["layer", "dtype", *run.subjects], rows)


def proves_little(run: Run) -> Table:
    """Return where a pass proves little: the sharpest comparison of each subject."""
    rows: list[list[Cell | str]] = [
        [layer, dtype, *(blunt(cells, subject) for subject in run.subjects)]
        for (layer, dtype), cells in matrix.proves_little(run).items()
    ]
    head = ["layer", "dtype", *run.subjects]
    return _table("Where a pass proves little: the error allowed, over the answer", head, rows)


def blunt(cells: Mapping[str, float | None], subject: str) -> Cell:
    """Return how sharp the sharpest comparison was; a dash where a pass proves something."""
    if subject not in cells:
        return Cell(NOTHING)
    sharpest = cells[subject]
    return Cell("no value compared" if sharpest is None else f"{sharpest:.2g} at best")


def short(run: Run) -> Table:
    """Return the verdicts that stand on fewer cases than planned, by layer and subject."""
    rows: list[list[Cell | str]] = []
    for layer, cells in matrix.by_layer(run).items():
        for subject, verdicts in cells.items():
            if found := matrix.cut(verdicts):
                asked = sum(v.examples for v in found)
                planned = sum(v.planned for v in found)
                rows.append([layer, subject, str(len(found)), f"{asked:,}", f"{planned:,}"])
    return _table("Cut short", ["layer", "subject", "questions", "asked", "planned"], rows)


def composed(run: Run) -> Table:
    """Return the layers that a framework lacks, and what they were made of."""
    found = {(v.layer, v.subject, v.composed): None for v in run.verdicts if v.composed}
    rows = [[layer, subject, note or ""] for layer, subject, note in sorted(found)]
    return _table("Composed layers", ["layer", "subject", "made of"], rows)


def unanswered(run: Run) -> Table:
    """Return why questions have no answer, one reason a row, with what it is about."""
    rows: list[list[Cell | str]] = [
        [r.subject, Cell(r.verdict, r.verdict), str(r.questions), r.text, ", ".join(r.layers)]
        for r in reasons(run)
    ]
    head = ["subject", "verdict", "questions", "reason", "layers"]
    return _table("Not offered, and not run", head, rows)


def happened(verdict: Verdict) -> str:
    """Return in one line what a verdict saw."""
    failure, text = verdict.failure, verdict.message
    if failure and not text and (failure.expected or failure.actual):
        text = f"expected {failure.expected}, got {failure.actual}"
    elif failure and not text:
        text = (failure.detail.strip().splitlines() or [""])[-1]
    return " ".join(text.split())


def sentence(finding: causes.Finding) -> str:
    """Return a finding in one line, shortened: the details have all of it."""
    where = f" where {' and '.join(finding.where)}" if finding.where else ""
    n = len(finding.questions)
    asked = f"{n} question{'s' if n > 1 else ''}"
    first, more = finding.clauses[:1], len(finding.clauses) - 1
    ids = "".join(first) + (f" and {more} more" if more > 0 else "")
    return (
        f"{finding.verdict}: {finding.subject} {finding.layer}, {finding.effect}{where} "
        f"({asked}; {ids}): "
        f"{shorten(happened(finding.shortest), 120, placeholder=' ...')}"
    )


def met(divergence: Seen) -> str:
    """Return in one line what a recorded divergence is, and how many questions met it."""
    n = len(divergence.verdicts)
    asked = f"{n} question{'s' if n > 1 else ''} of {', '.join(divergence.layers)}"
    about = "; ".join(filter(None, [divergence.about, asked]))
    said = f"known: {divergence.subject}, {divergence.id} ({about}): {divergence.says}"
    return f"{said} {divergence.link}".rstrip()


def divergences(run: Run) -> Table:
    """Return the recorded divergences that were seen again, one a row."""
    rows: list[list[Cell | str]] = []
    for found in seen(run):
        entry = found.entry
        about = [entry.kind, entry.versions, entry.seen] if entry else [""] * 3
        asked = [", ".join(found.layers), str(len(found.verdicts))]
        rows.append(
            [Cell(found.id, "known"), found.subject, *asked, found.says, *about, found.link]
        )
    head = ["known", "subject", "layers", "questions", "says", "class", "versions", "seen", "link"]
    return _table("Known divergences, seen again", head, rows)


def findings(run: Run) -> Table:
    """Return the findings, one a row."""
    head = ["verdict", "subject", "layer", "effect", "where", "questions", "clauses", "what"]
    rows: list[list[Cell | str]] = [
        [
            Cell(f.verdict, f.verdict),
            f.subject,
            f.layer,
            f.effect,
            " and ".join(f.where),
            str(len(f.questions)),
            ", ".join(f.clauses),
            happened(f.shortest),
        ]
        for f in causes.findings(run)
    ]
    return _table("Findings", head, rows)


def tables(run: Run, found: Sequence[Table] = (), *, telling: bool = False) -> list[Table]:
    """Return every table of a report that has a row, in reading order, ``found`` included.

    If ``telling``, clauses that all pass and traits that all share are left out.
    """
    all_ = [
        subjects(run),
        layers(run),
        *found,
        traits(run, telling=telling),
        precision(run),
        proves_little(run),
        short(run),
        composed(run),
        unanswered(run),
        clauses(run, telling=telling),
    ]
    return [table for table in all_ if table.rows]


def failures(run: Run) -> list[Verdict]:
    """Return the failing verdicts in the order of the findings, the smallest case first."""
    return [verdict for finding in causes.findings(run) for verdict in finding.ordered]


def heading(verdict: Verdict) -> str:
    """Return which subject failed which question, and how."""
    effect = f" ({verdict.failure.effect})" if verdict.failure else ""
    return f"{verdict.verdict}{effect}: {verdict.subject}, {verdict.layer}, {verdict.question}"


def called(fields: Mapping[str, Any]) -> str:
    """Return a layer as its call, without what is absent: padding, dilation, options."""

    def absent(key: str, value: Any) -> bool:
        sizes = value if isinstance(value, list) else ()
        zero = key == "padding" and value == [[0, 0]] * len(sizes)
        one = key == "dilation" and value == [1] * len(sizes)
        usual = value is (key == "bias")  # an option that is off; a layer has a bias unless told
        return value is None or usual or value == [] or zero or one

    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    kept = (f"{k}={tuples(v)!r}" for k, v in fields.items() if k != "type" and not absent(k, v))
    return f"{fields.get('type', 'layer')}({', '.join(kept)})"


def _told(details: Sequence[Detail]) -> list[Detail]:
    return [detail for detail in details if detail.text]


def details(verdict: Verdict) -> list[Detail]:
    """Return all that is recorded on a failure, from its clauses to the script that shows it."""
    told = [Detail("clause", clause(name)) for name in verdict.clauses]
    told.append(Detail("message", verdict.message))
    if verdict.composed:
        told.append(Detail("composed", verdict.composed))
    if (failure := verdict.failure) is None:
        return _told(told)
    case = failure.case or {}
    told += [Detail("layer", called(layer)) for layer in case.get("layers", ())]
    told.append(Detail("case", ", ".join(f"{k} {v}" for k, v in case.items() if k != "layers")))
    told += [Detail(name, arrays.text(array), block=True) for name, array in failure.arrays.items()]
    told += [
        Detail("at", str(failure.index) if failure.index is not None else ""),
        Detail("reason", MEANINGS[failure.reason] if failure.reason else ""),
        Detail("expected", failure.expected),
        Detail("actual", failure.actual),
        Detail("bound", failure.bound or ""),
        Detail("error", "" if failure.share is None else part(failure.share)),
        Detail("alone", "" if failure.alone is None else alone(again=failure.alone)),
        Detail("detail", failure.detail.rstrip(), block=True),
        Detail("script", (failure.script or "").rstrip(), block=True),
    ]
    return _told(told)


def alone(*, again: bool) -> str:
    """Return what the second try of a failure, in a process of its own, came to."""
    return (
        "failed again in a fresh process"
        if again
        else "did not fail again in a fresh process: it depends on what ran before, or on chance"
    )
