"""Traits by topic: what the specification leaves open, and subjects may do in different ways."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnformance.reports import matrix
from cnnformance.reports.matrix import Choice
from cnnformance.reports.records import Run
from cnnformance.spec.layers import TYPES

_DTYPE = r"b?float\d+|u?int\d+|bool"


@dataclass(frozen=True)
class Answer:
    """One choice of a subject: where it was made, and the smallest input that showed it.

    ``where`` is empty where the subject made no other choice.
    """

    value: str
    where: str
    shown: str


Answers = tuple[Answer, ...]
"""All choices of one subject: empty where none was measured, several where it is inconsistent."""


@dataclass(frozen=True)
class Measured:
    """What is alike in all subjects' answers: the same trait of some layers and dtypes.

    ``answers`` are in the order of the run's subjects.
    """

    about: tuple[str, ...]
    traits: tuple[str, ...]
    answers: tuple[Answers, ...]

    @property
    def differs(self) -> bool:
        """Whether two subjects were measured and made different choices."""
        return len({tuple(a.value for a in each) for each in self.answers if each}) > 1


@dataclass(frozen=True)
class Topic:
    """What traits of several layers or dtypes are about."""

    name: str
    rows: tuple[Measured, ...]

    @property
    def differs(self) -> bool:
        """Whether two subjects differ in any row."""
        return any(row.differs for row in self.rows)


def topics(run: Run) -> tuple[Topic, ...]:
    """Return the topics; those in which subjects differ come first, and so do their rows."""
    layers = sorted({*TYPES, *(v.layer for v in run.verdicts)} - {""}, key=len, reverse=True)
    varying = re.compile(rf"\b(?:{'|'.join(map(re.escape, layers))}|{_DTYPE})\b")
    smallest = _smallest(run)
    found: dict[str, list[Measured]] = {}
    for trait, cells in matrix.traits(run).items():
        answers = tuple(_answers(s, trait, cells.get(s, ()), smallest) for s in run.subjects)
        about = (", ".join(varying.findall(trait)),)
        found.setdefault(_topic(trait, varying), []).append(Measured(about, (trait,), answers))
    made = [Topic(name, _joined(rows)) for name, rows in found.items()]
    return tuple(sorted(made, key=lambda topic: (not topic.differs, topic.name)))


def _topic(trait: str, varying: re.Pattern[str]) -> str:
    """Return a trait's name without its layers and dtypes."""
    bare = varying.sub("…", trait)
    bare = re.sub(r"^…:\s*|^…,\s*|,?\s*(?:in|of) …$", "", re.sub(r" of …$", "", bare))
    return bare.strip(" ,:") if bare.strip(" ,:…") else trait


def _joined(rows: Sequence[Measured]) -> tuple[Measured, ...]:
    """Return the rows, those with equal choices joined; those that differ come first."""

    def choices(row: Measured) -> tuple[tuple[tuple[str, str], ...], ...]:
        return tuple(tuple((a.value, a.where) for a in each) for each in row.answers)

    made = [
        Measured(
            tuple(about for row in same for about in row.about if about),
            tuple(trait for row in same for trait in row.traits),
            same[0].answers,
        )
        for same in matrix.grouped(rows, choices).values()
    ]
    return tuple(sorted(made, key=lambda row: not row.differs))


def _smallest(run: Run) -> Mapping[tuple[str, str, str], str]:
    """Return the shortest text that shows a value, by subject, trait and value."""
    found: dict[tuple[str, str, str], str] = {}
    for t in sorted(run.traits, key=lambda t: (len(t.shown), t.shown)):
        found.setdefault((t.subject, t.trait, t.value), t.shown)
    return found


def _answers(
    subject: str,
    trait: str,
    choices: Sequence[Choice],
    smallest: Mapping[tuple[str, str, str], str],
) -> Answers:
    several = sum(choice.values for choice in choices) > 1
    return tuple(
        Answer(
            choice.value,
            _where(choice) if several else "",
            smallest.get((subject, trait, choice.value), choice.shown),
        )
        for choice in choices
    )


def _where(choice: Choice) -> str:
    return " and ".join(fact.removeprefix("at == ") for fact in choice.where) or (
        f"{choice.measured} of its measurements"
    )
