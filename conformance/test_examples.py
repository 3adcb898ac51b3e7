"""The worked examples, and the counterexamples of the errata, on every backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from cnnformance.adapters.backend import Weights
from cnnformance.conformance import judge, models
from cnnformance.conformance.question import Question
from cnnformance.reference.windows import Array
from cnnformance.spec import clauses
from cnnformance.spec import layers as spec


def _trials() -> Iterator[object]:
    for clause in clauses.load().clauses.values():
        if isinstance(clause, clauses.Example | clauses.Erratum):
            for number, trial in enumerate(clause.trials, start=1):
                layer_type = type(trial.model[0])
                marks = pytest.mark.clauses(clause.id)
                yield pytest.param(layer_type, trial, marks=marks, id=f"{clause.id}-{number}")


@pytest.mark.parametrize(("layer_type", "trial"), list(_trials()))
def test_example(ask: Question, layer_type: type[spec.Layer], trial: clauses.Trial) -> None:
    """The output is the one that the example states: exactly, or within rounding for sums."""
    del layer_type
    x = trial.input.astype(np.float32)
    weights = [{n: w.astype(np.float32) for n, w in ws.items()} for ws in trial.weights]
    layers = trial.model
    try:
        if len(layers) == 1:
            actual = ask.run(layers[0], x, weights[0])
        else:
            actual = ask.run(layers, x, weights)
        _judge(ask, trial, weights, x, actual)
    except judge.Failure as failure:
        failure.arrays = failure.arrays or {"x": x, **weights[0]}
        failure.layers = failure.layers or layers
        raise
    ask.examples += 1


def _judge(
    ask: Question, trial: clauses.Trial, weights: Sequence[Weights], x: Array, actual: Array
) -> None:
    """Require the exact output of a selection, and of a sum one within the model's bound of it."""
    if all(layer.exact for layer in trial.model):
        judge.equal(actual, trial.output.astype(np.float32))
    else:
        stated = np.asarray(trial.output, dtype=np.float64)
        models.judged(ask, trial.model, weights, x, actual, stated)
