"""``cnnformance try`` names the mistakes of new authors, and refuses adapters that hide faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnformance import trial
from cnnformance.__main__ import main
from cnnformance.adapters.exceptions import Unknown
from cnnformance.adapters.registry import SubjectError
from cnnformance.trial import attempt
from cnnformance.trial_report import Trial

TRAPS = Path(__file__).parent / "corpus" / "traps.py"


def tried(name: str) -> Trial:
    return attempt(f"{TRAPS}:{name}")


@pytest.mark.parametrize("name", ["numpy", f"{TRAPS}:Plain"])
def test_a_right_adapter_is_fine(name: str) -> None:
    found = attempt(name)
    assert found.fine, found.text()
    assert found.faults >= 7 * 7
    assert found.hints == []
    assert f"Fine: {found.faults} of {found.faults} faults" in found.text()


@pytest.mark.parametrize("name", ["OnlyBytes", "OnlyHalves"])
def test_a_right_adapter_of_one_dtype_is_fine(name: str) -> None:
    found = tried(name)
    assert found.fine, found.text()
    assert found.faults >= 10


CONTRACT = {
    "ResultWidened": ("the result is of float64, and the input of float32", "keep the dtype"),
    "InPlace": ("changes its input", "copy before"),
    "SharesWithEarlier": ("shares memory with, an earlier result", "do not return a buffer"),
    "AllUnsupported": ("Unsupported is raised for every layer", "return a layer"),
    "HalfClaimed": ("bfloat16 is claimed", "leave it out of dtypes"),
    "BiasNotCounted": ("parameters: ", "the bias is not counted"),
    "GradientAsStored": ("gradients: ", "comes in the framework's layout (4, 4, 3, 2)"),
    "NoArray": ("to_numpy returned list", "docs/adapters.md"),
    "Hangs": ("GlobalMaxPool, build, float32: it hangs", ""),
}
WRONG = {
    "KernelFlipped": "the kernel is turned around",
    "KernelReshaped": "the kernel is reshaped",
    "KernelNotTransposed": "the axes of the kernel are exchanged",
    "DenseNotTransposed": "the weight is transposed",
    "LayoutWrong": 'set layout = "channels_last"',
    "PaddingCounted": "the mean counts the padding",
    "StrideForgotten": "pass layer.stride on",
    "HalfClaimed": "Got unsupported ScalarType BFloat16",
    "Crashes": "SIGABRT",
}


@pytest.mark.parametrize("name", CONTRACT)
def test_a_breach_of_the_contract_is_told_with_its_remedy(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_SECONDS", 2.0)
    found = tried(name)
    said, remedy = CONTRACT[name]
    told = [" ".join(str(problem).split()) for problem in found.contract]
    assert any(said in text and remedy in text for text in told), found.text()
    assert not found.fine


def test_an_adapter_that_hangs_is_soon_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_SECONDS", 1.0)
    found = tried("HangsAlways")
    assert [list(row.values()) for row in found.cells.values()] == [["HANG"]] * 3
    assert "the others were not tried" in found.contract[-1].said


def test_scripts_are_run_and_judged_each_in_a_process_of_its_own() -> None:
    found = {each.layer: each for each in tried("ScriptUntested").contract}
    assert set(found) == {"GlobalMaxPool", "ReLU", "Dense"}
    assert {each.method for each in found.values()} == {"script"}
    assert "NameError" in found["GlobalMaxPool"].said
    assert found["ReLU"].remedy == "the output is the input"
    assert "ends the process" in found["Dense"].said


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_told_with_its_mistake(name: str) -> None:
    found = tried(name)
    told = [" ".join(str(problem).split()) for problem in found.wrong]
    assert any(WRONG[name] in text for text in told), found.text()
    assert not found.fine


@pytest.mark.parametrize("name", ["AllocatesInOutputShape", "AllocatesToCount"])
def test_weights_that_are_allocated_are_a_hint(name: str) -> None:
    found = tried(name)
    assert found.fine, found.text()
    (hint,) = found.hints
    assert hint.layer == "Dense"
    assert "without its weights" in hint.remedy


@pytest.mark.parametrize(
    ("name", "hidden"), [("RepairsDtype", "a result of float64"), ("FallsBack", "a NaN")]
)
def test_an_adapter_that_hides_faults_is_refused(
    name: str, hidden: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tried(name)
    assert not found.contract
    assert not found.wrong
    assert any(hidden in problem.said for problem in found.hidden)
    assert main(["try", f"{TRAPS}:{name}"]) == 1
    assert "Hides faults" in capsys.readouterr().out


def test_an_adapter_that_imports_the_reference_is_refused(tmp_path: Path) -> None:
    source = """
from cnnformance.adapters.backend import Backend, Unsupported
from cnnformance.reference import forward
from cnnformance.spec.layers import ReLU

class Copies(Backend):
    def build(self, layer, weights):
        if isinstance(layer, ReLU):
            return lambda x: forward(layer, x, weights).astype(x.dtype)
        raise Unsupported("no such layer")
"""
    (tmp_path / "copies.py").write_text(source)
    found = attempt(f"{tmp_path / 'copies.py'}:Copies")
    assert [problem.method for problem in found.contract] == ["import"]
    assert not found.fine


def test_what_cannot_be_tried_is_unusable_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unknown):
        tried("Missing")
    with pytest.raises(SubjectError):
        attempt("missing.py:Mine")
    for name in (f"{TRAPS}:Missing", "missing.py:Mine"):
        assert main(["try", name]) == 2
        assert capsys.readouterr().err.startswith("cnnformance: ")


def test_what_does_not_start_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_framework\n")
    found = attempt(f"{tmp_path / 'broken.py'}:Mine")
    assert "no_such_framework" in str(found.contract[0])
    assert not found.fine


def test_a_new_backend_runs_at_once_and_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-backend", "my-engine"]) == 0
    assert "cnnformance try my_engine.py:MyEngine" in capsys.readouterr().out
    assert main(["try", "my_engine.py:MyEngine"]) == 0
    assert "there is no AveragePool" in capsys.readouterr().out
    written = (tmp_path / "my_engine.py").read_bytes()
    assert main(["new-backend", "my-engine"]) == 2
    assert (tmp_path / "my_engine.py").read_bytes() == written
    assert main(["new-backend", "my-engine", "--output", "other.py"]) == 0
    assert (tmp_path / "other.py").is_file()


@pytest.mark.parametrize(
    "words", [["7"], ["none"], ["conv"], ["numpy"], ['a"b'], ["a\\"], ["a", "--output", "a.txt"]]
)
def test_a_name_that_is_none_is_refused(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-backend", *words]) == 2
    assert not list(tmp_path.iterdir())
