"""The profiles: how much is asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """How much is asked, in numbers of cases: the same on every machine, however busy.

    ``examples`` are the cases that a question draws, ``largest`` bounds their sizes, ``shrinks``
    are the simpler cases that are asked to make a failing one simple. A question ends when failures
    of so many ``causes`` were seen. Of the layers that published networks have
    (``cases_published``), one in ``every`` is asked.
    """

    name: str
    examples: int
    largest: int
    shrinks: int
    every: int = 1
    causes: int = 5


PROFILES = {
    p.name: p
    for p in (
        Profile("quick", 10, 1 << 9, 100, every=11),
        Profile("default", 50, 1 << 17, 200),
        Profile("thorough", 1000, 1 << 17, 2000),
    )
}
