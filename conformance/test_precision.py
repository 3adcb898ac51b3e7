"""Precision of half-precision sums, and sums that overflow although their result would not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import judge
from cnnformance.conformance.asking import Ask
from cnnformance.conformance.cases import Case
from cnnformance.conformance.kinds import HALVES, law, one_window
from cnnformance.conformance.laws import answer, holds
from cnnformance.reference import bounds, forward
from cnnformance.spec import layers as spec


def _large_maps(kind: type[spec.Layer]) -> Iterator[tuple[spec.Layer, spec.Shape]]:
    for side in (16, 32, 64, 256):  # the last has more cells than float16 can count
        yield one_window(kind, (side, side)), (1, side, side, 2)


@law("half-accumulation")
def test_half_accumulation(ask: Ask, kind: type[spec.Layer]) -> None:
    """The mean of many equal halves is that value, as far as pairwise sums in halves keep it."""

    def question(case: Case) -> None:
        few = case.shape[1] < 256
        for value in (1.0, 0.1, 100.0) if few else (1.0, 100.0):  # 0.1 / 65536 is subnormal
            x = np.full(case.shape, value).astype(dtype_named(case.dtype))
            y = ask.run(case.layer, x)
            analysis = bounds.Analysis(case.layer, x, {})
            allowed = analysis.by_accumulator()["pairwise half"]
            try:
                judge.within(y, allowed, x.dtype)
            except judge.Failure as failure:
                failure.message = f"the mean of equal values {value}: {failure.message}"
                failure.arrays, failure.layers = {"x": x}, (case.layer,)
                raise
            grade = judge.graded(analysis, y)
            ask.note(judge.Evidence(0.0, grade, judge.sharpness(allowed)))

    for dtype in HALVES:
        maps = [Case(layer, shape, dtype) for layer, shape in _large_maps(kind)]
        ask.sweep(maps, question)


@law("sum-overflow-trait")
def test_overflow_of_sums(ask: Ask, kind: type[spec.Layer]) -> None:
    """Whether a result in range survives a sum out of range is a trait; halves must survive."""
    for dtype in ("float32", "float64", *HALVES):
        layer = one_window(kind, (2, 2))
        largest = bounds.format_of(dtype).largest
        x = np.full((1, 2, 2, 1), largest / 4).astype(dtype_named(dtype))
        if not isinstance(layer, spec.LpPool):
            x = np.full((1, 2, 2, 1), largest / 2).astype(dtype_named(dtype))
        case = Case(layer, x.shape, dtype)

        def question(case: Case, x: Array = x) -> None:
            y = ask.run(case.layer, x)
            got = y.astype(np.float64)
            expected = forward(case.layer, x, {})
            finite = bool(np.isfinite(got).all())
            value = "the result survives" if finite else "the sum overflows"
            name = f"overflow inside {kind.__name__} of {case.dtype}"
            ask.trait(name, value, case.dtype, str(x.ravel()[0]))
            unit = 64 * bounds.format_of(case.dtype).unit
            with np.errstate(over="ignore", invalid="ignore"):
                off = (np.abs(got - expected) > np.abs(expected) * unit).any()
            narrow = case.dtype == "float16" and not isinstance(case.layer, spec.LpPool)
            wrong = off if finite else narrow or bool(np.isnan(got).any())
            if wrong:
                shown = judge.text(y.ravel()[0]), judge.text(expected.ravel()[0])
                raise judge.Failure(
                    "value" if finite else "special",
                    f"got {shown[0]}, should be {shown[1]}",
                    arrays={"x": x},
                    layers=(case.layer,),
                    actual=shown[0],
                    expected=shown[1],
                )

        ask.sweep([case], question)


def _large_by_small(ask: Ask, layer: spec.Layer) -> None:
    """Require nine products of 2**13 and 2**-10: fast kernels add inputs before they multiply."""
    dtype = dtype_named("float16")
    x = np.full((1, 6, 6, 1), 2.0**13, dtype)
    weights = {"weight": np.full((3, 3, 1, 1), 2.0**-10, dtype), "bias": np.zeros(1, dtype)}
    found = answer(ask, layer, x, weights)
    ask.examples += 1
    holds("nine products of 8 in float16", np.full(found.y.shape, 72.0), found)


@pytest.mark.clauses("dense.bound")
@pytest.mark.parametrize("kind", [spec.Dense, spec.Conv], ids=lambda kind: str(kind.__name__))
def test_half_sums_in_range(ask: Ask, kind: type[spec.Layer]) -> None:
    """A sum of halves whose result is in range survives a partial sum that is not.

    One of positive values that is out of range is infinite, or the largest number.
    """
    dtype = dtype_named("float16")
    row = np.array([4e4, 4e4, -4e4], dtype)  # and no bias: it may be added after a rounding
    if issubclass(kind, spec.Dense):
        layer: spec.Layer = kind(3, 1)
        x, weight = row[None], np.ones((1, 3), dtype)
    else:
        layer = kind(window=(3,), in_channels=1, out_channels=1)  # type: ignore[call-arg] # conv
        x, weight = row[None, :, None], np.ones((3, 1, 1), dtype)
    weights = {"weight": weight, "bias": np.zeros(1, dtype)}
    if issubclass(kind, spec.Conv):
        _large_by_small(ask, kind(window=(3, 3), in_channels=1, out_channels=1))
    got = ask.run(layer, x, weights).ravel()[0]
    ask.examples += 1
    if float(got) != 4e4:
        raise judge.Failure(
            "special",
            f"40000 + 40000 - 40000 in float16 gives {got}",
            arrays={"x": x, **weights},
            layers=(layer,),
            expected="40000.0",
            actual=judge.text(got),
        )
    got = ask.run(layer, np.abs(x), weights).ravel()[0]
    ask.examples += 1
    if not float(got) >= bounds.format_of("float16").largest:
        raise judge.Failure(
            "special",
            f"40000 + 40000 + 40000 in float16 gives {got}",
            arrays={"x": np.abs(x), **weights},
            layers=(layer,),
            expected="inf",
            actual=judge.text(got),
        )
