"""A first entry of a divergence, made from a failure, explains that failure and is well-formed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import write

from cnnformance.__main__ import main
from cnnformance.adapters.backend import Array
from cnnformance.adapters.registry import Target
from cnnformance.adapters.subject import Subject
from cnnformance.adapters.supervision import Info
from cnnformance.conformance import divergence_entry, divergences
from cnnformance.reports import arrays, records
from cnnformance.spec.layers import LpPool, to_json

LAYER = LpPool((2, 2), (1, 1), "same", p=3)


def failed(**changes: object) -> records.Verdict:
    x = arrays.pack(recording_input())
    case = {"layers": [to_json(LAYER)], "shape": [1, 3, 3, 1], "dtype": "float64"}
    failure = records.Failure(
        "value", case, {"x": x}, (0, 0, 0, 0), "3.0", "4.0", "1e-7", reason="beyond-bound",
        call="forward", message='it says "no"',
    )  # fmt: skip
    made = {"message": 'it says "no"', "failure": failure, **changes}
    return records.Verdict("torch:compile", "t.py::q[1]", "LpPool", (), "document", "float64",
                           "fail", **made)  # type: ignore[arg-type] # fmt: skip # as the fields


def recording_input() -> Array:
    return np.arange(9.0).reshape(1, 3, 3, 1)


def run(*verdicts: records.Verdict) -> records.Run:
    subjects = (records.Subject("torch:compile", "2.13.0+cpu"),)
    head = records.Header("2026-01-02T03:04:05Z", "0", "3", "2", "x", "quick", 0, 1, subjects)
    footer = records.Footer("2026-01-02T03:05:05Z", 1.0, len(verdicts))
    return records.Run(Path("v.jsonl"), head, verdicts, (), footer)


def test_a_first_entry_explains_its_failure_and_no_plainer_one() -> None:
    (text,) = divergence_entry.entries(run(failed()))
    (entry,) = divergences.parse(text, "torch.toml")
    assert entry.modes == ("compile",)
    assert (entry.versions, entry.seen) == (">=2.13.0", "2026-01-02")
    asked = Subject(Target("torch", "x:X", "compile"), info=Info("2.14.0"))
    verdict = failed()
    assert verdict.failure
    failure = divergence_entry.rebuilt(verdict.failure)
    explains = divergences.Divergences((entry,))
    assert explains.match(asked, failure) == entry.id
    failure.layers = (LAYER.replace(padding=()),)
    assert not explains.match(asked, failure)


def test_entries_of_one_run_differ_in_their_ids() -> None:
    first = failed()
    assert first.failure
    other = replace(first.failure, effect="law")
    texts = divergence_entry.entries(run(first, failed(failure=other), failed(failure=other)))
    ids = [entry.id for entry in divergences.parse("\n".join(texts), "torch.toml")]
    assert ids == ["torch.lp-pool-beyond-bound", "torch.lp-pool-beyond-bound-2"]


@pytest.mark.parametrize(
    ("subject", "modes"),
    [
        ("torch:compile", ("compile",)),
        ("onnxruntime==1.20.0:plain@cpu", ("plain",)),
        ("gone/mine.py:Mine:fast", ("fast",)),
        ("gone/mine.py:Mine", ()),
    ],
)
def test_the_mode_is_read_off_a_subject_that_is_not_here(
    subject: str, modes: tuple[str, ...]
) -> None:
    text = divergence_entry.entry(subject, "1.0", "2026-01-02", failed())
    (entry,) = divergences.parse(text, "mine.toml")
    assert entry.modes == modes


@pytest.mark.parametrize("data", [[{}], [10**400]])
def test_an_unreadable_array_is_told(data: object) -> None:
    first = failed()
    assert first.failure
    broken = replace(first.failure, arrays={"x": records.Array("float64", (1,), data)})
    with pytest.raises(ValueError, match="a failure is unreadable"):
        list(divergence_entry.entries(run(failed(failure=broken))))


def test_a_run_without_such_a_failure_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "verdicts.jsonl", run(failed()))
    assert main(["record-divergence", str(path), "--question", "t.py::q[1]"]) == 0
    assert capsys.readouterr().out.startswith("[[known]]\nid = ")
    assert main(["record-divergence", str(path), "--question", "t.py::q[2]"]) == 2
    assert "there is no failure of t.py::q[2]" in capsys.readouterr().err
