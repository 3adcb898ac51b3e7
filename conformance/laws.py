"""What the questions about laws share: answers that know their error, and comparisons of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from hypothesis.strategies import SearchStrategy

from cnnformance.adapters.backend import Array
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_varied import windowed
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.question import Question
from cnnformance.reference import bounds, output_shape
from cnnformance.spec import layers as spec

Weights = Mapping[str, Array]


@dataclass(frozen=True)
class Answer:
    """A subject's output, and how far that of a correct kernel may be off.

    ``error`` is 0 for a selection and for a sum the proven bound that it met; where ``judged`` is
    false some order of summation overflows. The three have one shape.
    """

    layers: tuple[spec.Layer, ...]
    x: Array
    weights: Weights
    y: Array
    error: Array
    judged: Array

    def view(self, place: Callable[[Array], Array]) -> Answer:
        """Return the answer with its elements rearranged."""
        y, error, judged = place(self.y), place(self.error), place(self.judged)
        return dataclasses.replace(self, y=y, error=error, judged=judged)

    def times(self, factor: float) -> Answer:
        """Return the answer times a number, in float64."""
        y, error = factor * self.y.astype(np.float64), abs(factor) * self.error
        return dataclasses.replace(self, y=y, error=error)

    def plus(self, other: Answer) -> Answer:
        """Return the sum of two answers, in float64."""
        y = self.y.astype(np.float64) + other.y.astype(np.float64)
        error, judged = self.error + other.error, self.judged & other.judged
        return dataclasses.replace(self, y=y, error=error, judged=judged)

    @contextmanager
    def shown(self, law: str = "") -> Iterator[None]:
        """Give a failure what shows it, and the law that is broken."""
        try:
            yield
        except Failure as failure:
            if law:
                failure.effect, failure.message = "law", f"{law}: {failure.message}"
                failure.reason = "relation-broken"
            failure.layers = failure.layers or self.layers
            failure.arrays = failure.arrays or {"x": self.x, **self.weights}
            raise


def answer(ask: Question, layer: spec.Layer, x: Array, weights: Weights | None = None) -> Answer:
    """Run a layer, and judge its output by the reference.

    Of two answers that break a law, the one that is wrong is then told first.

    Raises:
        Failure: as ``Question.run`` does, for another shape or dtype, and for a wrong output.
    """
    weights = weights or {}
    y = ask.run(layer, x, weights)
    shape = output_shape(layer, x.shape)
    none = Answer((layer,), x, weights, y, np.zeros(shape), np.ones(shape, np.bool_))
    with none.shown():
        judge.same_form(y, shape, x.dtype)
    with none.shown():
        evidence, allowed = judge.met(layer, x, weights, y)
    ask.note(evidence)
    return dataclasses.replace(none, error=allowed.error, judged=allowed.judged)


def chained(
    ask: Question,
    layers: tuple[spec.Layer, ...],
    x: Array,
    weights: list[Weights],
    alike_to: Answer,
) -> Answer:
    """Run a model whose output may be off as far as another answer, of the same shape, may be."""
    y = ask.run(layers, x, weights)
    model = dataclasses.replace(alike_to, layers=layers, x=x, y=y)
    with model.shown():
        judge.same_form(y, alike_to.y.shape, x.dtype)
    return model


def holds(law: str, value: Array, actual: Answer) -> None:
    """Require an answer to be what a law says: bit for bit of a selection, else within its error.

    Raises:
        Failure: the law is broken.
    """
    with actual.shown(law):
        if actual.layers[-1].exact and not actual.error.any():
            judge.equal(actual.y, value)
        else:
            allowed = bounds.Bound(value.astype(np.float64), actual.error, actual.judged)
            judge.within(actual.y, allowed, actual.x.dtype)


def alike(law: str, expected: Answer, actual: Answer) -> None:
    """Require two answers to agree: bit for bit of selections, else within their summed errors.

    Raises:
        Failure: the law is broken.
    """
    error, judged = expected.error + actual.error, expected.judged & actual.judged
    holds(law, expected.y, dataclasses.replace(actual, error=error, judged=judged))


def require(law: str, fulfilled: Array, actual: Answer) -> None:
    """Require something of every judged element. Raises ``Failure``: the law is broken."""
    wrong = np.argwhere(~np.asarray(fulfilled) & actual.judged)
    if len(wrong):
        index = tuple(int(i) for i in wrong[0])
        value = judge.text(actual.y[index])
        message = f"at {index}: {value}; {len(wrong)} of {actual.y.size} elements are wrong"
        with actual.shown(law):
            raise Failure("law", message, index=index, actual=value)


def few(
    ask: Question, drawn: SearchStrategy[Case], question: Callable[[Case], object], share: int = 6
) -> None:
    """Ask a question about a law of a part of the profile's examples."""
    ask.explore(drawn, question, max(4, ask.profile.examples // share))


def shifted(ask: Question, case: Case, law: str) -> None:
    """Require that an input moved by one stride gives the output moved by one cell."""
    layer = windowed(case)
    cut = (slice(None), *(slice(s, None) for s in layer.stride))
    moved = answer(ask, layer, case.x[cut], case.weights)
    one = (slice(None), *(slice(1, None) for _ in layer.stride))
    alike(law, answer(ask, layer, case.x, case.weights).view(lambda a: a[one]), moved)
