"""Run the script of every recorded divergence of the installed frameworks, alone: each shows it.

A question that meets each is asked (``divergences.toml``), its script is taken from the record and
run in an empty folder. It must end with status 1 and an ``AssertionError``, with the exception
that it is about, or with the signal of a crash. Run as ``make scripts``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from cnnformance.adapters import registry
from cnnformance.adapters.installers import variables
from cnnformance.adapters.subject import Subject
from cnnformance.conformance.divergences import load_divergences
from cnnformance.reports import records
from cnnformance.spec import reading
from cnnformance.spec.reading import Text

HERE = Path(__file__).parent
LONGEST = 300
"""Seconds that a script may take, with the import of its framework on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """The question that meets a divergence, of which subject, and in which profile.

    One with a ``chance`` need not show it: that says why.
    """

    question: Text
    subject: Text
    profile: Literal["quick", "default", "thorough"] = "quick"
    chance: str = ""


_MEETINGS: TypeAdapter[dict[str, dict[str, dict[str, str]]]] = reading.adapter(
    dict[str, dict[str, dict[str, str]]]
)
_MEETING: TypeAdapter[dict[str, Meeting]] = reading.adapter(dict[str, Meeting])


def table() -> dict[str, Meeting]:
    """Return of each divergence how it is met; the subject is its framework where none is named."""
    file = HERE / "divergences.toml"
    data = reading.toml(reading.text(file, file.name), file.name)
    named = {
        f"{name}.{rest}": {"subject": name, **entry}
        for name, entries in reading.typed(_MEETINGS, data, file=file.name).items()
        for rest, entry in entries.items()
    }
    return reading.typed(_MEETING, named, file=file.name)


def asked(entries: dict[str, Meeting], folder: Path) -> Iterator[records.Run]:
    """Ask the questions, those of a profile in one run."""
    for profile in dict.fromkeys(entry.profile for entry in entries.values()):
        chosen = [entry for entry in entries.values() if entry.profile == profile]
        nodes = dict.fromkeys(map(_node, chosen))
        subjects = dict.fromkeys(entry.subject for entry in chosen)
        record = folder / f"{profile}.jsonl"
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *nodes]
        words += [f"--backend={subject}" for subject in subjects]
        words += [f"--profile={profile}", f"--record={record}"]
        done = subprocess.run(  # noqa: S603 - our own words
            words, cwd=HERE.parent, capture_output=True, text=True, check=False
        )
        if not record.exists():
            sys.exit(f"the questions could not be asked:\n{done.stdout}{done.stderr}")
        yield records.read(record)


def _node(entry: Meeting) -> str:
    test, _, parameters = entry.question.partition("[")
    rest = f"-{parameters}" if parameters else "]"
    return f"conformance/{test}[{entry.subject}{rest}"


def failure_of(name: str, entry: Meeting, runs: list[records.Run]) -> records.Failure | None:
    """Return the failure that met a divergence, if one did."""
    for verdict in (v for run in runs for v in run.verdicts if v.verdict == "known"):
        if (verdict.subject, verdict.question) == (entry.subject, entry.question):
            failures = [f for f in (verdict.failure, *verdict.others) if f]
            failures = [replace(f, message=f.message or verdict.message) for f in failures]
            found = dict(zip(verdict.known, failures, strict=False))
            if name in found:
                return found[name]
    return None


def shown(failure: records.Failure, python: str) -> str:
    """Return why the script of a failure does not show it in a Python; empty where it does."""
    if not failure.script:
        return "there is no script"
    with tempfile.TemporaryDirectory() as folder:
        words = [python, "-c", failure.script]
        done = subprocess.run(  # noqa: S603 - a script of ours is the claim
            words, cwd=folder, env=variables(python), capture_output=True, text=True,
            timeout=LONGEST, check=False,
        )  # fmt: skip
    if failure.effect == "crash":
        return "" if done.returncode < 0 else f"it ended with {done.returncode}, and no signal"
    if done.returncode != 1:
        return f"it ended with {done.returncode}"
    if failure.effect == "exception":
        said = failure.message.partition("raised ")[2].partition(":")[0]
        return "" if said and said in done.stderr else f"it raised no {said}"
    last = [line for line in done.stderr.splitlines() if line.startswith("AssertionError")]
    return "" if last else f"it raised no AssertionError: {done.stderr.strip()[-200:]}"


def main() -> int:
    """Return 0 if the script of every divergence shows it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="frameworks or ids; default: all installed")
    names = parser.parse_args().names
    installed = registry.installed()
    entries = {
        name: entry
        for name, entry in table().items()
        if name.partition(".")[0] in installed
        and (not names or name in names or name.partition(".")[0] in names)
    }
    with tempfile.TemporaryDirectory() as folder:
        runs = list(asked(entries, Path(folder)))
    wrong = 0
    for name, entry in entries.items():
        failure = failure_of(name, entry, runs)
        python = Subject(registry.parse(entry.subject)).python
        why = shown(failure, python) if failure else f"{entry.question} did not meet it"
        lines = (failure.script or "").count("\n") if failure else 0
        told, state = why or f"{lines} lines", "WRONG" if why else "shown"
        if why and entry.chance:
            told, state = f"{why}; {entry.chance}", "chance"
        wrong += state == "WRONG"
        sys.stdout.write(f"{state}  {name}: {told}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{wrong} of {len(entries)} scripts do not show their divergence\n")
    return int(bool(wrong))


def recorded() -> set[str]:
    """Return the ids of all divergences recorded beside the adapters of this project."""
    return {d.id for name in registry.registered() for d in load_divergences(name).divergences}


if __name__ == "__main__":
    sys.exit(main())
