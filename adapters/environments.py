"""Environments of other versions, each made once, and kept in the user's cache.

One holds a framework at one version, and what that needs beside it. The suite is not installed in
it: ``apart`` begins a worker there. As a program, this module has an environment, and goes on as
that worker; it stands in the place of ``fork_server``, so that nobody waits meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

from cnnformance.adapters import apart, registry, wire
from cnnformance.adapters.exceptions import Unavailable
from cnnformance.adapters.installers import Failed, installer, variables
from cnnformance.adapters.versions import ASKED, release

_MADE = "made.json"
"""The file that an environment holds once it is whole; it says what it was made of."""
_WORKER = ("numpy", "ml_dtypes")
"""What a worker needs beside its framework."""
_MINORS = range(11, 20)
"""The Pythons, 3.11 and later, in which a worker can run."""


@dataclass(frozen=True)
class Needs:
    """What an environment holds for versions from ``since`` on, up to those of the next entry.

    ``package`` is what is installed at the version, if it is not called as the backend; ``needs``
    are requirements beside it, such as ``numpy<2``.
    """

    since: str
    package: str = ""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Environment:
    """The environment of a version of a framework, which may not be there yet.

    ``file`` is the backend's ``.toml``, whose tables ``environment`` are ``Needs``; or empty.
    """

    name: str
    version: str
    file: str = ""

    @property
    def requirements(self) -> tuple[str, ...]:
        """What is installed in it."""
        tables = [Needs(**table) for table in _tables(self.file)]
        before = [t for t in tables if release(t.since) <= release(self.version)]
        own = max(before, key=lambda table: release(table.since), default=Needs("0"))
        framework = f"{own.package or self.name}=={self.version}"
        return tuple(dict.fromkeys([framework, *own.needs, *_WORKER]))

    @property
    def folder(self) -> Path:
        """Where it is: named by the version, and by a hash of what it holds."""
        held = [*self.requirements, sys.platform, platform.machine()]
        digest = hashlib.sha256(json.dumps(held).encode()).hexdigest()
        return _cache() / f"{self.name}-{self.version}-{digest[:12]}"

    @property
    def lock(self) -> Path:
        """The file that whoever makes it has locked."""
        return self.folder.with_name(f"{self.folder.name}.lock")

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def whole(self) -> bool:
        """Whether it is made, and its interpreter there."""
        return (self.folder / _MADE).is_file() and os.access(self.python, os.X_OK)

    def have(self) -> Path:
        """Return its interpreter, and make it where it is not whole.

        Of several processes one makes it, and the others wait.

        Raises:
            Unavailable: it cannot be made; the message says why, in one line.
        """
        if self.whole:
            return self.python
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with self.lock.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self.whole:
                    self._make(lock.fileno())
        except OSError as error:
            said = f"{error.filename or self.folder}: {error.strerror}"
            raise Unavailable(f"no environment can be made of it ({said})") from error
        return self.python

    def _make(self, lock: int) -> None:
        """Make it by the first Python that its packages have wheels for.

        What is started holds the lock too, should this process end before it.
        """
        made_by, reasons = installer(lock, self.folder.parent), []
        for number, python in enumerate(_pythons()):
            shutil.rmtree(self.folder, ignore_errors=True)
            try:
                made_by.create(self.folder, python)
                made_by.install(self.python, self.requirements)
            except Failed as error:
                shutil.rmtree(self.folder, ignore_errors=True)
                reasons.append(str(error))
                if error.offline:
                    break
                continue
            told = {"requirements": self.requirements, "python": python, "number": number}
            half = self.folder / f"{_MADE}.half"
            half.write_text(json.dumps(told), encoding="utf-8")
            half.replace(self.folder / _MADE)
            return
        raise Unavailable(f"{self.name} {self.version} cannot be had: {reasons[0]}")


def of(target: registry.Target) -> Environment:
    """Return the environment of a subject that asks for a version."""
    return Environment(target.framework, target.version, str(registry.divergences(target) or ""))


def places(target: registry.Target) -> dict[str, str]:
    """Return the files of the packages that a worker needs: the suite's, and its adapter's."""
    files = {}
    for package in ("cnnformance", re.split(r"[.:]", target.path, maxsplit=1)[0]):
        loaded = sys.modules.get(package)
        found = loaded.__spec__ if loaded else util.find_spec(package)
        if found and found.origin:
            files[package] = str(Path(found.origin).resolve())
    return files


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "cnnformance" / "environments"


def _tables(file: str) -> Sequence[Mapping[str, Any]]:
    """Return the tables of a backend's file that say what its environments hold."""
    if not file:
        return ()
    found = tomllib.loads(Path(file).read_text(encoding="utf-8")).get("environment", [])
    return [{**table, "needs": tuple(table.get("needs", ()))} for table in found]


def _pythons() -> Iterator[str]:
    """Yield this Python, and then the others on the path in which a worker can run."""
    yield sys.executable
    for minor in _MINORS:
        found = shutil.which(f"python3.{minor}")
        if found and minor != sys.version_info.minor and _runs(found):
            yield found


@cache
def _runs(python: str) -> bool:
    """Whether a file is an interpreter, and not the name of one that is not there."""
    try:
        done = subprocess.run([python, "-c", ""], capture_output=True, timeout=30, check=False)  # noqa: S603 - found on the path
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main(argv: Sequence[str]) -> None:
    """Go on as a worker in an environment; or answer that it cannot be had, instead of a hello."""
    options = json.loads(argv[0])
    environment = Environment(**options.pop("environment"))
    try:
        python = environment.have()
    except Unavailable as error:
        _decline(options["control"], error)
        return
    words = [str(python), "-P", str(apart.__file__), json.dumps(options)]
    os.execve(words[0], words, {**variables(), ASKED: environment.version})  # noqa: S606 - no shell is wanted


def _decline(control: int, error: Unavailable) -> None:
    with socket.socket(fileno=control) as asked, contextlib.suppress(OSError):
        _, descriptors, _, _ = socket.recv_fds(asked, 1, 1)
        said = {"type": type(error).__name__, "message": str(error), "traceback": ""}
        for descriptor in descriptors:  # there is none where nobody waits any more
            with socket.socket(fileno=descriptor) as link:
                wire.send(link, {"status": "failed", **said})


if __name__ == "__main__":
    main(sys.argv[1:])
