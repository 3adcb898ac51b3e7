"""Cases by design, for what drawing may miss: each option once, each rank, shapes that coincide."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from cnnformance.conformance.cases import Case
from cnnformance.conformance.regimes import SPARSE, is_integer
from cnnformance.reference import fast
from cnnformance.spec import layers as spec

_SPATIAL = {1: (9,), 2: (7, 8), 3: (4, 6, 7)}
_WINDOWS: dict[int, tuple[tuple[spec.Shape, spec.Shape], ...]] = {
    1: (((2,), (2,)), ((3,), (2,))),
    2: (((2, 2), (2, 2)), ((3, 3), (1, 1)), ((1, 1), (2, 3)), ((3, 2), (2, 1))),
    3: (((2, 2, 2), (2, 2, 2)), ((2, 3, 1), (1, 2, 1))),
}
"""Windows and strides: side by side, overlapping, unequal, and single cells that are skipped."""


def _telling(case: Case) -> Case:
    """Return the case with weights that are not all zero, which would show nothing."""
    few = case.layer.has_weights and math.prod(spec.weight_shapes(case.layer)["weight"]) < 4
    while few and not case.weights["weight"].any():
        case = case.with_(seed=case.seed + 1)
    return case


def of_regimes(
    dtype: str,
    *pairs: tuple[spec.Layer, spec.Shape],
    regimes: tuple[str, ...] = ("integer", "negative"),
) -> Iterator[Case]:
    """Yield a case of each layer and shape, in these regimes if the layer and dtype take them.

    Sums of two samples get a third one with few values that are not zero, where the bounds are
    sharp whatever the number of terms; and where Winograd's algorithm exists, float32 is asked such
    weights too, in which it can be told from short factors.
    """
    if is_integer(dtype):
        regimes = ("integer", "ends")
    for number, (layer, shape) in enumerate(pairs):
        if isinstance(layer, spec.StochasticPool):
            yield Case(layer, shape, dtype, ("positive",))
        elif layer.exact or shape[0] != 2:
            yield _telling(Case(layer, shape, dtype, regimes))
        else:
            few = SPARSE[number % len(SPARSE)]
            yield _telling(Case(layer, (3, *shape[1:]), dtype, (*regimes, few)))
            if dtype == "float32" and fast.winograd_tiles(layer):
                yield Case(layer, shape, dtype, SPARSE, "sparse")


def plain(kind: type[spec.Layer], dtype: str = "float32") -> Iterator[Case]:
    """Yield a layer as the document describes it, at each rank; weights square, and not."""
    if issubclass(kind, spec.Dense):
        yield from of_regimes(
            dtype, (kind(4, 3), (5, 4)), (kind(4, 4), (4, 4)), (kind(1, 5), (3, 1))
        )
        return
    for rank, spatial in _SPATIAL.items():
        shape = (2, *spatial, 3)
        if issubclass(kind, spec.Global):
            yield from of_regimes(dtype, (kind(rank=rank), shape))
        elif issubclass(kind, spec.Adaptive):
            outputs = ((1,), (3,), (4,), (12,))
            yield from of_regimes(dtype, *((kind(output=o * rank), shape) for o in outputs))
        elif issubclass(kind, spec.Windowed):
            for window, stride in _WINDOWS[rank]:
                layers: list[spec.Layer] = [kind(window=window, stride=stride)]
                if issubclass(kind, spec.Conv):
                    channels = ((3, 3), (3, 2))
                    layers = [
                        kind(window=window, stride=stride, in_channels=i, out_channels=o)
                        for i, o in channels
                    ]
                yield from of_regimes(dtype, *((layer, shape) for layer in layers))
        else:
            yield from of_regimes(dtype, (kind(), shape))


def options(
    kind: type[spec.Layer],
    dtype: str = "float32",
    strides: tuple[spec.Shape, ...] = ((1, 1), (2, 3)),
    sizes: tuple[spec.Shape, ...] = ((7, 8), (8, 9)),
) -> Iterator[Case]:
    """Yield each option of a layer alone and in the pairs that meet at a border, axis by axis."""
    if issubclass(kind, spec.Dense):
        several = (kind(3, 5), (2, 4, 3)), (kind(3, 3), (2, 2, 3, 3))
        yield from of_regimes(dtype, *several, (kind(4, 3, bias=False), (5, 4)))
    if issubclass(kind, spec.Flatten):
        shapes = ((2, 3, 2), (2, 3, 4, 2), (2, 3, 2, 4, 2))
        yield from of_regimes(dtype, *((kind(n), s) for s in shapes for n in range(2, len(s))))
    if not issubclass(kind, spec.Pool | spec.Conv):
        return
    padding: list[dict[str, Any]] = [
        {"padding": "same"},
        {"padding": "same_lower"},
        {"padding": ((1, 0), (0, 2))},
        {"padding": ((0, 1), (2, 0))},  # the padded map is as large as the one before
        {"padding": ((0, 1), (2, 1))},
        {"padding": ((1, 1), (1, 1))},
    ]
    chosen: list[dict[str, Any]] = []
    weights: dict[str, Any] = {}
    if issubclass(kind, spec.Pool):  # what fails most comes first
        ceil: list[dict[str, Any]] = [
            {"ceil_mode": True},
            {"ceil_mode": True, "padding": ((1, 1), (1, 1))},
        ]
        chosen = [*ceil, *padding]
        if issubclass(kind, spec.AveragePool):
            counted = [{**option, "count_include_pad": True} for option in (*ceil, *padding)]
            chosen = [*counted[:2], *chosen, *counted[2:]]
        if issubclass(kind, spec.LpPool):
            chosen += [{"p": 1}, {"p": 3}, {"p": 5}]
    else:
        weights = {"in_channels": 2, "out_channels": 4}
        chosen += [{"groups": 2}, *padding]
        chosen += [{"bias": False}, {"padding": "same", "dilation": (2, 2)}]
    chosen += [{"dilation": (2, 1)}, {"dilation": (1, 3)}]
    for spatial in sizes:
        for stride in strides:
            for option in chosen:
                layer = kind(window=(2, 3), stride=stride, **weights, **option)
                yield from of_regimes(dtype, (layer, (2, *spatial, 2)))
