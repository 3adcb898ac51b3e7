"""A mode that chooses otherwise than the default is told, and one that chooses alike is not."""

from __future__ import annotations

import pytest
from mutation import ROOT, put


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
