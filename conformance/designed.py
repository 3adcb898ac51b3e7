"""Cases by design, for what drawing may miss: each option once, each rank, shapes that coincide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cnnformance.conformance.cases import Case
from cnnformance.conformance.regimes import is_integer
from cnnformance.spec import layers as spec

_SPATIAL = {1: (9,), 2: (7, 8), 3: (4, 6, 7)}
_WINDOWS: dict[int, tuple[tuple[spec.Shape, spec.Shape], ...]] = {
    1: (((2,), (2,)), ((3,), (2,))),
    2: (((2, 2), (2, 2)), ((3, 3), (1, 1)), ((1, 1), (2, 3)), ((3, 2), (2, 1))),
    3: (((2, 2, 2), (2, 2, 2)), ((2, 3, 1), (1, 2, 1))),
}
"""Windows and strides: side by side, overlapping, unequal, and single cells that are skipped."""


def _cases(
    dtype: str,
    *pairs: tuple[spec.Layer, spec.Shape],
    regimes: tuple[str, ...] = ("integer", "negative"),
) -> Iterator[Case]:
    if is_integer(dtype):
        regimes = ("integer", "ends")
    for layer, shape in pairs:
        own = ("positive",) if isinstance(layer, spec.StochasticPool) else regimes
        yield Case(layer, shape, dtype, own)


def plain(kind: type[spec.Layer], dtype: str = "float32") -> Iterator[Case]:
    """Yield a layer as the document describes it, at each rank; weights square, and not."""
    if issubclass(kind, spec.Dense):
        yield from _cases(dtype, (kind(4, 3), (5, 4)), (kind(4, 4), (4, 4)), (kind(1, 5), (3, 1)))
        return
    for rank, spatial in _SPATIAL.items():
        shape = (2, *spatial, 3)
        if issubclass(kind, spec.Global):
            yield from _cases(dtype, (kind(rank=rank), shape))
        elif issubclass(kind, spec.Adaptive):
            outputs = ((1,), (3,), (4,), (12,))
            yield from _cases(dtype, *((kind(output=o * rank), shape) for o in outputs))
        elif issubclass(kind, spec.Windowed):
            for window, stride in _WINDOWS[rank]:
                layers: list[spec.Layer] = [kind(window=window, stride=stride)]
                if issubclass(kind, spec.Conv):
                    channels = ((3, 3), (3, 2))
                    layers = [
                        kind(window=window, stride=stride, in_channels=i, out_channels=o)
                        for i, o in channels
                    ]
                yield from _cases(dtype, *((layer, shape) for layer in layers))
        else:
            yield from _cases(dtype, (kind(), shape))


def options(
    kind: type[spec.Layer],
    dtype: str = "float32",
    strides: tuple[spec.Shape, ...] = ((1, 1), (2, 3)),
    sizes: tuple[spec.Shape, ...] = ((7, 8), (8, 9)),
) -> Iterator[Case]:
    """Yield each option of a layer alone and in the pairs that meet at a border, axis by axis."""
    if issubclass(kind, spec.Dense):
        several = (kind(3, 5), (2, 4, 3)), (kind(3, 3), (2, 2, 3, 3))
        yield from _cases(dtype, *several, (kind(4, 3, bias=False), (5, 4)))
    if issubclass(kind, spec.Flatten):
        shapes = ((2, 3, 2), (2, 3, 4, 2), (2, 3, 2, 4, 2))
        yield from _cases(dtype, *((kind(n), s) for s in shapes for n in range(2, len(s))))
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
    if issubclass(kind, spec.Pool):  # what fails most comes first: the time may not last for all
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
    for option in chosen:
        for stride in strides:
            for spatial in sizes:
                layer = kind(window=(2, 3), stride=stride, **weights, **option)
                yield from _cases(dtype, (layer, (2, *spatial, 2)))


_CONVOLUTIONS: tuple[tuple[dict[str, Any], spec.Shape], ...] = (
    ({"window": (3, 3), "in_channels": 2, "out_channels": 3}, (2, 5, 70, 2)),
    ({"window": (3, 2), "in_channels": 2, "out_channels": 3}, (2, 67, 4, 2)),
    ({"window": (7, 7), "in_channels": 1, "out_channels": 2}, (2, 9, 10, 1)),
    ({"window": (1, 9), "in_channels": 2, "out_channels": 2}, (2, 3, 12, 2)),
    ({"window": (2, 2, 2), "in_channels": 2, "out_channels": 2}, (2, 19, 3, 4, 2)),
    ({"window": (1, 1), "in_channels": 17, "out_channels": 20}, (2, 4, 3, 17)),
    ({"window": (2, 2), "in_channels": 33, "out_channels": 33}, (2, 4, 5, 33)),
    ({"window": (2, 2), "in_channels": 70, "out_channels": 3}, (1, 4, 5, 70)),
    ({"window": (3,), "in_channels": 1, "out_channels": 1}, (9, 4, 1)),
    ({"window": (3,), "stride": (2,), "in_channels": 2, "out_channels": 2}, (2, 131, 2)),
    *(
        (
            {"window": (3, 2), "in_channels": i, "out_channels": o, "groups": i},
            (2, 6, 5, i),
        )
        for i, o in ((4, 8), (9, 9), (12, 24), (40, 40))
    ),
    (
        {
            "window": (2, 2, 2),
            "dilation": (1, 2, 3),
            "in_channels": 2,
            "out_channels": 4,
            "groups": 2,
        },
        (2, 5, 6, 8, 2),
    ),
    (
        {
            "window": (2, 2),
            "dilation": (4, 5),
            "padding": ((2, 3), (1, 0)),
            "in_channels": 2,
            "out_channels": 2,
        },
        (2, 11, 12, 2),
    ),
    ({"window": (2, 3), "dilation": (4, 4), "in_channels": 2, "out_channels": 2}, (2, 9, 13, 2)),
    (
        {
            "window": (2, 2),
            "stride": (2, 2),
            "dilation": (2, 3),
            "padding": "same_lower",
            "in_channels": 2,
            "out_channels": 2,
        },
        (2, 9, 11, 2),
    ),
    (
        {
            "window": (3, 3),
            "stride": (1, 3),
            "padding": ((1, 1), (0, 2)),
            "in_channels": 2,
            "out_channels": 2,
        },
        (2, 7, 8, 2),
    ),
    (
        {"window": (1, 1), "padding": ((1, 1), (1, 2)), "in_channels": 3, "out_channels": 2},
        (2, 4, 5, 3),
    ),
    ({"window": (2,), "padding": ((3, 2),), "in_channels": 2, "out_channels": 2}, (2, 5, 2)),
)
_POOLS: tuple[tuple[dict[str, Any], spec.Shape], ...] = (
    ({"window": (2, 2)}, (2, 4, 71, 2)),
    ({"window": (2, 2)}, (2, 70, 5, 2)),
    ({"window": (6, 6), "stride": (3, 2)}, (2, 13, 12, 2)),
    ({"window": (40,), "stride": (7,)}, (2, 131, 2)),
    ({"window": (3, 4, 3)}, (2, 7, 9, 6, 2)),
    ({"window": (2, 2, 2)}, (2, 19, 4, 5, 2)),
    ({"window": (2,)}, (2, 70001, 1)),
)
_POOL_OPTIONS: tuple[tuple[dict[str, Any], spec.Shape], ...] = (
    *(
        (
            {
                "window": (3,),
                "stride": (2,),
                "dilation": (2,),
                "padding": (pads,),
                "ceil_mode": True,
            },
            (2, n, 2),
        )
        for pads in ((1, 0), (0, 1), (1, 1))
        for n in (8, 9, 10)
    ),
    (
        {"window": (2, 2, 2), "stride": (2, 3, 2), "dilation": (2, 1, 2), "ceil_mode": True},
        (2, 6, 6, 7, 2),
    ),
)
_MANY = 65537
"""Samples: more than fit into 16 bits."""


def large(kind: type[spec.Layer], dtype: str = "float32") -> Iterator[Case]:
    """Yield sizes, and options with them, past those at which kernels work in blocks or tiles."""
    pairs: list[tuple[spec.Layer, spec.Shape]] = []
    if issubclass(kind, spec.Conv):
        pairs = [(kind(**fields), shape) for fields, shape in _CONVOLUTIONS]
    elif issubclass(kind, spec.Dense):
        pairs = [
            (kind(515, 3), (1, 515)),
            (kind(70, 66), (17, 70)),
            (kind(53, 5), (3, 53)),
            (kind(3, 2), (2, 1, 2, 3, 3)),
        ]
    elif issubclass(kind, spec.Global):
        shapes = ((2, 3, 70, 2), (2, 70, 3, 2), (2, 11, 12, 10, 2), (2, 2001, 2))
        pairs = [(kind(rank=len(shape) - 2), shape) for shape in shapes]
    elif issubclass(kind, spec.Adaptive):
        pairs = [
            (kind(output=(130,)), (2, 300, 2)),
            (kind(output=(130, 2)), (2, 300, 3, 1)),
            (kind(output=(5, 4)), (2, 5, 4, 2)),
        ]
    elif issubclass(kind, spec.StochasticPool):
        pairs = [(kind(**fields), shape) for fields, shape in _POOLS[:-1]]
    elif issubclass(kind, spec.Windowed):
        options: list[dict[str, Any]] = [{}]
        if issubclass(kind, spec.AveragePool):
            options.append({"count_include_pad": True})
        pairs = [(kind(**fields), shape) for fields, shape in _POOLS]
        pairs += [
            (kind(**fields, **option), shape)
            for fields, shape in _POOL_OPTIONS
            for option in options
        ]
    elif issubclass(kind, spec.Flatten):
        pairs = [(kind(), (2, 2, 3, 2, 4, 2)), (kind(2), (2, 2, 3, 2, 4, 2)), (kind(), (3, 70, 5))]
    else:
        pairs = [(kind(), (2, 5003)), (kind(), (2, 7, 11, 5))]
    if not issubclass(kind, spec.Conv | spec.Dense | spec.Flatten | spec.ReLU):
        own: dict[str, Any] = {"rank": 1} if issubclass(kind, spec.Global) else {}
        own = {"output": (1,)} if issubclass(kind, spec.Adaptive) else own
        own = {"window": (2,)} if issubclass(kind, spec.Windowed) else own
        pairs.append((kind(**own), (_MANY, 2, 1)))
    regimes = ("positive",) if issubclass(kind, spec.StochasticPool) else ("negative", "integer")
    yield from _cases(dtype, *pairs, regimes=regimes)
