"""A run of the suite: verdicts of backends that misbehave, the record, and the exit status."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from corpus import hostile

import cnnformance
from cnnformance.adapters import registry
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import question_order
from cnnformance.conformance.profiles import PROFILES
from cnnformance.conformance.question import Question
from cnnformance.conformance.requests import Cut
from cnnformance.reports import records, render
from cnnformance.reports.records import Run
from cnnformance.verdicts import _unfailed

T = TypeVar("T")

ROOT = Path(cnnformance.__file__).resolve().parents[1]
CONFORMANCE = str(ROOT / "conformance")
SEVERAL = "flatten.example or dense.example"
ABOUT_MAX_POOL = (
    "test_output.py::test_output[{}-MaxPool-float32]",
    "test_gradients.py::test_gradient[{}-MaxPool]",
    "test_parameters.py::test_no_parameters[{}-MaxPool]",
    "test_shapes.py::test_static_shape[{}-MaxPool]",
)
ABOUT_FLATTEN = "test_output.py::test_output[{}-Flatten-float32]"
UNPREDICTABLE = {
    "CrashesAfterwards",  # ends whatever question comes next
    "DiesAtRandom",
    "HangsAtStart",  # is waited for as long as the slowest import
    "OverflowsStack",  # may take longer to crash than the time limit
}
MADE_OF = {"fail": {"fail", "error"}, "start": {"error"}}
"""The verdicts that a word of the corpus stands for, where they are not the word itself."""

SLOW = """\
import os, time
from pathlib import Path
from cnnformance.adapters.numpy import NumPy
from cnnformance.spec.layers import Dense

class Slow(NumPy):
    def build(self, layer, weights):
        if isinstance(layer, Dense):
            Path("pid").write_text(str(os.getpid()))
            time.sleep(600)
        return super().build(layer, weights)
"""


SHORTCUT = """
from cnnformance.adapters.backend import Backend, Unsupported
from cnnformance.spec.layers import ReLU


class Mine(Backend):
    def build(self, layer, weights):
        if isinstance(layer, ReLU):
            return lambda x: x * (x > 0)
        raise Unsupported("no such layer")
"""
SHORTCUT_KNOWN = """
[[known]]
id = "mine.relu-by-product"
class = "fault"
layers = ["ReLU"]
effects = ["not-finite"]
when = "has_inf"
versions = ""
says = "Minus infinity times zero is NaN."
seen = 2026-11-23
"""


WRONG = """\
from cnnformance.adapters.numpy import NumPy
from cnnformance.spec.layers import ReLU


class Wrong(NumPy):
    layout = "channels_first"

    def build(self, layer, weights):
        return (lambda x: x * (x > 0)) if isinstance(layer, ReLU) else super().build(layer, weights)

    def gradients(self, layer, weights, x, upstream):
        return {"input": 2 * upstream}

    def parameters(self, layer):
        return 1 + super().parameters(layer)

    def output_shape(self, layer, shape):
        return (*super().output_shape(layer, shape)[:-1], 77)

    def script(self, layer, x):
        return "y = x * (, x > 0)"
"""


def command(*arguments: str) -> list[str]:
    options = ["--profile=quick", "--record=verdicts.jsonl", "-q", "-p", "no:cacheprovider"]
    return [sys.executable, "-m", "pytest", "--rootdir", str(ROOT), *options, *arguments]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    asked = command(*arguments)
    return subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own words


def ask(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Run]:
    done = run(folder, *arguments)
    assert (folder / "verdicts.jsonl").exists(), done.stdout + done.stderr
    return done, records.read(folder / "verdicts.jsonl")


@pytest.mark.parametrize("word", ["crash", "hang", "error", "fail", "start", "pass"])
def test_each_misfortune_becomes_its_verdict_and_the_run_goes_on(word: str, tmp_path: Path) -> None:
    names = [n for n, w in hostile.HOSTILE.items() if w == word and n not in UNPREDICTABLE]
    subjects = [f"{hostile.__file__}:{name}" for name in names]
    done, found = ask(
        tmp_path,
        *(f"--backend={subject}" for subject in subjects),
        *(
            f"{ROOT}/conformance/{question.format(subject)}"
            for subject in subjects
            for question in (*ABOUT_MAX_POOL, ABOUT_FLATTEN)
        ),
        f"--timeout={2 if word == 'hang' else 20}",  # a busy machine is slow
        "--memory-limit=1",
        "--tb=no",
    )
    assert done.returncode == (0 if word == "pass" else 1), done.stdout + done.stderr
    assert not found.partial
    assert found.recorded == 5 * len(names) > 0
    expected = MADE_OF.get(word, {word})
    for subject in subjects:
        fallen = [v for v in found.verdicts if v.subject == subject]
        about_max_pool = {v.verdict for v in fallen if v.layer == "MaxPool"}
        assert expected & about_max_pool, subject
        assert about_max_pool <= {*expected, "pass"}, subject
        about_flatten = {v.verdict for v in fallen if v.layer == "Flatten"}
        assert about_flatten == (expected if word == "start" else {"pass"}), subject


def test_a_level_leaves_the_others_out(tmp_path: Path) -> None:
    chosen = ("--level=gradient", "--level=semantics", "-k", "ReLU")
    done, found = ask(tmp_path, CONFORMANCE, "--backend=numpy", *chosen)
    levels = {v.level for v in found.verdicts}
    assert levels == {"gradient", "semantics"}
    assert not found.partial
    assert "deselected" in done.stdout
    wrong = run(tmp_path, CONFORMANCE, "--backend=numpy", "--level=all")
    assert wrong.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--level" in wrong.stderr


@pytest.mark.parametrize("jobs", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_record_is_whole(jobs: Sequence[str], tmp_path: Path) -> None:
    if jobs:
        pytest.importorskip("xdist", reason="needs pytest-xdist")
    done, found = ask(tmp_path, CONFORMANCE, "--backend=numpy", "-k", SEVERAL, *jobs)
    assert done.returncode == 0, done.stdout + done.stderr
    questions = {v.question for v in found.verdicts}
    assert len(questions) == len(found.verdicts) == found.header.planned > 1
    assert all(question.startswith("test_examples.py::") for question in questions)
    assert not any("numpy" in question for question in questions)
    assert found.footer is not None
    assert found.footer.recorded == len(found.verdicts)
    assert not found.partial
    assert f"{len(questions)} pass" in done.stdout


@pytest.mark.parametrize(
    ("sent", "jobs"),
    [(signal.SIGINT, "0"), (signal.SIGKILL, "0"), (signal.SIGKILL, "2")],
    ids=["interrupted", "killed", "killed-xdist"],
)
def test_a_run_that_is_cut_off_leaves_a_partial_record_and_no_process(
    sent: signal.Signals, jobs: str, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    options = ("-k", SEVERAL, "--timeout=600", "-n", jobs)
    asked = command(CONFORMANCE, "--backend=slow.py:Slow", *options)
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background
    try:  # ignores it, and so would its children
        process = subprocess.Popen(asked, cwd=tmp_path, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own words
    finally:
        signal.signal(signal.SIGINT, ours)
    with process:
        try:
            worker = _awaited(lambda: int((tmp_path / "pid").read_text()))
            process.send_signal(sent)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    _awaited(lambda: _gone(worker), seconds=5)
    record = records.read(tmp_path / "verdicts.jsonl")
    assert record.partial
    assert record.footer is None
    first = 1 if jobs == "0" else 0  # two processes may both begin with what does not end
    assert first <= record.recorded < record.header.planned
    shown = f"PARTIAL: {record.recorded} of {record.header.planned} questions recorded"
    assert render.render(record, "table").startswith(shown)
    if sent == signal.SIGINT:
        assert process.returncode == pytest.ExitCode.INTERRUPTED
        assert shown in out


def _awaited(found: Callable[[], T], seconds: float = 60) -> T:
    """Return what a function returns once it does so without an error."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return found()
        except (OSError, ValueError):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _gone(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        raise BlockingIOError(process)


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        ("nonsense", "no backend is called 'nonsense'; there are "),
        ("tensorflwo", "no backend is called 'tensorflwo'; did you mean tensorflow?"),
        ("numpy==newest", "'newest' is no version such as 1.20.0"),
        ("absent.py:Backend", "there is no file absent.py"),
        ("mine.py:Yours", "mine.py has no subclass of cnnformance.adapters.backend.Backend named "),
        ("mine.py:Mine:nomode", "Mine has no mode 'nomode'; it has none"),
        ("numpy:nomode", "NumPy has no mode 'nomode'; it has none"),
        ("absent.module:Backend", "there is no module absent"),
        ("torch@cuda:99", "PyTorch has no device 'cuda:99'"),
    ],
)
def test_a_subject_that_means_nothing_is_one_line(subject: str, says: str, tmp_path: Path) -> None:
    pytest.importorskip(subject.partition("@")[0] if "@" in subject else "pytest")
    (tmp_path / "mine.py").write_text(SHORTCUT, encoding="utf-8")
    done = run(tmp_path, CONFORMANCE, f"--backend={subject}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"ERROR: --backend {subject}: ")
    assert says in line
    assert not (tmp_path / "verdicts.jsonl").exists()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--timeout=0", "argument --timeout: 0 is no number of seconds above 0"),
        ("--timeout=nan", "argument --timeout: nan is no number of seconds above 0"),
        ("--memory-limit=-1", "argument --memory-limit: -1 is no size of 0 or more"),
        ("--seed=-1", "argument --seed: -1 is no integer of 0 or more"),
        ("--memory-limit=1e300", "argument --memory-limit: 1e300 is no size of 0 or more, in GiB"),
        (f"--record={'x' * 300}", "File name too long; name a file that can be written"),
        ("--record=.", "--record .: this is no file"),
        ("--record=/dev/null", "--record /dev/null: this is no file"),
        ("--record=a.py/x", "--record a.py/x: Not a directory; name a file that can be written"),
    ],
)
def test_a_wrong_option_is_told_and_nothing_is_asked(
    option: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "a.py").touch()
    done = run(tmp_path, CONFORMANCE, "--backend=numpy", "-k", SEVERAL, option)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert says in done.stderr
    assert "passed" not in done.stdout
    assert Path(os.devnull).exists()


@pytest.mark.parametrize("blocks", [1, 12], ids=["header", "verdicts"])
def test_a_full_disk_keeps_what_was_recorded(blocks: int, tmp_path: Path) -> None:
    long = [tmp_path / f"{name * 200}.py" for name in "abc"]  # a header of over a block
    others = [f"--backend={file.name}:Mine" for file in long] if blocks == 1 else []
    for file in long:
        file.write_text(SHORTCUT, encoding="utf-8")
    asked = command(CONFORMANCE, "--backend=numpy", *others, "-k", "ReLU")
    limited = ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", *asked]
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert done.returncode == pytest.ExitCode.INTERNAL_ERROR
    said = done.stdout + done.stderr
    assert "verdicts.jsonl: File too large; what was recorded is kept" in said
    assert "INTERNALERROR" not in said
    if blocks > 1:
        found = records.read(tmp_path / "verdicts.jsonl")
        assert found.verdicts
        assert found.partial


def test_what_a_backend_raises_as_it_starts_is_told_once_in_full(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SHORTCUT + "\n\nraise OSError('no such library')\n")
    # -rN: with CI in the environment pytest tells each failure in full once more, in its summary.
    done, found = ask(tmp_path, CONFORMANCE, "--backend=mine.py:Mine", "-k", "ReLU", "-rN")
    assert {v.message for v in found.verdicts} == {"mine.py:Mine: OSError: no such library"}
    assert done.stdout.count("raise OSError('no such library')") == 1


@pytest.mark.parametrize(
    ("question", "shown"),
    [
        ("test_output.py and ReLU-float32", "nan"),
        ("test_gradient and ReLU and not of", "gradients['input']"),
        ("test_count_formula and Conv", "count == "),
        ("test_static_shape and ReLU", "shape == "),
    ],
)
def test_a_script_shows_what_was_asked(question: str, shown: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    _, found = ask(tmp_path, CONFORMANCE, "--backend=wrong.py:Wrong", "-k", question)
    failures = [v.failure for v in found.verdicts if v.failure]
    assert failures
    for failure in failures:
        assert failure.script
        (tmp_path / "shown.py").write_text(failure.script, encoding="utf-8")
        asked = [sys.executable, "shown.py"]
        path = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(  # noqa: S603 - our own words
            asked, cwd=tmp_path, env=path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("AssertionError")
        assert shown in done.stdout + done.stderr


REFUSES = """\
from cnnformance.adapters.numpy import NumPy


class Refuses(NumPy):
    def build(self, layer, weights):
        def call(x):
            raise ValueError("not \\udcff today")
        return call
"""


def test_a_backend_that_refuses_all_passes_nothing(tmp_path: Path) -> None:
    """Refusals of what is wrong show nothing then; any integer and any text reaches the record."""
    (tmp_path / "refuses.py").write_text(REFUSES, encoding="utf-8")
    chosen = "(MaxPool or Conv) and (test_refused or int64) and not statically"
    options = ("--backend=refuses.py:Refuses", "-k", chosen, "-n", "2")
    done, found = ask(tmp_path, CONFORMANCE, *options)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert not found.partial
    assert {v.verdict for v in found.verdicts} == {"fail", "unsupported"}


NARROW = """\
from cnnformance.adapters.numpy import NumPy
from cnnformance.spec.layers import GlobalMaxPool


class Narrow(NumPy):
    def build(self, layer, weights):
        call = super().build(layer, weights)
        return (lambda x: call(x)[:, :1]) if isinstance(layer, GlobalMaxPool) else call
"""


def test_a_wrong_shape_is_that_in_every_question(tmp_path: Path) -> None:
    (tmp_path / "narrow.py").write_text(NARROW, encoding="utf-8")
    _, found = ask(tmp_path, CONFORMANCE, "--backend=narrow.py:Narrow", "-k", "GlobalMaxPool")
    fallen = [v for v in found.verdicts if v.verdict not in ("pass", "unsupported")]
    assert len(fallen) > 10
    assert {v.failure.effect for v in fallen if v.failure} == {"shape"}
    assert {v.verdict for v in fallen} == {"fail"}


def test_every_failure_counts_the_case_that_failed(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    chosen = "test_example or test_count or test_output or test_chain"
    _, found = ask(tmp_path, CONFORMANCE, "--backend=wrong.py:Wrong", "-k", chosen)
    failed = [v for v in found.verdicts if v.verdict == "fail"]
    assert {v.question.partition("[")[0] for v in failed} >= {
        "test_examples.py::test_example",
        "test_parameters.py::test_count",
        "test_output.py::test_output",
    }
    assert min(v.examples for v in failed) == 1


def test_what_never_started_was_asked_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SHORTCUT + "\n\nraise OSError('no such library')\n")
    chosen = "ReLU and (test_example or test_output or test_chain)"
    _, found = ask(tmp_path, CONFORMANCE, "--backend=mine.py:Mine", "-k", chosen)
    assert {v.verdict for v in found.verdicts} == {"error"}
    assert {v.examples for v in found.verdicts} == {0}


def test_what_is_unsupported_passes_no_question(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SHORTCUT, encoding="utf-8")
    _, found = ask(tmp_path, CONFORMANCE, "--backend=mine.py:Mine", "-k", "not ReLU")
    passed = {v.question for v in found.verdicts if v.verdict != "unsupported"}
    assert passed == set()


def test_divergences_beside_a_backend_explain_its_failures(tmp_path: Path) -> None:
    subject, entries = tmp_path / "mine.py", tmp_path / "mine.toml"
    subject.write_text(SHORTCUT, encoding="utf-8")
    entries.write_text(SHORTCUT_KNOWN, encoding="utf-8")
    chosen = (CONFORMANCE, "--backend=mine.py:Mine", "-k", "test_output.py and ReLU")
    done, found = ask(tmp_path, *chosen)
    assert done.returncode == 0, done.stdout
    assert "mine.relu-by-product" in {i for v in found.verdicts for i in v.known}

    entries.write_text(SHORTCUT_KNOWN.replace("not-finite", "spatial"), encoding="utf-8")
    (tmp_path / "verdicts.jsonl").unlink()
    done = run(tmp_path, *chosen)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = done.stderr.strip().splitlines()
    told = (
        "ERROR: mine.toml: mine.relu-by-product.effects[0]: 'spatial' is none of 'value', 'shape'"
    )
    assert line.startswith(told)
    assert not (tmp_path / "verdicts.jsonl").exists()


HOSTILE = "\x1b[31m\x1b]0;title\x07\x9b2J\u202e"


@pytest.mark.parametrize("wrong", ["", "effects", "record", "backend"])
def test_nothing_of_files_or_options_moves_the_terminal(wrong: str, tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE
    folder.mkdir()
    hostile = json.dumps(HOSTILE)[1:-1]
    for name in ("mine", "other"):
        (folder / f"{name}.py").write_text(SHORTCUT, encoding="utf-8")
    known = SHORTCUT_KNOWN.replace("mine.", f"mine{hostile}").replace("Minus", hostile)
    if wrong == "effects":
        known = known.replace('"not-finite"', f'"{hostile}"')
    (folder / "mine.toml").write_text(known, encoding="utf-8")
    subjects = [f"--backend={folder}/{name}.py:Mine" for name in ("mine", "other")]
    if wrong == "backend":
        subjects.append(f"--backend={folder}/absent.py:Mine")
    record = folder if wrong == "record" else folder / "verdicts.jsonl"
    chosen = (*subjects, "-k", "test_output.py and ReLU", f"--record={record}", "-rA")
    done = run(folder, CONFORMANCE, *chosen)
    said = done.stdout + done.stderr
    if wrong:
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert len([line for line in said.splitlines() if line.startswith("ERROR: ")]) == 1
    else:
        assert done.returncode == pytest.ExitCode.TESTS_FAILED
        assert "mine\ufffdrelu-by-product: ReLU (" in said
        assert "fail (not-finite)" in said
    assert not [c for c in "\x1b\x07\x9b\u202e" if c in said]


@pytest.mark.parametrize(
    "options", [["-k", "(("], ["-k", "nothing"], ["-k", "nothing", "-n", "2"]], ids=" ".join
)
def test_a_run_that_asks_nothing_leaves_an_older_record(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "verdicts.jsonl").write_text("of yesterday")
    done = run(tmp_path, CONFORMANCE, "--backend=numpy", *options)
    assert done.returncode in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert (tmp_path / "verdicts.jsonl").read_text() == "of yesterday"


def test_a_collection_makes_no_record(tmp_path: Path) -> None:
    done = run(tmp_path, CONFORMANCE, "--backend=numpy", "-k", SEVERAL, "--collect-only")
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "verdicts.jsonl").exists()


def test_a_seed_settles_what_is_asked(tmp_path: Path) -> None:
    """Runs record the same verdicts, times apart, in one process, in two, and in this one."""
    asked = [f"{CONFORMANCE}/test_output.py", "--backend=numpy", "-k", "LpPool-float32"]
    verdicts = []
    for more in ([], ["-n", "2"], ["--in-process"], ["--deselect", "no::other"]):
        done, found = ask(tmp_path, *asked, *more)
        assert done.returncode == 0, done.stdout
        same = sorted(found.verdicts, key=lambda v: v.question)
        verdicts.append([replace(v, seconds=0) for v in same])
    assert verdicts[0] == verdicts[1] == verdicts[2] == verdicts[3] != []


TWICE_WRONG = """\
from cnnformance.adapters.numpy import NumPy
from cnnformance.spec.layers import MaxPool


class Wrong(NumPy):
    def build(self, layer, weights):
        call = super().build(layer, weights)
        if isinstance(layer, MaxPool) and layer.ceil_mode:
            return lambda x: 1 / 0
        if isinstance(layer, MaxPool) and layer.padding == "same":
            return lambda x: call(x) + 1
        return call
"""


@pytest.mark.parametrize("options", [(), ("--in-process",)], ids=["worker", "in-process"])
def test_one_failure_hides_no_other(options: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(TWICE_WRONG, encoding="utf-8")
    chosen = ("-k", "test_options and MaxPool-float32", *options)
    done, found = ask(tmp_path, CONFORMANCE, "--backend=wrong.py:Wrong", *chosen)
    (verdict,) = found.verdicts
    assert verdict.failure
    every = [verdict.failure, *verdict.others]
    assert {failure.effect for failure in every} == {"exception", "value"}
    assert verdict.examples == verdict.planned > 30
    assert {failure.alone for failure in every} == ({None} if options else {True})
    assert all(failure.script for failure in every)
    for other in verdict.others:
        assert f"  also      {other.effect}: {other.message}" in done.stdout


def test_a_budget_that_is_over_is_told_and_passes_nothing(tmp_path: Path) -> None:
    chosen = ("--backend=numpy", "-k", SEVERAL, "--budget=0.001")
    done, found = ask(tmp_path, CONFORMANCE, *chosen)
    count = len(found.verdicts)
    assert done.returncode == 0, done.stdout
    assert not found.partial
    assert {v.verdict for v in found.verdicts} == {"not-run"}
    assert {v.message for v in found.verdicts} == {"the budget of 0.001 s was over"}
    assert f"numpy: {count} questions not run: the budget of 0.001 s was over" in done.stdout
    assert run(tmp_path, CONFORMANCE, "--budget=0").returncode == pytest.ExitCode.USAGE_ERROR


def test_a_question_that_the_budget_cuts_says_how_much_was_asked() -> None:
    subject = Subject(registry.parse("numpy"))
    cut = Question(subject, PROFILES["quick"], examples=3, left=4)
    said = "cut by the budget: 3 of 7 cases were asked, and none failed"
    assert _unfailed(cut, Cut(), 5.0) == ("not-run", said)
    begun = Question(subject, PROFILES["quick"], examples=3)
    assert _unfailed(begun, Cut(), 5.0)[0] == "not-run"
    assert begun.planned > begun.examples


def test_a_pass_has_asked_all_that_was_planned() -> None:
    subject = Subject(registry.parse("numpy"))
    for examples, left, verdict in ((3, 0, "pass"), (3, 1, "not-run"), (0, 0, "not-run")):
        asked = Question(subject, PROFILES["quick"], examples=examples, left=left)
        assert _unfailed(asked, None, None)[0] == verdict


@pytest.mark.parametrize("jobs", ["0", "2"])
def test_a_terminal_that_lacks_letters_keeps_the_ends_of_lines(jobs: str, tmp_path: Path) -> None:
    (tmp_path / "größe.py").write_text(SHORTCUT, encoding="utf-8")
    asked = command(CONFORMANCE, "--backend=größe.py:Mine", "-k", "test_output.py and ReLU-float32")
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*asked, "-n", jobs], cwd=tmp_path, env=plain, capture_output=True)  # noqa: S603, PLW1510 - our own words
    lines = done.stdout.decode("ascii").splitlines()
    assert "gr\\xf6\\xdfe.py:Mine: fail (not-finite)" in "\n".join(lines)
    assert [line for line in lines if line.startswith("  layer     ReLU()")]
    assert [line for line in lines if line.startswith("ReLU ") and line.endswith("1F")]


@pytest.mark.parametrize("jobs", ["0", "2"])
def test_a_path_of_any_letters_is_recorded(jobs: str, tmp_path: Path) -> None:
    folder = tmp_path / "größe-名"
    folder.mkdir()
    (folder / "mine.py").write_text(SHORTCUT, encoding="utf-8")
    name = f"{folder}/mine.py:Mine"
    chosen = (f"--backend={name}", "-k", "test_output and ReLU", "-n", jobs)
    _, found = ask(tmp_path, CONFORMANCE, *chosen)
    assert found.subjects == (name,)
    assert found.header.planned == len(found.verdicts) > 1
    assert not found.partial
    assert {v.subject for v in found.verdicts} == {name}
    assert {v.question.partition("[")[0] for v in found.verdicts} == {"test_output.py::test_output"}
    assert "test_output.py::test_output[ReLU-int8]" in {v.question for v in found.verdicts}


@pytest.mark.parametrize("where", ["subject", "record", "folder"])
def test_a_path_that_is_no_unicode_needs_one_process(where: str, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"f\xff") if where == "folder" else tmp_path
    folder.mkdir(exist_ok=True)
    name = os.fsdecode(b"mine\xff.py") if where == "subject" else "mine.py"
    (folder / name).write_text(SHORTCUT, encoding="utf-8")
    record = os.fsdecode(b"a\xff/verdicts.jsonl") if where == "record" else "verdicts.jsonl"
    chosen = [f"--backend={name}:Mine", "-k", "test_output.py and ReLU-int8", f"--record={record}"]
    done = run(folder, CONFORMANCE, *chosen)
    assert done.returncode == 0, done.stdout
    assert len(records.read(folder / record).verdicts) == 1
    several = run(folder, CONFORMANCE, *chosen, "-n", "2")
    assert several.returncode == pytest.ExitCode.USAGE_ERROR, several.stdout
    (line,) = several.stderr.strip().splitlines()
    assert line.startswith("ERROR: '")
    assert "\\udcff" in line
    assert line.endswith("several processes (-n): rename it, or ask with -n 0")


MOVES = SHORTCUT.replace(
    "            return lambda", "            os.chdir('/')\n            return lambda"
).replace("\nfrom", "\nimport os\nfrom", 1)


@pytest.mark.parametrize("options", [(), ("--in-process",)], ids=["worker", "in-process"])
def test_a_backend_that_changes_the_working_directory_moves_no_record(
    options: Sequence[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(MOVES, encoding="utf-8")
    chosen = ("--backend=mine.py:Mine", "-k", "test_output.py and ReLU-float32", *options)
    done, found = ask(tmp_path, CONFORMANCE, *chosen)
    assert not found.partial
    assert "cannot be read again" not in done.stdout
    assert "verdicts: verdicts.jsonl\n" in done.stdout


DIES = """\
import os
from cnnformance.adapters.numpy import NumPy
from cnnformance.spec.layers import ReLU


class Dies(NumPy):
    def build(self, layer, weights):
        if isinstance(layer, ReLU):
            os._exit(3)
        return super().build(layer, weights)
"""


def test_a_question_whose_process_dies_has_a_verdict(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES, encoding="utf-8")
    chosen = ("-k", "test_output.py and (ReLU-float32 or Flatten-float32)", "-n", "2")
    done, found = ask(tmp_path, CONFORMANCE, "--backend=dies.py:Dies", "--in-process", *chosen)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert not found.partial
    fallen = {v.layer: v for v in found.verdicts}
    assert fallen["Flatten"].verdict == "pass"
    assert fallen["ReLU"].verdict == "crash"
    assert fallen["ReLU"].message == "the process that asked the question died"


@pytest.mark.parametrize("options", [(), ("--in-process",)], ids=["worker", "in-process"])
def test_who_leaves_has_a_verdict_and_the_run_goes_on(
    options: Sequence[str], tmp_path: Path
) -> None:
    leaves = DIES.replace("os._exit(3)", "raise SystemExit(3)")
    (tmp_path / "leaves.py").write_text(leaves, encoding="utf-8")
    chosen = ("-k", "test_output.py and (ReLU-float32 or Flatten-float32)", *options)
    done, found = ask(tmp_path, CONFORMANCE, "--backend=leaves.py:Dies", *chosen)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert not found.partial
    assert {v.layer: v.verdict for v in found.verdicts} == {"ReLU": "crash", "Flatten": "pass"}


def test_of_two_verdicts_on_a_question_the_last_holds(tmp_path: Path) -> None:
    _, found = ask(tmp_path, CONFORMANCE, "--backend=numpy", "-k", SEVERAL)
    lines = found.path.read_text().splitlines(keepends=True)
    again = lines[1].replace('"examples": 1', '"examples": 7')
    found.path.write_text("".join([*lines, again]))
    read = records.read(found.path)
    assert len(read.verdicts) == len(found.verdicts)
    assert read.recorded == found.recorded
    assert [v.examples for v in read.verdicts].count(7) == 1


def test_a_record_of_before_some_fields_is_read(tmp_path: Path) -> None:
    _, found = ask(tmp_path, CONFORMANCE, "--backend=numpy", "-k", SEVERAL)
    lines = [json.loads(line) for line in found.path.read_text().splitlines()]
    for line in lines:
        for name in ("planned", "sharpness", "compiles", "others"):
            if line["record"] == "verdict":
                del line[name]
    found.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    older = records.read(found.path)
    assert {v.planned for v in older.verdicts} == {0}
    assert "CUT SHORT" not in render.render(older, "table")


COMPILES = """\
import time
from cnnformance.adapters.numpy import NumPy


class Compiles(NumPy):
    shapes = set()

    def build(self, layer, weights):
        call = super().build(layer, weights)

        def compiled(x):
            if (layer, x.shape) not in self.shapes:
                self.shapes.add((layer, x.shape))
                time.sleep(0.02)
            return call(x)

        return compiled
"""


def test_a_subject_that_compiles_is_asked_few_shapes_and_that_is_told(tmp_path: Path) -> None:
    (tmp_path / "costly.py").write_text(COMPILES, encoding="utf-8")
    subjects = ("--backend=costly.py:Compiles", "--backend=numpy")
    chosen = ("-k", "test_output.py and test_options and MaxPool-float32")
    done, found = ask(tmp_path, CONFORMANCE, *subjects, *chosen)
    costly, plain = found.verdicts
    assert (costly.compiles, plain.compiles) == (True, False)
    assert 0 < costly.examples < plain.examples
    assert costly.verdict == plain.verdict == "pass"
    assert "costly.py:Compiles compiles for each new shape" in done.stdout
    assert "numpy compiles" not in done.stdout


def test_questions_are_asked_in_their_order_by_subject(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SHORTCUT, encoding="utf-8")
    subjects = ("numpy", "mine.py:Mine")
    options = (f"--backend={subject}" for subject in subjects)
    done = run(tmp_path, CONFORMANCE, *options, "--collect-only")
    ids = [line.rpartition("/")[2] for line in done.stdout.splitlines() if "::test_" in line]
    asked = [[i for i in ids if f"[{subject}" in i] for subject in subjects]
    assert [*asked[0], *asked[1]] == ids
    assert len(asked[0]) == len(asked[1])
    names = [question.partition("[")[0] for question in asked[0]]
    assert set(names) > {*question_order.FIRST, *question_order.LAST}
    assert list(dict.fromkeys(names))[: len(question_order.FIRST)] == list(question_order.FIRST)
    assert list(dict.fromkeys(names))[-len(question_order.LAST) :] == list(question_order.LAST)
