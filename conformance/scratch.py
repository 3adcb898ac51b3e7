"""A process in which scripts of one framework are run, one after the other.

A script ends it by a crash, or is ended when it takes too long: the next finds another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

_SECONDS = 60.0
"""The longest that a script may take."""
_FIRST = 180.0
"""The longest for the first, which imports its framework, on a busy machine."""


class ScriptFailed(Exception):  # noqa: N818 - named for what happened
    """A script that gave no answer; the message says why."""


def _plain(value: Any) -> Any:
    """Return a value as another process can take it without the framework."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return np.array(value)
    return value


def _serve(pipe: Any) -> None:
    """Run the scripts that come, each among fresh names, and send what ``answer`` names."""
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    warnings.simplefilter("ignore")
    while True:
        try:
            source, answer = pipe.recv()
        except EOFError:
            return
        names: dict[str, Any] = {"__name__": "__main__"}
        try:
            exec(source, names)  # noqa: S102 - what an adapter, or this project, wrote
            pipe.send((True, _plain(names[answer])))
        except Exception as error:  # noqa: BLE001 - a script may raise anything
            line = " ".join(str(error).split())[:300]
            pipe.send((False, f"{type(error).__name__}: {line}"))


@dataclass
class Scratch:
    """Runs scripts in a process of their own, which starts with the first of them.

    ``python`` is its interpreter. A script may take ``seconds``, and the first in a process, which
    imports, ``first``.
    """

    seconds: float = _SECONDS
    first: float = _FIRST
    python: str = sys.executable
    _process: subprocess.Popen[bytes] | None = None
    _pipe: Any = None
    _begun: bool = False
    _waiting: bool = False

    def begin(self, source: str) -> None:
        """Start with a script whose answer is of no matter, and do not wait for it."""
        self._start()
        self._pipe.send((f"{source}\ndone = True", "done"))
        self._waiting = True

    def _start(self) -> None:
        from cnnformance.adapters.installers import variables  # noqa: PLC0415 - absent as a program

        ours, theirs = socket.socketpair()
        env = variables(self.python)
        if self.python == sys.executable:  # the modules of this process are found there too
            env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this file, by an interpreter of ours
                # -P: the folder of this file holds others, which are nobody's modules
                [self.python, "-P", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                env=env,
            )  # fmt: skip
        self._pipe = Connection(ours.detach())
        self._begun = False

    def run(self, source: str, answer: str) -> Any:
        """Return what the name ``answer`` holds after the script.

        Raises:
            ScriptFailed: it raised, ended the process, or took too long.
        """
        if self._process is None:
            self._start()
        try:
            if self._waiting and self._pipe.poll(self.first):
                self._pipe.recv()
            self._pipe.send((source, answer))
            seconds = self.seconds if self._begun else self.first
            there = self._pipe.poll(seconds)
            holds, value = self._pipe.recv() if there else (False, f"no answer in {seconds:g} s")
            self._waiting, self._begun = False, True
        except (EOFError, OSError):
            process, code = self._process, 0
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(5)
            died = f"died by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            there, holds, value = False, False, died
        if not there:
            self.close()
        if not holds:
            raise ScriptFailed(value)
        return value

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._pipe.close()
            self._process.kill()
            self._process.wait()
            self._process = self._pipe = None
            self._waiting = False


if __name__ == "__main__":
    sys.path.append(str(Path.cwd()))  # last: it may hold a file of a framework's name
    _serve(Connection(int(sys.argv[1])))
