"""How well the questions tell wrong from right, measured with the suite itself.

``make mutation`` and ``make soundness`` measure, and keep the figures in ``credentials.json``
beside this file; reports show them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import ConfigDict, Field, StrictFloat, StrictInt, TypeAdapter

from cnnformance.reports.record import Natural, encode
from cnnformance.spec import reading
from cnnformance.spec.reading import DataError, Text

FILE = Path(__file__).with_name("credentials.json")
"""The latest figures."""

Positive = Annotated[StrictInt, Field(ge=1)]
Seconds = Annotated[StrictFloat, Field(gt=0)]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Which questions were put to how much of a corpus, and on which day.

    ``every`` is 1 where all backends of the corpus were asked, and 12 where one in twelve was.
    """

    profile: Text
    seed: Natural
    every: Positive
    day: Text


@dataclass(frozen=True, kw_only=True)
class Power(Measurement):
    """How many faulty backends were caught, and how soon.

    ``seconds``, which are the processor's, and ``examples`` are the medians up to detection.
    ``curve`` has rising numbers of such seconds, each with the faults that were caught within it;
    ``groups`` has classes of faults, and layers, each with those that were caught and all.
    """

    faults: Positive
    caught: Natural
    seconds: Annotated[StrictFloat, Field(ge=0)]
    examples: Natural
    curve: tuple[tuple[Seconds, Natural], ...]
    groups: Mapping[str, tuple[Natural, Positive]]

    def __post_init__(self) -> None:
        """Refuse figures that contradict each other."""
        if self.caught > self.faults:
            raise DataError("caught", f"is {self.caught}, of {self.faults} faults")
        steps = pairwise([*self.curve, (math.inf, self.caught)])
        if any(sooner >= later or fewer > more for (sooner, fewer), (later, more) in steps):
            raise DataError("curve", "does not rise to all that were caught")


@dataclass(frozen=True, kw_only=True)
class Soundness(Measurement):
    """How many correct but different backends were flagged, which none may be."""

    backends: Positive
    flagged: Natural


M = TypeVar("M", bound=Measurement)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The latest measurement of each profile, of each kind."""

    __pydantic_config__: ClassVar[ConfigDict] = reading.CLOSED
    power: tuple[Power, ...] = ()
    soundness: tuple[Soundness, ...] = ()

    def having(self, new: Measurement) -> Credentials:
        """Return these with a new one in the place of the one of its profile.

        One of a smaller part of the corpus takes no place.
        """
        match new:
            case Power():
                return replace(self, power=_having(self.power, new))
            case Soundness():
                return replace(self, soundness=_having(self.soundness, new))
        return self


def _having(old: tuple[M, ...], new: M) -> tuple[M, ...]:
    same = [each for each in old if each.profile == new.profile]
    if any(each.every < new.every for each in same):
        return old
    return (*(each for each in old if each not in same), new)


_ADAPTER: TypeAdapter[Credentials] = reading.adapter(Credentials)


def load(path: Path = FILE) -> Credentials:
    """Return the figures that were kept; none where there is no file.

    Raises:
        DataError: the file is malformed.
    """
    if not path.exists():
        return Credentials()
    try:
        data = json.loads(reading.text(path, path.name))
    except json.JSONDecodeError as error:
        raise DataError("syntax", str(error), path.name) from error
    return reading.typed(_ADAPTER, data, file=path.name)


def keep(new: Measurement, path: Path = FILE) -> bool:
    """Write a measurement among those of a file; return whether it took a place there."""
    old = load(path)
    kept = old.having(new)
    if kept != old:
        path.write_text(json.dumps(encode(kept), indent=1) + "\n", encoding="utf-8")
    return new in (*kept.power, *kept.soundness)


def rows(found: Credentials) -> tuple[tuple[str, str], ...]:
    """Return all figures as labels and texts."""
    told = []
    for p in found.power:
        share = f"{p.caught:,} of {p.faults:,}, {p.caught / p.faults:.1%}"
        soon = f"half of these within {p.seconds:.2g} CPU seconds and {p.examples:,} examples"
        told.append((f"Faulty backends caught, {p.profile}", f"{share}; {soon}; {_extent(p)}"))
    for s in found.soundness:
        flagged = f"{s.flagged or 'none'} of {s.backends:,}; {_extent(s)}"
        told.append((f"Correct but different backends flagged, {s.profile}", flagged))
    return tuple(told)


def sentence(found: Credentials) -> str:
    """Return the figures in one line; empty where there are none."""
    told = [
        f"{p.caught:,} of {p.faults:,} faulty ones caught in {p.profile}{_sampled(p)}"
        for p in found.power
    ]
    told += [
        f"{s.flagged or 'none'} of {s.backends:,} correct ones flagged in {s.profile}{_sampled(s)}"
        for s in found.soundness
    ]
    return f"The suite itself, on made backends: {', '.join(told)}" if told else ""


def _sampled(measured: Measurement) -> str:
    return f" (one in {measured.every})" if measured.every > 1 else ""


def _extent(measured: Measurement) -> str:
    part = "the whole corpus" if measured.every == 1 else f"one in {measured.every} of the corpus"
    return f"{part}, {measured.day}"
