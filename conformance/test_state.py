"""Memory and state: layouts of the input, aliasing, repeated calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from cnnformance.conformance import cases_by_option, judge
from cnnformance.conformance.cases import Case, given
from cnnformance.conformance.cases_by_memory import MEMORIES, laid_out
from cnnformance.conformance.cases_published import published
from cnnformance.conformance.gradients import repeated
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.parametrize import by_layer_type, dtypes, law, laws
from cnnformance.conformance.per_type import PerType
from cnnformance.conformance.question import Question
from cnnformance.conformance.refusals import shape_for
from cnnformance.conformance.small_layers import channels, one_window, ordinary
from cnnformance.conformance.strategies import cases
from cnnformance.reference import ShapeError, output_shape
from cnnformance.spec import layers as spec


@law("memory-layout")
def test_memory_layout(ask: Question, layer_type: type[spec.Layer]) -> None:
    """An input that lies in memory in another way gives the same output."""

    def in_memories(case: Case) -> Iterator[Case]:
        yield from (case.with_(memory=memory) for memory in MEMORIES)
        x = np.repeat(case.x[:1], 3, axis=0)
        yield given(case.layer, x, **case.weights).with_(memory="broadcast")
        if case.layer.exact:
            yield case.with_(regimes=("nan",))

    def question(case: Case) -> None:
        if case.regimes != ("nan",):
            ask.output(case)
            return
        usual = ask.run(case.layer, case.x)
        for memory in MEMORIES:
            y = ask.run(case.layer, case.x, memory=memory)
            judge.equal(y, usual, f"as with a contiguous input, and not a {memory} one")

    for dtype in ("float32", "float64"):
        drawn = cases(layer_type, dtype, plain=False)
        ask.explore(drawn, question, max(3, ask.profile.examples // 8), in_memories)
    most = len(MEMORIES) if ask.profile.name == "quick" else None
    for dtype in dtypes(layer_type)[2:]:
        lying = (case for case in laid_out(layer_type, most, dtype) if case.memory in MEMORIES)
        ask.sweep(lying, ask.output)
    sized = (
        Case(layer_type(**fields), shape)
        for fields, shape in published(layer_type, 9 * ask.profile.every)
    )
    ask.sweep((case.with_(memory=memory) for case in sized for memory in MEMORIES), ask.output)


@by_layer_type(
    {
        layer_type: laws("memory-layout")[layer_type.__name__]
        for layer_type in (spec.Conv, spec.Dense)
    }
)
def test_weight_memory(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Weights that lie in memory in another way give the same output."""

    def lain(case: Case) -> Case:
        if case.memory != "broadcast":
            return case
        weights = {n: np.repeat(w[:1], len(w), axis=0) for n, w in case.weights.items()}
        return given(case.layer, case.x, **weights).with_(memory=case.memory)

    def question(case: Case) -> None:
        y = ask.run(case.layer, case.x, case.weights, weight_memory=case.memory)
        ask.note(judge.output(case, y))

    few = 27 if ask.profile.name == "quick" else None
    ask.sweep(map(lain, laid_out(layer_type, few)), question)
    for dtype in dtypes(layer_type)[1:]:
        ask.sweep(map(lain, laid_out(layer_type, len(MEMORIES) + 1, dtype)), question)


_MANY = 2**18 + 1


@PerType
def long_sum(layer_type: type[Any]) -> Case:
    """Return a case of so many terms that a kernel may share them out among threads."""
    return Case(one_window(layer_type, (65, 64)), (4, 65, 64, 5), regimes=("normal",))


@long_sum.register(spec.Dense)
def _long_dense(layer_type: type[spec.Dense]) -> Case:
    return Case(layer_type(4097, 5), (4, 4097), regimes=("normal",))


@long_sum.register(spec.Conv)
def _long_convolution(layer_type: type[spec.Conv]) -> Case:
    layer = layer_type(window=(5, 5), in_channels=65, out_channels=5)
    return Case(layer, (2, 9, 8, 65), regimes=("normal",))


@PerType
def large_result(layer_type: type[Any]) -> Case:
    """Return a case of a result of more than a megabyte, which allocators keep apart."""
    return Case(one_window(layer_type, (2,)), (1, 2, _MANY))


@large_result.register(spec.Conv)
def _large_convolution(layer_type: type[spec.Conv]) -> Case:
    return Case(one_window(layer_type, (2,)), (1, _MANY + 1, 1))


@large_result.register(spec.Dense)
def _large_dense(layer_type: type[spec.Dense]) -> Case:
    return Case(layer_type(2, 513), (513, 2))


@law("pure")
def test_pure(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A call leaves its input and earlier results alone, and an equal call gives equal bits.

    An equal backward pass gives equal bits too.
    """

    def question(case: Case) -> None:
        other = case.with_(seed=case.seed + 1).x
        ask.output(case)
        twice = ask.asked(lambda: ask.subject.run_twice(case.layer, case.weights, case.x, other))
        problems = []
        if twice.modified:
            problems.append("the input or a weight was modified")
        if twice.first.tobytes() != twice.later.tobytes():
            problems.append("an earlier result changed when the layer was called again")
        if not np.array_equal(twice.first, twice.again, equal_nan=True):
            deterministic = ask.subject.info.deterministic
            problems += ["an equal call gave another result"] if deterministic else []
        if twice.aliases_input and not case.layer.reshapes:
            problems.append("the result is a view of the input")
        if twice.aliases_output and case.x.size:
            problems.append("two results share memory")
        if problems:
            raise Failure("state", "; ".join(problems))

    ask.explore(cases(layer_type, plain=False), question, max(6, ask.profile.examples // 4))
    ask.sweep(
        [long_sum(layer_type), large_result(layer_type), *cases_by_option.plain(layer_type)],
        question,
    )
    if ask.subject.info.deterministic:
        ask.sweep(cases_by_option.plain(layer_type), partial(repeated, ask))


@law("batch-independent")
def test_state_between_shapes(ask: Question, layer_type: type[spec.Layer]) -> None:
    """One layer called with inputs of many shapes, then the first again, answers each rightly."""
    shapes = cases(layer_type)

    def question(case: Case) -> None:
        ask.output(case)
        if len(case.shape) > 2 and not case.layer.has_weights:
            grown = (case.shape[0], *(n + 1 for n in case.shape[1:-1]), case.shape[-1])
            ask.output(case.with_(shape=grown))
        ask.output(case.with_(seed=case.seed + 1))
        ask.each(_others(case), ask.output)
        ask.output(case)

    ask.explore(shapes, question, max(4, ask.profile.examples // 10))
    ask.sweep((*_twins(layer_type), *_twins(layer_type)), ask.output)
    if layer_type.has_weights:
        ask.sweep(_of_like_weights(layer_type), ask.output)


def _twins(layer_type: type[spec.Layer]) -> Iterator[Case]:
    """Yield layers that differ in one field and give equal shapes: a cache must tell them apart."""
    if not issubclass(layer_type, spec.Pool | spec.Conv):
        return
    fields: dict[str, Any] = {"window": (2, 2), "stride": (3, 3), "padding": ((1, 1), (1, 1))}
    fields |= channels(layer_type, 2, 2)
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"window": (3, 2)},
        {"window": (2, 3)},
        {"stride": (4, 3)},
        {"stride": (3, 4)},
        {"padding": ((0, 1), (1, 1))},
        {"padding": ((1, 1), (1, 0))},
        {"dilation": (2, 1)},
        {"dilation": (1, 2)},
        {"count_include_pad": True},
        {"p": 1},
        {"groups": 2},
        {"bias": False},
    )
    for change in changes:
        if change.keys() <= layer_type.__dataclass_fields__.keys():
            yield Case(layer_type(**{**fields, **change}), (2, 5, 5, 2))


def _of_like_weights(layer_type: type[spec.Layer]) -> Iterator[Case]:
    """Yield one layer with weights that differ in a part: what is packed must not be kept for all.

    The biases differ, then an order of the same numbers, then a last number, and each again.
    """
    layer = ordinary(layer_type)
    case = Case(layer, shape_for(layer))
    weight, bias = case.weights["weight"], case.weights["bias"]
    last = weight.copy()
    last.flat[-1] += 1
    held = [(weight, bias), (weight, bias + 1), (np.flip(weight), bias), (last, bias)]
    for own, added in (*held, *held):
        yield given(layer, case.x, weight=np.ascontiguousarray(own), bias=added)


def _others(case: Case) -> Iterator[Case]:
    """Yield the axes of the map in reverse, and, of a layer without weights, another dtype."""
    turned = case.with_(shape=(case.shape[0], *case.shape[-2:0:-1], case.shape[-1]))
    with contextlib.suppress(ShapeError):
        if min(output_shape(case.layer, turned.shape)) > 0:
            yield turned
    if not case.layer.has_weights:
        yield case.with_(dtype="float64")
