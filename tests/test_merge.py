"""Records of several machines make one run, which is whole only if all of it was asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import run, verdict, write

import cnnformance
from cnnformance.__main__ import main
from cnnformance.conformance import question_order
from cnnformance.reports import brief, merge, records
from cnnformance.reports.places import RecordError
from cnnformance.reports.records import Run, Subject, Trait, Verdict

ROOT = Path(cnnformance.__file__).resolve().parents[1]


def _part(name: str, *verdicts: Verdict, traits: Sequence[Trait] = (), **header: Any) -> Run:
    made = run(*verdicts, traits=tuple(traits))
    head = replace(made.header, subjects=(Subject("torch", "1.0"),))
    return replace(made, path=Path(name), header=replace(head, **header))


def _asked(*names: str) -> list[Verdict]:
    return [verdict(question=name) for name in names]


def _shard(number: int, *names: str, count: int = 2, **header: Any) -> Run:
    shards = (f"{number}/{count}",)
    return _part(f"s{number}.jsonl", *_asked(*names), shards=shards, **header)


# --- what a whole run is ---------------------------------------------------------------------


def test_all_shards_make_a_whole_run() -> None:
    first, second = (
        _shard(1, "q1", "q3", platform="A"),
        _shard(2, "q2", platform="B", python="3.13"),
    )
    assert first.partial
    assert "SHARD 1/2 ALONE" in brief.banner(first)
    found = merge.merge([first, second])
    assert found.contradictions == ()
    assert {v.question for v in found.run.verdicts} == {"q1", "q2", "q3"}
    header = found.run.header
    assert (header.planned, header.shards, header.platform) == (3, (), "A; B")
    assert header.python == "3.11.7; 3.13"
    assert not found.run.partial
    assert brief.banner(found.run) == ""


def test_a_shard_that_is_missing_or_cut_is_told() -> None:
    one, two = _shard(1, "q1", count=3), _shard(2, "q2", count=3)
    found = merge.merge([one, two]).run
    assert found.partial
    assert "SHARD 1/3, 2/3 ALONE" in brief.banner(found)
    third = replace(_shard(3, "q3", count=3, planned=2), footer=None)
    found = merge.merge([one, two, third]).run
    assert (found.header.shards, found.header.planned, found.footer) == ((), 4, None)
    assert "PARTIAL: 3 of 4" in brief.banner(found)
    again = replace(_shard(3, "q3", "q4", count=3), path=Path("again.jsonl"))
    found = merge.merge([one, two, third, again]).run
    assert not found.partial
    assert (found.header.planned, found.recorded) == (4, 4)


def test_another_selection_covers_nothing() -> None:
    cut = replace(_part("a", *_asked("q1"), planned=2), footer=None)
    other = _part("b", *_asked("q1", "q3", "q4"))
    found = merge.merge([cut, other]).run
    assert found.partial
    assert found.header.planned == 4
    more = replace(_part("c", *_asked("q1", "q9"), planned=3), footer=None)
    found = merge.merge([more, other]).run
    assert found.partial
    assert found.header.planned == 5


def test_merged_records_are_merged_again(tmp_path: Path) -> None:
    parts = [_shard(n, f"q{n}", count=3) for n in (1, 2, 3)]
    path = tmp_path / "two.jsonl"
    path.write_text("".join(merge.merge(parts[:2]).lines()))
    two = records.read(path)
    assert two.header.shards == ("1/3", "2/3")
    whole = merge.merge([parts[2], two]).run
    assert not whole.partial
    assert whole.recorded == 3


# --- contradictions --------------------------------------------------------------------------


def test_the_worse_of_two_verdicts_is_kept_and_told() -> None:
    a, b = _part("a", verdict()), _part("b", verdict("fail"))
    for both in ([a, b], [b, a]):
        found = merge.merge(both)
        assert [v.verdict for v in found.run.verdicts] == ["fail"]
        (said,) = found.contradictions
        assert "fail in b" in said
        assert "pass of 10 cases in a" in said


def test_a_question_that_was_not_run_contradicts_nothing() -> None:
    a, b = _part("a", verdict("not-run")), _part("b", verdict("pass"))
    for both in ([a, b], [b, a]):
        found = merge.merge(both)
        assert found.contradictions == ()
        assert [v.verdict for v in found.run.verdicts] == ["pass"]


def test_another_number_of_cases_is_a_contradiction() -> None:
    a, b = _part("a", verdict()), _part("b", verdict(examples=9, planned=9))
    assert "of 10 cases in a" in merge.merge([a, b]).contradictions[0]
    assert merge.merge([a, b]).run.verdicts[0].examples == 10
    assert merge.merge([a, _part("b", verdict(seconds=3.0))]).contradictions == ()


def test_traits_of_one_question_are_kept_once_and_must_agree() -> None:
    x, y = (Trait("torch", "t", value, {"at": "p"}) for value in "xy")
    same = merge.merge([_part("a", verdict(), traits=[x, x]), _part("b", verdict(), traits=[x])])
    assert (same.run.traits, same.contradictions) == ((x, x), ())
    torn = merge.merge([_part("a", verdict(), traits=[x]), _part("b", verdict(), traits=[y])])
    assert torn.run.traits == (x, y)
    assert torn.contradictions == ("torch, t: x in a, y in b",)
    both = merge.merge([_part("a", verdict(), traits=[x, y]), _part("b", verdict(), traits=[y])])
    assert (both.run.traits, both.contradictions) == ((x, y), ())
    apart = [_part(q, *_asked(q), traits=[t]) for q, t in (("q1", x), ("q2", x), ("q3", y))]
    found = merge.merge(apart)
    assert (found.run.traits, found.contradictions) == ((x, x, y), ())


# --- what is refused -------------------------------------------------------------------------


def test_what_was_asked_otherwise_is_not_joined() -> None:
    first = _shard(1, "q1")
    other = replace(_shard(2, "q2"), path=Path("other"))
    head = other.header
    refused = {
        "profile": replace(head, profile="default"),
        "seed": replace(head, seed=1),
        "version of cnnformance": replace(head, cnnformance="0.2.0"),
        "torch is 1.0 in s1.jsonl, 2.0 in other": replace(
            head, subjects=(Subject("torch", "2.0"),)
        ),
        "same --backend": replace(head, subjects=(Subject("jax", "1.0"),)),
        "same number": replace(head, shards=("2/3",)),
    }
    for said, header in refused.items():
        with pytest.raises(RecordError, match=said):
            merge.merge([first, replace(other, header=header)])
    with pytest.raises(RecordError, match="both hold q1; ask each with the same options"):
        merge.merge([first, _shard(2, "q1")])
    for runs in ([], [first], [first, first]):
        with pytest.raises(RecordError, match="two records or more, each named once"):
            merge.merge(runs)


# --- the command -----------------------------------------------------------------------------


def test_the_command_joins_tells_and_spares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a.jsonl"), _shard(1, "q1"))
    write(Path("b.jsonl"), _shard(2, "q2"))
    assert main(["merge", "a.jsonl", "b.jsonl", "--output", "new/all.jsonl"]) == 0
    assert "2 pass" in capsys.readouterr().out
    assert not records.read(Path("new/all.jsonl")).partial
    write(Path("c.jsonl"), _part("c", verdict("crash", question="q1", message="\x1b[31m\nx")))
    assert main(["merge", "new/all.jsonl", "c.jsonl", "--output", "all2.jsonl"]) == 1
    (line,) = [t for t in capsys.readouterr().out.splitlines() if t.startswith("contradiction: ")]
    assert line.startswith("contradiction: torch, q1: pass of 10 cases in ")
    before = Path("a.jsonl").read_bytes()
    Path("notes.txt").write_text("mine")
    for output, said in (
        (["--output", "a.jsonl"], "one of the records; name another file"),
        (["--output", "notes.txt"], "this is no record; name a new file"),
        (["--output", "."], "Is a directory"),
        ([], "merge needs --output FILE"),
    ):
        assert main(["merge", "a.jsonl", "b.jsonl", *output]) == 2
        assert said in capsys.readouterr().err
    assert Path("a.jsonl").read_bytes() == before
    assert Path("notes.txt").read_text() == "mine"


# --- shards ----------------------------------------------------------------------------------


def test_questions_are_dealt_evenly_and_by_subject() -> None:
    alone = list(question_order.dealt(["a"] * 10, 3))
    assert alone == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1]
    mixed = list(question_order.dealt(["b"] * 4 + ["a"] * 10 + ["b"], 3))
    assert mixed[4:14] == alone
    assert mixed[14] == 2


def _asks(folder: Path, record: str, *options: str) -> Run:
    command = [sys.executable, "-m", "pytest", str(ROOT / "conformance"), "--rootdir", str(ROOT)]
    command += ["--backend=numpy", "--profile=quick", f"--record={record}", "-k", "ReLU", *options]
    done = subprocess.run(  # noqa: S603 - our own words
        [*command, "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return records.read(folder / record)


def test_three_shards_are_one_whole_run(tmp_path: Path) -> None:
    whole = _asks(tmp_path, "whole")
    parts = [_asks(tmp_path, f"part{n}", "--shard", f"{n}/3") for n in (1, 2, 3)]
    sizes = [len(part.verdicts) for part in parts]
    assert sum(sizes) == len(whole.verdicts) > 20
    assert max(sizes) - min(sizes) <= 1
    assert [part.header.shards for part in parts] == [("1/3",), ("2/3",), ("3/3",)]
    found = merge.merge(parts)
    assert found.contradictions == ()
    assert not found.run.partial
    assert found.run.header.planned == whole.header.planned

    def answers(made: Run) -> set[tuple[Any, ...]]:
        return {(v.question, v.verdict, v.examples, v.planned, v.share) for v in made.verdicts}

    def traits(made: Run) -> list[str]:
        return sorted(json.dumps(records.encode(trait)) for trait in made.traits)

    assert answers(found.run) == answers(whole)
    assert traits(found.run) == traits(whole)


@pytest.mark.parametrize("wrong", ["0/3", "4/3", "3", "1/0", "a/b", "-1/3", "1/3/3"])
def test_a_shard_that_is_none_is_refused(wrong: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", str(ROOT / "conformance"), f"--shard={wrong}"]
    done = subprocess.run(  # noqa: S603 - our own words
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "is no part such as 3/8" in done.stderr
