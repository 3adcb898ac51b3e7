"""How a question is asked of a subject: run, judge, explore, and gather the evidence."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from unittest import mock

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, errors
from hypothesis.internal.conjecture import providers
from hypothesis.strategies import SearchStrategy

from cnnformance.adapters.backend import Array, Unsupported, Weights
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Hung, Refused, Stopped
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.known import Known
from cnnformance.conformance.sized import spread
from cnnformance.reference import model_shapes
from cnnformance.spec import layers as spec

T = TypeVar("T")

_MOST = {"hang": 2, "crash": 3}
"""How many failures of these effects a question goes on after: each costs a process."""
_REFUSALS = 30
"""A list of cases of which the subject has declined so many, and answered none, ends there."""
_ROUNDS = 3
"""How often cases are drawn until enough different ones were asked."""
_SHARE, _REPEATS = 8, 5
"""A subject that compiles is asked one in so many cases by design, and each drawn one so often."""


_COMPILING = 0.012
"""The seconds above which the first call with a new shape has compiled something."""


class Cut(Exception):  # noqa: N818 - named for what happened
    """The run's budget of time is over, and nothing more is asked."""


@dataclass(frozen=True)
class Profile:
    """How much is asked, in numbers of cases: the same on every machine, however busy.

    ``examples`` are the cases that a question draws, ``largest`` bounds their sizes, ``shrinks``
    are the simpler cases that are asked to make a failing one simple. A question ends when failures
    of so many ``causes`` were seen. Of the layers that networks have (``usual.py``), one in
    ``every`` is asked.
    """

    name: str
    examples: int
    largest: int
    shrinks: int
    every: int = 1
    causes: int = 5


_SETTINGS = hypothesis.settings(
    deadline=None,
    database=None,
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
        Profile("quick", 10, 1 << 9, 100, every=11),
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
    """One question put to one subject; collects what the record of the verdict will say.

    ``question`` is its name, from which its draws follow; ``compiles`` says that the subject
    compiles for each new shape, so that it is asked fewer shapes; from ``deadline`` on, on the
    clock of ``time.monotonic``, it is asked nothing. ``examples`` cases were put to the subject,
    and ``left`` that were planned were not. ``failures`` are those that are not known, one of each
    cause.
    """

    subject: Subject
    profile: Profile
    seed: int = 0
    known: Known = field(default_factory=Known)
    question: str = ""
    compiles: bool = False
    deadline: float = math.inf
    examples: int = 0
    left: int = 0
    share: float | None = None
    sharpness: float = math.inf
    grades: set[str] = field(default_factory=set)
    composed: dict[str, str] = field(default_factory=dict)
    declined: str = ""
    stopped: str = ""
    failures: list[Failure] = field(default_factory=list)
    seen_known: dict[str, Failure] = field(default_factory=dict)
    traits: list[Trait] = field(default_factory=list)
    _misfortunes: Counter[str] = field(default_factory=Counter)
    _asked: dict[Failure, Callable[[], object]] = field(default_factory=dict)
    _explored: int = 0
    _lain: tuple[str, str] = ("contiguous", "contiguous")
    _begun: int = 0

    def __post_init__(self) -> None:
        """Remember what had been put to the subject before this question."""
        self._begun = self.subject.requests

    def count(self, ending: Failure) -> None:
        """Count the case whose failure ended the question, if it was put and is not counted yet."""
        if ending not in self._asked and self.subject.requests > self._begun:
            self.examples += 1

    @property
    def planned(self) -> int:
        """The cases that were to be asked: neither declined nor known to end the process."""
        return self.examples + self.left

    @property
    def over(self) -> bool:
        """Whether the run's budget of time is over."""
        return time.monotonic() > self.deadline

    @property
    def halted(self) -> bool:
        """Whether so much went wrong that the other cases are left unasked."""
        often = any(self._misfortunes[effect] >= most for effect, most in _MOST.items())
        return often or len(self.failures) >= self.profile.causes

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
        """Return what a request to the subject returns; its misfortunes become failures.

        Raises:
            Cut: the budget of time is over.
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

    def part(self, items: Iterable[T]) -> list[T]:
        """Return the items that are asked: all, or few, spread, where the subject compiles."""
        listed = list(items)
        if not self.compiles:
            return listed
        return list(spread(listed)[: math.ceil(len(listed) / _SHARE)])

    def sweep(self, cases: Iterable[Case], question: Callable[[Case], object]) -> None:
        """Ask the question of the part of a fixed list of cases, after failures too."""
        self._all(self.part(cases), question)
        self._alone()

    def explore(
        self,
        cases: SearchStrategy[Case],
        question: Callable[[Case], object],
        examples: int | None = None,
        variants: Callable[[Case], Iterable[Case]] = lambda case: [case],
    ) -> None:
        """Ask the question of each drawn case's variants, after failures too; shrink the first.

        A case that the subject does not support is drawn again, up to three times as many as are
        asked. A subject that compiles is asked fewer cases, each with several seeds.
        """
        count = examples or self.profile.examples
        repeats = 1
        if self.compiles:
            count, repeats = math.ceil(count / _REPEATS), _REPEATS
        self._explored += 1

        def seeded(case: Case) -> list[Case]:
            several = (case.with_(seed=case.seed + more) for more in range(repeats))
            return [variant for each in several for variant in variants(each)]

        taken: dict[Case, bool] = {}
        failing: list[Case] = []
        for again in range(_ROUNDS):  # some cases are drawn twice, and asked once
            wanted = count - sum(taken.values())
            if wanted <= 0 or self.halted or (taken and not any(taken.values())):
                break
            # the first of each round is the simplest case of all
            draw = partial(self._draw, cases, wanted + (again > 0), again)
            whole = not self.failures
            try:
                self._generate(
                    draw, lambda case: self._all(seeded(case), question) > 0, taken, failing
                )
            except Cut:
                self.left += count - sum(taken.values()) - 1
                raise
            if whole and failing:
                fails = lambda case: self._failure(seeded(case), question)  # noqa: E731 - a thunk
                self._shrink(draw, taken, failing[0], fails)
                self.failures[0] = self._one_row(self.failures[0], question)
        if self.halted:
            self.left += count - sum(taken.values())
        self._alone()

    def _generate(
        self,
        draw: Callable[..., None],
        ask: Callable[[Case], bool],
        taken: dict[Case, bool],
        failing: list[Case],
    ) -> None:
        """Ask the drawn cases, and note which the subject took, and the first that failed.

        Raises:
            Cut: the budget of time is over.
        """
        cuts: list[Cut] = []

        def asked(case: Case) -> None:
            clean, refused = not self.failures, not any(taken.values())
            if cuts or self.halted or case in taken or (refused and len(taken) >= _REFUSALS):
                return
            try:
                taken[case] = ask(case)
            except Cut as cut:
                cuts.append(cut)
                return
            if clean and self.failures:
                failing.append(case)
            if not taken[case]:
                hypothesis.reject()

        draw(asked, Phase.generate)
        if cuts:
            raise cuts[0]

    def _draw(
        self,
        cases: SearchStrategy[Case],
        count: int,
        again: int,
        asked: Callable[[Case], None],
        *phases: Phase,
    ) -> None:
        """Draw so many cases, the same for a question and seed. Raises what ``asked`` raises."""
        key = repr((self.seed, self.question, self._explored, again))

        def one(case: Case) -> None:  # short: Hypothesis parses the source of its test
            asked(case)

        settings = hypothesis.settings(_SETTINGS, max_examples=count, phases=phases)
        drawn = settings(hypothesis.given(cases)(one))
        # all were declined: ``declined`` says why
        with contextlib.suppress(errors.Unsatisfiable), _no_constants():
            hypothesis.seed(zlib.crc32(key.encode()))(drawn)()

    def _all(self, cases: Sequence[Case], question: Callable[[Case], object]) -> int:
        """Ask the question of all cases, gather their failures, and return how many answered."""
        queue = deque(cases)
        del cases  # each holds its arrays from when it is asked
        answered = declined = 0
        try:
            while queue and not self.halted and (answered or declined < _REFUSALS):
                try:
                    settled = self._settle(queue.popleft(), question)
                except Failure as failure:
                    self._gather(failure)
                    settled = True
                answered += settled
                declined += not settled
        except Cut:
            self.left += 1 + len(queue)
            raise
        if self.halted:
            self.left += len(queue)
        return answered

    def each(self, cases: Iterable[Case], question: Callable[[Case], object]) -> None:
        """Ask the question of every case; raises the first failure that is not known."""
        for case in cases:
            self._settle(case, question)

    def _settle(self, case: Case, question: Callable[[Case], object]) -> bool:
        """Ask the question of one case, and return whether the subject took it.

        Where a recorded crash was seen, a case that would show it again is passed over: it costs a
        process, and no more can be learned of it.

        Raises:
            Failure: one that is not known.
            Cut: the budget of time is over.
        """
        if self.known.foretold(self.seen_known, Failure("crash", "", case)):
            return False
        before = self.subject.requests
        try:
            question(case)
        except Unsupported as reason:
            self.declined = str(reason)
            return False
        except Stopped as reason:
            self.stopped = str(reason)
            self.left += 1
            return True
        except Failure as failure:
            if self.subject.requests == before:  # such as of a subject that cannot be started
                self.left += 1
            else:
                self.examples += 1
            failure.case = failure.case or case
            failure.arrays = failure.arrays or {"x": case.x, **case.weights}
            failure.layers = failure.layers or (case.layer,)
            failure.memory = failure.memory or (self._lain if failure.call == "forward" else None)
            # of a question within another, the outer one's
            self._asked[failure] = partial(question, case)
            self._misfortunes[failure.effect] += 1
            if not self.divergence(failure):
                raise
        else:
            self.examples += 1
        return True

    def _gather(self, failure: Failure) -> None:
        """Keep a failure, unless one with no departure from the plain layer but its own is kept."""
        kept = [_departures(other) for other in self.failures]
        found = _departures(failure)
        if any(other <= found for other in kept):
            return
        self.failures = [
            other
            for place, (other, its) in enumerate(zip(self.failures, kept, strict=True))
            if place == 0 or not found <= its
        ]
        self.failures.append(failure)

    def _shrink(
        self,
        draw: Callable[..., None],
        taken: Mapping[Case, bool],
        failing: Case,
        fails: Callable[[Case], Failure | None],
    ) -> None:
        """Put a simpler failure of the same effect in the place of the first one.

        The cases of before are drawn again, without being asked, up to the failing one.
        """
        first, *others = self.failures
        most = {"hang": 0, "crash": 10}.get(first.effect, self.profile.shrinks)
        most = math.ceil(most / _REPEATS) if self.compiles else most
        tried: dict[Case, Failure | None] = dict.fromkeys(taken)
        tried[failing] = first

        def asked(case: Case) -> None:
            if case not in tried and len(tried) - len(taken) < most:
                failure = fails(case)
                tried[case] = failure if failure and failure.effect == first.effect else None
            found = tried.get(case)
            if found:  # raised in one place: Hypothesis tells failures apart by line
                raise found.with_traceback(None)
            if not taken.get(case, True):
                hypothesis.reject()

        try:
            draw(asked, Phase.generate, Phase.shrink)
        except Failure as simplest:
            self.failures = [simplest]
        for other in others:
            self._gather(other)

    def _failure(self, cases: Iterable[Case], question: Callable[[Case], object]) -> Failure | None:
        """Return the first failure of some cases that is not known, and count none as asked."""
        before = self.examples, self.left
        try:
            self.each(cases, question)
        except Failure as failure:
            return failure
        except Cut:
            return None
        finally:
            self.examples, self.left = before
        return None

    def _one_row(self, failure: Failure, question: Callable[[Case], object]) -> Failure:
        """Return the failure of the failing row alone, if it fails alone too."""
        case = failure.case
        if case is None or failure.index is None or case.shape[0] < 2:
            return failure
        regime = case.regimes[failure.index[0] % len(case.regimes)]
        one = case.with_(shape=(1, *case.shape[1:]), regimes=(regime,))
        return self._failure([one], question) or failure

    def divergence(self, failure: Failure) -> bool:
        """Whether a failure is a recorded divergence; then it is noted as seen."""
        found = self.known.match(self.subject, failure)
        if found:
            self.seen_known.setdefault(found, failure)
        return bool(found)

    def _alone(self) -> None:
        """Ask the failing cases again in fresh processes: defects of their own, or leaked state?

        A subject in this process has no fresh one.
        """
        if not self.subject.isolated:
            return
        before = self.examples, self.left
        for failure in self.failures:
            if failure.alone is not None or failure.effect in {"hang", "adapter"}:
                continue
            self.subject.restart()
            try:
                self._asked[failure]()
            except Failure:
                failure.alone = True
            except (Unsupported, Stopped, Cut):
                continue
            else:
                failure.alone = False
        self.examples, self.left = before

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


def _no_constants() -> contextlib.AbstractContextManager[object]:
    """Return a context in which Hypothesis draws no constants of the modules that it finds loaded.

    What is asked would depend on what else was imported, and so on the questions before.
    """
    name, provider = "_maybe_draw_constant", providers.HypothesisProvider
    if not hasattr(provider, name):  # an older version draws none
        return contextlib.nullcontext()
    return mock.patch.object(provider, name, lambda *_, **__: None)  # noqa: PT008 - it keeps no calls


def _departures(failure: Failure) -> frozenset[tuple[str, object]]:
    """Return what tells a failure from one of the plainest layer, its effect among it."""
    layer = failure.layers[0] if failure.layers else None
    found: set[tuple[str, object]] = {("effect", failure.effect), ("call", failure.call)}
    found.add(("layers", tuple(type(each).__name__ for each in failure.layers)))
    if failure.case and failure.case.dtype != "float32":
        found.add(("dtype", failure.case.dtype))
    if failure.case and failure.case.memory != "contiguous":
        found.add(("memory", failure.case.memory))
    if layer is None:
        return frozenset(found)
    given = [f.name for f in dataclasses.fields(layer) if f.default is dataclasses.MISSING]
    plain = type(layer).unchecked(**{name: getattr(layer, name) for name in given})
    for name in (f.name for f in dataclasses.fields(layer)):
        value = getattr(layer, name)
        if value != getattr(plain, name):
            found.add((name, value if isinstance(value, str) else True))
    return frozenset(found)


def compiles(subject: Subject) -> bool:
    """Whether a subject compiles for each new shape: its first call is the costly one.

    Five shapes of the first layer that it has are measured, on the subject's own clock, and the
    least of them counts, so that a busy machine makes no difference. Of those that compile the
    first call costs 30 ms and more, a hundred times the next; of others, 0.5 ms.
    """
    for layer in (spec.ReLU(), spec.MaxPool((2, 2)), spec.GlobalMaxPool(2), spec.Flatten()):
        new, old = [], []
        for size in (5, 6, 7, 8, 9):
            x = np.ones((1, size, size + 1, 2), np.float32)
            try:
                first, *others = (subject.run([layer], [{}], x).seconds for _ in range(4))
            except Unsupported:
                break
            except (Refused, Crashed, AdapterBroke, Stopped):
                return False  # a question shows it
            new.append(first)
            old.append(min(others))
        else:
            return min(new) > max(_COMPILING, 10 * min(old))
    return False
