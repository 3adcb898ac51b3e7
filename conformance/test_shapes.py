"""Sizes of outputs: the formula, the framework's static answer, and the edges."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.conformance import cases_by_option, cases_by_size, judge
from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_published import published
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.parametrize import FLOATS, by_layer_type, every, law
from cnnformance.conformance.question import Question
from cnnformance.conformance.small_layers import halving
from cnnformance.conformance.strategies import cases
from cnnformance.reference import ShapeError, output_shape
from cnnformance.spec import layers as spec

_STATED: dict[type[spec.Layer], list[str]] = {
    spec.MaxPool: ["pool.output-size", "pool.output-size-floor"],
    spec.MinPool: ["pool.output-size"],
    spec.AveragePool: ["pool.output-size"],
    spec.LpPool: ["pool.output-size"],
    spec.StochasticPool: ["pool.output-size"],
    spec.Conv: ["conv.valid-size", "conv.valid-size-stride"],
}
SIZES = every(_STATED)
"""The layers, each with the clauses that say how large its output is."""


@by_layer_type(SIZES, ["static-shape-agrees", "output-shape"])
def test_static_shape(ask: Question, layer_type: type[spec.Layer]) -> None:
    """The shape that the framework states without computing is the formula's."""
    count = max(6, ask.profile.examples // 3)
    for drawn in (cases(layer_type), cases(layer_type, plain=False)):
        ask.explore(drawn, lambda case: _static(ask, case), count)
    ask.explore(
        cases(layer_type).map(Case.emptied), lambda case: _static_of_none(ask, case), count // 3
    )
    sized = (
        Case(layer_type(**fields), shape)
        for fields, shape in published(layer_type, ask.profile.every)
    )
    ask.sweep(sized, partial(_static, ask))
    ask.sweep(_at_edges(layer_type), partial(_static, ask))
    if issubclass(layer_type, spec.Flatten):
        ask.sweep([Case(layer_type(), (2, 0, 3))], partial(_static_of_none, ask))
        _stated(ask, layer_type(), (1, 2**16, 2**16, 3))
    if issubclass(layer_type, spec.Windowed):
        _stated(ask, layer_type(window=(2,), stride=(1,)), (1, 2**24 + 4, 1))


def _at_edges(layer_type: type[spec.Layer]) -> Iterator[Case]:
    """Yield each option of a layer, and what may be left over at the end of a map."""
    yield from cases_by_option.one_size(layer_type)
    if issubclass(layer_type, spec.Pool | spec.Conv):
        sized = cases_by_size.left_over(layer_type)
        yield from (Case(layer_type(**fields), shape) for fields, shape in sized)


def _static(ask: Question, case: Case) -> None:
    _agrees(ask, case.layer, case.shape)


def _static_of_none(ask: Question, case: Case) -> None:
    """Ask for the static shape of no samples or channels; who runs none may refuse."""
    try:
        _static(ask, case)
    except Failure as failure:
        if failure.effect != "exception" or _answers(ask, case):
            raise


def _answers(ask: Question, case: Case) -> bool:
    """Whether the subject returns something for a case, right or wrong."""
    try:
        ask.run_any(case.layer, case.x, case.weights)
    except (Failure, Unsupported):
        return False
    return True


def _agrees(ask: Question, layer: spec.Layer, shape: spec.Shape) -> None:
    what = f"the static answer for input {shape}"
    ask.static_shape([layer], shape, output_shape(layer, shape), what)


def _stated(ask: Question, layer: spec.Layer, shape: spec.Shape) -> None:
    """Ask for a static shape past the integers of 32 bits or of float32; no array of it is made.

    A subject that makes one finds no memory, and says so.
    """
    try:
        _agrees(ask, layer, shape)
    except Unsupported as reason:
        ask.declined = str(reason)
    except Failure as failure:
        if failure.effect == "exception":
            ask.declined = failure.message
        elif not ask.divergence(failure):
            raise
    else:
        ask.examples += 1


def _too_small(layer_type: type[spec.Layer]) -> Iterator[Case]:
    """Yield windows that are one and two cells larger than the input, along each axis."""
    for rank in (1, 2, 3):
        for axis in range(rank):
            for short in (1, 2):
                for stride in (1, 2):
                    window = tuple(3 if i == axis else 1 for i in range(rank))
                    layer = layer_type(window=window, stride=(stride,) * rank)  # type: ignore[call-arg] # windowed
                    spatial = tuple(3 - short if i == axis else 2 for i in range(rank))
                    yield Case(layer, (1, *spatial, 1))
    if not layer_type.draws:
        dilated = {"window": (2, 1), "stride": (2, 1), "dilation": (3, 1)}
        yield Case(layer_type(**dilated), (1, 3, 2, 1))


@law("refused-or-empty")
def test_window_larger_than_input(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Where no window fits, the layer is refused or the output is empty: no crash, no garbage.

    The static shape is refused too, or is that of the call.
    """
    returned: dict[Case, spec.Shape] = {}

    def question(case: Case) -> None:
        try:
            y = ask.run_any(case.layer, case.x, case.weights)
        except Failure as failure:
            if failure.effect == "exception":
                return
            raise
        if not _empty_as_it_should(case, y.shape):
            raise Failure(
                "shape",
                f"no window fits into {case.shape}, and the output has shape {y.shape}",
                expected="an exception or an empty output",
                actual=str(y.shape),
                arrays={"x": case.x, **case.weights},
                claim="0 in {result}.shape",
            )
        returned[case] = y.shape

    def stated(case: Case) -> None:
        try:
            shape = ask.static_shape([case.layer], case.shape, returned.get(case))
        except Failure as failure:
            if failure.effect == "exception":
                return
            raise
        if min(shape) != 0:
            said = f"no window fits into {case.shape}, and the static answer is {shape}"
            raise Failure(
                "shape",
                said,
                expected="a refusal, or no cells",
                actual=str(shape),
                arrays={"shape": np.array(case.shape)},
                layers=(case.layer,),
                call="output_shape",
                claim="min({result}) == 0",
            )

    ask.sweep(_too_small(layer_type), question)
    ask.sweep(_too_small(layer_type), stated)


def _stated_size(case: Case) -> str:
    """Return the shape of the formula, as text; empty where it gives less than nothing."""
    try:
        return str(output_shape(case.layer, case.shape))
    except ShapeError:
        return ""


def _empty_as_it_should(case: Case, shape: spec.Shape) -> bool:
    try:
        return shape == output_shape(case.layer, case.shape)
    except ShapeError:  # the formula gives less than nothing
        return int(np.prod(shape)) == 0


@law("empty-batch")
def test_empty_batch(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A batch of no images gives a batch of no outputs, of the shape that the formula states.

    A subject may refuse empty batches, if it does so in every layer; whether it does is a trait.
    """
    some = cache(lambda: _some_empty_batch(ask))

    def question(case: Case) -> None:
        value = "answered"
        try:
            ask.output(case)
        except Failure as failure:
            if failure.effect != "exception" or some():
                raise
            value = "refused"
        ask.trait("empty batch", value, f"{layer_type.__name__}, {case.layer}", str(case.shape))

    designs = cases_by_option.one_size(layer_type)
    ask.sweep(map(Case.emptied, (*cases_by_option.plain(layer_type), *designs)), question)
    ask.explore(cases(layer_type).map(Case.emptied), question, max(4, ask.profile.examples // 8))
    for dtype in FLOATS:
        drawn = cases(layer_type, dtype, plain=False).map(Case.emptied)
        ask.explore(drawn, question, max(2, ask.profile.examples // 8))


def _some_empty_batch(ask: Question) -> bool:
    """Whether the subject answers an empty batch in some plain layer."""
    return any(_answers(ask, next(cases_by_option.plain(k)).emptied()) for k in spec.TYPES.values())


@law("no-channels")
def test_no_channels(ask: Question, layer_type: type[spec.Layer]) -> None:
    """An input of no channels gives an output of none, or is refused; which is a trait.

    A static answer is that of the formula; it may be refused where the call is.
    """

    def question(case: Case) -> None:
        value = "answered"
        try:
            ask.output(case)
        except Failure as failure:
            if failure.effect != "exception":
                raise
            value = "refused"
        ask.trait("no channels", value, f"{layer_type.__name__}, {case.layer}", str(case.shape))

    sizes = ((5,), (4, 6), (4, 3, 2))
    shapes = [(2, *spatial, 0) for spatial in sizes]
    asked = [Case(halving(layer_type, len(shape) - 2), shape) for shape in shapes]
    ask.sweep(asked, question)
    ask.sweep(asked, partial(_static_of_none, ask))


def _without_cells(layer_type: type[spec.Layer]) -> Iterator[Case]:
    """Yield maps with one axis of no cells, for windows without padding, with it and with same."""
    for rank in (2, 1, 3):
        layers = [halving(layer_type, rank)]
        if issubclass(layer_type, spec.Pool | spec.Conv):
            pair = (2,) * rank
            layers += [
                layer_type(pair, (1,) * rank, ((1, 1),) * rank),
                layer_type(pair, pair, "same"),
            ]
        for axis in range(rank):
            shape = (2, *(0 if n == axis else 4 for n in range(rank)), 1)
            yield from (Case(layer, shape) for layer in layers)


@law("no-cells")
def test_no_cells(ask: Question, layer_type: type[spec.Layer]) -> None:
    """An axis without cells is refused, or gives what the formula gives; which is a trait.

    The windows then have no cells, or cells of padding alone, whose mean and maximum are not
    finite.
    """
    answers: set[str] = set()

    def question(case: Case) -> None:
        try:
            y = ask.run_any(case.layer, case.x, case.weights)
        except Failure as failure:
            if failure.effect != "exception":
                raise
            value = "refused"
        else:
            _of_no_cells(case, y)
            value = "answered"
        answers.add(value)

    ask.sweep(_without_cells(layer_type), question)
    if answers:
        value = " or ".join(sorted(answers))
        ask.trait(
            f"{layer_type.__name__}: no cells", value, layer_type.__name__, "all ranks and axes"
        )


def _of_no_cells(case: Case, y: Array) -> None:
    """Require the shape of the formula, and values that padding gives or that are not finite."""
    layer, finite = case.layer, np.isfinite(y.astype(np.float64))
    if isinstance(layer, spec.Global | spec.Adaptive):
        if finite.any():
            value = judge.text(y[finite][0])
            message = f"pooled a map of no cells to {value}"
            claim = "not np.isfinite({result}).any()"
            expected = "an exception, or no number"
            raise Failure("value", message, expected=expected, actual=value, claim=claim)
        return
    if not _empty_as_it_should(case, y.shape):
        message = f"a map of no cells {case.shape} gives an output of shape {y.shape}"
        stated = _stated_size(case)
        claim = "" if stated else "0 in {result}.shape"
        raise Failure("shape", message, expected=stated, actual=str(y.shape), claim=claim)
    if y.size and not (layer.exact or layer.averages):
        judge.output(case, y)
