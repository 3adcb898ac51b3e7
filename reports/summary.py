"""What the end of a run shows: at most ``MOST`` lines, as wide as the terminal.

All that is left out here, sentences, traits and single questions, stands in the whole report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from textwrap import wrap

from cnnformance.reports import brief, causes, divergences, matrix, tables
from cnnformance.reports.printable import cleaned
from cnnformance.reports.records import VERDICTS, Run, Verdict, VerdictName
from cnnformance.reports.tables import NOTHING, Cell

LETTERS: Mapping[VerdictName, str] = {
    "pass": ".",
    "known": "k",
    "unsupported": "u",
    "not-run": "n",
    "fail": "F",
    "crash": "C",
    "hang": "H",
    "error": "E",
}
"""The letter of each verdict, as a run shows its progress."""

MOST = 37
"""The most lines of a summary: 40 with the title above it, and where the record is below it."""

_MOST_FINDINGS = 10
_MOST_REASONS = 3
_MOST_SUBJECTS = 16
_FEW_LAYERS = 6
_WHOLE = "cnnformance report"

Line = tuple[Cell, ...]
"""The pieces of a line, each with the verdict that colours it."""


def lines(run: Run, width: int = 80) -> list[Line]:
    """Return the lines of the summary of a run.

    The matrix of layers, or of subjects where it is too wide; the findings and the recorded
    divergences, as many as there is room for; and what limits the verdicts. No word is broken, and
    a word alone may be wider than ``width``.
    """
    run = cleaned(run)
    head = [*_plain(brief.banner(run), width), *_matrix(run, width), *_plain(_legend(run), width)]
    tail = [line for said in _limits(run) for line in _plain(said, width, 1)]
    room = MOST - len(head) - len(tail)
    found = list(_findings(run, width, room))
    room -= len(found)
    every = [*head, *found, *_known(run, width, room), *tail]
    return [(*line[:-1], replace(line[-1], text=line[-1].text.rstrip())) for line in every]


def text(run: Run, width: int = 80) -> str:
    """Return the summary of a run as plain text."""
    return "".join(f"{''.join(cell.text for cell in line)}\n" for line in lines(run, width))


def _wrapped(said: str, width: int, most: int | None = None) -> list[str]:
    return wrap(
        said,
        width,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=most,
        placeholder=" ...",
    )


def _plain(said: str, width: int, most: int | None = None) -> list[Line]:
    return [(Cell(line),) for line in _wrapped(said, width, most)]


def _counted(verdicts: Sequence[Verdict]) -> Cell:
    """Return counts with the letters of their verdicts, the worst first; passes are bare."""
    counts = matrix.counts(verdicts)
    told = (f"{n}{'' if name == 'pass' else LETTERS[name]}" for name, n in counts.items())
    return Cell(" ".join(told) or NOTHING, matrix.worst(counts))


def _short(subjects: Sequence[str]) -> list[str]:
    """Return the names of subjects without their folders, where they stay apart."""
    names = [name.rpartition("/")[2] for name in subjects]
    return names if len(set(names)) == len(names) else list(subjects)


def _matrix(run: Run, width: int) -> list[Line]:
    """Return the matrix of layers and subjects; side by side in two halves where they fit."""
    layers = matrix.by_layer(run)
    head = [Cell(name) for name in ("layer", *_short(run.subjects))]
    rows = [
        [Cell(layer), *(_counted(cells.get(s, ())) for s in run.subjects)]
        for layer, cells in layers.items()
    ]
    middle = -(-len(rows) // 2)
    halves = [_panel([head, *rows[:middle]]), _panel([head, *rows[middle:]])]
    if (
        len(rows) > _FEW_LAYERS
        and _width([a + b for a, b in zip(*halves, strict=False)]) + 3 <= width
    ):
        left, right = halves
        beside = [*right, *[()] * (len(left) - len(right))]
        return [(*a, Cell("   "), *b) if b else a for a, b in zip(left, beside, strict=True)]
    whole = _panel([head, *rows])
    if _width(whole) <= width:
        return whole
    by_subject = matrix.grouped(run.verdicts, lambda v: v.subject)
    named = [[Cell(s), _counted(by_subject.get(s, ()))] for s in run.subjects[:_MOST_SUBJECTS]]
    rest = len(run.subjects) - len(named)
    more: list[Line] = [(Cell(f"and {rest} more subjects: {_WHOLE}"),)] if rest else []
    return [*_panel([[Cell("subject"), Cell("questions")], *named]), *more]


def _panel(rows: Sequence[Sequence[Cell]]) -> list[Line]:
    widths = [max(len(cell.text) for cell in column) for column in zip(*rows, strict=True)]
    gaps = ["  "] * (len(widths) - 1) + [""]
    return [
        tuple(
            Cell(cell.text.ljust(size) + gap, cell.verdict)
            for cell, size, gap in zip(row, widths, gaps, strict=True)
        )
        for row in rows
    ]


def _width(table: Iterable[Line]) -> int:
    return max(sum(len(cell.text) for cell in line) for line in table)


def _legend(run: Run) -> str:
    fallen = matrix.counts(run.verdicts)
    told = [f"{LETTERS[name]} {name}" for name in VERDICTS if fallen[name] and name != "pass"]
    told += ["bare pass"] if fallen["pass"] else []
    return f"{', '.join(told) or 'nothing recorded'}; {brief.asked(run)}"


def _findings(run: Run, width: int, room: int) -> Iterator[Line]:
    """Yield two lines at most for each finding, and leave room to tell of the divergences."""
    found = causes.findings(run)
    shown = max(1, min(_MOST_FINDINGS, (room - 3) // 2))
    for finding in found[:shown]:
        for line in _wrapped(tables.sentence(finding), width, most=2):
            yield (Cell(line, finding.verdict),)
    if (rest := len(found) - shown) > 0:
        yield (Cell(f"and {rest} more findings: {_WHOLE}", found[shown].verdict),)
    if not found:
        yield (Cell(f"No findings{' in what was recorded' if run.partial else ''}.", "pass"),)


def _known(run: Run, width: int, room: int) -> Iterator[Line]:
    """Yield a line for each recorded divergence that was seen again, those most met first."""
    seen = matrix.grouped(divergences.seen(run), lambda found: found.id)
    if not seen:
        return
    met = {id_: sum(len(found.verdicts) for found in same) for id_, same in seen.items()}
    ordered = sorted(seen, key=lambda id_: -met[id_])
    yield (Cell(f"Recorded divergences, seen again in so many questions ({len(seen)}):"),)
    shown = len(ordered) if len(ordered) < room else max(0, room - 2)
    for id_ in ordered[:shown]:
        same = seen[id_]
        layers = dict.fromkeys(layer for found in same for layer in found.layers)
        subjects = [found.subject for found in same]
        told = "" if subjects == [id_.partition(".")[0]] else f" ({', '.join(subjects)})"
        line = f"{met[id_]:>4} {id_}: {', '.join(layers)}{told}"
        if len(line) > width and len(layers) > 1:
            line = f"{met[id_]:>4} {id_}: {len(layers)} layers{told}"
        yield (Cell(line, "known"),)
    if rest := len(ordered) - shown:
        yield (Cell(f"     and {rest} more: {_WHOLE}"),)


def _limits(run: Run) -> Iterator[str]:
    """Yield what a reader of the counts must know, a sentence each."""
    yield from filter(None, [brief.shortfall(run)])
    yield from passed_over(run)
    if little := Counter(s for cells in matrix.proves_little(run).values() for s in cells):
        places = ", ".join(f"{n} of {subject}" for subject, n in little.items())
        yield f"A pass proves little, pairs of layer and dtype: {places}"
    torn = Counter(
        subject
        for cells in matrix.traits(run).values()
        for subject, choices in cells.items()
        if sum(choice.values for choice in choices) > 1
    )
    if torn:
        places = ", ".join(f"{n} in {subject}" for subject, n in torn.items())
        yield f"Traits that are inconsistent: {places}"


def passed_over(run: Run) -> Iterator[str]:
    """Yield which questions were not run, and why, and which subjects were asked less."""
    reasons = Counter(
        (v.subject, v.message.partition(":")[0] if v.examples else v.message)
        for v in run.verdicts
        if v.verdict == "not-run"
    )
    for (name, reason), count in reasons.most_common(_MOST_REASONS):
        why = reason.rpartition(" cannot be had: ")[2]  # of a version; the name says which
        yield f"{name}: {count} question{'s' * (count > 1)} not run: {why}"
    if (rest := len(reasons) - _MOST_REASONS) > 0:
        yield f"and {rest} more reasons why questions were not run: {_WHOLE}"
    if costly := sorted({v.subject for v in run.verdicts if v.compiles}):
        verb = "compiles" if len(costly) == 1 else "compile"
        yield f"{', '.join(costly)} {verb} for each new shape: asked many values in few shapes"
