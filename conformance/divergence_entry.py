"""The first entry of a divergence, as TOML, made from a failure of a run for its author to edit."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from packaging.version import InvalidVersion

from cnnformance.adapters import registry
from cnnformance.conformance.cases import Case
from cnnformance.conformance.divergence_predicates import holds
from cnnformance.conformance.divergences import names_of, version_of
from cnnformance.conformance.judge import Failure
from cnnformance.reports import arrays, causes, records
from cnnformance.spec import layers as spec

DEPARTURES = (
    "ceil_mode", "overhangs", "count_include_pad", "stride != window", "padding == 'same'",
    "padding == 'same_lower'", "spare", "max(dilation) > 1", "not fits", "groups > 1", "bias == 0",
    "training", "batch == 0", "channels == 0", "0 in spatial", "has_nan", "has_inf",
    "memory != 'contiguous'",
)  # fmt: skip
"""Predicates that tell a case from a plain one. Of the smallest case that fails, each that holds
matters to the failure."""


def rebuilt(failure: records.Failure) -> Failure:
    """Return a recorded failure as it was raised, without what a record does not hold.

    Raises:
        ValueError: its layers or arrays are unreadable.
    """
    recipe = failure.case or {}
    layers = recipe.get("layers", ())
    try:
        held = {name: arrays.unpack(array) for name, array in failure.arrays.items()}
        described = tuple(spec.from_json(layer, checked=False) for layer in layers)
    except (TypeError, ArithmeticError, SyntaxError, MemoryError, zlib.error) as error:
        raise ValueError(f"a failure is unreadable: {error!r:.200}") from error
    case = None
    if described and "shape" in recipe:
        shape, dtype = tuple(recipe["shape"]), recipe.get("dtype", "")
        case = Case(described[0], shape, dtype, memory=recipe.get("memory", "contiguous"))
    return Failure(
        failure.effect,
        failure.message,
        case,
        index=failure.index,
        expected=failure.expected,
        actual=failure.actual,
        bound=failure.bound or "",
        arrays=held,
        layers=described,
        call=failure.call or "forward",  # type: ignore[arg-type] # what a run writes
        operand=failure.operand,
        reason=failure.reason or "",
    )


def when(failure: Failure) -> str:
    """Return a predicate that holds of a failure: its reason, and how it departs from a plain case.

    It is a first guess: what the case shares with others by chance stands in it too.
    """
    names = names_of(failure)
    parts = [f"reason == {failure.reason!r}"]
    parts += [f"call == {failure.call!r}"] * (failure.call != "forward")
    parts += [f"operand == {failure.operand!r}"] * bool(failure.operand)
    parts += [f"dtype == {names['dtype']!r}"] * (names["dtype"] not in ("", "float32"))
    if failure.effect == "not-refused":  # all but what is wrong with the case is ordinary
        return " and ".join(parts)
    return " and ".join([*parts, *(text for text in DEPARTURES if holds(text, names))])


def entry(subject: str, version: str, day: str, verdict: records.Verdict) -> str:
    """Return the TOML of a first entry for the failure of a verdict, seen on a day.

    Raises:
        ValueError: the failure cannot be read.
    """
    assert verdict.failure
    failure = rebuilt(verdict.failure)
    failure.message = verdict.failure.message or verdict.message
    layer = type(failure.layers[0]).__name__ if failure.layers else verdict.layer
    name = Path(re.split(r"==|:|@", subject, maxsplit=1)[0]).stem
    mode = registry.mode(subject)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", layer).lower()
    lines = [
        "[[known]]",
        f"id = {json.dumps(f'{name}.{words}-{failure.reason}')}  # which is never changed",
        'class = "open"  # or "fault", or "documented"',
        f"layers = {json.dumps([layer])}",
        f"effects = {json.dumps([failure.effect])}",
        f"when = {json.dumps(when(failure))}",
        *([f"modes = {json.dumps([mode])}"] if mode else []),
        f"versions = {json.dumps(_from(version))}",
        f"says = {json.dumps(' '.join(failure.message.split())[:200])}  # in one sentence, why",
        '# link = "where it can be read about"',
        f"seen = {day}",
    ]
    return "\n".join(lines)


def _from(version: str) -> str:
    """Return the bounds of this version and later ones; none of one that PEP 440 does not know."""
    try:
        return f">={version_of(version).public}"
    except InvalidVersion:
        return ""


def entries(run: records.Run, question: str = "") -> Iterator[str]:
    """Yield a first entry for the smallest case of each finding, or for one question.

    Raises:
        RecordError: the run has no failure, or none of this question.
    """
    versions = {subject.subject: subject.version for subject in run.header.subjects}
    found = [finding.shortest for finding in causes.findings(run)]
    if question:
        every = [verdict for finding in causes.findings(run) for verdict in finding.verdicts]
        found = [verdict for verdict in every if verdict.question == question][:1]
    found = [verdict for verdict in found if verdict.failure]
    if not found:
        of = f" of {question}" if question else ""
        raise records.RecordError(f"{run.path}: there is no failure{of} that could be recorded")
    texts: dict[tuple[str, ...], str] = {}
    for verdict in found:
        version = versions.get(verdict.subject, "")
        text = entry(verdict.subject, version, run.header.started[:10], verdict)
        kept = tuple(line for line in text.splitlines() if not line.startswith("says"))
        texts.setdefault(kept, text)
    seen: Counter[str] = Counter()
    for text in texts.values():
        named = text.splitlines()[1].split('"')[1]
        seen[named] += 1
        yield text if seen[named] == 1 else text.replace(named, f"{named}-{seen[named]}", 1)
