"""A subject: a backend in a process of its own, asked over a socket.

Whatever the process does (answers, raises, breaks the contract, crashes, hangs) comes back as a
value or as one of the exceptions below, and the next request finds a working process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cnnformance.adapters import wire
from cnnformance.adapters.backend import Array, Unsupported, Weights
from cnnformance.adapters.registry import Target
from cnnformance.adapters.worker import Server, find, told
from cnnformance.spec.layers import Layer, Shape, to_json

_START_SECONDS = 180.0
"""The longest wait for a framework to be imported."""

_MOST_HANGS = 8
"""A subject that has hung this often is not asked again: the run must end."""

_STDERR_KEPT = 4000


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The framework raised an exception. Carries its type, message and traceback."""

    def __init__(self, kind: str, message: str, traceback: str) -> None:
        """Keep what the framework said."""
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message
        self.traceback = traceback


class AdapterBroke(Exception):  # noqa: N818 - named for what happened
    """The adapter did not keep the interface's contract, or never started."""

    def __init__(self, message: str, traceback: str = "") -> None:
        """Keep what is wrong, and where."""
        super().__init__(message)
        self.traceback = traceback


class Unknown(AdapterBroke):
    """There is no such backend, mode or device: the subject's name means nothing."""


class Crashed(Exception):  # noqa: N818 - named for what happened
    """The process died while it held the request. Carries what it wrote to stderr."""

    def __init__(self, reason: str, stderr: str = "") -> None:
        """Keep how the process ended."""
        super().__init__(reason)
        self.stderr = stderr


class Hung(Crashed):
    """The process did not answer in time, and was killed."""


class Stopped(Exception):  # noqa: N818 - named for what happened
    """The subject hung too often and is not asked any more."""


@dataclass(frozen=True)
class Result:
    """What a backend computed, and how.

    ``y`` is canonical (channels-last). ``modified`` says that the input or a weight was changed,
    ``composed`` is the adapter's note on a layer made of several calls (empty: native).
    """

    y: Array
    composed: str = ""
    modified: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Gradients:
    """The gradients of a layer by name, canonical, and whether an operand was written to."""

    arrays: Mapping[str, Array]
    modified: bool


@dataclass(frozen=True)
class Twice:
    """Three calls in a row: the first result, the same array later, and the third result."""

    first: Array
    later: Array
    again: Array
    modified: bool
    aliases_input: bool
    aliases_output: bool


@dataclass
class Info:
    """What a subject says about itself."""

    version: str = "unknown"
    layout: str = "channels_last"
    dtypes: tuple[str, ...] = ()
    deterministic: bool = True


class _Channel(Protocol):
    def ask(
        self, header: wire.Header, arrays: Sequence[Array]
    ) -> tuple[wire.Header, list[Array]]: ...
    def close(self) -> None: ...


class _InProcess:
    """The backend in this process: for debuggers. A crash here is a crash of the run."""

    def __init__(self, target: Target) -> None:
        self._server = Server(find(target.path)(mode=target.mode, device=target.device))
        self.hello: wire.Header = {"status": "ok", **self._server.describe()}

    def ask(self, header: wire.Header, arrays: Sequence[Array]) -> tuple[wire.Header, list[Array]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a worker process has no filter that makes errors
            answer, results = self._server.answer(header, [a.copy() for a in arrays])
        return json.loads(wire.encoded(answer)), [np.array(a) for a in results]

    def close(self) -> None:
        """Nothing to end."""


class _Process:
    """A worker process: imports once, forks a child to talk to, and another after each death."""

    def __init__(self, target: Target, seconds: float, memory: float) -> None:
        self._target = target
        self._seconds = seconds
        self._memory = memory
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._parent: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._sock: socket.socket | None = None
        self._pid = 0
        self._number = 0
        self._mark = 0
        self.hello: wire.Header = {}
        self.launch()

    def launch(self) -> None:
        """Start the parent that imports the framework; does not wait for it."""
        ours, theirs = socket.socketpair()
        place, _, name = self._target.path.rpartition(":")
        if place.endswith(".py"):  # the process may change its working directory
            place = str(Path(place).resolve())
        options = {
            "control": theirs.fileno(),
            "target": f"{place}:{name}",
            "mode": self._target.mode,
            "device": self._target.device,
            "memory": self._memory,
        }
        root = str(Path(__file__).resolve().parents[1])
        package = str(Path(sys.modules["cnnformance"].__file__ or root).resolve().parents[1])
        paths = [package, os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self._parent = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
            [sys.executable, "-m", "cnnformance.adapters.worker", json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            pass_fds=[theirs.fileno()],
            env=environment,
            start_new_session=True,
        )
        theirs.close()
        self._control = ours
        self._fork()

    def _fork(self) -> None:
        """Ask for a child; its hello is awaited by the first request."""
        assert self._control is not None
        ours, theirs = socket.socketpair()
        with contextlib.suppress(OSError):  # the parent is gone: the hello will not come
            socket.send_fds(self._control, [b"f"], [theirs.fileno()])
        theirs.close()
        self._sock = ours
        self._pid = 0

    def answers(self, seconds: float) -> bool:
        """Whether the child's hello, or its end, comes within a time."""
        return self._sock is None or bool(select.select([self._sock], [], [], seconds)[0])

    def ready(self) -> None:
        """Wait for the child's hello.

        Raises:
            Unknown: there is no such backend, or it has no such mode or device.
            AdapterBroke: the framework cannot be imported or the backend cannot be made.
        """
        if self._pid:
            return
        if self._sock is None:
            self._end_parent()
            self.launch()
        assert self._sock is not None
        try:
            hello, _ = wire.receive(self._sock, _START_SECONDS)
        except (wire.WireError, TimeoutError, OSError) as error:
            said = self._said()
            self._end_parent()
            how = (
                f"no answer in {_START_SECONDS:.0f} s"
                if isinstance(error, TimeoutError)
                else "died"
            )
            raise AdapterBroke(
                f"{self._target.name}: the worker {how} while it started", said
            ) from error
        if hello["status"] != "ok":
            self._end_parent()
            if _unknown(hello["type"], self._target):
                raise Unknown(f"{self._target.name}: {hello['message']}", hello["traceback"])
            said = f"{self._target.name}: {hello['type']}: {hello['message']}"
            raise AdapterBroke(said, hello["traceback"])
        self.hello = hello
        self._pid = hello["pid"]

    def ask(self, header: wire.Header, arrays: Sequence[Array]) -> tuple[wire.Header, list[Array]]:
        self.ready()
        assert self._sock is not None
        self._number += 1
        self._mark = self._stderr.seek(0, os.SEEK_END)
        try:
            self._sock.settimeout(self._seconds)
            wire.send(self._sock, {"id": self._number, **header}, arrays)
            answer, results = wire.receive(self._sock, self._seconds)
        except TimeoutError as error:
            self.restart()
            raise Hung(f"no answer within {self._seconds:g} s", self._said()) from error
        except (wire.WireError, OSError) as error:
            raise Crashed(self._end_child(), self._said()) from error
        if answer.get("id") != self._number:
            self._end_child()
            raise AdapterBroke("the worker answered another request than the one asked")
        return answer, results

    def _said(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(self._mark, size - _STDERR_KEPT))
        return self._stderr.read().decode(errors="replace")

    def _end_child(self) -> str:
        """Kill the child if it lives; have the next one forked; return how it ended."""
        assert self._sock is not None
        assert self._control is not None
        killed = False
        for _ in range(2):
            self._control.settimeout(5.0 if killed else 0.5)
            try:
                said = self._control.recv(4096)
            except OSError:  # it closed the socket and lives on
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
                killed = True
                continue
            self._sock.close()
            self._sock = None
            self._pid = 0
            if not said:
                break
            self._fork()
            return _ending(int(said.split()[-1]))
        self._end_parent()
        return "the worker and its parent were killed"

    def _end_parent(self) -> None:
        for sock in (self._sock, self._control):
            if sock is not None:
                sock.close()
        self._sock = self._control = None
        self._pid = 0
        if self._parent is not None:
            # an orderly end of an interpreter that holds a framework takes up to a second
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._parent.pid, signal.SIGKILL)
            self._parent.wait()
            self._parent = None

    def restart(self) -> None:
        """Replace the child by a fresh one."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._end_child()

    def close(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._end_parent()
        self._stderr.close()


def _unknown(raised: str, target: Target) -> bool:
    """Whether what was raised at the start says that a class, a mode or a device does not exist."""
    chosen = target.mode or target.device != "cpu"
    return raised == "NoBackend" or (raised == "Unsupported" and bool(chosen))


def _ending(code: int) -> str:
    if code >= 0:
        return f"the process exited with status {code} in the middle of a request"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"the process died by {name}"


@dataclass
class Subject:
    """A backend under test. Every ``run`` and its kin may raise the exceptions of this module."""

    target: Target
    seconds: float = 30.0
    memory: float = 8.0
    in_process: bool = False
    info: Info = field(default_factory=Info)
    framework_seconds: float = 0.0
    requests: int = 0
    hangs: int = 0
    _channel: _Channel | None = None
    _broken: AdapterBroke | None = None

    @property
    def name(self) -> str:
        """The subject as it was named on the command line."""
        return self.target.name

    def launch(self) -> None:
        """Begin to start the process, without waiting for it."""
        if self._channel is None and self._broken is None and not self.in_process:
            self._channel = _Process(self.target, self.seconds, self.memory)

    def starts_within(self, seconds: float) -> bool:
        """Launch the subject, and return whether ``start`` would return or raise within a time."""
        self.launch()
        return not isinstance(self._channel, _Process) or self._channel.answers(seconds)

    def start(self) -> Info:
        """Wait until the backend is there, and return what it says of itself.

        Raises:
            AdapterBroke: it cannot be started (``Unknown``: its name means nothing); every later
                request raises the same, and the first of them says where.
        """
        if self._broken is not None:
            raise self._broken
        try:
            if self.in_process:
                self._channel = self._channel or _InProcess(self.target)
            else:
                self.launch()
                assert isinstance(self._channel, _Process)
                self._channel.ready()
        except AdapterBroke as error:
            self._broken = error
            raise
        except Exception as error:
            said = json.loads(wire.encoded(told(error)))
            if _unknown(type(error).__name__, self.target):
                self._broken = Unknown(f"{self.name}: {said['message']}")
            else:
                self._broken = AdapterBroke(f"{self.name}: {said['type']}: {said['message']}")
            raise self._broken from error
        assert isinstance(self._channel, _Process | _InProcess)
        hello = self._channel.hello
        self.info = Info(
            hello["version"], hello["layout"], tuple(hello["dtypes"]), hello["deterministic"]
        )
        return self.info

    def restart(self) -> None:
        """Continue in a fresh process, free of any state."""
        if isinstance(self._channel, _Process):
            self._channel.restart()

    def close(self) -> None:
        """End the process."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _ask(
        self, ask: str, layers: Sequence[Layer], arrays: Sequence[Array] = (), **more: Any
    ) -> tuple[wire.Header, list[Array]]:
        try:
            self.start()
        except AdapterBroke as error:
            self._broken = AdapterBroke(str(error))
            raise
        assert self._channel is not None
        if self.hangs >= _MOST_HANGS:
            raise Stopped(f"{self.name} hung {self.hangs} times and is not asked any more")
        header = {"ask": ask, "layers": [to_json(layer) for layer in layers], **more}
        self.requests += 1
        try:
            answer, results = self._channel.ask(header, arrays)
        except Hung:
            self.hangs += 1
            raise
        self.framework_seconds += answer.get("seconds", 0.0)
        match answer["status"]:
            case "ok":
                return answer, results
            case "unsupported":
                raise Unsupported(answer["message"] or "no reason is given")
            case "adapter":
                raise AdapterBroke(answer["message"], answer["traceback"])
            case _:
                raise Refused(answer["type"], answer["message"], answer["traceback"])

    def run(
        self,
        layers: Sequence[Layer],
        weights: Sequence[Weights],
        x: Array,
        memory: str = "contiguous",
        weight_memory: str = "contiguous",
        *,
        force: bool = False,
    ) -> Result:
        """Run a model of one or more layers on ``x``, whose memory is laid out as ``memory``.

        ``weight_memory`` is that of the weights, as ``worker.arranged`` names both. With ``force``
        the framework is asked although the adapter's ``supports`` declines the dtype.
        """
        answer, (y,) = self._ask(
            "run",
            layers,
            [*_flat(weights), x],
            weights=[list(w) for w in weights],
            dtype=x.dtype.name,
            memory=memory,
            weight_memory=weight_memory,
            force=force,
        )
        return Result(y, answer["composed"], answer["modified"], answer["seconds"])

    def run_twice(self, layer: Layer, weights: Weights, x: Array, other: Array) -> Twice:
        """Run ``x``, ``other`` and ``x`` again, and say what was aliased or changed."""
        answer, (first, later, again) = self._ask(
            "twice",
            [layer],
            [*weights.values(), other, x],
            weights=[list(weights)],
            dtype=x.dtype.name,
        )
        flags = (answer["modified"], answer["aliases_input"], answer["aliases_output"])
        return Twice(first, later, again, *flags)

    def gradients(
        self,
        layer: Layer,
        weights: Weights,
        x: Array,
        upstream: Array,
        memory: str = "contiguous",
        *,
        force: bool = False,
    ) -> Gradients:
        """Return the gradients of ``sum(layer(x) * upstream)``.

        All arrays are laid out as ``memory``; ``force`` is that of ``run``.
        """
        answer, results = self._ask(
            "gradients",
            [layer],
            [*weights.values(), x, upstream],
            weights=[list(weights)],
            dtype=x.dtype.name,
            memory=memory,
            weight_memory=memory,
            force=force,
        )
        return Gradients(dict(zip(answer["names"], results, strict=True)), answer["modified"])

    def parameters(self, layers: Sequence[Layer]) -> int:
        """Return how many parameters the framework says that the layers hold."""
        return int(self._ask("parameters", layers)[0]["count"])

    def output_shape(self, layers: Sequence[Layer], shape: Shape) -> Shape:
        """Return the framework's static answer (canonical). No dtype: there is none to force."""
        return tuple(self._ask("output_shape", layers, shape=shape)[0]["shape"])

    def script(self, layer: Layer, *, gradients: bool = False) -> str:
        """Return source in the framework's own calls that computes the layer, or its gradients."""
        return str(self._ask("script", [layer], gradients=gradients)[0]["script"])

    def seed(self, seed: int) -> None:
        """Seed the framework's random numbers."""
        self._ask("seed", [], seed=seed)


def _flat(weights: Sequence[Weights]) -> list[Array]:
    return [array for each in weights for array in each.values()]
