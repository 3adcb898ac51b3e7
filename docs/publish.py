"""The published report: ``SUBJECTS`` asked in ``quick``, as a page and as pictures of it.

Run as ``make published-report``, or ``make published-report RUN=FOLDER`` for pictures of a run that
there is. It needs Debian's ``chromium``.
"""

from __future__ import annotations

import argparse
import base64
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args

from playwright.sync_api import Locator, Page, sync_playwright

from cnnformance.reports import render
from cnnformance.reports.records import Run, read, resolve

Scheme = Literal["light", "dark"]

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "docs/published"
RECORD = ROOT / ".cnnformance/published/verdicts.jsonl"
PAGE = PUBLISHED / "report.html"

SUBJECTS = ("torch", "tensorflow", "jax", "onnxruntime", "numpy")
"""What is asked, in the order of the page."""

SIZES = {390: 844, 1280: 840}
"""The width of a picture, and its height, in pixels."""

CARDS = "#findings article:has(figure path.pad), #divergences article:has(figure path.pad)"
"""What draws a counterexample with padding, of which the first is taken."""

_PLACE = re.compile(r"(File &#34;)(/[^&]*)(&#34;, line)")
"""The path of a file in a traceback."""

RENDERED = """
    for (const part of document.querySelectorAll(".card, .topic, .part"))
        part.style.contentVisibility = "visible"
    document.querySelector("nav").style.position = "static"
"""
"""Has a browser render what is out of sight too, and keep nothing in sight that is not there."""


def asked(jobs: int) -> Run:
    """Return a new run."""
    RECORD.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "conformance", "--profile", "quick"]
    command += [f"--backend={name}" for name in SUBJECTS]
    patient = ["--timeout", "120"]  # on a busy machine nothing may look as if it hung
    options = ["--record", str(RECORD), "-n", str(jobs), *patient]
    done = subprocess.run([*command, *options], cwd=ROOT, check=False)  # noqa: S603 - our own words
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)
    return read(RECORD)


def portable(page: str) -> str:
    """Return a page whose tracebacks name files from their packages on: no machine's folders."""

    def short(found: re.Match[str]) -> str:
        parts = found[2].split("/")
        packages = "site-packages"
        rest = parts[parts.index(packages) + 1 :] if packages in parts else parts[-2:]
        return f"{found[1]}{'/'.join(rest)}{found[3]}"

    return _PLACE.sub(short, page)


def publish(run: Run) -> None:
    """Write the page of a run, and its pictures. Exits where these would not be whole."""
    if run.partial:
        sys.exit(f"{run.path} is partial, and a report that is published is whole")
    browser = shutil.which("chromium")
    if not browser:
        sys.exit("the pictures need a browser: install Debian's package chromium")
    PAGE.write_text(portable(render.render(run, "html")), encoding="utf-8")
    with sync_playwright() as tool:
        shown = tool.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for width, height in SIZES.items():
            for scheme in get_args(Scheme):
                context = shown.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme
                )
                page = context.new_page()
                page.goto(PAGE.as_uri())
                page.evaluate(RENDERED)
                take(page, f"report-{width}-{scheme}", page.locator("html"), height)
                card = page.locator(CARDS).first
                card.evaluate("e => { e.querySelector('details').open = true }")
                take(page, f"finding-{width}-{scheme}", card)
                context.close()
        shown.close()


def take(page: Page, name: str, part: Locator, most: float = math.inf) -> None:
    """Take a picture of a part of a page, or of so many rows of it."""
    part.scroll_into_view_if_needed()
    box = part.bounding_box()
    assert box
    box["y"] += page.evaluate("scrollY")
    clip = {**box, "height": min(box["height"], most), "scale": 1}
    how = {"format": "webp", "quality": 88, "clip": clip, "captureBeyondViewport": True}
    taken = page.context.new_cdp_session(page).send("Page.captureScreenshot", how)
    (PUBLISHED / f"{name}.webp").write_bytes(base64.b64decode(taken["data"]))


def main() -> None:
    """Publish a new run, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", help="as of cnnformance report; default: a new one")
    parser.add_argument("--jobs", type=int, default=2, help="processes in which a new one asks")
    options = parser.parse_args()
    PUBLISHED.mkdir(exist_ok=True)
    publish(read(resolve(options.run, ROOT)) if options.run else asked(options.jobs))


if __name__ == "__main__":
    main()
