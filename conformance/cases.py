"""A case: one layer, and how its input and weights are made, or the arrays themselves.

The recipe of a case is small enough to be recorded whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import regimes as families
from cnnformance.reference import bounds, terms
from cnnformance.spec import layers as spec


@dataclass(frozen=True)
class Case:
    """A layer and the recipe of its input: shape, dtype, regimes, seed and memory.

    Seed 0 makes the plainest input: distinct small integers in rising order.
    """

    layer: spec.Layer
    shape: spec.Shape
    dtype: str = "float32"
    regimes: tuple[str, ...] = ("integer",)
    weight_regime: str = "integer"
    seed: int = 1
    memory: str = "contiguous"

    @cached_property
    def terms(self) -> int:
        """The number of terms of an output of this layer; 1 for a selection."""
        if self.layer.exact:
            return 1
        return terms(self.layer, self.shape)

    @cached_property
    def x(self) -> Array:
        """The input, canonical."""
        if self.seed == 0:
            return self._ramp(self.shape)
        rng = np.random.default_rng([self.seed, 0])
        weighted = self.layer.has_weights
        return families.fill(
            rng, self.shape, self.dtype, self.regimes, self.terms, weighted=weighted
        )

    @cached_property
    def weights(self) -> dict[str, Array]:
        """The weights, canonical; empty for a layer without."""
        rng = np.random.default_rng([self.seed, 1])
        made = {}
        for name, shape in spec.weight_shapes(self.layer).items():
            if self.seed == 0:
                made[name] = self._ramp(shape)
            elif self.weight_regime == "sparse" and len(shape) > 2:
                made[name] = families.one_tap(rng, shape, self.dtype)
            else:
                row = families.fill(
                    rng, (1, *shape), self.dtype, (self.weight_regime,), self.terms, weighted=True
                )
                made[name] = row[0]
        return made

    def _ramp(self, shape: spec.Shape) -> Array:
        size = math.prod(shape)
        values = np.arange(size)
        if not families.is_integer(self.dtype):
            values = values % (2 ** bounds.format_of(self.dtype).bits) + 1
        return values.reshape(shape).astype(dtype_named(self.dtype))

    def with_(self, **changes: Any) -> Case:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def emptied(self) -> Case:
        """Return the case of a batch of no samples."""
        return self.with_(shape=(0, *self.shape[1:]), regimes=("integer",))

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain JSON data."""
        return {
            "layers": [spec.to_json(self.layer)],
            "shape": list(self.shape),
            "dtype": self.dtype,
            "regimes": list(self.regimes),
            "weight_regime": self.weight_regime,
            "seed": self.seed,
            "memory": self.memory,
        }


@dataclass(frozen=True, eq=False)  # arrays have no equality: each case is itself
class Given(Case):
    """A case whose input, and weights if any, are given rather than drawn."""

    arrays: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def x(self) -> Array:
        """The input, canonical."""
        return self.arrays["x"]

    @cached_property
    def weights(self) -> dict[str, Array]:
        """The weights, whatever their shapes."""
        return {name: array for name, array in self.arrays.items() if name != "x"}


def given(layer: spec.Layer, x: Array, **weights: Array) -> Given:
    """Return the case of a layer on these arrays."""
    return Given(layer, x.shape, x.dtype.name, ("given",), arrays={"x": x, **weights})
