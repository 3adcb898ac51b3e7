"""Reports for terminals, Markdown and programs; ``page`` makes the one for browsers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence

from tabulate import tabulate

from cnnformance.reports import (
    brief,
    causes,
    claims,
    credentials,
    declined,
    divergences,
    markdown,
    matrix,
    modes,
    page,
    tables,
)
from cnnformance.reports.clause_views import specification
from cnnformance.reports.history import History
from cnnformance.reports.printable import cleaned
from cnnformance.reports.records import Run, encode
from cnnformance.reports.tables import Table
from cnnformance.spec.reading import DataError

_NARROWEST = 14
"""Columns are not wrapped to fewer characters than this."""


def terminal_table(table: Table) -> str:
    """Return a table as text, wrapped to the width of the terminal, or to 120 columns."""
    width = shutil.get_terminal_size((120, 24)).columns
    rows = [[cell.text for cell in row] for row in table.rows]
    longest = [max(map(len, column)) for column in zip(table.head, *rows, strict=True)]
    widths: list[int | None] = [max(_NARROWEST, size) for size in _fitted(longest, width)]
    text = tabulate(rows, table.head, tablefmt="simple", disable_numparse=True, maxcolwidths=widths)
    return f"{table.title}\n\n{text}\n"


def _fitted(longest: Sequence[int], width: int) -> list[int]:
    """Return column widths that together fit, shrinking the widest columns alike."""
    room = width - 2 * len(longest)
    limit = next(
        (cap for cap in range(max(longest), 0, -1) if sum(min(n, cap) for n in longest) <= room), 1
    )
    return [min(n, limit) for n in longest]


def _lines(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, "", *lines, ""]) if lines else ""


def _findings(run: Run) -> list[str]:
    seen = [tables.met(found) for found in divergences.seen(run)]
    found = [tables.sentence(f) for f in causes.findings(run)]
    none = "No findings in what was recorded.\n" if run.partial else "No findings.\n"
    return [
        _lines("Findings", found) or none,
        _lines("Known divergences, seen again", seen),
    ]


def _explained(number: int, finding: causes.Finding) -> str:
    """Return all on the smallest case of a finding, and the names of the others."""
    first = finding.shortest
    lines = [tables.heading(first), f"    {'finding':<10}{number}"]
    for detail in tables.details(first):
        text = detail.text.replace("\n", f"\n{'':14}")
        label = f"    {detail.label}\n{'':14}" if detail.block else f"    {detail.label:<10}"
        lines.append(label + text)
    others = [name for name in finding.questions if name != first.question]
    lines += [f"    {'likewise':<10}{name}" for name in others]
    return "\n".join([*lines, ""])


def _terminal(run: Run) -> str:
    told = [*tables.tables(run, telling=True), *modes.tables(run), *claims.tables(run)]
    shown = map(terminal_table, told)
    parts = [brief.banner(run), *shown, *_findings(run)]
    parts += [_explained(n, found) for n, found in enumerate(causes.findings(run), start=1)]
    return "\n".join(filter(None, [*parts, *_closing(run)])) + "\n"


def _closing(run: Run) -> list[str]:
    return list(filter(None, [brief.closing(run), brief.shortfall(run), _credentials()]))


def _credentials() -> str:
    try:
        return credentials.sentence(credentials.load())
    except DataError:  # a report stands without it
        return ""


def _markdown(run: Run) -> str:
    parts = ["# Conformance report", ""]
    if banner := brief.banner(run):
        parts += [f"**{markdown.escape(banner)}**", ""]
    parts += [text for line in _closing(run) for text in (markdown.escape(line), "")]
    both = [tables.findings(run), tables.divergences(run)]
    shown = [*tables.tables(run, both), *modes.tables(run), *claims.tables(run)]
    parts += [markdown.table(table) for table in shown]
    failing = tables.failures(run)
    parts += ["## Failures", ""] if failing else []
    for verdict in failing:
        parts += [f"### {markdown.escape(tables.heading(verdict))}", ""]
        for detail in tables.details(verdict):
            label = f"**{markdown.escape(detail.label)}**"
            whole = (
                markdown.fenced(detail.text)
                if detail.block
                else f"{markdown.escape(detail.text)}\n"
            )
            parts.append(f"{label}\n{whole}" if detail.block else f"{label}: {whole}")
        parts.append("")
    return "\n".join(parts)


def _finding(finding: causes.Finding) -> Mapping[str, object]:
    return {
        "verdict": finding.verdict,
        "subject": finding.subject,
        "layer": finding.layer,
        "effect": finding.effect,
        "where": finding.where,
        "clauses": finding.clauses,
        "questions": finding.questions,
        "what": tables.happened(finding.shortest),
    }


def _known(found: divergences.Seen) -> Mapping[str, object]:
    entry = found.entry
    return {
        "id": found.id,
        "subject": found.subject,
        "layers": found.layers,
        "questions": list(dict.fromkeys(v.question for v in found.verdicts)),
        "says": found.says,
        "class": entry.kind if entry else None,
        "versions": entry.versions if entry else None,
        "modes": entry.modes if entry else (),
        "seen": entry.seen if entry else None,
        "link": found.link,
        "what": tables.happened(found.verdicts[0]),
    }


def _modes(found: History) -> Mapping[str, object]:
    rows = {
        row.id: {
            mode: {"state": cell.state, "questions": [v.question for v in cell.verdicts]}
            for mode, cell in zip(found.versions, row.cells, strict=True)
        }
        for row in found.rows
    }
    return {"framework": found.name, "modes": found.versions, "differ": rows}


def _json(run: Run) -> str:
    data = {
        "partial": run.partial,
        "banner": brief.banner(run),
        "recorded": run.recorded,
        "missing": run.missing,
        "header": run.header,
        "footer": run.footer,
        "layers": {
            layer: {s: matrix.counts(v) for s, v in cells.items()}
            for layer, cells in matrix.by_layer(run).items()
        },
        "clauses": {
            clause: {s: matrix.counts(v) for s, v in cells.items()}
            for clause, cells in matrix.by_clause(run).items()
        },
        "traits": matrix.traits(run),
        "claims": claims.claims(run, specification()),
        "experiments": claims.experiments(run),
        "precision": [
            {"layer": layer, "dtype": dtype, "subjects": cells}
            for (layer, dtype), cells in matrix.grades(run).items()
        ],
        "proves_little": [
            {"layer": layer, "dtype": dtype, "sharpest": cells}
            for (layer, dtype), cells in matrix.proves_little(run).items()
        ],
        "cut_short": [
            {
                "subject": v.subject,
                "question": v.question,
                "asked": v.examples,
                "planned": v.planned,
            }
            for v in matrix.cut(run.verdicts)
        ],
        "unanswered": declined.reasons(run),
        "findings": [_finding(f) for f in causes.findings(run)],
        "known": [_known(found) for found in divergences.seen(run)],
        "modes": [_modes(found) for found in modes.modes(run)],
        "failures": tables.failures(run),
    }
    return json.dumps(encode(data), indent=1, allow_nan=False) + "\n"


FORMATS: Mapping[str, Callable[[Run], str]] = {
    "table": lambda run: _terminal(cleaned(run)),
    "markdown": lambda run: _markdown(cleaned(run)),
    "json": _json,  # which escapes all that is not ASCII, and keeps every text as it was recorded
    "html": lambda run: page.render(cleaned(run)),
}
"""Every format of a report by its name: a function from a run to the text."""


def render(run: Run, form: str = "table") -> str:
    """Return the report on a run in one of ``FORMATS``."""
    return FORMATS[form](run)
