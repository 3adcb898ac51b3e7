"""How a question is asked: what is counted, kept, made simpler, and left."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import cnnformance
from cnnformance.adapters import registry
from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.exceptions import Stopped
from cnnformance.adapters.subject import Subject
from cnnformance.adapters.supervision import Info
from cnnformance.conformance.cases import Case
from cnnformance.conformance.compiling import compiles
from cnnformance.conformance.judge import Evidence, Failure
from cnnformance.conformance.profiles import PROFILES, Profile
from cnnformance.conformance.question import Question
from cnnformance.conformance.requests import Cut
from cnnformance.conformance.strategies import cases
from cnnformance.spec.layers import MaxPool, ReLU

SMALL = Profile("small", 8, 1 << 9, 50)


class Stub:
    """A subject that is never asked: the questions here answer for it."""

    isolated = True
    restarts = 0
    info = Info()
    target = registry.parse("numpy")

    def __init__(self) -> None:
        self._requests = itertools.count()

    @property
    def requests(self) -> int:
        """As if something had been asked of it since the last look."""
        return next(self._requests)

    def restart(self) -> None:
        self.restarts += 1


def ask(profile: Profile = SMALL, **fields: Any) -> Question:
    return Question(cast("Subject", Stub()), profile, **fields)


def rows(count: int, layer: MaxPool | ReLU = ReLU()) -> list[Case]:  # noqa: B008 - frozen
    return [Case(layer, (1, 3, 3, 1), seed=seed) for seed in range(count)]


def failing(seeds: set[int], effect: str = "value") -> Callable[[Case], None]:
    def question(case: Case) -> None:
        if case.seed in seeds:
            raise Failure(effect, f"wrong at {case.seed}")

    return question


@pytest.mark.parametrize("how", ["sweep", "explore"])
def test_what_a_broken_subject_is_not_asked_is_no_example(how: str) -> None:
    made = Question(
        Subject(registry.Target("absent", "absent.module:Absent"), in_process=True), SMALL
    )

    def question(case: Case) -> None:
        made.run(case.layer, case.x)

    if how == "sweep":
        made.sweep(rows(5), question)
    else:
        made.explore(cases(ReLU), question)
    assert (made.examples, made.left) == (0, 5 if how == "sweep" else SMALL.examples)
    assert [failure.effect for failure in made.failures] == ["adapter"]


def test_a_list_is_asked_to_its_end_after_failures() -> None:
    asked: list[int] = []

    def fails(case: Case) -> None:
        asked.append(case.seed)
        failing({2, 5})(case)

    question = ask()
    question.sweep(rows(9), fails)
    assert asked == [*range(9), 2]  # the failing one again, alone
    assert question.examples == question.planned == 9
    (failure,) = question.failures  # the other has the same cause
    assert failure.case
    assert (failure.case.seed, failure.alone) == (2, True)
    assert cast("Stub", question.subject).restarts == 1


def test_state_that_leaks_does_not_fail_alone() -> None:
    question = ask()
    again = itertools.count()

    def leaks(case: Case) -> None:
        if case.seed == 3 and not next(again):
            raise Failure("value", "wrong once")

    question.sweep(rows(5), leaks)
    assert [failure.alone for failure in question.failures] == [False]


def test_a_subject_without_a_process_of_its_own_is_not_asked_alone() -> None:
    question = ask()
    cast("Any", question.subject).isolated = False
    question.sweep(rows(5), failing({3}))
    assert [failure.alone for failure in question.failures] == [None]


def test_one_failure_of_each_cause_is_kept() -> None:
    plain = MaxPool((2, 2))
    asked = {
        0: plain.replace(padding="same"),
        1: plain.replace(padding="same", stride=(1, 1)),  # no other cause than the first
        2: plain.replace(ceil_mode=True, stride=(1, 1)),
        3: plain.replace(ceil_mode=True),  # a simpler case of the cause before
        4: plain.replace(padding="same_lower"),
    }
    question = ask()
    given = [Case(layer, (1, 4, 4, 1), seed=seed) for seed, layer in asked.items()]
    question.sweep(given, failing(set(asked)))
    kept = [failure.case.seed for failure in question.failures if failure.case]
    assert kept == [0, 3, 4]
    assert question.examples == 5


def test_effects_and_dtypes_are_causes_of_their_own() -> None:
    question = ask()
    (case,) = rows(1)
    question.sweep([case], failing({0}, "value"))
    question.sweep([case], failing({0}, "not-finite"))
    question.sweep([case.with_(dtype="float16")], failing({0}, "value"))
    question.sweep([case], failing({0}, "value"))
    assert [failure.effect for failure in question.failures] == ["value", "not-finite"]
    # what fails in float32 fails in float16 for the same cause


@pytest.mark.parametrize(("effect", "most"), [("hang", 2), ("crash", 3)])
def test_what_costs_a_process_is_asked_few_times(effect: str, most: int) -> None:
    question = ask()
    question.sweep(rows(9), failing(set(range(9)), effect))
    question.sweep(rows(4), failing(set()))
    question.explore(cases(ReLU), failing(set()))
    assert question.examples == most
    assert question.left == 9 - most + 4 + SMALL.examples
    assert question.planned == 9 + 4 + SMALL.examples


def test_many_causes_end_a_question() -> None:
    question = ask()
    for effect in ("value", "not-finite", "dtype", "shape", "law", "count"):
        question.sweep(rows(1), failing({0}, effect))
    assert len(question.failures) == SMALL.causes == question.examples
    assert question.left == 1


def declining(taken: Callable[[Case], bool], asked: list[Case]) -> Callable[[Case], None]:
    def question(case: Case) -> None:
        asked.append(case)
        if not taken(case):
            raise Unsupported("not this one")

    return question


def test_what_is_declined_is_neither_planned_nor_the_end() -> None:
    asked: list[Case] = []
    question = ask()
    question.sweep(rows(50), declining(lambda case: case.seed == 20, asked))
    assert len(asked) == 50
    assert question.examples == question.planned == 1
    assert question.declined == "not this one"


def test_a_list_of_which_all_is_declined_comes_to_an_end() -> None:
    asked: list[Case] = []
    question = ask()
    question.sweep(rows(1000), declining(lambda _: False, asked))
    question.explore(cases(ReLU), declining(lambda _: False, asked), 1000)
    assert len(asked) == 60
    assert question.examples == question.planned == 0


def test_what_is_declined_is_drawn_again() -> None:
    asked: list[Case] = []
    question = ask()
    question.explore(cases(ReLU), declining(lambda case: len(case.shape) == 4, asked))
    assert question.examples == SMALL.examples < len(asked) <= 4 * SMALL.examples


def test_a_quarantined_case_is_left_and_the_others_are_asked() -> None:
    def question(case: Case) -> None:
        if case.seed == 1:
            raise Stopped("it hung twice")

    one = ask()
    one.sweep(rows(4), question)
    assert (one.examples, one.planned, one.stopped) == (3, 4, "it hung twice")


def test_when_the_budget_is_over_nothing_more_is_asked() -> None:
    asked: list[int] = []
    question = ask()

    def request(case: Case) -> None:
        if case.seed == 4:
            question.deadline = time.monotonic() - 1
        question.asked(lambda: asked.append(case.seed))

    with pytest.raises(Cut):
        question.sweep(rows(9), request)
    assert asked == [0, 1, 2, 3]
    assert (question.examples, question.planned) == (4, 9)
    with pytest.raises(Cut):
        question.explore(cases(ReLU), request)
    assert (question.examples, question.planned) == (4, 9 + SMALL.examples)


def _drawn(**fields: Any) -> list[Case]:
    asked: list[Case] = []
    ask(**fields).explore(cases(MaxPool, plain=False), asked.append)
    return asked


def test_the_seed_and_the_question_settle_what_is_drawn() -> None:
    assert _drawn(seed=1, id="a") == _drawn(seed=1, id="a")
    first, *others = _drawn(seed=1, id="a")
    assert first == Case(MaxPool((1,)), (1, 1, 1), regimes=first.regimes, seed=0)  # the simplest
    for fields in ({"seed": 2, "id": "a"}, {"seed": 1, "id": "b"}):
        again, *more = _drawn(**fields)
        assert again == first
        assert len(set(others) & set(more)) < len(others) / 2  # some are always tried


def test_no_module_that_is_loaded_changes_what_is_drawn(tmp_path: Path) -> None:
    """Hypothesis draws the constants of the modules that it finds, unless it is kept from it."""
    (tmp_path / "full.py").write_text(f"CONSTANTS = {list(range(1000, 2000))}")
    root = Path(cnnformance.__file__).resolve().parents[1]
    paths = [str(root), str(root / "tests"), str(tmp_path)]
    asked = "[_drawn(seed=1, id=name) for name in 'abcdefgh']"
    drawn = []
    for modules in ("sys", "sys, full"):
        script = f"import sys; sys.path[:0] = {paths!r}; import {modules}; "
        command = [
            sys.executable,
            "-c",
            f"{script}from test_question import _drawn; print({asked})",
        ]
        drawn.append(subprocess.check_output(command, text=True))  # noqa: S603 - our own words
    assert drawn[0] == drawn[1]


def test_the_first_failure_is_made_simple() -> None:
    question = ask(PROFILES["default"])

    def fails(case: Case) -> None:
        if isinstance(case.layer, MaxPool) and case.layer.ceil_mode and case.shape[-1] > 2:
            raise Failure("value", "wrong")

    question.explore(cases(MaxPool, plain=False), fails)
    first = question.failures[0].case
    assert first == Case(
        MaxPool((1,), ceil_mode=True), (1, 1, 3), regimes=first.regimes if first else (), seed=0
    )
    assert len(question.failures) == 1
    assert question.examples == question.planned == 50


def test_a_simpler_case_has_the_same_effect() -> None:
    effects: list[str] = []

    def fails(case: Case) -> None:
        if case.shape[-1] > 2:
            effects.append("value" if case.seed else "not-finite")
            raise Failure(effects[-1], "wrong")

    question = ask(PROFILES["default"])
    question.explore(cases(MaxPool), fails)
    first = question.failures[0]
    assert first.effect == effects[0] == "value"
    assert first.case
    assert first.case.seed == 1  # that of 0 would be simpler


@pytest.mark.parametrize(("effect", "most"), [("value", 7), ("hang", 0)])
def test_a_profile_bounds_the_cases_of_shrinking(effect: str, most: int) -> None:
    asked: list[Case] = []

    def fails(case: Case) -> None:
        asked.append(case)
        if case.shape[-1] > 8:
            raise Failure(effect, "wrong")

    question = ask(Profile("few", 100, 9, 7, causes=1))
    cast("Any", question.subject).isolated = False
    question.explore(cases(MaxPool), fails)
    assert question.failures
    assert len(asked) == question.examples + most


def test_an_inner_list_raises_and_what_it_counts_is_asked() -> None:
    question = ask()

    def outer(case: Case) -> None:
        question.each([case.with_(seed=case.seed + 100)], failing({103}))

    question.sweep(rows(6), outer)
    (failure,) = question.failures
    assert failure.case
    assert (failure.case.seed, failure.alone) == (103, True)
    assert question.examples == 12


def test_a_subject_that_compiles_is_asked_many_values_in_few_shapes() -> None:
    question = ask(PROFILES["default"], compiles=True)
    drawn: list[Case] = []
    question.explore(cases(MaxPool), drawn.append)
    assert len(drawn) == 50
    assert len({(case.layer, case.shape) for case in drawn}) <= 10
    assert len(set(drawn)) == 50
    swept: list[Case] = []
    question.sweep(rows(100), swept.append)
    assert len(swept) == 13
    assert question.examples == question.planned == 63


def _timed(costs: Iterator[float]) -> Subject:
    def run(layers: list[Any], *_: object) -> SimpleNamespace:
        if isinstance(layers[0], ReLU):
            raise Unsupported("no ReLU")
        return SimpleNamespace(seconds=next(costs))

    return cast("Subject", SimpleNamespace(run=run))


@pytest.mark.parametrize(
    ("first", "later", "expected"),
    [
        ((0.3, 0.03, 0.04, 0.03, 0.05), 0.0001, True),
        ((0.3, 0.0003, 0.0002, 0.3, 0.3), 0.0001, False),  # the first call of all is always slow
        ((0.3, 0.2, 0.2, 0.2, 0.2), 0.1, False),  # a slow machine
        ((0.004, 0.004, 0.004, 0.004, 0.004), 0.00001, False),  # too cheap to be spared
    ],
)
def test_compiling_is_measured(first: tuple[float, ...], later: float, expected: bool) -> None:
    costs = itertools.chain.from_iterable((cost, 9 * later, later, later) for cost in first)
    assert compiles(_timed(costs)) is expected


def test_the_evidence_is_the_sharpest_and_the_largest_share() -> None:
    question = ask()
    for share, sharpness in ((0.25, 1e-3), (0.5, 1e-6), (0.125, 1.0)):
        question.note(Evidence(share, "", sharpness))
    assert (question.share, question.sharpness) == (0.5, 1e-6)
