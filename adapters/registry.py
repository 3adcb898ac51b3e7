"""Which backends there are, and what a subject's name means. Imports no framework."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

from cnnformance.adapters import npm, versions
from cnnformance.spec.suggestions import instead

GROUP = "cnnformance.backends"
"""The entry-point group in which packages announce their backends."""

PACKAGES = {"litert": "ai_edge_litert", "opencv": "cv2", "mnn": "MNN"}
"""The package to import of frameworks that are known by another name."""

_SUBJECT = re.compile(
    r"(?P<name>[^=:@]+)(==(?P<version>[^:@]+))?(:(?P<mode>[^@]+))?(@(?P<device>.+))?"
)
_PATH = re.compile(
    r"(?P<path>.+?\.py:\w+|\w+(\.\w+)+:\w+|\w+:[A-Z]\w*)(:(?P<mode>[^@]+))?(@(?P<device>.+))?"
)
_COMMAND = re.compile(r"(?P<path>[^:@]*/[^:@]*)(:(?P<mode>[^@]+))?(@(?P<device>.+))?")


class SubjectError(ValueError):
    """A subject's name that means nothing here; the message says what would."""


@dataclass(frozen=True)
class Target:
    """Where a subject's backend is, and how it is to run.

    ``name`` is the subject as written; ``path`` is ``package.module:Class`` or
    ``path/to/file.py:Class``, or a function in the place of the class; or it is the path of a
    command, with a slash. ``version`` is the one that runs in an environment of its own; empty:
    what is installed here.
    """

    name: str
    path: str
    mode: str = ""
    device: str = "cpu"
    version: str = ""

    @property
    def framework(self) -> str:
        """The distribution behind the name; empty for a class named by its path."""
        by_path = _PATH.fullmatch(self.name) or _COMMAND.fullmatch(self.name)
        match = None if by_path else _SUBJECT.fullmatch(self.name)
        return match["name"] if match else ""

    @property
    def file(self) -> Path | None:
        """The file that is named by its path, itself or with a class in it; else None."""
        if is_command(self.path):
            return Path(self.path)
        place = self.path.rpartition(":")[0]
        return Path(place) if place.endswith(".py") else None

    @property
    def absolute(self) -> str:
        """The path for a process that may have changed its working directory."""
        if self.file is None:
            return self.path
        if is_command(self.path):
            return str(self.file.absolute())
        return f"{self.file.resolve()}:{self.path.rpartition(':')[2]}"

    @property
    def plain(self) -> bool:
        """Whether this is a registered backend as it is, so that no part of it can be unknown.

        A version may be unknown, and is not had then.
        """
        return bool(self.framework) and not self.mode and self.device == "cpu"


@cache
def registered() -> dict[str, str]:
    """Return every announced backend, name to ``package.module:Class``, sorted by name.

    In a bare clone, which has no package metadata, the clone's ``pyproject.toml`` is read.
    """
    found = {e.name: e.value for e in metadata.entry_points(group=GROUP)}
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if project.is_file():
        data = tomllib.loads(project.read_text(encoding="utf-8"))
        own = data.get("project", {}).get("entry-points", {}).get(GROUP, {})
        found = {**own, **found}
    return dict(sorted(found.items()))


def importable(name: str) -> bool:
    """Whether the framework that a registered backend is named after is installed."""
    if name in npm.PACKAGES:
        return npm.installed(name)
    return util.find_spec(PACKAGES.get(name, name)) is not None


def installed_version(name: str) -> str:
    """Return the version of the framework that is installed; empty where no package tells it."""
    if name in npm.PACKAGES:
        return npm.version(name)
    package = PACKAGES.get(name, name)
    for known in (name, *metadata.packages_distributions().get(package, [])):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(known)
    return ""


def installed() -> list[str]:
    """Return the registered backends whose framework is installed."""
    return [name for name in registered() if importable(name)]


def is_command(path: str) -> bool:
    """Whether the path of a target is that of a file that is executed, and no class."""
    return _PATH.fullmatch(path) is None and "/" in path


def parse(subject: str, *, asked: bool = True) -> Target:
    """Return what ``NAME[==VERSION][:MODE][@DEVICE]`` or ``MODULE_OR_FILE:NAME`` means.

    The latter names a class, or a function of a file or of a package's module. A path with a slash
    and without such a name is a command. Of what is not to be ``asked``, the framework need not be
    installed.

    Raises:
        SubjectError: the name is not known, what follows ``==`` is no version, or none is asked
            for and the framework is not installed; or there is no such file, or it is a command
            that cannot be executed.
    """
    if match := _PATH.fullmatch(subject):
        file, python, _ = subject.partition(".py:")
        if python and not _is_file(Path(f"{file}.py")):
            raise SubjectError(f"--backend {subject}: there is no file {file}.py")
        return Target(subject, match["path"], match["mode"] or "", match["device"] or "cpu")
    if match := _COMMAND.fullmatch(subject):
        path = _command(match["path"]) if asked else match["path"]
        return Target(subject, path, match["mode"] or "", match["device"] or "cpu")
    match = _SUBJECT.fullmatch(subject)
    name = match["name"] if match else subject
    if match is None or name not in registered():
        raise SubjectError(
            f"--backend {subject}: no backend is called {name!r}; {instead(name, registered())} "
            "(or name a class as package.module:Class or file.py:Class, or a command as ./file)"
        )
    version = match["version"] or ""
    if version and not versions.VERSION.fullmatch(version):
        raise SubjectError(f"--backend {subject}: {version!r} is no version such as 1.20.0")
    remedy = npm.remedy(name) if name in npm.PACKAGES else f"pip install 'cnnformance[{name}]'"
    if asked and not version and not importable(name):
        raise SubjectError(f"--backend {subject}: {name} is not installed; try {remedy}")
    if version and importable(name) and versions.fits(installed_version(name), version):
        version = ""
    if asked and version and name in npm.PACKAGES:
        remedy, there = npm.remedy(name, version), installed_version(name) or "none"
        raise SubjectError(
            f"--backend {subject}: here is {there}; try {remedy} in another folder, and run there"
        )
    place = (match["mode"] or "", match["device"] or "cpu")
    return Target(subject, registered()[name], *place, version)


def _command(path: str) -> str:
    """Return the path of a file that can be executed. Raises ``SubjectError`` where it cannot."""
    if not _is_file(Path(path)):
        raise SubjectError(f"--backend {path}: there is no file {path}")
    if not os.access(path, os.X_OK):
        more = f", or name its class: {path}:NAME" if path.endswith(".py") else ""
        remedy = f"begin it with #! and its interpreter, and chmod +x {path}{more}"
        raise SubjectError(f"--backend {path}: the file cannot be executed; {remedy}")
    return path


def mode(subject: str) -> str:
    """Return the mode that a subject's name states, or nothing; it need not be on this machine."""
    match = _PATH.fullmatch(subject) or _COMMAND.fullmatch(subject) or _SUBJECT.fullmatch(subject)
    return (match and match["mode"]) or ""


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False


def divergences(target: Target) -> Path | None:
    """Return the file of a backend's known divergences: its own, with the suffix ``.toml``.

    ``None`` where there is no such file. A package is found without being imported: that would
    import its framework.
    """
    place = target.path.rpartition(":")[0]
    if target.file:
        files = [target.file.with_suffix(".toml")]
    else:
        top, *inner = place.split(".")
        files = [Path(folder, *(inner or [top])) for folder in _folders(top)]
        files = [file.with_name(f"{file.name}.toml") for file in files]
    return next((file for file in files if file.is_file()), None)


def _folders(top: str) -> list[str]:
    """Return the folders of a top-level package, or the one that a module lies in."""
    if loaded := getattr(sys.modules.get(top), "__path__", None):
        return list(loaded)  # a package may have added to what its spec says
    try:
        found = util.find_spec(top)
    except ValueError:  # what is run as __main__ has none
        return []
    if found is None or found.origin is None:
        return []
    return list(found.submodule_search_locations or [str(Path(found.origin).parent)])
