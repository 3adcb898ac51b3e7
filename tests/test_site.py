"""The site: built from the data, whole, and reaching for nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from browsing import Shown, Source
from playwright.sync_api import Browser

import cnnformance
from cnnformance.adapters import registry
from cnnformance.conformance.divergences import load_divergences
from cnnformance.reports import credentials
from cnnformance.spec import clauses

pytestmark = pytest.mark.xdist_group("the site")  # which is built once

ROOT = Path(cnnformance.__file__).resolve().parents[1]
DOCS = ROOT / "docs"
OUTSIDE = r"(@import|url\()\s*[\"']?(https?:)?//"
"""What a style takes from elsewhere."""

PAGES = sorted(path.stem for path in DOCS.glob("*.md"))


def _build(source: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", str(DOCS)]
    return subprocess.run(  # noqa: S603 - our own words
        [*command, "-d", str(output / ".doctrees"), str(source), str(output)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site, as ``make docs`` builds it."""
    output = tmp_path_factory.mktemp("site")
    done = _build(DOCS, output)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return output


def _ids(page: Path) -> set[str | None]:
    return {attributes.get("id") for _, attributes in Source(page.read_text("utf-8")).tags}


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def test_every_clause_has_its_anchor_and_its_words(site: Path) -> None:
    text, ids = (site / "clauses.html").read_text("utf-8"), _ids(site / "clauses.html")
    for clause in clauses.load().clauses.values():
        assert _anchor(f"clause-{clause.id}") in ids
        assert f">{clause.id}<" in text


def test_the_document_leads_to_each_of_its_clauses(site: Path) -> None:
    page = Source((site / "document.html").read_text("utf-8"))
    links = [attributes.get("href") for _, attributes in page.tags]
    for section in clauses.load().sections:
        for name in section.clauses:
            assert f"clauses.html#{_anchor(f'clause-{name}')}" in links


def test_every_divergence_has_its_anchor(site: Path) -> None:
    ids = _ids(site / "divergences.html")
    found = [d.id for name in registry.registered() for d in load_divergences(name).divergences]
    assert len(found) > 20
    assert {_anchor(f"divergence-{name}") for name in found} <= ids


def test_every_bound_has_its_anchor_and_its_code(site: Path) -> None:
    letters = re.findall(r"^## \(([a-z])\)", (DOCS / "derivations.md").read_text(), re.MULTILINE)
    assert letters[0] == "a"
    assert {f"bound-{letter}" for letter in letters} <= _ids(site / "derivations.html")
    sections = (site / "bounds.html").read_text("utf-8").split("<h2>")[1:]
    assert len(sections) == len(letters)
    assert all(re.search(r"(reference|conformance)/\w+\.py", part) for part in sections)


def test_the_latest_figures_are_shown(site: Path) -> None:
    text = (site / "proof.html").read_text("utf-8")
    told = credentials.rows(credentials.load())
    assert told
    assert all(f"<p>{label}</p>" in text for label, _ in told)


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ("[x](nowhere.md)", "nowhere.md"),
        ("[x](index.md#nowhere)", "nowhere"),
        ("[x](#clause-nowhere)", "clause-nowhere"),
        ("{{ spec.nothing }}", "nothing"),
    ],
)
def test_what_leads_nowhere_fails_the_build(tmp_path: Path, link: str, told: str) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    (source / "index.md").write_text("# A page\n\n```{toctree}\nclauses\n```\n")
    (source / "clauses.md").write_text(f"# Another\n\n{link}\n")
    done = _build(source, tmp_path / "out")
    assert done.returncode != 0
    assert told in done.stderr


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    for page in site.glob("**/*.html"):
        for tag, attributes in Source(page.read_text("utf-8")).tags:
            taken = [attributes.get(key) or "" for key in ("src", "srcset", "action")]
            taken += [attributes.get("href") or ""] * (tag == "link")
            assert not [each for each in taken if "//" in each], page
    for style in site.glob("**/*.css"):
        assert not re.search(OUTSIDE, style.read_text("utf-8")), style


def test_pages_open_in_a_browser(shown: Shown, site: Path) -> None:
    """Without a message, and without a request for what is not theirs: ``shown`` sees to it."""
    shown.folder = site
    for name in PAGES:
        page = shown.open(site / f"{name}.html")
        assert page.title().endswith("cnnformance"), name
        assert page.locator("article h1").count() == 1, name


def test_the_search_finds_a_clause(shown: Shown, site: Path) -> None:
    shown.folder = site
    page = shown.open(site / "search.html", "?q=overhang")
    page.locator("#search-results a", has_text="The clauses").first.wait_for()


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_nothing_is_wider_than_the_screen(browser: Browser, site: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    for name in PAGES:
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    page.close()


def test_the_published_report_is_part_of_it(shown: Shown, site: Path) -> None:
    shown.folder = site
    page = shown.open(site / "published.html")
    page.locator("a.published").click()
    page.wait_for_url("**/report.html")
    assert page.title().startswith("Conformance report")
