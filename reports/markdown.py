"""Markdown of what others wrote: tables and blocks in which every text stays text."""

from __future__ import annotations

import re

from cnnformance.reports.tables import Table


def escape(text: str) -> str:
    """Return a text on one line, without what Markdown or HTML would read as a mark."""
    plain = " ".join(text.split()).replace("\\", "\\\\")
    marked = re.sub(r"([|*`\[\]~$]|(?<!\w)_|_(?!\w))", r"\\\1", plain)
    return marked.replace("&", "&amp;").replace("<", "&lt;")


def table(shown: Table) -> str:
    """Return a table under a heading."""
    lines = [tuple(map(escape, shown.head)), tuple("---" for _ in shown.head)]
    lines += [tuple(escape(cell.text) for cell in row) for row in shown.rows]
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([f"## {escape(shown.title)}", "", head, *rest, ""])


def fenced(text: str) -> str:
    """Return a text as a block of code, in a fence that is longer than any inside."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"\n{fence}\n{text}\n{fence}\n"
