"""The document's comparisons: each is measured, and its figures are what they are of any kernel."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import partial

import numpy as np
import pytest

from cnnformance.adapters.backend import Array, Unsupported, Weights
from cnnformance.conformance import digits, experiments, judge, models
from cnnformance.conformance.cases import Case, given
from cnnformance.conformance.experiments import IMAGE, SIDES, Figure, Figures, Measurement
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.question import Question
from cnnformance.conformance.test_parameters import counted
from cnnformance.reference import forward, model_shapes, output_shape, parameter_count
from cnnformance.spec import clauses
from cnnformance.spec import layers as spec


def about(experiment: str) -> pytest.MarkDecorator:
    """Mark a question with the clauses that an experiment settles."""
    told = clauses.load().of(clauses.Claim)
    return pytest.mark.clauses(
        *(claim.id for claim in told if any(f"{experiment}: " in name for name in claim.figures))
    )


def broken(measured: Figures) -> list[str]:
    """Return the ids of the claims of which figures do not stand in the order that they must."""
    values = {name: figure.value for name, figure in measured.items()}
    told = clauses.load().of(clauses.Claim)
    return [c.id for c in told if not all(order.holds(values) for order in c.order)]


def recorded(ask: Question, measured: Figures, where: str) -> None:
    """Record figures."""
    for name, figure in measured.items():
        ask.figure(name, figure.text, where, experiments.SAYS[name.partition(":")[0]])


def different(measured: Figures, due: Figures) -> str:
    """Return which figure is another than it must be, and against which claims that is."""
    for name, figure in measured.items():
        if figure.value != due[name].value:
            against = broken({**due, name: figure})
            said = f"{name} is {figure.text}, not {due[name].text}"
            return f"{said}, against {', '.join(against)}" if against else said
    return ""


def measure(ask: Question, measurements: Iterable[Measurement]) -> None:
    """Measure figures, and require each to be the reference's.

    Of a mode that compiles a part is measured.
    """
    for asked in ask.part(measurements) if ask.subject.target.mode else measurements:
        measured: dict[str, Figure] = {}
        question = partial(_measured, ask, asked, measured)
        ask.sweep([given(asked.layer, asked.x, **asked.weights)], question)
        recorded(ask, measured, str(asked.layer))


def _measured(ask: Question, asked: Measurement, measured: dict[str, Figure], case: Case) -> None:
    inputs = [case.x]
    for _ in range(asked.times):
        inputs.append(ask.run(case.layer, inputs[-1], case.weights))
    measured.update(asked.read(experiments.exact(case.layer, inputs[-1])))
    if said := different(measured, expected(asked)):
        for x, y in itertools.pairwise(inputs):
            _right(case.layer, x, case.weights, y, said)


def _right(layer: spec.Layer, x: Array, weights: Weights, y: Array, said: str) -> None:
    """Require the output behind a figure to be right: Winograd's bound leaves more than one.

    Raises:
        Failure: it is wrong; the message says where, and so of which figure.
    """
    try:
        judge.output(given(layer, x, **weights), y)
    except Failure as failure:
        failure.message = f"{said}: {failure.message}"
        models.show(failure, [layer], [weights], x)
        raise


def expected(asked: Measurement) -> Figures:
    """Return the figures that the reference gives."""
    y = asked.x
    for _ in range(asked.times):
        y = np.asarray(forward(asked.layer, y, asked.weights)).astype(asked.x.dtype)
    return asked.read(experiments.exact(asked.layer, y))


@about("shift")
def test_shift(ask: Question) -> None:
    """Of images that move by a pixel, each layer keeps the share of its outputs that it must."""
    measure(ask, experiments.shifts())


@about("noise")
def test_noise(ask: Question) -> None:
    """Noise spreads as far in the outputs of each layer, and moves their level, as it must."""
    measure(ask, experiments.noises())


@about("reads")
def test_reads(ask: Question) -> None:
    """Three convolutions read corner and centre as often as windows stand over them."""
    measure(ask, experiments.reads())


@about("predictions")
def test_predictions(ask: Question) -> None:
    """Images that move by a pixel keep the digit that the trained network takes them for, or not.

    Where the margin of a logit is within its bound, either answer is right.
    """
    net = digits.load()
    found = []
    for rows, columns in ((0, 0), *SIDES):
        x = experiments.moved(net.images, rows, columns)
        logits = models.run(ask, net.layers, net.weights, x)
        try:
            models.judged(ask, net.layers, net.weights, x, logits)
        except Failure as failure:
            models.show(failure, net.layers, net.weights, x)
            raise
        found.append(logits)
        ask.examples += len(x)
    recorded(ask, experiments.kept(*found), "the trained network")


def _count(ask: Question, model: spec.Model) -> int | None:
    """Return the parameters that the subject counts; None where it counts none."""
    holds = parameter_count(model)
    try:
        counted(ask, model, holds)
    except Unsupported as reason:
        ask.declined = str(reason)
        return None
    ask.examples += 1
    return holds


def _shape(ask: Question, layer: spec.Layer, shape: spec.Shape) -> spec.Shape | None:
    """Return the shape of an output, as stated or else as run; None where there is no layer."""
    holds = output_shape(layer, shape)
    try:
        try:
            ask.static_shape([layer], shape, holds)
        except Unsupported:
            zeros = {n: np.zeros(s, np.float32) for n, s in spec.weight_shapes(layer).items()}
            ask.run(layer, np.zeros(shape, np.float32), zeros)
    except Unsupported as reason:
        ask.declined = str(reason)
        return None
    ask.examples += 1
    return holds


@about("costs")
def test_costs(ask: Question) -> None:
    """The document's pipeline has the parameters and shapes, and so the costs, of the formulas."""
    held: dict[tuple[spec.Layer, spec.Shape], spec.Shape | None] = {}
    measured: dict[str, Figure] = {}
    for name, model in experiments.PIPELINES.items():
        shapes: list[spec.Shape] = []
        for layer, shape in zip(model, [IMAGE, *model_shapes(model, IMAGE)], strict=False):
            key = layer, shape
            if key not in held:
                held[key] = _shape(ask, layer, shape)
            shapes += [found] if (found := held[key]) else []
        whole = shapes if len(shapes) == len(model) else None
        counts = _count(ask, model), _count(ask, model[-1:])
        measured |= experiments.costs(name, model, whole, *counts)
    if not measured:
        raise Unsupported(ask.declined or "no pipeline can be made of its layers")
    recorded(ask, measured, f"image {IMAGE[1:]}")
