"""The worked examples, and the counterexamples of the errata, on every backend."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cnnformance.conformance import judge
from cnnformance.conformance.asking import Ask
from cnnformance.reference import fast as fast_bounds
from cnnformance.reference import bounds, forward
from cnnformance.reference.windows import Array
from cnnformance.spec import clauses
from cnnformance.spec import layers as spec


def _trials() -> Iterator[object]:
    for clause in clauses.load().clauses.values():
        if isinstance(clause, clauses.Example | clauses.Erratum):
            for number, trial in enumerate(clause.trials, start=1):
                kind = type(trial.model[0])
                marks = pytest.mark.clauses(clause.id)
                yield pytest.param(kind, trial, marks=marks, id=f"{clause.id}-{number}")


def allowed(trial: clauses.Trial, dtype: str) -> bounds.Bound:
    """Return what a model may return for a trial: its exact output, within rounding.

    One rounding for each factor that can meet a term in any layer, applied to the sum of the
    absolute values that the model adds up.
    """
    x = np.abs(trial.input.astype(np.float64))
    factors = 8
    fast: Array | float = 0.0
    for layer, weights in zip(trial.model, trial.weights, strict=True):
        if not isinstance(layer, bounds.SELECTIONS):
            factors += bounds.terms(layer, x) + 8
        absolute = {name: np.abs(w.astype(np.float64)) for name, w in weights.items()}
        if isinstance(layer, spec.Conv):
            fast = fast_bounds.normwise(layer, x.astype(dtype), absolute)
        with np.errstate(invalid="ignore"):
            x = np.asarray(forward(layer, x, absolute), dtype=np.float64)
    value = np.asarray(trial.output, dtype=np.float64)
    fmt = bounds.format_of(dtype)
    with np.errstate(invalid="ignore"):
        error = (
            bounds.growth(factors, fmt.unit) * np.maximum(x, np.abs(value))
            + fmt.tiny
            + np.max(fast)
        )
    return bounds.Bound(value, error, np.ones(value.shape, dtype=np.bool_))


@pytest.mark.parametrize(("kind", "trial"), list(_trials()))
def test_example(ask: Ask, kind: type[spec.Layer], trial: clauses.Trial) -> None:
    """The output is the one that the example states: exactly, or within rounding for sums."""
    del kind
    x = trial.input.astype(np.float32)
    weights = [{n: w.astype(np.float32) for n, w in ws.items()} for ws in trial.weights]
    layers = trial.model
    try:
        if len(layers) == 1:
            actual = ask.run(layers[0], x, weights[0])
        else:
            actual = ask.run(layers, x, weights)
        _judge(trial, actual)
    except judge.Failure as failure:
        failure.arrays = failure.arrays or {"x": x, **weights[0]}
        failure.layers = failure.layers or layers
        raise
    ask.examples += 1


def _judge(trial: clauses.Trial, actual: Array) -> None:
    if all(isinstance(layer, bounds.SELECTIONS) for layer in trial.model):
        judge.equal(actual, trial.output.astype(np.float32))
    else:
        judge.within(actual, allowed(trial, "float32"), np.dtype(np.float32))
