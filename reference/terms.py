"""The number of terms whose sum an output is, and by what they are divided.

Generic functions: each layer's file registers its own.
"""

from __future__ import annotations

import math
from functools import singledispatch

from cnnformance.spec.layers import Adaptive, Global, Layer, Shape, Windowed


@singledispatch
def cells(layer: Layer, shape: Shape) -> int:
    """Return how many cells the largest window has, over an input of a shape.

    Raises:
        TypeError: the layer has no windows.
    """
    raise TypeError(f"{type(layer).__name__} has no window in an input {shape}")


@cells.register
def cells_of_window(layer: Windowed, _shape: Shape) -> int:
    """Return the cells of the window."""
    return math.prod(layer.window)


@cells.register
def cells_of_map(_layer: Global, shape: Shape) -> int:
    """Return the cells of the map."""
    return math.prod(shape[1:-1])


@cells.register
def cells_of_adaptive(layer: Adaptive, shape: Shape) -> int:
    """Return the cells of the longest windows: one more than a whole share where none is whole."""
    sizes = zip(shape[1:-1], layer.output, strict=True)
    return math.prod(n // m if n % m == 0 else -(-n // m) + 1 for n, m in sizes)


@singledispatch
def terms(layer: Layer, shape: Shape) -> int:
    """Return how many terms an output element has, for an input of a shape: cells or products.

    Raises:
        TypeError: the layer has neither windows nor a number of its own.
    """
    return 1 if layer.elementwise else cells(layer, shape)


@singledispatch
def divides_exactly(layer: Layer, _shape: Shape) -> bool:
    """Whether a layer has no divisor, or one power of two for all windows: it rounds nothing."""
    return layer.linear and not layer.averages


def power_of_two(number: int) -> bool:
    """Whether a number is a power of two."""
    return number > 0 and number & (number - 1) == 0
