"""A fault is told of the layer that has it, whichever question comes across it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from made import failure, run, verdict

from cnnformance.reports import causes, records
from cnnformance.spec.layers import MaxPool

ROOT = Path(__file__).parents[1]

BACKENDS = """
import numpy as np

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.numpy import NumPy
from cnnformance.spec.layers import AveragePool, MaxPool


class Raised(NumPy):
    def build(self, layer, weights):
        run = super().build(layer, weights)
        if not isinstance(layer, MaxPool):
            return run
        return lambda x: np.asarray(run(x)) + np.ones((), x.dtype)


class Wide(NumPy):
    def build(self, layer, weights):
        run = super().build(layer, weights)
        if not isinstance(layer, AveragePool):
            return run
        return lambda x: np.asarray(run(x)).astype(np.float64)


class Batched(NumPy):
    def build(self, layer, weights):
        run = super().build(layer, weights)

        def drop(x):
            y = np.array(run(x))
            y[1:-1] = np.where(np.isnan(y[1:-1]), 1, y[1:-1])
            return y

        return drop if isinstance(layer, MaxPool) else run

    def script(self, layer, x):  # that of NumPy would show NumPy
        raise Unsupported("one through the adapter")
"""


def findings(folder: Path, name: str, *arguments: str) -> set[tuple[str, str]]:
    """Return the layer and the effect of each finding on one of the backends."""
    (folder / "faulty.py").write_text(BACKENDS, "utf-8")
    options = ["--record=verdicts.jsonl", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    words = [sys.executable, "-m", "pytest", *options, f"--backend=faulty.py:{name}", *arguments]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert done.returncode == 1, done.stdout + done.stderr
    found = causes.findings(records.read(folder / "verdicts.jsonl"))
    return {(finding.layer, finding.effect) for finding in found}


@pytest.mark.parametrize("law", ["global-equals-window", "adaptive-equals-window"])
def test_a_law_between_two_layers_books_the_one_that_is_wrong(law: str, tmp_path: Path) -> None:
    asked = f"{ROOT}/conformance/test_paths.py::test_{law.replace('-', '_')}"
    assert findings(tmp_path, "Raised", asked) == {("MaxPool", "value")}
    failing = [v for v in records.read(tmp_path / "verdicts.jsonl").verdicts if v.failure]
    assert {v.clauses[0] for v in failing} == {"pool.max.formula"}  # the law itself may hold


def test_a_fault_of_one_layer_is_not_one_of_the_model_or_of_those_that_follow(
    tmp_path: Path,
) -> None:
    asked = f"{ROOT}/conformance/test_pipeline.py"
    chosen = "test_after_each_layer or test_chain or test_digits"
    found = findings(tmp_path, "Wide", asked, "--profile=quick", "-k", chosen)
    assert found == {("AveragePool", "dtype")}


def test_the_script_of_a_torn_trait_shows_it(tmp_path: Path) -> None:
    asked = f"{ROOT}/conformance/test_special_values.py::test_nan_in_selections"
    assert findings(tmp_path, "Batched", asked, "--profile=quick") == {("Model", "trait")}
    (verdict,) = records.read(tmp_path / "verdicts.jsonl").verdicts
    assert verdict.failure
    assert verdict.failure.script
    words = [sys.executable, "-c", verdict.failure.script]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - as above
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("AssertionError")
    assert {"nan", "1."} <= set(done.stdout.replace("[", " ").replace("]", " ").split())


def test_a_finding_names_the_clauses_of_the_layer_before_those_of_all() -> None:
    failing = verdict(
        "fail",
        clauses=("pipeline.pure", "relu.formula"),
        failure=failure(MaxPool((1,)), [[[1.0]]], (0, 0, 0)),
    )

    (finding,) = causes.findings(run(failing))

    assert finding.clauses == ("relu.formula", "pipeline.pure")
