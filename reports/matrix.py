"""What the records of a run amount to: counts, traits and precision grades.

Pure functions of a ``Run``: nothing here formats, and nothing is known that was not recorded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cnnformance.reports.records import (
    FAILING,
    GRADES,
    KNOWN,
    VERDICTS,
    GradeName,
    Run,
    Trait,
    Verdict,
    VerdictName,
)
from cnnformance.spec.layers import TYPES

Counts = Counter[VerdictName]
"""How often each verdict fell."""

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def worst(verdicts: Collection[VerdictName]) -> VerdictName | None:
    """Return the worst of some verdicts; None of none, which is not a pass."""
    return next((name for name in VERDICTS if name in verdicts), None)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return the items of each key, keys and items in the order in which they come."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def layer_order(layer: str) -> tuple[int, str]:
    """Return by what layers are sorted as in the specification; what it has not comes last."""
    names = list(TYPES)
    return (names.index(layer) if layer in names else len(names), layer)


def by_layer(run: Run) -> dict[str, dict[str, list[Verdict]]]:
    """Return the verdicts by layer and subject, layers in the order of the specification."""
    layers = grouped(run.verdicts, lambda v: v.layer)
    return {
        name: grouped(layers[name], lambda v: v.subject) for name in sorted(layers, key=layer_order)
    }


def by_clause(run: Run) -> dict[str, dict[str, list[Verdict]]]:
    """Return the verdicts by clause and subject; a question counts for each of its clauses."""
    pairs = [(clause, verdict) for verdict in run.verdicts for clause in verdict.clauses]
    clauses = grouped(pairs, lambda pair: pair[0])
    return {
        clause: grouped([v for _, v in clauses[clause]], lambda v: v.subject)
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
    for like in grouped(measured, lambda t: _NUMBER.sub("#", t.value)).values():
        by_value = grouped(like, lambda t: t.value)
        for same in [like] if len(by_value) > _LISTED else by_value.values():
            values = list(dict.fromkeys(t.value for t in same))
            where = tuple(sorted(set.intersection(*map(facts, same)) - everywhere))
            choices.append(Choice(_ranged(values), where, len(same), same[0].shown, len(values)))
    return tuple(sorted(choices, key=lambda choice: choice.value))


def traits(run: Run) -> dict[str, dict[str, tuple[Choice, ...]]]:
    """Return what each subject chose, by trait; more than one choice is an inconsistency.

    The figures of experiments are no choices.
    """
    chosen = [t for t in run.traits if not t.experiment]
    return {
        name: {s: _choices(m) for s, m in grouped(same, lambda t: t.subject).items()}
        for name, same in sorted(grouped(chosen, lambda t: t.trait).items())
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
    cells = grouped([v for v in run.verdicts if v.dtype], lambda v: (v.layer, v.dtype or ""))
    return {
        key: grouped(cells[key], lambda v: v.subject)
        for key in sorted(cells, key=lambda key: (layer_order(key[0]), key[1]))
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
