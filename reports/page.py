"""The report for browsers: one file that needs no other, and reaches for nothing.

``templates`` holds what it looks like. The templates only show: all that they are given is made
here and in the modules that this one names.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cnnformance.reports import (
    brief,
    cards,
    cells,
    claims,
    credentials,
    curves,
    declined,
    modes,
    overview,
    published,
    statements,
    strips,
    tables,
    topics,
)
from cnnformance.reports.clause_views import specification
from cnnformance.reports.history import History
from cnnformance.reports.records import SCHEMA, Run
from cnnformance.spec import networks
from cnnformance.spec.reading import DataError

TEMPLATES = Path(__file__).with_name("templates")


def form() -> str:
    """Return which form pages have: the format of records that they show, and their templates.

    Each page holds it; one of another form is of another day.
    """
    digest = hashlib.sha256()
    for path in sorted(set(TEMPLATES.iterdir()) - {TEMPLATES / "compare.html"}):
        digest.update(path.read_bytes())
    return f"records {SCHEMA}, templates {digest.hexdigest()[:16]}"


def _asset(name: str) -> tuple[Markup, str]:
    """Return a file of ours that goes into the page as it is, and the hash that allows it."""
    text = (TEMPLATES / name).read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"  # noqa: S704 - a file of this package


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["slug"] = cards.slug
    return made


def _networks() -> Any:
    try:
        return networks.load()
    except DataError:  # the records stand without them
        return {}


def _credentials() -> credentials.Credentials:
    try:
        return credentials.load()
    except DataError:  # likewise
        return credentials.Credentials()


def render(run: Run, history: History | None = None) -> str:
    """Return the report as one HTML file, and the history that the run tells, if it does.

    It holds its own style and script, allows no other by its content security policy, and reads
    without the script too. Texts of the record are shown as text, whatever they hold.
    """
    spec, facets = specification(), cells.Facets()
    style, style_hash = _asset("page.css")
    script, script_hash = _asset("page.js")
    layers = cells.rows(run, spec.clauses, facets)
    measured = _credentials()
    view: dict[str, Any] = {
        "run": run,
        "history": history,
        "modes": [found for found in modes.modes(run) if found.rows],
        "spec": spec,
        "verdicts": cells.ORDER,
        "banner": brief.banner(run),
        "shortfall": brief.shortfall(run),
        "facts": overview.facts(run),
        "subjects": overview.subjects(run),
        "layers": layers,
        "findings": cards.findings(run, spec, facets),
        "recorded": cards.recorded(run, spec, facets),
        "reasons": declined.reasons(run),
        "composed": tables.composed(run),
        "topics": topics.topics(run),
        "claims": claims.claims(run, spec),
        "experiments": claims.experiments(run),
        "strips": strips.rows(run),
        "scale": strips.scale(),
        "strip_width": strips.WIDTH,
        "allowed": strips.ALLOWED,
        "graded": strips.graded(run),
        "networks": published.networks(run, _networks()),
        "sections": statements.sections(run, spec),
        "credentials": (*overview.credentials(run, spec), *credentials.rows(measured)),
        "curves": curves.curves(measured),
        "style": style,
        "style_hash": style_hash,
        "script": script,
        "script_hash": script_hash,
        "form": form(),
    }
    # The facets are complete only when all that is counted by them has been made.
    view["facets"] = facets.known
    return _environment().get_template("page.html").render(view)
