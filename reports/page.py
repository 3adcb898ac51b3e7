"""The report for browsers: one file that needs no other, and runs nothing."""

from __future__ import annotations

from html import escape
from string import Template

from cnnformance.reports import tables
from cnnformance.reports.records import Run, Verdict
from cnnformance.reports.tables import Cell, Detail, Table

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 2rem auto; padding: 0 1rem; max-width: 90rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border: 1px solid #8886; text-align: left; vertical-align: top; }
thead th { background: light-dark(#eee, #333); }
.pass { background: light-dark(#d8f3dc, #12391f); }
.known { background: light-dark(#fff3bf, #4a3d0a); }
.fail { background: light-dark(#ffd0d0, #5c1717); font-weight: 600; }
.crash, .hang { background: light-dark(#f0b3d9, #571442); font-weight: 600; }
.error { background: light-dark(#ffdcb0, #573208); font-weight: 600; }
.unsupported { background: light-dark(#e4e4e4, #3a3a3a); }
.not-run { border-style: dashed; font-style: italic; }
.banner { padding: .8rem 1rem; border: 2px solid #c60; font-weight: 600; }
pre { margin: 0; padding: .5rem; overflow-x: auto; background: #8882; }
summary { cursor: pointer; padding: .3rem .6rem; margin-top: .4rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .3rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; }
"""

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Conformance report</title>
<style>$style</style>
</head>
<body>
<h1>Conformance report</h1>
$banner<p>$closing</p>
$short$tables
$failures
</body>
</html>
""")


def _cell(cell: Cell, tag: str = "td") -> str:
    kind = f' class="{cell.verdict}"' if cell.verdict else ""
    return f"<{tag}{kind}>{escape(cell.text)}</{tag}>"


def _table(table: Table) -> str:
    head = "".join(_cell(Cell(text), "th") for text in table.head)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="wide"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _detail(detail: Detail) -> str:
    text = f"<pre>{escape(detail.text)}</pre>" if detail.block else escape(detail.text)
    return f"<dt>{escape(detail.label)}</dt><dd>{text}</dd>"


def _failure(verdict: Verdict) -> str:
    told = "\n".join(map(_detail, tables.details(verdict)))
    title = escape(tables.heading(verdict))
    kind = verdict.verdict
    return f'<details>\n<summary class="{kind}">{title}</summary>\n<dl>\n{told}\n</dl>\n</details>'


def render(run: Run) -> str:
    """Return the report as one HTML file without scripts, links or outside resources."""
    banner = tables.banner(run)
    failing = [_failure(verdict) for verdict in tables.failures(run)]
    return _PAGE.substitute(
        style=_STYLE,
        banner=f'<p class="banner">{escape(banner)}</p>\n' if banner else "",
        closing=escape(tables.closing(run)),
        short=f"<p>{escape(short)}</p>\n" if (short := tables.shortfall(run)) else "",
        tables="\n".join(map(_table, tables.tables(run, tables.both(run)))),
        failures="\n".join(["<h2>Failures</h2>", *failing] if failing else []),
    )
