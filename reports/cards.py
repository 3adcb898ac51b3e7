"""Findings and recorded divergences as cards: one cause, one card."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from textwrap import shorten

from cnnformance.reports import arrays, causes, divergences, tables
from cnnformance.reports.cells import Facets
from cnnformance.reports.clause_views import ClauseView, link, ordered, view
from cnnformance.reports.drawing import Drawing, draw, shortened
from cnnformance.reports.reasons import MEANINGS
from cnnformance.reports.records import Array, Failure, Run, Verdict, VerdictName
from cnnformance.reports.strips import marks
from cnnformance.spec.clauses import Spec

LISTED = 64
"""The most elements of an array that a card lists; of a larger one it names dtype and shape."""

LONGEST = 20_000
"""The most characters of a script that a card holds; the record has longer ones."""

TAIL = 2_000
"""How many characters a card holds of what a process wrote: the last ones."""


@dataclass(frozen=True)
class Fact:
    """One labelled fact; ``block`` keeps its lines, and ``url`` leads to more."""

    label: str
    text: str
    block: bool = False
    url: str = ""


@dataclass(frozen=True)
class Counterexample:
    """The smallest case that a record holds: the layer, the input, and what came out of it.

    ``allowance`` says how the error compares with what is allowed, and ``mark`` draws it on a strip
    of ``strips``; ``folded`` is what few read.
    """

    layers: tuple[str, ...]
    facts: tuple[Fact, ...]
    drawing: Drawing | None
    expected: str
    actual: str
    allowance: str
    mark: str
    script: str
    folded: tuple[Fact, ...]


@dataclass(frozen=True)
class Card:
    """One cause: what a subject does, where, which clause it breaks, and what shows it."""

    id: str
    verdict: VerdictName
    subject: str
    layers: tuple[str, ...]
    effects: tuple[str, ...]
    title: str
    message: str
    where: tuple[str, ...]
    about: tuple[Fact, ...]
    clause: ClauseView | None
    other_clauses: tuple[ClauseView, ...]
    example: Counterexample
    questions: tuple[str, ...]
    packed: str


def slug(*parts: str) -> str:
    """Return an id for a page and its address, of letters, digits and hyphens."""
    return "-".join(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") for part in parts if part)


def findings(run: Run, spec: Spec, facets: Facets) -> tuple[Card, ...]:
    """Return the findings, the worst first."""
    return _apart(_finding(found, spec, facets) for found in causes.findings(run))


def recorded(run: Run, spec: Spec, facets: Facets) -> tuple[Card, ...]:
    """Return the recorded divergences that were met again, in the order of subjects and ids."""
    return _apart(_divergence(found, spec, facets) for found in divergences.seen(run))


def _apart(cards: Iterable[Card]) -> tuple[Card, ...]:
    """Number ids that are alike."""
    seen: dict[str, int] = {}
    told = []
    for card in cards:
        seen[card.id] = number = seen.get(card.id, 0) + 1
        told.append(replace(card, id=f"{card.id}-{number}") if number > 1 else card)
    return tuple(told)


def _finding(found: causes.Finding, spec: Spec, facets: Facets) -> Card:
    first = _telling(found.ordered)
    key = hashlib.sha256(repr((found.where, found.questions[-1:])).encode()).hexdigest()[:6]
    views = _views(found.clauses, found.layer, [*found.where, found.effect], first, spec)
    return Card(
        slug("finding", found.subject, found.layer, found.effect, key),
        found.verdict,
        found.subject,
        tuple(dict.fromkeys(v.layer for v in found.verdicts)),
        (found.effect,),
        _title(found, first),
        _message(first),
        found.where,
        (),
        views[0] if views else None,
        views[1:],
        _example(first),
        found.questions,
        facets.packed(found.verdicts),
    )


def _telling(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the first verdict that can be drawn; else the first, of the smallest case."""
    drawn = (v for v in verdicts if v.failure and v.failure.script and draw(v.failure))
    return next(drawn, verdicts[0])


def _views(
    clauses: Sequence[str], layer: str, words: Sequence[str], example: Verdict, spec: Spec
) -> tuple[ClauseView, ...]:
    shaped = example.failure is not None and example.failure.index is not None
    return tuple(view(name, spec) for name in ordered(clauses, layer, words, spec, shaped=shaped))


def _message(verdict: Verdict) -> str:
    """Return what a verdict saw, without the ids of the divergences that explain it."""
    return tables.happened(verdict).removeprefix(f"{', '.join(verdict.known)}: ")


def _title(found: causes.Finding, verdict: Verdict) -> str:
    """Return in one sentence what a subject does."""
    failure = verdict.failure
    if failure and failure.index is not None and failure.expected and failure.actual:
        says = f"gives {shortened(failure.actual)} where {shortened(failure.expected)} is right"
    else:
        says = shorten(tables.happened(verdict), 140, placeholder=" …") or found.verdict
    where = f", if {' and '.join(found.where)}" if found.where else ""
    return f"{found.layer}: {says}{where}"


def _divergence(found: divergences.Seen, spec: Spec, facets: Facets) -> Card:
    ordered_ = causes.smallest_first(sorted(found.verdicts, key=lambda v: len(v.known)))
    first, entry = _telling(ordered_), found.entry
    clauses = tuple(dict.fromkeys(c for v in ordered_ for c in v.clauses))
    effects = tuple(dict.fromkeys(v.failure.effect for v in ordered_ if v.failure))
    words = [found.id.partition(".")[2] or found.id, found.says, *effects]
    views = _views(clauses, first.layer, words, first, spec)
    about = [Fact("recorded as", found.id)]
    if entry:
        about += [
            Fact("class", entry.kind),
            Fact("versions", entry.versions or "all"),
            Fact("modes", ", ".join(entry.modes)),
            Fact("first seen", entry.seen),
        ]
    about.append(Fact("read more", found.link, url=link(found.link)))
    return Card(
        slug("divergence", found.subject, found.id),
        first.verdict,
        found.subject,
        found.layers,
        effects,
        found.says,
        _message(first),
        (),
        tuple(fact for fact in about if fact.text),
        views[0] if views else None,
        views[1:],
        _example(first),
        tuple(dict.fromkeys(v.question for v in ordered_)),
        facets.packed(found.verdicts),
    )


def _example(verdict: Verdict) -> Counterexample:
    failure = verdict.failure or Failure(effect="value")
    case = failure.case or {}
    recipe = ", ".join(f"{k} {v}" for k, v in case.items() if k != "layers")
    script, detail = (failure.script or "").rstrip(), failure.detail.rstrip()
    folded = [Fact(name, _listed(array), block=True) for name, array in failure.arrays.items()]
    folded += [
        Fact("made of", verdict.composed or ""),
        Fact("judged", MEANINGS[failure.reason] if failure.reason else ""),
        Fact("alone", "" if failure.alone is None else tables.alone(again=failure.alone)),
        Fact("output of the process", detail[-TAIL:], block=True),
    ]
    facts = [
        Fact("input", recipe),
        Fact("output at", str(failure.index) if failure.index is not None else ""),
    ]
    return Counterexample(
        tuple(tables.called(layer) for layer in case.get("layers", ())),
        _told(facts),
        draw(failure) if verdict.failure else None,
        failure.expected,
        failure.actual,
        _allowance(failure),
        marks([failure.share or 0]),
        script if len(script) <= LONGEST else f"# {len(script):,} characters: see the record",
        _told(folded),
    )


def _listed(array: Array) -> str:
    if math.prod(array.shape) <= LISTED:
        return arrays.text(array)
    return f"{array.dtype}{list(array.shape)}, as in the script"


def _told(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    return tuple(fact for fact in facts if fact.text)


def _allowance(failure: Failure) -> str:
    """Return how large the error is, measured by what is allowed."""
    if failure.share is None:
        return ""
    allowed = f", which is {shortened(failure.bound)}" if failure.bound else ""
    return f"the error is {failure.share:,.3g} times what is allowed{allowed}"
