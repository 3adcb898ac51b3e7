"""The requests of a question: what it asks of its subject, and the evidence of the answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeVar

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported, Weights
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Hung, Refused, Stopped
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case
from cnnformance.conformance.judge import Failure
from cnnformance.reference import model_shapes
from cnnformance.spec import layers as spec

T = TypeVar("T")


class Cut(Exception):  # noqa: N818 - named for what happened
    """The run's budget of time is over, and nothing more is asked."""


@dataclass(frozen=True)
class Trait:
    """A choice that the text leaves open, as measured: its name, value, and what shows it.

    With an ``experiment``, which says how it was measured, it is a figure, and no choice.
    """

    name: str
    value: str
    where: str
    shown: str
    experiment: str = ""


@dataclass
class Requests:
    """Puts requests to a subject: what goes wrong is raised as a ``Failure``.

    From ``deadline`` on, on the clock of ``time.monotonic``, nothing more is asked. ``share`` is
    the largest part of a bound that an error took, ``sharpness`` that of the bluntest comparison,
    ``grades`` the precision grades, ``composed`` how layers were made that the framework lacks.
    """

    subject: Subject
    _: KW_ONLY
    deadline: float = math.inf
    share: float | None = None
    sharpness: float = math.inf
    grades: set[str] = field(default_factory=set)
    composed: dict[str, str] = field(default_factory=dict)
    traits: list[Trait] = field(default_factory=list)
    _lain: tuple[str, str] = ("contiguous", "contiguous")

    @property
    def over(self) -> bool:
        """Whether the run's budget of time is over."""
        return time.monotonic() > self.deadline

    def run(
        self,
        layers: spec.Layer | Sequence[spec.Layer],
        x: Array,
        weights: Weights | Sequence[Weights] | None = None,
        memory: str = "contiguous",
        weight_memory: str = "contiguous",
    ) -> Array:
        """Run a layer (or a model, with a list of weights), and return its output.

        Input and weights lie in memory as ``memory.arranged`` names it.

        Raises:
            Failure: the subject raised, crashed, hung, broke its contract, changed its input, or
                returned an array of another shape.
            Unsupported: the subject has no such layer.
        """
        y = self.run_any(layers, x, weights, memory, weight_memory)
        model = (layers,) if isinstance(layers, spec.Layer) else tuple(layers)
        try:
            judge.real(y)
            judge.same_shape(y.shape, model_shapes(model, x.shape)[-1])
        except Failure as failure:
            failure.layers = model
            failure.arrays = {"x": x, **_named(_listed(model, weights))}
            raise
        return y

    def run_any(
        self,
        layers: spec.Layer | Sequence[spec.Layer],
        x: Array,
        weights: Weights | Sequence[Weights] | None = None,
        memory: str = "contiguous",
        weight_memory: str = "contiguous",
        *,
        force: bool = False,
    ) -> Array:
        """Run what may have no meaning, as ``run`` does, and return an output of any shape.

        With ``force`` it is put to the framework although the adapter declines the dtype.
        """
        model = (layers,) if isinstance(layers, spec.Layer) else tuple(layers)
        arrays = _listed(model, weights)
        self._lain = memory, weight_memory
        call = lambda: self.subject.run(model, arrays, x, memory, weight_memory, force=force)  # noqa: E731 - a thunk
        result = self.asked(call, model, x, arrays)
        if result.composed and len(model) == 1:
            self.composed[type(model[0]).__name__] = result.composed
        if result.modified:
            said = "the call changed its input or its weights"
            raise Failure("state", said, arrays={"x": x, **_named(arrays)}, layers=model)
        return result.y

    def asked(
        self,
        call: Callable[[], T],
        layers: Sequence[spec.Layer] = (),
        x: Array | None = None,
        weights: Sequence[Weights] = (),
        what: judge.Call = "forward",
    ) -> T:
        """Return what a request to the subject returns; whatever else became of it is a failure.

        Raises:
            Cut: the budget of time is over.
            Failure: the subject raised, crashed, hung or broke its contract.
            Unsupported: the subject has no such layer.
            Stopped: the request is barred, because others like it hung.
        """
        if self.over:
            raise Cut
        try:
            return call()
        except (Unsupported, Stopped):
            raise
        except Refused as error:
            failure = Failure("exception", f"raised {error}", detail=error.traceback)
        except Hung as error:
            failure = Failure("hang", str(error), detail=error.stderr)
        except Crashed as error:
            failure = Failure("crash", str(error), detail=error.stderr)
        except AdapterBroke as error:
            failure = Failure("adapter", str(error), detail=error.traceback)
        failure.layers, failure.call = tuple(layers), what
        if x is not None:
            failure.arrays = {"x": x, **_named(weights)}
        raise failure

    def static_shape(
        self,
        layers: Sequence[spec.Layer],
        shape: spec.Shape,
        expected: spec.Shape | None = None,
        what: str = "the static answer",
    ) -> spec.Shape:
        """Return the framework's static answer, and require an expected one.

        Raises:
            Failure: it is another, or there is none; the array ``shape`` holds the input's.
            Unsupported: the framework has no static shapes.
        """
        call = lambda: self.subject.output_shape(layers, shape)  # noqa: E731 - a thunk
        try:
            said = self.asked(call, layers, what="output_shape")
            if expected is not None:
                judge.same_shape(said, expected, what, layers, "output_shape")
        except Failure as failure:
            failure.arrays = {"shape": np.array(shape)}
            raise
        return said

    def output(self, case: Case) -> Array:
        """Run a case, judge its output against the reference, and return it."""
        actual = self.run(case.layer, case.x, case.weights, case.memory)
        evidence = judge.output(case, actual)
        self.note(evidence)
        return actual

    def note(self, evidence: judge.Evidence) -> None:
        """Add the evidence of a passed comparison to the record."""
        self.share = max(self.share or 0.0, evidence.share)
        self.sharpness = min(self.sharpness, evidence.sharpness)
        if evidence.grade:
            self.grades.add(evidence.grade)

    def trait(self, name: str, value: str, where: str, shown: str) -> None:
        """Record a measured trait."""
        self.traits.append(Trait(name, value, where, shown))

    def figure(self, name: str, value: str, where: str, experiment: str) -> None:
        """Record a figure of an experiment, and how that measures."""
        self.traits.append(Trait(name, value, where, "", experiment))


def _listed(model: spec.Model, weights: Weights | Sequence[Weights] | None) -> Sequence[Weights]:
    """Return the weights of each layer of a model; those of one layer may be given alone."""
    if weights is None:
        return [{} for _ in model]
    return [weights] if isinstance(weights, Mapping) else weights


def _named(weights: Sequence[Weights]) -> dict[str, Array]:
    if len(weights) == 1:
        return dict(weights[0])
    return {f"{name}_{i}": np.asarray(w) for i, ws in enumerate(weights) for name, w in ws.items()}
