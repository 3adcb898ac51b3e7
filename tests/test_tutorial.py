"""What docs/tutorial.md shows to a reader, done as the reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cnnformance
from cnnformance.reports import causes, records
from cnnformance.reports.records import Run

ROOT = Path(cnnformance.__file__).resolve().parents[1]
TUTORIAL = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")


def _block(name: str) -> str:
    found = re.search(rf"<!-- {re.escape(name)} -->\n```python\n(.*?)```", TUTORIAL, re.DOTALL)
    assert found
    return found[1]


def _asked(folder: Path, kernel: str, status: int) -> Run:
    (folder / "kernels.py").write_text(kernel)
    command = [sys.executable, "-m", "pytest", str(ROOT / "conformance"), "--rootdir", str(ROOT)]
    options = ["--backend=kernels.py:my_max_pool", "--profile=quick", "--record=verdicts.jsonl"]
    few = ["-q", "-p", "no:cacheprovider", "-k", "pool-MaxPool and (test_batch or test_output)"]
    done = subprocess.run(  # noqa: S603 - our own words
        [*command, *options, *few], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return records.read(folder / "verdicts.jsonl")


def test_the_kernel_fails_as_it_is_shown(tmp_path: Path) -> None:
    findings = causes.findings(_asked(tmp_path, _block("kernels.py"), 1))
    shortest = next(f.shortest for f in findings if f.effect == "value")
    assert f"{shortest.question.partition('[')[0]}[{shortest.layer}]" in TUTORIAL
    assert shortest.failure
    assert f"expected  {shortest.failure.expected}\n" in TUTORIAL
    assert f"actual    {shortest.failure.actual}\n" in TUTORIAL
    assert shortest.failure.alone


def test_the_mended_kernel_passes(tmp_path: Path) -> None:
    mended = _block("mended")
    faulty = re.search(r"^ +y = np\.zeros.*\n", _block("kernels.py"), re.MULTILINE)
    assert faulty
    run = _asked(tmp_path, _block("kernels.py").replace(faulty[0], mended), 0)
    assert {v.verdict for v in run.verdicts} == {"pass", "unsupported"}
    assert {v.dtype for v in run.verdicts if v.verdict == "pass"} >= {"float32", "float64"}
