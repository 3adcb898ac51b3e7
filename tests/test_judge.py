"""The judge: what it accepts and by which grade, and what it calls wrong, and how."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case, given
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.test_declined import answered
from cnnformance.reference import bounds, forward, gradients
from cnnformance.spec import layers as spec

DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}


def drawn(shape: spec.Shape, dtype: Any, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def dense(terms: int, dtype: Any, rows: int = 4) -> tuple[spec.Dense, Any, dict[str, Any]]:
    """Return a layer whose terms are all positive: its sums are as large as their sizes."""
    layer = spec.Dense(terms, 3, bias=False)
    return layer, np.abs(drawn((rows, terms), dtype)), {"weight": np.abs(drawn((3, terms), dtype))}


def one_by_one(x: Any, weight: Any, dtype: Any) -> Any:
    total = np.zeros((len(x), len(weight)), dtype)
    for a, b in zip(x.T, weight.T, strict=True):
        total = total + np.multiply.outer(a, b).astype(dtype)
    return total


def rounded_to(array: Any, bits: int) -> Any:
    mantissa, exponent = np.frexp(array)
    return np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits).astype(array.dtype)


def failure_of(layer: spec.Layer, x: Any, weights: Any, actual: Any) -> judge.Failure:
    with pytest.raises(judge.Failure) as caught:
        judge.met(layer, x, weights, actual)
    return caught.value


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("terms", [8, 300, 2100])
def test_zeros_are_no_sum_in_any_dtype_at_any_size(dtype: Any, terms: int) -> None:
    layer, x, held = dense(terms, dtype)
    failure = failure_of(layer, x, held, np.zeros((4, 3), dtype))

    assert failure.effect in {"value", "precision"}


@pytest.mark.parametrize(("name", "terms", "most"), [("bfloat16", 300, 57), ("float16", 2100, 457)])
def test_a_half_that_adds_one_by_one_is_told_of_its_limit(name: str, terms: int, most: int) -> None:
    layer, x, held = dense(terms, DTYPES[name])
    failure = failure_of(layer, x, held, one_by_one(x, held["weight"], DTYPES[name]))

    assert failure.effect == "precision"
    assert failure.message.startswith(
        f"sums of more than {most} terms are not guaranteed in {name}"
    )


def test_a_half_may_add_few_terms_one_by_one() -> None:
    layer, held = spec.Dense(51, 1), {"weight": np.ones((1, 51)), "bias": np.zeros(1)}
    held = {name: array.astype(ml_dtypes.bfloat16) for name, array in held.items()}
    x = np.array([[1.0] + [0.0019] * 50]).astype(ml_dtypes.bfloat16)  # each of these gets lost
    evidence, _ = judge.met(layer, x, held, one_by_one(x, held["weight"], ml_dtypes.bfloat16))

    assert evidence.grade == "half"


def test_a_half_that_adds_in_pairs_is_graded_so() -> None:
    layer, x, held = dense(1024, ml_dtypes.bfloat16, rows=40)
    terms = x[:, None, :] * held["weight"]
    while terms.shape[-1] > 1:
        terms = terms[..., ::2] + terms[..., 1::2]
    evidence, _ = judge.met(layer, x, held, terms[..., 0])

    assert evidence.grade == "pairwise half"


def test_float32_is_the_best_grade_of_a_half() -> None:
    layer, x, held = dense(1024, np.float16)
    evidence, _ = judge.met(layer, x, held, forward(layer, x, held).astype(np.float16))

    assert evidence.grade == "float32"


@pytest.mark.parametrize(("bits", "told"), [(8, 8), (10, 8), (11, 11), (14, 11)])
def test_short_factors_show_in_single_products(bits: int, told: int) -> None:
    """And are told as the longest of ``SHORT_FACTORS`` that explain the result."""
    layer = spec.Conv((3, 3), padding="same", in_channels=16, out_channels=8, bias=False)
    case = Case(layer, (2, 7, 8, 16), regimes=("onehot",), weight_regime="sparse")
    short = {"weight": rounded_to(case.weights["weight"], bits)}
    actual = forward(layer, rounded_to(case.x, bits), short).astype(np.float32)
    failure = failure_of(layer, case.x, case.weights, actual)

    assert failure.effect == "precision"
    assert failure.message.startswith(f"as with factors of {told} bits")


def test_a_float64_layer_in_float32_is_told_as_such() -> None:
    layer, x, held = dense(50, np.float64)
    single = {"weight": held["weight"].astype(np.float32)}
    actual = forward(layer, x.astype(np.float32), single)

    assert failure_of(layer, x, held, actual).message.startswith("as with factors of 24 bits")


def test_a_fault_is_no_matter_of_precision() -> None:
    layer, x, held = dense(20, np.float32)
    failure = failure_of(layer, x, held, (forward(layer, x, held) * 1.05).astype(np.float32))

    assert failure.effect == "value"


def test_a_running_mean_is_a_grade() -> None:
    layer, x = spec.GlobalAveragePool(1), drawn((200, 37, 1), np.float32) + np.float32(4)
    mean = x[:, 0]
    for number in range(1, 37):
        mean = mean + (x[:, number] - mean) / np.float32(number + 1)
    evidence, allowed = judge.met(layer, x, {}, mean)

    assert evidence.grade in {"", "running"}
    assert judge.within(mean, allowed, x.dtype) <= 1


def test_whole_numbers_have_no_allowance() -> None:
    layer = spec.Dense(100, 1, bias=False)
    x, held = np.ones((1, 100), np.float32), {"weight": np.full((1, 100), 3, np.float32)}
    off_by_a_unit = np.nextafter(np.full((1, 1), 300, np.float32), np.float32(400))

    assert judge.met(layer, x, held, np.full((1, 1), 300, np.float32))[0].share == 0
    assert failure_of(layer, x, held, off_by_a_unit).effect in {"value", "precision"}


def test_the_sharpness_is_the_smallest_allowance_by_its_answer() -> None:
    value, error = np.array([2.0, 4.0, 0.0, np.inf, 1.0]), np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    judged = np.array([True, True, True, True, False])

    assert judge.sharpness(bounds.Bound(value, error, judged)) == 0.25
    assert judge.sharpness(bounds.Bound(value, error, np.zeros(5, bool))) == math.inf


def test_a_gradient_of_zeros_is_wrong_in_every_dtype() -> None:
    for dtype in DTYPES.values():
        layer = spec.LpPool((2, 2))
        x, upstream = drawn((2, 4, 4, 1), dtype), drawn((2, 2, 2, 1), dtype, 1)
        right = {"input": gradients(layer, x, {}, upstream)["input"].astype(dtype)}
        wrong = {"input": np.zeros_like(x)}

        assert list(judge.gradients(layer, x, {}, upstream, right))
        with pytest.raises(judge.Failure, match="the gradient for input"):
            list(judge.gradients(layer, x, {}, upstream, wrong))


def test_equality_holds_for_nan_and_lets_subnormals_vanish() -> None:
    expected = np.array([np.nan, 1e-40, -0.0, 2.0], np.float32)

    judge.equal(np.array([np.nan, 0, 0.0, 2.0], np.float32), expected)
    for place, wrong in enumerate((1.0, 1.0, np.nan, 2.0000002)):
        actual = expected.copy()
        actual[place] = wrong
        with pytest.raises(judge.Failure) as caught:
            judge.equal(actual, expected)
        assert caught.value.index == (place,)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 1.5])
@pytest.mark.parametrize("error", [0.0, 0.25])
def test_no_number_is_no_whole_number(wrong: float, error: float) -> None:
    """Without an allowance, too: whole numbers have none."""
    one = np.ones(1)
    allowed = bounds.Bound(one, np.full(1, error), np.ones(1, np.bool_))
    assert judge.within(one, allowed, one.dtype) == 0
    with pytest.raises(judge.Failure):
        judge.within(np.full(1, wrong), allowed, one.dtype)


def test_within_tells_the_worst_of_what_is_judged() -> None:
    allowed = bounds.Bound(
        np.array([1.0, 2.0, np.inf]), np.array([0.5, 0.5, 0.0]), np.array([True, True, True])
    )
    assert judge.within(np.array([1.25, 2.0, np.inf]), allowed, np.dtype(np.float64)) == 0.5
    for wrong in ([1.6, 2.0, np.inf], [1.0, np.nan, np.inf], [1.0, 2.0, 1e300]):
        with pytest.raises(judge.Failure):
            judge.within(np.array(wrong), allowed, np.dtype(np.float64))
    unjudged = dataclasses.replace(allowed, judged=np.array([False, True, True]))
    assert judge.within(np.array([9.0, 2.0, np.inf]), unjudged, np.dtype(np.float64)) == 0


@pytest.mark.parametrize(
    ("actual", "effect"),
    [
        (np.zeros((2, 3), np.float32), "shape"),
        (np.zeros((2, 2), np.float64), "dtype"),
    ],
)
def test_another_form_is_told_first(actual: Any, effect: str) -> None:
    layer, x = spec.Dense(1, 2, bias=False), np.zeros((2, 1), np.float32)

    assert failure_of(layer, x, {"weight": np.zeros((2, 1), np.float32)}, actual).effect == effect


def test_an_answer_past_the_range_of_a_declined_dtype_is_wrong_and_no_warning() -> None:
    case = given(spec.ReLU(), np.ones((1, 2), np.float16))
    with pytest.raises(Failure):
        answered(case, np.full((1, 2), 1e30, np.float32))
    assert answered(case, np.ones((1, 2), np.float32)) == "answered, as float32"
