"""Backends that harm their own process, or the suite's view of it, each in a way of its own.

All answer a Flatten honestly; what they do to a max pooling, or when they start, is theirs.
"""

# ruff: noqa: ARG002 - harm needs none of its arguments

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Backend, Weights
from cnnformance.spec.layers import Conv, Dense, Flatten, Layer, MaxPool, ReLU


class Misbehaving(Backend):
    """Flattens, passes through, and leaves a max pooling to ``harm``."""

    def build(self, layer: Layer, weights: Weights) -> Any:
        match layer:
            case MaxPool():
                return self.harm
            case Flatten():
                return lambda x: x.reshape(len(x), -1)
            case Dense():
                return lambda x: x @ weights["weight"].T
        return lambda x: x.copy()

    def harm(self, x: Array) -> Any:
        return x.copy()


# What is sent


def message(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def answer(**fields: Any) -> bytes:
    """Return an answer to the first request for a max pooling, with some fields changed."""
    told = {"composed": "", "modified": False, "seconds": 0.0, "id": 1, "status": "ok"}
    arrays = [{"dtype": "float32", "shape": [1]}]
    header = {**told, "arrays": arrays, **fields}
    return message(json.dumps({k: v for k, v in header.items() if v is not None}).encode(), b"0000")


def described(**fields: Any) -> bytes:
    return answer(arrays=[{"dtype": "float32", "shape": [1], **fields}])


FORGED: dict[str, tuple[bytes, str]] = {
    "random": (bytes(range(255, 0, -1)), "a header of"),
    "endless": (struct.pack("<Q", 2**63), "a header of"),
    "text": (message(b"ok"), "no JSON"),
    "nested": (message(b"[" * 10**5), "no JSON"),
    "digits": (message(b'{"id": ' + b"9" * 10**4 + b"}"), "no JSON"),
    "list": (message(b"[]"), "no JSON object"),
    "empty": (message(b"{}"), "lists no arrays"),
    "no-list": (answer(arrays={}), "lists no arrays"),
    "no-array": (answer(arrays=[3]), "described as 3"),
    "no-dtype": (answer(arrays=[{"shape": [1]}]), "described as"),
    "object": (described(dtype="object"), "described as"),
    "record": (described(dtype="f4,f4"), "described as"),
    "unknown-dtype": (described(dtype="float24"), "float24"),
    "vast": (described(shape=[10**15]), "bytes"),
    "vast-and-empty": (described(shape=[0, 10**15, 10**15]), "shape"),
    "negative": (described(shape=[-1, -1]), "described as"),
    "fraction": (described(shape=[1.0]), "described as"),
    "truth": (described(shape=[True]), "described as"),
    "shape-of-lists": (described(shape=[[1]]), "described as"),
    "axes": (described(shape=[1] * 65), "described as"),
    "no-status": (answer(status=None), "its status is None"),
    "odd-status": (answer(status="fine"), "its status is 'fine'"),
    "unhashable-status": (answer(status=[]), "its status is []"),
    "no-composed": (answer(composed=None), "no composed"),
    "odd-composed": (answer(composed=["a"]), "its composed is ['a']"),
    "no-modified": (answer(modified=None), "no modified"),
    "odd-modified": (answer(modified=1), "its modified is 1"),
    "no-seconds": (answer(seconds=None), "no seconds"),
    "odd-seconds": (answer(seconds="1"), "its seconds is '1'"),
    "no-number": (answer(seconds=float("nan")), "its seconds is nan"),
    "more-arrays": (answer(arrays=[{"dtype": "float32", "shape": [0]}] * 2), "2 arrays"),
    "no-arrays": (answer(arrays=[]), "0 arrays"),
    "no-message": (answer(status="exception", type="E", arrays=[]), "no message"),
    "another-id": (answer(id=7), "answered another request"),
    "odd-id": (answer(id=["1"]), "answered another request"),
}
"""What a worker may send in place of an answer, and what is to be said of it."""


class Forges(Misbehaving):
    """Sends a message of its own over the suite's socket, in place of an answer."""

    modes = (*FORGED, "large")

    def harm(self, x: Array) -> Any:
        send(FORGED[self.mode][0] if self.mode in FORGED else described(shape=[2**28]))
        time.sleep(60)


class AnswersTwice(Misbehaving):
    """Sends an answer, and returns another one."""

    def harm(self, x: Array) -> Any:
        send(answer())
        return x.copy()


def send(data: bytes) -> None:
    """Write to every socket of the process."""
    for descriptor in sockets():
        os.write(descriptor, data)


def sockets() -> Iterator[int]:
    """Yield the descriptor of every socket of the process."""
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                yield descriptor


class Repeats(Misbehaving):
    """Returns one number as 2**40 of them."""

    def harm(self, x: Array) -> Any:
        return np.broadcast_to(np.float32(1), (1 << 20, 1 << 20))


class SendsGarbageAtStart(Misbehaving):
    """Sends what is no hello."""

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        send(message(b'{"status": "ok", "arrays": []}'))
        time.sleep(60)


class EndsItsConnection(Misbehaving):
    """Ends the connection to the suite, and lives on."""

    def harm(self, x: Array) -> Any:
        for descriptor in sockets():
            socket.socket(fileno=descriptor).shutdown(socket.SHUT_RDWR)
        time.sleep(60)


# Ends and delays


class Sleeps(Misbehaving):
    """Sleeps for as many seconds as its mode says."""

    modes = ("0.3", "60")

    def harm(self, x: Array) -> Any:
        time.sleep(float(self.mode))
        return x.copy()

    def script(self, layer: Layer, x: Array) -> str:
        time.sleep(float(self.mode))
        return "y = x"


class HangsInThreeDimensions(Misbehaving):
    """Hangs in a max pooling of three dimensions."""

    def harm(self, x: Array) -> Any:
        if x.ndim == 5:
            time.sleep(60)
        return x.copy()


class HangsOnImages(Misbehaving):
    """Hangs in a ReLU of images in two dimensions."""

    def build(self, layer: Layer, weights: Weights) -> Any:
        return self.harm if isinstance(layer, ReLU) else super().build(layer, weights)

    def harm(self, x: Array) -> Any:
        if x.ndim == 4:
            time.sleep(60)
        return x.copy()


def starts() -> int:
    """Count this start of a backend, and return how many there were before."""
    with Path("starts").open("a+", encoding="utf-8") as file:
        file.seek(0)
        number = len(file.read())
        file.write(".")
    return number


class HangsInEverySecondStart(Misbehaving):
    """Dies in a max pooling; hangs when it is made again, and not when it is then made again."""

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        if starts() % 2:
            time.sleep(60)

    def harm(self, x: Array) -> Any:
        os.abort()


class FailsToStart(Misbehaving):
    """Dies in a max pooling; cannot be made where its plan has an x for this start."""

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        number = starts()
        if Path("plan").read_text(encoding="utf-8")[number : number + 1] == "x":
            raise RuntimeError("not now")

    def harm(self, x: Array) -> Any:
        os.abort()


class Panics(BaseException):
    """As of a library in Rust: no ``Exception``."""


class Leaves(Misbehaving):
    """Raises what ends a process."""

    modes = ("exit", "generator", "far")

    def harm(self, x: Array) -> Any:
        ends = {"exit": SystemExit("said"), "generator": GeneratorExit("said")}
        raise ends.get(self.mode) or SystemExit(2**80)  # no status of a process


class LeavesAtStart(Misbehaving):
    """Raises in its ``__init__``, or where it is to name its version, what is no ``Exception``."""

    modes = ("exit", "generator", "panic", "version")

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        kinds = {"exit": SystemExit, "generator": GeneratorExit, "panic": Panics}
        if mode in kinds:
            raise kinds[mode]("said")

    def version(self) -> str:
        raise SystemExit("said")


class Aborts(Misbehaving):
    """Dies in a max pooling."""

    def harm(self, x: Array) -> Any:
        os.abort()


class KillsItsParent(Misbehaving):
    """Ends the process that would fork the next one, and itself."""

    def harm(self, x: Array) -> Any:
        os.kill(os.getppid(), signal.SIGKILL)
        os.abort()


# What is left behind


class LeavesDaemon(Misbehaving):
    """Leaves a process behind in a session of its own, and dies if its mode says so."""

    modes = ("dies",)

    def harm(self, x: Array) -> Any:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                Path("daemon").write_text(str(os.getpid()), encoding="utf-8")
                time.sleep(60)
            os._exit(0)
        while not (Path("daemon").exists() and Path("daemon").read_text(encoding="utf-8")):
            time.sleep(0.01)
        if self.mode == "dies":
            os.abort()
        return x.copy()


# What is written


class WritesMuch(Misbehaving):
    """Writes 64 MiB to standard error, says how much of it was kept, and dies."""

    def harm(self, x: Array) -> Any:
        for _ in range(1 << 10):
            os.write(2, b"-" * (1 << 16))
        os.write(2, f"\nkept: {os.fstat(2).st_size}\n".encode())
        os._exit(1)


class WritesInTurn(Misbehaving):
    """Writes lines from four processes at a time, each of which opens the file, and dies."""

    def harm(self, x: Array) -> Any:
        for _ in range(4):
            if os.fork() == 0:
                file = os.open("/dev/stderr", os.O_WRONLY)
                for _ in range(25):
                    os.write(file, b"0123456789\n")
                os._exit(0)
        for _ in range(4):
            os.wait()
        os._exit(1)


class SpeaksToTheTerminal(Misbehaving):
    """Says everywhere what a terminal or a page would obey."""

    said = "red \x1b[31mtext\x1b[0m, \x9b2Jclear, \u202eturned, \x00 and \r\nmore"

    def version(self) -> str:
        return f"1.0\n{self.said}"

    def harm(self, x: Array) -> Any:
        if x.ndim == 3:
            os.write(2, self.said.encode())
            os.abort()
        raise RuntimeError(self.said)

    def script(self, layer: Layer, x: Array) -> str:
        return f"# {self.said}\n\ty = x"


class Masks(Misbehaving):
    """Returns a masked array: half of it masked, or none of it in one dimension."""

    def harm(self, x: Array) -> Any:
        found = np.ma.MaskedArray(x.copy())
        if x.ndim > 3:
            found[:, ::2] = np.ma.masked
        return found


class ChannelsFirst(Misbehaving):
    """Wants the channels of images first, and checks that there are as many as it was told."""

    layout = "channels_first"

    def build(self, layer: Layer, weights: Weights) -> Any:
        match layer:
            case Conv():
                return lambda x: np.einsum("nchw,co->nohw", x, weights["weight"][0, 0])
            case ReLU():
                return lambda x: np.maximum(x, 0)
        return super().build(layer, weights)

    def output_shape(self, layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
        match layer:
            case Conv():
                return (shape[0], layer.out_channels, *shape[2:])
            case Flatten(2):
                return (*shape[:2], int(np.prod(shape[2:])))
            case Flatten():
                return (shape[0], int(np.prod(shape[1:])))
        return shape
