"""What a file of the specification may hold at most: more is a slip, and no question could use it.

TOML sets no limits that Python keeps: an integer of 4,000 digits, or a list in a list in a list,
is read, and fails wherever it is used first.
"""

from __future__ import annotations

from typing import Any

LARGEST = 2**53
"""The largest integer: every size and count of the document is far below."""

DEEPEST = 16
"""The most levels of tables and lists."""


def outsized(data: object, key: str = "") -> tuple[str, str] | None:
    """Return the key and the reason of the first value beyond the limits; None if there is none.

    Args:
        data: a TOML value.
        key: its own key; those of the values inside are joined to it by dots and indices.
    """
    level = [(key, data)]
    for _ in range(DEEPEST):
        for name, value in level:
            if isinstance(value, int) and abs(value) > LARGEST:
                return name, f"is an integer beyond {LARGEST:,}; give a smaller one"
        level = [inside for pair in level for inside in _held(*pair)]
    if level:
        return level[0][0].partition("[")[0], f"is nested deeper than {DEEPEST} levels; flatten it"
    return None


def _held(key: str, value: Any) -> list[tuple[str, Any]]:
    """Return what a table or a list holds, each with its key."""
    if isinstance(value, dict):
        return [(f"{key}.{name}".lstrip("."), item) for name, item in value.items()]
    return (
        [(f"{key}[{i}]", item) for i, item in enumerate(value)] if isinstance(value, list) else []
    )
