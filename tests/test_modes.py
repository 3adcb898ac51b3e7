"""A mode that chooses otherwise than the default is told, and one that chooses alike is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutation import ROOT, put

from cnnformance.adapters.registry import Target
from cnnformance.adapters.subject import Subject
from cnnformance.conformance.profiles import PROFILES
from cnnformance.conformance.question import Question
from cnnformance.conformance.test_modes import test_modes_agree as agree
from cnnformance.spec.layers import ReLU


class Modes:
    """Keeps the questions that compare modes."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out all others."""
        items[:] = [item for item in items if "plain" in getattr(item, "fixturenames", ())]


MODAL = f"{ROOT / 'tests/corpus/modal.py'}:Modal"


@pytest.mark.parametrize(
    ("mode", "choice"), [("swift", "NaN among numbers"), ("last", "the gradient")]
)
def test_a_mode_that_chooses_otherwise_is_told(mode: str, choice: str) -> None:
    outcome = put(f"{MODAL}:{mode}", "quick", 0, [Modes()])

    assert "test_modes_agree" in outcome.question
    assert choice in outcome.message


def test_a_mode_that_chooses_alike_is_not_told() -> None:
    outcome = put(f"{MODAL}:alike", "quick", 0, [Modes()])

    assert not outcome.question
    assert outcome.examples > 40


def test_a_subject_in_its_default_mode_is_not_compared_with_itself() -> None:
    with pytest.raises(RuntimeError, match="nothing was asked"):
        put(MODAL, "quick", 0, [Modes()])


FALLS = """\
import os, time
from pathlib import Path
from cnnformance.adapters.numpy import NumPy


class Falls(NumPy):
    modes = ("fast",)

    def build(self, layer, weights):
        if self.mode == Path("who").read_text():
            return self.fall
        return super().build(layer, weights)

    def fall(self, x):
        with Path("fallen").open("a") as file:
            file.write(".")
        os.abort() if Path("crashes").exists() else time.sleep(60)
"""


@pytest.mark.parametrize("how", ["hang", "crash"])
def test_the_default_mode_that_falls_is_no_fault_of_another(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "falls.py").write_text(FALLS)
    (tmp_path / "who").write_text("")
    if how == "crash":
        (tmp_path / "crashes").touch()
    fast = Subject(Target("fast", "falls.py:Falls", "fast"), seconds=1.0)
    plain = Subject(Target("plain", "falls.py:Falls"), seconds=1.0)
    made = Question(fast, PROFILES["quick"])
    try:
        agree(made, plain, ReLU)
        assert not made.failures
        assert "plain is not there to compare with: " in made.stopped + made.declined
        fallen = len((tmp_path / "fallen").read_text())
        assert fallen == 1 if how == "hang" else fallen > 1

        (tmp_path / "who").write_text("fast")
        fast.restart()  # it keeps what it has built
        made = Question(fast, PROFILES["quick"])
        agree(made, plain, ReLU)
        assert {failure.effect for failure in made.failures} == {how}
    finally:
        fast.close()
        plain.close()


SETTLED = """
import os
MODE_AT_IMPORT = os.environ["CNNFORMANCE_MODE"]  # as Keras reads KERAS_BACKEND
from cnnformance.adapters.numpy import NumPy

class Settled(NumPy):
    modes = ("one", "other")

    def version(self):
        return f"{MODE_AT_IMPORT or 'none'} at import, {self.mode or 'none'} when made"
"""


@pytest.mark.parametrize("in_process", [False, True])
@pytest.mark.parametrize("mode", ["", "one", "other"])
def test_a_mode_is_known_when_the_framework_is_imported(
    mode: str, in_process: bool, tmp_path: Path
) -> None:
    (tmp_path / "settled.py").write_text(SETTLED)
    path = f"{tmp_path / 'settled.py'}:Settled"
    subject = Subject(Target(f"{path}:{mode}", path, mode), in_process=in_process)
    try:
        word = mode or "none"
        assert subject.start().version == f"{word} at import, {word} when made"
    finally:
        subject.close()
