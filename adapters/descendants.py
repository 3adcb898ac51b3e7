"""The processes below a process, and their end. Does nothing where there is no ``/proc``."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 20
"""Of killing what a dying process may just have started."""


def adopt() -> None:
    """Become the parent of every process below whose own parent dies, on Linux.

    None of them escapes then, whatever session it moves to.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(parent: int) -> set[int]:
    """Return the children of a process, zombies among them."""
    return {pid for pid, above in _parents().items() if above == parent}


def end_children(but: Collection[int] = ()) -> None:
    """Kill and reap every child of this process, and what it then adopts, but those named."""
    for _ in range(_ROUNDS):
        found = children(os.getpid()).difference(but)
        if not found:
            return
        for pid in found:  # not reaped, so no other process has its number
            os.kill(pid, signal.SIGKILL)
        for pid in found:
            os.waitpid(pid, 0)


def end_below(pid: int) -> None:
    """Kill every process below one that adopts orphans; numbers are not given again so soon."""
    for _ in range(_ROUNDS):
        found = _below(pid)
        if not found:
            return
        for each in found:
            with contextlib.suppress(OSError):
                os.kill(each, signal.SIGKILL)


def _below(pid: int) -> set[int]:
    parents = _parents(zombies=False)
    found, next_ = set[int](), {pid}
    while next_:
        next_ = {child for child, above in parents.items() if above in next_} - found
        found |= next_
    return found


def _parents(*, zombies: bool = True) -> dict[int, int]:
    """Return the parent of each process."""
    found = {}
    with contextlib.suppress(OSError):
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                pid, stat = int(folder.name), (folder / "stat").read_bytes()
                state, parent, *_ = stat.rpartition(b")")[2].split()
                if zombies or state not in (b"Z", b"X"):
                    found[pid] = int(parent)
    return found
