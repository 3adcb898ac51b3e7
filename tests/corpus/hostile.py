"""Backends that crash, hang, exit or answer with nonsense, each in one layer: max pooling.

``HOSTILE`` says what the suite should make of each case: ``crash``, ``hang``, ``error`` (the
adapter broke its contract), ``fail`` (a wrong answer or an exception where a result is due),
``start`` (the backend cannot be made) or ``pass`` (unpleasant, yet harmless). All other layers
answer honestly, and must be judged as if nothing had happened.
"""

# ruff: noqa: ARG002 - an attack needs none of its arguments

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cnnformance.adapters.backend import Array, Composed, Unsupported, Weights
from cnnformance.spec import layers as spec
from cnnformance.spec.layers import Layer, Shape

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpus.kernels import Honest

HOSTILE: dict[str, str] = {}
"""What the suite should make of each class, by its name."""


def verdict(word: str) -> Callable[[type[Honest]], type[Honest]]:
    """Record what the suite should make of a class."""

    def record(backend: type[Honest]) -> type[Honest]:
        HOSTILE[backend.__name__] = word
        return backend

    return record


class Hostile(Honest):
    """Honest but for max pooling, where ``attack`` decides what is returned."""

    def call(self, layer: Layer, weights: Weights, x: Array) -> Array:
        y = super().call(layer, weights, x)
        return self.attack(y) if isinstance(layer, spec.MaxPool) else y

    def attack(self, y: Array) -> Any:
        """Do harm; return the answer."""
        return y


# Ends of the process


@verdict("crash")
class Aborts(Hostile):
    """Calls ``abort``, as failed checks in native code do."""

    def attack(self, y: Array) -> Any:
        os.abort()


@verdict("crash")
class LeavesChild(Hostile):
    """Dies, and leaves a child that holds what it had open."""

    def attack(self, y: Array) -> Any:
        if os.fork() == 0:
            time.sleep(20)
        os._exit(3)


@verdict("crash")
class ReadsNull(Hostile):
    """Reads through a null pointer."""

    def attack(self, y: Array) -> Any:
        return ctypes.string_at(0)


@verdict("crash")
class DividesByZero(Hostile):
    """Receives SIGFPE, as an integer division by zero in native code does."""

    def attack(self, y: Array) -> Any:
        os.kill(os.getpid(), signal.SIGFPE)


@verdict("crash")
class RunsIllegalInstruction(Hostile):
    """Receives SIGILL, as code for another processor does."""

    def attack(self, y: Array) -> Any:
        os.kill(os.getpid(), signal.SIGILL)


@verdict("crash")
class IsKilled(Hostile):
    """Receives SIGKILL, as from the kernel when memory runs out."""

    def attack(self, y: Array) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


@verdict("crash")
class ExitsWithZero(Hostile):
    """Ends the process at once, and calls it a success."""

    def attack(self, y: Array) -> Any:
        os._exit(0)


@verdict("crash")
class ExitsThroughPython(Hostile):
    """Raises ``SystemExit`` with 0."""

    def attack(self, y: Array) -> Any:
        sys.exit(0)


@verdict("crash")
class ExitsWithThree(Hostile):
    """Ends the process with a code of its own."""

    def attack(self, y: Array) -> Any:
        os._exit(3)


@verdict("crash")
class CrashesAfterwards(Hostile):
    """Answers, and dies a moment later, in the middle of whatever comes next."""

    def attack(self, y: Array) -> Any:
        threading.Timer(0.01, os.abort).start()
        return y


@verdict("crash")
class SetsAlarm(Hostile):
    """Leaves an alarm behind that ends the process a second later."""

    def attack(self, y: Array) -> Any:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(1)


@verdict("crash")
class OverflowsStack(Hostile):
    """Recurses in native code until the stack ends."""

    def attack(self, y: Array) -> Any:
        sys.setrecursionlimit(10**9)
        nested: list[Any] = []
        for _ in range(10**6):
            nested = [nested]
        return repr(nested)


@verdict("crash")
class DiesAtRandom(Hostile):
    """Dies in one of ten calls."""

    def attack(self, y: Array) -> Any:
        if random.random() < 0.1:  # noqa: S311 - no secret depends on it
            os.abort()
        return y


@verdict("crash")
class ClosesFiles(Hostile):
    """Closes every file descriptor above 2, the suite's own among them."""

    def attack(self, y: Array) -> Any:
        os.closerange(3, 256)
        return y


# No end


@verdict("hang")
class Sleeps(Hostile):
    """Sleeps for an hour."""

    def attack(self, y: Array) -> Any:
        time.sleep(3600)


@verdict("hang")
class Spins(Hostile):
    """Computes for ever."""

    def attack(self, y: Array) -> Any:
        while True:
            pass


@verdict("hang")
class IgnoresSignals(Hostile):
    """Computes for ever and ignores every signal that can be ignored."""

    def attack(self, y: Array) -> Any:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        while True:
            pass


@verdict("hang")
class HoldsInterpreter(Hostile):
    """Sleeps in native code without releasing the interpreter's lock."""

    def attack(self, y: Array) -> Any:
        ctypes.PyDLL(None).sleep(3600)


@verdict("hang")
class Deadlocks(Hostile):
    """Waits for a lock that it holds."""

    def attack(self, y: Array) -> Any:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()


@verdict("hang")
class StopsItself(Hostile):
    """Is stopped, and continued by nobody."""

    def attack(self, y: Array) -> Any:
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(3600)


# Nonsense


@verdict("error")
class ReturnsNone(Hostile):
    """Returns nothing."""

    def attack(self, y: Array) -> Any:
        return None


@verdict("error")
class ReturnsObjects(Hostile):
    """Returns an array of Python objects."""

    def attack(self, y: Array) -> Any:
        return y.astype(object)


@verdict("fail")
class ReturnsList(Hostile):
    """Returns nested lists, which NumPy reads in a dtype of its own."""

    def attack(self, y: Array) -> Any:
        return y.astype(np.float64).tolist()


@verdict("fail")
class ReturnsScalar(Hostile):
    """Returns one number."""

    def attack(self, y: Array) -> Any:
        return 0.0


@verdict("fail")
class ReturnsText(Hostile):
    """Returns an array of strings."""

    def attack(self, y: Array) -> Any:
        return y.astype("U8")


@verdict("fail")
class ReturnsComplex(Hostile):
    """Returns complex numbers."""

    def attack(self, y: Array) -> Any:
        return y.astype(np.complex64)


@verdict("fail")
class ReturnsBooleans(Hostile):
    """Returns truth values."""

    def attack(self, y: Array) -> Any:
        return y > 0


@verdict("fail")
class ReturnsRecords(Hostile):
    """Returns records with named fields."""

    def attack(self, y: Array) -> Any:
        return np.zeros(y.shape, [("value", y.dtype), ("index", "i8")])


@verdict("fail")
class ReturnsOtherByteOrder(Hostile):
    """Returns the bytes of the right values in the other order, undeclared."""

    def attack(self, y: Array) -> Any:
        return y.byteswap()


@verdict("fail")
class ReturnsMoreAxes(Hostile):
    """Returns an array of 30 axes."""

    def attack(self, y: Array) -> Any:
        return y.reshape(*[1] * (30 - y.ndim), *y.shape)


@verdict("fail")
class ReturnsEmpty(Hostile):
    """Returns an array without elements."""

    def attack(self, y: Array) -> Any:
        return y[:0]


@verdict("error")
class ReturnsMasked(Hostile):
    """Returns an array with every element masked out and zeros beneath."""

    def attack(self, y: Array) -> Any:
        return np.ma.MaskedArray(np.zeros_like(y), mask=True)


@verdict("fail")
class ReturnsTooMuch(Hostile):
    """Returns an array that needs more memory to send than there is."""

    def attack(self, y: Array) -> Any:
        return np.broadcast_to(y.ravel()[:1], (2**20, 2**20))


# Exceptions


@verdict("fail")
class Raises(Hostile):
    """Raises where a result is due."""

    def attack(self, y: Array) -> Any:
        raise RuntimeError("the kernel was not found")


@verdict("fail")
class RaisesLongMessage(Hostile):
    """Raises with a message of ten million characters."""

    def attack(self, y: Array) -> Any:
        raise RuntimeError("x" * 10**7)


@verdict("fail")
class RaisesUnprintable(Hostile):
    """Raises an exception whose message cannot be had."""

    def attack(self, y: Array) -> Any:
        raise UnprintableError


class UnprintableError(Exception):
    """An exception that raises when it is shown."""

    def __str__(self) -> str:
        raise ValueError("no message")


@verdict("fail")
class RaisesLoneSurrogates(Hostile):
    """Raises with a message that UTF-8 cannot carry."""

    def attack(self, y: Array) -> Any:
        raise RuntimeError("\ud800\x00\x1b[2J")


@verdict("crash")
class RaisesInterrupt(Hostile):
    """Raises ``KeyboardInterrupt``."""

    def attack(self, y: Array) -> Any:
        raise KeyboardInterrupt


@verdict("fail")
class RaisesBase(Hostile):
    """Raises what is no ``Exception``."""

    def attack(self, y: Array) -> Any:
        raise BaseException("bottom")  # noqa: TRY002 - what is tested


@verdict("fail")
class Recurses(Hostile):
    """Calls itself until Python refuses."""

    def attack(self, y: Array) -> Any:
        return self.attack(y)


# Resources


@verdict("fail")
class AllocatesWithoutBound(Hostile):
    """Takes all the memory that its limit allows."""

    def attack(self, y: Array) -> Any:
        _, limit = resource.getrlimit(resource.RLIMIT_DATA)
        held: list[Array] = []
        while limit == resource.RLIM_INFINITY or sum(a.nbytes for a in held) <= limit:
            held.append(np.empty(2**24))
            if limit == resource.RLIM_INFINITY and len(held) > 8:
                raise MemoryError("no limit is set: 1 GiB is enough for a test")
        return y


@verdict("pass")
class SpawnsThreads(Hostile):
    """Leaves threads behind that never end."""

    def attack(self, y: Array) -> Any:
        threading.Thread(target=time.sleep, args=(3600,)).start()
        return y


@verdict("pass")
class ForksChild(Hostile):
    """Leaves a child process behind that holds every open file for a while."""

    def attack(self, y: Array) -> Any:
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)
        return y


@verdict("pass")
class WritesToStdout(Hostile):
    """Writes what looks like answers to file descriptor 1, and much else."""

    def attack(self, y: Array) -> Any:
        os.write(1, b'\x00\x00\x00\x02{}{"status": "ok"}\n' * 5000)
        print("done", flush=True)  # noqa: T201 - what is tested
        return y


@verdict("pass")
class FillsStderr(Hostile):
    """Writes a megabyte to file descriptor 2."""

    def attack(self, y: Array) -> Any:
        os.write(2, b"\xff" * 2**16 * 16)
        return y


@verdict("pass")
class ReadsStdin(Hostile):
    """Reads all of file descriptor 0."""

    def attack(self, y: Array) -> Any:
        os.read(0, 2**20)
        return y


@verdict("pass")
class ClosesStandardFiles(Hostile):
    """Closes file descriptors 0, 1 and 2."""

    def attack(self, y: Array) -> Any:
        os.closerange(0, 3)
        return y


@verdict("pass")
class ChangesDirectory(Hostile):
    """Leaves for another directory, and empties the environment."""

    def attack(self, y: Array) -> Any:
        os.chdir("/")
        os.environ.clear()
        return y


@verdict("pass")
class ChangesGlobals(Hostile):
    """Turns NumPy's warnings and Python's into errors, and switches off what others rely on."""

    def attack(self, y: Array) -> Any:
        np.seterr(all="raise")
        np.set_printoptions(precision=1)
        warnings.simplefilter("error")
        gc.disable()
        faulthandler.disable()
        return y


# Starts


@verdict("start")
class RaisesAtStart(Hostile):
    """Cannot be made."""

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        raise RuntimeError("no licence")


@verdict("start")
class CrashesAtStart(Hostile):
    """Dies while it is made."""

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        os.abort()


@verdict("start")
class ExitsAtStart(Hostile):
    """Exits with 0 while it is made."""

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        sys.exit(0)


@verdict("start")
class HangsAtStart(Hostile):
    """Never gets made."""

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        time.sleep(3600)


@verdict("start")
class RaisesForVersion(Hostile):
    """Cannot say its version."""

    def version(self) -> str:
        raise RuntimeError("unknown build")


@verdict("start")
class LacksDevice(Hostile):
    """Declines every device."""

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        raise Unsupported("no such device")


@verdict("start")
class LayoutOfNoKind(Hostile):
    """Names its layout as others do."""

    layout: ClassVar[Any] = "NHWC"


@verdict("start")
class DtypeInsteadOfDtypes(Hostile):
    """Forgets the comma of a tuple of one."""

    dtypes: ClassVar[Any] = "float32"


@verdict("start")
class DtypeOfAnotherName(Hostile):
    """Names a dtype as its framework does."""

    dtypes: ClassVar[tuple[str, ...]] = ("float",)


# Other questions


@verdict("error")
class BuildsNothing(Hostile):
    """Builds ``None`` for a max pooling."""

    def build(self, layer: Layer, weights: Weights) -> Any:
        return None if isinstance(layer, spec.MaxPool) else super().build(layer, weights)


@verdict("fail")
class LiesAboutShapes(Hostile):
    """Answers with a static shape that is none."""

    def output_shape(self, layer: Layer, shape: Shape) -> Any:
        return (
            (-1, "None") if isinstance(layer, spec.MaxPool) else super().output_shape(layer, shape)
        )


@verdict("error")
class CountsText(Hostile):
    """Counts the parameters of a max pooling in words."""

    def parameters(self, layer: Layer) -> Any:
        return "none" if isinstance(layer, spec.MaxPool) else super().parameters(layer)


@verdict("error")
class GivesNoGradient(Hostile):
    """Returns no gradient for a max pooling."""

    def gradients(self, layer: Layer, weights: Weights, x: Array, upstream: Array) -> Any:
        if isinstance(layer, spec.MaxPool):
            return {}
        return super().gradients(layer, weights, x, upstream)


@verdict("error")
class GivesGradientsOfObjects(Hostile):
    """Returns gradients of a max pooling that are no numbers."""

    def gradients(self, layer: Layer, weights: Weights, x: Array, upstream: Array) -> Any:
        found = super().gradients(layer, weights, x, upstream)
        objects = isinstance(layer, spec.MaxPool)
        return {n: g.astype(object) for n, g in found.items()} if objects else found


@verdict("error")
class StatesFractions(Hostile):
    """Answers with a static shape of fractions."""

    def output_shape(self, layer: Layer, shape: Shape) -> Any:
        said = super().output_shape(layer, shape)
        return tuple(n + 0.5 for n in said) if isinstance(layer, spec.MaxPool) else said


@verdict("error")
class NotesNothing(Hostile):
    """Composes a max pooling, and says nothing of how."""

    def build(self, layer: Layer, weights: Weights) -> Any:
        call: Any = super().build(layer, weights)
        nothing: Any = None
        return Composed(call, nothing) if isinstance(layer, spec.MaxPool) else call


@verdict("fail")
class TalksAtLength(Hostile):
    """Raises an exception whose name and message are longer than a message may be."""

    def attack(self, y: Array) -> Any:
        raise type("E" * 10**8, (Exception,), {})("x" * 10**8)


@verdict("fail")
class CannotSay(Hostile):
    """Raises when asked what it supports."""

    def supports(self, layer: Layer, dtype: str) -> bool:
        if isinstance(layer, spec.MaxPool):
            raise LookupError("no table")  # noqa: TRY004 - the type of the layer is no error
        return super().supports(layer, dtype)


@verdict("fail")
class CannotReturn(Hostile):
    """Raises when a result is fetched."""

    def attack(self, y: Array) -> Any:
        return NotImplemented

    def to_numpy(self, tensor: Any) -> Array:
        if tensor is NotImplemented:
            raise RuntimeError("device lost")
        return super().to_numpy(tensor)
