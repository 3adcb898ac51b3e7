"""Precision of half-precision sums, and sums that overflow although their result would not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import judge
from cnnformance.conformance.asking import Ask
from cnnformance.conformance.cases import Case
from cnnformance.conformance.kinds import HALVES, law
from cnnformance.reference import bounds
from cnnformance.spec import layers as spec


def _large_maps(kind: type[spec.Layer]) -> Iterator[tuple[spec.Layer, spec.Shape]]:
    for side in (16, 32, 64):
        if issubclass(kind, spec.Global):
            yield kind(rank=2), (1, side, side, 2)
        elif issubclass(kind, spec.Adaptive):
            yield kind(output=(1, 1)), (1, side, side, 2)
        elif issubclass(kind, spec.Windowed):
            yield kind(window=(side, side)), (1, side, side, 2)


@law("half-accumulation")
def test_half_accumulation(ask: Ask, kind: type[spec.Layer]) -> None:
    """The mean of many equal halves is that value, as pairwise summation in halves would have it."""

    def question(case: Case) -> None:
        for value in (1.0, 0.1, 100.0):
            x = np.full(case.shape, value).astype(dtype_named(case.dtype))
            y = ask.run(case.layer, x)
            accumulator, factors = judge.accumulators(case.layer, x)["pairwise half"]
            pairwise = bounds.bound(case.layer, x, {}, accumulator, factors)
            wide = bounds.bound(case.layer, x, {}, "float32")
            allowed = bounds.Bound(
                wide.value, np.maximum(pairwise.error, wide.error), wide.judged
            )
            try:
                judge.within(y, allowed, x.dtype)
            except judge.Failure as failure:
                failure.message = f"the mean of equal values {value}: {failure.message}"
                failure.arrays, failure.layers = {"x": x}, (case.layer,)
                raise
            wide_enough = judge.graded(case.layer, x, {}, y)
            ask.note(judge.Evidence(0.0, wide_enough))

    for dtype in HALVES:
        maps = [Case(layer, shape, dtype) for layer, shape in _large_maps(kind)]
        ask.sweep(maps, question)


@law("sum-overflow-trait")
def test_overflow_of_sums(ask: Ask, kind: type[spec.Layer]) -> None:
    """Whether a result in range survives a sum out of range is a trait; halves must survive."""
    for dtype in ("float32", "float64", *HALVES):
        layer: spec.Layer
        match kind.__name__:
            case "GlobalAveragePool":
                layer = kind(rank=2)
            case "AdaptiveAveragePool":
                layer = kind(output=(1, 1))
            case _:
                layer = kind(window=(2, 2))
        largest = bounds.format_of(dtype).largest
        x = np.full((1, 2, 2, 1), largest / 4).astype(dtype_named(dtype))
        if not isinstance(layer, spec.LpPool):
            x = np.full((1, 2, 2, 1), largest / 2).astype(dtype_named(dtype))
        case = Case(layer, x.shape, dtype)

        def question(case: Case, x: np.ndarray[object, np.dtype[object]] = x) -> None:
            y = ask.run(case.layer, x)
            expected = bounds.forward(case.layer, x, {})
            finite = bool(np.isfinite(y.astype(np.float64)).all())
            value = "the result survives" if finite else "the sum overflows"
            name = f"overflow inside {kind.__name__} of {case.dtype}"
            ask.trait(name, value, case.dtype, str(x.ravel()[0]))
            unit = 64 * bounds.format_of(case.dtype).unit
            with np.errstate(over="ignore", invalid="ignore"):
                off = np.abs(y.astype(np.float64) - expected) > np.abs(expected) * unit
            if finite and off.any():
                raise judge.Failure("value", f"got {y.ravel()[0]}, should be {expected.ravel()[0]}",
                                    arrays={"x": x}, layers=(case.layer,))  # fmt: skip
            narrow = case.dtype == "float16" and not isinstance(case.layer, spec.LpPool)
            if not finite and (np.isnan(y.astype(np.float64)).any() or narrow):
                raise judge.Failure("special", f"got {y.ravel()[0]}, should be {expected.ravel()[0]}",
                                    arrays={"x": x}, layers=(case.layer,))  # fmt: skip

        ask.sweep([case], question)
