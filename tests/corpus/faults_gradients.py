"""Faults of the backward pass: the forward pass is honest."""

# ruff: noqa: ARG005 - a change is given all that it may need

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
    StochasticPool,
)
from corpus.fault import Edit, Faults, Witness, backpropagates, gradient, hook, values, whole
from corpus.kernels import Honest

FAULTS = Faults("gradient")


def add(kind: type[Layer], name: str, edit: Edit, witness: Witness) -> None:
    """Declare a fault of the gradient."""
    FAULTS.add(kind, f"gradient-{name}", edit, witness, "gradient")


X = whole(2, 6, 6, 2)
MANY = np.arange(72, dtype=np.float32).reshape(2, 6, 6, 1)
CONV = Conv((2, 2), in_channels=2, out_channels=3)
DENSE = Dense(4, 3)
ROWS = whole(5, 4)
OVERLAP = ((3, 3), (1, 1))
PAD = ((1, 1), (1, 1))


def cells(change: Any) -> Edit:
    """Change the derivative by each cell; ``change`` gets it, cells, inside and the divisor."""
    return hook(
        cell_gradient=lambda honest, layer, c, inside, n: change(
            honest(layer, c, inside, n), c, inside, n
        )
    )


def inputs(change: Any) -> Edit:
    """Change the gradient of the input; ``change`` gets it, ``x`` and the upstream gradient."""
    return backpropagates(
        lambda grads, _layer, _w, x, g: {**grads, "input": change(grads["input"], x, g)}
    )


def of(name: str, change: Any) -> Edit:
    """Change the gradient of a weight; ``change`` gets it, ``x`` and the upstream gradient."""
    return backpropagates(
        lambda grads, _layer, _w, x, g: {
            **grads,
            **({name: change(grads[name], x, g)} if name in grads else {}),
        }
    )


def overwrites(honest: Any, local: Array, axes: Any, shape: Any) -> Array:
    """Assign the gradients of cells instead of adding them: windows that overlap lose mass."""
    backend: Honest = honest.args[0]
    total: Array = honest(local, axes, shape)
    hits = Honest.scatter(backend, (local != 0) * 1.0, axes, shape)
    return np.where(hits > 1, total / np.maximum(hits, 1), total)


def all_ties(local: Array, c: Array, inside: Array, _n: Array) -> Array:
    """Give every maximal cell the whole gradient."""
    wide = np.where(inside, c.astype(np.float64), -np.inf)
    return np.where((wide == wide.max(-1, keepdims=True)) & inside, 1.0, local)


for kind in (MaxPool, AveragePool):
    add(kind, "overlap-overwritten", hook(scatter=overwrites), gradient(kind(*OVERLAP), X))
add(MaxPool, "ties-counted-twice", cells(all_ties), gradient(MaxPool((2, 2)), X * 0))
add(GlobalMaxPool, "ties-counted-twice", cells(all_ties), gradient(GlobalMaxPool(), X * 0))
add(
    MaxPool,
    "spread-over-window",
    cells(lambda d, c, inside, n: np.where(inside, 1 / n[..., None], 0 * d)),
    gradient(MaxPool((2, 2)), MANY),
)
add(
    MaxPool,
    "to-first-cell",
    cells(
        lambda d, c, inside, n: (
            (
                (np.arange(d.shape[-1]) == np.broadcast_to(inside, d.shape).argmax(-1)[..., None])
                & inside
            )
            * 1.0
        )
    ),
    gradient(MaxPool((2, 2)), MANY),
)
add(
    MaxPool,
    "to-smallest-cell",
    cells(
        lambda d, c, inside, n: Honest().selected(
            np.where(inside, c.astype(np.float64), np.inf), inside, -1
        )
    ),
    gradient(MaxPool((2, 2)), MANY),
)
add(
    MaxPool,
    "lost-for-negative-maxima",
    cells(lambda d, c, inside, n: d * (c >= 0)),
    gradient(MaxPool((2, 2)), -1 - MANY),
)
add(
    MaxPool,
    "index-within-row-only",
    inputs(lambda d, x, g: d.cumsum(1) * 0 + np.roll(d, 1, 2)),
    gradient(MaxPool((2, 2)), MANY),
)
add(
    MaxPool,
    "lost-at-border",
    inputs(lambda d, x, g: np.where(np.arange(d.shape[-2])[:, None] == d.shape[-2] - 1, 0, d)),
    gradient(MaxPool((2, 2)), MANY),
)
add(
    MaxPool,
    "upstream-ignored",
    backpropagates(lambda grads, layer, w, x, g: {"input": (grads["input"] != 0) * 1.0}),
    gradient(MaxPool((2, 2)), MANY),
)
add(
    MaxPool,
    "of-later-batch-elements-lost",
    inputs(lambda d, x, g: d * (np.arange(len(d)) == 0).reshape(-1, *[1] * (d.ndim - 1))),
    gradient(MaxPool((2, 2)), MANY),
)
add(
    MinPool,
    "to-largest-cell",
    cells(
        lambda d, c, inside, n: Honest().selected(
            np.where(inside, c.astype(np.float64), -np.inf), inside, 1
        )
    ),
    gradient(MinPool((2, 2)), MANY),
)
add(MinPool, "negated", inputs(lambda d, x, g: -d), gradient(MinPool((2, 2)), MANY))
add(
    AveragePool,
    "not-divided",
    cells(lambda d, c, inside, n: np.where(inside, 1.0, 0 * d)),
    gradient(AveragePool((2, 2)), MANY),
)
add(
    AveragePool,
    "divided-twice",
    cells(lambda d, c, inside, n: d / n[..., None]),
    gradient(AveragePool((2, 2)), MANY),
)
add(
    AveragePool,
    "padding-counted",
    cells(lambda d, c, inside, n: np.where(inside, 1 / d.shape[-1], 0 * d)),
    gradient(AveragePool((3, 3), (2, 2), PAD), MANY),
)
add(
    AveragePool,
    "padding-not-counted",
    cells(lambda d, c, inside, n: np.where(inside, 1 / inside.sum(-1, keepdims=True), 0 * d)),
    gradient(AveragePool((3, 3), (2, 2), PAD, count_include_pad=True), MANY),
)
add(
    AveragePool,
    "overhang-counted",
    cells(lambda d, c, inside, n: np.where(inside, 1 / d.shape[-1], 0 * d)),
    gradient(AveragePool((4, 4), (3, 3), ceil_mode=True), MANY),
)
add(
    AveragePool,
    "to-first-cell",
    cells(
        lambda d, c, inside, n: (
            (np.arange(d.shape[-1]) == np.broadcast_to(inside, d.shape).argmax(-1)[..., None]) * 1.0
        )
    ),
    gradient(AveragePool((2, 2)), MANY),
)
add(
    AveragePool,
    "transposed",
    inputs(lambda d, x, g: d.swapaxes(1, 2) if d.ndim == 4 and d.shape[1] == d.shape[2] else d),
    gradient(AveragePool((2, 2)), MANY),
)
add(
    AveragePool,
    "in-half-precision",
    inputs(lambda d, x, g: d.astype(np.float16).astype(np.float64)),
    gradient(AveragePool((3, 3)), MANY),
)
add(
    GlobalAveragePool,
    "not-divided",
    cells(lambda d, c, inside, n: np.ones_like(d)),
    gradient(GlobalAveragePool(), MANY),
)
add(
    GlobalAveragePool,
    "divided-by-first-axis",
    inputs(lambda d, x, g: d * math.prod(x.shape[2:-1])),
    gradient(GlobalAveragePool(), MANY),
)
add(
    GlobalMaxPool,
    "spread-over-image",
    cells(lambda d, c, inside, n: np.ones_like(d) / d.shape[-1]),
    gradient(GlobalMaxPool(), MANY),
)
add(
    AdaptiveAveragePool,
    "overlap-overwritten",
    hook(scatter=overwrites),
    gradient(AdaptiveAveragePool((4, 4)), MANY),
)
add(
    AdaptiveAveragePool,
    "divided-by-mean-window",
    cells(lambda d, c, inside, n: np.where(inside, 1 / n.mean(), 0 * d)),
    gradient(AdaptiveAveragePool((3,)), whole(1, 11, 3)),
)
add(
    LpPool,
    "not-divided-by-norm",
    cells(lambda d, c, inside, n: np.where(inside, c.astype(np.float64), 0)),
    gradient(LpPool((2, 2)), X),
)
add(LpPool, "sign-lost", cells(lambda d, c, inside, n: np.abs(d)), gradient(LpPool((2, 2)), X))
add(LpPool, "twice-too-large", inputs(lambda d, x, g: 2 * d), gradient(LpPool((2, 2)), X))
add(ReLU, "of-negatives-kept", inputs(lambda d, x, g: g), gradient(ReLU(), X))
add(ReLU, "leaks", inputs(lambda d, x, g: np.where(x < 0, 1e-2 * g, d)), gradient(ReLU(), X))
add(ReLU, "lost-above-6", inputs(lambda d, x, g: np.where(x > 6, 0, d)), gradient(ReLU(), X))
add(ReLU, "times-input", inputs(lambda d, x, g: d * x), gradient(ReLU(), X))
add(ReLU, "upstream-ignored", inputs(lambda d, x, g: (x > 0) * 1.0), gradient(ReLU(), X))
add(
    ReLU,
    "by-upstream-sign",
    inputs(lambda d, x, g: np.where(g > 0, d, 0)),
    lambda backend: backend.gradients(ReLU(), {}, values(1, 2), values(3, -4)),
)
add(
    Flatten,
    "fortran-order",
    inputs(
        lambda d, x, g: (
            g.reshape(len(x), -1)
            .reshape(len(x), *x.shape[:0:-1])
            .transpose(0, *range(x.ndim - 1, 0, -1))
            if x.size and x.ndim > 2
            else d
        )
    ),
    gradient(Flatten(), MANY),
)
add(
    Flatten,
    "reversed",
    inputs(lambda d, x, g: d[..., ::-1, :] if d.ndim > 2 else d),
    gradient(Flatten(), MANY),
)
add(
    Flatten,
    "summed",
    inputs(lambda d, x, g: np.broadcast_to(d.sum(tuple(range(1, d.ndim)), keepdims=True), d.shape)),
    gradient(Flatten(), MANY),
)
add(
    Conv,
    "bias-not-summed-over-batch",
    of("bias", lambda d, x, g: g[:1].sum(tuple(range(g.ndim - 1)))),
    gradient(CONV, X),
)
add(
    Conv,
    "bias-not-summed-over-image",
    of("bias", lambda d, x, g: g[:, 0, 0].sum(0) if g.ndim == 4 and g.size else d),
    gradient(CONV, X),
)
add(Conv, "bias-averaged", of("bias", lambda d, x, g: d / max(1, len(x))), gradient(CONV, X))
add(Conv, "bias-zero", of("bias", lambda d, x, g: 0 * d), gradient(CONV, X))
add(
    Conv,
    "weight-of-first-batch-element",
    backpropagates(
        lambda grads, layer, w, x, g: {
            **grads,
            "weight": Honest().backward(layer, w, x[:1], g[:1])["weight"],
        }
    ),
    gradient(CONV, X),
)
add(Conv, "weight-averaged", of("weight", lambda d, x, g: d / max(1, len(x))), gradient(CONV, X))
add(
    Conv,
    "weight-flipped",
    of("weight", lambda d, x, g: np.flip(d, tuple(range(d.ndim - 2)))),
    gradient(CONV, X),
)
add(
    Conv,
    "weight-transposed",
    of(
        "weight",
        lambda d, x, g: d.swapaxes(0, 1) if d.ndim == 4 and d.shape[0] == d.shape[1] else d,
    ),
    gradient(CONV, X),
)
add(
    Conv,
    "input-with-flipped-kernel",
    backpropagates(
        lambda grads, layer, w, x, g: {
            **grads,
            "input": Honest().backward(
                layer, {**w, "weight": np.flip(w["weight"], tuple(range(layer.rank)))}, x, g
            )["input"],
        }
    ),
    gradient(CONV, X),
)
add(
    Conv,
    "input-stride-ignored",
    inputs(lambda d, x, g: np.where((d == 0).all(-1, keepdims=True), 1.0, d)),
    gradient(CONV.replace(stride=(3, 3)), X),
)
add(
    Conv,
    "input-border-lost",
    inputs(
        lambda d, x, g: np.where(np.arange(d.shape[1]).reshape(-1, *[1] * (d.ndim - 2)) == 0, 0, d)
    ),
    gradient(CONV, X),
)
add(Conv, "input-overlap-overwritten", hook(scatter=overwrites), gradient(CONV, X))
add(
    Conv,
    "group-order-reversed",
    of("weight", lambda d, x, g: d[..., ::-1] if d.shape[-2] < x.shape[-1] else d),
    gradient(Conv((2, 2), in_channels=2, out_channels=2, groups=2), X),
)
add(
    Dense,
    "weight-transposed",
    of("weight", lambda d, x, g: d.T if d.shape[0] == d.shape[1] else d),
    gradient(Dense(4, 4), ROWS),
)
add(
    Dense,
    "weight-of-last-row",
    of(
        "weight",
        lambda d, x, g: np.outer(g[-1], x[-1].astype(np.float64)) if x.ndim == 2 and len(x) else d,
    ),
    gradient(DENSE, ROWS),
)
add(
    Dense,
    "weight-averaged",
    of("weight", lambda d, x, g: d / max(1, len(x))),
    gradient(DENSE, ROWS),
)
add(
    Dense,
    "weight-decayed",
    backpropagates(
        lambda grads, layer, w, x, g: {
            **grads,
            "weight": grads["weight"] + 1e-2 * w["weight"].astype(np.float64),
        }
    ),
    gradient(DENSE, ROWS),
)
add(
    Dense,
    "bias-of-first-row",
    of("bias", lambda d, x, g: g[0] if g.ndim == 2 and len(g) else d),
    gradient(DENSE, ROWS),
)
add(
    Dense,
    "bias-not-summed-in-3d",
    of("bias", lambda d, x, g: g[:, 0].sum(0) if g.ndim == 3 and g.size else d),
    gradient(DENSE, whole(2, 3, 4)),
)
add(
    Dense,
    "input-transposed-weight",
    backpropagates(
        lambda grads, layer, w, x, g: (
            {**grads, "input": g @ w["weight"].T.astype(np.float64)}
            if layer.in_features == layer.out_features
            else grads
        )
    ),
    gradient(Dense(4, 4), ROWS),
)
add(
    Dense,
    "clipped-at-one",
    backpropagates(
        lambda grads, layer, w, x, g: {name: np.clip(d, -1, 1) for name, d in grads.items()}
    ),
    gradient(DENSE, ROWS),
)
add(
    Dense,
    "a-ten-thousandth-too-large",
    backpropagates(
        lambda grads, layer, w, x, g: {name: d * (1 + 1e-4) for name, d in grads.items()}
    ),
    gradient(DENSE, ROWS),
)
add(
    Dense,
    "in-half-precision",
    backpropagates(
        lambda grads, layer, w, x, g: {
            name: d.astype(np.float16).astype(np.float64) for name, d in grads.items()
        }
    ),
    gradient(DENSE, 300 * ROWS + 1),
)


def shares(c: Array, inside: Array) -> Array:
    """Return each cell's part of the sum of its window, 0 in a window of zeros."""
    terms = np.where(inside, c.astype(np.float64), 0.0)
    total = terms.sum(-1, keepdims=True)
    found: Array = np.divide(terms, total, out=np.zeros_like(terms), where=total != 0)
    return found


EVALUATED = gradient(StochasticPool((2, 2)), np.abs(X) + 1)
add(
    StochasticPool,
    "probabilities-held-constant",
    cells(lambda d, c, inside, n: shares(c, inside)),
    EVALUATED,
)
add(
    StochasticPool,
    "of-the-sum-left-out",
    cells(lambda d, c, inside, n: 2 * shares(c, inside)),
    EVALUATED,
)
add(
    StochasticPool,
    "negative-cut-off",
    cells(lambda d, c, inside, n: np.maximum(d, 0)),
    EVALUATED,
)
add(
    StochasticPool,
    "none-for-zeros",
    cells(lambda d, c, inside, n: np.where(c == 0, 0, d)),
    gradient(StochasticPool((2, 2)), np.abs(X) * (X > 3)),
)
