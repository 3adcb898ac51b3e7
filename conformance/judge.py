"""The judge: the one place where a result is compared with what must hold. It raises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.reference import Weights, bounds, forward
from cnnformance.spec import layers as spec

if TYPE_CHECKING:
    from cnnformance.conformance.cases import Case

Index = tuple[int, ...]
Call = Literal["forward", "gradients", "parameters", "output_shape"]
"""What can be asked of layers: what ``build`` returns is called, or that method of the backend."""


@dataclass(eq=False)  # an exception is itself, and hashable
class Failure(AssertionError):  # noqa: N818 - pytest's word
    """A result that no correct implementation can return, and what shows it.

    ``effect`` names the kind: ``value``, ``shape``, ``dtype``, ``special``, ``exception``,
    ``accepted``, ``crash``, ``hang``, ``adapter``, ``impure``, ``count``, ``statistics``,
    ``law``, ``trait``. ``share`` is the error as a multiple of what is allowed. ``call`` is what
    was asked of the layers.
    """

    effect: str
    message: str
    case: Case | None = None
    index: Index | None = None
    expected: str = ""
    actual: str = ""
    bound: str = ""
    share: float | None = None
    detail: str = ""
    alone: bool | None = None
    arrays: dict[str, Array] = field(default_factory=dict)
    layers: tuple[spec.Layer, ...] = ()
    call: Call = "forward"

    def __post_init__(self) -> None:
        """Make the message the exception's own."""
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Evidence:
    """What a passed comparison showed.

    ``share`` is the largest part of the allowed error that was used (0 for equality),
    ``grade`` the accumulator that the result is consistent with, where that is in question.
    ``sharpness`` is the smallest allowed error, over the size of its answer (0 for equality): a
    comparison whose sharpness is 1 or more would also accept zeros.
    """

    share: float = 0.0
    grade: str = ""
    sharpness: float = math.inf


GRADES = ("float32", "pairwise half", "half", "normwise")
"""Precision grades of half-precision and fast kernels, best first; others are ``own``."""


def text(value: object) -> str:
    """Return a number as it is shown in reports: shortest form that keeps it."""
    return str(value.item()) if isinstance(value, np.generic) else str(value)


def _at(array: Array, index: Index) -> str:
    return text(array[index])


def same_shape(
    actual: spec.Shape,
    expected: spec.Shape,
    what: str = "the output",
    layers: Sequence[spec.Layer] = (),
    call: Call = "forward",
) -> None:
    """Require a shape of what is named."""
    if actual != tuple(expected):
        raise Failure(
            "shape",
            f"{what} has shape {actual}, not {tuple(expected)}",
            expected=str(tuple(expected)),
            actual=str(actual),
            layers=tuple(layers),
            call=call,
        )


def real(actual: Array, what: str = "the output") -> None:
    """Require real numbers: no layer of them gives complex ones."""
    if actual.dtype.kind == "c":
        raise Failure(
            "dtype", f"{what} is complex", expected="real numbers", actual=str(actual.dtype)
        )


def same_form(actual: Array, shape: spec.Shape, dtype: np.dtype[Any]) -> None:
    """Require shape and dtype."""
    same_shape(actual.shape, shape)
    if actual.dtype != dtype:
        raise Failure(
            "dtype",
            f"the output has dtype {actual.dtype}, not {dtype}",
            expected=str(dtype),
            actual=str(actual.dtype),
        )


def _is_nan(array: Array) -> Array:
    return np.isnan(array) if array.dtype.kind not in "iub" else np.zeros(array.shape, np.bool_)


def equal(actual: Array, expected: Array, why: str = "a selection keeps every bit") -> None:
    """Require the same shape, dtype and values.

    NaNs are equal, and so are zeros of any sign; a subnormal number may have become zero. What a
    subject does with these is a trait, and asked apart.
    """
    same_form(actual, expected.shape, expected.dtype)
    with np.errstate(invalid="ignore"):
        wrong = ~((actual == expected) | (_is_nan(actual) & _is_nan(expected)))
    if wrong.any() and expected.dtype.kind not in "iub":
        tiny = bounds.format_of(expected.dtype.name).tiny
        wrong &= ~((actual == 0) & (np.abs(expected.astype(np.float64)) < tiny))
    if not wrong.any():
        return
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    shown = _at(expected, index), _at(actual, index)
    special = not all(math.isfinite(float(v)) for v in (expected[index], actual[index]))
    raise Failure(
        "special" if special else "value",
        f"at {index}: {shown[1]}, should be exactly {shown[0]} ({why}); "
        f"{int(wrong.sum())} of {wrong.size} elements are wrong",
        index=index,
        expected=shown[0],
        actual=shown[1],
    )


def within(actual: Array, allowed: bounds.Bound, dtype: np.dtype[Any]) -> float:
    """Require every judged element to lie within its proven bound; return the largest share."""
    same_form(actual, allowed.value.shape, dtype)
    got = actual.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        special = ~np.isfinite(allowed.value)
        as_special = (got == allowed.value) | (np.isnan(got) & np.isnan(allowed.value))
        off = np.abs(got - allowed.value)
        share = np.where(allowed.error > 0, off / allowed.error, np.where(off > 0, np.inf, 0.0))
        share = np.where(special, np.where(as_special, 0.0, np.inf), share)
        share = np.where(np.isnan(share), np.inf, share)
        share = np.where(allowed.judged, share, 0.0)
    worst = float(share.max(initial=0.0))
    if worst <= 1:
        return worst
    index = tuple(int(i) for i in np.unravel_index(int(share.argmax()), share.shape))
    value, error = float(allowed.value[index]), float(allowed.error[index])
    finite = math.isfinite(value) and math.isfinite(float(got[index]))
    allowance = f" ± {error:.3g}" if math.isfinite(value) and error else ""
    raise Failure(
        "value" if finite else "special",
        f"at {index}: {_at(actual, index)}, should be {value!r}{allowance}; "
        f"{int((share > 1).sum())} of {share.size} elements are wrong",
        index=index,
        expected=repr(value),
        actual=_at(actual, index),
        bound=f"{error:.6g}",
        share=worst if math.isfinite(worst) else None,
    )


def output(case: Case, actual: Array) -> Evidence:
    """Judge the output of a case's layer.

    Selections are compared for equality, sums by their proven bound. Rows of the integer regime
    must come out exactly, but for the last rounding.

    Raises:
        Failure: the result is one that no correct implementation can return.
    """
    layer, x, weights = case.layer, case.x, case.weights
    if isinstance(layer, bounds.SELECTIONS):
        equal(actual, forward(layer, x, weights))
        return Evidence()
    allowed = bounds.bound(layer, x, weights)
    exact = case.exact_rows
    if exact.any() and bounds.divides_exactly(layer, case.shape):
        allowed = _exactly(case, allowed, exact)
    try:
        share = within(actual, allowed, x.dtype)
    except Failure as failure:
        if failure.effect == "value" and isinstance(layer, spec.Conv | spec.Dense):
            fast = np.array(np.broadcast_to(bounds.normwise(layer, x, weights), actual.shape))
            if isinstance(layer, spec.Dense):
                fast[exact] = 0.0  # in whole numbers such an algorithm is exact too
            within(
                actual, bounds.Bound(allowed.value, allowed.error + fast, allowed.judged), x.dtype
            )
            return Evidence(1.0, "normwise")
        raise
    grade = graded(layer, x, weights, actual) if case.dtype in bounds.HALVES else ""
    return Evidence(share, grade)


def _exactly(case: Case, allowed: bounds.Bound, rows: Array) -> bounds.Bound:
    """Return the bound with no error but the last rounding in the rows whose sums are exact.

    A mean may be kept in float64 by a rule that rounds there, such as a running mean.
    """
    layer, x, value = case.layer, case.x, allowed.value[rows]
    exact = 2 * bounds.format_of(case.dtype).unit * np.abs(value) * _inexact(value, case.dtype)
    if not layer.has_weights:
        size = forward(layer, np.abs(x[rows].astype(np.float64)), {})
        exact += bounds.growth(2 * bounds.terms(layer, x), 2.0**-53) * size
    error = allowed.error.copy()
    error[rows] = np.minimum(error[rows], exact)
    return bounds.Bound(allowed.value, error, allowed.judged)


def _inexact(values: Array, dtype: str) -> Array:
    """Return 1 where a value needs rounding to the dtype, 0 where it is representable."""
    with np.errstate(over="ignore"):
        rounded = values.astype(dtype_named(dtype)).astype(np.float64)
    changed: Array = (rounded != values).astype(np.float64)
    return changed


def accumulators(layer: spec.Layer, x: Array) -> dict[str, tuple[str, int | None]]:
    """Return the accumulators of half precision, best first: format, and factors per term."""
    count = bounds.terms(layer, x)
    pairwise = math.ceil(math.log2(max(count, 2))) + 4
    return {
        "float32": ("float32", None),
        "pairwise half": (x.dtype.name, pairwise),
        "half": (x.dtype.name, None),
    }


def graded(layer: spec.Layer, x: Array, weights: Weights, actual: Array) -> str:
    """Return the best accumulator of half precision that a result is consistent with."""
    for grade, (accumulator, factors) in accumulators(layer, x).items():
        try:
            within(actual, bounds.bound(layer, x, weights, accumulator, factors), x.dtype)
        except Failure:
            continue
        return grade
    return "half"
