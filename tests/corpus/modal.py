"""A backend with modes, of which one chooses otherwise than the default."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cnnformance.adapters.backend import Array
from corpus.kernels import Honest


class Modal(Honest):
    """Computes alike, but in ``swift`` passes over NaN, and in ``last`` takes the last tie."""

    modes: ClassVar[tuple[str, ...]] = ("alike", "swift", "last")

    def selectable(self, cells: Array, inside: Array, sign: int) -> Array:
        if self.mode == "swift":
            numbers = inside & ~np.isnan(cells)
            inside = numbers if numbers.any() else inside
        return super().selectable(cells, inside, sign)

    def selected(self, cells: Array, inside: Array, sign: int) -> Array:
        if self.mode != "last":
            return super().selected(cells, inside, sign)
        return super().selected(cells[..., ::-1], inside[..., ::-1], sign)[..., ::-1]
