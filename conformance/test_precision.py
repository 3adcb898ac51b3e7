"""Precision of half-precision sums, and sums that overflow although their result would not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case, given
from cnnformance.conformance.laws import answer, holds
from cnnformance.conformance.parametrize import HALVES, law
from cnnformance.conformance.question import Question
from cnnformance.conformance.small_layers import one_window
from cnnformance.reference import bounds, fast_algorithms, forward
from cnnformance.spec import layers as spec


def _large_maps(layer_type: type[spec.Layer]) -> Iterator[tuple[spec.Layer, spec.Shape]]:
    squares = [(side, side) for side in (16, 32, 64, 256)]  # the last more than float16 counts
    for spatial in (*squares, (1024,), (8, 16, 8)):
        yield one_window(layer_type, spatial), (1, *spatial, 2)


@law("half-accumulation")
def test_half_accumulation(ask: Question, layer_type: type[spec.Layer]) -> None:
    """The mean of many equal halves is that value, as far as pairwise sums in halves keep it."""

    def question(case: Case) -> None:
        few = math.prod(case.shape[1:-1]) <= 4096
        for value in (1.0, 0.1, 100.0) if few else (1.0, 100.0):  # 0.1 / 65536 is subnormal
            x = np.full(case.shape, value).astype(dtype_named(case.dtype))
            y = ask.run(case.layer, x)
            analysis = bounds.Analysis(case.layer, x, {})
            allowed = analysis.by_accumulator()["pairwise half"]
            try:
                judge.within(y, allowed, x.dtype)
            except judge.Failure as failure:
                failure.message = f"the mean of equal values {value}: {failure.message}"
                failure.reason = "mean-of-equal-values"
                failure.arrays, failure.layers = {"x": x}, (case.layer,)
                raise
            grade = judge.graded(analysis, y)
            ask.note(judge.Evidence(0.0, grade, judge.sharpness(allowed)))

    for dtype in HALVES:
        maps = [Case(layer, shape, dtype) for layer, shape in _large_maps(layer_type)]
        ask.sweep(maps, question)


@law("sum-overflow-trait")
def test_overflow_of_sums(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Whether a result in range survives a sum out of range is a trait; halves must survive."""

    def question(case: Case) -> None:
        share = 2 if case.layer.linear else 4  # a norm squares
        largest = bounds.format_of(case.dtype).largest
        x = np.full(case.shape, largest / share).astype(dtype_named(case.dtype))
        y = ask.run(case.layer, x)
        got = y.astype(np.float64)
        expected = forward(case.layer, x, {})
        finite = bool(np.isfinite(got).all())
        value = "the result survives" if finite else "the sum overflows"
        name = f"overflow inside {layer_type.__name__} of {case.dtype}"
        ask.trait(name, value, case.dtype, str(x.ravel()[0]))
        allowed = bounds.bound(case.layer, x, {}).error + fast_algorithms.normwise(
            case.layer, x, {}
        )
        with np.errstate(over="ignore", invalid="ignore"):
            off = (np.abs(got - expected) > allowed).any()
        narrow = case.dtype == "float16" and case.layer.linear
        wrong = off if finite else narrow or bool(np.isnan(got).any())
        if wrong:
            shown = judge.text(y.ravel()[0]), judge.text(expected.ravel()[0])
            raise judge.Failure(
                "value" if finite else "not-finite",
                f"got {shown[0]}, should be {shown[1]}",
                arrays={"x": x},
                layers=(case.layer,),
                actual=shown[0],
                expected=shown[1],
            )

    for spatial in ((2, 2), (4,), (1, 2, 2)):
        layer, shape = one_window(layer_type, spatial), (1, *spatial, 1)
        ask.sweep([Case(layer, shape, name) for name in ("float32", "float64", *HALVES)], question)


def _large_by_small(ask: Question, case: Case) -> None:
    """Require nine products of 2**13 and 2**-10: fast kernels add inputs before they multiply."""
    found = answer(ask, case.layer, case.x, case.weights)
    holds("nine products of 8 in float16", np.full(found.y.shape, 72.0), found)


def _in_range(ask: Question, case: Case) -> None:
    """Require 40000 + 40000 - 40000, and of 40000 three times infinity or the largest number."""
    for x, expected in ((case.x, "40000.0"), (np.abs(case.x), "inf")):
        got = ask.run(case.layer, x, case.weights).ravel()[0]
        largest = bounds.format_of("float16").largest
        right = float(got) == 4e4 if expected == "40000.0" else float(got) >= largest
        if not right:
            raise judge.Failure(
                "not-finite",
                f"{' + '.join(map(judge.text, x.ravel()))} in float16 gives {got}",
                arrays={"x": x, **case.weights},
                layers=(case.layer,),
                expected=expected,
                actual=judge.text(got),
            )


@pytest.mark.clauses("dense.bound")
@pytest.mark.parametrize(
    "layer_type", [spec.Dense, spec.Conv], ids=lambda layer_type: str(layer_type.__name__)
)
def test_half_sums_in_range(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A sum of halves whose result is in range survives a partial sum that is not.

    One of positive values that is out of range is infinite, or the largest number.
    """
    dtype = dtype_named("float16")

    def three(layer: spec.Layer, shape: spec.Shape) -> Case:
        x = np.array([4e4, 4e4, -4e4], dtype).reshape(shape)
        ones = {n: np.ones(size, dtype) for n, size in spec.weight_shapes(layer).items()}
        return given(layer, x, **ones)  # without a bias: it may be added after a rounding

    if issubclass(layer_type, spec.Dense):
        ask.sweep([three(layer_type(3, 1, bias=False), (1, 3))], partial(_in_range, ask))
        return
    rows = ((3,), (3, 1), (1, 3), (1, 3, 1), (1, 1, 3))
    layers = [(layer_type(window=row, bias=False), (1, *row, 1)) for row in rows]  # type: ignore[call-arg] # conv
    ask.sweep([three(*each) for each in layers], partial(_in_range, ask))
    square = layer_type(window=(3, 3), bias=False)  # type: ignore[call-arg] # conv
    large, small = np.full((1, 6, 6, 1), 2.0**13, dtype), np.full((3, 3, 1, 1), 2.0**-10, dtype)
    ask.sweep([given(square, large, weight=small)], partial(_large_by_small, ask))
