"""``cnnformance history``: which version of a framework brought or mended what.

It shows records: those that are named, or those that it keeps, one for each version. What has no
fresh one is asked first.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
from packaging.version import Version

import cnnformance
from cnnformance.adapters import registry, versions
from cnnformance.conformance import divergences
from cnnformance.conformance.recognition import recognised
from cnnformance.reports import history, history_render, merge, records, selection
from cnnformance.reports.places import FILE, FOLDER, resolve
from cnnformance.reports.records import RecordError, Run

_ASKED = ("spec", "reference", "adapters", "conformance")
"""The folders whose sources settle what is asked, and how it is judged."""


def answer(options: argparse.Namespace) -> str:
    """Return the history that the options ask for.

    Raises:
        ValueError: a name or a version means nothing, or a run did not come to its end.
        RecordError: a record cannot be read, or is of something else.
    """
    name = options.name
    asked = _versions(options.versions)
    at(name, "0")  # which refuses what can have no versions
    if options.run:
        found = _recorded(name, [records.read(resolve(each, Path.cwd())) for each in options.run])
        if lacking := [v for v in asked if not any(versions.fits(one, v) for one in found)]:
            there = ", ".join(found) or "none"
            raise RecordError(f"no record is of {name} {', '.join(lacking)}; there are {there}")
        found = {
            one: run
            for one, run in found.items()
            if not asked or any(versions.fits(one, v) for v in asked)
        }
    elif asked:
        found = {version: _kept(at(name, version), options) for version in asked}
    else:
        raise ValueError("history needs --versions A,B,C, or --run RUN --run RUN")
    return history_render.FORMATS[options.format](_told(name, found))


def _versions(text: str) -> list[str]:
    asked = list(dict.fromkeys(filter(None, text.split(","))))
    for version in asked:
        if not versions.VERSION.fullmatch(version):
            raise ValueError(f"--versions: {version!r} is no version such as 1.20.0")
    return asked


def at(name: str, version: str) -> str:
    """Return the name of a subject at a version, which stands before mode and device.

    Raises:
        ValueError: it names a version already, or no registered backend.
    """
    framework, rest = re.fullmatch(r"([^:@]*)(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr] # it matches any text
    if "==" in name:
        raise ValueError(f"{name}: name a backend without a version, such as onnxruntime")
    subject = f"{framework}=={version}{rest}"
    try:
        registry.parse(subject)
    except registry.SubjectError as error:
        raise ValueError(str(error).removeprefix(f"--backend {subject}: ")) from error
    return subject


def _recorded(name: str, runs: Sequence[Run]) -> dict[str, Run]:
    """Return the answers of each version in some runs; of one in several, those of the last.

    Raises:
        RecordError: a run has none.
    """
    found: dict[str, Run] = {}
    for run in runs:
        own = [s for s in run.header.subjects if re.sub(r"==[^:@]*", "", s.subject) == name]
        if not own:
            there = ", ".join(run.subjects) or "none"
            raise RecordError(f"{run.path} has no subject {name!r}; it has {there}")
        for subject in own:
            version = versions.reported(subject.version)
            if not versions.VERSION.fullmatch(version):
                raise RecordError(f"{run.path}: {subject.subject} is of an unknown version")
            found[version] = _alone(run, subject, at(name, version))
    return found


def _alone(run: Run, subject: records.Subject, name: str) -> Run:
    """Return what a run has of one subject, under another name."""
    part = selection.part(run, [subject.subject])
    held = {field.name: getattr(part, field.name) for field in fields(Run)}
    held["path"] = run.path / name
    held["header"] = replace(part.header, subjects=(replace(subject, subject=name),))
    held["verdicts"] = tuple(replace(v, subject=name) for v in part.verdicts)
    held["traits"] = tuple(replace(t, subject=name) for t in part.traits)
    return Run(**held)


def _kept(subject: str, options: argparse.Namespace) -> Run:
    """Return the record that is kept of a version; it is made where there is no fresh one.

    Raises:
        ValueError: the run did not come to its end.
    """
    words = [re.sub(r"[^\w.=-]", "-", subject), options.profile, f"seed-{options.seed}"]
    if options.keyword:
        words.append(hashlib.sha256(options.keyword.encode()).hexdigest()[:8])
    path = Path.cwd() / FOLDER / "-".join(words) / FILE
    if not options.again and (fresh := _fresh(path)):
        return fresh
    questions = next(p for p in _folders("conformance") if p.is_dir())
    package = str(Path(cnnformance.__file__).resolve().parents[1])
    searched = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    command = [
        sys.executable, "-P", "-m", "pytest", str(questions), "-c", os.devnull,
        "--rootdir", str(questions.parent), "-p", "no:cacheprovider", "--backend", subject,
        "--profile", options.profile, "--seed", str(options.seed), "--record", str(path),
        *(["-n", str(options.processes)] if options.processes else []),
        *(["-k", options.keyword] if options.keyword else []),
    ]  # fmt: skip
    done = subprocess.run(  # noqa: S603 - our own words
        command, env={**os.environ, "PYTHONPATH": searched}, stdout=2, check=False
    )
    if done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED and options.keyword:
        raise ValueError(f"-k {options.keyword!r} selects no question")
    if done.returncode not in (0, 1):
        raise ValueError(f"{subject}: the run did not come to its end, but to {done.returncode}")
    return records.read(path)


def _folders(name: str) -> list[Path]:
    return [Path(place) / name for place in cnnformance.__path__]


def _fresh(path: Path) -> Run | None:
    """Return a whole record that holds answers, and was made by the suite as it is."""
    if not path.is_file():
        return None
    sources = (f for name in _ASKED for place in _folders(name) for f in place.glob("*.py"))
    if path.stat().st_mtime < max(f.stat().st_mtime for f in sources):
        return None
    try:
        run = records.read(path)
    except RecordError:
        return None
    answered = any(v.verdict != "not-run" for v in run.verdicts)
    return run if answered and not run.partial else None


def _told(name: str, found: Mapping[str, Run]) -> history.History:
    """Return the history that the runs of some versions tell, the oldest version first.

    Raises:
        RecordError: they were not asked alike.
    """
    known = divergences.load_divergences(at(name, "0")).divergences
    ordered = sorted(found, key=Version)
    runs = [recognised(found[version], known, registry.mode(name)) for version in ordered]
    joined = merge.merge(runs).run if len(runs) > 1 else runs[0]
    return history.history(name, ordered, joined)
