"""The suite catches faulty backends: a spread of the corpus here, all in ``make mutation``."""

from __future__ import annotations

import pytest
from corpus.faulty import FAULTS
from mutation import ask_layer, catch

EVERY = 150
"""One fault of this many is put to the questions here."""


@pytest.mark.parametrize("key", list(FAULTS)[::EVERY])
def test_a_faulty_backend_is_caught(key: str) -> None:
    outcome = ask_layer(key, "quick")
    if not outcome.question:  # some show only in sizes that the quick profile leaves out
        outcome = ask_layer(key, "default")
    if not outcome.question:  # and some only in models
        outcome = catch((key, "default", 0))

    assert outcome.question, f"{key} survived {outcome.examples} examples"
