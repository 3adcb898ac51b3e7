"""What data of a file may hold at most: more is a slip, and nothing could use it.

TOML and JSON set no limits that Python keeps: an integer of 4,000 digits, or a list in a list in a
list, is read, and fails wherever it is used first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """The largest integer, either sign, and the most levels of tables and lists."""

    largest: int
    deepest: int


SPECIFICATION = Limits(2**53, 16)
"""Every size and count of the document is far below."""


def outsized(data: object, key: str, limits: Limits = SPECIFICATION) -> tuple[str, str] | None:
    """Return the key and the reason of the first value beyond the limits; None if there is none.

    Args:
        data: a value of TOML or JSON.
        key: its own key; those of the values inside are joined to it by dots and indices.
        limits: what is beyond them is told.
    """
    level = [(key, data)]
    for _ in range(limits.deepest):
        for name, value in level:
            if isinstance(value, int) and abs(value) > limits.largest:
                return name, f"is an integer beyond {limits.largest:,}; give a smaller one"
        level = [inside for pair in level for inside in _held(*pair)]
    if level:
        reason = f"is nested deeper than {limits.deepest} levels; flatten it"
        return level[0][0].partition("[")[0], reason
    return None


def _held(key: str, value: Any) -> list[tuple[str, Any]]:
    """Return what a table or a list holds, each with its key."""
    if isinstance(value, dict):
        return [(f"{key}.{name}".lstrip("."), item) for name, item in value.items()]
    return (
        [(f"{key}[{i}]", item) for i, item in enumerate(value)] if isinstance(value, list) else []
    )
