"""The pytest plugin: the fixtures of a question, and the hooks around it.

The options stand in ``pytest_options``, what an item of pytest says in ``pytest_items``, the
verdict on an outcome in ``verdicts``, and the record in ``pytest_recorder``.
"""

from __future__ import annotations

import contextlib
import io
import math
import sys
import time
from collections.abc import Generator

import pytest

from cnnformance import pytest_processes, pytest_properties, verdicts
from cnnformance.adapters import registry
from cnnformance.adapters.exceptions import AdapterBroke, Unavailable, Unknown
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import question_order
from cnnformance.conformance.compiling import compiles
from cnnformance.conformance.divergences import load_divergences
from cnnformance.conformance.profiles import PROFILES
from cnnformance.conformance.question import Question
from cnnformance.conformance.requests import Cut
from cnnformance.pytest_items import level, params, question_id, subject_id
from cnnformance.pytest_options import add_options, option, unusable
from cnnformance.pytest_recorder import BEGUN, PROPERTY, VERDICT, Recorder
from cnnformance.pytest_terminal import Terminal
from cnnformance.reports import records
from cnnformance.reports.printable import printable
from cnnformance.spec import clauses, networks
from cnnformance.spec.reading import DataError

_TARGETS = pytest.StashKey[dict[str, registry.Target]]()
_SUBJECTS = pytest.StashKey[dict[str, Subject]]()
_ASK = pytest.StashKey[Question]()
_PATIENCE = 20.0
"""Seconds that a subject may take to start before the questions are collected."""
_COMPILES = pytest.StashKey[dict[str, bool]]()
_DEADLINE = pytest.StashKey[float]()
_RECORDER = pytest.StashKey[Recorder]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Find the subjects; a name that means nothing ends the run before it begins."""
    config.addinivalue_line("markers", "clauses(*ids): the clauses of the spec that a test checks")
    names = config.getoption("--backend") or registry.installed()
    try:
        clauses.load()
        networks.load()
        config.stash[_TARGETS] = {name: registry.parse(name) for name in names}
        _refuse_versions(config)
        for name in names:
            load_divergences(name)
    except (registry.SubjectError, DataError) as error:
        raise unusable(str(error)) from error
    config.stash[_SUBJECTS] = {
        name: Subject(
            target,
            seconds=option(config, "--timeout"),
            memory=option(config, "--memory-limit"),
            in_process=option(config, "--in-process"),
            link=option(config, "--link"),
        )
        for name, target in config.stash[_TARGETS].items()
    }
    config.stash[_COMPILES] = {}
    config.stash[_DEADLINE] = time.monotonic() + (option(config, "--budget") or math.inf)
    if not hasattr(config, "workerinput"):
        if isinstance(sys.stdout, io.TextIOWrapper):  # else pytest escapes the ends of lines too
            sys.stdout.reconfigure(errors="backslashreplace")
        if config.getoption("tx", None):
            pytest_processes.require_unicode(config)
        _try_names(config)
        config.stash[_RECORDER] = Recorder(config, config.stash[_SUBJECTS])
        config.pluginmanager.register(config.stash[_RECORDER], "cnnformance-recorder")
        if config.pluginmanager.hasplugin("terminal"):
            shown = Terminal(config.stash[_RECORDER])
            config.pluginmanager.register(shown, "cnnformance-terminal")
    else:
        pytest_processes.end_with_the_run()


def _refuse_versions(config: pytest.Config) -> None:
    """Refuse a version that is not installed where all runs in this process.

    Raises:
        SubjectError: there is one.
    """
    for target in config.stash[_TARGETS].values():
        if target.version and option(config, "--in-process"):
            said = f"{target.framework} {target.version} is not installed here"
            raise registry.SubjectError(f"--backend {target.name}: {said}, as --in-process needs")


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
            raise unusable(f"--backend {error}") from error
        except (AdapterBroke, Unavailable):
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
        names, ids = list(subjects), [subject_id(name) for name in subjects]
        metafunc.parametrize("subject", names, ids=ids, scope="session", indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the questions of each subject, and leave out those of levels that were not chosen.

    Questions that would compare a subject with itself are left out too: it is the plain one of
    its framework.
    """
    known: dict[str, Subject] = config.stash[_SUBJECTS]
    subjects = list(known)

    def place(item: pytest.Item) -> tuple[int, int]:
        name = params(item).get("subject")
        if name not in subjects:  # a test of someone else's
            return -1, 0
        return subjects.index(name), question_order.place(question_id(item, name))

    items.sort(key=place)
    levels = option(config, "--level")

    def left_out(item: pytest.Item) -> bool:
        target = config.stash[_TARGETS].get(params(item).get("subject", ""))
        default = target is not None and not target.mode and target.device == "cpu"
        itself = default and "plain" in getattr(item, "fixturenames", ())
        return itself or bool(levels and level(item) not in levels)

    kept = [item for item in items if not left_out(item)]
    number, count = option(config, "--shard") or (1, 1)
    of = (params(item).get("subject", "") for item in kept)
    kept = [i for i, at in zip(kept, question_order.dealt(of, count), strict=True) if at == number]
    asked = set(kept)
    if others := [item for item in items if item not in asked]:
        items[:] = kept
        config.hook.pytest_deselected(items=others)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start importing all frameworks at once."""
    if not session.config.getoption("collectonly"):
        asked = {params(item).get("subject") for item in session.items}
        for name, subject in session.config.stash[_SUBJECTS].items():
            if name in asked:
                subject.launch()


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The backend under test."""
    config = request.config
    found: Subject = config.stash[_SUBJECTS][request.param]
    if time.monotonic() < config.stash[_DEADLINE]:
        with contextlib.suppress(AdapterBroke, Unavailable):  # every question raises it again
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
        PROFILES[option(config, "--profile")],
        seed=option(config, "--seed"),
        known=load_divergences(subject.target.name),
        id=question_id(request.node, subject.name),
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
            report.user_properties.append(
                (BEGUN, verdicts.transport(verdicts.died(item, asked), asked))
            )
        return report
    verdict, message, failures = verdicts.of(asked, call, option(item.config, "--budget"))
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
    record = verdicts.record(item, asked, (verdict, message, failures), call.duration)
    item.user_properties += pytest_properties.of(record)  # which the report of its end will hold
    if verdict in records.FAILING:
        report.longrepr = printable(verdicts.shown(record, failure, call))
    report.user_properties.append((PROPERTY, verdicts.transport(record, asked)))
    report.user_properties.append((VERDICT, verdict))
    return report
