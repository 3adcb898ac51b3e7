"""One run of several: records that were made on several machines, joined.

Joined is what was asked with one seed, in one profile, by one version of the suite, and of one
version of each subject: else the same question is not the same question.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cnnformance.reports.matrix import grouped
from cnnformance.reports.records import (
    VERDICTS,
    Footer,
    Header,
    Record,
    RecordError,
    Run,
    Subject,
    Trait,
    Verdict,
    encode,
)


@dataclass(frozen=True)
class Merged:
    """The joined run, and each contradiction between its records in one line."""

    run: Run
    contradictions: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Yield the lines of the record."""
        run = self.run
        footer = (run.footer,) if run.footer else ()
        records: tuple[Record, ...] = (run.header, *run.verdicts, *run.traits, *footer)
        for record in records:
            yield json.dumps(encode(record), allow_nan=False) + "\n"


def merge(runs: Sequence[Run]) -> Merged:
    """Return one run with all that several have recorded.

    Where two contradict each other, the worse verdict is kept, so that no failure is hidden; that a
    question was not run contradicts nothing. The run is partial as long as a shard is missing, or
    anything that a record planned and none has.

    Raises:
        RecordError: fewer than two were named, or one twice; they were not asked alike; or two
            shards have a question in common.
    """
    if len(runs) < 2 or len({run.path.resolve() for run in runs}) < len(runs):
        raise RecordError("merge needs two records or more, each named once")
    _asked_alike(runs)
    pairs = [(run, verdict) for run in runs for verdict in run.verdicts]
    answers = list(grouped(pairs, lambda pair: (pair[1].subject, pair[1].question)).values())
    verdicts = tuple(min((v for _, v in same), key=_order) for same in answers)
    traits, torn = _traits(runs)
    left = [run for run in runs if not any(_covers(other, run) for other in runs)]
    short = sum(max(run.header.planned - run.recorded, 0) for run in left)
    header = _header(runs, planned=len(verdicts) + short)
    footers = [run.footer for run in left if run.footer]
    footer = None
    if len(footers) == len(left):
        seconds = round(sum(each.seconds for each in footers), 3)
        footer = Footer(max(each.finished for each in footers), seconds, len(verdicts))
    made = Run(runs[0].path, header, verdicts, traits, footer)
    return Merged(made, (*filter(None, map(_contradiction, answers)), *torn))


def _asked_alike(runs: Sequence[Run]) -> None:
    first, *others = runs
    for run in others:
        told = (
            ("profile", first.header.profile, run.header.profile),
            ("seed", first.header.seed, run.header.seed),
            ("version of cnnformance", first.header.cnnformance, run.header.cnnformance),
        )
        for what, one, other in told:
            if one != other:
                said = f"{first.path} has {what} {one}, and {run.path} has {other}"
                raise RecordError(f"{said}; only what was asked alike can be joined")
    parts = [run for run in runs if run.header.shards]
    for run in parts[1:]:
        if _count(run) != _count(parts[0]) or _names(run) != _names(parts[0]):
            said = f"{parts[0].path} and {run.path} are shards of different runs"
            raise RecordError(f"{said}; ask each with the same --backend and the same number")
    held: dict[tuple[str, str], Run] = {}
    for run in parts:
        for key in _keys(run):
            holder = held.setdefault(key, run)
            if not set(holder.header.shards) & set(run.header.shards):
                said = f"{holder.path} and {run.path} are different shards, and both hold {key[1]}"
                raise RecordError(f"{said}; ask each with the same options")


def _names(run: Run) -> set[str]:
    return {s.subject for s in run.header.subjects}


def _count(run: Run) -> int:
    return int(run.header.shards[0].partition("/")[2])


def _keys(run: Run) -> set[tuple[str, str]]:
    return {(v.subject, v.question) for v in run.verdicts}


def _covers(other: Run, run: Run) -> bool:
    """Whether another run came to the end of what a run had begun."""
    same = (other.header.planned, other.header.shards) == (run.header.planned, run.header.shards)
    return other.ended and not run.ended and same and _keys(run) <= _keys(other)


def _header(runs: Sequence[Run], planned: int) -> Header:
    headers = [run.header for run in runs]
    parts = [run for run in runs if run.header.shards]
    shards = sorted({s for run in parts for s in run.header.shards}, key=_place)
    return replace(
        headers[0],
        started=min(each.started for each in headers),
        python=_all(each.python for each in headers),
        numpy=_all(each.numpy for each in headers),
        platform=_all(each.platform for each in headers),
        planned=planned,
        subjects=tuple(_subjects(runs)),
        shards=() if parts and len(shards) == _count(parts[0]) else tuple(shards),
    )


def _place(shard: str) -> int:
    return int(shard.partition("/")[0])


def _all(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def _subjects(runs: Sequence[Run]) -> Iterator[Subject]:
    """Yield each subject once, with all divergences that are recorded of it."""
    pairs = [(run, subject) for run in runs for subject in run.header.subjects]
    for name, same in grouped(pairs, lambda pair: pair[1].subject).items():
        versions = {subject.version: run for run, subject in same if subject.version}
        if len(versions) > 1:
            said = ", ".join(f"{version} in {run.path}" for version, run in versions.items())
            raise RecordError(f"{name} is {said}; join what is of one version, and `diff` the rest")
        entries = {entry.id: entry for _, subject in same for entry in subject.divergences}
        yield Subject(name, next(iter(versions), ""), tuple(entries.values()))


def _order(verdict: Verdict) -> tuple[bool, int, int]:
    """Return by which of several verdicts the first is kept: an answer, the worst, the most."""
    name = verdict.verdict
    return name == "not-run", VERDICTS.index(name), -verdict.examples


def _contradiction(same: Sequence[tuple[Run, Verdict]]) -> str:
    """Return how records answer one question differently; empty if they do not."""
    told = {_told(v): run for run, v in reversed(same) if v.verdict != "not-run"}
    if len(told) < 2:
        return ""
    each = ", ".join(f"{what} in {run.path}" for what, run in reversed(told.items()))
    return f"{same[0][1].subject}, {same[0][1].question}: {each}"


def _told(verdict: Verdict) -> str:
    """Return what all machines must agree on; the number of cases, where nothing cut it short."""
    compiled = " of few shapes" * verdict.compiles
    cases = f" of {verdict.examples} cases{compiled}" * (verdict.verdict == "pass")
    return f"{verdict.verdict}{cases}"


def _traits(runs: Sequence[Run]) -> tuple[tuple[Trait, ...], Iterator[str]]:
    """Return the traits of all runs, those that two measured of one question once.

    No trait names its question: runs without a question in common have no measurement in common.
    """
    kept: list[Trait] = []
    before: Counter[str] = Counter()
    asked: set[tuple[str, str]] = set()
    for run in runs:
        again = before.copy() if asked & _keys(run) else Counter[str]()
        for trait in run.traits:
            text = json.dumps(encode(trait), sort_keys=True)
            if again[text] > 0:
                again[text] -= 1
            else:
                kept.append(trait)
                before[text] += 1
        asked |= _keys(run)
    return tuple(kept), _torn(runs)


def _torn(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the traits of which records of one question measured different values at a place."""
    asked = [(run, _keys(run)) for run in runs]
    alike = [r for r, mine in asked if any(mine & more for other, more in asked if other is not r)]
    pairs = [(run, trait) for run in alike for trait in run.traits]

    def place(pair: tuple[Run, Trait]) -> tuple[str, str, str]:
        trait = pair[1]
        return trait.subject, trait.trait, json.dumps(encode(trait.where), sort_keys=True)

    for (subject, name, _), same in grouped(pairs, place).items():
        values = grouped(same, lambda pair: str(pair[0].path))
        each = {path: {trait.value for _, trait in found} for path, found in values.items()}
        most = set[str]().union(*each.values())
        if most not in each.values():  # a record that was cut has fewer of the same values
            told = (f"{' and '.join(sorted(found))} in {path}" for path, found in each.items())
            yield f"{subject}, {name}: {', '.join(told)}"
