"""The journey of a case that CONTRIBUTING tells is true to the code, and files are small."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import cnnformance

ROOT = Path(cnnformance.__file__).resolve().parents[1]
PACKAGES = ("spec", "reference", "adapters", "conformance", "reports", "cnnformance")
LONGEST = 400
"""The lines of a source file."""

HOPS = [
    (path, names.split(", "))
    for path, names in re.findall(
        r"(?m)^\| \d+ \| `([^`]+\.py)` \| ([^|]+?) \|",
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    )
]
"""Of each hop of the journey the file and the names in it."""


def _defined(path: str) -> set[str]:
    """Return the functions and classes of a file, methods as ``Class.method``."""
    found = set()
    for node in ast.parse((ROOT / path).read_bytes()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{n.name}" for n in inner if isinstance(n, ast.FunctionDef)}
    return found


def test_the_journey_has_at_most_fifteen_hops() -> None:
    assert 10 <= len(HOPS) <= 15


@pytest.mark.parametrize(("path", "names"), HOPS)
def test_each_hop_of_the_journey_exists(path: str, names: list[str]) -> None:
    assert (ROOT / path).is_file()
    assert {name.strip("`") for name in names} <= _defined(path)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_source_file_is_long(package: str) -> None:
    lines = {p.name: len(p.read_bytes().splitlines()) for p in (ROOT / package).glob("**/*.py")}
    assert lines
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}
