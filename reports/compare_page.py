"""A comparison for browsers: one file that needs no other, and runs nothing."""

from __future__ import annotations

from pathlib import Path

import jinja2

from cnnformance.reports import compare_text
from cnnformance.reports.compare import Comparison

TEMPLATE = Path(__file__).with_name("templates") / "compare.html"


def page(found: Comparison) -> str:
    """Return a comparison as one HTML file without scripts or outside resources."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        found=found,
        names=found.names,
        words=compare_text.WORDS,
        short=compare_text.short,
        agreements=compare_text.agreements,
        headed=compare_text.headed,
        smallest=compare_text.smallest,
    )
