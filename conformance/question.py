"""One question, put to one subject: cases are listed or drawn, asked, judged and made simpler.

``Question`` is the fixture ``ask`` of the questions. What it asks of the subject stands in
``requests``, what it counts and keeps in ``tally``, how cases are drawn in ``drawing``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import TypeVar

import hypothesis
from hypothesis import Phase
from hypothesis.strategies import SearchStrategy

from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_spread import spread
from cnnformance.conformance.drawing import draw
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.requests import Cut
from cnnformance.conformance.tally import REFUSALS, Tally

T = TypeVar("T")

_ROUNDS = 3
"""How often cases are drawn until enough different ones were asked."""
_SHARE, _REPEATS = 8, 5
"""A subject that compiles is asked one in so many cases by design, and each drawn one so often."""


@dataclass
class Question(Tally):
    """One question put to one subject; collects what the record of the verdict will say.

    ``id`` is its name, from which, with the ``seed``, its draws follow; ``compiles`` says that the
    subject compiles for each new shape, so that it is asked fewer shapes.
    """

    _: KW_ONLY
    seed: int = 0
    id: str = ""
    compiles: bool = False
    _explored: int = 0

    def part(self, items: Iterable[T]) -> list[T]:
        """Return the items that are asked: all, or few, spread, where the subject compiles."""
        listed = list(items)
        if not self.compiles:
            return listed
        return list(spread(listed)[: math.ceil(len(listed) / _SHARE)])

    def sweep(self, cases: Iterable[Case], check: Callable[[Case], object]) -> None:
        """Make a check of the part of a fixed list of cases, after failures too."""
        self._all(self.part(cases), check)
        self._alone()

    def explore(
        self,
        cases: SearchStrategy[Case],
        check: Callable[[Case], object],
        examples: int | None = None,
        variants: Callable[[Case], Iterable[Case]] = lambda case: [case],
    ) -> None:
        """Make a check of each drawn case's variants, after failures too; shrink the first failure.

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
            key = repr((self.seed, self.id, self._explored, again))
            drawn = partial(draw, cases, wanted + (again > 0), key)
            whole = not self.failures
            try:
                self._generate(
                    drawn, lambda case: self._all(seeded(case), check) > 0, taken, failing
                )
            except Cut:
                self.left += count - sum(taken.values()) - 1
                raise
            if whole and failing:
                fails = lambda case: self._failure(seeded(case), check)  # noqa: E731 - a thunk
                self._shrink(drawn, taken, failing[0], fails)
                self.failures[0] = self._one_row(self.failures[0], check)
        if self.halted:
            self.left += count - sum(taken.values())
        self._alone()

    def _generate(
        self,
        drawn: Callable[..., None],
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
            if cuts or self.halted or case in taken or (refused and len(taken) >= REFUSALS):
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

        drawn(asked, Phase.generate)
        if cuts:
            raise cuts[0]

    def _shrink(
        self,
        drawn: Callable[..., None],
        taken: Mapping[Case, bool],
        failing: Case,
        fails: Callable[[Case], Failure | None],
    ) -> None:
        """Put a simpler failure of the same effect in the place of the first one.

        The cases that were drawn before are drawn again, and not asked, up to the failing one.
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
            drawn(asked, Phase.generate, Phase.shrink)
        except Failure as simplest:
            self.failures = [simplest]
        for other in others:
            self._gather(other)

    def _one_row(self, failure: Failure, check: Callable[[Case], object]) -> Failure:
        """Return the failure of the failing row alone, if it fails alone too."""
        case = failure.case
        if case is None or failure.index is None or case.shape[0] < 2:
            return failure
        regime = case.regimes[failure.index[0] % len(case.regimes)]
        one = case.with_(shape=(1, *case.shape[1:]), regimes=(regime,))
        return self._failure([one], check) or failure
