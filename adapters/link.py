"""A backend that stays in the process of whoever asks for the run, and answers over a socket."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence

from cnnformance.adapters import answers, wire
from cnnformance.adapters.backend import Array
from cnnformance.adapters.exceptions import AdapterBroke


class Link:
    """The suite's end. At the other one, ``worker.serve`` answers."""

    def __init__(self, descriptor: int) -> None:
        """Take the hello.

        Raises:
            AdapterBroke: the backend cannot be made, or its process is gone.
        """
        self._socket = socket.socket(fileno=os.dup(descriptor))
        try:
            self.hello, arrays = wire.receive(self._socket)
            answers.check({"ask": "hello"}, self.hello, arrays)
        except (wire.Closed, wire.WireError, OSError) as error:
            raise AdapterBroke(f"no backend is at the other end: {error}") from error
        if self.hello["status"] != "ok":
            said = f"{self.hello['type']}: {self.hello['message']}"
            raise AdapterBroke(said, self.hello["traceback"])

    def ask(
        self,
        header: wire.Header,
        arrays: Sequence[Array],
        seconds: float,  # noqa: ARG002 - who holds the backend may be in a debugger
    ) -> tuple[wire.Header, list[Array]]:
        """Put a request, and return the answer.

        Raises:
            AdapterBroke: there is none, for the process is gone.
        """
        try:
            wire.send(self._socket, header, arrays)
            answer, results = wire.receive(self._socket)
            answers.check(header, answer, results)
        except (wire.Closed, wire.WireError, OSError) as error:
            raise AdapterBroke(f"the other end gave no answer: {error}") from error
        return answer, results

    def close(self) -> None:
        """End the connection, and with it what serves at the other end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
