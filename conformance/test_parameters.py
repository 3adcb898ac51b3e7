"""Parameter counts and shapes: the document's numbers, formulas, and published networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from cnnformance.adapters.backend import Unsupported
from cnnformance.conformance import judge, models
from cnnformance.conformance.cases import Case, Given, given
from cnnformance.conformance.cases_by_size import large
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.parametrize import Mark, by_layer_type, law, laws
from cnnformance.conformance.question import Question
from cnnformance.conformance.strategies import cases
from cnnformance.reference import model_shapes
from cnnformance.spec import clauses, networks
from cnnformance.spec import layers as spec

RUN = ("lenet5", "lenet5-conv")
"""The published networks that are small enough to be run."""


def counted(ask: Question, layers: Sequence[spec.Layer], holds: int) -> None:
    """Require the framework's own count of parameters.

    Raises:
        Failure: it is another number, or counting failed.
        Unsupported: the subject does not count.
    """
    said = ask.asked(lambda: ask.subject.parameters(layers), layers, what="parameters")
    if said != holds:
        raise Failure(
            "count",
            f"the framework counts {said:,} parameters, and there are {holds:,}",
            expected=str(holds),
            actual=str(said),
            layers=tuple(layers),
            call="parameters",
        )


def _counts() -> Iterator[Any]:
    for clause in clauses.load().of(clauses.Count):
        if clause.model:
            marks = pytest.mark.clauses(clause.id)
            yield pytest.param(type(clause.model[0]), clause, marks=marks, id=clause.id)


@pytest.mark.parametrize(("layer_type", "clause"), list(_counts()))
def test_count(ask: Question, layer_type: type[spec.Layer], clause: clauses.Count) -> None:
    """The framework's parameters, sizes and features are the document's numbers."""
    del layer_type
    value = clause.value
    if clause.counts == "parameters":
        counted(ask, clause.model, int(value))
        ask.examples += 1
        return
    shape = (1, *clause.shape)
    measured = {}
    try:
        measured["static shape"] = ask.static_shape(clause.model, shape)
    except Unsupported as reason:
        ask.declined = str(reason)
    x = np.ones(shape, dtype=np.float32)
    weights = models.drawn_weights(np.random.default_rng(1), clause.model)
    measured["shape"] = models.run(ask, clause.model, weights, x).shape
    for what, found in measured.items():
        said = found[1] if clause.counts == "size" else math.prod(found[1:])
        if said != value:
            raise Failure(
                "shape",
                f"the {clause.counts} of the {what} {found} is {said}, and should be {value}",
                expected=str(value),
                actual=str(said),
                arrays={"x": x},
                layers=clause.model,
            )
        ask.examples += 1


_STATED = {**laws("no-parameters"), "Flatten": ["flatten.no-parameters"]}
BARE = {
    layer_type: _STATED.get(layer_type.__name__, [])
    for layer_type in spec.family("without weights")
}


@pytest.mark.clauses("pool.parameter-count")
@by_layer_type(BARE)
def test_no_parameters(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Pooling, flatten and ReLU learn nothing, whatever their options."""

    def question(case: Case) -> None:
        counted(ask, [case.layer], 0)

    ask.explore(cases(layer_type, plain=False), question, max(6, ask.profile.examples // 4))


FORMULAS: dict[type[spec.Layer], list[str]] = {
    spec.Conv: ["conv.count", "conv.count-without-bias"],
    spec.Dense: ["dense.count", "dense.count-without-bias"],
}


def formula_count(layer: spec.Layer) -> int:
    """Return the value of the clause that counts a layer's parameters."""
    match layer:
        case spec.Conv(window=window, in_channels=c, out_channels=m, groups=g, bias=bias):
            bindings = {"K": math.prod(window), "C": c, "M": m, "G": g}
        case spec.Dense(in_features=n, out_features=m, bias=bias):
            bindings = {"N": n, "M": m}
        case _:
            raise TypeError(f"{layer}: no clause counts its parameters")
    name = FORMULAS[type(layer)][0 if bias else 1]
    return int(clauses.load().formula(name).scalar(**bindings))


EMPTY = ((3, 0), (0, 4), (0, 0))
"""Features and neurons of dense layers without weights."""


@pytest.mark.clauses("conv.count-not-always-low")
@by_layer_type(FORMULAS)
def test_count_formula(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Drawn layers hold as many parameters as the formula says: groups, biases and ranks."""

    def question(case: Case) -> None:
        counted(ask, [case.layer], formula_count(case.layer))

    def of_nothing(case: Case) -> None:
        """Count a layer without features or neurons, which may be refused."""
        try:
            question(case)
        except Failure as failure:
            if failure.effect != "exception":
                raise
            raise Unsupported(failure.message) from None

    ask.sweep(large(layer_type), question)
    if issubclass(layer_type, spec.Dense):
        ask.sweep([Case(layer_type(*size), (1, size[0])) for size in EMPTY], of_nothing)
    ask.explore(cases(layer_type), question, max(6, ask.profile.examples // 3))
    ask.explore(cases(layer_type, plain=False), question, max(6, ask.profile.examples // 2))


# Counts around and beyond what 32 bits and the mantissas of float32 and float64 hold; odd ones (or,
# beyond 2**54, not divisible by 4) where a float would keep any other.
LARGE: dict[type[spec.Layer], tuple[spec.Layer, ...]] = {
    spec.Dense: (
        spec.Dense(4098, 4097),
        spec.Dense(46340, 46343),
        spec.Dense(2**16, 2**16 - 1),
        spec.Dense(2**16 + 1, 2**16 - 1),
        spec.Dense(2**17, 2**16),
        spec.Dense(2**20, 2**13),
        spec.Dense(2**27 + 1, 2**27 - 1),
    ),
    spec.Conv: (
        spec.Conv((3, 3), in_channels=1367, out_channels=1365, bias=False),
        spec.Conv((3, 3), in_channels=15449, out_channels=15451),
        spec.Conv((5, 5, 5), in_channels=6002, out_channels=6001, bias=False),
        spec.Conv((3,), in_channels=2**16, out_channels=2**16, groups=2),
        spec.Conv((7, 7), in_channels=2**24 + 1, out_channels=2**24 - 1, bias=False),
    ),
}


@by_layer_type(FORMULAS)
def test_large_count(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Counts beyond 32 bits, and beyond the integers of float64, come out to the last digit.

    A framework that cannot hold so large a layer says so, and is not asked for a larger one.
    """
    reached = 0
    for layer in LARGE[layer_type]:
        holds = formula_count(layer)
        try:
            counted(ask, [layer], holds)
        except Failure as failure:
            if failure.effect != "exception":
                raise
            ask.declined = f"{layer}: {failure.message}"
            break
        reached = holds
        ask.examples += 1
    if not reached:
        raise Unsupported(ask.declined)
    name = f"largest {layer_type.__name__} counted"
    ask.trait(name, f"{reached:,} parameters", "of those asked", ask.declined or "the largest")


@law("weight-shapes")
def test_weight_shapes(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A layer takes M x N weights and M biases, counts as many, and gives M outputs."""

    def question(case: Case) -> None:
        layer = case.layer
        shapes = spec.weight_shapes(layer)
        assert {name: w.shape for name, w in case.weights.items()} == shapes
        y = ask.output(case)
        judge.same_shape(y.shape, (*case.shape[:-1], shapes["weight"][0]), layers=[layer])
        try:
            counted(ask, [layer], sum(w.size for w in case.weights.values()))
        except Unsupported as reason:
            ask.declined = str(reason)

    ask.explore(cases(layer_type), question, max(6, ask.profile.examples // 5))


@law("count-independent-of-size")
def test_count_independent_of_size(ask: Question, layer_type: type[spec.Layer]) -> None:
    """One convolution, with one set of weights, takes inputs of any size; its count stays."""
    layers = (
        layer_type(window=(3,), in_channels=2, out_channels=3),  # type: ignore[call-arg] # a convolution
        layer_type(window=(3, 2), in_channels=2, out_channels=3),  # type: ignore[call-arg] # likewise
        layer_type(window=(2, 1, 2), in_channels=2, out_channels=3),  # type: ignore[call-arg] # likewise
    )
    rng = np.random.default_rng(3)

    def sized() -> Iterator[Given]:
        for layer in layers:
            (weights,) = models.drawn_weights(rng, [layer], integer=True)
            for size in (3, 8, 33):
                rank = len(layer.window)  # type: ignore[attr-defined] # windowed
                shape = (1, *(size + axis for axis in range(rank)), 2)
                x = rng.integers(-9, 9, shape).astype(np.float32)
                yield given(layer, x, **weights)

    def question(case: Case) -> None:
        ask.output(case)
        try:
            counted(ask, [case.layer], formula_count(case.layer))
        except Unsupported as reason:
            ask.declined = str(reason)

    ask.sweep(sized(), question)


PUBLISHED = networks.load()


def _networks(names: Collection[str] = PUBLISHED.keys()) -> Mark:
    """Parametrise a test by ``network``."""
    return pytest.mark.parametrize(
        "network", [pytest.param(PUBLISHED[name], id=name) for name in names]
    )


def _each(ask: Question, questions: Iterable[Callable[[], object]]) -> None:
    """Ask what the subject supports of several things."""
    for question in questions:
        try:
            question()
        except Unsupported as reason:
            ask.declined = str(reason)
        else:
            ask.examples += 1


@pytest.mark.clauses("conv.count", "dense.count", "pool.no-parameters")
@_networks()
def test_network_parameters(ask: Question, network: networks.Network) -> None:
    """A published network has its authors' number of parameters, layer by layer and in all."""
    counts = {step.layer: step.parameters for step in network.steps}
    parts = [partial(counted, ask, [layer], count) for layer, count in counts.items()]
    _each(ask, [*parts, partial(counted, ask, network.layers, network.parameters)])


HELD = 10**7
"""The most parameters of a layer whose static shape is asked: it may have to be made for that."""


@pytest.mark.clauses("pool.output-size", "conv.valid-size")
@_networks()
def test_network_shapes(ask: Question, network: networks.Network) -> None:
    """The framework's static shapes are those that the authors state, and the formulas give.

    Not asked are the few dense layers that hold more than ``HELD`` parameters.
    """

    def question(step: networks.Step, shape: spec.Shape, holds: spec.Shape) -> None:
        ask.static_shape([step.layer], shape, holds, f"{step.name}: the static answer")

    first = (1, *network.input)
    shapes = model_shapes(network.layers, first)
    # Where the authors state a shape it is the formulas' (tests/test_networks.py).
    steps = zip(network.steps, [first, *shapes], shapes, strict=False)
    _each(ask, [partial(question, *step) for step in steps if step[0].parameters <= HELD])


@pytest.mark.clauses("pool.output-size", "conv.valid-size", "dense.weight-shapes")
@_networks(RUN)
def test_network_runs(ask: Question, network: networks.Network) -> None:
    """A small network gives the stated shapes, and right values, in every layer."""
    rng = np.random.default_rng(4)
    weights = models.drawn_weights(rng, network.layers)
    x = rng.standard_normal((1, *network.input)).astype(np.float32)
    outputs = models.steps(ask, network.layers, weights, x)
    for step, y in zip(network.steps, outputs, strict=True):
        if step.shape is not None:
            judge.same_shape(y.shape[1:], step.shape, f"{step.name}: a sample", [step.layer])
