"""A backend's processes: a guard, a fork server below it, and the child that answers requests.

The fork server imports the backend's module once and then forks a child for the suite to talk to;
when the child dies, the next one costs a fork and not an import. The guard holds nothing but the
suite's pipe: it alone is there to see that the suite has ended, whatever an import or a call of a
framework is busy with.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cnnformance.adapters.backend import Backend
from cnnformance.adapters.descendants import adopt, children, end_children
from cnnformance.adapters.exceptions import Died
from cnnformance.adapters.importing import find
from cnnformance.adapters.worker import serve


def main(argv: Sequence[str]) -> None:
    """Start a fork server (see ``_serve``); end with it, or with standard input, and all below."""
    options = json.loads(argv[0])
    adopt()
    server = _forked(partial(_serve, options))
    os.close(options["control"])
    select.select([0, _end_of(*server)], [], [])
    end_children()
    os._exit(0)


def _serve(options: Mapping[str, Any]) -> None:
    """Fork a child for each socket that arrives over the control socket; report its end.

    A byte without a socket asks for the end of the child; the end of the control socket for that
    of all. With a child ends what it has left behind.
    """
    control = socket.socket(fileno=options["control"])
    os.dup2(2, 1)  # what a framework prints must not reach anyone's standard output
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    adopt()
    sys.path.append(str(Path.cwd()))  # last: it may hold a file of a framework's name

    def make() -> Backend:
        made = find(options["target"], options["mode"])
        return made(mode=options["mode"], device=options["device"])

    if options["device"] == "cpu":  # a forked child cannot use CUDA that its parent initialised
        with contextlib.suppress(Exception):  # raised again, and reported, in the child
            find(options["target"], options["mode"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # who ignores it cannot wait for a child
    imported = children(os.getpid())  # what the import started serves every child
    while True:
        asked, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not asked:
            end_children()
            return
        if not descriptors:  # the child that was to be ended has ended by itself
            continue
        link = socket.socket(fileno=descriptors[0])
        pid, alive = _forked(partial(_child, link, control, make, options["memory"]))
        ends = _end_of(pid, alive)
        ready, _, _ = select.select([control.fileno(), ends], [], [])
        if ends not in ready:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        end_children(but=imported)
        os.close(ends)
        os.close(alive)
        with contextlib.suppress(OSError):  # what the child forked may hold its end of it
            link.shutdown(socket.SHUT_RDWR)
        link.close()
        with contextlib.suppress(OSError):
            control.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _child(
    link: socket.socket, control: socket.socket, make: Callable[[], Backend], memory: float
) -> None:
    control.close()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    faulthandler.enable(2)  # the import may have put something else in the place of sys.stderr
    _limit_memory(memory)
    serve(link, make)


def _limit_memory(gigabytes: float) -> None:
    if gigabytes:
        import resource  # noqa: PLC0415 - absent on Windows, and needed only here

        size = int(gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _forked(run: Callable[[], None]) -> tuple[int, int]:
    """Fork a child that runs this and ends; return its number, and a pipe that it holds open."""
    alive_read, alive_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(alive_read)
        status = 1
        try:
            run()
            status = 0
        except Died as error:
            status = _died(error.status)
        except BaseException as error:  # noqa: BLE001 - the process ends here; its stderr says why
            code = error.code if isinstance(error, SystemExit) else 1
            status = code & 255 if isinstance(code, int) else int(code is not None)
            traceback.print_exc()
        finally:  # an orderly end of an interpreter that holds a framework takes a second
            os._exit(status)
    os.close(alive_write)
    return pid, alive_read


def _died(status: int) -> int:
    """Die by the signal that a command died by, or return the status that it exited with."""
    if status < 0:
        faulthandler.disable()  # nothing of this process is to be shown
        with contextlib.suppress(OSError):  # of those that cannot be caught
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _end_of(pid: int, alive: int) -> int:
    """Return what can be read from when a child has ended: of the pipe, all that it forked too."""
    return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else os.dup(alive)


if __name__ == "__main__":
    main(sys.argv[1:])
