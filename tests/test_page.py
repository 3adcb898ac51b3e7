"""The page in a real browser: read, filtered, searched, linked to, copied from; and without one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped] # has none
from browsing import Shown, Source
from playwright.sync_api import Browser, Page

from cnnformance.reports import causes, records, render
from cnnformance.reports.records import Run

ROOT = Path(__file__).parents[1]
SERIOUS = ("serious", "critical")

BACKEND = '''
"""Padding that is always counted, a ReLU that makes NaN of minus infinity, and no flattening."""

import dataclasses

from cnnformance.adapters.backend import Backend, Unsupported
from cnnformance.adapters.numpy import NumPy
from cnnformance.spec.layers import AveragePool, Flatten, ReLU


class Faulty(NumPy):
    script = Backend.script  # it writes none, so that the suite shows this file's own calls

    def build(self, layer, weights):
        match layer:
            case AveragePool():
                layer = dataclasses.replace(layer, count_include_pad=True)
            case ReLU():
                return lambda x: x * (x > 0)
            case Flatten():
                raise Unsupported("there is no flattening")
        return super().build(layer, weights)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the record of a backend and its faulty twin, and its page."""
    made = tmp_path_factory.mktemp("page")
    (made / "faulty.py").write_text(BACKEND)
    command = [sys.executable, "-m", "pytest", str(ROOT / "conformance"), "--rootdir", str(ROOT)]
    options = ["--backend=faulty.py:Faulty", "--backend=numpy", "--record=verdicts.jsonl"]
    asked = (
        "test_output and (AveragePool or ReLU or MaxPool or Flatten) or test_averages "
        "or test_options and AveragePool or lenet5 or test_signed_zero"
    )
    more = ["--profile=quick", "-q", "-p", "no:cacheprovider", "-k", asked]
    done = subprocess.run(  # noqa: S603 - our own words
        [*command, *options, *more], cwd=made, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    (made / "page.html").write_text(render.render(_run(made), "html"), "utf-8")
    return made


def _run(folder: Path) -> Run:
    return records.read(folder / "verdicts.jsonl")


# --- the file ---------------------------------------------------------------------------------


def test_the_page_reaches_for_nothing(folder: Path) -> None:
    text = (folder / "page.html").read_text("utf-8")
    page = Source(text)
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "base", "embed"}
    attributes = {key for _, attrs in page.tags for key in attrs}
    assert not attributes & {"src", "srcset", "style", "action", "background", "ping"}
    assert not {key for key in attributes if key.startswith("on")}
    links = {attrs["href"] for _, attrs in page.tags if "href" in attrs}
    assert {(link or "").split(":")[0].partition("#")[0] for link in links} == {"", "https"}
    assert not re.search(r"@import|url\((?!#)", text)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv")) or ""
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed["default-src"] == "'none'"
    for kind, inlined in (("style-src", page.inlined[0]), ("script-src", page.inlined[-1])):
        digest = base64.b64encode(hashlib.sha256(inlined.encode()).digest()).decode()
        assert allowed[kind] == f"'sha256-{digest}'"


def test_each_anchor_is_there_once(folder: Path) -> None:
    page = Source((folder / "page.html").read_text("utf-8"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [str(attrs["href"]) for _, attrs in page.tags if "href" in attrs]
    inner = {link[1:].partition("?")[0] for link in links if link.startswith("#")}
    assert inner <= set(ids)
    assert {"layer-ReLU", "clause-relu.formula", "findings"} <= inner
    assert any(name.startswith("finding-faulty-py-Faulty-AveragePool") for name in inner)


def test_equal_records_make_equal_pages(folder: Path) -> None:
    """So that a page can be compared, and its links stay."""
    assert render.render(_run(folder), "html") == (folder / "page.html").read_text("utf-8")


# --- in a browser -----------------------------------------------------------------------------


def _visible(page: Page, selector: str) -> int:
    return page.locator(f"{selector} >> visible=true").count()


def test_filters_count_again(shown: Shown, folder: Path) -> None:
    page, run = shown.open(folder / "page.html"), _run(folder)
    assert _visible(page, "#findings article") == page.locator("#findings article").count() > 1
    page.select_option("[name=verdict]", "fail")
    layers = {v.layer for v in run.verdicts if v.verdict == "fail"}
    assert layers == {"AveragePool", "ReLU"}
    assert set(page.locator("tr.layer:visible .name").all_inner_texts()) == layers
    page.select_option("[name=dtype]", "float64")
    failing = [
        v for v in run.verdicts if (v.verdict, v.dtype, v.layer) == ("fail", "float64", "ReLU")
    ]
    figure = page.locator("#layer-ReLU tr.layer td").first.locator(".fail b")
    assert figure.inner_text() == str(len(failing))
    assert _visible(page, "#layer-ReLU tr.layer .n.pass") == 0
    page.select_option("[name=dtype]", "float16")
    of_float16 = [f for f in causes.findings(run) if any(v.dtype == "float16" for v in f.verdicts)]
    assert 0 < len(of_float16) < page.locator("#findings article").count()
    assert _visible(page, "#findings article") == len(of_float16)
    page.select_option("[name=subject]", "numpy")
    assert _visible(page, "#findings article") == 0
    assert page.get_by_text("No finding matches the filters.").is_visible()
    page.get_by_role("button", name="Clear").click()
    page.wait_for_url(lambda url: "?" not in url)
    assert _visible(page, "#findings article") == page.locator("#findings article").count()


def test_a_figure_leads_to_the_cards_behind_it(shown: Shown, folder: Path) -> None:
    page = shown.open(folder / "page.html")
    page.locator("#layer-AveragePool a.fail").click()
    page.wait_for_url(lambda url: "?" in url)
    found = [f for f in causes.findings(_run(folder)) if f.layer == "AveragePool"]
    assert _visible(page, "#findings article") == len(found)
    assert page.input_value("[name=subject]") == "faulty.py:Faulty"
    assert page.evaluate("document.getElementById('findings').getBoundingClientRect().top") < 200


def test_a_search_opens_what_it_finds(shown: Shown, folder: Path) -> None:
    page = shown.open(folder / "page.html")
    assert _visible(page, "tr.clause") == 0
    page.fill("[name=q]", "counts-padding")
    found = page.locator("tr.clause:visible th").all_inner_texts()
    assert found
    assert all("counts-padding" in text for text in found)
    page.fill("[name=q]", "no such word anywhere")
    assert _visible(page, "[data-item]") == 0


def test_a_link_shows_what_its_sender_saw(shown: Shown, folder: Path) -> None:
    page = shown.open(folder / "page.html")
    card = page.locator("#findings article[data-l='ReLU']").first
    name = card.get_attribute("id")
    page.fill("[name=q]", "relu")
    page.select_option("[name=effect]", index=1)
    card.locator("> a.anchor").click()
    page.wait_for_url(lambda url: "?" in url)
    sent = page.evaluate("location.hash")
    assert sent.startswith(f"#{name}?q=relu&effect=")
    again = shown.open(folder / "page.html", sent)
    assert again.input_value("[name=q]") == "relu"
    assert again.locator(f"#{name} > details").get_attribute("open") is not None
    assert again.locator(f"#{name}").is_visible()
    assert again.evaluate(f"document.getElementById('{name}').getBoundingClientRect().top") < 200


def test_a_link_to_what_is_filtered_away_clears_the_filters(shown: Shown, folder: Path) -> None:
    page = shown.open(folder / "page.html", "#layers?q=relu")
    assert not page.locator("#layer-MaxPool tr.layer").is_visible()
    page.evaluate("location.hash = '#layer-MaxPool'")
    page.locator("#layer-MaxPool tr.layer").wait_for()
    assert page.evaluate("location.hash") == "#layer-MaxPool"


def test_a_copied_script_runs_and_shows_the_fault(
    shown: Shown, folder: Path, tmp_path: Path
) -> None:
    page = shown.open(folder / "page.html")
    card = page.locator("#findings article[data-l='ReLU']").first
    if card.locator("> details").get_attribute("open") is None:
        card.locator("> details > summary").click()
    card.get_by_text("Script that shows it").click()
    card.get_by_role("button", name="Copy the script").click()
    card.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    script = tmp_path / "script.py"
    script.write_text(copied)
    done = subprocess.run(  # noqa: S603 - the script of our own backend
        [sys.executable, str(script)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "AssertionError" in done.stderr


def test_layers_open_by_keyboard(shown: Shown, folder: Path) -> None:
    page = shown.open(folder / "page.html")
    button = page.get_by_role("button", name="ReLU")
    button.focus()
    assert button.get_attribute("aria-expanded") == "false"
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    assert _visible(page, "#layer-ReLU tr.clause") > 0
    for _ in range(3):  # its anchor, its failures, and then the first of its clauses
        page.keyboard.press("Tab")
    assert str(page.evaluate("document.activeElement.textContent")).startswith("relu.")


def test_the_counterexample_is_drawn(shown: Shown, folder: Path) -> None:
    page = shown.open(folder / "page.html")
    drawn = page.locator("#findings article[data-l='AveragePool'] figure").first
    caption = drawn.locator("figcaption").text_content() or ""
    assert re.search(r"outside the input: it should be .*, and is .*\.", caption)
    assert "it divides by" in caption
    assert drawn.locator("path.pad.read").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everyone_can_read_it(browser: Browser, folder: Path, width: int, scheme: Any) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto((folder / "page.html").as_uri())
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    page.evaluate("document.querySelector('#layer-ReLU button').click()")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page).response["violations"]
    serious = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SERIOUS]
    context.close()
    assert serious == []


def test_without_scripts_it_reads(browser: Browser, folder: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "page.html").as_uri())
    assert page.locator("#filters").is_hidden()
    assert _visible(page, "tr.clause") == page.locator("tr.clause").count() > 0
    page.locator("#findings article summary").first.click()
    context.close()


def test_printed_it_needs_no_scrolling(shown: Shown, folder: Path) -> None:
    page = shown.open(folder / "page.html")
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.locator("#filters").is_hidden()
    heights = "e => e.scrollHeight - e.clientHeight"
    assert page.locator("#layers .scroll").evaluate(heights) <= 1


def test_hostile_texts_stay_texts(shown: Shown, folder: Path, tmp_path: Path) -> None:
    evil = "</script></style><script>document.title='evil'</script><img src=x onerror=alert(1)>'\""
    lines = (folder / "verdicts.jsonl").read_text().splitlines()
    spoilt = []
    for line in map(json.loads, lines):
        if line["record"] == "header":
            line["platform"] += evil
            for subject in line["subjects"]:
                subject["subject"] += evil
        for key in ("subject", "layer", "message", "trait", "value", "shown"):
            if key in line:
                line[key] += evil
        if line.get("failure"):
            line["failure"]["script"] = f"{line['failure']['script']}{evil}"
            line["failure"]["expected"] += evil
        spoilt.append(line)
    record = tmp_path / "verdicts.jsonl"
    record.write_text("".join(f"{json.dumps(line)}\n" for line in spoilt))
    (tmp_path / "page.html").write_text(render.render(records.read(record), "html"), "utf-8")
    page = shown.open(tmp_path / "page.html")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert page.title().startswith("Conformance report")
    assert page.locator("h2", has_text=evil).count() == 2
    page.select_option("[name=subject]", index=1)
    assert evil in page.input_value("[name=subject]")
    assert _visible(page, "#findings article") > 0
