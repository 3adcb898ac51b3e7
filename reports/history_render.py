"""Every format of a history, by its name: tables, and the report on its run for browsers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping

from cnnformance.reports import (
    brief,
    history,
    markdown,
    page,
    render,
    spreadsheet,
    summary,
    tables,
)
from cnnformance.reports.history import History
from cnnformance.reports.printable import cleaned
from cnnformance.reports.records import encode
from cnnformance.reports.tables import Table


def told(found: History) -> list[str]:
    """Return what there is to say below the table: what was not run, and how much was asked."""
    changed = sum(row.changed for row in found.rows)
    count = f"{changed} of {len(found.rows)} changed over {len(found.versions)} versions"
    return [*summary.passed_over(found.run), *filter(None, [brief.shortfall(found.run)]), count]


def _shown(found: History, table: Callable[[Table], str], line: Callable[[str], str]) -> str:
    parts = [line(said) for said in filter(None, [brief.banner(found.run)])]
    parts += [
        table(shown) for shown in (tables.subjects(found.run), history.table(found)) if shown.rows
    ]
    says = (f"- {line(row.id)}: {line(row.says)}" for row in found.rows)
    lines = [*says, "", *map(line, [*told(found), brief.closing(found.run)])]
    return "\n".join([*parts, *lines]) + "\n"


def _json(found: History) -> str:
    data = {
        "name": found.name,
        "versions": found.versions,
        "profile": found.run.header.profile,
        "seed": found.run.header.seed,
        "partial": found.run.partial,
        "rows": [
            {
                "what": row.id,
                "verdict": row.verdict,
                "layers": row.layers,
                "says": row.says,
                "recorded": row.entry,
                "change": row.change,
                "versions": row.versions,
                "seen": {
                    version: {
                        "state": cell.state,
                        "questions": [v.question for v in cell.verdicts],
                        "why": cell.why,
                    }
                    for version, cell in zip(found.versions, row.cells, strict=True)
                },
            }
            for row in found.rows
        ],
        "told": told(found),
    }
    return json.dumps(encode(data), indent=1, allow_nan=False) + "\n"


def _csv(found: History) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    table = history.table(found)
    writer.writerow([*map(spreadsheet.safe, table.head), "versions", "says"])
    for row, shown in zip(found.rows, table.rows, strict=True):
        texts = (*(cell.text for cell in shown), row.versions, row.says)
        writer.writerow("" if text == tables.NOTHING else spreadsheet.safe(text) for text in texts)
    return file.getvalue()


def _page(found: History) -> str:
    return page.render(found.run, found)


FORMATS: Mapping[str, Callable[[History], str]] = {
    "table": lambda found: _shown(cleaned(found), render.terminal_table, str),
    "markdown": lambda found: _shown(cleaned(found), markdown.table, markdown.escape),
    "json": _json,  # which escapes all that is not ASCII
    "html": lambda found: _page(cleaned(found)),
    "csv": lambda found: _csv(cleaned(found)),
}
"""A function from a history to its text."""
