"""The layers and inputs that ``cnnformance try`` asks of an adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance.cases import Given, given
from cnnformance.spec import layers as spec

CASES: Mapping[type[spec.Layer], Sequence[tuple[spec.Layer, spec.Shape]]] = {
    spec.AveragePool: [
        (spec.AveragePool((2, 3), (1, 2)), (2, 5, 6, 3)),
        (spec.AveragePool((3, 3), (2, 2), ((1, 1), (1, 1))), (2, 5, 6, 3)),
        (
            spec.AveragePool((3, 3), (2, 2), ((1, 1), (1, 1)), count_include_pad=True),
            (2, 5, 6, 3),
        ),
    ],
    spec.StochasticPool: [(spec.StochasticPool((2, 2)), (2, 4, 6, 3))],
    spec.GlobalAveragePool: [(spec.GlobalAveragePool(2), (2, 4, 5, 3))],
    spec.GlobalMaxPool: [(spec.GlobalMaxPool(2), (2, 4, 5, 3))],
    spec.AdaptiveAveragePool: [(spec.AdaptiveAveragePool((2, 3)), (2, 5, 6, 3))],
    spec.AdaptiveMaxPool: [(spec.AdaptiveMaxPool((2, 3)), (2, 5, 6, 3))],
    spec.Conv: [
        (spec.Conv((3, 2), in_channels=4, out_channels=4), (2, 4, 4, 4)),
        (spec.Conv((3, 3), (2, 1), in_channels=4, out_channels=4, bias=False), (2, 4, 4, 4)),
        (spec.Conv((2, 2), in_channels=4, out_channels=6, groups=2), (2, 4, 5, 4)),
        (spec.Conv((2,), in_channels=3, out_channels=2, padding=((1, 1),)), (2, 6, 3)),
    ],
    spec.ReLU: [(spec.ReLU(), (2, 4, 5, 3))],
    spec.Flatten: [(spec.Flatten(), (2, 4, 3))],
    spec.Dense: [(spec.Dense(4, 4), (3, 4)), (spec.Dense(5, 3, bias=False), (2, 5))],
}
"""The layers of each type, the plainest first, and the shapes of their inputs.

Sizes differ along all axes, but where a mistake would be refused before it gives an answer.
"""


def cases_of(layer_type: type[spec.Layer]) -> Sequence[tuple[spec.Layer, spec.Shape]]:
    """Return the layers of a type; of any pooling, with and without its options."""
    if layer_type in CASES:
        return CASES[layer_type]
    if issubclass(layer_type, spec.Windowed):
        padded = layer_type((3, 3), (2, 2), ((1, 1), (1, 1)))
        return [(layer_type((2, 3), (1, 2)), (2, 5, 6, 3)), (padded, (2, 5, 6, 3))]
    return [(layer_type(), (2, 4, 5, 3))]


def case_of(layer: spec.Layer, shape: spec.Shape, dtype: str) -> Given:
    """Return a case of distinct whole numbers, none of them 0, that every dtype holds."""
    rng = np.random.default_rng(0)
    count = math.prod(shape)
    positive = isinstance(layer, spec.StochasticPool) or dtype.startswith("u")
    values = np.arange(1, count + 1)
    if not positive:
        values -= count // 2 + (values <= count // 2)
    x = rng.permutation(values).reshape(shape).astype(dtype_named(dtype))
    held = spec.weight_shapes(layer)
    weights = {n: (rng.integers(1, 9, s) * rng.choice([-1, 1], s)) for n, s in held.items()}
    return given(layer, x, **{n: w.astype(dtype_named(dtype)) for n, w in weights.items()})
