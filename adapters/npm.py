"""Packages of npm, as Node finds them from the working directory."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

PACKAGES = {"tfjs": ("@tensorflow/tfjs", "@tensorflow/tfjs-backend-wasm")}
"""What the backends that run in Node need, the package that they ask first."""

RANGES = {"tfjs": "^4.22"}
"""The versions of these packages that the adapters are written for."""


def installed(name: str) -> bool:
    """Whether Node is there, and finds the first package of a backend."""
    return bool(version(name)) and shutil.which("node") is not None


def version(name: str) -> str:
    """Return the version of the first package of a backend; empty where there is none."""
    here = Path.cwd()
    folders = [folder / "node_modules" for folder in (here, *here.parents)]
    folders += [Path(each) for each in os.environ.get("NODE_PATH", "").split(os.pathsep) if each]
    for folder in folders:
        with suppress(OSError, ValueError, KeyError):
            told = json.loads((folder / PACKAGES[name][0] / "package.json").read_bytes())
            return str(told["version"])
    return ""


def remedy(name: str, version: str = "") -> str:
    """Return the command that installs the packages of a backend; no script of theirs is run."""
    packages = (f"{package}@{version or RANGES[name]}" for package in PACKAGES[name])
    return f"npm install --ignore-scripts {' '.join(packages)}"
