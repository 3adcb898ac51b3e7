"""The mutation score: how many faulty backends the suite catches, and how soon.

Run as ``python tests/mutation.py [--profile P] [--only TEXT] [--every N] [--jobs N] [--correct]``.
Each faulty backend is put through the public interface, first to the questions about its layer, and
to all of them if it survives those. ``--correct`` runs the correct-but-different backends instead,
all of whose verdicts must pass. ``--keep`` writes the figures to ``reports/credentials.json``, for
reports to show. Exit status 0: every fault caught, or no correct backend flagged.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import io
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from corpus.correct import CORRECT  # noqa: E402 - found through the path above
from corpus.faulty import FAULTS  # noqa: E402 - likewise

from cnnformance.conformance.profiles import PROFILES  # noqa: E402 - likewise
from cnnformance.reports import credentials, records  # noqa: E402 - likewise

CURVE = (0.5, 1, 3, 5, 15, 60)
"""The CPU seconds of asking at which the power curve is told."""


@dataclass(frozen=True)
class Outcome:
    """What became of one backend: the question that flagged it (empty: none), and the cost.

    ``seconds`` are those of the processor while questions were asked.
    """

    name: str
    question: str
    message: str
    examples: int
    seconds: float


class Clock:
    """Adds up the time of the processor that asking takes."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.seconds = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Add the time of one question."""
        start = time.process_time()
        try:
            return (yield)
        finally:
            self.seconds += time.process_time() - start


class Only:
    """Keeps the questions about one layer type."""

    def __init__(self, layer: str) -> None:
        """Name the layer type."""
        self.layer = layer

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what asks another layer type."""
        items[:] = [item for item in items if self._asks(item)]

    def _asks(self, item: pytest.Item) -> bool:
        params: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
        return getattr(params.get("layer_type"), "__name__", "") == self.layer


def put(target: str, profile: str, seed: int, plugins: Sequence[object] = ()) -> Outcome:
    """Run the suite over one backend in this process, until the first failing case."""
    clock = Clock()
    first = dataclasses.replace(PROFILES[profile], causes=1, shrinks=0)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(PROFILES, {profile: first}),
    ):
        record = Path(folder) / "verdicts.jsonl"
        arguments = [
            str(ROOT / "conformance"), "--rootdir", str(ROOT), "--backend", target, "--in-process",
            "--profile", profile, "--seed", str(seed), "--record", str(record), "-x", "-q",
            "-p", "no:cacheprovider", "--tb=no",
            "--assert=plain",  # this process has imported the modules that would be rewritten
        ]  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            pytest.main(arguments, plugins=[clock, *plugins])
        verdicts = records.read(record).verdicts if record.exists() else ()
    if not verdicts:
        raise RuntimeError(f"{target}: nothing was asked")
    flagged = next((v for v in verdicts if v.verdict in records.FAILING), None)
    examples = sum(v.examples for v in verdicts)
    question, message = (flagged.question, flagged.message) if flagged else ("", "")
    return Outcome(target, question, message, examples, clock.seconds)


def ask_layer(key: str, profile: str, seed: int = 0) -> Outcome:
    """Put one fault to the questions about its layer."""
    return put(_target(key), profile, seed, [Only(FAULTS[key].layer)])


def catch(job: tuple[str, str, int]) -> Outcome:
    """Put one fault to the questions about its layer, then to all."""
    key, profile, seed = job
    first = ask_layer(key, profile, seed)
    if first.question:
        return first
    second = put(_target(key), profile, seed)
    return dataclasses.replace(
        second,
        examples=first.examples + second.examples,
        seconds=first.seconds + second.seconds,
    )


def _target(key: str) -> str:
    return f"{ROOT / 'tests/corpus/faulty.py'}:{FAULTS[key].make().__name__}"


def spare(job: tuple[str, str, int]) -> Outcome:
    """Put one correct backend to all questions."""
    name, profile, seed = job
    return put(f"{ROOT / 'tests/corpus/correct.py'}:{name}", profile, seed)


def main() -> int:
    """Run one corpus and print the score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="default")
    parser.add_argument("--only", default="", help="backends whose name contains this")
    parser.add_argument("--every", type=int, default=1, help="one backend in so many")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--correct", action="store_true", help="the correct backends instead")
    parser.add_argument("--keep", action="store_true", help="the figures, for reports to show")
    options = parser.parse_args()
    if options.keep and options.only:
        parser.error("--keep is for a part of the corpus by --every, and not by --only")
    names = list(CORRECT) if options.correct else list(FAULTS)
    names = [name for name in names if options.only in name][:: options.every]
    if not names:
        parser.error(f"--only {options.only}: no backend has this in its name")
    jobs = [(name, options.profile, options.seed) for name in names]
    found = {}
    with multiprocessing.Pool(options.jobs, maxtasksperchild=10) as pool:
        work = pool.imap_unordered(spare if options.correct else catch, jobs)
        for outcome in work:
            found[outcome.name] = outcome
            if bool(outcome.question) == options.correct:
                word = "FLAGGED" if options.correct else "SURVIVED"
                name = outcome.name.rpartition(":")[2]
                print(f"{word} {name}: {outcome.question} {outcome.message}", flush=True)
            if len(found) % 50 == 0:
                print(f"{len(found)} of {len(jobs)}", flush=True)
    measured: credentials.Measurement
    given = {
        "profile": options.profile,
        "seed": options.seed,
        "every": options.every,
        "day": str(dt.datetime.now(dt.UTC).date()),
    }
    if options.correct:
        flagged = sum(bool(o.question) for o in found.values())
        measured = credentials.Soundness(**given, backends=len(found), flagged=flagged)
        print(f"{flagged} of {len(found)} correct backends flagged")
        missed = flagged
    else:
        measured = _power(found, given)
        _tell(measured)
        missed = measured.faults - measured.caught
    if options.keep and not credentials.keep(measured):
        print("not kept: the figures there are of more of the corpus")
    return int(missed > 0)


def _power(found: Mapping[str, Outcome], given: Mapping[str, Any]) -> credentials.Power:
    by_target = {f.make().__name__: f for f in FAULTS.values()}
    totals: Counter[str] = Counter()
    caught: Counter[str] = Counter()
    for name, outcome in found.items():
        fault = by_target[name.rpartition(":")[2]]
        for group in (f"class {fault.fault_class}", f"layer {fault.layer}"):
            totals[group] += 1
            caught[group] += bool(outcome.question)
    killed = [outcome for outcome in found.values() if outcome.question]
    return credentials.Power(
        **given,
        faults=len(found),
        caught=len(killed),
        seconds=round(median(o.seconds for o in killed), 2) if killed else 0.0,
        examples=round(median(o.examples for o in killed)) if killed else 0,
        curve=tuple((float(s), sum(o.seconds <= s for o in killed)) for s in CURVE),
        groups={group: (caught[group], totals[group]) for group in sorted(totals)},
    )


def _tell(power: credentials.Power) -> None:
    for group, (caught, total) in {"all": (power.caught, power.faults), **power.groups}.items():
        print(f"{caught:4d} / {total:4d}  {group}")
    print(f"median to detection: {power.seconds:.2f} CPU seconds, {power.examples} examples")
    for limit, caught in power.curve:
        print(f"caught within {limit:g} CPU seconds of asking: {caught / power.faults:.1%}")


if __name__ == "__main__":
    sys.exit(main())
