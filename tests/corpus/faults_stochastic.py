"""Faults of stochastic pooling: other distributions, dependent draws, evaluation."""

# ruff: noqa: ARG005 - a change is given all that it may need

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Backend
from cnnformance.spec.layers import Layer, Shape, StochasticPool
from corpus.fault import Edit, Faults, Witness, computes, hook, reads, result, values, whole
from corpus.kernels import but

FAULTS = Faults("stochastic")


def add(name: str, edit: Edit, witness: Witness) -> None:
    """Declare a fault of stochastic pooling, which the document describes."""
    FAULTS.add(StochasticPool, name, edit, witness)


TRAIN = StochasticPool((4,), training=True)
EVAL = StochasticPool((2,))
WINDOW = np.array([1, 2, 0, 6], np.float32)
MANY = np.tile(WINDOW, 2000).reshape(20, 400, 1)


def shares(backend: Backend) -> list[bool]:
    """Whether each value of a window is drawn about as often as its share of the sum."""
    backend.seed(5)
    drawn = backend.build(TRAIN, {})(MANY)
    return [abs((drawn == value).mean() - value / 9) < 0.035 for value in WINDOW]


def independent(axis: int) -> Witness:
    """Whether the draws differ along an axis of equal windows."""

    def witness(backend: Backend) -> bool:
        backend.seed(5)
        x = np.tile(WINDOW[None, :, None], (30, 30, 30))
        drawn = backend.build(TRAIN, {})(x)
        return bool((drawn != drawn.take([0], axis)).any())

    return witness


def calls_differ(backend: Backend) -> bool:
    """Whether two calls draw differently."""
    backend.seed(5)
    call = backend.build(TRAIN, {})
    return bool((call(MANY) != call(MANY)).any())


def members(backend: Backend) -> bool:
    """Whether every draw is a value of its window."""
    backend.seed(5)
    return bool(np.isin(backend.build(TRAIN, {})(MANY), WINDOW).all())


def zeros(backend: Backend) -> Array:
    """Draw from windows of zeros."""
    return backend.build(TRAIN, {})(np.zeros((1, 8, 1), np.float32))


def reweighs(change: Callable[[Array], Array]) -> Edit:
    """Draw with other probabilities: positions as if the values were changed."""

    def draw(honest: Any, cells: Array) -> Array:
        backend = honest.args[0]
        weights = np.asarray(change(cells.astype(np.float64)))
        summed = np.cumsum(weights, axis=-1)
        threshold = backend.uniform(cells.shape[:-1])[..., None] * summed[..., -1:]
        chosen = (summed <= threshold).sum(-1).clip(0, cells.shape[-1] - 1)
        return np.take_along_axis(cells, chosen[..., None], -1)[..., 0]

    return hook(draw=draw)


def tempered(cells: Array) -> Array:
    """Return softmax weights."""
    return np.exp(cells - cells.max(-1, initial=0, keepdims=True))


def favoured(cells: Array) -> Array:
    """Return weights with a tenth of the largest's taken for the others."""
    return np.where(cells == cells.max(-1, keepdims=True, initial=0), cells * 0.75, cells)


def shared(axis: int) -> Edit:
    """Draw once along an axis."""

    def uniform(honest: Any, shape: Shape) -> Array:
        one = list(shape)
        one[axis] = min(1, shape[axis])
        return np.broadcast_to(honest(tuple(one)), shape)

    return hook(uniform=uniform)


def untrained(layer: Any) -> Layer:
    """Read training as evaluation."""
    return but(layer, training=False)


add("uniform-over-window", reweighs(np.ones_like), shares)
add("uniform-over-nonzero", reweighs(lambda c: (c > 0) * 1.0), shares)
add("always-largest", hook(draw=lambda _honest, cells: cells.max(-1)), shares)
add("probability-squared", reweighs(np.square), shares)
add("probability-rooted", reweighs(np.sqrt), shares)
add("probability-softmax", reweighs(tempered), shares)
add("largest-drawn-too-seldom", reweighs(favoured), shares)
add(
    "last-value-never-drawn",
    reweighs(
        lambda c: np.where((np.arange(c.shape[-1]) == c.shape[-1] - 1) & (c.shape[-1] > 1), 0, c)
    ),
    shares,
)
add(
    "first-value-never-drawn",
    reweighs(lambda c: np.where((np.arange(c.shape[-1]) == 0) & (c.shape[-1] > 1), 0, c)),
    shares,
)
add("zeros-can-be-drawn", reweighs(lambda c: c + 0.1 * c.mean(-1, keepdims=True)), shares)
add("probability-reversed", reweighs(lambda c: c[..., ::-1]), shares)
add("training-averages", reads(untrained), members)
add("training-takes-mean", hook(draw=lambda _honest, cells: cells.mean(-1)), members)
add(
    "training-adds-noise",
    hook(
        draw=lambda honest, cells: (
            honest(cells) * (1 + 0.01 * honest.args[0].uniform(cells.shape[:-1]))
        )
    ),
    members,
)
add(
    "draws-from-next-window",
    hook(draw=lambda honest, cells: np.roll(honest(cells), 1, 1)),
    lambda backend: bool(
        (backend.build(TRAIN, {})(values(1, 1, 1, 1, 2, 2, 2, 2)).ravel() == [1, 2]).all()
    ),
)
add("one-draw-for-all-windows", shared(1), independent(1))
add("one-draw-for-the-batch", shared(0), independent(0))
add("one-draw-for-all-channels", shared(-1), independent(2))
add(
    "same-draw-in-every-call",
    hook(uniform=lambda _honest, shape: np.random.default_rng(0).random(shape)),
    calls_differ,
)
add(
    "zero-window-is-nan",
    hook(draw=lambda honest, cells: np.where((cells == 0).all(-1), np.nan, honest(cells))),
    zeros,
)
add(
    "evaluation-zero-window-is-nan",
    hook(expectation=lambda honest, terms: np.where((terms == 0).all(-1), np.nan, honest(terms))),
    result(EVAL, values(0, 0)),
)
add(
    "evaluation-takes-mean",
    hook(expectation=lambda _honest, terms: terms.mean(-1)),
    result(EVAL, values(1, 3)),
)
add(
    "evaluation-takes-largest",
    hook(expectation=lambda _honest, terms: terms.max(-1)),
    result(EVAL, values(1, 3)),
)
add("evaluation-draws", reads(lambda p: but(p, training=True)), result(EVAL, values(1, 3)))
add(
    "evaluation-divides-by-count",
    hook(expectation=lambda _honest, terms: (terms**2).mean(-1)),
    result(EVAL, values(1, 3)),
)
add(
    "evaluation-takes-root",
    hook(expectation=lambda _honest, terms: np.sqrt((terms**2).mean(-1))),
    result(EVAL, values(1, 3)),
)
add(
    "evaluation-divides-by-sum-of-squares",
    hook(
        expectation=lambda honest, terms: np.where(
            (s := (terms**2).sum(-1)) > 0, (terms**3).sum(-1) / np.where(s > 0, s, 1), 0
        )
    ),
    result(EVAL, values(1, 3)),
)
add(
    "evaluation-window-transposed",
    computes(lambda honest, p, w, x: honest(but(p, window=p.window[::-1]), w, x)),
    result(StochasticPool((3, 2)), whole(1, 6, 6, 1, low=0)),
)


SIXTEEN = np.array([85, *[1] * 15], np.float32)


def large_share(backend: Backend) -> bool:
    """Whether the largest of sixteen values is drawn about as often as its share."""
    backend.seed(5)
    layer = StochasticPool((16,), training=True)
    drawn = backend.build(layer, {})(np.tile(SIXTEEN, 2000).reshape(20, 1600, 1))
    return bool(abs((drawn == 85).mean() - 0.85) < 0.05)


add(
    "uniform-in-large-windows",
    reweighs(lambda cells: (cells > 0).astype(np.float64) if cells.shape[-1] > 9 else cells),
    large_share,
)
