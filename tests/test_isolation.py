"""What a subject's process does to itself stays its own: nothing reaches the next request."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import misbehaving

from cnnformance.adapters import process
from cnnformance.adapters.backend import Array, Backend, Unsupported, Weights
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Hung, Refused, Stopped
from cnnformance.adapters.memory import arranged
from cnnformance.adapters.quarantine import Quarantine
from cnnformance.adapters.registry import Target
from cnnformance.adapters.subject import Subject
from cnnformance.adapters.tail import Tail
from cnnformance.adapters.worker import Server
from cnnformance.conformance import models, reproduction
from cnnformance.conformance.judge import Failure
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    ReLU,
    to_json,
)

pytestmark = pytest.mark.hostile

MEMORY = (
    "contiguous", "fortran", "strided", "sliced", "narrowed", "cropped", "broadcast", "reversed",
    "offset", "readonly",
)  # fmt: skip


class Keeps(Backend):
    """Keeps the arrays that it was given; takes float32 alone, it says, and yet any."""

    dtypes = ("float32",)
    seen: Array

    def build(self, layer: Layer, weights: Weights) -> Any:
        """Return a dense layer, or what returns its input."""
        if not isinstance(layer, Dense):
            return lambda x: x.copy()
        self.seen = weights["weight"]
        if self.seen.shape != (layer.out_features, layer.in_features):
            raise ValueError("these weights do not fit")
        return lambda x: x @ self.seen.T

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Return arrays of the right shapes, and keep the upstream gradient."""
        self.seen = upstream
        return {"input": x.copy(), **weights} if layer else {}


def asked(server: Server, ask: str, layer: Layer, arrays: list[Array], **more: Any) -> Any:
    """Return the status of a request for one layer, and the arrays of its answer."""
    names = [["weight"] if isinstance(layer, Dense) else []]
    request = {"ask": ask, "layers": [to_json(layer)], "weights": names, **more}
    header, results = server.answer({"dtype": arrays[-1].dtype.name, **request}, arrays)
    return header, results


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (4, 1, 5, 2)])
def test_arranged_memory_holds_the_same_bits(memory: str, shape: tuple[int, ...]) -> None:
    x = np.asarray(np.random.default_rng(0).standard_normal(shape), np.float32)
    for array in (x, np.full_like(x, np.nan), np.zeros_like(x)):
        found = arranged(array, memory)
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        assert found.tobytes() == array.tobytes()


def test_broadcast_memory_steps_over_no_byte_where_all_bits_are_equal() -> None:
    assert arranged(np.ones((3, 2), np.float32), "broadcast").strides == (0, 0)
    assert arranged(np.array([[1.0, 2.0]] * 3), "broadcast").strides == (0, 8)
    signed = np.array([0.0, -0.0])
    assert arranged(signed, "broadcast").tobytes() == signed.tobytes()


def test_weights_and_upstream_gradients_come_in_other_memory() -> None:
    backend = Keeps()
    server = Server(backend)
    weight, x = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)
    header, (y,) = asked(server, "run", Dense(3, 2), [weight, x], weight_memory="fortran")
    assert header["status"] == "ok"
    assert backend.seen.strides == (4, 8)
    assert (y == 3).all()
    upstream = np.ones((4, 2), np.float32)
    more = {"memory": "broadcast", "weight_memory": "broadcast"}
    header, _ = asked(server, "gradients", Dense(3, 2), [weight, x, upstream], **more)
    assert header["status"] == "ok"
    assert backend.seen.strides == (0, 0)


class Scribbles(Keeps):
    """Writes to its weights."""

    def build(self, layer: Layer, weights: Weights) -> Any:
        """Double the weights in their place."""
        np.multiply(weights["weight"], 2, out=weights["weight"])
        return super().build(layer, weights)


@pytest.mark.parametrize("memory", ["contiguous", "fortran", "strided", "reversed"])
def test_a_write_to_weights_in_any_memory_is_seen(memory: str) -> None:
    arrays = [np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)]
    header, _ = asked(Server(Scribbles()), "run", Dense(3, 2), arrays, weight_memory=memory)
    assert header["modified"]


def test_what_supports_declines_is_put_to_the_framework_when_forced() -> None:
    server = Server(Keeps())
    x = np.ones((2, 3), np.int32)
    assert asked(server, "run", ReLU(), [x])[0]["status"] == "unsupported"
    assert asked(server, "run", ReLU(), [x], force=True)[0]["status"] == "ok"
    assert asked(server, "gradients", ReLU(), [x, x])[0]["status"] == "unsupported"
    assert asked(server, "gradients", ReLU(), [x, x], force=True)[0]["status"] == "ok"


def test_weights_of_equal_bytes_and_another_shape_are_another_layer() -> None:
    server = Server(Keeps())
    x = np.ones((4, 3), np.float32)
    fits, turned = np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)
    assert asked(server, "run", Dense(3, 2), [fits, x])[0]["status"] == "ok"
    header, _ = asked(server, "run", Dense(3, 2), [turned, x])
    assert header["message"] == "these weights do not fit"


@pytest.fixture(params=[False, True], ids=["worker", "in-process"])
def keeps(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A subject of ``Keeps``, in a process of its own and in this one."""
    found = Subject(Target("keeps", f"{__file__}:Keeps"), in_process=request.param)
    yield found
    found.close()


def test_a_subject_passes_memory_and_force_on(keeps: Subject) -> None:
    weights, x = {"weight": np.ones((2, 3), np.float32)}, np.ones((4, 3), np.float32)
    assert (keeps.run([Dense(3, 2)], [weights], x, "strided", "reversed").y == 3).all()
    upstream = np.ones((4, 2), np.float32)
    assert not keeps.gradients(Dense(3, 2), weights, x, upstream, "readonly").modified
    with pytest.raises(Unsupported):
        keeps.run([ReLU()], [{}], np.ones(3, np.int8))
    assert keeps.run([ReLU()], [{}], np.ones(3, np.int8), force=True).y.dtype == np.int8


Start = Callable[..., Subject]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Make subjects of ``misbehaving``, whose working directory is the test's."""
    monkeypatch.chdir(tmp_path)
    made: list[Subject] = []

    def make(backend: type[Backend], mode: str = "", **options: Any) -> Subject:
        path = f"{misbehaving.__file__}:{backend.__name__}"
        made.append(Subject(Target(backend.__name__, path, mode), **options))
        return made[-1]

    yield make
    for subject in made:
        subject.close()


IMAGE = np.arange(32, dtype=np.float32).reshape(1, 4, 4, 2)
POOL = MaxPool((2, 2))


def flattens(subject: Subject) -> bool:
    """Whether the subject's next answer is that to a Flatten."""
    y = subject.run([Flatten()], [{}], IMAGE).y
    return bool(np.array_equal(y, IMAGE.reshape(1, -1)))


@pytest.mark.parametrize("forged", misbehaving.FORGED)
def test_an_unusable_answer_is_told_once_and_the_next_one_is_right(
    forged: str, start: Start
) -> None:
    subject = start(misbehaving.Forges, forged)
    with pytest.raises(AdapterBroke) as told:
        subject.run([POOL], [{}], IMAGE)
    assert misbehaving.FORGED[forged][1] in str(told.value)
    assert "SIGKILL" not in str(told.value)
    assert flattens(subject)


def test_an_answer_too_many_does_not_reach_the_next_request(start: Start) -> None:
    subject = start(misbehaving.AnswersTwice)
    assert subject.run([POOL], [{}], IMAGE).y.shape == (1,)
    assert flattens(subject)


def test_an_answer_larger_than_the_memory_limit_is_none(start: Start) -> None:
    subject = start(misbehaving.Forges, "large", memory=0.5)
    with pytest.raises(AdapterBroke, match="arrays of 1073741824 bytes"):
        subject.run([POOL], [{}], IMAGE)
    assert flattens(subject)


@pytest.mark.parametrize("in_process", [False, True], ids=["worker", "in-process"])
def test_an_array_that_no_memory_holds_is_no_answer(in_process: bool, start: Start) -> None:
    subject = start(misbehaving.Repeats, in_process=in_process, memory=0.5)
    with pytest.raises((AdapterBroke, Refused), match=r"4\.00 TiB|arrays of 4398046511104 bytes"):
        subject.run([POOL], [{}], IMAGE)
    assert flattens(subject)


def test_a_hello_that_is_none_is_told(start: Start) -> None:
    with pytest.raises(AdapterBroke, match="no message when it started: it has no version"):
        start(misbehaving.SendsGarbageAtStart).start()


def test_a_process_that_ends_its_connection_is_told_from_one_that_was_killed(start: Start) -> None:
    subject = start(misbehaving.EndsItsConnection)
    with pytest.raises(Crashed, match="closed its connection, and was killed"):
        subject.run([POOL], [{}], IMAGE)
    assert flattens(subject)


def test_the_end_of_the_parent_costs_one_request(start: Start) -> None:
    subject = start(misbehaving.KillsItsParent)
    for _ in range(2):
        with pytest.raises(Crashed):
            subject.run([POOL], [{}], IMAGE)
        assert flattens(subject)


# Starts


def test_a_start_that_fails_once_costs_one_request(start: Start, tmp_path: Path) -> None:
    (tmp_path / "plan").write_text(".xx" * 3)
    subject = start(misbehaving.FailsToStart)
    assert flattens(subject)
    for _ in range(3):
        with pytest.raises(Crashed):
            subject.run([POOL], [{}], IMAGE)
        for _ in range(2):
            with pytest.raises(AdapterBroke, match="not now"):
                flattens(subject)
        assert flattens(subject)


def test_a_subject_that_never_starts_is_tried_three_times(start: Start, tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("x" * 9)
    subject = start(misbehaving.FailsToStart)
    for _ in range(6):
        with pytest.raises(AdapterBroke, match="not now"):
            flattens(subject)
    assert (tmp_path / "starts").read_text() == "..."


def test_a_subject_that_hangs_in_every_second_start_is_given_up(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_RESTART_SECONDS", 0.5)
    subject = start(misbehaving.HangsInEverySecondStart)
    for _ in range(3):
        with pytest.raises(Crashed):
            subject.run([POOL], [{}], IMAGE)
        with pytest.raises(AdapterBroke, match="gave no answer in 0 s while it started"):
            flattens(subject)
    before = Path("starts").read_text()
    assert before == "." * 6
    for _ in range(3):
        with pytest.raises(AdapterBroke, match="gave no answer in 0 s while it started"):
            flattens(subject)
    assert Path("starts").read_text() == before


@pytest.mark.parametrize(
    "does",
    [
        "sys.stderr = sys.stdout = None",
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "os.closerange(0, 3)",
        "os.chdir('/')",
        "os.unlink(__file__)",
    ],
)
def test_what_an_import_does_to_its_process_costs_nothing(
    does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(misbehaving.__file__).resolve().parents[1]))
    text = f"import os, signal, sys\nfrom corpus.misbehaving import Aborts\n{does}\n"
    (tmp_path / "mine.py").write_text(text)
    subject = Subject(Target("mine", f"{tmp_path}/mine.py:Aborts"))
    try:
        for _ in range(2):
            with pytest.raises(Crashed, match="the process died by SIGABRT"):
                subject.run([POOL], [{}], IMAGE)
            assert flattens(subject)
    finally:
        subject.close()


# Time


def test_each_call_of_a_request_has_the_whole_limit(start: Start) -> None:
    subject = start(misbehaving.Sleeps, "0.3", seconds=0.7)
    subject.start()
    assert subject.run_twice(POOL, {}, IMAGE, IMAGE + 1).again.shape == IMAGE.shape
    assert subject.run([POOL, POOL, POOL], [{}] * 3, IMAGE).y.shape == IMAGE.shape
    subject.seconds = 0.2
    with pytest.raises(Hung, match=r"no answer within 0\.2 s"):
        subject.run([POOL], [{}], IMAGE)


def test_what_hangs_is_quarantined_and_all_else_is_asked(start: Start) -> None:
    subject = start(misbehaving.HangsInThreeDimensions, seconds=1.0)
    subject.start()
    x = IMAGE[None]
    for window in ((2, 2, 2), (1, 2, 2), (3, 3, 3)):
        with pytest.raises(Hung):
            subject.run([MaxPool(window)], [{}], x)
        assert flattens(subject)
    with pytest.raises(Stopped, match=r"MaxPool \(rank 3\) hung 3 times"):
        subject.run([MaxPool((2, 1, 2))], [{}], x)
    assert subject.quarantined == {"MaxPool (rank 3)": "hung 3 times"}
    assert subject.run([POOL], [{}], IMAGE).y.shape == IMAGE.shape
    assert flattens(subject)


def test_a_hang_on_images_costs_no_question_on_vectors(start: Start) -> None:
    subject = start(misbehaving.HangsOnImages, seconds=0.5)
    subject.start()
    for _ in range(3):
        with pytest.raises(Hung):
            subject.run([ReLU()], [{}], IMAGE)
    with pytest.raises(Stopped, match=r"ReLU \(rank 2\) hung 3 times"):
        subject.run([ReLU()], [{}], IMAGE)
    for x in (IMAGE[0], IMAGE[0, 0], IMAGE[None]):
        assert (subject.run([ReLU()], [{}], x).y == x).all()


def test_a_script_that_hangs_says_nothing_of_its_layer(start: Start) -> None:
    subject = start(misbehaving.Sleeps, "60", seconds=0.5)
    subject.start()
    for _ in range(3):
        with pytest.raises(Hung):
            subject.script(Flatten(), [IMAGE])
    with pytest.raises(Stopped, match="script of Flatten hung 3 times"):
        subject.script(Flatten(), [IMAGE])
    assert flattens(subject)


class TestQuarantine:
    """Which requests are barred after which hangs."""

    @staticmethod
    def barred(quarantine: Quarantine, ask: str, *layers: Layer, rank: int | None = None) -> str:
        try:
            quarantine.check(ask, layers, rank)
        except Stopped as stopped:
            return str(stopped)
        return ""

    def test_fewer_hangs_bar_nothing(self) -> None:
        quarantine = Quarantine()
        for _ in range(2):
            quarantine.add("run", [POOL])
        assert not self.barred(quarantine, "run", POOL)
        assert quarantine.reasons == {}

    def test_what_the_hung_ones_share_is_barred(self) -> None:
        quarantine = Quarantine()
        for pads in ("same", ((1, 0), (0, 0)), "same_lower"):
            quarantine.add("run", [MaxPool((2, 2), padding=pads, ceil_mode=pads == "same")])
        assert quarantine.reasons == {"MaxPool (padding, rank 2)": "hung 3 times"}
        assert self.barred(quarantine, "run", MaxPool((5, 5), (1, 1), padding="same"))
        assert not self.barred(quarantine, "run", MaxPool((5, 5), (1, 1)))
        assert not self.barred(quarantine, "run", MaxPool((5,), padding="same"))
        assert not self.barred(quarantine, "run", AveragePool((2, 2), padding="same"))

    def test_more_hangs_bar_the_layer_type(self) -> None:
        quarantine = Quarantine()
        for rank in (1, 1, 1, 2, 2, 2):
            quarantine.add("run", [MaxPool((2,) * rank)])
        assert quarantine.reasons == {"MaxPool": "hung 6 times"}
        assert self.barred(quarantine, "run", MaxPool((2, 2, 2)))
        assert not self.barred(quarantine, "run", ReLU())

    def test_a_layer_of_any_rank_is_barred_on_inputs_of_the_rank_that_hung(self) -> None:
        for layer in (ReLU(), Dense(2, 3), Flatten()):
            quarantine = Quarantine()
            for _ in range(3):
                quarantine.add("run", [layer], 2)
            name = type(layer).__name__
            assert quarantine.reasons == {f"{name} (rank 2)": "hung 3 times"}
            assert self.barred(quarantine, "run", layer, rank=2).startswith(f"{name} (rank 2) hung")
            for rank in (0, 1, 3, None):
                assert not self.barred(quarantine, "run", layer, rank=rank)

    def test_the_rank_within_a_model_is_that_of_the_images_there(self) -> None:
        quarantine = Quarantine()
        for _ in range(3):
            quarantine.add("run", [ReLU()], 2)
        assert self.barred(quarantine, "run", Flatten(), ReLU(), rank=0) == ""
        for model in ([POOL, ReLU()], [ReLU(), ReLU(), Flatten()], [ReLU(), POOL]):
            assert self.barred(quarantine, "run", *model, rank=2).startswith("ReLU (rank 2) hung")
        assert not self.barred(quarantine, "run", Flatten(), ReLU(), rank=2)
        assert not self.barred(quarantine, "run", MaxPool((2,)), ReLU(), rank=1)

    def test_kinds_of_requests_are_apart(self) -> None:
        quarantine = Quarantine()
        for _ in range(3):
            quarantine.add("gradients", [ReLU()])
        assert self.barred(quarantine, "gradients", ReLU()).startswith("gradients of ReLU hung 3")
        assert not self.barred(quarantine, "run", ReLU())
        for ask in ("run", "twice", "run"):
            quarantine.add(ask, [ReLU()])
        assert self.barred(quarantine, "twice", ReLU()).startswith("ReLU hung 3 times")

    def test_models_are_a_type_of_their_own(self) -> None:
        quarantine = Quarantine()
        for _ in range(3):
            quarantine.add("run", [POOL, ReLU()])
        assert self.barred(quarantine, "run", POOL, Flatten()).startswith("Model hung 3 times")
        assert not self.barred(quarantine, "run", POOL)
        assert not self.barred(quarantine, "run", ReLU())

    def test_a_model_with_a_barred_layer_is_barred(self) -> None:
        quarantine = Quarantine()
        for _ in range(3):
            quarantine.add("run", [POOL])
        assert self.barred(quarantine, "run", ReLU(), POOL).startswith("MaxPool (rank 2) hung")
        assert not self.barred(quarantine, "run", ReLU(), Flatten())

    def test_requests_without_layers_have_a_name(self) -> None:
        quarantine = Quarantine()
        for _ in range(3):
            quarantine.add("seed", [])
        assert self.barred(quarantine, "seed").startswith("seed hung 3 times")
        assert not self.barred(quarantine, "run", ReLU())

    @pytest.mark.parametrize("window", [3, None, (0,), ()])
    def test_layers_without_meaning_are_counted(self, window: Any) -> None:
        quarantine = Quarantine()
        for _ in range(3):
            quarantine.add("run", [MaxPool.unchecked(window=window)])
        assert self.barred(quarantine, "run", MaxPool.unchecked(window=window))


# What is left behind


def gone(pid: int) -> bool:
    """Whether a process ends within a time (it may be a zombie of a container's first process)."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@needs_proc
def test_a_daemon_ends_with_the_run(start: Start, tmp_path: Path) -> None:
    subject = start(misbehaving.LeavesDaemon)
    subject.run([POOL], [{}], IMAGE)
    pid = int((tmp_path / "daemon").read_text())
    assert Path(f"/proc/{pid}").exists()
    assert flattens(subject)
    subject.close()
    assert gone(pid)


@needs_proc
def test_a_daemon_ends_with_its_process(start: Start, tmp_path: Path) -> None:
    subject = start(misbehaving.LeavesDaemon, "dies")
    with pytest.raises(Crashed):
        subject.run([POOL], [{}], IMAGE)
    assert gone(int((tmp_path / "daemon").read_text()))
    assert flattens(subject)


BUSY = """\
import ctypes, os, time
from pathlib import Path
from corpus.misbehaving import Misbehaving

STAGE = Path("stage").read_text()


def busy(stage):
    if stage == STAGE:
        if (daemon := os.fork()) == 0:
            os.setsid()
            time.sleep(60)
        for pid in (daemon, os.getpid(), os.getppid()):
            Path(f"{pid}.pid").touch()
        Path("busy").touch()
        ctypes.PyDLL(None).sleep(60)  # no other thread of Python runs meanwhile


class Busy(Misbehaving):
    def __init__(self, mode="", device="cpu"):
        super().__init__(mode, device)
        busy("starts")

    def harm(self, x):
        busy("calls")


busy("imports")
"""
KILLED = """\
import os, signal, time
import numpy as np
from pathlib import Path
from cnnformance.adapters.registry import Target
from cnnformance.adapters.subject import Subject
from cnnformance.spec.layers import MaxPool

subject = Subject(Target("busy", "busy.py:Busy"))
subject.launch()
if os.fork() == 0:
    while not Path("busy").exists():
        time.sleep(0.01)
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(0)
subject.run([MaxPool((2, 2))], [{}], np.zeros((1, 4, 4, 1), np.float32))
"""


@needs_proc
@pytest.mark.parametrize("stage", ["imports", "starts", "calls"])
def test_nothing_outlives_a_run_that_is_killed(stage: str, tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    (tmp_path / "stage").write_text(stage)
    places = [str(Path(misbehaving.__file__).resolve().parents[up]) for up in (1, 2)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, check=False)  # noqa: S603 - our own words
    ours = [int(name.stem) for name in tmp_path.glob("*.pid")]
    assert len(ours) >= 3
    assert all(map(gone, ours))


SERVED = """\
import os, subprocess, sys, time
from pathlib import Path
from corpus import misbehaving

sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
served = subprocess.Popen(sleep, start_new_session=True)
Path("served").write_text(str(served.pid))
Mine = {{"dies": misbehaving.FailsToStart, "imports": None}}[{what!r}] or time.sleep(60)
"""


@needs_proc
@pytest.mark.parametrize("what", ["dies", "imports"])
def test_what_an_import_starts_serves_every_child_and_ends_with_the_run(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(misbehaving.__file__).resolve().parents[1]))
    (tmp_path / "served.py").write_text(SERVED.format(what=what))
    (tmp_path / "plan").write_text("")
    subject = Subject(Target("mine", "served.py:Mine"))
    try:
        subject.launch()
        while not ((tmp_path / "served").exists() and (tmp_path / "served").read_text()):
            time.sleep(0.01)
        pid = int((tmp_path / "served").read_text())
        if what == "dies":
            with pytest.raises(Crashed):
                subject.run([POOL], [{}], IMAGE)
            assert flattens(subject)
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    finally:
        subject.close()
    assert gone(pid)


# What is written


def test_a_flood_on_standard_error_keeps_its_end_and_fills_no_disk(start: Start) -> None:
    subject = start(misbehaving.WritesMuch)
    with pytest.raises(Crashed) as crash:
        subject.run([POOL], [{}], IMAGE)
    assert crash.value.stderr.endswith("-\nkept: 0\n")
    assert len(crash.value.stderr) < 5000
    assert flattens(subject)


def test_the_tail_of_what_is_written_is_bounded_and_at_once_there() -> None:
    tail = Tail()
    for number in range(200):
        mark = tail.mark()
        os.write(tail.sink, f"line {number}\n".encode())
        assert tail.since(mark, 4000) == f"line {number}\n"
    mark = tail.mark()
    for _ in range(40):
        os.write(tail.sink, b"-" * (1 << 16))
    assert tail.since(mark, 1 << 30) == "-" * (1 << 16)
    assert len(tail._kept) == 1 << 16
    os.close(tail.sink)


def test_several_processes_lose_no_line(start: Start) -> None:
    subject = start(misbehaving.WritesInTurn)
    with pytest.raises(Crashed) as crash:
        subject.run([POOL], [{}], IMAGE)
    assert crash.value.stderr.splitlines() == ["0123456789"] * 100


def test_standard_error_is_that_of_the_request(start: Start) -> None:
    subject = start(misbehaving.WritesInTurn)
    for _ in range(2):
        with pytest.raises(Crashed) as crash:
            subject.run([POOL], [{}], IMAGE)
        assert len(crash.value.stderr.splitlines()) == 100


@pytest.mark.parametrize("in_process", [False, True], ids=["worker", "in-process"])
@pytest.mark.parametrize("mode", misbehaving.Leaves.modes)
def test_who_leaves_crashes_and_the_next_answer_is_right(
    mode: str, in_process: bool, start: Start
) -> None:
    subject = start(misbehaving.Leaves, mode, in_process=in_process)
    for _ in range(2):
        with pytest.raises(Crashed) as crash:
            subject.run([POOL], [{}], IMAGE)
        assert "Exit: " in f"{crash.value} {crash.value.stderr}"
        assert flattens(subject)


@pytest.mark.parametrize("in_process", [False, True], ids=["worker", "in-process"])
@pytest.mark.parametrize("mode", misbehaving.LeavesAtStart.modes)
def test_who_leaves_at_its_start_is_broken(mode: str, in_process: bool, start: Start) -> None:
    subject = start(misbehaving.LeavesAtStart, mode, in_process=in_process)
    with pytest.raises(AdapterBroke) as broke:
        flattens(subject)
    assert "said" in f"{broke.value} {broke.value.traceback}"


@pytest.mark.parametrize("in_process", [False, True])
def test_nothing_that_a_terminal_obeys_comes_through(start: Start, in_process: bool) -> None:
    subject = start(misbehaving.SpeaksToTheTerminal, in_process=in_process)
    assert subject.start().version == "1.0 red text, clear, \ufffdturned, \ufffd and more"
    with pytest.raises(Refused) as refused:
        subject.run([POOL], [{}], IMAGE)
    said = "red text, clear, \ufffdturned, \ufffd and \nmore"
    assert refused.value.message == said
    assert "\x1b" not in refused.value.traceback
    assert subject.script(POOL, [IMAGE]) == f"# {said}\n\ty = x"
    if not in_process:
        with pytest.raises(Crashed) as crash:
            subject.run([MaxPool((2,))], [{}], IMAGE[0])
        assert crash.value.stderr.startswith(said.replace("\x9b2J", ""))


# What is asked


def test_a_masked_array_is_no_answer(start: Start) -> None:
    subject = start(misbehaving.Masks)
    with pytest.raises(AdapterBroke, match="16 of 32 elements of the array are masked"):
        subject.run([POOL], [{}], IMAGE)
    assert (subject.run([MaxPool((2,))], [{}], IMAGE[0]).y == IMAGE[0]).all()


def test_only_a_process_of_its_own_is_isolated(start: Start) -> None:
    assert start(misbehaving.Misbehaving).isolated
    assert not start(misbehaving.Misbehaving, in_process=True).isolated


CONV = Conv((1, 1), in_channels=2, out_channels=3, bias=False)


def channels_first() -> Server:
    return Server(misbehaving.ChannelsFirst())


@pytest.mark.parametrize("before", [(), (ReLU(),), (ReLU(), ReLU())])
def test_a_model_that_begins_with_an_elementwise_layer_is_transposed(
    before: tuple[Layer, ...],
) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    expected = IMAGE @ weight[0, 0]
    for after, shape in ((), (1, 4, 4, 3)), ((ReLU(),), (1, 4, 4, 3)), ((Flatten(),), (1, 48)):
        layers = [*before, CONV, *after]
        described = [to_json(layer) for layer in layers]
        names = [["weight"] if layer is CONV else [] for layer in layers]
        request = {"layers": described, "weights": names, "dtype": "float32"}
        header, (y,) = channels_first().answer({"ask": "run", **request}, [weight, IMAGE])
        assert header["status"] == "ok"
        native = np.moveaxis(expected, -1, 1).reshape(1, 48) if len(shape) == 2 else expected
        np.testing.assert_array_equal(y, native)
        asked = {"ask": "output_shape", "shape": list(IMAGE.shape), **request}
        assert channels_first().answer(asked, [])[0]["shape"] == list(shape)


def test_a_model_without_images_is_not_transposed() -> None:
    for layers in ([ReLU(), Flatten()], [Flatten(), ReLU()], [ReLU()]):
        described = [to_json(layer) for layer in layers]
        request = {"ask": "run", "layers": described, "weights": [[]] * 2, "dtype": "float32"}
        request["weights"] = [[] for _ in layers]
        _, (y,) = channels_first().answer(request, [IMAGE])
        assert y.tobytes() == IMAGE.tobytes()


def test_the_static_shape_and_the_output_have_one_layout() -> None:
    layers = [to_json(CONV), to_json(Flatten(2))]
    request = {"layers": layers, "weights": [["weight"], []], "dtype": "float32"}
    static, _ = channels_first().answer(
        {"ask": "output_shape", "shape": [1, 4, 4, 2], **request}, []
    )
    assert static["shape"] == [1, 3, 16]


# Where a backend is


ADAPTER = """\
import {module}
import neighbour
import numpy as np
from cnnformance.adapters.backend import Backend


class Mine(Backend):
    def version(self):
        itself = hasattr({module}, "Mine")
        return "itself" if itself else neighbour.said + np.__version__

    def build(self, layer, weights):
        return lambda x: x.copy()
"""


@pytest.mark.parametrize("in_process", [False, True], ids=["worker", "in-process"])
@pytest.mark.parametrize("folder", ["", "inner"])
@pytest.mark.parametrize("module", ["numpy", "json", "hypothesis"])
def test_a_file_may_have_the_name_of_a_module(
    module: str, folder: str, in_process: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")  # restores the path
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    (place / f"{module}.py").write_text(ADAPTER.format(module=module))
    (place / "neighbour.py").write_text("said = 'beside '")
    before = importlib.import_module(module)
    subject = Subject(Target("mine", f"{folder or '.'}/{module}.py:Mine"), in_process=in_process)
    try:
        assert subject.start().version == f"beside {np.__version__}"
        assert (subject.run([ReLU()], [{}], IMAGE).y == IMAGE).all()
    finally:
        subject.close()
        sys.modules.pop("neighbour", None)
    assert importlib.import_module(module) is before


def test_a_script_that_hangs_is_told_in_the_one_that_is_shown(start: Start) -> None:
    subject = start(misbehaving.Sleeps, "60", seconds=0.5)
    subject.start()
    failure = Failure("value", "it is wrong", layers=(POOL,), arrays={"x": IMAGE})
    shown = reproduction.script(subject, failure)
    assert shown is not None
    assert "# through the adapter: its own script was not had (no answer within 0.5 s)" in shown
    assert flattens(subject)


@pytest.mark.parametrize("before", [(), (ReLU(),)])
def test_dense_weights_follow_the_layout_of_a_model_s_images(before: tuple[Layer, ...]) -> None:
    layers = (*before, CONV, Flatten(), Dense(48, 2, bias=False))
    kernel = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    matrix = np.random.default_rng(0).integers(-2, 3, (2, 48)).astype(np.float32)
    canonical: list[Weights] = [*({} for _ in before), {"weight": kernel}, {}, {"weight": matrix}]
    placed, order = models.native(layers, canonical, IMAGE.shape, "channels_first")
    assert order is None
    request = {
        "ask": "run",
        "layers": [to_json(layer) for layer in layers],
        "weights": [list(held) for held in placed],
        "dtype": "float32",
    }
    arrays = [array for held in placed for array in held.values()]
    _, (y,) = channels_first().answer(request, [*arrays, IMAGE])
    np.testing.assert_array_equal(y, (IMAGE @ kernel[0, 0]).reshape(1, 48) @ matrix.T)
