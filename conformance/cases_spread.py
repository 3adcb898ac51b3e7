"""Layers with the shape of an input, and the order in which a list of them is asked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeVar

from cnnformance.spec import layers as spec

Sized = tuple[dict[str, Any], spec.Shape]
"""The fields of a layer, and the shape of its input."""

T = TypeVar("T")


def spread(items: Iterable[T]) -> tuple[T, ...]:
    """Return the items in an order of which each prefix is spread evenly over all of them.

    They are sorted by the fractional parts of the multiples of the golden ratio: neighbours in a
    prefix are then one or more Fibonacci numbers apart, which meets every period of a product.
    """
    listed = tuple(items)
    golden = (math.sqrt(5) - 1) / 2
    order = sorted(range(len(listed)), key=lambda place: place * golden % 1)
    return tuple(listed[place] for place in order)


def interleaved(*families: tuple[T, ...]) -> tuple[T, ...]:
    """Return the members of all families, those that come first in their family first.

    Each prefix holds an equal part of every family, and each family keeps its order.
    """
    placed = [(n / len(family), item) for family in families for n, item in enumerate(family)]
    return tuple(item for _, item in sorted(placed, key=lambda pair: pair[0]))


def first(items: tuple[T, ...], every: int) -> tuple[T, ...]:
    """Return the first one in ``every`` items, rounded up."""
    return items[: -(-len(items) // every)]
