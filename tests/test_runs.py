"""Runs are found by name and age, listed, and compared; a comparison fails where it is told to."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from made import run, verdict, write

from cnnformance.__main__ import main
from cnnformance.reports import diff, listing
from cnnformance.reports.places import RecordError, resolve
from cnnformance.reports.records import Failure, Run, Subject, Trait, VerdictName

HOSTILE = "<b>|x|</b>\n=1+1\n::error::x\x1b[31m`y`"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give tables the room that they need on a line; xdist's processes have 80 columns."""
    monkeypatch.setenv("COLUMNS", "120")


def aged(path: Path, made: Run, age: int = 0) -> Path:
    write(path, made)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory: of three runs the newest fails, and the oldest is partial."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / ".cnnformance"
    aged(place / "20260103-1" / "verdicts.jsonl", run(verdict("fail")))
    aged(place / "20260102-1" / "verdicts.jsonl", run(verdict()), age=10)
    aged(place / "20260101-1" / "verdicts.jsonl", replace(run(verdict()), footer=None), age=20)
    return tmp_path


def _out(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    try:
        left = main(list(arguments))
    except SystemExit as error:
        left = int(error.code or 0)
    out, err = capsys.readouterr()
    assert left == status, err
    assert err.count("\n") == (status == 2)
    return out + err


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        (None, "20260103-1"),
        ("latest", "20260103-1"),
        ("previous", "20260102-1"),
        ("20260101-1", "20260101-1"),
        ("20260101", "20260101-1"),
        (".cnnformance/20260102-1", "20260102-1"),
        (".", "20260103-1"),
    ],
)
def test_a_run_is_found(argument: str | None, name: str, here: Path) -> None:
    assert resolve(argument, here).parent.name == name


def test_a_word_is_no_folder_and_a_whole_name_no_beginning(here: Path) -> None:
    aged(here / "latest" / "verdicts.jsonl", run(verdict()), age=30)
    aged(here / ".cnnformance" / "20260101" / "verdicts.jsonl", run(verdict()), age=30)
    assert resolve("latest", here).parent.name == "20260103-1"
    assert resolve("./latest", here) == here / "latest/verdicts.jsonl"
    assert resolve("20260101", here).parent.name == "20260101"


def test_a_name_of_none_or_of_many_is_refused(here: Path) -> None:
    with pytest.raises(RecordError, match="3 runs begin so; name one: 20260103-1, 20260102-1, "):
        resolve("2026", here)
    with pytest.raises(RecordError, match=r"no run of this name; did you mean previous\?"):
        resolve("previuos", here)
    with pytest.raises(RecordError, match=r"did you mean 20260103-1\?"):
        resolve("20260103-2", here)
    with pytest.raises(RecordError, match="no run under"):
        resolve("latest", here / "absent")
    (here / ".cnnformance/20260102-1/verdicts.jsonl").unlink()
    (here / ".cnnformance/20260101-1/verdicts.jsonl").unlink()
    with pytest.raises(RecordError, match="no second run under"):
        resolve("previous", here)


# --- the list --------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_runs_are_listed_the_newest_first(capsys: pytest.CaptureFixture[str]) -> None:
    spoilt = Path(".cnnformance/20260102-1/verdicts.jsonl")
    spoilt.write_text("nonsense\n")
    os.utime(spoilt, (1e9 - 10, 1e9 - 10))
    lines = _out(capsys, 0, "runs").splitlines()[4:]
    names = [line.split()[0] for line in lines if line.startswith("2026")]
    assert names == ["20260103-1", "20260102-1", "20260101-1"]
    assert re.search(r"2026-01-02 03:04:05 +torch 1.0 +quick +1 fail +complete", lines[0])
    told = json.loads(_out(capsys, 0, "runs", "--format", "json"))
    assert [each["complete"] for each in told] == [True, False, False]
    assert [each["verdicts"] for each in told] == [{"fail": 1}, {}, {"pass": 1}]
    assert told[1]["state"].startswith("line 1: ")
    assert told[2]["state"].startswith("PARTIAL: ")
    assert "no run under" in _out(capsys, 2, "runs", "absent")


def test_what_a_run_says_of_itself_stays_text_in_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = run(verdict(subject=HOSTILE), head=(Subject(HOSTILE, HOSTILE),))
    made = replace(made, header=replace(made.header, profile=HOSTILE, started=HOSTILE))
    aged(tmp_path / ".cnnformance" / "a" / "verdicts.jsonl", made)
    (row,) = _out(capsys, 0, "runs", "--format", "markdown").splitlines()[4:]
    assert "<b>" not in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 7
    assert "\x1b" not in _out(capsys, 0, "runs")
    (listed,) = listing.runs(tmp_path)
    assert "\x1b" not in "".join(cell.text for cell in listing.table([listed]).rows[0])


# --- comparisons -----------------------------------------------------------------------------


def _fails(first: Run, second: Run) -> list[str]:
    found = diff.compare(first, second)
    return [word for word in ("new", "changed", "any") if found.fails(word)]


def test_a_comparison_fails_on_what_it_is_told_to() -> None:
    passed, failed, known = (run(verdict(name)) for name in ("pass", "fail", "known"))
    assert _fails(passed, failed) == ["new", "changed", "any"]
    assert _fails(known, failed) == ["new", "changed", "any"]
    assert _fails(failed, passed) == ["changed", "any"]
    assert _fails(passed, known) == ["changed", "any"]
    assert _fails(failed, failed) == _fails(passed, passed) == []
    trait = [Trait("torch", "a", value, {}) for value in ("x", "y")]
    assert _fails(run(verdict(), traits=(trait[0],)), run(verdict(), traits=(trait[1],))) == ["any"]
    assert _fails(run(verdict(grade="half")), run(verdict(grade="float32"))) == ["any"]


def test_a_failure_of_what_is_asked_for_the_first_time_is_new() -> None:
    old = run(verdict())
    more = verdict(question="q2"), verdict("crash", question="q3"), verdict("crash", subject="jax")
    found = diff.compare(old, run(verdict(), *more))
    assert found.fails("new")
    assert [v.subject for v in found.appeared] == ["torch", "jax"]
    assert "Failures of what the second run alone asked" in diff.text(found)
    assert _fails(old, run(verdict(), more[0])) == ["any"]


def test_a_run_that_was_cut_is_no_clean_bill() -> None:
    whole = run(verdict(), verdict(question="q2"))
    cut = replace(run(verdict()), footer=None)
    assert _fails(whole, cut) == ["new", "changed", "any"]
    assert _fails(cut, cut) == []


def test_another_effect_or_divergence_of_one_subject_is_a_change() -> None:
    shape, value = (verdict("fail", failure=Failure(effect)) for effect in ("shape", "value"))
    (change,) = diff.compare(run(shape), run(value)).changes
    assert change.kind == "changed"
    first, second = (run(verdict("known", known=(name,))) for name in ("torch.a", "torch.b"))
    text = diff.text(diff.compare(first, second))
    assert "known (torch.a)" in text
    other = run(verdict("known", known=("jax.b",), subject="jax"))
    assert diff.compare(first, other).changes == ()


def test_two_frameworks_differ_and_do_not_regress() -> None:
    pairs: list[tuple[VerdictName, VerdictName]] = [
        ("pass", "fail"),
        ("fail", "pass"),
        ("pass", "unsupported"),
    ]
    first = run(*(verdict(a, question=f"q{n}") for n, (a, _) in enumerate(pairs)))
    second = [verdict(b, question=f"q{n}") for n, (_, b) in enumerate(pairs)]
    kinds = {"regression": 1, "repair": 1, "changed": 1}
    alike = diff.compare(first, run(*second))
    assert {c.kind: 1 for c in alike.changes} == kinds
    other = diff.compare(first, run(*(replace(v, subject="jax") for v in second)))
    assert [c.kind for c in other.changes] == ["second fails", "differs", "first fails"]
    text = diff.text(other)
    assert "regression" not in text
    assert "repair" not in text
    assert "torch / jax: 1 where the second alone fails, 1 where the first alone fails" in text


def test_what_was_not_alike_in_two_runs_is_said() -> None:
    first = run(verdict(), head=(Subject("torch", "2.12"),))
    second = run(verdict(), head=(Subject("torch", "2.13"),))
    head = replace(second.header, profile="default", seed=1, cnnformance="0.2.0", platform="Mac")
    said = diff.text(diff.compare(first, replace(second, header=head)))
    for told in (
        "profiles differ: quick, then default",
        "seeds differ: 0, then 1",
        "versions of cnnformance differ: 0.1.0, then 0.2.0",
        "platforms differ: Linux, then Mac",
        "torch: version 2.12, then 2.13",
    ):
        assert told in said
    assert "then" not in diff.text(diff.compare(first, first))


def test_what_runs_say_of_themselves_stays_text_in_a_comparison() -> None:
    first = run(verdict(subject=HOSTILE), head=(Subject(HOSTILE, HOSTILE), Subject("<i>", "")))
    head = replace(first.header, profile=HOSTILE, platform=HOSTILE, cnnformance=HOSTILE)
    second = run(verdict("fail", subject=HOSTILE, question=HOSTILE, message=HOSTILE))
    second = replace(second, header=replace(head, subjects=first.header.subjects), footer=None)
    text = diff.text(diff.compare(first, second), "markdown")
    assert "<b>" not in text
    assert "<i>" not in text
    assert "\n::error" not in text
    assert "\n=1" not in diff.text(diff.compare(first, second)).partition("Failures of")[0]


@pytest.mark.usefixtures("here")
def test_the_exit_status_of_a_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 regression" in _out(capsys, 0, "diff", "previous", "latest")
    for word in ("new", "changed", "any"):
        assert "1 regression" in _out(capsys, 1, "diff", "previous", "latest", "--fail-on", word)
    assert "1 repair" in _out(capsys, 0, "diff", "latest", "previous", "--fail-on", "new")
    _out(capsys, 1, "diff", "previous", "20260101", "--fail-on", "new")
    assert "did you mean any?" in _out(capsys, 2, "diff", "a", "b", "--fail-on", "ani")
    said = _out(capsys, 2, "diff", "latest", "--between", "troch", "torch")
    assert "no subject 'troch'; did you mean torch?" in said


# --- words that are not known ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dif", "a"], "no dif; did you mean diff?"),
        (["report", "--format", "jsn"], "no jsn; did you mean json?"),
        (["zzz"], "there are backends, try"),
        (["diff"], "required: OLD"),
        (["report", "--x\n--y"], "unrecognized arguments: --x --y"),
    ],
)
def test_a_misspelt_word_is_told_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in _out(capsys, 2, *arguments)
