"""Versions of frameworks, as texts. A worker's environment need not have ``packaging``."""

from __future__ import annotations

import re

VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc|\.post|\.dev)\d+)*(\+[a-z0-9.]+)?")
"""A version as packages are published under, such as ``2.13.0rc1+cpu``."""


ASKED = "CNNFORMANCE_VERSION"
"""The environment variable of a worker that runs in the environment of a version: that version."""


def reported(text: str) -> str:
    """Return the version that an adapter's own text on it begins with."""
    return text.partition(" ")[0].rstrip(",;")


def release(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with, without zeros at the end."""
    begun = re.match(r"\d+(\.\d+)*", version)
    numbers = list(map(int, begun[0].split("."))) if begun else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def fits(version: str, asked: str) -> bool:
    """Whether a version is the one asked for, as ``==`` of PEP 440 compares releases.

    Zeros at the end do not count, nor what follows a ``+``, unless that was asked for too.
    """
    public, _, local = version.partition("+")
    wanted, _, part = asked.partition("+")
    rest, more = (re.sub(r"^\d+(\.\d+)*", "", text) for text in (public, wanted))
    return release(public) == release(wanted) and rest == more and part in ("", local)
