"""A run as a badge: a picture, or the data that shields.io and others make one of."""

from __future__ import annotations

import json
import re
from html import escape

from cnnformance.reports import causes, divergences
from cnnformance.reports.records import Run

_LABEL = "CNN conformance"
_LONGEST = 60
"""Characters of the label and of the message."""
_COLOURS = {"red": "#c0392b", "brightgreen": "#2e7d32", "lightgrey": "#6a6a6a"}
"""The names that an endpoint takes, and the colours of the picture: white text is read on each."""
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""The characters that no XML can hold."""
_LETTER = 6.5
"""The width of a character, at least, in a font of 11 pixels."""


def _short(text: str) -> str:
    plain = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def told(run: Run) -> tuple[str, str, str]:
    """Return the label, the message and the colour.

    Red has a finding. Green has none, and passed something; a partial run is never green.
    """
    subjects = run.header.subjects
    label = f"{subjects[0].subject} {subjects[0].version}" if len(subjects) == 1 else _LABEL
    found, seen = len(causes.findings(run)), len(divergences.seen(run))
    passed = any(v.verdict in ("pass", "known") for v in run.verdicts)
    parts = ["partial"] * run.partial
    parts.append(f"{found} finding{'s' * (found != 1)}" if passed or found else "nothing passed")
    parts += [f"{seen} known"] * bool(seen)
    good = "brightgreen" if passed and not run.partial else "lightgrey"
    return _short(label), _short(", ".join(parts)), "red" if found else good


def endpoint(run: Run) -> str:
    """Return the badge as JSON in the endpoint schema of shields.io."""
    label, message, colour = told(run)
    data = {"schemaVersion": 1, "label": label, "message": message, "color": colour}
    return json.dumps(data) + "\n"


def svg(run: Run) -> str:
    """Return the badge as a picture, which names itself to screen readers."""
    label, message, colour = told(run)
    name = escape(f"{label}: {message}")
    left, right = (round(_LETTER * len(text)) + 10 for text in (label, message))
    texts = (
        f'<text x="{x}" y="14" textLength="{width - 10}">{escape(text)}</text>'
        for x, width, text in ((5, left, label), (left + 5, right, message))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{name}"><title>{name}</title>'
        f'<rect width="{left + right}" height="20" rx="3" fill="{_COLOURS[colour]}"/>'
        f'<rect width="{left}" height="20" rx="3" fill="#444"/>'
        f'<g fill="#fff" font-family="Verdana, sans-serif" font-size="11">{"".join(texts)}</g>'
        "</svg>\n"
    )
