"""The axes of weights: canonical ones, and those in the order that a backend declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np

from cnnformance.adapters.backend import Array, DenseLayout, KernelLayout
from cnnformance.spec.layers import Conv, Dense, Layer, Shape


@dataclass(frozen=True)
class WeightAxes:
    """In which order a backend wants the axes of kernels, and of the weights of dense layers."""

    kernel: KernelLayout = "hwio"
    dense: DenseLayout = "oi"

    def order(self, layer: Layer, name: str, ndim: int) -> Shape:
        """Return, for each axis of a backend's weight, which axis of the canonical one it is."""
        plain = tuple(range(ndim))
        if name != "weight":
            return plain
        match layer:
            case Conv() if ndim >= 3:
                places = {"h": plain[:-2], "w": (), "i": plain[-2:-1], "o": plain[-1:]}
                return tuple(axis for letter in self.kernel for axis in places[letter])
            case Dense() if ndim == 2 and self.dense == "io":
                return (1, 0)
        return plain

    def native(self, layer: Layer, name: str, array: Array) -> Array:
        """Return a view of a canonical weight in the order of the backend."""
        return array.transpose(self.order(layer, name, array.ndim))

    def canonical(self, layer: Layer, name: str, array: Array) -> Array:
        """Return a view of a weight of the backend, or of its gradient, in canonical order."""
        return array.transpose(np.argsort(self.order(layer, name, array.ndim)))

    def native_shapes(self, layer: Layer) -> Mapping[str, Shape]:
        """Return the shape of each weight of a layer in the order of the backend."""
        return {
            name: tuple(shape[axis] for axis in self.order(layer, name, len(shape)))
            for name, shape in layer.weight_shapes().items()
        }


def unknown(kernel: object, dense: object) -> str:
    """Return what is wrong with declared orders; nothing, if they are known."""
    declared = {"kernel_layout": (kernel, KernelLayout), "dense_layout": (dense, DenseLayout)}
    for attribute, (value, known) in declared.items():
        if value not in get_args(known):
            words = " or ".join(map(repr, get_args(known)))
            return f"{attribute} is {value!r}, and must be {words}"
    return ""
