"""The published report is of today's form, small, and shown where it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browsing import Source

import cnnformance
from cnnformance.reports import page
from cnnformance.spec import clauses

ROOT = Path(cnnformance.__file__).resolve().parents[1]
PUBLISHED = ROOT / "docs/published"
RENEW = "it is stale; renew it: make published-report"
PICTURES = [
    f"{what}-{width}-{scheme}.webp"
    for what in ("report", "finding")
    for width in (390, 1280)
    for scheme in ("light", "dark")
]


@pytest.fixture(scope="module")
def report() -> Source:
    return Source((PUBLISHED / "report.html").read_text("utf-8"))


def test_it_is_of_todays_form(report: Source) -> None:
    (made,) = (each["content"] for _, each in report.tags if each.get("name") == "generator")
    assert made == f"cnnformance, {page.form()}", RENEW


def test_its_clauses_exist(report: Source) -> None:
    ids = [str(each["id"]) for _, each in report.tags if "id" in each]
    named = {name.removeprefix("clause-") for name in ids if name.startswith("clause-")}
    assert len(named) > 200
    assert named <= set(clauses.load().clauses), RENEW


def test_it_is_whole_and_of_several_frameworks(report: Source) -> None:
    text = (PUBLISHED / "report.html").read_text("utf-8")
    assert "Complete: every planned question has an answer on record." in text
    subjects = [each for _, each in report.tags if each.get("class") == "subject"]
    assert len(subjects) >= 3


def test_it_names_no_folder_of_the_machine_that_made_it() -> None:
    text = (PUBLISHED / "report.html").read_text("utf-8")
    assert re.findall(r"&#34;/[^&]*|/(?:tmp|home|root|work|opt)/[^ &<]*", text) == []


def test_it_is_small() -> None:
    assert (PUBLISHED / "report.html").stat().st_size < 1_500_000


def test_each_picture_is_there_and_small() -> None:
    assert {path.name for path in PUBLISHED.iterdir()} == {"report.html", *PICTURES}, RENEW
    for name in PICTURES:
        data = (PUBLISHED / name).read_bytes()
        assert 10_000 < len(data) < 200_000, name  # and not blank
        assert (data[:4], data[8:16]) == (b"RIFF", b"WEBPVP8X"), name


@pytest.mark.parametrize("width", [390, 1280])
def test_a_screen_is_as_wide_as_its_name_says(width: int) -> None:
    data = (PUBLISHED / f"report-{width}-light.webp").read_bytes()
    assert int.from_bytes(data[24:27], "little") + 1 == width


@pytest.mark.parametrize("name", ["README.md", "docs/index.md", "docs/published.md"])
def test_pictures_that_are_shown_exist(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    shown = set(re.findall(r"published/([\w.-]+\.webp)", text))
    assert len(shown) >= 2
    assert shown <= set(PICTURES)
