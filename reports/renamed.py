"""Names that records had before: what was recorded with them is read with those of today."""

from __future__ import annotations

from typing import Any

EFFECTS = {"special": "not-finite", "accepted": "not-refused", "impure": "state"}
"""The effects of today, by the names that they had before."""


def current(line: Any) -> Any:
    """Return the JSON of a line of a record with every effect by its name of today, in place.

    What is malformed stays as it is: whoever reads the line refuses it.
    """
    match line:
        case {"record": "verdict"}:
            others = line.get("others")
            for failure in [line.get("failure"), *(others if isinstance(others, list) else [])]:
                if isinstance(failure, dict) and "effect" in failure:
                    failure["effect"] = today(failure["effect"])
        case {"record": "header", "subjects": list(subjects)}:
            for subject in subjects:
                match subject:
                    case {"divergences": list(divergences)}:
                        _of_divergences(divergences)
    return line


def _of_divergences(divergences: list[Any]) -> None:
    for divergence in divergences:
        match divergence:
            case {"effects": list(effects)}:
                divergence["effects"] = [today(effect) for effect in effects]


def today(effect: Any) -> Any:
    """Return an effect by its name of today; what is no text as it is."""
    return EFFECTS.get(effect, effect) if isinstance(effect, str) else effect
