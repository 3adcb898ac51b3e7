"""What an adapter declines by dtype is put to its framework all the same.

The framework refuses, or answers rightly. What it makes of integer means and norms is a trait.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import cases_by_option, judge
from cnnformance.conformance.cases import Case, given
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.parametrize import FLOATS, INTEGERS, law
from cnnformance.conformance.question import Question
from cnnformance.reference import forward
from cnnformance.spec import layers as spec

_ROUNDED: Mapping[str, Callable[[Array], Array]] = {
    "truncated": np.trunc,
    "floored": np.floor,
    "rounded up": np.ceil,
    "rounded to even": np.rint,
    "rounded": lambda value: np.trunc(value + np.copysign(0.5, value)),
}


def fractional(layer: spec.Layer) -> bool:
    """Whether the results on integers need not be integers: those of means and norms."""
    return layer.averages or not (layer.exact or layer.linear)


def _few(layer_type: type[spec.Layer]) -> Iterator[Case]:
    """Yield one plain layer of each rank that the layer type has."""
    for _, cases in itertools.groupby(
        cases_by_option.plain(layer_type), lambda case: len(case.shape)
    ):
        yield next(cases)


def _whole(rng: np.random.Generator, shape: spec.Shape, dtype: str, most: int) -> Array:
    """Return small whole numbers; of an unsigned dtype none is negative."""
    low = 0 if dtype == "bool" or dtype.startswith("u") else -most
    values = rng.integers(low, most, shape, endpoint=True)
    return values.astype(dtype_named(dtype))


def _case(plain: Case, dtype: str) -> Case:
    """Return the layer on values that the dtype holds, and sums of them too.

    The second sample of a mean is an exception: it is one large number, whose sum an accumulator of
    its own dtype does not hold. The sums of int64, which has no wider one, are small.
    """
    if dtype in FLOATS:
        regimes = ("positive",) if plain.layer.draws else plain.regimes
        return plain.with_(dtype=dtype, regimes=regimes)
    if plain.layer.exact and dtype != "bool":
        return plain.with_(dtype=dtype)
    rng = np.random.default_rng(1)
    most = 1 if dtype == "bool" or plain.layer.has_weights else 3
    x = _whole(rng, plain.shape, dtype, most)
    if plain.layer.averages and dtype not in ("bool", "int64"):
        x[1] = np.iinfo(dtype).max // 4 * 3
    weights = {n: _whole(rng, w, dtype, 1) for n, w in spec.weight_shapes(plain.layer).items()}
    return given(plain.layer, x, **weights)


def _exact(case: Case) -> Array:
    """Return what the layer gives in exact arithmetic, in float64; a selection's own dtype."""
    selects = case.layer.exact
    wide = np.int8 if selects and case.dtype == "bool" else None if selects else np.float64
    arrays = {n: a.astype(wide or a.dtype) for n, a in {"x": case.x, **case.weights}.items()}
    return np.asarray(forward(case.layer, arrays.pop("x"), arrays))


def answered(case: Case, y: Array) -> str:
    """Judge an answer in a declined dtype, and name it. Raises ``Failure``: it is wrong."""
    judge.real(y)
    exact = _exact(case)
    judge.same_shape(y.shape, exact.shape)
    promoted = "" if y.dtype == case.x.dtype else f", as {y.dtype.name}"
    if case.dtype in FLOATS:
        with np.errstate(over="ignore", invalid="ignore"):  # a wrong answer may be past the dtype
            own = y.astype(case.x.dtype)
        judge.output(case, own)
        return f"answered{promoted}"
    if y.dtype.name in FLOATS and not case.layer.exact:
        arrays = {n: w.astype(y.dtype) for n, w in case.weights.items()}
        judge.output(given(case.layer, case.x.astype(y.dtype), **arrays), y)
        return f"answered{promoted}"
    got, value = y.astype(np.float64), exact.astype(np.float64)
    if fractional(case.layer):
        near = np.abs(got - value) < 1
        rules = [name for name, rounded in _ROUNDED.items() if (got == rounded(value)).all()]
        said = rules[0] if rules else "rounded in more than one way"
    else:
        near, said = got == value, "answered"
        if case.dtype == y.dtype.name == "bool":  # the sum is a disjunction
            near = got == np.minimum(value, 1)
    if not near.all():
        index = tuple(int(i) for i in np.argwhere(~near)[0])
        shown = judge.text(exact[index]), judge.text(y[index])
        many = f"{int((~near).sum())} of {near.size} elements are wrong"
        said = f"at {index}: {shown[1]}, should be {shown[0]}; {many}"
        raise Failure("value", said, index=index, expected=shown[0], actual=shown[1])
    return f"{said}{promoted}"


def _forced(ask: Question, case: Case) -> str:
    """Return what the framework does with a case that its adapter declines; empty: not its own.

    Raises:
        Failure: it answers wrongly, crashes or hangs.
        Unsupported: the adapter has no such layer to put to it.
    """
    call = lambda: ask.subject.run([case.layer], [case.weights], case.x, force=True)  # noqa: E731 - a thunk
    try:
        result = ask.asked(call)
    except Failure as failure:
        if failure.effect in ("exception", "adapter"):
            return "refused"
        raise
    if result.composed:
        return ""
    try:
        return answered(case, result.y)
    except Failure as failure:
        failure.message = f"{case.dtype} is declined, and answered: {failure.message}"
        failure.reason = "declined-dtype-answered"
        raise


@law("declined-dtypes")
def test_declined_dtypes(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A dtype that the adapter declines is refused by the framework, or answered rightly.

    A composition of the adapter's own makes no claim there: it is not judged.
    """

    def question(case: Case) -> None:
        if ask.asked(lambda: ask.subject.supports(case.layer, case.dtype)):
            with contextlib.suppress(Failure):  # other questions judge it
                ask.run_any(case.layer, case.x, case.weights)
            return
        value = _forced(ask, case)
        means = case.layer.averages and case.dtype in INTEGERS
        if value and (value != "refused" or means):
            name = f"mean of {case.dtype}" if means else f"{case.dtype}, declined,"
            where = f"{len(case.shape)} axes"
            ask.trait(f"{name} in {layer_type.__name__}", value, where, str(case.layer))

    few = list(_few(layer_type))
    for number, dtype in enumerate((*FLOATS, *INTEGERS, "bool")):
        asked = few[number % len(few) :][:1] if ask.profile.name == "quick" else few
        ask.sweep((_case(case, dtype) for case in asked), question)
