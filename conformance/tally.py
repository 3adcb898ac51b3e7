"""The tally of a question: the cases that were asked and left, and the failures that were kept."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.exceptions import Stopped
from cnnformance.conformance.cases import Case
from cnnformance.conformance.divergences import Divergences
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.profiles import Profile
from cnnformance.conformance.requests import Cut, Requests

_MOST = {"hang": 2, "crash": 3}
"""How many failures of these effects a question goes on after: each costs a process."""
REFUSALS = 30
"""A list of cases of which the subject has declined so many, and answered none, ends there."""


@dataclass
class Tally(Requests):
    """Asks a question of cases, and counts what became of each.

    ``examples`` cases were put to the subject, and ``left`` that were planned were not.
    ``failures`` are those that are not known, one of each cause; ``seen_known`` are the recorded
    divergences that were seen, by their ids. ``declined`` is the last reason for which the subject
    declined a case, ``stopped`` the last for which a case was barred.
    """

    profile: Profile
    _: KW_ONLY
    known: Divergences = field(default_factory=Divergences)
    examples: int = 0
    left: int = 0
    declined: str = ""
    stopped: str = ""
    failures: list[Failure] = field(default_factory=list)
    seen_known: dict[str, Failure] = field(default_factory=dict)
    _effects: Counter[str] = field(default_factory=Counter)
    _again: dict[Failure, Callable[[], object]] = field(default_factory=dict)
    _begun: int = 0

    def __post_init__(self) -> None:
        """Remember what had been put to the subject before this question."""
        self._begun = self.subject.requests

    def count(self, ending: Failure) -> None:
        """Count the case whose failure ended the question, if it was put and is not counted yet."""
        if ending not in self._again and self.subject.requests > self._begun:
            self.examples += 1

    @property
    def planned(self) -> int:
        """The cases that were to be asked: neither declined nor known to end the process."""
        return self.examples + self.left

    @property
    def halted(self) -> bool:
        """Whether so much went wrong that the other cases are left unasked."""
        often = any(self._effects[effect] >= most for effect, most in _MOST.items())
        return often or len(self.failures) >= self.profile.causes

    def each(self, cases: Iterable[Case], check: Callable[[Case], object]) -> None:
        """Make a check of every case; raises the first failure that is not known.

        ``check`` asks the subject about a case, and raises ``Failure`` for a wrong answer.
        """
        for case in cases:
            self._settle(case, check)

    def _all(self, cases: Sequence[Case], check: Callable[[Case], object]) -> int:
        """Make a check of all cases, gather their failures, and return how many answered."""
        queue = deque(cases)
        del cases  # each holds its arrays from when it is asked
        answered = declined = 0
        try:
            while queue and not self.halted and (answered or declined < REFUSALS):
                try:
                    settled = self._settle(queue.popleft(), check)
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

    def _settle(self, case: Case, check: Callable[[Case], object]) -> bool:
        """Make a check of one case, and return whether the subject took it.

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
            check(case)
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
            # of a check within another, the outer one's
            self._again[failure] = partial(check, case)
            self._effects[failure.effect] += 1
            if not self.divergence(failure):
                raise
        else:
            self.examples += 1
        return True

    def _gather(self, failure: Failure) -> None:
        """Keep a failure, unless one is kept whose departures are all among its own."""
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

    def _failure(self, cases: Iterable[Case], check: Callable[[Case], object]) -> Failure | None:
        """Return the first failure of some cases that is not known, and count none as asked."""
        before = self.examples, self.left
        try:
            self.each(cases, check)
        except Failure as failure:
            return failure
        except Cut:
            return None
        finally:
            self.examples, self.left = before
        return None

    def divergence(self, failure: Failure) -> bool:
        """Whether a failure is a recorded divergence; then it is noted as seen."""
        found = self.known.match(self.subject, failure)
        if found:
            self.seen_known.setdefault(found, failure)
        return bool(found)

    def _alone(self) -> None:
        """Ask the failing cases again in fresh processes, and note whether each fails there too.

        If it does not, an earlier call left a state behind, or the failure is flaky. Nothing is
        asked again of a subject without a process of its own.
        """
        if not self.subject.isolated:
            return
        before = self.examples, self.left
        for failure in self.failures:
            if failure.alone is not None or failure.effect in {"hang", "adapter"}:
                continue
            self.subject.restart()
            try:
                self._again[failure]()
            except Failure:
                failure.alone = True
            except (Unsupported, Stopped, Cut):
                continue
            else:
                failure.alone = False
        self.examples, self.left = before


def _departures(failure: Failure) -> frozenset[tuple[str, object]]:
    """Return the departures of a failure from one of the plainest layer, and its effect."""
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
