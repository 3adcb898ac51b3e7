"""The view of a framework's modes tells what some of them show, and others do not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made import failure, run, verdict

from cnnformance.reports import modes, render
from cnnformance.reports.records import Run, Subject, VerdictName
from cnnformance.spec.layers import MaxPool

WRONG = failure(MaxPool((1,)), np.full((1, 1, 1), 1.0), (0, 0, 0), reason="not-equal")


def asked(**fallen: VerdictName) -> Run:
    """Return a run of one question, with a verdict by subject; ``__`` is a colon."""
    verdicts = [
        verdict(
            name,
            subject=subject.replace("__", ":"),
            failure=WRONG if name == "fail" else None,
            message="wrong" if name == "fail" else "",
        )
        for subject, name in fallen.items()
    ]
    return run(*verdicts, head=tuple(Subject(v.subject, "1.0") for v in verdicts))


def test_what_one_mode_shows_alone_is_told() -> None:
    made = asked(torch="pass", torch__compile="fail", torch__export="unsupported", jax="fail")
    (found,) = modes.modes(made)
    assert found.name == "torch"
    assert found.versions == (modes.AS_IS, "compile", "export")
    (row,) = found.rows
    assert [cell.state for cell in row.cells] == ["absent", "seen", "unknown"]


@pytest.mark.parametrize(
    "alike",
    [
        {"torch": "fail", "torch__compile": "fail"},
        {"torch": "pass", "torch__compile": "pass"},
        {"torch": "unsupported", "torch__compile": "fail"},
        {"torch": "fail", "jax": "pass"},
    ],
)
def test_what_all_show_or_none_can_is_not_told(alike: dict[str, VerdictName]) -> None:
    assert not modes.tables(asked(**alike))


def test_versions_and_classes_are_frameworks_of_their_own() -> None:
    subjects = ["torch==1.0", "torch==2.0:compile", "a.py:B", "a.py:B:fast", "torch@cuda", "torch"]
    made = run(*(verdict(subject=s) for s in subjects))
    assert {m.name: m.versions for m in modes.modes(made)} == {
        "a.py:B": (modes.AS_IS, "fast"),
        "torch": ("@cuda", modes.AS_IS),
    }


@pytest.mark.parametrize("form", sorted(render.FORMATS))
def test_every_format_tells_it(form: str) -> None:
    differ = render.render(asked(torch="pass", torch__compile="fail"), form)
    alike = render.render(asked(torch="fail", torch__compile="fail"), form)
    if form == "json":
        assert json.loads(differ)["modes"][0]["differ"]
        assert not json.loads(alike)["modes"][0]["differ"]
        return
    title = {"html": 'id="modes"'}.get(form, "Modes of torch")
    assert title in differ
    assert title not in alike
