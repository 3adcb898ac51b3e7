"""Backends that each do one thing otherwise than ``Honest``: what a comparison must see, alone."""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported, Weights
from cnnformance.spec import layers as spec
from cnnformance.spec.layers import Layer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpus.kernels import Axis, Honest, L


class SameLower(Honest):
    """Puts the extra cell of ``same`` before the input."""

    def split(self, padding: str, cells: int) -> tuple[int, int]:
        return super().split("same_lower" if padding == "same" else padding, cells)


class SameBothSides(Honest):
    """Takes ``same`` for half a window on both sides."""

    def split(self, padding: str, cells: int) -> tuple[int, int]:
        before, after = super().split(padding, cells)
        return max(before, after), max(before, after)


class CountsPadding(Honest):
    """Divides every average by the cells of its window, those in the padding too."""

    def divisor(self, layer: Layer, axes: Sequence[Axis]) -> Array:
        if isinstance(layer, spec.AveragePool):
            layer = layer.replace(count_include_pad=True)
        return super().divisor(layer, axes)


class RoundsDown(Honest):
    """Knows no ``ceil_mode``: the last window is left out."""

    def understood(self, layer: Layer) -> Layer:
        layer = super().understood(layer)
        rounded = isinstance(layer, spec.Pool) and layer.ceil_mode
        return layer.replace(ceil_mode=False) if rounded else layer


class KeepsTheLastWindow(Honest):
    """Keeps a last window that starts in the padding."""

    def starts_after(self, outputs: int, stride: int, end: int) -> int:
        del outputs, stride, end
        return 0


class DividesByTheWindow(Honest):
    """Divides the mean of an overhanging last window by the whole window."""

    def divisor(self, layer: Layer, axes: Sequence[Axis]) -> Array:
        found = super().divisor(layer, axes)
        hangs = isinstance(layer, spec.AveragePool) and layer.ceil_mode and layer.unpadded
        return np.full_like(found, math.prod(layer.window)) if hangs else found  # type: ignore[attr-defined]


class Undilated(Honest):
    """Pools as if there were no dilation."""

    def understood(self, layer: Layer) -> Layer:
        layer = super().understood(layer)
        dilated = isinstance(layer, spec.Pool) and max(layer.dilation) > 1
        return layer.replace(dilation=()) if dilated else layer


class FlattensChannelsFirst(Honest):
    """Holds its channels last, and flattens as if they came first."""

    def flatten(self, layer: spec.Flatten, weights: Weights, x: Array) -> Array:
        moved = np.moveaxis(x, -1, 1) if x.ndim > 2 and layer.start == 1 else x
        return super().flatten(layer, weights, moved)


class HalfSums(Honest):
    """Adds the cells of an average one by one, and halves in halves."""

    dtype: np.dtype[Any]

    def forward(self, layer: Layer, weights: Weights, x: Array) -> Array:
        self.dtype = x.dtype
        return super().forward(layer, weights, x)

    def mean(self, terms: Array, divisor: Array) -> Array:
        if self.dtype.itemsize > 2:
            return super().mean(terms, divisor)
        return np.add.accumulate(terms.astype(self.dtype), -1)[..., -1] / divisor


class NoMinPool(Honest):
    """Has no min pooling."""

    def validated(self, layer: L) -> L:
        if isinstance(layer, spec.MinPool):
            raise Unsupported("there is no min pooling")
        return super().validated(layer)


class RefusesEmptyBatches(Honest):
    """Refuses a batch of none."""

    def call(self, layer: Layer, weights: Weights, x: Array) -> Array:
        if len(x) == 0:
            raise ValueError("there is no sample")
        return super().call(layer, weights, x)


class DiesOfLargeWindows(Honest):
    """Ends its process where a window is larger than the input."""

    def no_window(self, layer: spec.Windowed, size: int) -> int:
        del layer, size
        os.kill(os.getpid(), signal.SIGFPE)
        return 0


class HangsOnDilation(Honest):
    """Never answers a max pooling with dilation."""

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        if isinstance(layer, spec.MaxPool) and max(layer.dilation) > 1:
            time.sleep(3600)
        return super().build(layer, weights)
