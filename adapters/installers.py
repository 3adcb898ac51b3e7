"""What makes an environment: uv where there is one, and else ``venv`` and pip, which take longer.

Wheels alone are installed: to build old packages from source takes long, and mostly fails.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path

_LONGEST = 300
"""Of a reason, in characters."""
_OFFLINE = re.compile(
    r"failed to fetch|network|connection|resolve host|timed out|retries exceeded|offline|dns error",
    re.IGNORECASE,
)
"""What says that packages could not be looked up, so that no other Python will find them."""
_UV: Mapping[str, str] = {
    "find-links": "UV_FIND_LINKS",
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
}
"""The settings of pip that uv has under other names."""
_LISTED: Mapping[str, str] = {"find-links": ",", "extra-index-url": " "}
"""What separates several values of a setting in uv; in pip it is white space."""


class Failed(Exception):  # noqa: N818 - named for what happened
    """An environment could not be made. The message is one line."""

    def __init__(self, output: str) -> None:
        """Keep the reason that an installer gave, among what it wrote."""
        super().__init__(reason(output))
        self.offline = bool(_OFFLINE.search(output))


def reason(output: str) -> str:
    """Return the sentence in which uv or pip says why it failed: one line, and not too long."""
    text = " ".join(re.sub(r"[\u00d7\u2500-\u25ff]", " ", output).split())
    errors = re.findall(r"ERROR: .*", output)
    if because := re.search(r"\bBecause (.*?)(?=,? we can conclude| hint:|$)", text):
        text = re.sub(r" and you require \S+$", "", because[1])
    elif errors:
        text = " ".join(errors[0].removeprefix("ERROR: ").split())
    text = text.removeprefix("error: ")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


@dataclass(frozen=True)
class Installer:
    """The words that create an environment, those that install, and the variables of both."""

    creating: tuple[str, ...]
    installing: tuple[str, ...]
    variables: Mapping[str, str]
    lock: int
    within: Path | None = None
    """The folder in which they run; ``None``: where this process does."""

    def create(self, folder: Path, python: str) -> None:
        """Create an empty environment. Raises ``Failed``."""
        words = (word.format(folder=folder, python=python) for word in self.creating)
        self._run(*words)

    def install(self, python: Path, requirements: Sequence[str]) -> None:
        """Install what is required, as wheels. Raises ``Failed``."""
        words = (word.format(python=python) for word in self.installing)
        self._run(*words, *requirements)

    def _run(self, *words: str) -> None:
        try:
            done = subprocess.run(  # noqa: S603 - our own words, and requirements
                words, cwd=self.within, env=self.variables, pass_fds=[self.lock], text=True,
                stdin=subprocess.DEVNULL, capture_output=True, check=False, errors="replace",
            )  # fmt: skip
        except OSError as error:
            raise Failed(f"{words[0]}: {error.strerror}") from error
        if done.returncode:
            raise Failed(done.stderr or done.stdout or f"{words[0]} ended with {done.returncode}")


def variables(python: str = "") -> dict[str, str]:
    """Return the variables for a process of another Python, or of this one if it is named.

    Another one gets none that bring it the packages of this one.
    """
    own = () if python == sys.executable else ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: text for name, text in os.environ.items() if name not in own}


def _runs(command: Sequence[str]) -> bool:
    """Whether a program runs: a package may be there, and what it holds be gone."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)  # noqa: S603 - uv
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def installer(lock: int, folder: Path) -> Installer:
    """Return uv, or else pip; what they start keeps the descriptor of a lock open.

    uv runs in a folder: it would read the settings of a project in which it is started.
    """
    uv = shutil.which("uv")
    command = [uv] if uv else [sys.executable, "-m", "uv"] if util.find_spec("uv") else []
    if not (command and _runs([*command, "--version"])):
        pip = ("{python}", "-m", "pip", "install", "--only-binary", ":all:")
        return Installer(("{python}", "-m", "venv", "{folder}"), pip, variables(), lock)
    # as pip chooses, among the releases of all indexes
    chosen = ("--index-strategy", "unsafe-best-match", "--only-binary", ":all:")
    return Installer(
        (*command, "venv", "--no-project", "--python", "{python}", "{folder}"),
        (*command, "pip", "install", "--quiet", "--python", "{python}", *chosen),
        {"UV_PYTHON_DOWNLOADS": "never", **as_of_pip(), **variables()},
        lock,
        folder,
    )


def as_of_pip() -> dict[str, str]:
    """Return the variables by which uv finds packages where pip does, as pip is configured."""
    words = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():  # the later ones are the stronger ones
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2].replace("_", "-")
        if setting in _UV and (text := _value(value)):
            places = map(_absolute, text.split()) if setting == "find-links" else text.split()
            found[_UV[setting]] = _LISTED.get(setting, " ").join(places)
    return found


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).expanduser().absolute())


def _value(text: str) -> str:
    try:
        return str(ast.literal_eval(text))
    except (SyntaxError, ValueError):
        return ""
