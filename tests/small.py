"""Hypothesis strategies: every kind of layer in every field, with inputs small enough to loop over.

They are the project's own, apart from those of the suite, so that a gap in one set of cases is
not a gap in the other.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from cnnformance.reference import Array, output_shape
from cnnformance.spec.layers import (
    TYPES,
    Adaptive,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Global,
    Layer,
    LpPool,
    Pool,
    ReLU,
    Shape,
    StochasticPool,
    Windowed,
    weight_shapes,
)

KINDS = tuple(TYPES.values())
_LONGEST_WINDOW = {1: 5, 2: 3, 3: 2}
_LONGEST_AXIS = {1: 9, 2: 5, 3: 3}


class Drawn(NamedTuple):
    """A layer, an input shape that it takes, and a generator for the values."""

    layer: Any  # of one of KINDS; what a test may do with it follows from the kinds it drew
    shape: Shape
    rng: np.random.Generator

    def dyadic(self, shape: Shape) -> Array:
        """Return quarters of small integers: their sums and products are exact in float64."""
        low = 0 if isinstance(self.layer, StochasticPool) else -12
        values: Array = self.rng.integers(low, 13, shape) / 4
        return values

    def untied(self) -> Array:
        """Return an input without ties and away from 0, where every layer is differentiable."""
        steps = self.rng.permutation(math.prod(self.shape)) + 1.0
        positive = isinstance(self.layer, StochasticPool)
        signs = 1.0 if positive else self.rng.choice([-1.0, 1.0], steps.shape)
        return (signs * (1 + steps / 8)).reshape(self.shape)

    def weights(self) -> dict[str, Array]:
        """Return dyadic weights for the layer; empty for a layer without."""
        return {name: self.dyadic(shape) for name, shape in weight_shapes(self.layer).items()}

    def upstream(self) -> Array:
        """Return a dyadic gradient in the shape of the output."""
        values: Array = self.rng.integers(-12, 13, output_shape(self.layer, self.shape)) / 4
        return values


def _sizes(rank: int, low: int, high: int) -> st.SearchStrategy[Shape]:
    return st.tuples(*[st.integers(low, high)] * rank)


@st.composite
def _windowed(draw: st.DrawFn, kind: type[Windowed], rank: int) -> Windowed:
    window = draw(_sizes(rank, 1, _LONGEST_WINDOW[rank]))
    fields: dict[str, Any] = {
        "stride": draw(st.just(()) | _sizes(rank, 1, 3)),
        "dilation": draw(st.just(()) | _sizes(rank, 1, 3)),
    }
    extent = kind(window, **fields).extent
    reach = [e + (2 if issubclass(kind, Conv) else -1) for e in extent]
    explicit = st.tuples(*[st.tuples(*[st.integers(0, r)] * 2) for r in reach])
    fields["padding"] = draw(st.just(()) | st.sampled_from(["same", "same_lower"]) | explicit)
    if issubclass(kind, Pool):
        fields["ceil_mode"] = draw(st.booleans())
    if issubclass(kind, AveragePool):
        fields["count_include_pad"] = draw(st.booleans())
    if issubclass(kind, LpPool):
        fields["p"] = draw(st.integers(1, 4))
    if issubclass(kind, Conv):
        groups = draw(st.integers(1, 3))
        fields |= {
            "groups": groups,
            "in_channels": groups * draw(st.integers(1, 2)),
            "out_channels": groups * draw(st.integers(1, 2)),
            "bias": draw(st.booleans()),
        }
    return kind(window, **fields)


@st.composite
def _spatial(draw: st.DrawFn, layer: Windowed) -> Shape:
    """Draw sizes from the one at which the output is empty on."""
    pads = ((0, 0),) * layer.rank if isinstance(layer.padding, str) else layer.padding
    sizes = []
    for extent, pair in zip(layer.extent, pads, strict=True):
        least = 1 if isinstance(layer.padding, str) else max(1, extent - sum(pair) - 1)
        sizes.append(draw(st.integers(least, least + _LONGEST_AXIS[layer.rank] - 1)))
    return tuple(sizes)


@st.composite
def drawn(draw: st.DrawFn, *kinds: type[Layer]) -> Drawn:
    """Draw a layer of one of the kinds (by default of all) and an input for it."""
    kind = draw(st.sampled_from(kinds or KINDS))
    rank = draw(st.integers(1, 3))
    spatial = draw(_sizes(rank, 1, _LONGEST_AXIS[rank]))
    channels = draw(st.integers(1, 2))
    layer: Layer
    if issubclass(kind, Windowed):
        layer = draw(_windowed(kind, rank))
        spatial = draw(_spatial(layer))
        channels = layer.in_channels if isinstance(layer, Conv) else channels
    elif issubclass(kind, Global):
        layer = kind(rank)
    elif issubclass(kind, Adaptive):
        layer = kind(draw(_sizes(rank, 1, 4)))
    elif issubclass(kind, Flatten):
        layer = kind(draw(st.integers(1, rank + 1)))
    elif issubclass(kind, Dense):
        layer = kind(draw(st.integers(0, 4)), draw(st.integers(0, 3)), draw(st.booleans()))
        channels = layer.in_features
        spatial = spatial[: draw(st.integers(0, rank))]
    else:
        assert kind is ReLU
        layer = kind()
    batch = draw(st.integers(1, 2))
    seed = draw(st.integers(0, 2**32 - 1))
    return Drawn(layer, (batch, *spatial, channels), np.random.default_rng(seed))
