"""A backend in the process of the suite, for debuggers: a crash in it is a crash of the run."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

import numpy as np

from cnnformance.adapters import wire
from cnnformance.adapters.backend import Array
from cnnformance.adapters.exceptions import AdapterBroke, Crashed
from cnnformance.adapters.importing import find
from cnnformance.adapters.registry import Target
from cnnformance.adapters.worker import Server, told


class InProcess:
    """Answers requests by direct calls, with the messages that a worker process would send."""

    def __init__(self, target: Target, memory: float) -> None:
        """Make the backend. What its module or its class raises passes through."""
        self._largest = int(memory * 2**30) or sys.maxsize
        made = find(target.path, target.mode)
        self._server = Server(made(mode=target.mode, device=target.device))
        self.hello = wire.decoded(wire.encoded(self._server.describe()))

    def ask(
        self,
        header: wire.Header,
        arrays: Sequence[Array],
        seconds: float,  # noqa: ARG002 - a debugger takes its time
    ) -> tuple[wire.Header, list[Array]]:
        """Put a request, and return the answer.

        Raises:
            Crashed: the backend ended its process, as by ``SystemExit``.
            AdapterBroke: the answer has larger arrays than the memory limit allows.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a worker process has no filter that makes errors
            try:
                answer, results = self._server.answer(header, [a.copy() for a in arrays])
            except (SystemExit, GeneratorExit) as error:
                what = f"{type(error).__name__}: {error}".rstrip(": ")
                said = f"raised {what}, which ends a process of its own"
                raise Crashed(said, told(error)["traceback"]) from error
        if (size := sum(a.nbytes for a in results)) > self._largest:
            raise AdapterBroke(f"an answer with arrays of {size} bytes")
        return wire.decoded(wire.encoded(answer)), [np.array(a) for a in results]

    def close(self) -> None:
        """Nothing to end."""
