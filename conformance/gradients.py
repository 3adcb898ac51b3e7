"""How the backward pass is asked: its operands, and the subject's gradients, judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case, Given
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.question import Question
from cnnformance.reference import bounds, forward, output_shape
from cnnformance.spec import layers as spec


def upstream_of(case: Case) -> Array:
    """Return the upstream gradient of a case: drawn from its seed, in its output's shape.

    It is of whole numbers where the case is, and one number throughout, as the gradient of a sum
    is, for the memory ``broadcast``.
    """
    shape = output_shape(case.layer, case.shape)
    if case.memory == "broadcast":
        return np.full(shape, 3, dtype_named(case.dtype))
    rng = np.random.default_rng([case.seed, 2])
    values = 4 * rng.standard_normal(shape)
    whole = case.regimes == ("integer",)
    return (np.rint(values) if whole else values).astype(dtype_named(case.dtype))


def distinct(case: Case) -> Array:
    """Return an input without zeros, and for a selection without ties (see ``few_enough``)."""
    rng = np.random.default_rng([case.seed, 3])
    size = int(np.prod(case.shape))
    signs = rng.choice([-1.0, 1.0], size)
    if not (case.layer.exact or case.layer.linear):  # powers stay in range
        values = rng.uniform(1, 3, size) * signs
    else:
        values = (rng.permutation(size) + 1.0) * signs
    x: Array = values.reshape(case.shape).astype(dtype_named(case.dtype))
    return x


def few_enough(case: Case) -> bool:
    """Whether a format has enough integers to tell all cells of a selection apart."""
    selects = case.layer.exact
    return not selects or int(np.prod(case.shape)) < 2 ** bounds.format_of(case.dtype).bits


def differentiated(ask: Question, case: Case, x: Array, upstream: Array) -> Mapping[str, Array]:
    """Return the subject's gradients, each of the shape of its operand.

    All operands lie in the case's memory.

    Raises:
        Failure: as ``Question.run``; it shows the operands.
    """
    layer, weights = case.layer, case.weights
    memory = case.memory
    call = lambda: ask.subject.gradients(layer, weights, x, upstream, memory)  # noqa: E731 - a thunk
    with shown(layer, x, upstream, **weights):
        found = ask.asked(call, [layer], what="gradients")
        for name, operand in {"input": x, **weights}.items():
            judge.real(found.arrays[name], f"the gradient for {name}")
            judge.same_shape(found.arrays[name].shape, operand.shape, f"the gradient for {name}")
        if found.modified:
            said = "the backward pass changed its input, a weight or the upstream gradient"
            raise Failure("state", said)
    return found.arrays


@contextmanager
def shown(layer: spec.Layer, x: Array, upstream: Array, **weights: Array) -> Iterator[None]:
    """Give a failure the operands of the backward pass that shows it."""
    try:
        yield
    except Failure as failure:
        failure.arrays = {"x": x, **weights, "upstream": upstream}
        failure.layers, failure.call = (layer,), "gradients"
        raise


def repeated(ask: Question, case: Case) -> None:
    """Require equal bits of equal backward passes, of a subject that does not say otherwise."""
    x, upstream = smooth(case), upstream_of(case)
    first, again = (differentiated(ask, case, x, upstream) for _ in range(2))
    for name, found in first.items():
        if not np.array_equal(found, again[name], equal_nan=True):
            said = f"an equal backward pass gave another gradient for {name}"
            broken = law_broken(said, case.layer, x, upstream, **case.weights)
            raise dataclasses.replace(broken, effect="state", reason="operand-changed")


def law_broken(
    said: str, layer: spec.Layer, x: Array, upstream: Array, **weights: Array
) -> Failure:
    """Return the failure of a law of the backward pass, in the gradient for the input."""
    arrays = {"x": x, **weights, "upstream": upstream}
    return Failure("law", said, arrays=arrays, layers=(layer,), call="gradients", operand="input")


def smooth(case: Case) -> Array:
    """Return the input of a case without ties in a selection, and without the kink of ReLU.

    What is given is returned as it is.
    That of a norm of order 2 or more, and that of stochastic pooling, has some zeros, but no window
    of zeros alone, where there is a kink.
    """
    if isinstance(case, Given):
        return case.x
    if case.layer.elementwise:
        return np.where(case.x == 0, np.ones((), case.x.dtype), case.x)
    if case.layer.linear and not case.layer.exact:
        return case.x
    x = distinct(case)
    if case.layer.draws:
        x = np.abs(x)
    if case.layer.draws or getattr(case.layer, "p", 1) > 1:
        some = np.random.default_rng([case.seed, 5]).random(x.shape) < 0.2
        zeroed = np.where(some, np.zeros((), x.dtype), x)
        if ((forward(case.layer, zeroed) == 0) == (forward(case.layer, x) == 0)).all():
            return zeroed
    return x


def judged(ask: Question, case: Case) -> None:
    """Judge the subject's gradients of a case, and note the evidence. Raises ``Failure``."""
    layer, weights, x, upstream = case.layer, case.weights, smooth(case), upstream_of(case)
    found = differentiated(ask, case, x, upstream)
    with shown(layer, x, upstream, **weights):
        for evidence in judge.gradients(layer, x, weights, upstream, found):
            ask.note(evidence)
