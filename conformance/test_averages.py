"""Averages and norms: between the extremes, linear or homogeneous, every cell alike."""

from __future__ import annotations

from functools import partial

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_varied import counting_padding, padded, unit_cells, windowed
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.laws import alike, answer, few, holds, require
from cnnformance.conformance.parametrize import by_layer_type, by_layer_type_and_dtype, law, laws
from cnnformance.conformance.question import Question
from cnnformance.conformance.regimes import is_integer
from cnnformance.conformance.small_layers import one_window
from cnnformance.conformance.strategies import cases
from cnnformance.reference import windows
from cnnformance.reference.bounds import format_of
from cnnformance.spec import layers as spec


@law("between-min-and-max")
def test_between_min_and_max(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Each output lies between the extremes of its window, except for rounding."""

    def question(case: Case) -> None:
        said = answer(ask, case.layer, case.x)
        x, y = case.x.astype(np.float64), said.y.astype(np.float64)
        low, high = (windows(windowed(case), x, fill)[0] for fill in (np.inf, -np.inf))
        low, high = low.min(axis=-2) - said.error, high.max(axis=-2) + said.error
        require("not between the extremes of its window", (low <= y) & (y <= high), said)

    few(ask, cases(layer_type), question)


@law("every-cell-contributes")
def test_every_cell_contributes(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A one in any cell adds the same share to the mean of every window with that cell."""

    def question(case: Case) -> None:
        x = unit_cells(case.shape[1:-1])
        cells, _ = windows(windowed(case), x, 0)
        said = answer(ask, case.layer, x)
        holds("a cell does not count as one of its window", cells.mean(axis=-2), said)
        require("a cell does not count", (said.y > 0) == cells.any(axis=-2), said)

    few(ask, cases(layer_type, regimes=("integer",)), question)


@law("at-most-max")
def test_at_most_max(ask: Question, layer_type: type[spec.AveragePool]) -> None:
    """No mean exceeds the maximum of its window, as the subject itself finds it."""

    def question(case: Case) -> None:
        fields = {name: getattr(case.layer, name) for name in ("window", "stride")}
        most = answer(ask, spec.MaxPool(**fields), case.x)
        mean = answer(ask, case.layer, case.x)
        require("above the maximum of its window", mean.y <= most.y + mean.error, mean)

    few(ask, cases(layer_type), question)


@law("linear")
def test_linear(ask: Question, layer_type: type[spec.Layer]) -> None:
    """The output of a x + b y is a times the output of x plus b times that of y."""

    def question(case: Case) -> None:
        layer, x, y = case.layer, case.x, case.with_(seed=case.seed + 1).x
        weights = {name: w for name, w in case.weights.items() if name != "bias"}
        first, second = (answer(ask, layer, each, weights) for each in (x, y))
        for a, b in ((1, 1), (2, -3)):
            mixed = (a * x + b * y).astype(x.dtype)  # exact: small integers
            both = first.times(a).plus(second.times(b))
            alike(f"not {a} f(x) + {b} f(y)", both, answer(ask, layer, mixed, weights))

    few(ask, cases(layer_type, regimes=("integer",)).map(_without_bias), question)


def _without_bias(case: Case) -> Case:
    if not isinstance(case.layer, spec.Conv):
        return case
    return case.with_(layer=case.layer.replace(bias=False), weight_regime="integer")


@by_layer_type({spec.MaxPool: ["pool.max.not-additive"]})
def test_max_is_not_linear(ask: Question, layer_type: type[spec.MaxPool]) -> None:
    """A window of two different values is a witness: f(x) + f(-x) > 0 = f(x - x)."""

    def question(case: Case) -> None:
        layer, x = case.layer, case.x
        parts = answer(ask, layer, x).plus(answer(ask, layer, -x))
        cells, _ = windows(windowed(case), x, 0)
        differ = cells.max(axis=-2) > cells.min(axis=-2)
        zero = answer(ask, layer, x - x)
        require("as if it were linear", (parts.y > zero.y) | ~differ, parts)

    few(ask, cases(layer_type, regimes=("integer",)), question)


@law("counted-padding-is-zeros")
def test_counted_padding_is_zeros(ask: Question, layer_type: type[spec.Pool]) -> None:
    """Counted padding, and any padding of a norm, equals explicit zeros around the input."""

    def question(case: Case) -> None:
        explicit = answer(ask, *padded(windowed(case), case.x, 0))
        alike("not as explicit zeros", explicit, answer(ask, case.layer, case.x))

    few(ask, cases(layer_type, plain=False).map(_counted), question, 3)


def _counted(case: Case) -> Case:
    layer = windowed(counting_padding(case, counts=True))
    return case.with_(layer=layer.replace(ceil_mode=False))


def constants(dtype: str) -> Array:
    """Return the values that windows of equal values are filled with."""
    if is_integer(dtype):
        info = np.iinfo(dtype)
        return np.array([0, 1, info.min, info.max], dtype)
    form = format_of(dtype)
    ends = (form.largest, -form.largest, form.tiny, -form.tiny)
    return np.array([0.1, -1, -0.0, np.inf, -np.inf, *ends]).astype(dtype_named(dtype))


@by_layer_type_and_dtype({spec.TYPES[name]: ids for name, ids in laws("constant-window").items()})
def test_constant_window(ask: Question, layer_type: type[spec.Layer], dtype: str) -> None:
    """A window of equal values pools to that value, unless their sum overflows."""

    def question(case: Case) -> None:
        values = constants(dtype)  # one a sample
        sample = np.ones(case.shape[1:], values.dtype)
        said = answer(ask, case.layer, np.multiply.outer(values, sample))
        pooled = np.ones(said.y.shape[1:], values.dtype)
        holds("windows of equal values", np.multiply.outer(values, pooled), said)

    few(ask, cases(layer_type, dtype, regimes=("integer",)), question, 12)
    if issubclass(layer_type, spec.Pool):  # padding is none of the values
        drawn = cases(layer_type, dtype, plain=False, regimes=("integer",)).map(
            partial(counting_padding, counts=False)
        )
        ask.explore(drawn, question, max(2, ask.profile.examples // 12))


@law("mean-of-many-trait")
def test_mean_of_many(ask: Question, layer_type: type[spec.Layer]) -> None:
    """The mean of ones is 1, or of more ones than float32 can count what a stuck sum leaves.

    A sum one by one in float32 stops to grow at 2**24. That is a trait, and no failure. The profile
    ``thorough`` asks it, of a map that takes 100 MB.
    """

    def question(case: Case) -> None:
        x = np.broadcast_to(np.ones((), np.float32), case.shape)
        y = ask.run(case.layer, x, memory="broadcast").astype(np.float64)
        many = x.size > 2 ** format_of("float32").bits
        if not ((y > 0) & (y <= 1) if many else y == 1).all():
            expected = "above 0, and up to 1" if many else "1.0"
            message = f"the mean of {x.size} ones is {y.ravel()[0]}, should be {expected}"
            raise Failure("value", message, arrays={"x": x[:, :1]}, expected=expected)
        if many:
            value = "is the value" if (y == 1).all() else "stops growing"
            name = f"mean of more than 2**24 ones in {layer_type.__name__}"
            ask.trait(name, value, str(case.layer), f"{y.ravel()[0]}")

    sizes = ((64, 32), (4096, 6144)) if ask.profile.name == "thorough" else ((64, 32),)
    ask.sweep(
        [Case(one_window(layer_type, spatial), (1, *spatial, 1)) for spatial in sizes], question
    )


@law("absolutely-homogeneous")
def test_absolutely_homogeneous(ask: Question, layer_type: type[spec.LpPool]) -> None:
    """The norm of a times x is the absolute value of a times the norm of x."""

    def question(case: Case) -> None:
        norm = answer(ask, case.layer, case.x)
        for a in (-1.0, 0.5, 4.0):  # exact
            said = answer(ask, case.layer, case.x * case.x.dtype.type(a))
            alike(f"not {abs(a)} times as large for {a} x", norm.times(abs(a)), said)

    few(ask, cases(layer_type, regimes=("integer", "normal", "negative")), question)
