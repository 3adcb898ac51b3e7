"""Sentinels: backends that are wrong in one layer, dtype, size of sum and path, and nowhere else.

Whatever a bound may excuse, it may not excuse these: ``tests/test_sentinels.py`` puts each to the
judge, on the cases that the questions ask.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.spec import layers as spec
from cnnformance.spec.layers import Layer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpus.fault import Edit
from corpus.faults_kernels import derives
from corpus.faults_precision import (
    BITS,
    LAST_LOST,
    LAST_TWICE,
    away,
    evaluates,
    shortened,
    swapped,
    terms,
    within,
)
from corpus.faults_precision_gradients import of_other, positions
from corpus.kernels import Honest

LAYERS: dict[str, Callable[[Any], bool]] = {
    "Conv": lambda c: isinstance(c, spec.Conv),
    "Dense": lambda c: isinstance(c, spec.Dense),
    "AveragePool": lambda c: isinstance(c, spec.AveragePool),
    "GlobalAveragePool": lambda c: isinstance(c, spec.GlobalAveragePool),
    "AdaptiveAveragePool": lambda c: isinstance(c, spec.AdaptiveAveragePool),
    "LpPool of order 2": lambda c: isinstance(c, spec.LpPool) and c.p == 2,
    "LpPool of order 3": lambda c: isinstance(c, spec.LpPool) and c.p == 3,
    "StochasticPool": lambda c: isinstance(c, spec.StochasticPool) and evaluates(c),
}

SIZES: dict[str, tuple[float, float]] = {
    "up to 16": (1, 16),
    "17 to 256": (17, 256),
    "257 to 2048": (257, 2048),
    "above 2048": (2049, math.inf),
}
"""Size classes of a sum: the least and the largest number of its terms."""

FORWARD = "forward"
UNITS = "three units off"
WEIGHTED = ("Conv", "Dense")


def joined(path: str, layer: Any, x: Array) -> int:
    """Return how many terms a result of a path joins; of a pooling's gradient, its window's."""
    if path in ("weight", "bias"):
        return positions(layer, x)
    if path == FORWARD or not layer.has_weights:
        return terms(layer, x)
    if isinstance(layer, spec.Dense):
        return int(layer.out_features)
    outputs = Honest().output_shape(layer, x.shape)[1:-1]
    windows = zip(layer.window, layer.stride, outputs, strict=True)
    reading = math.prod(min(-(-window // stride), count) for window, stride, count in windows)
    return reading * int(layer.out_channels // layer.groups)


@dataclass(frozen=True)
class Sentinel:
    """What is wrong, and where: keys of ``LAYERS`` and ``SIZES``, a dtype, a path, a fault.

    The path is ``forward``, or the name of a gradient.
    """

    layer: str
    dtype: str
    size: str
    path: str
    fault: str

    @property
    def name(self) -> str:
        """The name of its class."""
        return "_".join(re.sub(r"\W+", "_", field) for field in dataclasses.astuple(self))

    def meets(self, layer: Layer, x: Array) -> bool:
        """Whether a layer is one whose answer is wrong."""
        if x.dtype.name != self.dtype or not x.size or not LAYERS[self.layer](layer):
            return False
        if self.path == "bias" and not getattr(layer, "bias", False):
            return False
        least, most = SIZES[self.size]
        return least <= joined(self.path, layer, x) <= most

    def make(self) -> type[Honest]:
        """Return the backend."""
        edit = self._forward() if self.path == FORWARD else self._backward()
        backend = edit(spec.Layer)
        backend.__name__ = backend.__qualname__ = self.name
        return backend

    def _forward(self) -> Edit:
        if self.fault in _OFF:
            off = partial(_OFF[self.fault], dtype=self.dtype)
            return within(self.meets, finish=lambda honest, y, dtype: honest(off(y), dtype))
        if self.fault == "two terms exchanged" and self.layer not in WEIGHTED:
            return within(self.meets, gather=lambda honest, x, axes: honest(_exchanged(x), axes))
        return within(self.meets, **_JOINED[self.fault])

    def _backward(self) -> Edit:
        if self.fault in _OFF:
            off = partial(_OFF[self.fault], dtype=self.dtype)
            return derives(self.path, self.meets, lambda grad, _x: off(grad))
        positions = self.path != "input" and self.fault != "two terms exchanged"
        return of_other(self.path, self.meets, partial(_SENT[self.fault], positions=positions))


def _by_units(y: Array, dtype: str) -> Array:
    """Return a result that is off by three units of the accumulator, and by the last rounding."""
    units = 3 * 2.0 ** -max(24, BITS[dtype]) + 2.0 ** -BITS[dtype]
    return shortened(y.astype(np.float64) * (1 + units), BITS[dtype], away)


def _exchanged(x: Array, *, positions: bool = False) -> Array:
    """Exchange the first value of the first sample and the last of the last."""
    del positions
    flat = x.ravel().copy()
    flat[[0, -1]] = flat[[-1, 0]]
    return flat.reshape(x.shape)


def _last_times(x: Array, factor: float, *, positions: bool) -> Array:
    """Multiply the last value of each sample, or those of the last position of all."""
    rows = (x.reshape(-1, x.shape[-1]).T if positions else x.reshape(len(x), -1)).copy()
    rows[:, -1] *= factor
    return (rows.T if positions else rows).reshape(x.shape)


_OFF: dict[str, Callable[..., Array]] = {
    "zeros": lambda y, **_: y * 0,
    "a twentieth too large": lambda y, **_: y * 1.05,
    UNITS: _by_units,
}
_JOINED: dict[str, dict[str, Callable[..., Array]]] = {
    "a term lost": LAST_LOST,
    "a term counted twice": LAST_TWICE,
    "two terms exchanged": {"inner": swapped},
}
_SENT: dict[str, Callable[..., Array]] = {
    "a term lost": partial(_last_times, factor=0),
    "a term counted twice": partial(_last_times, factor=2),
    "two terms exchanged": _exchanged,
}
FAULTS = (*_OFF, *_JOINED)
"""What is wrong with a result, or with the terms that it joins."""


def sentinels(layer: str, dtype: str) -> Iterator[Sentinel]:
    """Yield the sentinels of a layer and dtype: of each size, path and fault that it has."""
    for path in (FORWARD, "input", *(("weight", "bias") if layer in WEIGHTED else ())):
        for size in SIZES:
            for fault in FAULTS:
                yield Sentinel(layer, dtype, size, path, fault)


SENTINELS: dict[str, Sentinel] = {
    sentinel.name: sentinel
    for layer in LAYERS
    for dtype in BITS
    for sentinel in sentinels(layer, dtype)
}
"""Every sentinel by the name of its class."""


def __getattr__(name: str) -> type[Honest]:
    """Return the backend of a sentinel: ``tests/corpus/sentinels.py:NAME`` is a subject."""
    if name not in SENTINELS:
        raise AttributeError(name)
    return SENTINELS[name].make()
