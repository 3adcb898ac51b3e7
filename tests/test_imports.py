"""Which part of the project may import which: an adapter must not be able to copy the answer."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import cnnformance

ROOT = Path(cnnformance.__file__).resolve().parents[1]
ALLOWED: Mapping[str, set[str]] = {
    "spec": set(),
    "reference": {"spec"},
    "adapters": {"spec"},
    "reports": {"spec"},
    "conformance": {"spec", "reference", "adapters", "reports"},
}


def _imports(part: str) -> Iterator[tuple[str, str]]:
    """Yield each file of a part with each name that it imports, in full."""
    for path in (ROOT / part).glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            match node:
                case ast.Import(names=aliases):
                    yield from ((path.name, alias.name) for alias in aliases)
                case ast.ImportFrom(module=module, names=aliases, level=level):
                    place = "." * (level or 0) + (module or "")
                    yield from ((path.name, f"{place}.{alias.name}") for alias in aliases)


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_no_more_than_it_may(part: str) -> None:
    found = [(file, name.split(".")) for file, name in _imports(part)]
    assert found
    for file, (top, *rest) in found:
        assert top != "", f"{file}: a relative import"
        if top == "cnnformance":
            assert rest, f"{file}: imports the front door"
            assert rest[0] in {part, *ALLOWED[part]}, f"{file}: imports {rest[0]}"


@pytest.mark.parametrize("part", ["spec", "adapters"])
def test_a_worker_needs_no_test_tools(part: str) -> None:
    """It runs in the framework's environment, which need not have them."""
    tools = {"pytest", "hypothesis", "tabulate"}
    for file, name in _imports(part):
        assert name.split(".")[0] not in tools, file


def test_a_worker_needs_no_reader_of_data() -> None:
    """Nor what reads the specification: an adapter describes layers, and knows no clause."""
    described = {"layer", "layers", "printable"}
    found = [*_imports("adapters"), *_imports("reference")]
    found += [
        (file, name) for file, name in _imports("spec") if file.removesuffix(".py") in described
    ]
    for file, name in found:
        top, *rest = name.split(".")
        assert top not in {"pydantic", "pydantic_core", "packaging"}, file
        assert rest[:1] != ["spec"] or rest[1] in described, f"{file}: imports {name}"


def test_a_worker_loads_no_reader_of_data() -> None:
    frameworks = {"jax", "onnxruntime", "tensorflow", "torch"}
    files = {path.stem for path in (ROOT / "adapters").glob("*.py")} - frameworks
    modules = sorted(f"cnnformance.adapters.{name}" for name in files)
    code = (
        f"import importlib, sys; list(map(importlib.import_module, {modules})); "
        "sys.exit(', '.join({'pydantic', 'packaging', 'pytest'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
