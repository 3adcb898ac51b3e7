"""The site: Sphinx reads the Markdown files of this folder; ``make docs`` builds it.

Pages with ``{{ ... }}`` are templates: ``pages`` fills them with the data of the specification, the
divergences and the records, so that nothing in them is typed in by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import pages  # noqa: E402 - found through the path above

import cnnformance  # noqa: E402 - likewise

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "cnnformance"
version = release = cnnformance.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["published"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", r".*")]  # names in signatures; links of pages are all checked

myst_enable_extensions = ["attrs_block"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"

html_theme = "furo"
html_title = "cnnformance"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["published/report.html"]
html_copy_source = False
html_show_copyright = False
html_show_sourcelink = False
html_show_search_summary = False  # which would be fetched, as pages of files must not
html_theme_options = {"navigation_with_keys": True}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"


def _filled(_: Sphinx, name: str, source: list[str]) -> None:
    """Fill a page that is a template."""
    source[0] = pages.filled(name, source[0])


def _included(_: Sphinx, path: Path, __: str, source: list[str]) -> None:
    """Have the links of a file that a page includes lead on from the page."""
    source[0] = pages.moved(source[0], (HERE / path).parent)


def setup(app: Sphinx) -> None:
    """Have Sphinx fill and link the pages as it reads them."""
    app.connect("source-read", _filled)
    app.connect("include-read", _included)
