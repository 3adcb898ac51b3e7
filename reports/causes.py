"""The failures of a run by cause: a finding is a layer, an effect, and what its cases share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from cnnformance.reports.matrix import grouped, layer_order
from cnnformance.reports.records import (
    FAILING,
    VERDICT_OF,
    VERDICTS,
    Run,
    Verdict,
    VerdictName,
    blamed,
)


def smallest_first(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Return verdicts, those with the fewest input elements in their case first."""

    def elements(verdict: Verdict) -> float:
        x = verdict.failure and verdict.failure.arrays.get("x")
        shape = _case(verdict).get("shape") or (list(x.shape) if x else None)
        sizes = isinstance(shape, list) and all(type(size) is int for size in shape)
        return math.prod(shape) if shape is not None and sizes else math.inf

    return tuple(sorted(verdicts, key=elements))


@dataclass(frozen=True)
class Finding:
    """Verdicts with one cause: a layer of a subject, an effect, and what all cases share."""

    subject: str
    layer: str
    effect: str
    where: tuple[str, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def verdict(self) -> VerdictName:
        """The worst of the verdicts."""
        fallen = {v.verdict for v in self.verdicts}
        return next(name for name in VERDICTS if name in fallen)

    @property
    def ordered(self) -> tuple[Verdict, ...]:
        """The verdicts, those with the fewest input elements in their case first."""
        return smallest_first(self.verdicts)

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions, each once, those with the fewest input elements in their case first."""
        return tuple(dict.fromkeys(v.question for v in self.ordered))

    @property
    def shortest(self) -> Verdict:
        """The verdict with the smallest case."""
        return self.ordered[0]

    @property
    def clauses(self) -> tuple[str, ...]:
        """Every clause that is concerned, once; those of the pipeline last."""
        named = dict.fromkeys(c for v in self.verdicts for c in v.clauses)
        return tuple(sorted(named, key=lambda name: name.startswith("pipeline.")))


@dataclass(frozen=True)
class Part(Run):
    """Some of the verdicts of a run, with the findings that the whole of it came to.

    ``chosen`` says in words which, and how many of how many.
    """

    found: tuple[Finding, ...] = ()
    chosen: str = ""


Fields = Mapping[str, Any]


def _case(verdict: Verdict) -> Fields:
    return (verdict.failure and verdict.failure.case) or {}


def _padding(layer: Fields, _: Fields) -> str:
    padding = layer["padding"]
    if isinstance(padding, str):
        return f"padding == {padding}"
    return "padding != 0" if any(cells for pair in padding for cells in pair) else ""


def _stride(layer: Fields, _: Fields) -> str:
    window, stride = layer["window"], layer["stride"]
    if layer["type"] == "Conv":
        return "stride != 1" if any(s != 1 for s in stride) else ""
    return "stride != window" if stride != window else ""


def _window(layer: Fields, case: Fields) -> str:
    spatial = case["shape"][1:-1]
    extent = [(w - 1) * d + 1 for w, d in zip(layer["window"], layer["dilation"], strict=True)]
    return "window > input" if any(e > n for e, n in zip(extent, spatial, strict=True)) else ""


def _memory(_: Fields, case: Fields) -> str:
    return "" if case["memory"] == "contiguous" else f"memory == {case['memory']}"


_OPTIONS: Sequence[Callable[[Fields, Fields], str]] = (
    _stride,
    _padding,
    _window,
    lambda layer, _: "ceil_mode" if layer["ceil_mode"] else "",
    lambda layer, _: "count_include_pad" if layer["count_include_pad"] else "",
    lambda layer, _: "dilation != 1" if any(d != 1 for d in layer["dilation"]) else "",
    lambda layer, _: "groups > 1" if layer["groups"] > 1 else "",
    lambda layer, _: "" if layer["bias"] else "no bias",
    lambda layer, _: "training" if layer["training"] else "",
    lambda _, case: "empty input" if 0 in case["shape"] else "",
    _memory,
    lambda _, case: "" if case["dtype"] == "float32" else f"dtype == {case['dtype']}",
)
"""How a configuration may depart from the plain one. A minimal case departs only as needed."""


def _rank(layer: Fields, _: Fields) -> str:
    rank = len(layer.get("window") or layer.get("output") or ()) or layer["rank"]
    return f"rank == {rank}" if rank > 1 else ""


def _regime(_: Fields, case: Fields) -> str:
    (regime,) = case["regimes"]
    return "" if regime in ("integer", "positive", "given") else f"regime == {regime}"


_SETTINGS: Sequence[Callable[[Fields, Fields], str]] = (_rank, _regime)
"""What fixed cases depart in by nature: told only where several cases agree."""


def _holding(predicates: Sequence[Callable[[Fields, Fields], str]], verdict: Verdict) -> set[str]:
    if verdict.failure and verdict.failure.effect == "not-refused":
        return set()  # the message says what is wrong with the case; all else is ordinary
    case = _case(verdict)
    layers = [layer for layer in case.get("layers", ()) if layer.get("type") == verdict.layer]
    holding = set()
    for layer in layers[:1]:
        for predicate in predicates:
            with suppress(LookupError, TypeError, ValueError, AttributeError):  # no such field
                holding.add(predicate(layer, case))
    return holding - {""}


def _split(verdicts: Sequence[Verdict], holding: Mapping[int, set[str]]) -> list[list[Verdict]]:
    """Part verdicts into causes: all together if they share a predicate or one has none.

    Otherwise the predicate that most of them share makes a cause, and the rest is parted again.
    """
    sets = [holding[id(v)] for v in verdicts]
    if not all(sets) or set.intersection(*sets):
        return [list(verdicts)]
    often = Counter(predicate for each in sets for predicate in sorted(each))
    first = often.most_common(1)[0][0]
    cause = [v for v in verdicts if first in holding[id(v)]]
    return [cause, *_split([v for v in verdicts if first not in holding[id(v)]], holding)]


def _test(verdict: Verdict) -> tuple[str, str]:
    """Return what the verdicts of a question share in all dtypes."""
    return verdict.subject, verdict.question.replace(verdict.dtype or "", "")


def _telling_dtypes(run: Run, chosen: Sequence[Verdict]) -> dict[int, str]:
    """Return the dtypes that tell: the verdict's test fails in it alone and passes in another.

    A pass counts where it stands on as many cases as the failure did.
    """
    passing = grouped([v for v in run.verdicts if v.verdict == "pass" and v.dtype], _test)
    telling = {}
    for name, same in grouped([v for v in chosen if v.dtype], _test).items():
        asked = max(v.examples for v in same)
        passed = any(v.examples >= asked for v in passing.get(name, ()))
        if passed and len({v.dtype for v in same}) == 1:
            telling.update({id(v): v.dtype or "" for v in same})
    return telling


def _hardly_asked(run: Run, chosen: Sequence[Verdict]) -> set[int]:
    """Return the verdicts whose test asked fewer cases in every other dtype: theirs tells nothing.

    A question that draws its dtypes names none, and its smallest case departs only as needed.
    """
    tests = grouped([v for v in run.verdicts if v.dtype], _test)

    def asked(verdict: Verdict) -> bool:
        return any(
            other.dtype != verdict.dtype
            and other.verdict not in ("unsupported", "not-run")
            and other.examples >= verdict.examples
            for other in tests.get(_test(verdict), ())
        )

    return {id(v) for v in chosen if v.dtype and not asked(v)}


def _parted(verdict: Verdict) -> list[Verdict]:
    """Return a failing verdict as one for each failure that it holds and that is not known."""
    others = [
        replace(
            verdict,
            layer=blamed(verdict.layer, failure),
            message=failure.message or verdict.message,
            failure=failure,
            others=(),
            verdict=VERDICT_OF.get(failure.effect, "fail"),
        )
        for failure in verdict.others
    ]
    return [replace(verdict, others=()), *others]


def findings(run: Run) -> list[Finding]:
    """Return the failing verdicts by cause, the worst first."""
    return list(run.found) if isinstance(run, Part) else _found(run)


def joint(run: Run, name: str) -> list[Finding]:
    """Return the findings of all subjects together, as if they were one of this name.

    Of versions of a framework: what fails in several for one cause is one finding.
    """
    return _found(run, name)


def _found(run: Run, name: str = "") -> list[Finding]:
    chosen = [part for v in run.verdicts if v.verdict in FAILING for part in _parted(v)]
    holding = {id(v): _holding(_OPTIONS, v) for v in chosen}
    for verdict in _hardly_asked(run, chosen):
        holding[verdict] = {p for p in holding[verdict] if not p.startswith("dtype == ")}
    for verdict, dtype in _telling_dtypes(run, chosen).items():
        holding[verdict].add(f"dtype == {dtype}")
    found = []

    def key(v: Verdict) -> tuple[str, str, str]:
        effect = v.failure.effect if v.failure else v.verdict
        subject = name or v.subject
        if effect == "adapter":  # such as a framework that did not start: the layer is no matter
            return subject, v.message, effect
        if effect == "not-refused":  # each question breaks a rule of its own
            return subject, v.question, effect
        if effect == "trait":  # each test measures a trait of its own
            return subject, v.question.partition("[")[0], effect
        return subject, v.layer, effect

    for (subject, _, effect), same in grouped(chosen, key).items():
        for cause in _split(same, holding):
            where = set.intersection(*(holding[id(v)] for v in cause))
            if len(cause) > 1:
                where |= set.intersection(*(_holding(_SETTINGS, v) for v in cause))
            layers = list(dict.fromkeys(v.layer for v in cause))
            layer = layers[0] if len(layers) == 1 else f"{len(layers)} layers"
            found.append(Finding(subject, layer, effect, tuple(sorted(where)), tuple(cause)))
    subjects = (*run.subjects, name)
    found.sort(
        key=lambda f: (
            VERDICTS.index(f.verdict),
            subjects.index(f.subject),
            layer_order(f.layer),
            f.effect,
            f.where,
        )
    )
    return found
