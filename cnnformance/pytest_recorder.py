"""The recorder of a run: it writes each verdict as it falls, and the footer at the end."""

from __future__ import annotations

import datetime as dt
import json
import platform
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnformance
from cnnformance.adapters import registry
from cnnformance.adapters.subject import Subject
from cnnformance.conformance.divergences import load_divergences
from cnnformance.pytest_items import subject_of
from cnnformance.pytest_options import option, unusable
from cnnformance.reports import records
from cnnformance.reports.printable import printable

PROPERTY = "cnnformance"
"""The name under which a report of pytest carries the verdict of a question, as JSON."""
BEGUN = "cnnformance begun"
"""The name under which it carries the verdict on a question of which no more may be heard."""
VERDICT = "cnnformance verdict"
"""The name under which it carries the name of the verdict, which it keeps."""


class Recorder:
    """Writes the record file: the header at collection, each verdict as it falls, the footer."""

    def __init__(self, config: pytest.Config, subjects: dict[str, Subject]) -> None:
        """Record the verdicts on these subjects, by their names."""
        self.config = config
        self.subjects = subjects
        stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        default = Path.cwd() / records.FOLDER / stamp / records.FILE
        self.named = config.getoption("--record") or default
        self.path = Path(self.named).absolute()
        self.start = time.monotonic()
        self.writer: records.Writer | None = None
        self.recorded = 0
        self.begun: dict[str, str] = {}
        """The verdicts on questions that are being asked, should no more be heard of them."""
        self.planned = 0
        parts = [a for a in config.args if "::" in a or a.endswith(".py")]
        self.selected = bool(config.getoption("keyword") or option(config, "--level") or parts)

    def _open(self) -> None:
        try:
            if self.path.exists() and not self.path.is_file():
                said = f"--record {self.named}: this is no file; name one that can be written"
                raise unusable(said)
            if self.path.exists() and not records.is_record(self.path):
                said = f"--record {self.named}: this is no record; name a new file, or an older one"
                raise unusable(said)
            self.path.unlink(missing_ok=True)
            self.writer = records.Writer(self.path)
        except OSError as error:
            said = f"--record {self.named}: {error.strerror}; name a file that can be written"
            raise unusable(said) from error
        shard = option(self.config, "--shard")
        self._write(
            records.Header(
                started=_now(),
                cnnformance=cnnformance.__version__,
                python=sys.version.split()[0],
                numpy=np.__version__,
                platform=platform.platform(),
                profile=option(self.config, "--profile"),
                seed=option(self.config, "--seed"),
                planned=self.planned,
                shards=("/".join(map(str, shard)),) if shard and shard != (1, 1) else (),
                subjects=tuple(
                    records.Subject(
                        subject.name,
                        version(subject),
                        load_divergences(subject.target.name).divergences,
                    )
                    for subject in self.subjects.values()
                ),
            )
        )

    def _write(self, record: records.Record | dict[str, Any]) -> None:
        assert self.writer is not None
        try:
            self.writer.write(record)
        except OSError as error:
            kept = f"{printable(str(self.path))}: {error.strerror}; what was recorded is kept"
            pytest.exit(kept, 3)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count the questions that are planned."""
        if session.config.getoption("collectonly") or self.writer is not None:
            return
        self.planned = sum("ask" in getattr(item, "fixturenames", ()) for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Count the questions that a process of pytest-xdist has collected."""
        self.planned = sum(subject_of(i, self.subjects) is not None for i in ids)

    def pytest_runtest_logstart(self) -> None:
        """Open the record with the first question: what asks none leaves an older one alone."""
        if self.writer is None and self.planned:
            self._open()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(
        self, report: pytest.TestReport
    ) -> Generator[None, object, object]:
        """Write the verdict that a report carries, or that of a question whose process is gone.

        It comes before the terminal, which shows what is written.
        """
        for name, value in report.user_properties:
            if name == BEGUN:
                self.begun[report.nodeid] = str(value)
            elif name == PROPERTY:
                self._verdict(report.nodeid, str(value))
        if str(report.when) == "???" and report.nodeid in self.begun:  # xdist: its process is gone
            report.user_properties.append((VERDICT, "crash"))
            self._verdict(report.nodeid, self.begun[report.nodeid])
        ours = (PROPERTY, BEGUN)
        report.user_properties = [p for p in report.user_properties if p[0] not in ours]
        return (yield)

    def _verdict(self, question: str, lines: str) -> None:
        self.begun.pop(question, None)
        if self.writer is not None:
            for line in json.loads(lines):
                self._write(line)
            self.recorded += 1

    def pytest_sessionfinish(self) -> None:
        """Write the footer, if every question that was planned has a verdict."""
        if self.writer is not None and self.recorded >= self.planned:
            self._write(
                records.Footer(_now(), round(time.monotonic() - self.start, 3), self.recorded)
            )
        if self.writer is not None:
            self.writer.close()

    def unseen(self, run: records.Run) -> Iterator[str]:
        """Yield the recorded divergences that a whole run should have met again, and did not."""
        if run.partial or run.header.profile == "quick" or self.selected:
            return
        for name, subject in self.subjects.items():
            seen = {i for v in run.verdicts if v.subject == name for i in v.known}
            applying = load_divergences(name).applying(version(subject), subject.target.mode)
            for divergence in applying:
                if divergence.id not in seen:
                    yield f"{name}: recorded divergence {divergence.id} was not seen: is it fixed?"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def version(subject: Subject) -> str:
    """Return what is known without waiting: the distribution's version, or what a started one says.

    Where one is asked for, that runs, or nothing. A subject that is a class has been started to
    see whether there is one.
    """
    target = subject.target
    if target.framework:
        return target.version or registry.installed_version(target.framework)
    return subject.info.version
