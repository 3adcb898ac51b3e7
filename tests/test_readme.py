"""What README.md shows to a reader, done as the reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cnnformance
from cnnformance.checking_result import Result
from cnnformance.reports import records
from cnnformance.reports.records import Run

ROOT = Path(cnnformance.__file__).resolve().parents[1]
README = ROOT / "README.md"
LAYERS = "ReLU or Flatten or GlobalMaxPool or Dense"


def _example() -> str:
    found = re.search(r"<!-- my_backend.py -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found
    return found[1]


def test_the_checked_function_passes() -> None:
    found = re.search(r"<!-- check -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found
    names: dict[str, object] = {}
    exec(found[1], names)  # noqa: S102 - our own words
    result = names["result"]
    assert isinstance(result, Result)
    assert result.passed


def _asked(folder: Path, source: str) -> Run:
    (folder / "my_backend.py").write_text(source)
    command = [sys.executable, "-m", "pytest", str(ROOT / "conformance"), "--rootdir", str(ROOT)]
    options = ["--backend=my_backend.py:Mine", "--profile=quick", "--record=verdicts.jsonl"]
    more = ["-q", "-p", "no:cacheprovider", "-k", f"test_output and ({LAYERS})"]
    done = subprocess.run(  # noqa: S603 - our own words
        [*command, *options, *more], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return records.read(folder / "verdicts.jsonl")


def test_the_example_passes_in_every_layer_that_it_has(tmp_path: Path) -> None:
    run = _asked(tmp_path, _example())
    passed = {v.layer for v in run.verdicts if v.verdict == "pass"}
    assert {v.verdict for v in run.verdicts} == {"pass", "unsupported"}
    assert passed == {"ReLU", "Flatten", "GlobalMaxPool", "Dense"}
    assert {v.layer for v in run.verdicts if v.composed} == {"GlobalMaxPool"}


def test_the_failure_is_the_one_that_is_shown(tmp_path: Path) -> None:
    faulty = _example().replace("np.maximum(x, 0)", "x * (x > 0)")
    assert faulty != _example()
    failing = [v for v in _asked(tmp_path, faulty).verdicts if v.verdict in records.FAILING]
    assert {v.layer for v in failing} == {"ReLU"}
    failure = next(v.failure for v in failing if v.dtype == "float32")
    assert failure is not None
    assert (failure.effect, failure.expected, failure.actual) == ("not-finite", "0.0", "nan")
    assert failure.alone


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(name: str) -> None:
    path = next(p for p in (ROOT / name, ROOT / "docs" / name) if p.is_file())
    links = re.findall(r"\]\((?!http)([^)#]+)", path.read_text())
    assert all((path.parent / link).exists() for link in links)
