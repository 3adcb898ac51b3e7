"""ReLU: each element alone."""

from __future__ import annotations

import numpy as np
import pytest

from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_varied import random
from cnnformance.conformance.laws import alike, answer, few, holds, require
from cnnformance.conformance.parametrize import by_layer_type_and_dtype, laws
from cnnformance.conformance.question import Question
from cnnformance.conformance.strategies import cases
from cnnformance.spec import layers as spec

LAYER = spec.ReLU


@by_layer_type_and_dtype({spec.TYPES[name]: ids for name, ids in laws("elementwise").items()})
def test_elementwise(ask: Question, layer_type: type[spec.ReLU], dtype: str) -> None:
    """Elements in other places, under another shape, give the same in those places."""

    def question(case: Case) -> None:
        order = random(case).permutation(case.x.size)
        whole = answer(ask, case.layer, case.x)
        moved = answer(ask, case.layer, case.x.reshape(1, -1)[:, order])
        expected = whole.view(lambda a: a.reshape(1, -1)[:, order])
        alike("the elements were put in other places", expected, moved)

    few(ask, cases(layer_type, dtype), question)


@pytest.mark.clauses("relu.formula")
def test_scales(ask: Question) -> None:
    """A positive power of two scales the output as the input, exactly."""

    def question(case: Case) -> None:
        once = answer(ask, case.layer, case.x)
        for factor in (np.float32(0.25), np.float32(8)):
            scaled = answer(ask, case.layer, case.x * factor)
            holds(f"not {factor} times as large", once.y * factor, scaled)

    few(ask, cases(spec.ReLU, regimes=("integer", "normal", "negative", "ties")), question)


@pytest.mark.clauses("relu.formula")
def test_parts(ask: Question) -> None:
    """The outputs of x and -x differ by x, and one of them is zero."""

    def question(case: Case) -> None:
        positive = answer(ask, case.layer, case.x)
        negative = answer(ask, case.layer, -case.x)
        holds("f(x) - f(-x) is not x", positive.y - case.x, negative)
        smaller = np.minimum(positive.y, negative.y)
        require("neither f(x) nor f(-x) is zero", smaller == 0, positive)

    few(ask, cases(spec.ReLU, regimes=("integer", "normal", "wide", "rising")), question)
