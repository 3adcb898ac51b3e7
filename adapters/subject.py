"""A subject: a backend in a process of its own, asked over a socket.

Whatever the process does (answers, raises, breaks the contract, crashes, hangs) comes back as a
value or as one of the misfortunes below, and the next request finds a working process.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnformance.adapters import wire
from cnnformance.adapters.backend import Array, Unsupported, Weights
from cnnformance.adapters.link import Link
from cnnformance.adapters.misfortunes import (
    AdapterBroke,
    Crashed,
    Hung,
    Refused,
    Stopped,
    Unknown,
)
from cnnformance.adapters.process import Process, unknown
from cnnformance.adapters.quarantine import Quarantine
from cnnformance.adapters.registry import Target
from cnnformance.adapters.worker import Server, find, told
from cnnformance.spec.layers import Layer, Shape, to_json

__all__ = ["AdapterBroke", "Crashed", "Hung", "Refused", "Stopped", "Subject", "Unknown"]

_STARTS = 3
"""A subject is broken that could not be started so often in a row, or hung in so many starts."""
_CALLS = {"twice": 3}
"""How often a request calls each of its layers, if not once: each call has the time limit."""


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


class _InProcess:
    """The backend in this process: for debuggers. A crash here is a crash of the run."""

    def __init__(self, target: Target, memory: float) -> None:
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


@dataclass
class Subject:
    """A backend under test. Every ``run`` and its kin may raise the exceptions of this module.

    It has a process of its own, or is ``in_process``; or ``link`` is the descriptor of a socket at
    whose other end it is served, in the process of who asked for the run.
    """

    target: Target
    seconds: float = 30.0
    memory: float = 8.0
    in_process: bool = False
    link: int | None = None
    info: Info = field(default_factory=Info)
    quarantine: Quarantine = field(default_factory=Quarantine)
    framework_seconds: float = 0.0
    requests: int = 0
    _channel: Process | _InProcess | Link | None = None
    _failed: int = 0
    _late: int = 0
    _started: bool = False
    _broken: AdapterBroke | None = None

    @property
    def name(self) -> str:
        """The subject as it was named on the command line."""
        return self.target.name

    @property
    def isolated(self) -> bool:
        """Whether the backend has a process of its own, so that ``restart`` gives a fresh one."""
        return not self.in_process and self.link is None

    @property
    def quarantined(self) -> dict[str, str]:
        """What is not asked again, such as ``MaxPool (rank 2)``, and how often it hung."""
        return self.quarantine.reasons

    def launch(self) -> None:
        """Begin to start the process, without waiting for it."""
        if self._channel is None and self._broken is None and self.isolated:
            self._channel = Process(self.target, self.memory)

    def starts_within(self, seconds: float) -> bool:
        """Launch the subject, and return whether ``start`` would return or raise within a time."""
        self.launch()
        return not isinstance(self._channel, Process) or self._channel.answers(seconds)

    def start(self) -> Info:
        """Wait until the backend is there, and return what it says of itself.

        Raises:
            AdapterBroke: it cannot be started (``Unknown``: its name means nothing). The next
                request tries again. After three failures in a row, or one of its name, or a first
                start that took too long, or three later ones, each request raises the same.
        """
        if self._broken is not None:
            raise self._broken
        try:
            channel = self._opened()
        except AdapterBroke as error:
            self._failed += 1
            late = isinstance(error.__cause__, TimeoutError)
            self._late += late
            often = max(self._failed, self._late) >= _STARTS
            if often or isinstance(error, Unknown) or (late and not self._started):
                self._broken = type(error)(str(error))  # the first of them says where
            raise
        self._failed, self._started = 0, True
        hello = channel.hello
        version = " ".join(hello["version"].split())
        self.info = Info(version, hello["layout"], tuple(hello["dtypes"]), hello["deterministic"])
        return self.info

    def _opened(self) -> Process | _InProcess | Link:
        if self.isolated:
            self.launch()
            assert isinstance(self._channel, Process)
            self._channel.start()
        elif self._channel is None and self.link is not None:
            self._channel = Link(self.link)
        elif self._channel is None:
            try:
                self._channel = _InProcess(self.target, self.memory)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                said = wire.decoded(wire.encoded(told(error)))
                if unknown(type(error).__name__, self.target):
                    raise Unknown(f"{self.name}: {said['message']}") from error
                broke = f"{self.name}: {said['type']}: {said['message']}"
                raise AdapterBroke(broke, said["traceback"]) from error
        assert self._channel is not None
        return self._channel

    def restart(self) -> None:
        """Continue in a fresh process, free of any state, if the subject is isolated."""
        if isinstance(self._channel, Process):
            self._channel.restart()

    def close(self) -> None:
        """End the process."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _ask(
        self,
        ask: str,
        layers: Sequence[Layer],
        arrays: Sequence[Array] = (),
        axes: int | None = None,
        **more: Any,
    ) -> tuple[wire.Header, list[Array]]:
        """Put a request, whose input has so many axes, where it has one."""
        rank = None if axes is None else axes - 2
        self.quarantine.check(ask, layers, rank)
        self.start()
        assert self._channel is not None
        header = {"ask": ask, "layers": [to_json(layer) for layer in layers], **more}
        seconds = self.seconds * max(1, len(layers)) * _CALLS.get(ask, 1)
        self.requests += 1
        try:
            answer, results = self._channel.ask(header, arrays, seconds)
        except Hung:
            self.quarantine.add(ask, layers, rank)
            raise
        match answer["status"]:
            case "ok":
                self.framework_seconds += answer["seconds"]
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
        fault: str = "",
    ) -> Result:
        """Run a model of one or more layers on ``x``, whose memory is laid out as ``memory``.

        ``weight_memory`` is that of the weights, as ``memory.arranged`` names both. With ``force``
        the framework is asked although the adapter's ``supports`` declines the dtype; ``fault``
        names one of ``faults.FAULTS``, or a dtype, that is put on the framework's result.
        """
        answer, (y,) = self._ask(
            "run",
            layers,
            [*_flat(weights), x],
            x.ndim,
            weights=[list(w) for w in weights],
            dtype=x.dtype.name,
            memory=memory,
            weight_memory=weight_memory,
            force=force,
            fault=fault,
        )
        return Result(y, answer["composed"], answer["modified"], answer["seconds"])

    def run_twice(self, layer: Layer, weights: Weights, x: Array, other: Array) -> Twice:
        """Run ``x``, ``other`` and ``x`` again, and say what was aliased or changed."""
        answer, (first, later, again) = self._ask(
            "twice",
            [layer],
            [*weights.values(), other, x],
            x.ndim,
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
            x.ndim,
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

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Return whether the adapter says that the framework takes this dtype in this layer."""
        return bool(self._ask("supports", [layer], dtype=dtype)[0]["supports"])

    def output_shape(self, layers: Sequence[Layer], shape: Shape) -> Shape:
        """Return the framework's static answer (canonical). No dtype: there is none to force."""
        return tuple(self._ask("output_shape", layers, axes=len(shape), shape=shape)[0]["shape"])

    def script(
        self,
        layer: Layer,
        arrays: Sequence[Array] = (),
        call: str = "forward",
        memory: str = "contiguous",
        shape: Shape = (),
    ) -> str:
        """Return source in the framework's own calls for what ``call`` asks of the layer.

        ``arrays`` are the input, and of ``gradients`` the upstream gradient too; they, and the
        ``shape`` that ``output_shape`` is asked for, are in the backend's layout.
        """
        more: dict[str, Any] = {"call": call, "memory": memory, "shape": list(shape)}
        return str(self._ask("script", [layer], arrays, **more)[0]["script"])

    def seed(self, seed: int) -> None:
        """Seed the framework's random numbers."""
        self._ask("seed", [], seed=seed)


def _flat(weights: Sequence[Weights]) -> list[Array]:
    return [array for each in weights for array in each.values()]
