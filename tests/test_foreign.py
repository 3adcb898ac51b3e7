"""A backend that is a command is asked, judged and replaced as one in Python is."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnnformance.__main__ import main
from cnnformance.adapters import npm, registry
from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.exceptions import (
    AdapterBroke,
    Crashed,
    Hung,
    Refused,
    Unknown,
)
from cnnformance.adapters.registry import SubjectError, parse
from cnnformance.adapters.subject import Subject
from cnnformance.conformance.divergences import load_divergences
from cnnformance.spec.layers import Dense, Flatten, MaxPool, ReLU
from cnnformance.trial import attempt

WORKER = Path(__file__).parent / "corpus" / "worker"
X = np.array([[[-1, np.nan], [-np.inf, 3]]], np.float32)
RIGHT = np.array([[[0, np.nan], [0, 3]]], np.float32)


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Return the worker in the mode that the test asks for."""
    made = Subject(parse(f"{WORKER}:{request.param}".rstrip(":")), seconds=20.0)
    yield made
    made.close()


def _right(subject: Subject) -> bool:
    y = subject.run([ReLU()], [{}], X).y
    return y.dtype == X.dtype and np.array_equal(y, RIGHT, equal_nan=True)


# --- what it is named by ---------------------------------------------------------------------


def test_a_path_with_a_slash_is_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(WORKER, "worker.mjs")
    target = parse("./worker.mjs:fast@gpu")
    assert (target.path, target.mode, target.device) == ("./worker.mjs", "fast", "gpu")
    assert (target.framework, target.plain) == ("", False)
    assert registry.mode("./worker.mjs:fast@gpu") == "fast"
    assert target.absolute == str(tmp_path / "worker.mjs")
    assert registry.divergences(target) is None
    Path("worker.toml").touch()
    assert registry.divergences(target) == Path("worker.toml")
    assert load_divergences("./worker.mjs").divergences == ()
    Path("class.py").touch()
    assert parse("./class.py:Mine").file == Path("class.py")
    assert not registry.is_command("./class.py:Mine")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./none", r"there is no file \./none"),
        ("../", r"there is no file \.\./"),
        ("./plain", r"the file cannot be executed; begin it with #! .* chmod \+x \./plain$"),
        ("./plain.py", r"chmod \+x \./plain\.py, or name its class: \./plain\.py:NAME"),
        ("plain", r"no backend is called 'plain'.*or a command as \./file"),
    ],
)
def test_what_cannot_be_executed_is_told(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain").touch()
    Path("plain.py").touch()
    with pytest.raises(SubjectError, match=said):
        parse(name)


def test_what_has_no_interpreter_is_told(tmp_path: Path) -> None:
    file = tmp_path / "worker"
    file.write_text("no program\n")
    file.chmod(0o755)
    subject = Subject(parse(str(file)))
    with pytest.raises(AdapterBroke, match=r"Exec format error; does it begin with #!\?"):
        subject.start()
    subject.close()


# --- what it answers -------------------------------------------------------------------------


def test_a_right_command_is_fine() -> None:
    found = attempt(str(WORKER))
    assert found.fine, found.text()
    assert found.version == "1.0"
    assert {name for name, row in found.cells.items() if "ok" in row.values()} == {
        "ReLU",
        "Flatten",
    }
    assert found.faults >= 2 * 7
    assert "gradients is not answered" in found.reasons


@pytest.mark.parametrize("subject", [""], indirect=True)
def test_what_it_does_not_list_is_not_put_to_it(subject: Subject) -> None:
    assert _right(subject)
    assert subject.info.dtypes == ("float32", "float64")
    with pytest.raises(Unsupported, match="MaxPool does not take float32"):
        subject.run([MaxPool((1,))], [{}], X)
    with pytest.raises(Unsupported, match="there is no Dense"):
        subject.parameters([Dense(2, 2)])
    with pytest.raises(Unsupported, match="parameters is not answered"):
        subject.parameters([ReLU()])
    assert not subject.supports(ReLU(), "int32")
    subject.seed(1)
    model = [ReLU(), Flatten()]
    assert np.array_equal(subject.run(model, [{}, {}], X).y, [[0, np.nan, 0, 3]], equal_nan=True)


@pytest.mark.parametrize("memory", ["fortran", "strided", "reversed", "broadcast", "readonly"])
@pytest.mark.parametrize("subject", [""], indirect=True)
def test_arrays_reach_it_in_plain_memory(subject: Subject, memory: str) -> None:
    result = subject.run([ReLU()], [{}], X, memory)
    assert np.array_equal(result.y, RIGHT, equal_nan=True)
    assert not result.modified


def test_it_is_tried_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(WORKER, "worker")
    assert main(["try", "./worker"]) == 0


def test_its_end_ends_no_run_in_one_process() -> None:
    in_process = Subject(parse(f"{WORKER}:exits"), in_process=True)
    assert _right(in_process)
    with pytest.raises(Crashed, match="the command exited with status 3"):
        in_process.run([Flatten()], [{}], X)
    assert _right(in_process)
    in_process.close()


# --- what it does instead --------------------------------------------------------------------

pytestmark = pytest.mark.hostile


@pytest.mark.parametrize(
    ("subject", "kind", "said", "stderr"),
    [
        ("exits", Crashed, "exited with status 3 in the middle", "it has had enough\n"),
        ("dies", Crashed, "died by SIGSEGV", "it is about to die\n"),
        ("half", Crashed, "exited with status 4", ""),
        ("closes", Crashed, "died by SIGKILL", "the command closed its standard output"),
        ("hangs", Hung, "no answer within 2 s", "it is thinking\n"),
        ("half-hangs", Hung, "no answer within 2 s", ""),
    ],
    indirect=["subject"],
)
def test_its_end_is_that_of_a_worker(
    subject: Subject, kind: type[Crashed], said: str, stderr: str
) -> None:
    subject.seconds = 2.0 if kind is Hung else 20.0
    assert _right(subject)
    with pytest.raises(Crashed, match=said) as raised:
        subject.run([Flatten()], [{}], X)
    assert type(raised.value) is kind
    assert raised.value.stderr.startswith(stderr)
    assert "Traceback" not in raised.value.stderr
    assert _right(subject)


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("prints", "a header of .* bytes; its standard output is for answers alone"),
        ("no-json", "its header is no JSON"),
        ("other-id", "its id is 1, and that of the request 2"),
        ("more", "its header has sahpe, which is none of id, arrays, status, composed"),
        ("less", "it holds 0 arrays, and not 1"),
        ("no-status", "its status is None; known are ok, unsupported, exception"),
        ("complex", "its arrays is .*complex64"),
        ("huge", ".* bytes, which no memory holds"),
    ],
    indirect=["subject"],
)
def test_what_is_no_answer_is_an_error(subject: Subject, said: str) -> None:
    for _ in range(2):
        with pytest.raises(
            AdapterBroke, match=f"the command sent what is no (message|answer): {said}"
        ):
            subject.run([Flatten()], [{}], X)
        assert _right(subject)
        if "its id" in said:
            break  # the numbers go on


@pytest.mark.parametrize("subject", ["raises"], indirect=True)
def test_what_its_framework_raises_is_an_answer(subject: Subject) -> None:
    with pytest.raises(Refused) as raised:
        subject.run([Flatten()], [{}], X)
    assert (raised.value.raised, raised.value.message) == ("EngineError", "no such axis")
    assert raised.value.traceback.endswith("at worker:1\n")
    assert _right(subject)


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("prints-at-once", "the command sent what is no message: a header of"),
        ("other-layers", "layers has Softmax; the types are MaxPool"),
        ("other-dtypes", "its layers is .*float128"),
        ("other-layout", "its layout is 'NHWC', and not 'channels_last' or 'channels_first'"),
        ("other-protocol", "its protocol is 2, and not 1"),
        ("exits-at-once", "the worker died while it started"),
    ],
    indirect=["subject"],
)
def test_a_start_that_fails_says_why(subject: Subject, said: str) -> None:
    with pytest.raises(AdapterBroke, match=said) as raised:
        subject.start()
    if "died" in said:
        assert raised.value.traceback == "no licence\n"


@pytest.mark.parametrize("subject", ["unknown"], indirect=True)
def test_a_mode_that_it_has_not_is_unknown(subject: Subject) -> None:
    with pytest.raises(Unknown, match="no such mode"):
        subject.start()


@pytest.mark.parametrize("subject", ["leaves-a-child"], indirect=True)
@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")
def test_with_it_ends_what_it_has_started(subject: Subject) -> None:
    subject.run([Flatten()], [{}], X)
    assert len(_running()) == 2
    subject.close()
    for _ in range(50):
        if not _running():
            return
        time.sleep(0.1)
    raise AssertionError(_running())


def _running() -> list[int]:
    """Return the processes of the worker that this process has started, or theirs.

    Another process of pytest may have started some of its own, which inherit its name.
    """
    name = os.environ.get("PYTEST_XDIST_WORKER", "")
    mark = os.fsencode(f"PYTEST_XDIST_WORKER={name}")
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            ours = not name or mark in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if folder.name.isdigit() and os.fsencode(WORKER) in words and ours:
            found.append(int(folder.name))
    return found


# --- TensorFlow.js ---------------------------------------------------------------------------


def test_packages_of_npm_are_found_as_node_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    monkeypatch.delenv("NODE_PATH", raising=False)
    assert npm.version("tfjs") == ""
    said = r"tfjs is not installed; try npm install --ignore-scripts @tensorflow/tfjs@\^4\.22 "
    with pytest.raises(SubjectError, match=said):
        parse("tfjs")
    package = tmp_path / "node_modules" / "@tensorflow" / "tfjs" / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text('{"version": "4.22.0"}')
    assert npm.version("tfjs") == "4.22.0"
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/node")
    assert "tfjs" in registry.installed()
    assert parse("tfjs==4.22:wasm").version == ""
    with pytest.raises(
        SubjectError, match=r"here is 4\.22\.0; try .*tfjs@4\.20 .*-wasm@4\.20 in another folder"
    ):
        parse("tfjs==4.20")
    monkeypatch.chdir("/")
    assert npm.version("tfjs") == ""
    monkeypatch.setenv("NODE_PATH", str(tmp_path / "node_modules"))
    assert npm.version("tfjs") == "4.22.0"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "tfjs" not in registry.installed()
