"""Topics of values: NaN and infinities, gradients, half precision, rounding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import judge
from cnnformance.conformance.contrast import Asked, Both, Probe, Reply, probe
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.small_layers import ordinary
from cnnformance.conformance.topics import Told, Topic, apart, plainly, telling
from cnnformance.reports import matrix
from cnnformance.spec.layers import (
    TYPES,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
)

NAN, INF = np.nan, np.inf


def cells(*values: float) -> Array:
    """Return one sample of one channel with these cells."""
    return np.array(values, np.float32).reshape(1, -1, 1)


def _place(key: str) -> tuple[str, str]:
    """Return the layer of a key, and the rest."""
    of, _, where = key.partition(" ")
    return of, where


# 8 NaN and infinities


def _special(_: Both) -> list[Probe]:
    one = np.ones((1, 1), np.float32)
    pairs: dict[str, tuple[Layer, tuple[float, ...]]] = {
        "MaxPool of [nan, 1]": (MaxPool((2,)), (NAN, 1)),
        "MaxPool of [1, nan]": (MaxPool((2,)), (1, NAN)),
        "MaxPool of [nan, nan]": (MaxPool((2,)), (NAN, NAN)),
        "MaxPool of [-inf, -inf]": (MaxPool((2,)), (-INF, -INF)),
        "MinPool of [nan, 1]": (MinPool((2,)), (NAN, 1)),
        "GlobalMaxPool of [nan, 1]": (GlobalMaxPool(1), (NAN, 1)),
        "AdaptiveMaxPool of [nan, 1]": (AdaptiveMaxPool((1,)), (NAN, 1)),
        "AveragePool of [nan, 1]": (AveragePool((2,)), (NAN, 1)),
        "AveragePool of [inf, 1]": (AveragePool((2,)), (INF, 1)),
        "AveragePool of [inf, -inf]": (AveragePool((2,)), (INF, -INF)),
        "GlobalAveragePool of [inf, -inf]": (GlobalAveragePool(1), (INF, -INF)),
        "LpPool of [nan, 1]": (LpPool((2,)), (NAN, 1)),
        "ReLU of [nan, -inf, inf]": (ReLU(), (NAN, -INF, INF)),
    }
    found = [probe(*_place(key), cells(*x), layer) for key, (layer, x) in pairs.items()]
    zero, kernel = {"weight": 0 * one}, {"weight": np.zeros((1, 1, 1), np.float32)}
    where, conv = "of [inf] with weight 0", Conv((1,), bias=False)
    found.append(probe("Dense", where, INF * one, Dense(1, 1, bias=False), weights=zero))
    return [*found, probe("Conv", where, cells(INF), conv, weights=kernel)]


# 9 gradients


def _ties(_: Both) -> list[Probe]:
    ones = cells(1, 1, 1)
    asked: dict[str, tuple[Layer, Array]] = {
        "MaxPool of [1, 1, 1]": (MaxPool((3,)), ones),
        "MaxPool window 2 stride 1 of [1, 1, 1]": (MaxPool((2,), (1,)), ones),
        "MinPool of [1, 1, 1]": (MinPool((3,)), ones),
        "GlobalMaxPool of [1, 1, 1]": (GlobalMaxPool(1), ones),
        "AdaptiveMaxPool of [1, 1, 1]": (AdaptiveMaxPool((1,)), ones),
        "ReLU of [-1, 0, 1]": (ReLU(), cells(-1, 0, 1)),
        "LpPool of [0, 0]": (LpPool((2,)), cells(0, 0)),
        "LpPool of [3, 4]": (LpPool((2,)), cells(3, 4)),
        "AveragePool of [1, 2]": (AveragePool((2,)), cells(1, 2)),
    }
    return [probe(*_place(k), x, layer, gradient=True) for k, (layer, x) in asked.items()]


# 11 half precision

_MANY = 4096
"""More ones than a half-precision sum can count one by one: 2048, or 256 in bfloat16."""
_LARGE = 1024
"""So many hundreds are more than float16 holds, and their mean is not."""


def _halves(_: Both) -> list[Probe]:
    found = []
    for dtype in ("float16", "bfloat16"):
        kind = dtype_named(dtype)
        x = np.ones((1, _MANY, 1), kind)
        flat, part = np.ones((1, _MANY), kind), np.full((1, _MANY), 1 / _MANY).astype(kind)
        kernel = part.reshape(_MANY, 1, 1)
        dense, conv = Dense(_MANY, 1, bias=False), Conv((_MANY,), bias=False)
        ones, many = f"of {_MANY} ones in {dtype}", f"of {_LARGE} hundreds in {dtype}"
        share = f"{ones} with weights 1/{_MANY}"
        hundreds = np.full((1, _LARGE, 1), 100).astype(kind)
        found += [
            probe("GlobalAveragePool", ones, x, GlobalAveragePool(1)),
            probe("AveragePool", ones, x, AveragePool((_MANY,))),
            probe("GlobalAveragePool", many, hundreds, GlobalAveragePool(1)),
            probe("AveragePool", many, hundreds, AveragePool((_LARGE,))),
            probe("Dense", share, flat, dense, weights={"weight": part}),
            probe("Conv", share, x, conv, weights={"weight": kernel}),
        ]
    return found


# plain layers


def _drawn(both: Both) -> list[Asked]:
    """Return the plain layers that both answer: those of one alone are another topic."""
    asked = both.ask(*_normal())
    return [a for a in asked if {r.state for r in a.replies} <= {"answered", "unknown"}]


def _normal() -> list[Probe]:
    rng = np.random.default_rng(0)
    found = []
    layers = [ordinary(kind) for kind in TYPES.values() if not (kind.draws or kind.reshapes)]
    for layer in (*layers, Conv((3, 3), in_channels=64, out_channels=8), Dense(512, 8)):
        name = type(layer).__name__
        features = getattr(layer, "in_channels", 0) or getattr(layer, "in_features", 0) or 4
        shape = (4, features) if isinstance(layer, Dense) else (2, 8, 8, features)
        where = f"on normal numbers of shape {shape}"
        x = rng.normal(size=shape).astype(np.float32)
        sizes = layer.weight_shapes().items()
        weights = {key: rng.normal(size=size).astype(np.float32) for key, size in sizes}
        found.append(probe(name, where, x, layer, weights=weights))
    return found


def _within(asked: Asked, reply: Reply) -> str:
    """Return how much of the proven bound of the reference an answer uses."""
    if reply.y is None:
        return plainly(reply)
    try:
        evidence, _ = judge.met(reply.layer, asked.probe.x, asked.probe.weights, reply.y)
    except Failure as failure:
        return f"beyond the proven bound ({failure.message})"
    return f"within {evidence.share:.1%} of the proven bound"


def _bounded(topic: Topic, asked: Sequence[Asked], at: int) -> str:
    """Return the layer that came closest to its bound; where answers differ, those."""
    if apart(asked):
        return telling(topic, asked, at)
    most, place = 0.0, ""
    for each in asked:
        y = each.replies[at].y
        if y is not None and each.agreement == "rounding":
            found, _ = judge.met(each.replies[at].layer, each.probe.x, each.probe.weights, y)
            most, place = max((most, place), (found.share, each.probe.of))
    return f"at most {most:.0%} of the proven bound, in {place}" if place else "no bits differ"


def grades(both: Both) -> Told:
    """Return the accumulator of each layer in half precision, as the records grade it."""
    found: dict[str, list[str]] = {}
    for at, side in enumerate(both.sides):
        for (layer, dtype), cell in (matrix.grades(side.run) if side.run else {}).items():
            grade = cell.get(side.name)
            if grade and grade.grade and dtype in ("float16", "bfloat16"):
                found.setdefault(f"{layer} of {dtype}, sums in", ["-", "-"])[at] = grade.grade
    return tuple((name, one, other) for name, (one, other) in found.items())


TOPICS = {
    "special": Topic(
        "special", "NaN and infinities", _special, traits="NaN in|NaN and infinities|infinit"
    ),
    "gradients": Topic("gradients", "gradients at ties, and others", _ties, traits="gradient"),
    "halves": Topic("halves", "accumulators of half precision", _halves, held=grades, right=True),
    "plain": Topic("plain", "plain layers, and their last digits", _drawn, _within, _bounded),
}
