"""The end of what processes write into a pipe, however much they write."""

from __future__ import annotations

import os
import select
import threading

from cnnformance.spec.printable import printable

_KEPT = 1 << 16
"""Bytes that are kept; more than a pipe holds."""
_READS = 64
"""Of ``_KEPT`` bytes each, at most, before others get their turn."""


class Tail:
    """A pipe that is read all the time, so that no writer waits; the end of the text is kept.

    ``sink`` is the descriptor to write to. Writes of several processes are not mixed, up to the
    size that POSIX promises, and none is lost.
    """

    def __init__(self) -> None:
        """Open the pipe, and read it in a thread of its own until all writers have closed it."""
        self._source, self.sink = os.pipe()
        os.set_blocking(self._source, False)
        self._kept = bytearray()
        self._seen = 0
        self._open = True
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def mark(self) -> int:
        """Return where the text is now, for ``since``."""
        self._drain()
        return self._seen

    def since(self, mark: int, most: int) -> str:
        """Return what was written after a mark, printable: its last ``most`` bytes."""
        self._drain()
        length = min(self._seen - mark, most, len(self._kept))
        return printable(self._kept[len(self._kept) - length :].decode(errors="replace"))

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        while self._open:
            poll.poll()
            self._drain()
        os.close(self._source)

    def _drain(self) -> None:
        with self._lock:
            for _ in range(_READS if self._open else 0):
                try:
                    data = os.read(self._source, _KEPT)
                except BlockingIOError:
                    return
                if not data:
                    self._open = False
                    return
                self._kept += data
                del self._kept[:-_KEPT]
                self._seen += len(data)
