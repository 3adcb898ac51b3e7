"""The glossary has every name that code and reports use in a sense of their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import cnnformance
from cnnformance.conformance.profiles import PROFILES
from cnnformance.conformance.regimes import REGIMES
from cnnformance.pytest_options import LEVELS
from cnnformance.reports import records

ROOT = Path(cnnformance.__file__).resolve().parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| word ", "| --- "))
]
"""Of each entry the word, what it means, and where."""

NAMES = {
    "verdict": set(records.VERDICTS),
    "effect": set(get_args(records.Effect)),
    "level": set(LEVELS),
    "profile": set(PROFILES),
    "regime": {*REGIMES, "ends", "given"},
    "grade": set(records.GRADES),
}


@pytest.mark.parametrize("group", NAMES)
def test_every_name_of_a_group_is_explained_and_no_other(group: str) -> None:
    pattern = re.compile(rf"`(.+)` \({group}\)")
    assert NAMES[group] == {found[1] for word, *_ in ROWS if (found := pattern.fullmatch(word))}


def test_entries_are_in_order_and_each_is_one_sentence() -> None:
    words = [word.replace("`", "").casefold() for word, *_ in ROWS]
    assert words == sorted(words)
    assert len(set(words)) == len(words)
    for word, meaning, _ in ROWS:
        assert re.fullmatch(r"[^.]*([`.][^.\s][^.]*)*\.", meaning), word
        assert meaning[0].isupper() or meaning[0].isdigit(), word


def test_every_place_exists() -> None:
    for word, _, where in ROWS:
        places = re.findall(r"`([^`]+)`", where)
        assert places, word
        for place in places:
            assert list(ROOT.glob(place)), f"{word}: there is no {place}"
