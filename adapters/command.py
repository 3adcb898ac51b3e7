"""A command that answers the requests of ``protocol`` on its standard input and output."""

from __future__ import annotations

import errno
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

from cnnformance.adapters import protocol, wire
from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.exceptions import AdapterError, Died

_FOR_ANSWERS = "its standard output is for answers alone, and may not be printed to"
_END_SECONDS = 5.0
"""The longest wait for the end of a command that has closed its output."""


class Command:
    """The process of a command: started by the first request, and again after nonsense."""

    def __init__(self, words: Sequence[str], mode: str, device: str) -> None:
        """Keep what is run, and the mode and the device that it is told."""
        self._words = list(words)
        self._mode = mode
        self._device = device
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._number = 0

    def hello(self) -> protocol.Described:
        """Start the command, and return what it says of itself.

        Raises:
            AdapterError: it cannot be run, or sent what is no answer.
            Died: it ended.
            Unsupported: it has no such mode or device.
        """
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the backend that is asked
                self._words, stdin=theirs.fileno(), stdout=theirs.fileno()
            )
        except OSError as error:
            ours.close()
            why = "; does it begin with #!?" if error.errno == errno.ENOEXEC else ""
            raise AdapterError(f"{self._words[0]}: {error.strerror}{why}") from error
        finally:
            theirs.close()
        self._socket = ours
        answer, _ = self._put(protocol.Hello(mode=self._mode, device=self._device), ())
        assert isinstance(answer, protocol.Described)
        return answer

    def ask(
        self, request: protocol.AnyRequest, arrays: Sequence[Array] = ()
    ) -> tuple[protocol.AnyAnswer, list[Array]]:
        """Put a request, and return the answer to it, and the arrays of that.

        Raises:
            AdapterError: it sent something else; the next request finds it started anew.
            Died: it ended.
            Unsupported: the framework has not what is asked for.
            Exception: the framework raised one, whose type has the name that it told.
        """
        if self._socket is None:
            self.hello()
        return self._put(request, arrays)

    def _put(
        self, request: protocol.AnyRequest, arrays: Sequence[Array]
    ) -> tuple[protocol.AnyAnswer, list[Array]]:
        assert self._socket is not None
        self._number += 1
        request = replace(request, id=self._number)
        try:
            if select.select([self._socket], [], [], 0)[0] and self._socket.recv(1):
                self.close()
                raise AdapterError(f"the command sent more than its answers; {_FOR_ANSWERS}")
            wire.send(self._socket, asdict(request), arrays)
            header, results = wire.receive(self._socket)
        except (wire.Closed, OSError) as error:
            raise Died(self._ended()) from error
        except wire.WireError as error:
            self.close()
            said = f"the command sent what is no message: {error}; {_FOR_ANSWERS}"
            raise AdapterError(said) from error
        forms = [{"dtype": a.dtype.name, "shape": a.shape} for a in results]
        try:
            answer = protocol.answer(request, {**header, "arrays": forms})
        except wire.WireError as error:
            self.close()
            raise AdapterError(f"the command sent what is no answer: {error}") from error
        match answer:
            case protocol.Declined(message=message):
                raise Unsupported(message)
            case protocol.Raised():
                raise _exception(answer)
        return answer, results

    def _ended(self) -> int:
        """Return the status of a command that has closed its output, as ``Popen`` has it."""
        assert self._process is not None
        try:
            status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            sys.stderr.write("the command closed its standard output, and was killed\n")
            self._process.kill()
            status = self._process.wait()
        self.close()
        return status

    def __del__(self) -> None:
        """End the command with who asks it."""
        self.close()

    def close(self) -> None:
        """End the command, if it runs."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _exception(told: protocol.Raised) -> Exception:
    """Return an exception of the type that is named, with where it was raised as a note."""
    error: Exception = type(told.type or "Exception", (Exception,), {})(told.message)
    if told.traceback:
        error.add_note(told.traceback)
    return error
