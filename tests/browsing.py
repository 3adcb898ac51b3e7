"""A real browser: pages of files are opened, and what goes wrong in them is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Request

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


class Source(HTMLParser):
    """Collects the tags of a page, and the text of its style and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inlined: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside in ("style", "script"):
            self.inlined.append(data)

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - as its base names it
        self._inside = ""


@dataclass
class Shown:
    """A page that is open, and what went wrong in it.

    It may ask for files of ``folder``, where there is one.
    """

    page: Page
    wrong: list[str] = field(default_factory=list)
    folder: Path | None = None

    def open(self, file: Path, anchor: str = "") -> Page:
        self.page.goto("about:blank")
        self.page.goto(file.as_uri() + anchor)
        return self.page

    def asks(self, request: Request) -> None:
        """Keep the address of what is no page of a file, and in no folder of its own."""
        page = request.is_navigation_request() and request.url.startswith(("file:", "about:"))
        own = self.folder and request.url.startswith((self.folder.as_uri(), "data:"))
        if not page and not own:
            self.wrong.append(request.url)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("needs a browser: install Debian's package chromium")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - most tests need none

    with sync_playwright() as tool:
        launched = tool.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield launched
        launched.close()


def _watched(context: BrowserContext) -> Shown:
    shown = Shown(context.new_page())
    shown.page.on("console", lambda message: shown.wrong.append(message.text))
    shown.page.on("pageerror", lambda error: shown.wrong.append(str(error)))
    shown.page.on("request", shown.asks)
    return shown


@pytest.fixture
def shown(browser: Browser) -> Iterator[Shown]:
    """Return a page that must stay without any message, error and request."""
    context = browser.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    made = _watched(context)
    yield made
    context.close()
    assert made.wrong == [], made.wrong
