"""The pytest plugin: options, the ``ask`` fixture, and the record of every verdict."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import io
import json
import math
import platform
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import cnnformance
from cnnformance import several
from cnnformance.adapters import registry
from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.exceptions import AdapterBroke, Stopped, Unknown
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import order, reproduction
from cnnformance.conformance.compiling import compiles
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.known import load_known
from cnnformance.conformance.profiles import PROFILES
from cnnformance.conformance.question import Question
from cnnformance.conformance.requests import Cut
from cnnformance.reports import arrays, records, render
from cnnformance.reports.printable import printable
from cnnformance.spec import clauses, networks
from cnnformance.spec import layers as spec
from cnnformance.spec.reading import DataError

_TARGETS = pytest.StashKey[dict[str, registry.Target]]()
_SUBJECTS = pytest.StashKey[dict[str, Subject]]()
_ASK = pytest.StashKey[Question]()
_COMPILES = pytest.StashKey[dict[str, bool]]()
_DEADLINE = pytest.StashKey[float]()
_RECORDER = pytest.StashKey["_Recorder"]()
_PROPERTY = "cnnformance"
_BEGUN = "cnnformance begun"
_LEVELS: tuple[clauses.Level, ...] = get_args(clauses.Level)
_PATIENCE = 20.0
"""Seconds that a subject may take to start before the questions are collected."""
_LARGEST = 2.0**33
"""The GiB that a 64-bit size holds."""
_LONGEST = 2000
"""The characters of a message that are recorded."""
_MOST_CLOSING = 12
"""The most closing lines on what was not run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    group = parser.getgroup("cnnformance", "CNN conformance")
    group.addoption(
        "--backend",
        action="append",
        default=[],
        metavar="SUBJECT",
        help="NAME[:MODE][@DEVICE], package.module:Class or path/to/file.py:Class, or a function "
        "in the place of the class; may be repeated; default: every installed backend",
    )
    group.addoption(
        "--profile", choices=list(PROFILES), default="default", help="how much is asked"
    )
    group.addoption(
        "--level",
        action="append",
        choices=_LEVELS,
        default=[],
        help="ask only what clauses of this level say; may be repeated; default: all",
    )
    group.addoption(
        "--timeout", type=_seconds, default=30.0, metavar="S", help="time limit of one request (30)"
    )
    group.addoption(
        "--memory-limit", type=_size, default=8.0, metavar="GIB", help="of a worker; 0: none (8)"
    )
    group.addoption(
        "--budget",
        type=_seconds,
        metavar="S",
        help="seconds of the whole run, after which questions are not run; default: no limit",
    )
    group.addoption("--seed", type=_seed, default=0, help="seed of all drawn cases (0)")
    group.addoption("--record", metavar="FILE", help="where the verdicts go")
    group.addoption(
        "--in-process", action="store_true", help="run backends in this process, for debuggers"
    )
    group.addoption("--link", type=int, help=argparse.SUPPRESS)  # a socket, as ``Subject`` has it


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _seconds(text: str) -> float:
    """Return a time limit; argparse names the option in its error."""
    if not 0 < (value := _number(text)) <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return value


def _size(text: str) -> float:
    if not 0 <= (value := _number(text)) < _LARGEST:
        raise argparse.ArgumentTypeError(f"{text} is no size of 0 or more, in GiB")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text} is no integer of 0 or more")
    return int(text)


def _option(config: pytest.Config, name: str) -> Any:
    """Return the value of an option of ours; each has a default."""
    return config.getoption(name)


def pytest_configure(config: pytest.Config) -> None:
    """Find the subjects; a name that means nothing ends the run before it begins."""
    config.addinivalue_line("markers", "clauses(*ids): the clauses of the spec that a test checks")
    names = config.getoption("--backend") or registry.installed()
    try:
        clauses.load()
        networks.load()
        config.stash[_TARGETS] = {name: registry.parse(name) for name in names}
        for name in names:
            load_known(name)
    except (registry.SubjectError, DataError) as error:
        raise _unusable(str(error)) from error
    config.stash[_SUBJECTS] = {
        name: Subject(
            target,
            seconds=_option(config, "--timeout"),
            memory=_option(config, "--memory-limit"),
            in_process=_option(config, "--in-process"),
            link=_option(config, "--link"),
        )
        for name, target in config.stash[_TARGETS].items()
    }
    config.stash[_COMPILES] = {}
    config.stash[_DEADLINE] = time.monotonic() + (_option(config, "--budget") or math.inf)
    if not hasattr(config, "workerinput"):
        if isinstance(sys.stdout, io.TextIOWrapper):  # else pytest escapes the ends of lines too
            sys.stdout.reconfigure(errors="backslashreplace")
        if config.getoption("tx", None):
            several.require_unicode(config)
        _try_names(config)
        config.stash[_RECORDER] = _Recorder(config)
        config.pluginmanager.register(config.stash[_RECORDER], "cnnformance-recorder")
    else:
        several.end_with_the_run()


def _unusable(said: str) -> pytest.UsageError:
    """Return what ends the run before it begins, in one line: it may quote paths and files."""
    return pytest.UsageError(" ".join(printable(said).split()))


def _try_names(config: pytest.Config) -> None:
    """Start the subjects whose class, mode or device may not exist.

    One that cannot be started for another reason, or takes long, stays: each question waits for it,
    and says so.
    """
    if config.getoption("collectonly"):
        return
    tried = [s for s in config.stash[_SUBJECTS].values() if not s.target.plain]
    for subject in tried:
        subject.launch()
    for subject in tried:
        if not subject.starts_within(_PATIENCE):
            continue
        try:
            subject.start()
        except Unknown as error:
            raise _unusable(f"--backend {error}") from error
        except AdapterBroke:
            continue
        if config.getoption("numprocesses", None):  # the questions are put elsewhere
            subject.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the workers."""
    for subject in config.stash.get(_SUBJECTS, {}).values():
        subject.close()


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Put every question to every subject, whose name comes first in the id."""
    if "ask" in metafunc.fixturenames:
        subjects: dict[str, Subject] = metafunc.config.stash[_SUBJECTS]
        names, ids = list(subjects), [_id(name) for name in subjects]
        metafunc.parametrize("subject", names, ids=ids, scope="session", indirect=True)


def _id(subject: str) -> str:
    """Return a subject's name as it stands in the ids of pytest: in what it would not escape."""
    plain = (c.isascii() and c.isprintable() and c != "\\" for c in subject)
    return "".join(c if kept else f"&#{ord(c)};" for c, kept in zip(subject, plain, strict=True))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the questions of each subject, and leave out those of levels that were not chosen.

    And those that would compare a subject with itself: it is the plain way of its framework.
    """
    known: dict[str, Subject] = config.stash[_SUBJECTS]
    subjects = list(known)

    def place(item: pytest.Item) -> tuple[int, int]:
        name = _params(item).get("subject")
        if name not in subjects:  # a test of someone else's
            return -1, 0
        return subjects.index(name), order.place(_question(item, name))

    items.sort(key=place)
    levels = _option(config, "--level")

    def left_out(item: pytest.Item) -> bool:
        target = config.stash[_TARGETS].get(_params(item).get("subject", ""))
        default = target is not None and not target.mode and target.device == "cpu"
        itself = default and "plain" in getattr(item, "fixturenames", ())
        return itself or bool(levels and _level(item) not in levels)

    if others := [item for item in items if left_out(item)]:
        items[:] = [item for item in items if not left_out(item)]
        config.hook.pytest_deselected(items=others)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start importing all frameworks at once."""
    if not session.config.getoption("collectonly"):
        asked = {_params(item).get("subject") for item in session.items}
        for name, subject in session.config.stash[_SUBJECTS].items():
            if name in asked:
                subject.launch()


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The backend under test."""
    config = request.config
    found: Subject = config.stash[_SUBJECTS][request.param]
    if time.monotonic() < config.stash[_DEADLINE]:
        with contextlib.suppress(AdapterBroke):  # every question that is asked raises it again
            found.start()  # the time that it takes is no question's
            # in this process it is not tried out: it could end the run before any question
            config.stash[_COMPILES][found.name] = found.isolated and compiles(found)
    return found


@pytest.fixture
def ask(request: pytest.FixtureRequest, subject: Subject) -> Question:
    """One question to the subject: runs, judges and collects the evidence."""
    config = request.config
    made = Question(
        subject,
        PROFILES[_option(config, "--profile")],
        seed=_option(config, "--seed"),
        known=load_known(subject.target.name),
        id=_question(request.node, subject.name),
        compiles=config.stash[_COMPILES].get(subject.name, False),
        deadline=config.stash[_DEADLINE],
    )
    request.node.stash[_ASK] = made
    if made.over:
        raise Cut
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the outcome of a question into a verdict, and show failures in the suite's words."""
    asked = item.stash.get(_ASK, None)
    if asked is None:
        return (yield)
    raised, call.excinfo = call.excinfo, None  # to render a traceback costs more than to ask
    report = yield
    call.excinfo = raised
    if call.when != "call" and raised is None:
        if call.when == "setup":
            report.user_properties.append((_BEGUN, _transport(_died(item, asked), asked)))
        return report
    verdict, message, failures = _verdict(asked, call, _option(item.config, "--budget"))
    failure = failures[0] if failures else None
    if verdict in records.FAILING:
        report.outcome = "failed"
    elif verdict == "known":
        report.outcome = "skipped"
        report.wasxfail = printable(message)
    elif verdict in {"unsupported", "not-run"}:
        report.outcome = "skipped"
        report.longrepr = (
            str(item.path),
            item.location[1] or 0,
            printable(f"{verdict}: {message}"),
        )
    record = _record(item, asked, (verdict, message, failures), call.duration)
    if verdict in records.FAILING:
        report.longrepr = printable(_shown(record, failure, call))
    report.user_properties.append((_PROPERTY, _transport(record, asked)))
    return report


def _verdict(
    asked: Question, call: pytest.CallInfo[None], budget: float | None
) -> tuple[str, str, list[Failure]]:
    """Return the verdict, what it says, and the failures that it stands on, the worst first."""
    error = call.excinfo.value if call.excinfo else None
    failures = list(asked.failures)
    match error:
        case None | Unsupported() | Stopped() | pytest.skip.Exception() | Cut():
            pass
        case Failure():
            asked.count(error)
            if not asked.divergence(error):
                failures.append(error)
        case AdapterBroke():
            failures.append(Failure("adapter", str(error), detail=error.traceback))
        case _:
            return "error", f"{type(error).__name__}: {error}", []
    if failures:
        verdicts = [records.VERDICT_OF.get(failure.effect, "fail") for failure in failures]
        worst = min(range(len(failures)), key=lambda i: records.FAILING.index(verdicts[i]))
        first = failures.pop(worst)
        return verdicts[worst], first.message, [first, *failures]
    if asked.seen_known:
        seen = list(asked.seen_known.values())
        return "known", f"{', '.join(asked.seen_known)}: {seen[0].message}", seen
    return *_unfailed(asked, error, budget), []


def _unfailed(
    asked: Question, error: BaseException | None, budget: float | None
) -> tuple[str, str]:
    """Return the verdict of a question that nothing failed, and what it says."""
    if isinstance(error, Cut):
        asked.left = max(asked.left, 1)
        count = f"{asked.examples} of {asked.planned} cases were asked, and none failed"
        over = f"the budget of {budget:g} s was over"
        return "not-run", f"cut by the budget: {count}" if asked.examples else over
    if isinstance(error, Stopped):
        return "not-run", str(error)
    if asked.left:
        return "not-run", asked.stopped or f"{asked.left} cases were not asked"
    if error is not None or (asked.declined and not asked.examples):
        return "unsupported", str(error or asked.declined)
    return ("pass", "") if asked.examples else ("not-run", "the question asked nothing")


def _record(
    item: pytest.Item,
    asked: Question,
    outcome: tuple[str, str, list[Failure]],
    seconds: float,
) -> records.Verdict:
    params = _params(item)
    kind = params.get("kind") or getattr(getattr(item, "module", None), "LAYER", None)
    verdict, message, failures = outcome
    layer = kind.__name__ if isinstance(kind, type) else str(kind or "Model")
    shown = [_failure(asked, failure) for failure in failures]
    layer = records.blamed(layer, shown[0]) if shown else layer
    short = bool(failures) and failures[0].effect == "precision"
    return records.Verdict(
        subject=asked.subject.name,
        question=asked.id,
        layer=layer,
        clauses=_clauses(item),
        level="precision" if short else _level(item),
        dtype=params.get("dtype"),
        verdict=verdict,  # type: ignore[arg-type] # one of the names, by construction
        examples=asked.examples,
        planned=asked.planned,
        seconds=round(seconds, 4),
        composed=asked.composed.get(layer),
        grade=max(asked.grades, key=records.GRADES.index) if asked.grades else None,  # type: ignore[arg-type] # likewise
        share=asked.share,
        sharpness=asked.sharpness if math.isfinite(asked.sharpness) else None,
        compiles=asked.compiles,
        message=message[:_LONGEST],
        known=tuple(asked.seen_known),
        failure=dataclasses.replace(shown[0], message="") if shown else None,
        others=tuple(shown[1:]),
    )


def _died(item: pytest.Item, asked: Question) -> records.Verdict:
    """Return the verdict on a question of which no more is heard."""
    died = Failure("crash", "the process that asked the question died")
    return _record(item, asked, ("crash", died.message, [died]), 0.0)


def _clauses(item: pytest.Item) -> tuple[str, ...]:
    return tuple(i for marker in item.iter_markers("clauses") for i in marker.args)


def _level(item: pytest.Item) -> clauses.Level:
    """Return the level that comes first of those of the clauses that a question asks for."""
    known = clauses.load().clauses
    levels = {known[i].level for i in _clauses(item) if i in known}
    for level in _LEVELS:
        if level in levels:
            return level
    return "document"


def _params(item: pytest.Item) -> dict[str, Any]:
    found: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return found


def _question(item: pytest.Item, subject: str) -> str:
    """Return the test's id without the subject and without the folder."""
    place, _, name = item.nodeid.replace("\\", "/").partition("::")
    parameters: str = getattr(getattr(item, "callspec", None), "id", "")
    others = parameters.removeprefix(_id(subject)).removeprefix("-")
    name = name.removesuffix(f"[{parameters}]") + (f"[{others}]" if others else "")
    return f"{Path(place).name}::{name}"


def _failure(asked: Question, failure: Failure) -> records.Failure:
    script = None
    with contextlib.suppress(Exception):  # a script is a service; the failure stands without it
        script = reproduction.script(asked.subject, failure)
    return records.Failure(
        effect=failure.effect,  # type: ignore[arg-type] # the judge's words are the records' words
        case=_case(failure),
        arrays={name: arrays.pack(a) for name, a in failure.arrays.items()},
        index=failure.index,
        expected=failure.expected,
        actual=failure.actual,
        bound=failure.bound or None,
        share=failure.share,
        alone=failure.alone,
        detail=failure.detail,
        script=script,
        message=failure.message[:_LONGEST],
        reason=failure.reason or None,
        call=failure.call,
        operand=failure.operand,
    )


def _case(failure: Failure) -> dict[str, Any] | None:
    """Return the case with the layers and the input that failed: a question may call others too."""
    if not failure.layers:
        return failure.case.to_json() if failure.case else None
    case = failure.case.to_json() if failure.case else {}
    case["layers"] = [spec.to_json(layer) for layer in failure.layers]
    if failure.case and "x" in failure.arrays:
        case["shape"] = list(failure.arrays["x"].shape)
        case["dtype"] = failure.arrays["x"].dtype.name
    return case


def _shown(record: records.Verdict, failure: Failure | None, call: pytest.CallInfo[None]) -> str:
    if failure is None:
        return f"{record.message}\n{call.excinfo.getrepr() if call.excinfo else ''}"
    lines = [f"{record.subject}: {record.verdict} ({failure.effect}): {record.message}"]
    lines += [f"  also      {other.effect}: {other.message}" for other in record.others]
    lines += [f"  clauses   {', '.join(record.clauses)}"]
    if failure.layers:
        lines += [f"  layer     {', '.join(map(str, failure.layers))}"]
    if failure.case:
        case = failure.case
        regimes = ", ".join(case.regimes)
        lines += [f"  input     {case.dtype} {case.shape}, regimes {regimes}, seed {case.seed}"]
        lines += [f"  memory    {case.memory}"]
    if failure.alone is False:
        lines += [
            "  alone     passes in a fresh process: state leaks between calls, or it is flaky"
        ]
    if failure.detail:
        lines += [
            "  detail",
            *(f"    {line}" for line in failure.detail.rstrip().splitlines()[-12:]),
        ]
    if record.failure and record.failure.script:
        lines += ["  script    cnnformance report shows the script that reproduces it"]
    return "\n".join(lines)


def _transport(record: records.Verdict, asked: Question) -> str:
    """Return what the recorder writes, as JSON: execnet, which may carry it, limits integers."""
    traits = [
        records.Trait(asked.subject.name, t.name, t.value, {"at": t.where}, t.shown)
        for t in asked.traits
    ]
    return json.dumps([records.encode(each) for each in (record, *traits)], allow_nan=False)


class _Recorder:
    """Writes the record file: the header at collection, each verdict as it falls, the footer."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
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
        self.selected = bool(config.getoption("keyword") or _option(config, "--level") or parts)

    def _open(self) -> None:
        try:
            if self.path.exists() and not self.path.is_file():
                said = f"--record {self.named}: this is no file; name one that can be written"
                raise _unusable(said)
            if self.path.exists() and not records.is_record(self.path):
                said = f"--record {self.named}: this is no record; name a new file, or an older one"
                raise _unusable(said)
            self.path.unlink(missing_ok=True)
            self.writer = records.Writer(self.path)
        except OSError as error:
            said = f"--record {self.named}: {error.strerror}; name a file that can be written"
            raise _unusable(said) from error
        self._write(
            records.Header(
                started=_now(),
                cnnformance=cnnformance.__version__,
                python=sys.version.split()[0],
                numpy=np.__version__,
                platform=platform.platform(),
                profile=_option(self.config, "--profile"),
                seed=_option(self.config, "--seed"),
                planned=self.planned,
                subjects=tuple(
                    records.Subject(
                        subject.name, _version(subject), load_known(subject.target.name).divergences
                    )
                    for subject in self.config.stash[_SUBJECTS].values()
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
        if session.config.getoption("collectonly") or self.writer is not None:
            return
        self.planned = sum("ask" in getattr(item, "fixturenames", ()) for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        names = [_id(name) for name in self.config.stash[_SUBJECTS]]
        asked = (i.partition("::")[2].partition("[")[2] for i in ids)
        self.planned = sum(any(i.startswith((f"{n}-", f"{n}]")) for n in names) for i in asked)

    def pytest_runtest_logstart(self) -> None:
        """Open the record with the first question: what asks none leaves an older one alone."""
        if self.writer is None and self.planned:
            self._open()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == _BEGUN:
                self.begun[report.nodeid] = str(value)
            elif name == _PROPERTY:
                self._verdict(report.nodeid, str(value))
        if str(report.when) == "???" and report.nodeid in self.begun:  # xdist: its process is gone
            self._verdict(report.nodeid, self.begun[report.nodeid])
        ours = (_PROPERTY, _BEGUN)
        report.user_properties = [p for p in report.user_properties if p[0] not in ours]

    def _verdict(self, question: str, lines: str) -> None:
        self.begun.pop(question, None)
        if self.writer is not None:
            for line in json.loads(lines):
                self._write(line)
            self.recorded += 1

    def pytest_sessionfinish(self) -> None:
        if self.writer is not None and self.recorded >= self.planned:
            self._write(
                records.Footer(_now(), round(time.monotonic() - self.start, 3), self.recorded)
            )
        if self.writer is not None:
            self.writer.close()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.writer is None:
            return
        try:
            run = records.read(self.path)
        except records.RecordError as error:
            terminalreporter.write_line(printable(f"the record cannot be read again: {error}"))
            return
        terminalreporter.section("conformance")
        terminalreporter.write(render.summary(run))
        for line in (*_passed_over(run), *self._unseen(run), f"verdicts: {self.path}"):
            terminalreporter.write_line(printable(line))

    def _unseen(self, run: records.Run) -> Iterator[str]:
        """Yield the recorded divergences that a whole run should have met again, and did not."""
        if run.partial or run.header.profile == "quick" or self.selected:
            return
        for name, subject in self.config.stash[_SUBJECTS].items():
            seen = {i for v in run.verdicts if v.subject == name for i in v.known}
            applying = load_known(name).applying(_version(subject), subject.target.mode)
            for divergence in applying:
                if divergence.id not in seen:
                    yield f"{name}: recorded divergence {divergence.id} was not seen: is it fixed?"


def _passed_over(run: records.Run) -> Iterator[str]:
    """Yield what a reader of the counts must know: questions not run, and subjects asked less."""
    reasons = Counter(
        (v.subject, v.message.partition(":")[0] if v.examples else v.message)
        for v in run.verdicts
        if v.verdict == "not-run"
    )
    for (name, reason), count in reasons.most_common(_MOST_CLOSING):
        yield f"{name}: {count} question{'s' * (count > 1)} not run: {reason}"
    if (rest := len(reasons) - _MOST_CLOSING) > 0:
        yield f"and {rest} more reasons why questions were not run: cnnformance report has them"
    for name in sorted({v.subject for v in run.verdicts if v.compiles}):
        yield f"{name} compiles for each new shape, and was asked many values in few shapes"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _version(subject: Subject) -> str:
    """Return what is known without waiting: the distribution's version, or what a started one says.

    A subject that is a class has been started to see whether there is one.
    """
    plain = subject.target.framework
    try:
        return metadata.version(plain) if plain else subject.info.version
    except metadata.PackageNotFoundError:
        return ""
