"""What the records of a run amount to: counts, traits, precision grades, and findings.

Pure functions of a ``Run``: nothing here formats, and nothing is known that was not recorded.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from cnnformance.reports.records import (
    FAILING,
    GRADES,
    KNOWN,
    VERDICT_OF,
    VERDICTS,
    GradeName,
    Run,
    Trait,
    Verdict,
    VerdictName,
    blamed,
)
from cnnformance.spec.layers import TYPES

Counts = Counter[VerdictName]
"""How often each verdict fell."""

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def worst(verdicts: Collection[VerdictName]) -> VerdictName | None:
    """Return the worst of some verdicts; None of none, which is not a pass."""
    return next((name for name in VERDICTS if name in verdicts), None)


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _layer_order(layer: str) -> tuple[int, str]:
    names = list(TYPES)
    return (names.index(layer) if layer in names else len(names), layer)


def by_layer(run: Run) -> dict[str, dict[str, list[Verdict]]]:
    """Return the verdicts by layer and subject, layers in the order of the specification."""
    layers = _grouped(run.verdicts, lambda v: v.layer)
    return {
        name: _grouped(layers[name], lambda v: v.subject)
        for name in sorted(layers, key=_layer_order)
    }


def by_clause(run: Run) -> dict[str, dict[str, list[Verdict]]]:
    """Return the verdicts by clause and subject; a question counts for each of its clauses."""
    pairs = [(clause, verdict) for verdict in run.verdicts for clause in verdict.clauses]
    clauses = _grouped(pairs, lambda pair: pair[0])
    return {
        clause: _grouped([v for _, v in clauses[clause]], lambda v: v.subject)
        for clause in sorted(clauses)
    }


def counts(verdicts: Iterable[Verdict]) -> Counts:
    """Return how often each verdict fell, the worst first."""
    found = Counter(v.verdict for v in verdicts)
    return Counter({name: found[name] for name in VERDICTS if found[name]})


@dataclass(frozen=True)
class Choice:
    """A value that a subject showed for a trait.

    ``where`` holds what all its measurements have in common, and not all of the subject's; it is
    empty where the value is the only one. Many values that differ in their numbers alone are one
    choice, with ranges for numbers; ``values`` is how many they are.
    """

    value: str
    where: tuple[str, ...]
    measured: int
    shown: str
    values: int = 1


_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.])")
_LISTED = 3
"""The most values that differ in their numbers alone and are listed one by one."""


def _ranged(values: Sequence[str]) -> str:
    """Return what values have in common that differ in their numbers alone."""
    columns = zip(*map(_NUMBER.findall, values), strict=True)
    ends = [(min(column, key=float), max(column, key=float)) for column in columns]
    ranges = iter(low if float(low) == float(high) else f"{low} to {high}" for low, high in ends)
    return _NUMBER.sub(lambda _: next(ranges), values[0])


def _choices(measured: Sequence[Trait]) -> tuple[Choice, ...]:
    def facts(trait: Trait) -> set[str]:
        return {f"{key} == {value}" for key, value in trait.where.items()}

    everywhere = set.intersection(*map(facts, measured))
    choices = []
    for like in _grouped(measured, lambda t: _NUMBER.sub("#", t.value)).values():
        by_value = _grouped(like, lambda t: t.value)
        for same in [like] if len(by_value) > _LISTED else by_value.values():
            values = list(dict.fromkeys(t.value for t in same))
            where = tuple(sorted(set.intersection(*map(facts, same)) - everywhere))
            choices.append(Choice(_ranged(values), where, len(same), same[0].shown, len(values)))
    return tuple(sorted(choices, key=lambda choice: choice.value))


def traits(run: Run) -> dict[str, dict[str, tuple[Choice, ...]]]:
    """Return what each subject chose, by trait; more than one choice is an inconsistency."""
    return {
        name: {s: _choices(m) for s, m in _grouped(same, lambda t: t.subject).items()}
        for name, same in sorted(_grouped(run.traits, lambda t: t.trait).items())
    }


@dataclass(frozen=True)
class Grade:
    """The loosest grade and the largest share of the bound that a layer showed in a dtype.

    Both are of the comparisons that held; ``verdict`` is the worst of the failing and known
    verdicts on it, None where there is none.
    """

    grade: GradeName | None
    share: float | None
    verdict: VerdictName | None = None


def grades(run: Run) -> dict[tuple[str, str], dict[str, Grade]]:
    """Return the precision of each subject by layer and dtype, where any was measured."""

    def grade(verdicts: Sequence[Verdict]) -> Grade:
        places = [GRADES.index(v.grade) for v in verdicts if v.grade is not None]
        loosest = GRADES[max(places)] if places else None
        shares = [v.share for v in verdicts if v.share is not None]
        faulty = worst([v.verdict for v in verdicts if v.verdict in (*FAILING, *KNOWN)])
        return Grade(loosest, max(shares, default=None), faulty)

    def compared(verdict: Verdict) -> bool:
        return verdict.grade is not None or verdict.share is not None

    return {
        cell: {s: grade(same) for s, same in found.items() if any(map(compared, same))}
        for cell, found in _by_dtype(run).items()
        if any(compared(v) for same in found.values() for v in same)
    }


def _by_dtype(run: Run) -> dict[tuple[str, str], dict[str, list[Verdict]]]:
    """Return the verdicts by layer and dtype, where there is one, and by subject."""
    cells = _grouped([v for v in run.verdicts if v.dtype], lambda v: (v.layer, v.dtype or ""))
    return {
        key: _grouped(cells[key], lambda v: v.subject)
        for key in sorted(cells, key=lambda key: (_layer_order(key[0]), key[1]))
    }


BLUNT = 0.25
"""A comparison that allows an error of more than this part of the answer proves little."""


def proves_little(run: Run) -> dict[tuple[str, str], dict[str, float | None]]:
    """Return by layer, dtype and subject the sharpness of passes of which none is below ``BLUNT``.

    It is that of the sharpest comparison; None where nothing was compared. A run whose verdicts
    hold no sharpness tells nothing.
    """
    if all(v.sharpness is None for v in run.verdicts):
        return {}
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    for cell, subjects in _by_dtype(run).items():
        for subject, same in subjects.items():
            passed = [v.sharpness for v in same if v.verdict == "pass"]
            sharpest = min((s for s in passed if s is not None), default=None)
            if passed and (sharpest is None or not sharpest <= BLUNT):
                found.setdefault(cell, {})[subject] = sharpest
    return found


def cut(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return the verdicts that stand on fewer cases than were planned."""
    return [v for v in verdicts if v.verdict in ("pass", *KNOWN) and v.examples < v.planned]


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

        def elements(verdict: Verdict) -> float:
            shape = _case(verdict).get("shape")
            sizes = isinstance(shape, list) and all(type(size) is int for size in shape)
            return math.prod(shape) if shape is not None and sizes else math.inf

        return tuple(sorted(self.verdicts, key=elements))

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
        """Every clause that is concerned, once."""
        return tuple(dict.fromkeys(c for v in self.verdicts for c in v.clauses))


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
    passing = _grouped([v for v in run.verdicts if v.verdict == "pass" and v.dtype], _test)
    telling = {}
    for name, same in _grouped([v for v in chosen if v.dtype], _test).items():
        asked = max(v.examples for v in same)
        passed = any(v.examples >= asked for v in passing.get(name, ()))
        if passed and len({v.dtype for v in same}) == 1:
            telling.update({id(v): v.dtype or "" for v in same})
    return telling


def _hardly_asked(run: Run, chosen: Sequence[Verdict]) -> set[int]:
    """Return the verdicts whose test asked fewer cases in every other dtype: theirs tells nothing.

    A question that draws its dtypes names none, and its smallest case departs only as needed.
    """
    tests = _grouped([v for v in run.verdicts if v.dtype], _test)

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
    chosen = [part for v in run.verdicts if v.verdict in FAILING for part in _parted(v)]
    holding = {id(v): _holding(_OPTIONS, v) for v in chosen}
    for verdict in _hardly_asked(run, chosen):
        holding[verdict] = {p for p in holding[verdict] if not p.startswith("dtype == ")}
    for verdict, dtype in _telling_dtypes(run, chosen).items():
        holding[verdict].add(f"dtype == {dtype}")
    found = []

    def key(v: Verdict) -> tuple[str, str, str]:
        effect = v.failure.effect if v.failure else v.verdict
        if effect == "adapter":  # such as a framework that did not start: the layer is no matter
            return v.subject, v.message, effect
        if effect == "not-refused":  # each question breaks a rule of its own
            return v.subject, v.question, effect
        if effect == "trait":  # each test measures a trait of its own
            return v.subject, v.question.partition("[")[0], effect
        return v.subject, v.layer, effect

    for (subject, _, effect), same in _grouped(chosen, key).items():
        for cause in _split(same, holding):
            where = set.intersection(*(holding[id(v)] for v in cause))
            if len(cause) > 1:
                where |= set.intersection(*(_holding(_SETTINGS, v) for v in cause))
            layers = list(dict.fromkeys(v.layer for v in cause))
            layer = layers[0] if len(layers) == 1 else f"{len(layers)} layers"
            found.append(Finding(subject, layer, effect, tuple(sorted(where)), tuple(cause)))
    subjects = run.subjects
    found.sort(
        key=lambda f: (
            VERDICTS.index(f.verdict),
            subjects.index(f.subject),
            _layer_order(f.layer),
            f.effect,
            f.where,
        )
    )
    return found
