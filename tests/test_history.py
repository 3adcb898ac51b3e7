"""A history says where something appeared and went, and only what answers show."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import failure, run, verdict, write
from test_environments import cache, tiny

from cnnformance.__main__ import main
from cnnformance.conformance.recognition import recognised
from cnnformance.reports import history, records
from cnnformance.reports.history import Seen, State
from cnnformance.reports.history_render import FORMATS
from cnnformance.reports.records import Divergence, Failure, Run, Subject, VerdictName
from cnnformance.spec.layers import MaxPool

__all__ = ["cache", "tiny"]  # fixtures, which are found by their names here

HOSTILE = "<b>|x|</b>\n=1+1\n::error::x\x1b[31m`y`"
VERSIONS = ("1.0", "1.1", "1.10", "2.0")


def cells(states: str) -> list[Seen]:
    """Return cells: ``+`` seen, ``-`` absent, ``?`` unknown."""
    words: dict[str, State] = {"+": "seen", "-": "absent", "?": "unknown"}
    return [Seen(words[state]) for state in states]


@pytest.mark.parametrize(
    ("states", "change", "bounds"),
    [
        ("++++", "in all", ""),
        ("+?++", "in all that show it", ""),
        ("--++", "appeared in 1.10", ">=1.10"),
        ("-?++", "appeared in 1.10, or after 1.0", ">=1.10"),
        ("++--", "gone since 1.10", "<1.10"),
        ("+??-", "gone since 2.0, or after 1.0", "<2.0"),
        ("-+-+", "appeared in 1.1; gone since 1.10; appeared in 2.0", ">=1.1,<1.10; >=2.0"),
        ("+-+-", "gone since 1.1; appeared in 1.10; gone since 2.0", "<1.1; >=1.10,<2.0"),
        ("?+--", "gone since 1.10", "<1.10"),
        ("-+??", "appeared in 1.1", ">=1.1"),
    ],
)
def test_where_something_appeared_and_went(states: str, change: str, bounds: str) -> None:
    assert history.change(cells(states), VERSIONS) == change
    assert history.bounds(cells(states), VERSIONS) == bounds


def wrong(x: float = 1.0, **changes: object) -> Failure:
    shown = failure(MaxPool((1,)), np.full((1, 1, 1), x), (0, 0, 0), reason="not-equal")
    return replace(shown, **changes)  # type: ignore[arg-type] # as the fields


def answers(*fallen: VerdictName, layer: str = "MaxPool", question: str = "q") -> Run:
    """Return a run in which each version has one verdict on a question."""
    verdicts = [
        verdict(
            name,
            subject=f"torch=={version}",
            layer=layer,
            question=question,
            failure=wrong() if name == "fail" else None,
            message="wrong" if name == "fail" else "",
        )
        for name, version in zip(fallen, VERSIONS, strict=False)
    ]
    return run(*verdicts, head=tuple(Subject(f"torch=={v}", v) for v in VERSIONS[: len(fallen)]))


@pytest.mark.parametrize(
    ("other", "state", "why"),
    [
        ("pass", "absent", ""),
        ("known", "absent", ""),
        ("unsupported", "unknown", "unsupported"),
        ("not-run", "unknown", "not-run"),
        ("crash", "unknown", "fails otherwise"),
    ],
)
def test_what_is_absent_is_so_by_an_answer(other: VerdictName, state: str, why: str) -> None:
    found = history.history("torch", VERSIONS[:2], answers("fail", other))
    row = next(row for row in found.rows if row.verdict == "fail")
    assert row.id == "MaxPool, value"
    assert [cell.state for cell in row.cells] == ["seen", state]
    assert row.cells[1].why == why
    assert row.changed is (state == "absent")


def test_what_was_not_asked_is_unknown() -> None:
    made = answers("fail", "pass")
    made = replace(made, verdicts=made.verdicts[:1])
    (row,) = history.history("torch", VERSIONS[:2], made).rows
    assert (row.cells[1].state, row.cells[1].why) == ("unknown", "not asked")


def test_one_cause_in_several_versions_is_one_row_and_changes_come_first() -> None:
    one = answers("fail", "fail", "fail")
    two = answers("fail", "fail", "pass", layer="Dense", question="d")
    both = replace(one, verdicts=(*two.verdicts, *one.verdicts))
    rows = history.history("torch", VERSIONS[:3], both).rows
    assert [(row.layers, row.change) for row in rows] == [
        (("Dense",), "gone since 1.10"),
        (("MaxPool",), "in all"),
    ]


DIVERGENCE = Divergence(
    "torch.ones", "fault", ("MaxPool",), ("value",), "expected == 1.0", (), ">=2", "Ones.",
    "https://example.org", "2026-11-22",
)  # fmt: skip


def test_a_divergence_is_recognised_in_versions_that_it_is_not_recorded_for() -> None:
    found = recognised(answers("fail", "pass", "fail", "pass"), [DIVERGENCE], "")
    assert [v.verdict for v in found.verdicts] == ["known", "pass", "known", "pass"]
    assert found.verdicts[0].known == ("torch.ones",)
    (row,) = history.history("torch", VERSIONS, found).rows
    assert row.entry == DIVERGENCE
    assert row.versions == "<1.1; >=1.10,<2.0"


def test_other_failures_of_a_verdict_stay() -> None:
    other = wrong(2.0, effect="shape", expected="", message="another shape")
    (one,) = answers("fail").verdicts
    for held in (replace(one, others=(other,)), replace(one, failure=other, others=(wrong(),))):
        (left,) = recognised(run(held), [DIVERGENCE], "").verdicts
        assert (left.verdict, left.known, left.others) == ("fail", ("torch.ones",), ())
        assert left.failure
        assert (left.failure.effect, left.message) == ("shape", "another shape")


def test_a_divergence_of_another_mode_explains_nothing() -> None:
    entry = replace(DIVERGENCE, modes=("compile",))
    assert recognised(answers("fail"), [entry], "").verdicts[0].verdict == "fail"
    assert recognised(answers("fail"), [entry], "compile").verdicts[0].verdict == "known"


# --- formats ---------------------------------------------------------------------------------


def _past() -> history.History:
    made = answers("fail", "pass", "unsupported")
    return history.history("torch", VERSIONS[:3], made)


def test_each_format_says_what_changed() -> None:
    for name, show in FORMATS.items():
        assert "gone since 1.1" in show(_past()), name
    data = json.loads(FORMATS["json"](_past()))
    (row,) = data["rows"]
    assert (row["change"], row["versions"]) == ("gone since 1.1", "<1.1")
    assert row["seen"]["1.10"] == {"state": "unknown", "questions": [], "why": "unsupported"}
    lines = list(csv.reader(io.StringIO(FORMATS["csv"](_past()))))
    assert lines[0] == ["what", *VERSIONS[:3], "change", "recorded for", "versions", "says"]
    found = ["1", "no", "? unsupported", "gone since 1.1", "", "<1.1", "wrong"]
    assert lines[1] == ["MaxPool, value", *found]
    assert "1 of 1 changed over 3 versions" in FORMATS["table"](_past())


def test_the_page_shows_the_history_beside_the_report() -> None:
    text = FORMATS["html"](_past())
    assert 'id="history"' in text
    assert "What came and went" in text
    assert 'href="#findings?subject=torch%3D%3D1.0&amp;layer=MaxPool"' in text
    known = recognised(answers("fail", "pass"), [DIVERGENCE], "")
    text = FORMATS["html"](history.history("torch", VERSIONS[:2], known))
    assert 'href="#divergence-torch-1-0-torch-ones"' in text
    assert 'id="divergence-torch-1-0-torch-ones"' in text


def test_hostile_text_stays_text() -> None:
    made = answers("fail")
    (one,) = made.verdicts
    made = replace(made, verdicts=(replace(one, message=HOSTILE, layer=HOSTILE),))
    found = history.history(HOSTILE, (HOSTILE,), made)
    for name in ("markdown", "html"):
        text = FORMATS[name](found)
        assert "<b>|" not in text
        assert "\x1b" not in text
    assert not any(cell.startswith("=") for cell in FORMATS["csv"](found).split(","))
    assert "\n::error" not in FORMATS["markdown"](found)


# --- the command -----------------------------------------------------------------------------


def out(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    assert main(["history", *arguments]) == status
    return "".join(capsys.readouterr())


def recorded(folder: Path, name: str, *parts: tuple[str, str, VerdictName], **changes: str) -> str:
    """Write the record of subjects at versions, each with one verdict; return its path."""
    verdicts = [
        verdict(fallen, subject=subject, failure=wrong() if fallen == "fail" else None)
        for subject, _, fallen in parts
    ]
    made = run(*verdicts, head=tuple(Subject(subject, version) for subject, version, _ in parts))
    made = replace(made, header=replace(made.header, **changes))  # type: ignore[arg-type] # texts
    return str(write(folder / f"{name}.jsonl", made))


def test_records_that_exist_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = ("torch==2.1", "2.1.0"), ("torch", "2.13.0+cpu")
    both = recorded(tmp_path, "both", (*one, "fail"), (*two, "pass"), ("jax", "1", "fail"))
    later = recorded(tmp_path, "later", ("torch", "2.20", "fail"))
    shown = out(capsys, 0, "torch", "--run", later, "--run", both, "--format", "json")
    data = json.loads(shown)
    assert data["versions"] == ["2.1.0", "2.13.0+cpu", "2.20"]
    assert [row["change"] for row in data["rows"]] == ["gone since 2.13.0+cpu; appeared in 2.20"]
    chosen = ("--versions", "2.1,2.13.0", "--format", "json")
    data = json.loads(out(capsys, 0, "torch", "--run", later, "--run", both, *chosen))
    assert data["versions"] == ["2.1.0", "2.13.0+cpu"]
    assert "gone since" in out(capsys, 0, "torch", "--run", both)


def test_what_cannot_be_shown_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = recorded(tmp_path, "one", ("torch", "2.1", "fail"))
    more = recorded(tmp_path, "more", ("torch", "2.2", "fail"), profile="default")
    for arguments, says in (
        (("torch",), "history needs --versions A,B,C, or --run"),
        (("torch", "--versions", "new"), "'new' is no version such as 1.20.0"),
        (("torch==2.1", "--versions", "1"), "name a backend without a version"),
        (("mine.py:Mine", "--versions", "1"), "no backend is called 'mine.py'"),
        (("tocrh", "--versions", "1"), "did you mean torch?"),
        (("jax", "--run", one), "has no subject 'jax'; it has torch"),
        (("torch", "--run", one, "--versions", "2.9"), "no record is of torch 2.9; there are 2.1"),
        (("torch", "--run", one, "--run", more), "only what was asked alike can be joined"),
    ):
        said = out(capsys, 2, *arguments)
        assert says in said
        assert said.count("\n") == 1


def test_versions_are_asked_once_and_kept(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keyword = "ReLU-float32 and not options"
    words = ("tinyworks", "--versions", "2.0,1.0,9.9", "--format", "json", "-k", keyword)
    data = json.loads(_last(out(capsys, 0, *words)))
    assert data["versions"] == ["1.0", "2.0", "9.9"]
    rows = {row["what"]: row for row in data["rows"]}
    row = rows["ReLU, not-finite"]
    assert (row["change"], row["versions"]) == ("gone since 2.0", "<2.0")
    assert row["seen"]["9.9"]["why"] == "not-run"
    assert any("there is no version of tinyworks==9.9" in said for said in data["told"])
    kept = sorted(tiny.glob(".cnnformance/*/verdicts.jsonl"))
    assert [path.parent.name[:-9] for path in kept] == [
        f"tinyworks=={version}-quick-seed-0" for version in ("1.0", "2.0", "9.9")
    ]
    times = [path.stat().st_mtime_ns for path in kept]
    out(capsys, 0, *words)
    again = [path.stat().st_mtime_ns for path in kept]
    assert again[:2] == times[:2]
    assert again[2] > times[2]  # what could not be had is tried again
    assert all(records.read(path).header.subjects for path in kept)


def _last(text: str) -> str:
    return text[text.index('{\n "name"') :]
