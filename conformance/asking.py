"""How a question is asked of a subject: run, judge, explore, and gather the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, errors, strategies

from cnnformance.adapters.backend import Array, Unsupported, Weights
from cnnformance.adapters.subject import AdapterBroke, Crashed, Hung, Refused, Stopped, Subject
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.known import Known
from cnnformance.reference import model_shapes
from cnnformance.spec import layers as spec

T = TypeVar("T")


@dataclass(frozen=True)
class Profile:
    """How much is asked, in numbers of cases: the same on every machine, however busy.

    ``examples`` are the cases that a question draws, ``largest`` bounds their sizes, ``shrinks``
    are the smaller cases that are asked to make a failing one small. Of the layers that networks
    have (``usual.py``), one in ``every`` is asked.
    """

    name: str
    examples: int
    largest: int
    shrinks: int
    every: int = 1


_SETTINGS = hypothesis.settings(
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
    report_multiple_bugs=False,
    print_blob=False,
)

PROFILES = {
    p.name: p
    for p in (
        Profile("quick", 10, 1 << 9, 100, every=7),
        Profile("default", 50, 1 << 17, 200),
        Profile("thorough", 1000, 1 << 17, 2000),
    )
}


@dataclass(frozen=True)
class Trait:
    """A choice that the text leaves open, as measured: its name, value, and what shows it."""

    name: str
    value: str
    where: str
    shown: str


@dataclass
class Ask:
    """One question put to one subject; collects what the record of the verdict will say."""

    subject: Subject
    profile: Profile
    seed: int = 0
    known: Known = field(default_factory=Known)
    examples: int = 0
    share: float | None = None
    grades: set[str] = field(default_factory=set)
    composed: dict[str, str] = field(default_factory=dict)
    declined: str = ""
    seen_known: dict[str, Failure] = field(default_factory=dict)
    traits: list[Trait] = field(default_factory=list)

    def run(
        self,
        layers: spec.Layer | Sequence[spec.Layer],
        x: Array,
        weights: Weights | Sequence[Weights] | None = None,
        memory: str = "contiguous",
    ) -> Array:
        """Run a layer (or a model, with a list of weights), and return its output.

        Raises:
            Failure: the subject raised, crashed, hung, broke its contract, changed its input, or
                returned an array of another shape.
            Unsupported: the subject has no such layer.
        """
        y = self.run_any(layers, x, weights, memory)
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
    ) -> Array:
        """Run what may have no meaning, as ``run`` does, and return an output of any shape."""
        model = (layers,) if isinstance(layers, spec.Layer) else tuple(layers)
        arrays = _listed(model, weights)
        result = self.asked(lambda: self.subject.run(model, arrays, x, memory), model, x, arrays)
        if result.composed and len(model) == 1:
            self.composed[type(model[0]).__name__] = result.composed
        if result.modified:
            said = "the call changed its input or its weights"
            raise Failure("impure", said, arrays={"x": x, **_named(arrays)}, layers=model)
        return result.y

    def asked(
        self,
        call: Callable[[], T],
        layers: Sequence[spec.Layer] = (),
        x: Array | None = None,
        weights: Sequence[Weights] = (),
        what: judge.Call = "forward",
    ) -> T:
        """Return what a request to the subject returns; its misfortunes become failures."""
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
        if evidence.grade:
            self.grades.add(evidence.grade)

    def explore(
        self,
        cases: strategies.SearchStrategy[Case],
        question: Callable[[Case], object],
        examples: int | None = None,
        variants: Callable[[Case], Iterable[Case]] = lambda case: [case],
    ) -> None:
        """Ask the question of each drawn case's variants; a failing case is shrunk.

        A case that the subject does not support is drawn again, up to three times as many as are
        asked. When ``Profile.shrinks`` cases were asked after a failing one, others are passed
        over unasked.
        """
        count = examples or self.profile.examples
        attempt = self._attempt(lambda case: self.each(variants(case), question), count)

        def asked_one(case: Case) -> None:  # short: Hypothesis parses the source of its test
            attempt(case)

        settings = hypothesis.settings(_SETTINGS, max_examples=count)
        explored = settings(hypothesis.seed(self.seed)(hypothesis.given(cases)(asked_one)))
        try:
            explored()
        except errors.Unsatisfiable:
            return  # all were declined, and ``declined`` says why
        except Failure as failure:
            smaller = self._one_row(failure, question)
            self.alone(smaller, question)
            raise smaller from None

    def _attempt(self, ask: Callable[[Case], None], count: int) -> Callable[[Case], None]:
        """Return what Hypothesis calls with each drawn case of so many."""
        failed: dict[Case, Failure] = {}
        redraws = shrinks = 0

        def attempt(case: Case) -> None:
            nonlocal redraws, shrinks
            if case not in failed and shrinks < self.profile.shrinks:
                shrinks += bool(failed)
                asked = self.examples
                try:
                    ask(case)
                except Failure as failure:
                    failed[case] = failure
                else:
                    if self.examples == asked and redraws < 3 * count:
                        redraws += 1
                        hypothesis.reject()
            if case in failed:  # raised in one place: Hypothesis tells failures apart by line
                raise failed[case].with_traceback(None)

        return attempt

    def _one_row(self, failure: Failure, question: Callable[[Case], object]) -> Failure:
        """Return the failure of the failing row alone, if it fails alone too."""
        case = failure.case
        if case is None or failure.index is None or case.shape[0] < 2:
            return failure
        regime = case.regimes[failure.index[0] % len(case.regimes)]
        one = case.with_(shape=(1, *case.shape[1:]), regimes=(regime,))
        try:
            self.each([one], question)
        except Failure as smaller:
            return smaller
        return failure

    def each(self, cases: Iterable[Case], question: Callable[[Case], object]) -> None:
        """Ask the question of every case; raises the first failure that is not known.

        Where a recorded crash was seen, cases that would show it again are passed over: each
        costs a process, and no more can be learned of them.
        """
        for case in cases:
            if self.known.foretold(self.seen_known, Failure("crash", "", case)):
                continue
            try:
                question(case)
            except Unsupported as reason:
                self.declined = str(reason)
                continue
            except Failure as failure:
                failure.case = failure.case or case
                failure.arrays = failure.arrays or {"x": case.x, **case.weights}
                failure.layers = failure.layers or (case.layer,)
                if self.divergence(failure):
                    continue
                raise
            self.examples += 1

    def divergence(self, failure: Failure) -> bool:
        """Whether a failure is a recorded divergence; then it is noted as seen."""
        found = self.known.match(self.subject, failure)
        if found:
            self.seen_known.setdefault(found, failure)
        return bool(found)

    def sweep(self, cases: Iterable[Case], question: Callable[[Case], object]) -> None:
        """Ask the question of a fixed list of cases, and rerun a failing one alone."""
        try:
            self.each(cases, question)
        except Failure as failure:
            self.alone(failure, question)
            raise

    def alone(self, failure: Failure, question: Callable[[Case], object]) -> None:
        """Ask a failing case again in a fresh process: a defect of its own, or leaked state?"""
        if failure.case is None or failure.effect in {"hang", "adapter"}:
            return
        self.subject.restart()
        try:
            question(failure.case)
        except Failure:
            failure.alone = True
        except (Unsupported, Stopped):
            return
        else:
            failure.alone = False

    def trait(self, name: str, value: str, where: str, shown: str) -> None:
        """Record a measured trait."""
        self.traits.append(Trait(name, value, where, shown))


def _listed(model: spec.Model, weights: Weights | Sequence[Weights] | None) -> Sequence[Weights]:
    """Return the weights of each layer of a model; those of one layer may be given alone."""
    if weights is None:
        return [{} for _ in model]
    return [weights] if isinstance(weights, Mapping) else weights


def _named(weights: Sequence[Weights]) -> dict[str, Array]:
    if len(weights) == 1:
        return dict(weights[0])
    return {f"{name}_{i}": np.asarray(w) for i, ws in enumerate(weights) for name, w in ws.items()}
