"""The power curve, drawn: the share of the faulty backends that are caught, as asking goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnformance.reports.credentials import Credentials, Power

WIDTH, HEIGHT = 460, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 440, 12, 160
"""The size of the drawing, and where its axes begin and end."""


@dataclass(frozen=True)
class Point:
    """Where the share caught within some seconds stands, and what is written under it."""

    x: int
    y: int
    label: str


@dataclass(frozen=True)
class Curve:
    """The curve of one profile; seconds are on a log scale. ``told`` says what it shows."""

    points: tuple[Point, ...]
    shares: tuple[tuple[int, str], ...]
    told: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    bottom: int = BOTTOM


def curves(found: Credentials) -> tuple[Curve, ...]:
    """Return the curve of each profile that was measured."""
    shares = tuple((_height(n / 4), f"{n / 4:.0%}") for n in range(5))
    return tuple(Curve(_points(p), shares, _told(p)) for p in found.power if p.curve)


def _points(power: Power) -> tuple[Point, ...]:
    places = _places([seconds for seconds, _ in power.curve])
    return tuple(
        Point(x, _height(caught / power.faults), f"{seconds:g} s")
        for x, (seconds, caught) in zip(places, power.curve, strict=True)
    )


def _places(seconds: Sequence[float]) -> list[int]:
    """Return where seconds stand, which rise and are more than 0."""
    logs = [math.log(each) for each in seconds]
    extent = logs[-1] - logs[0] or 1.0
    room = RIGHT - LEFT - 40
    return [LEFT + 20 + round(room * (each - logs[0]) / extent) for each in logs]


def _height(share: float) -> int:
    return BOTTOM - round((BOTTOM - TOP) * share)


def _told(power: Power) -> str:
    within = ", ".join(f"{n / power.faults:.1%} within {s:g}" for s, n in power.curve)
    return f"Faulty backends caught in {power.profile}, by CPU seconds of asking: {within}."
