"""The figures of the suite itself: kept, shown, and never less than what they were measured on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import run, verdict

from cnnformance.conformance.profiles import PROFILES
from cnnformance.reports import credentials, curves, page, render
from cnnformance.reports.credentials import Credentials, Power, Soundness
from cnnformance.spec.reading import DataError

POWER = Power(
    profile="quick",
    seed=0,
    every=12,
    day="2026-01-02",
    faults=8,
    caught=6,
    seconds=0.5,
    examples=34,
    curve=((0.5, 2), (1.0, 4), (60.0, 6)),
    groups={"class padding": (6, 8)},
)
SOUNDNESS = Soundness(profile="quick", seed=0, every=1, day="2026-01-02", backends=79, flagged=0)


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    assert credentials.load(file) == Credentials()
    assert credentials.keep(POWER, file)
    assert credentials.keep(SOUNDNESS, file)
    assert credentials.load(file) == Credentials(power=(POWER,), soundness=(SOUNDNESS,))


def test_a_smaller_sample_takes_no_place(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    credentials.keep(POWER, file)
    assert not credentials.keep(replace(POWER, every=150, faults=1, caught=1, curve=()), file)
    assert credentials.load(file).power == (POWER,)
    whole, other = replace(POWER, every=1), replace(POWER, profile="default", every=150)
    assert credentials.keep(whole, file)
    assert credentials.keep(other, file)
    assert credentials.load(file).power == (whole, other)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"caught": 9}, "power[0].caught: is 9, of 8 faults"),
        ({"curve": [[1.0, 2], [0.5, 4]]}, "power[0].curve: does not rise"),
        ({"curve": [[1.0, 4], [2.0, 2]]}, "power[0].curve: does not rise"),
        ({"curve": [[1.0, 7]]}, "power[0].curve: does not rise"),
        ({"curve": [[0.0, 1]]}, "power[0].curve[0][0]"),
        ({"faults": 0}, "power[0].faults: needs 1 or more, not 0"),
        ({"speed": 1}, "power[0].speed: is unknown"),
    ],
)
def test_figures_that_cannot_be_are_refused(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    file = tmp_path / "credentials.json"
    credentials.keep(POWER, file)
    data = json.loads(file.read_text())
    data["power"][0] |= changed
    file.write_text(json.dumps(data))
    with pytest.raises(DataError) as error:
        credentials.load(file)
    assert str(error.value).startswith(f"credentials.json: {told}")
    file.write_text("{")
    with pytest.raises(DataError, match=r"^credentials\.json: syntax: "):
        credentials.load(file)


def test_each_report_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Credentials(power=(POWER,), soundness=(SOUNDNESS,))
    monkeypatch.setattr(credentials, "load", lambda: found)
    made = run(verdict("pass"))
    said = "6 of 8 faulty ones caught in quick (one in 12), none of 79 correct ones flagged"
    assert said in render.render(made)
    assert said in render.render(made, "markdown").replace("\\", "")
    shown = page.render(made)
    assert "6 of 8, 75.0%; half of these within 0.5 CPU seconds and 34 examples" in shown
    assert "none of 79; the whole corpus, 2026-01-02" in shown
    assert "25.0% within 0.5, 50.0% within 1, 75.0% within 60" in shown


def test_a_report_stands_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Credentials:
        raise DataError("syntax", "", "credentials.json")

    made = run(verdict("pass"))
    for load in (Credentials, broken):
        monkeypatch.setattr(credentials, "load", load)
        assert "made backends" not in render.render(made)
        assert "was not measured" in page.render(made)


def test_the_curve_is_drawn_to_scale() -> None:
    (drawn,) = curves.curves(Credentials(power=(POWER,)))
    heights = [(drawn.bottom - p.y) / (drawn.bottom - curves.TOP) for p in drawn.points]
    assert heights == pytest.approx([0.25, 0.5, 0.75], abs=0.01)
    places = [p.x for p in drawn.points]
    decades = (places[2] - places[0]) / (places[1] - places[0])
    assert decades == pytest.approx(6.907, abs=0.15)  # log2(60 / 0.5), in pixels
    assert drawn.left < places[0] < places[-1] < drawn.right
    assert [p.label for p in drawn.points] == ["0.5 s", "1 s", "60 s"]


def test_those_that_are_published_are_of_today() -> None:
    found = credentials.load()
    assert found.power, "make mutation"
    assert {each.profile for each in (*found.power, *found.soundness)} <= set(PROFILES)
