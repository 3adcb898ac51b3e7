"""The judge: the one place where a result is compared with what must hold. It raises."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.reference import Weights, bounds, fast_algorithms, forward
from cnnformance.reference.gradient_bounds import gradient_bounds
from cnnformance.reports.reasons import USUAL, Reason
from cnnformance.spec import layers as spec

if TYPE_CHECKING:
    from cnnformance.adapters.subject import Subject
    from cnnformance.conformance.cases import Case

Index = tuple[int, ...]
Call = Literal["forward", "gradients", "parameters", "output_shape"]
"""What can be asked of layers: what ``build`` returns is called, or that method of the backend."""


@dataclass(frozen=True)
class Other:
    """A second call that contradicts a failure's; put to the same subject, unless it names one."""

    layers: tuple[spec.Layer, ...]
    arrays: Mapping[str, Array]
    call: Call = "forward"
    index: Index | None = None
    subject: Subject | None = None


@dataclass(eq=False)  # an exception is itself, and hashable
class Failure(AssertionError):  # noqa: N818 - pytest's word
    """A result that no correct implementation can return, and what shows it.

    ``effect`` says how it is wrong: ``value``, ``shape``, ``dtype``, ``not-finite``, ``exception``,
    ``not-refused``, ``crash``, ``hang``, ``adapter``, ``state``, ``count``, ``statistics``,
    ``law``, ``trait``, ``precision`` (a shorter format or accumulator explains the result).
    ``reason`` says why, in a word of ``reports.reasons``; by default the usual one of the effect.
    ``share`` is the error as a multiple of what is allowed. ``call`` is what was asked of the
    layers, and ``operand`` whose gradient it is of: ``input``, ``weight`` or ``bias``. ``other`` is
    a second call, whose answer contradicts this one. ``claim`` is what would hold, where that is
    not to equal ``expected`` within ``bound``: an expression of Python about ``{value}`` (the
    element at the index), ``{map}`` (all elements of its sample and channel), ``{result}`` (the
    whole answer), ``{x}`` (its input), and the other's ``{other_value}``, ``{other}`` and
    ``{other_x}``. ``memory`` says how the input and the weights lay, if not as the case does.
    ``miscomputed`` says that an output is not what its layer computes, whatever was asked about.
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
    operand: str = ""
    reason: Reason | Literal[""] = ""
    other: Other | None = None
    claim: str = ""
    memory: tuple[str, str] | None = None
    miscomputed: bool = False

    def __post_init__(self) -> None:
        """Make the message the exception's own, and give the reason."""
        super().__init__(self.message)
        self.reason = self.reason or USUAL[self.effect]

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
        "not-finite" if special else "value",
        f"at {index}: {shown[1]}, should be exactly {shown[0]} ({why}); "
        f"{int(wrong.sum())} of {wrong.size} elements are wrong",
        index=index,
        expected=shown[0],
        actual=shown[1],
        reason="not-finite" if special else "not-equal",
    )


def within(actual: Array, allowed: bounds.Bound, dtype: np.dtype[Any]) -> float:
    """Require every judged element to lie within its proven bound; return the largest share."""
    same_form(actual, allowed.value.shape, dtype)
    got = actual.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        special = ~np.isfinite(allowed.value)
        as_special = (got == allowed.value) | (np.isnan(got) & np.isnan(allowed.value))
        off = np.abs(got - allowed.value)
        share = np.where(allowed.error > 0, off / allowed.error, np.where(off == 0, 0.0, np.inf))
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
        "value" if finite else "not-finite",
        f"at {index}: {_at(actual, index)}, should be {value!r}{allowance}; "
        f"{int((share > 1).sum())} of {share.size} elements are wrong",
        index=index,
        expected=repr(value),
        actual=_at(actual, index),
        bound=f"{error:.6g}",
        share=worst if math.isfinite(worst) else None,
    )


def output(case: Case, actual: Array) -> Evidence:
    """Judge the output of a case's layer (see ``met``)."""
    return met(case.layer, case.x, case.weights, actual)[0]


def met(
    layer: spec.Layer, x: Array, weights: Weights, actual: Array
) -> tuple[Evidence, bounds.Bound]:
    """Judge an output, and return the evidence and the bound that it met.

    Selections are compared for equality, sums by their proven bound, and those that miss it by the
    bounds of other algorithms that exist for the layer, whose name is then the grade.

    Raises:
        Failure: the result is one that no correct implementation can return, or one of a shorter
            format than the layer's (effect ``precision``).
    """
    try:
        return _met(layer, x, weights, actual)
    except Failure as failure:
        failure.miscomputed = failure.effect in ("value", "not-finite")
        raise


def _met(
    layer: spec.Layer, x: Array, weights: Weights, actual: Array
) -> tuple[Evidence, bounds.Bound]:
    if layer.exact:
        expected = forward(layer, x, weights)
        equal(actual, expected)
        everywhere = np.ones(expected.shape, np.bool_)
        exact = bounds.Bound(expected, np.zeros(expected.shape), everywhere)
        return Evidence(sharpness=0.0), exact
    analysis = bounds.Analysis(layer, x, weights)
    allowed = analysis.bound()
    try:
        share = within(actual, allowed, x.dtype)
    except Failure as failure:
        if failure.effect != "value":
            raise
        for grade, error in fast_algorithms.alternatives(layer, x, weights):
            other = dataclasses.replace(allowed, error=allowed.error + error)
            if _lies_within(actual, other, x.dtype):
                share = within(actual, other, x.dtype)
                return Evidence(share, grade, sharpness(other)), other
        if cause := shortened(analysis, actual, allowed, weighted=layer.has_weights):
            failure.effect, (failure.reason, said) = "precision", cause
            failure.message = f"{said}: {failure.message}"
        raise
    grade = graded(analysis, actual) if x.dtype.name in bounds.HALVES else ""
    return Evidence(share, grade, sharpness(allowed)), allowed


def gradients(
    layer: spec.Layer,
    x: Array,
    weights: Weights,
    upstream: Array,
    found: Mapping[str, Array],
) -> Iterator[Evidence]:
    """Judge the gradients of a layer by name, as ``met`` does its output; yield the evidence.

    Raises:
        Failure: a gradient is one that no correct implementation can return.
    """
    for name, allowed in gradient_bounds(layer, x, weights, upstream).items():
        actual = found[name]
        try:
            yield Evidence(within(actual, allowed, x.dtype), "", sharpness(allowed))
        except Failure as failure:
            fast_ones = fast_algorithms.fast_gradients(layer, x, weights, upstream)
            other = dataclasses.replace(allowed, error=allowed.error + fast_ones.get(name, 0.0))
            if failure.effect == "value" and _lies_within(actual, other, x.dtype):
                yield Evidence(1.0, "normwise", sharpness(other))
                continue
            loose = gradient_bounds(layer, x, weights, upstream, judged=False)[name]
            if failure.effect == "value" and _lies_within(actual, loose, x.dtype):
                failure.effect, failure.reason = "precision", "long-half-sums"
                failure.message = f"long sums are not guaranteed in {x.dtype}: {failure.message}"
            failure.message = f"the gradient for {name}: {failure.message}"
            failure.operand = name
            raise


def sharpness(allowed: bounds.Bound) -> float:
    """Return the smallest allowed error over the size of its answer, of those that are judged."""
    told = allowed.judged & (allowed.value != 0) & np.isfinite(allowed.value)
    return float((allowed.error[told] / np.abs(allowed.value[told])).min(initial=math.inf))


def _lies_within(actual: Array, allowed: bounds.Bound, dtype: np.dtype[Any]) -> bool:
    try:
        within(actual, allowed, dtype)
    except Failure:
        return False
    return True


def graded(analysis: bounds.Analysis, actual: Array) -> str:
    """Return the best accumulator of half precision that a result is consistent with."""
    for grade, allowed in analysis.by_accumulator().items():
        if _lies_within(actual, allowed, actual.dtype):
            return grade
    return "half"


SHORT_FACTORS = (24, 11, 8)
"""The bits to which factors get rounded on the way: float32, TF32 and float16, bfloat16."""


def shortened(
    analysis: bounds.Analysis, actual: Array, allowed: bounds.Bound, *, weighted: bool
) -> tuple[Reason, str] | None:
    """Return what explains a result that is not precise enough, and its words, or nothing.

    A half-precision accumulator whose bound is vacuous, or factors rounded to fewer bits.
    """
    output, dtype = analysis.output, actual.dtype
    loose = analysis.by_accumulator()["half"]
    exact = np.where(allowed.error == 0, 0.0, loose.error)  # in any order, so in this one
    loose = dataclasses.replace(loose, error=exact)
    if output.bits < 24 and _lies_within(actual, loose, dtype):
        most = int(math.log1p(bounds.MOST_GROWTH) / math.log1p(output.unit))
        return "long-half-sums", f"sums of more than {most} terms are not guaranteed in {dtype}"

    def explained(bits: int) -> bool:
        error = allowed.error + bounds.growth(2, 2.0**-bits) * analysis.sums.size
        return _lies_within(actual, dataclasses.replace(allowed, error=error), dtype)

    for bits in SHORT_FACTORS if weighted else ():
        # what many more bits explain too is no matter of these
        if bits < output.bits and explained(bits) and not explained(bits + 4):
            return "short-factors", f"as with factors of {bits} bits"
    return None
