"""What is chosen of a run is shown as it is in the whole, and said to be a part."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import failure, run, verdict, write

from cnnformance.__main__ import main
from cnnformance.pytest_options import LEVELS
from cnnformance.reports import brief, causes, render, selection
from cnnformance.reports.places import RecordError
from cnnformance.reports.records import Run, Trait, Verdict
from cnnformance.spec.layers import Dense, ReLU


def _fails(dtype: str, layer: str, question: str, **changes: Any) -> Verdict:
    shown = failure(Dense(1, 1) if layer == "Dense" else ReLU(), [[1.0]], (0, 0))
    shown = replace(shown, case={**(shown.case or {}), "dtype": dtype})
    return verdict("fail", layer=layer, dtype=dtype, question=question, failure=shown, **changes)


def _whole() -> Run:
    """Return a run of two subjects: one fails ReLU in float16 alone, and Dense; the other none."""
    asked = [
        _fails("float16", "ReLU", "relu[float16]"),
        verdict(layer="ReLU", question="relu[float32]"),
        _fails("float32", "Dense", "dense[float32]"),
        verdict(layer="Dense", subject="jax", question="dense[float32]"),
        verdict("known", layer="ReLU", subject="jax", question="relu[float32]", known=("jax.a",)),
    ]
    traits = (
        Trait("torch", "gradient of ReLU at zero", "0", {"at": "float32"}),
        Trait("torch", "empty batch", "answered", {"at": "Dense, Dense(in_features=1)"}),
        Trait("jax", "empty batch", "refused", {"at": "ReLU, ReLU()"}),
    )
    return run(*asked, traits=traits)


def test_nothing_chosen_is_the_run_itself() -> None:
    made = _whole()
    assert selection.part(made) is made


def test_a_subject_and_a_layer_are_chosen() -> None:
    made = _whole()
    torch = selection.part(made, ["torch"])
    assert torch.subjects == ("torch",)
    assert len(torch.verdicts) == 3
    assert not torch.partial
    relu = selection.part(made, (), ["ReLU"])
    assert {v.layer for v in relu.verdicts} == {"ReLU"}
    assert [t.trait for t in relu.traits] == ["gradient of ReLU at zero", "empty batch"]
    assert [t.subject for t in relu.traits] == ["torch", "jax"]
    both = selection.part(made, ["jax"], ["Dense"])
    assert [(v.subject, v.layer) for v in both.verdicts] == [("jax", "Dense")]


def test_a_finding_is_told_as_in_the_whole_run() -> None:
    made = _whole()
    first, second = causes.findings(made)
    assert (first.layer, first.where) == ("ReLU", ("dtype == float16",))
    chosen = selection.part(made, finding=1)
    assert causes.findings(chosen) == [first]
    assert [v.question for v in chosen.verdicts] == ["relu[float16]"]
    assert causes.findings(selection.part(made, layers=["Dense"], finding=1)) == [second]
    assert causes.findings(selection.part(made, failures=True)) == [first, second]
    assert causes.findings(selection.part(made, ["jax"])) == []
    assert [v.verdict for v in selection.part(made, failures=True).verdicts] == ["fail"] * 2


def test_of_a_verdict_with_two_causes_one_is_told() -> None:
    other = failure(Dense(1, 1), [[1.0]], (0, 0), message="another")
    both = _fails("float32", "ReLU", "both", others=(other,))
    made = run(both)
    assert [f.layer for f in causes.findings(made)] == ["ReLU", "Dense"]
    for number, layer in enumerate(["ReLU", "Dense"], start=1):
        chosen = selection.part(made, finding=number)
        assert [f.layer for f in causes.findings(chosen)] == [layer]
        assert chosen.verdicts == (both,)


@pytest.mark.parametrize("form", render.FORMATS)
def test_each_report_says_that_it_is_a_part(form: str) -> None:
    text = render.render(selection.part(_whole(), ["torch"], ["ReLU"]), form)
    assert "SHOWN IN PART: subject torch; layer ReLU: 2 of 5 verdicts" in text
    assert "jax" not in text.replace("jax.numpy", "")


def test_what_is_missing_of_a_killed_run_stays_missing() -> None:
    made = _whole()
    cut = replace(made, header=replace(made.header, planned=9), footer=None)
    chosen = selection.part(cut, failures=True)
    assert chosen.header.planned - chosen.recorded == 4
    assert "PARTIAL: 2 of 6" in brief.banner(chosen)
    absent = replace(made, verdicts=made.verdicts[:3], traits=made.traits[:2])
    assert selection.part(absent, failures=True).missing == ("jax",)


def test_what_is_not_there_is_refused_with_what_is() -> None:
    made = _whole()
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"subjects": ["troch"]}, r"no subject 'troch' in this run; did you mean torch\?"),
        ({"layers": ["relu"]}, r"no layer 'relu' in this run; did you mean ReLU\?"),
        ({"layers": ["zz"]}, "no layer 'zz' in this run; there are ReLU, Dense"),
        ({"finding": 3}, "no finding 3; there are 1 to 2"),
        ({"finding": 0}, "no finding 0; there are 1 to 2"),
        ({"finding": 1, "subjects": ["jax"]}, "no finding 1; there is none here"),
    )
    for chosen, said in refused:
        with pytest.raises(RecordError, match=said):
            selection.part(made, **chosen)


def test_the_command_line_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = _whole()
    write(tmp_path / ".cnnformance/a/verdicts.jsonl", replace(made, footer=None))
    assert main(["report", "latest", "--subject", "torch", "--finding", "2"]) == 0
    text = capsys.readouterr().out
    assert "\nfail: torch Dense" in text
    assert "    finding   1\n" in text
    assert "relu" not in text
    assert main(["report", "--failures", "--layer", "ReLU", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [v["question"] for v in data["failures"]] == ["relu[float16]"]
    assert main(["report", "--layer", "Relu"]) == 2
    assert "did you mean ReLU?" in capsys.readouterr().err


def test_clauses_are_chosen_by_level_and_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: str) -> list[dict[str, str]]:
        assert main(["clauses", "--format", "json", *arguments]) == 0
        found: list[dict[str, str]] = json.loads(capsys.readouterr().out)
        return found

    everything = told()
    by_level = [told("--level", level) for level in LEVELS]
    assert all(by_level)
    assert sum(map(len, by_level)) == len(everything)
    assert len(told("--level", LEVELS[0], "--level", LEVELS[1])) == len(by_level[0] + by_level[1])
    (clause,) = told("--grep", r"^RELU\.formula$")
    assert clause["clause"] == "relu.formula"
    assert clause["level"] == "semantics"
    assert told("--grep", "no such thing") == []
    assert main(["clauses", "--grep", "relu.formula"]) == 0
    assert len(capsys.readouterr().out.splitlines()) < 6
    assert main(["clauses", "--grep", "("]) == 2
    assert "--grep (: " in capsys.readouterr().err
