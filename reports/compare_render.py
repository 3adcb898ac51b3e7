"""Every format of a comparison, by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cnnformance.reports import compare_page, compare_text
from cnnformance.reports.compare import Comparison, to_json
from cnnformance.reports.printable import cleaned

FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    "text": lambda found: compare_text.text(cleaned(found)),
    "markdown": lambda found: compare_text.markdown(cleaned(found)),
    "json": to_json,  # which escapes all that is not ASCII
    "html": lambda found: compare_page.page(cleaned(found)),
}
"""A function from a comparison to its text."""


def render(found: Comparison, form: str = "text") -> str:
    """Return a comparison in one of ``FORMATS``."""
    return FORMATS[form](found)
