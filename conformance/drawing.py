"""Strategies: how a value is drawn by choices, each a whole number, and made simpler again.

A choice of 0 is the simplest. Which choices are made follows from the seed alone, on every machine
and in every process; fewer and smaller choices give a simpler value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Concatenate, Generic, ParamSpec, TypeVar

import numpy as np

T = TypeVar("T")
U = TypeVar("U")
P = ParamSpec("P")

Choices = tuple[int, ...]

_AXES = 3
"""The choices that an option takes, and an absent one does not: one for each axis."""
_TRIES = 100
"""How often a filtered strategy draws again."""


class Rejected(Exception):  # noqa: N818 - an answer, not an error
    """What was drawn is none of the values of a filtered strategy."""


@dataclass
class Draw:
    """A source of choices: those given, then random ones, or 0 where there is no generator."""

    given: Choices = ()
    rng: np.random.Generator | None = None
    made: list[int] = field(default_factory=list)

    def __call__(self, strategy: Strategy[T]) -> T:
        """Return a value of the strategy."""
        return strategy.make(self)

    def below(self, bound: int) -> int:
        """Return the next choice, at least 0 and below the bound."""
        place = len(self.made)
        if place < len(self.given):
            choice = min(self.given[place], bound - 1)
        else:
            choice = int(self.rng.integers(bound)) if self.rng else 0
        self.made.append(choice)
        return choice


@dataclass(frozen=True)
class Strategy(Generic[T]):
    """A way to draw a value."""

    make: Callable[[Draw], T]

    def map(self, change: Callable[[T], U]) -> Strategy[U]:
        """Return the strategy of changed values."""
        return Strategy(lambda draw: change(self.make(draw)))

    def filter(self, holds: Callable[[T], bool]) -> Strategy[T]:
        """Return the strategy of the values for which something holds.

        Its draws raise ``Rejected`` where the choices are given, or after many tries.
        """

        def make(draw: Draw) -> T:
            start = len(draw.made)
            for _ in range(_TRIES if draw.rng and start >= len(draw.given) else 1):
                del draw.made[start:]
                value = self.make(draw)
                if holds(value):
                    return value
            raise Rejected

        return Strategy(make)


def integers(low: int, high: int) -> Strategy[int]:
    """Return the strategy of whole numbers from ``low``, the simplest, to ``high``."""
    return Strategy(lambda draw: low + draw.below(high - low + 1))


def booleans() -> Strategy[bool]:
    """Return the strategy of False, the simpler, and True."""
    return Strategy(lambda draw: bool(draw.below(2)))


def sampled_from(values: Sequence[T]) -> Strategy[T]:
    """Return the strategy of some values, the first the simplest."""
    return Strategy(lambda draw: values[draw.below(len(values))])


def composite(make: Callable[Concatenate[Draw, P], T]) -> Callable[P, Strategy[T]]:
    """Return a function that makes strategies of one that draws a value from its first argument."""

    def strategy(*args: P.args, **kwargs: P.kwargs) -> Strategy[T]:
        return Strategy(lambda draw: make(draw, *args, **kwargs))

    return strategy


def shrink(choices: Choices, again: Callable[[Choices], Choices | None]) -> Choices:
    """Return the simplest choices found that still show what some choices show.

    ``again`` tries choices, and returns those that were made (fewer or more than it was given) if
    they show it, else None.
    """
    best, simpler = choices, True
    while simpler:
        simpler = False
        for place in range(len(best)):
            for tried in _simpler(best, place):
                made = again(tried)
                if made is not None and _size(made) < _size(best):
                    best, simpler = made, True
                    break
    return best


def _size(choices: Choices) -> tuple[int, Choices]:
    return len(choices), choices


def _simpler(choices: Choices, place: int) -> Iterator[Choices]:
    """Yield choices that are simpler from a place on, or there, the boldest first."""
    if place >= len(choices):  # a simpler value took fewer choices
        return
    before, value, after = choices[:place], choices[place], choices[place + 1 :]
    if any(choices[place:]):
        yield before
    if not value:
        return
    yield (*before, *after)
    yield (*before, 0, *after[_AXES:])
    for less in sorted({0, 1, 2, value // 2, value - 1}):
        if less < value:
            yield (*before, less, *after)
