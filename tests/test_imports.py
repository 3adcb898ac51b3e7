"""Which way imports go, between the packages and inside them.

Between packages: an adapter must not be able to copy the answer. Inside one: what is asked about
comes before the judge, the judge before the question, and nothing is imported in a circle.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import cnnformance
from cnnformance.adapters import registry

PACKAGES = ("spec", "reference", "adapters", "conformance", "reports", "cnnformance")
ROOT = Path(cnnformance.__file__).resolve().parents[1]
ALLOWED: Mapping[str, set[str]] = {
    "spec": set(),
    "reference": {"spec"},
    "adapters": {"spec"},
    "reports": {"spec"},
    "conformance": {"spec", "reference", "adapters", "reports"},
}


TIERS: Mapping[str, Sequence[set[str]]] = {
    "adapters": (
        {"backend", "exceptions", "versions", "npm", "registry", "sources"},  # the contract
        {"wire", "memory", "layout", "faults", "answers"},  # messages and arrays
        {"protocol", "command", "foreign"},  # backends in other languages
        {"function", "importing", "worker"},  # the worker
        {"descendants", "fork_server"},  # its process, which imports what the worker does
        {"installers", "apart", "environments"},  # where another version runs
        {"tail", "process", "link", "in_process"},  # the suite's end of each way to reach it
        {"quarantine", "supervision", "subject"},  # the subject
    ),
    "conformance": (
        {"per_type", "profiles", "regimes", "small_layers", "strategies", "parametrize", "digits",
         "cases", "cases_at_edges", "cases_by_memory", "cases_by_option", "cases_by_size",
         "cases_published", "cases_spread", "cases_varied"},
        {"judge", "other_definitions", "divergence_predicates", "divergences"},
        {"requests", "tally", "drawing", "question", "compiling"},
        {"gradients", "laws", "models", "refusals"},  # what several questions share
        {"literals", "reproduction", "divergence_entry", "recognition"},  # of a failure
        {"scratch", "equivalents", "contrast", "instead", "signatures"},  # how two are asked
        {"topics", "topics_layout", "topics_offers", "topics_values", "topics_windows"},
        {"comparing"},
    ),
    "cnnformance": (
        {"pytest_options", "pytest_items"},
        {"verdicts", "pytest_recorder", "pytest_processes", "pytest_properties"},
        {"pytest_terminal"},
        {"pytest_plugin", "pytest_entry"},
        {"checking_questioner", "checking_run", "checking_result", "checking"},
        {"trial_report", "trial_cases", "trial_mistakes", "trial_scripts", "trial_layer", "trial"},
        {"history_command"},
        {"run_commands", "completion"},
        {"__main__"},
    ),
}  # fmt: skip
"""The modules of a package in order: each imports those of its own row and of rows above."""


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
    described = {"layer", "layers", "printable", "suggestions"}
    found = [*_imports("adapters"), *_imports("reference")]
    found += [
        (file, name) for file, name in _imports("spec") if file.removesuffix(".py") in described
    ]
    for file, name in found:
        top, *rest = name.split(".")
        assert top not in {"pydantic", "pydantic_core", "packaging"}, file
        assert rest[:1] != ["spec"] or rest[1] in described, f"{file}: imports {name}"


def test_a_worker_loads_no_reader_of_data() -> None:
    frameworks = {*registry.registered(), "onnx_models"} - {"numpy"}
    assert frameworks > {"jax", "onnxruntime", "tensorflow", "torch"}
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


def _modules(package: str) -> dict[str, set[str]]:
    """Return the modules of a package, each with those that it imports, for types alone too."""
    names = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__", "conftest"}
    prefix = "cnnformance." if package == "cnnformance" else f"cnnformance.{package}."
    found: dict[str, set[str]] = {name: set() for name in names}
    for file, imported in _imports(package):
        module = file.removesuffix(".py")
        first = imported.removeprefix(prefix).partition(".")[0]
        if module in names and imported.startswith(prefix) and first in names - {module}:
            found[module].add(first)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    modules = _modules(package)
    assert any(modules.values())
    TopologicalSorter(modules).prepare()  # CycleError names the circle


@pytest.mark.parametrize("package", TIERS)
def test_a_module_imports_none_of_a_row_below(package: str) -> None:
    modules = _modules(package)
    row = {name: number for number, names in enumerate(TIERS[package]) for name in names}
    assert row.keys() <= modules.keys(), "a module was renamed: rename it in TIERS"
    for name, imported in modules.items():
        for other in imported & row.keys():
            assert name not in row or row[other] <= row[name], f"{name} imports {other}"


def test_questions_alone_import_questions() -> None:
    for name, imported in _modules("conformance").items():
        if not name.startswith("test_"):
            assert not [other for other in imported if other.startswith("test_")], name


@pytest.mark.parametrize("framework", registry.registered())
def test_an_adapter_imports_none_of_what_asks_it(framework: str) -> None:
    asking = set().union(*TIERS["adapters"][3:])
    assert not _modules("adapters")[framework] & asking
