"""A tiny framework in two versions, as wheels in a folder, and the backend that asks it."""

from __future__ import annotations

import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

SOURCE = """
import numpy as np

__version__ = "{version}"


def relu(x):
    return {relu}
"""
FAULTY, RIGHT = "x * (x > 0)", "np.maximum(x, 0)"
ADAPTER = """
import tinyworks
from cnnformance.adapters.backend import Backend, Unsupported
from cnnformance.spec.layers import ReLU


class Tiny(Backend):
    modes = ("same",)

    def version(self):
        return tinyworks.__version__

    def build(self, layer, weights):
        if isinstance(layer, ReLU):
            return tinyworks.relu
        raise Unsupported("there is only relu")

    def script(self, layer, x):
        version = tinyworks.__version__
        head = f"import tinyworks\\nassert tinyworks.__version__ == {version!r}"
        return f"{head}\\nprint({version!r})\\ny = tinyworks.relu(x)"
"""


def wheel(folder: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """Write a wheel that holds files, and requires nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    told = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    listed = "".join(f"{file},,\n" for file in (*files, *told, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        for file, text in {**files, **told, f"{info}/RECORD": listed}.items():
            made.writestr(file, text)
    return path


def published(folder: Path) -> None:
    """Write the wheels of the framework, and of what a worker needs: that leads to what is here."""
    here = sysconfig.get_path("purelib")
    for name in ("numpy", "ml_dtypes"):
        wheel(folder, name, "1.0", {f"{name}_of_the_tests.pth": f"{here}\n"})
    for version, relu in {"1.0": FAULTY, "2.0": RIGHT}.items():
        source = SOURCE.format(version=version, relu=relu)
        wheel(folder, "tinyworks", version, {"tinyworks.py": source})


def installed(folder: Path) -> None:
    """Write version 2.0 of the framework, and its backend, as if they were installed there."""
    files = {
        "tinyworks.py": SOURCE.format(version="2.0", relu=RIGHT),
        "tinyworks-2.0.dist-info/METADATA": "Name: tinyworks\nVersion: 2.0\n",
        "tiny_backend.py": ADAPTER,
        "tiny_backend-1.dist-info/METADATA": "Name: tiny-backend\nVersion: 1\n",
        "tiny_backend-1.dist-info/entry_points.txt": "[cnnformance.backends]\n"
        "tinyworks = tiny_backend:Tiny\n",
    }
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
