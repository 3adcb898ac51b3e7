"""A record that was written with the effects' names of before is read with those of today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from cnnformance.reports import records
from cnnformance.reports.renamed import EFFECTS, current

DIVERGENCE = records.Divergence(
    id="mine.nan", kind="open", layers=("ReLU",), effects=("value",), when="has_nan", modes=(),
    versions="", says="It drops a NaN.", link="", seen="2026-01-02",
)  # fmt: skip
HEADER = records.Header(
    started="2026-01-02T03:04:05Z", cnnformance="0.1.0", python="3.11.7", numpy="2.4.6",
    platform="Linux", profile="quick", seed=0, planned=1,
    subjects=(records.Subject("mine", "1.0", (DIVERGENCE,)),),
)  # fmt: skip
VERDICT = records.Verdict(
    subject="mine", question="test_relu.py::test", layer="ReLU", clauses=("relu.formula",),
    level="document", dtype="float32", verdict="fail", failure=records.Failure("value"),
    others=(records.Failure("law"),),
)  # fmt: skip


def test_names_of_before_are_none_of_today() -> None:
    today = set(get_args(records.Effect))
    assert not EFFECTS.keys() & today
    assert set(EFFECTS.values()) <= today


@pytest.mark.parametrize("before", EFFECTS)
def test_a_record_of_before_is_read(before: str, tmp_path: Path) -> None:
    header: Any = records.encode(HEADER)
    header["subjects"][0]["divergences"][0]["effects"] = [before, "law"]
    verdict: Any = records.encode(VERDICT)
    verdict["failure"]["effect"] = verdict["others"][0]["effect"] = before
    path = tmp_path / "verdicts.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in (header, verdict)))
    run = records.read(path)
    assert run.header.subjects[0].divergences[0].effects == (EFFECTS[before], "law")
    (found,) = run.verdicts
    assert found.failure
    assert [found.failure.effect, found.others[0].effect] == [EFFECTS[before]] * 2


@pytest.mark.parametrize("malformed", [
    None, 1, [], {}, {"record": "verdict"}, {"record": "verdict", "failure": 1, "others": 2},
    {"record": "verdict", "failure": {"effect": ["special"]}, "others": [3]},
    {"record": "header", "subjects": [1, {"divergences": [2, {"effects": 3}, {"effects": [[]]}]}]},
])  # fmt: skip
def test_what_is_malformed_is_left_to_the_reader(malformed: Any) -> None:
    before = json.dumps(malformed)
    assert json.dumps(current(malformed)) == before
