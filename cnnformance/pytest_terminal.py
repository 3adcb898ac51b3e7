"""What a run shows in the terminal: what is asked, verdicts as they fall, and the summary."""

from __future__ import annotations

import copy
import shlex
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import pytest

from cnnformance.conformance.profiles import PROFILES
from cnnformance.pytest_items import subject_of
from cnnformance.pytest_options import option
from cnnformance.pytest_recorder import VERDICT, Recorder, version
from cnnformance.reports import records, summary
from cnnformance.reports.printable import printable

_PYTEST: Mapping[str, str] = {
    "pass": "passed",
    "known": "xfailed",
    "unsupported": "skipped",
    "not-run": "skipped",
    "fail": "failed",
    "crash": "failed",
    "hang": "failed",
}
"""The words of pytest for verdicts; it has the word "error" itself."""

_COLOURS: Mapping[str, str] = {"pass": "green", **dict.fromkeys(records.FAILING, "red")}


def verdict(report: pytest.TestReport | pytest.CollectReport) -> records.VerdictName | None:
    """Return the verdict that a report of pytest carries; None of what is no question."""
    found = dict(getattr(report, "user_properties", ())).get(VERDICT)
    return next((name for name in records.VERDICTS if name == found), None)


class _Uncounted(pytest.TestReport):
    """A report that is counted under another word."""

    @property
    def count_towards_summary(self) -> bool:
        return False


class Terminal:
    """Shows a run in pytest's own terminal, which has its colours, its width and its quietness."""

    def __init__(self, recorder: Recorder) -> None:
        """Show what is recorded."""
        self.recorder = recorder
        self.config = recorder.config
        self.planned: Counter[str] = Counter()
        self.fallen: dict[str, Counter[records.VerdictName]] = {}
        self.place = ""
        """The subject and the theme of the line on which letters stand."""

    @property
    def _reporter(self) -> Any:
        return self.config.pluginmanager.get_plugin("terminalreporter")

    def _write(self, line: str, **colour: bool) -> None:
        """Write a line of its own, between the letters or between the questions of ``-v``."""
        writer = self.config.get_terminal_writer()
        if self._reporter.showlongtestinfo:  # pytest begins its next line itself
            writer.write(f"\n{line}", **colour)
        else:
            self._end_line()
            writer.line(line, **colour)

    def _end_line(self) -> None:
        """End a line of letters with the part of the questions that was asked, as pytest does."""
        writer = self.config.get_terminal_writer()
        if width := writer.width_of_current_line:
            part = f"[{self._asked() * 100 // self.planned.total():3}%]"
            writer.line(part.rjust(writer.fullwidth - width - 1))
        self.place = ""

    def _asked(self) -> int:
        return sum(counts.total() for counts in self.fallen.values())

    def pytest_report_header(self) -> list[str]:
        """Say who is asked, and how much."""
        versions = {name: version(s) for name, s in self.recorder.subjects.items()}
        named = (f"{n} {v}" if v not in ("", "unknown") else n for n, v in versions.items())
        profile = PROFILES[option(self.config, "--profile")]
        drawn = f"{profile.examples:,} drawn cases a question"
        return [
            printable(f"subjects: {', '.join(named)}"),
            f"profile: {profile.name} ({drawn}), seed {option(self.config, '--seed')}",
        ]

    def pytest_report_collectionfinish(self, items: Sequence[pytest.Item]) -> list[str]:
        """Say how many questions are put to whom."""
        self._plan([item.nodeid for item in items])
        return self._questions() if self._reporter.verbosity >= 0 else []

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Say it once where processes of pytest-xdist collect."""
        first = not self.planned
        self._plan(ids)
        if first and self._reporter.verbosity >= 0:
            for line in self._questions():
                self._write(line)

    def _plan(self, ids: Sequence[str]) -> None:
        found = (subject_of(i, self.recorder.subjects) for i in ids)
        self.planned = Counter(name for name in found if name is not None)

    def _questions(self) -> list[str]:
        each = [f"{n:,} to {name}" for name, n in self.planned.items()]
        several = f": {', '.join(each)}" if len(each) > 1 else ""
        return [printable(f"{self.planned.total():,} questions{several}")] if each else []

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport | pytest.CollectReport
    ) -> tuple[str, str, str] | None:
        """Name a verdict by its own word and letter."""
        found = verdict(report)
        return (found, summary.LETTERS[found], found.upper()) if found else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Begin a line for each subject and theme, where pytest would for each file."""
        reporter, subject = self._reporter, subject_of(nodeid, self.recorder.subjects)
        if reporter.verbosity != 0 or self.config.getoption("tx", None):
            return
        reporter.showfspath = subject is None
        theme = Path(nodeid.partition("::")[0]).stem.removeprefix("test_").replace("_", " ")
        place = printable(f"{subject}, {theme}: ")
        if subject is not None and place != self.place:
            self._end_line()
            self.config.get_terminal_writer().write(place, flush=True)
            self.place = place

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(
        self, report: pytest.TestReport
    ) -> Generator[None, object, object]:
        """Tell a failure in a line below its letter, and when a subject was asked everything."""
        subject = subject_of(report.nodeid, self.recorder.subjects)
        found = verdict(report)
        if found is None or subject is None:
            return (yield)
        if word := _PYTEST.get(found):  # by which pytest finds what -r and --tb show
            again = copy.copy(report)
            again.__class__ = _Uncounted
            self._reporter.stats.setdefault(word, []).append(again)
        done = yield
        counts = self.fallen.setdefault(subject, Counter())
        counts[found] += 1
        if self._reporter.verbosity < 0:
            return done
        if found in records.FAILING:
            said = str(report.longrepr).partition("\n")[0].removeprefix(f"{subject}: {found} ")
            line = printable(f"{found.upper()} {report.nodeid.partition('::')[2]} {said}")
            width = self.config.get_terminal_writer().fullwidth
            self._write(shorten(line, width, placeholder=" ..."), red=True)
        if counts.total() == self.planned[subject] and self._asked() < self.planned.total():
            told = (f"{counts[name]} {name}" for name in records.VERDICTS if counts[name])
            self._write(printable(f"{subject} is through: {', '.join(told)}"))
        return done

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the summary of the run, as it was recorded."""
        if self.recorder.writer is None:
            return
        if self.config.getoption("reportchars") == "fE" and terminalreporter.verbosity >= 0:
            failed = terminalreporter.stats.get("failed", [])  # each was told as it fell
            failed[:] = [r for r in failed if r.count_towards_summary]
        try:
            run = records.read(self.recorder.path)
        except records.RecordError as error:
            terminalreporter.write_line(printable(f"the record cannot be read again: {error}"))
            return
        terminalreporter.section("conformance")
        writer = self.config.get_terminal_writer()
        for line in summary.lines(run, writer.fullwidth):
            for cell in line:
                colour = _COLOURS.get(cell.verdict or "", "yellow")
                writer.write(cell.text, **({colour: True} if cell.verdict else {}))
            writer.line()
        for said in self.recorder.unseen(run):
            writer.line(printable(said))
        for said in self._places(run.path):
            writer.line(printable(said))

    def _places(self, path: Path) -> tuple[str, str]:
        """Say where the record is, from where the run was begun, and how to see all of it."""
        here = self.config.invocation_params.dir
        near = path.relative_to(here) if path.is_relative_to(here) else path
        named = near if near.parent == Path() or near.name != records.FILE else near.parent
        shown = f"cnnformance report {shlex.quote(str(named))}"
        return f"verdicts: {near}", f"the whole report: {shown}"
