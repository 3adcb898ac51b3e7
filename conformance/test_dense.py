"""Dense layers: which input and which weight reach which output."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_varied import random, windowed
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.laws import alike, answer, chained, few, holds, require
from cnnformance.conformance.parametrize import law
from cnnformance.conformance.question import Question
from cnnformance.conformance.strategies import cases
from cnnformance.spec import layers as spec

LAYER = spec.Dense


@law("every-input-reaches-every-output")
def test_every_input_reaches_every_output(ask: Question, layer_type: type[spec.Dense]) -> None:
    """A one in each input in turn gives that input's column of weights, none of them lost."""

    def question(case: Case) -> None:
        features, neurons = windowed(case).in_features, windowed(case).out_features
        weight = case.weights["weight"]
        weight = np.where(weight == 0, weight.dtype.type(1), weight)
        layer = layer_type(features, neurons, bias=False)
        said = answer(ask, layer, np.eye(features, dtype=np.float32), {"weight": weight})
        require("an input does not reach an output", said.y != 0, said)
        holds("not the input's weights", weight.T, said)

    few(ask, cases(layer_type), question)


@law("weight-feeds-one-output")
def test_weight_feeds_one_output(ask: Question, layer_type: type[spec.Dense]) -> None:
    """One more in one weight adds its input to its own output, and nothing to any other."""
    del layer_type

    def question(case: Case) -> None:
        layer, x = windowed(case), case.x
        place = random(case)
        o, i = int(place.integers(layer.out_features)), int(place.integers(layer.in_features))
        more = case.weights["weight"].copy()
        more[o, i] += 1
        before = answer(ask, layer, x, case.weights)
        expected = before.y.copy()
        expected[:, o] += x[:, i]
        after = answer(ask, layer, x, {**case.weights, "weight": more})
        name = f"weight ({o}, {i}) grew by one"
        alike(name, dataclasses.replace(before, y=expected), after)

    drawn = cases(spec.Dense, regimes=("integer",))
    few(ask, drawn.map(lambda case: case.with_(weight_regime="integer")), question)


@law("input-permutation")
def test_input_permutation(ask: Question, layer_type: type[spec.Dense]) -> None:
    """Inputs and columns of weights permuted alike give the same output."""

    def question(case: Case) -> None:
        order = random(case).permutation(windowed(case).in_features)
        weights = {**case.weights, "weight": case.weights["weight"][:, order]}
        moved = answer(ask, case.layer, case.x[..., order], weights)
        same = answer(ask, case.layer, case.x, case.weights)
        alike("inputs and columns were permuted alike", same, moved)

    few(ask, cases(layer_type), question)


@law("acts-on-last-axis")
def test_acts_on_last_axis(ask: Question, layer_type: type[spec.Dense]) -> None:
    """With more axes the layer acts on every row alike: as with the rows as a batch."""

    def question(case: Case) -> None:
        shape = (case.shape[0], *random(case).integers(1, 4, 2), case.shape[-1])
        x = case.with_(shape=tuple(map(int, shape))).x
        rows = answer(ask, case.layer, x.reshape(-1, shape[-1]), case.weights)
        whole = answer(ask, case.layer, x, case.weights)
        alike("not row by row", rows.view(lambda a: a.reshape(whole.y.shape)), whole)

    few(ask, cases(layer_type), question)


@law("zero-features-give-bias")
def test_zero_features(ask: Question, layer_type: type[spec.Dense]) -> None:
    """Without input features the output is the bias, without neurons it is empty.

    Either may be refused; whether it is, is a trait.
    """

    def question(case: Case) -> None:
        value = "answered"
        try:
            said = answer(ask, case.layer, case.x, case.weights)
        except Failure as failure:
            if failure.effect != "exception":
                raise
            value = "refused"
        else:
            bias = np.broadcast_to(case.weights["bias"], said.y.shape)
            require("not the bias", said.y == bias, said)
        name = "no neurons" if windowed(case).in_features else "no input features"
        ask.trait(name, value, str(case.layer), str(case.shape))

    for layers in ([layer_type(0, m) for m in (1, 3, 8, 17)], [layer_type(n, 0) for n in (1, 8)]):
        ask.sweep(
            [Case(layer, (b, layer.in_features)) for layer in layers for b in (1, 2, 5)], question
        )


@pytest.mark.clauses("dense.needs-vector")
def test_takes_flattened_features(ask: Question) -> None:
    """Flatten and dense in one model give what the dense layer gives for the joined axes."""

    def question(case: Case) -> None:
        shape = (case.shape[0], *(int(n) for n in random(case).integers(1, 4, 3)))
        x = case.with_(shape=shape).x
        dense = spec.Dense(math.prod(shape[1:]), windowed(case).out_features)
        weights = case.with_(layer=dense).weights
        direct = answer(ask, dense, x.reshape(len(x), -1), weights)
        layers = (spec.Flatten(), dense)
        model = chained(ask, layers, x, [{}, weights], direct)
        alike("not as of flattened features", direct, model)

    few(ask, cases(spec.Dense), question)


@pytest.mark.clauses("dense.formula")
def test_concatenation(ask: Question) -> None:
    """The output of joined inputs is the sum of the outputs of the parts, with one bias."""

    def question(case: Case) -> None:
        layer, weight = windowed(case), case.weights["weight"]
        cut = int(random(case).integers(1, max(2, layer.in_features)))
        parts = []
        for part, weights in ((slice(cut), case.weights), (slice(cut, None), {})):
            columns = weight[:, part]
            partial = spec.Dense(columns.shape[1], layer.out_features, bias=bool(weights))
            parts.append(answer(ask, partial, case.x[:, part], {**weights, "weight": columns}))
        whole = answer(ask, layer, case.x, case.weights)
        alike("not the sum of its parts", parts[0].plus(parts[1]), whole)

    several = cases(spec.Dense).filter(lambda case: windowed(case).in_features > 1)
    few(ask, several, question)


@pytest.mark.clauses("dense.activation")
def test_activation(ask: Question) -> None:
    """Dense and ReLU in one model give the ReLU of what the dense layer gives."""

    def question(case: Case) -> None:
        affine = answer(ask, case.layer, case.x, case.weights)
        steps = answer(ask, spec.ReLU(), affine.y)
        layers = (case.layer, spec.ReLU())
        model = chained(ask, layers, case.x, [case.weights, {}], affine)
        alike("not the ReLU of the dense layer", steps, model)

    few(ask, cases(spec.Dense), question)
