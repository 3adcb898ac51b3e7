"""The suite flags no correct backend: a spread of the corpus here, all in ``make soundness``."""

from __future__ import annotations

import pytest
from corpus.correct import CORRECT
from mutation import spare

EVERY = 12
"""One correct backend of this many is put to the questions here."""


@pytest.mark.parametrize("name", list(CORRECT)[::EVERY])
def test_a_correct_backend_is_not_flagged(name: str) -> None:
    outcome = spare((name, "quick", 0))

    assert not outcome.question, f"{outcome.question}: {outcome.message}"
    assert outcome.examples > 1000
