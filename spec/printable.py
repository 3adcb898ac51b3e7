"""Text of others, made safe to show: what frameworks, adapters and records say."""

from __future__ import annotations

import re
import unicodedata

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # a control sequence, such as a colour
    r"|(?:\x1b[\]P^_X]|[\x9d\x90\x9e\x9f\x98])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # a string
)
"""The escape sequences of ECMA-48 that carry parameters or text, such as a window's title."""

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of characters that are not seen, but change what is seen around them."""


def printable(text: str) -> str:
    """Return a text without what acts on a terminal or a page instead of being read.

    Escape sequences are dropped; any other control character (C0, C1, bidirectional, invisible,
    surrogate), but tab and line feed, becomes U+FFFD. A carriage return ends a line.
    """
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    plain = re.sub(r"\r\n?", "\n", _SEQUENCE.sub("", text))
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in _UNSEEN else "\N{REPLACEMENT CHARACTER}"
        for c in plain
    )
