"""The supervision of a backend under test: it is started, asked, barred and replaced here.

Whatever its process does (answers, raises, breaks the contract, crashes, hangs) comes back as an
answer or as one of ``exceptions``, and the next request finds a working process.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnformance.adapters import environments, versions, wire
from cnnformance.adapters.axes import WeightAxes
from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.exceptions import AdapterBroke, Hung, Refused, Unavailable, Unknown
from cnnformance.adapters.in_process import InProcess
from cnnformance.adapters.link import Link
from cnnformance.adapters.process import Process, unknown
from cnnformance.adapters.quarantine import Quarantine
from cnnformance.adapters.registry import Target
from cnnformance.adapters.worker import told
from cnnformance.spec.layers import Layer, to_json

_STARTS = 3
"""A subject is broken that could not be started so often in a row, or hung in so many starts."""
_CALLS = {"twice": 3}
"""How often a request calls each of its layers, if not once: each call has the time limit."""


@dataclass
class Info:
    """What a subject says about itself."""

    version: str = "unknown"
    layout: str = "channels_last"
    dtypes: tuple[str, ...] = ()
    deterministic: bool = True
    axes: WeightAxes = field(default_factory=WeightAxes)


@dataclass
class Supervised:
    """A backend that is started, asked, and started again after it crashed or hung.

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
    _channel: Process | InProcess | Link | None = None
    _failed: int = 0
    _late: int = 0
    _started: bool = False
    _broken: AdapterBroke | Unavailable | None = None

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
            Unavailable: its version cannot be had; each request raises the same.
            AdapterBroke: it cannot be started (``Unknown``: its name means nothing). The next
                request tries again. After three failures in a row, or one of its name, or a first
                start that took too long, or three later ones, each request raises the same.
        """
        if self._broken is not None:
            raise self._broken
        try:
            channel = self._opened()
            self._require_version(channel.hello["version"])
        except Unavailable as error:
            self._broken = Unavailable(str(error))
            raise
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
        self.info = Info(
            version,
            hello["layout"],
            tuple(hello["dtypes"]),
            hello["deterministic"],
            WeightAxes(hello["kernel_layout"], hello["dense_layout"]),
        )
        return self.info

    def _require_version(self, text: str) -> None:
        asked, there = self.target.version, versions.reported(text)
        if asked and versions.VERSION.fullmatch(there) and not versions.fits(there, asked):
            raise AdapterBroke(f"{self.name}: {asked} is asked for, and {there} runs")

    @property
    def python(self) -> str:
        """The interpreter in which its framework is, once it has started."""
        own = bool(self.target.version) and self.isolated
        return str(environments.of(self.target).python) if own else sys.executable

    def _opened(self) -> Process | InProcess | Link:
        if self.isolated:
            self.launch()
            assert isinstance(self._channel, Process)
            self._channel.start()
        elif self._channel is None and self.link is not None:
            self._channel = Link(self.link)
        elif self._channel is None:
            try:
                self._channel = InProcess(self.target, self.memory)
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
