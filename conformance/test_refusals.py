"""What has no meaning must be refused: an exception, and neither an answer nor the process's end.

The questions are about what every framework can refuse, whether it has layers or functions. A
function takes the window, the channels and the groups of a convolution from its weights, and
broadcasts a bias of one number, so that wrong values of these are not asked.

Some input has a general meaning that frameworks document: padding beyond the window makes windows
of padding alone, negative padding crops, more axes are batches of batches, and no axes flatten to
an axis of one. An answer with that meaning is right too; whether it is given is a trait.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case, given
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.parametrize import by_layer_type, law, laws
from cnnformance.conformance.question import Question
from cnnformance.conformance.refusals import (
    GENERAL,
    OF_INPUTS,
    RANKS,
    RULES,
    SIZELESS,
    UNSEEN,
    Rule,
    Wrong,
    broken,
    shape_for,
    wrong,
)
from cnnformance.conformance.small_layers import ordinary
from cnnformance.reference import ShapeError, bounds, fast_algorithms, forward, output_shape
from cnnformance.spec import clauses
from cnnformance.spec import layers as spec

STATED = laws("refuses")


def _asked() -> Iterator[Any]:
    for rule, (layer_types, cases) in RULES.items():
        for layer_type in layer_types:
            marks = pytest.mark.clauses(*STATED.get(layer_type.__name__, []))
            yield pytest.param(
                layer_type, rule, cases, marks=marks, id=f"{layer_type.__name__}-{rule}"
            )


@pytest.mark.parametrize(("layer_type", "rule", "cases"), list(_asked()))
def test_refused(ask: Question, layer_type: type[spec.Layer], rule: str, cases: Rule) -> None:
    """The call is refused with an exception, and leaves the backend usable."""
    _refused(ask, layer_type, rule, cases(layer_type))


@by_layer_type({spec.TYPES[name]: ids for name, ids in STATED.items()})
def test_stated(ask: Question, layer_type: type[spec.Layer]) -> None:
    """What the clauses say must be refused is refused."""
    stated = [clauses.load().clauses[name] for name in STATED[layer_type.__name__]]
    found = [
        wrong(f"{case.layer} for an input {case.shape}", case.layer, case.shape)
        for clause in stated
        if isinstance(clause, clauses.Law)
        for case in clause.refusals
        if type(case.layer) is layer_type
    ]
    _refused(ask, layer_type, "stated", found)


def _refused(ask: Question, layer_type: type[spec.Layer], rule: str, cases: Any) -> None:
    cases, again = itertools.tee(cases)
    answers: set[str] = set()
    healthy: dict[Case, bool] = {}

    def usable(usual: Case) -> bool:
        """Whether an ordinary call is answered rightly; if it never is, refusals show nothing."""
        try:
            ask.output(usual)
        except Failure:
            return False
        return True

    def question(case: Case) -> None:
        assert isinstance(case, Wrong)
        layer = ordinary(layer_type, getattr(case.layer, "rank", 2))
        usual = Case(layer, shape_for(layer), regimes=("positive",))
        if usual not in healthy:
            healthy[usual] = usable(usual)
        answers.add(_answer(ask, case))
        if not healthy[usual]:
            raise Unsupported(f"an ordinary call fails too: {usual.layer}")
        if not usable(usual):
            raise Failure(
                "law",
                f"after {case.why} was refused, an ordinary call fails: {usual.layer}",
                expected="an ordinary call works",
            )

    if rule in OF_INPUTS:  # before these layers have refused anything
        some = itertools.islice(again, 0, None, 3 if ask.profile.name == "quick" else 1)
        ask.sweep(some, partial(_refused_later, ask))
    ask.sweep(cases, question)
    if rule in GENERAL and "answered" in answers:
        value = " or ".join(sorted(answers))
        ask.trait(rule.replace("-", " "), value, layer_type.__name__, "all ranks and sides")


def _refused_later(ask: Question, case: Case) -> None:
    """Require a layer to refuse an input between two ordinary ones, and to answer these alike."""
    assert isinstance(case, Wrong)
    x = np.ones(shape_for(case.layer), np.float32)
    try:
        before = ask.run(case.layer, x, case.weights)
    except Failure as error:  # other questions show it, and a refusal shows nothing
        raise Unsupported(f"an ordinary call fails too: {case.layer}") from error
    _answer(ask, case)
    after = ask.run(case.layer, x, case.weights)
    if ask.subject.info.deterministic:
        judge.equal(after, before, f"as before {case.why} was refused")


def _answer(ask: Question, case: Wrong) -> str:
    """Return how a case was met: ``refused``, or ``answered`` with a general meaning.

    Raises:
        Failure: it was answered without one, or the subject crashed, hung, or broke its contract.
    """
    try:
        y = ask.run_any(case.layer, case.x, case.weights)
    except Unsupported:
        return "refused"
    except Failure as failure:
        if failure.effect == "exception":
            return "refused"
        raise
    meant = _meant(case)
    if meant and _is_meant(case, meant, y):
        return "answered"
    raise Failure(
        "not-refused",
        f"accepted {case.why}, and returned an array of shape {y.shape}{_some(y)}",
        expected="an exception, or what it means in general" if meant else "an exception",
        actual=f"an array of shape {y.shape}",
    )


def _some(y: Array) -> str:
    shown = ", ".join(judge.text(value) for value in y.ravel()[:4])
    return f" with the values {shown}{', ...' if y.size > 4 else ''}" if y.size else ""


def _meant(case: Wrong) -> Case | None:
    """Return the ordinary case that gives the general meaning of a wrong one, if there is one."""
    layer, x, weights = case.layer, case.x, case.weights
    if isinstance(layer, spec.Flatten) and x.ndim == layer.start:
        return given(layer, x[..., None])
    if not isinstance(layer, spec.Windowed) or isinstance(layer.padding, str):
        return None
    if x.ndim > layer.rank + 2:
        batch = math.prod(_batch(case))
        return given(layer, x.reshape(batch, *x.shape[-layer.rank - 1 :]), **weights)
    if any(map(any, layer.padding)):
        sizes = zip(x.shape[1:-1], layer.padding, strict=True)
        x = x[:, *(slice(max(-before, 0), n - max(-after, 0)) for n, (before, after) in sizes)]
        pads = tuple((max(before, 0), max(after, 0)) for before, after in layer.padding)
        return given(broken(layer, padding=pads), x, **weights)
    return None


def _batch(case: Case) -> spec.Shape:
    """Return the sizes of all axes before those that the layer needs, by default of the first."""
    rank = getattr(case.layer, "rank", 0)
    return case.shape[: -rank - 1] if rank else case.shape[:1]


def _meant_shape(case: Wrong, meant: Case) -> spec.Shape:
    """Return the shape of what a wrong case means in general.

    Raises:
        ShapeError: there is none, since no window fits.
    """
    return (*_batch(case), *output_shape(meant.layer, meant.shape)[1:])


def _is_meant(case: Wrong, meant: Case, y: Array) -> bool:
    """Whether ``y`` is what the case means in general."""
    try:
        if isinstance(case.layer, spec.Flatten):  # wherever the axis of one stands
            return y.ndim == case.x.ndim + 1 and np.array_equal(y.squeeze(), case.x.squeeze())
        if y.shape != _meant_shape(case, meant):
            return False
        judge.output(meant, y.reshape(len(meant.x), *y.shape[len(_batch(case)) :]))
    except (Failure, ShapeError):
        return False
    return True


def _by_layer() -> Mapping[type[spec.Layer], list[str]]:
    """Return the rules that a static answer is asked by, for each layer."""
    found: dict[type[spec.Layer], list[str]] = {}
    for rule, (layer_types, _) in RULES.items():
        for layer_type in layer_types if rule not in SIZELESS else ():
            found.setdefault(layer_type, []).append(rule)
    return found


@by_layer_type(
    {layer_type: STATED.get(layer_type.__name__, []) for layer_type in _by_layer()},
    ["static-shape-agrees"],
)
def test_refused_statically(ask: Question, layer_type: type[spec.Layer]) -> None:
    """What is refused has no static shape either, or that of its general meaning.

    What a static answer makes of other channels and features is a trait: it need not have weights.
    """
    for rule in _by_layer()[layer_type]:
        some = list(RULES[rule][1](layer_type))[:: 3 if ask.profile.name == "quick" else 1]
        ask.sweep(some, partial(_stated, ask, rule))


def _stated(ask: Question, rule: str, case: Case) -> None:
    assert isinstance(case, Wrong)
    try:
        said = ask.static_shape([case.layer], case.shape)
    except Failure as failure:
        if failure.effect != "exception":
            raise
        value = "refused"
    else:
        value = "answered"
        if rule not in UNSEEN:
            _require_meant(case, said)
    if rule in UNSEEN:
        ask.trait(f"other {rule} in a static answer", value, type(case.layer).__name__, case.why)


def _require_meant(case: Wrong, said: spec.Shape) -> None:
    """Require that a static answer for what is refused is the shape of its general meaning."""
    meant = _meant(case)
    try:
        if meant and said == _meant_shape(case, meant):
            return
    except ShapeError:
        pass
    raise Failure(
        "not-refused",
        f"the static answer for {case.why} is {said}",
        expected="an exception, or the shape of what it means" if meant else "an exception",
        actual=str(said),
        arrays={"shape": np.array(case.shape)},
        layers=(case.layer,),
        call="output_shape",
    )


MIXED = (
    ("float32", "float64"),
    ("float64", "float32"),
    ("float16", "float32"),
    ("float32", "float16"),
    ("float64", "float16"),
    ("float16", "bfloat16"),
    ("bfloat16", "float16"),
    ("bfloat16", "float32"),
)


@law("mixed-dtypes")
def test_mixed_dtypes(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Weights of another dtype than the input's are refused or used rightly; which is a trait."""

    def question(case: Case) -> None:
        try:
            y = ask.run(case.layer, case.x, case.weights)
        except Failure as failure:
            if failure.effect != "exception":
                raise
            value = "refused"
        else:
            judge.within(y.astype(np.float64), _of_narrower(case), np.dtype(np.float64))
            value = f"gives {y.dtype}"
        mixture = f"{case.dtype} input with {case.weights['weight'].dtype} weights"
        ask.trait(f"{layer_type.__name__}: {mixture}", value, layer_type.__name__, str(case.layer))

    def _of_narrower(case: Case) -> bounds.Bound:
        """Return the exact sums of small integers, and what a fast convolution may be off."""
        value = forward(case.layer, case.x, case.weights).astype(np.float64)
        error = np.zeros(value.shape)
        if isinstance(case.layer, spec.Conv):
            formats = {a.dtype.name for a in (case.x, case.weights["weight"])}
            narrower = max(formats, key=lambda name: bounds.format_of(name).unit)
            x = case.x.astype(narrower)
            error = error + fast_algorithms.normwise(case.layer, x, case.weights)
        return bounds.Bound(value, error, np.ones(value.shape, np.bool_))

    usual = wrong("", ordinary(layer_type))
    ask.sweep(
        (
            given(
                usual.layer,
                usual.x.astype(dtype_named(one)),
                **{n: w.astype(dtype_named(two)) for n, w in usual.weights.items()},
            )
            for one, two in MIXED
        ),
        question,
    )


@law("without-batch")
def test_without_batch(ask: Question, layer_type: type[spec.Layer]) -> None:
    """An input without a batch is refused or taken as a single sample; which is a trait."""

    def question(case: Case) -> None:
        try:
            y = ask.run_any(case.layer, case.x, case.weights)
        except Failure as failure:
            if failure.effect != "exception":
                raise
            value = "refused"
        else:
            value = "answered"
            _one_sample(ask, case, y)
        where = f"{layer_type.__name__}, {case.x.ndim} axes"
        ask.trait("input without batch", value, where, f"{case.layer}, input {case.shape}")

    layers = [ordinary(layer_type, rank) for rank in RANKS]
    ones = {"window": (2, 1, 1), "stride": (1, 1, 1)}
    layers += [
        layer.replace(**{name: sizes[: layer.rank] for name, sizes in ones.items()})
        for layer in layers
        if isinstance(layer, spec.Windowed)
    ]
    asked = dict.fromkeys(layers)  # a layer without a rank is one
    ask.sweep((wrong("", layer, shape_for(layer)[1:]) for layer in asked), question)


def _one_sample(ask: Question, case: Case, y: Array) -> None:
    """Require what the layer gives for a single sample.

    The suite takes the first axis for the batch, and the next, in a backend that holds its channels
    first, for the channels: there a sample and its answer have their axes in another order.
    """
    x = case.x
    if ask.subject.info.layout == "channels_first":
        x = np.moveaxis(np.moveaxis(x, -1, 1) if x.ndim > 2 else x, 0, -1)
        y = np.moveaxis(np.moveaxis(y, -1, 1) if y.ndim > 2 else y, 0, -1)
    try:
        judge.output(given(case.layer, x[None], **case.weights), y[None])
    except (Failure, ShapeError) as error:
        raise Failure(
            "not-refused",
            f"took an input of {x.ndim} axes, and gave what is no single sample's: {error}",
            expected="an exception, or what a single sample gives",
            actual=f"an array of shape {y.shape}",
        ) from error
