"""A run for GitHub Actions: a summary of the step, and annotations in its log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from cnnformance.reports import brief, causes, markdown, matrix, tables
from cnnformance.reports.records import Run

_LARGEST = 1_000_000
"""Bytes of a summary: GitHub drops one that is larger than 1 MiB."""
_ANNOTATIONS = 10
"""The annotations of a kind that GitHub shows of a step."""
_LONGEST = 2000
"""Characters of the message of an annotation."""


def summary(run: Run) -> str:
    """Return the summary of a run in Markdown: what fails unfolds; it is never too large.

    What has no room is left out, and counted in the last line.
    """
    lines = [*filter(None, [brief.banner(run), brief.closing(run), brief.shortfall(run)])]
    shown = [tables.subjects(run), tables.layers(run), tables.findings(run)]
    shown += [tables.divergences(run), tables.unanswered(run)]
    parts = ["# Conformance\n", *(f"{markdown.escape(line)}\n" for line in lines)]
    parts += [markdown.table(table) for table in shown if table.rows]
    parts += [_unfolding(n, found) for n, found in enumerate(causes.findings(run), start=1)]
    return _within(parts, _LARGEST)


def _within(parts: Sequence[str], largest: int) -> str:
    kept: list[str] = []
    left = largest - 200  # room for the last line
    for part in parts:
        if (size := len(part.encode()) + 1) <= left:
            kept.append(part)
            left -= size
    if dropped := len(parts) - len(kept):
        kept.append(f"{dropped} tables or findings had no room here: `cnnformance report` has all.")
    return "\n".join(kept) + "\n"


def _unfolding(number: int, finding: causes.Finding) -> str:
    """Return all on the smallest case of a finding, which unfolds."""
    told = [
        f"**{markdown.escape(each.label)}**"
        + (markdown.fenced(each.text) if each.block else f": {markdown.escape(each.text)}\n")
        for each in tables.details(finding.shortest)
    ]
    heading = escape(" ".join(tables.sentence(finding).split()))
    return "\n".join([f"<details><summary>{number}. {heading}</summary>\n", *told, "</details>\n"])


def annotated(run: Run) -> str:
    """Return the lines by which a step annotates its run: an error for each finding.

    There are no more than GitHub shows: the last counts the others. That a run is partial is a
    warning, and what it came to a notice.
    """
    return "\n".join([*_errors(run), *_notes(run), ""])


def _errors(run: Run) -> Iterator[str]:
    found = causes.findings(run)
    most = len(found) if len(found) <= _ANNOTATIONS else _ANNOTATIONS - 1
    for finding in found[:most]:
        title = f"{finding.subject}: {finding.layer}, {finding.effect}"
        yield _command("error", tables.sentence(finding), title, _file(finding.subject))
    if rest := found[most:]:
        yield _command("error", f"and {len(rest)} more findings: see the report", "conformance")


def _notes(run: Run) -> Iterator[str]:
    if banner := brief.banner(run):
        yield _command("warning", banner, "conformance")
    counts = ", ".join(f"{n} {name}" for name, n in matrix.counts(run.verdicts).items())
    yield _command("notice", counts or "nothing recorded", "conformance")


def _file(subject: str) -> str:
    """Return the file that a subject is defined in, if its name states one."""
    path, python, _ = subject.partition(".py:")
    return f"{path}.py" if python else ""


def _command(kind: str, message: str, title: str, file: str = "") -> str:
    """Return a workflow command, with what would end a field or the command escaped."""
    given = {"file": file, "title": title}
    fields = ",".join(f"{k}={_escape(v, property_=True)}" for k, v in given.items() if v)
    return f"::{kind} {fields}::{_escape(message[:_LONGEST])}"


def _escape(text: str, *, property_: bool = False) -> str:
    marks = "%\r\n:," if property_ else "%\r\n"
    return "".join(f"%{ord(c):02X}" if c in marks else c for c in text)
