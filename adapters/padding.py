"""Padding in the terms of a framework: pairs, one number for both sides, flat lists."""

from __future__ import annotations

from typing import Any

from cnnformance.adapters.backend import Unsupported
from cnnformance.spec.layers import SAME, Pads, Shape, Windowed


def pairs(layer: Windowed, spatial: Shape) -> Pads:
    """Return (before, after) for each axis of a map of these sizes, with the words resolved.

    Raises:
        ValueError: the map has another number of axes than the window, or the word is unknown.
    """
    if not isinstance(layer.padding, str):
        return layer.padding
    if layer.padding not in SAME:
        raise ValueError(f"the words of padding are {SAME}, and not {layer.padding!r}")
    axes = zip(spatial, layer.extent, layer.stride, strict=True)
    totals = [max((-(-n // s) - 1) * s + e - n, 0) for n, e, s in axes]
    halves = tuple((total // 2, total - total // 2) for total in totals)
    return halves if layer.padding == "same" else tuple((b, a) for a, b in halves)


def overhanging(layer: Windowed, spatial: Shape) -> Pads:
    """Return the pairs, and after each axis also the cells that a last window hangs over.

    That is one of ``ceil_mode``, if it starts within the input or the padding before it.
    """
    wide = []
    for n, e, s, (low, high) in zip(
        spatial, layer.extent, layer.stride, pairs(layer, spatial), strict=True
    ):
        end = n + low + high
        start = -((e - end) // s) * s
        over = getattr(layer, "ceil_mode", False) and start < n + low
        wide.append((low, high + max(start + e - end, 0) if over else high))
    return tuple(wide)


def alike(layer: Windowed, framework: str) -> Shape:
    """Return one number for both sides of each axis.

    Raises:
        Unsupported: a word, or sides that differ.
    """
    if isinstance(layer.padding, str) or any(a != b for a, b in layer.padding):
        raise Unsupported(f"{framework} pads both sides of an axis by one number")
    return tuple(a for a, _ in layer.padding)


def begins_then_ends(pads: Pads) -> list[int]:
    """Return the cells before each axis, and then those after each, as ONNX has them."""
    return [*(before for before, _ in pads), *(after for _, after in pads)]


def last_axis_first(pads: Pads) -> list[int]:
    """Return before and after of the last axis, then of the one before it, as PyTorch pads."""
    return [cells for pair in reversed(pads) for cells in pair]


def with_channels_last(pads: Pads) -> list[list[int]]:
    """Return pairs for the batch and the channels too, which get none."""
    return [[0, 0], *map(list, pads), [0, 0]]


def is_explicit(layer: Any) -> bool:
    """Whether a layer pads, and by numbers."""
    padding = getattr(layer, "padding", ())
    return not isinstance(padding, str) and any(map(any, padding))


def undilated(layer: Windowed, framework: str) -> None:
    """Raise ``Unsupported`` for a dilation, which poolings of many frameworks have not."""
    if any(d != 1 for d in layer.dilation):
        raise Unsupported(f"{framework} has no dilation in {type(layer).__name__}")


def word(layer: Windowed, framework: str) -> str:
    """Return the padding as a word of frameworks that have words alone.

    Raises:
        Unsupported: no word says it.
    """
    if is_explicit(layer):
        raise Unsupported(f"{framework} takes no explicit pads in {type(layer).__name__}")
    if not isinstance(layer.padding, str):
        return "valid"
    if getattr(layer, "count_include_pad", False):
        raise Unsupported(f"{framework} never counts the padding of an average")
    return layer.padding
