"""A backend's process, seen from the suite: started, asked over a socket, replaced, ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cnnformance.adapters import answers, environments, wire
from cnnformance.adapters.backend import Array
from cnnformance.adapters.descendants import end_below
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Hung, Unavailable, Unknown
from cnnformance.adapters.registry import Target
from cnnformance.adapters.tail import Tail

_START_SECONDS = 180.0
"""The longest wait for a framework to be imported."""
_MADE_SECONDS = 3600.0
"""The longest wait for it where it may have to be installed first."""
_RESTART_SECONDS = 20.0
"""The longest wait for another child of a process that has imported it."""
_END_SECONDS = 5.0
"""The longest wait for the parent to end a child."""
_STDERR_KEPT = 4000


class Process:
    """A worker process: imports once, forks a child to talk to, and another after each death."""

    _tail: Tail

    def __init__(self, target: Target, memory: float) -> None:
        """Start a process for a backend, with so many GiB of memory (0: no limit)."""
        self._target = target
        self._memory = memory
        self._largest = int(memory * 2**30) or sys.maxsize
        self._guard: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._sock: socket.socket | None = None
        self._ready = False
        self._number = 0
        self._mark = 0
        self.hello: wire.Header = {}
        self._launch()

    def _launch(self) -> None:
        """Start the guard and its fork server; does not wait for the framework's import."""
        ours, theirs = socket.socketpair()
        options = {
            "control": theirs.fileno(),
            "target": self._target.absolute,
            "mode": self._target.mode,
            "device": self._target.device,
            "memory": self._memory,
        }
        module = "fork_server"
        if self._target.version:
            module = "environments"
            options["environment"] = asdict(environments.of(self._target))
            options["places"] = environments.places(self._target)
        root = str(Path(__file__).resolve().parents[1])
        package = str(Path(sys.modules["cnnformance"].__file__ or root).resolve().parents[1])
        paths = [package, os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self._tail = Tail()
        self._guard = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
            # -P: the working directory may hold a numpy.py or a torch.py
            [sys.executable, "-P", "-m", f"cnnformance.adapters.{module}", json.dumps(options)],
            stdin=subprocess.PIPE,  # its end tells that the suite has ended
            stdout=subprocess.DEVNULL,
            stderr=self._tail.sink,
            pass_fds=[theirs.fileno()],
            env=environment,
            start_new_session=True,
        )
        os.close(self._tail.sink)
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
        self._ready = False

    def answers(self, seconds: float) -> bool:
        """Whether the child's hello, or its end, comes within a time."""
        return self._sock is None or bool(select.select([self._sock], [], [], seconds)[0])

    def start(self) -> None:
        """Wait for the child's hello.

        Raises:
            Unavailable: there is no such version to be had.
            Unknown: there is no such backend, or it has no such mode or device.
            AdapterBroke: the framework cannot be imported or the backend cannot be made; caused
                by a ``TimeoutError`` where that took too long. The next call tries it again.
        """
        if self._ready:
            return
        # a child of a parent that has imported the framework is there at once
        first = _MADE_SECONDS if self._target.version else _START_SECONDS
        limit = _RESTART_SECONDS if self.hello and self._sock is not None else first
        if self._sock is None:
            self._launch()
        assert self._sock is not None
        try:
            hello, arrays = wire.receive(self._sock, limit)
            answers.check({"ask": "hello"}, hello, arrays)
        except (wire.Closed, wire.WireError, OSError) as error:
            said = self._said()
            self.close()
            how = "died while it started"
            if isinstance(error, TimeoutError):
                how = f"gave no answer in {limit:.0f} s while it started"
            elif isinstance(error, wire.WireError):
                how = f"sent what is no message when it started: {error}"
            raise AdapterBroke(f"{self._target.name}: the worker {how}", said) from error
        if hello["status"] != "ok":
            self.close()
            if self._target.version and hello["type"] == Unavailable.__name__:
                raise Unavailable(hello["message"])
            if unknown(hello["type"], self._target):
                raise Unknown(f"{self._target.name}: {hello['message']}", hello["traceback"])
            said = f"{self._target.name}: {hello['type']}: {hello['message']}"
            raise AdapterBroke(said, hello["traceback"])
        self.hello = hello
        self._ready = True

    def ask(
        self, header: wire.Header, arrays: Sequence[Array], seconds: float
    ) -> tuple[wire.Header, list[Array]]:
        """Put a request, and return the worker's answer to it.

        After anything else the next request finds a fresh child.

        Raises:
            Hung: it did not come in time.
            Crashed: the process died.
            AdapterBroke: the worker sent something else, or cannot be started again.
        """
        for _ in range(2):  # what is left of an earlier request must not spoil this one
            self.start()
            assert self._sock is not None
            self._number += 1
            self._mark = self._tail.mark()
            try:
                self._sock.settimeout(seconds)
                wire.send(self._sock, {"id": self._number, **header}, arrays)
                answer, results = wire.receive(self._sock, seconds, self._largest)
                if answer.get("id") == self._number:
                    answers.check(header, answer, results)
                    return answer, results
            except TimeoutError as error:
                self.restart()
                raise Hung(f"no answer within {seconds:g} s", self._said()) from error
            except (wire.Closed, OSError) as error:
                raise Crashed(self._replaced(), self._said()) from error
            except wire.WireError as error:
                self.restart()
                said = f"the worker sent what is no message: {error}"
                raise AdapterBroke(said, self._said()) from error
            self.restart()
        raise AdapterBroke("the worker answered another request than the one asked", self._said())

    def _said(self) -> str:
        return self._tail.since(self._mark, _STDERR_KEPT)

    def restart(self) -> None:
        """Replace the child by a fresh one."""
        if self._ready:
            self._replaced(kill=True)

    def _replaced(self, *, kill: bool = False) -> str:
        """Have the parent end the child, or tell its end, and fork the next; return how it ended.

        The parent alone kills: the number of a process that it has waited for may be another's.
        """
        assert self._sock is not None
        assert self._control is not None
        for killed in (True,) if kill else (False, True):
            if killed:
                with contextlib.suppress(OSError):
                    self._control.sendall(b"k")
            self._control.settimeout(_END_SECONDS)
            try:
                said = self._control.recv(4096)
            except OSError:  # it closed the socket and lives on
                continue
            if not said:
                break
            self._sock.close()
            self._fork()
            code = int(said.split()[-1])
            return "the process closed its connection, and was killed" if killed else _ending(code)
        self.close()
        return "the worker and its parent were killed"

    def close(self) -> None:
        """End the process and all below it."""
        for sock in (self._sock, self._control):
            if sock is not None:
                sock.close()
        self._sock = self._control = None
        self._ready = False
        if self._guard is not None:
            if _unreaped(self._guard.pid):
                end_below(self._guard.pid)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._guard.pid, signal.SIGKILL)
            self._guard.wait()
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard = None


def unknown(raised: str, target: Target) -> bool:
    """Whether what was raised at the start says that a class, a mode or a device does not exist."""
    chosen = target.mode or target.device != "cpu"
    return raised == "NoBackend" or (raised == "Unsupported" and bool(chosen))


def _unreaped(pid: int) -> bool:
    """Whether a number is still that of a child of ours, dead or alive."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _ending(code: int) -> str:
    if code >= 0:
        return f"the process exited with status {code} in the middle of a request"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"the process died by {name}"
