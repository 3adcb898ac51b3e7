"""What was meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def instead(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean NAME?`` for the known word that is nearest, or a list of all of them.

    Case does not count.
    """
    names = list(dict.fromkeys(known))
    folded = {name.casefold(): name for name in names}
    if close := difflib.get_close_matches(word.casefold(), folded, n=1):
        return f"did you mean {folded[close[0]]}?"
    return f"there are {', '.join(names)}" if names else "there is none"
