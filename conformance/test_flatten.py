"""Flatten: one axis, in the order of memory, every bit as it was."""

from __future__ import annotations

import math

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_varied import random
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.laws import alike, answer, few
from cnnformance.conformance.parametrize import by_layer_type_and_dtype, law, laws
from cnnformance.conformance.question import Question
from cnnformance.conformance.strategies import cases
from cnnformance.reference import bounds
from cnnformance.spec import layers as spec

SHAPES = (
    (1, 1),
    (3, 5),
    (2, 1, 1),
    (2, 3, 4),
    (2, 3, 4, 5),
    (2, 3, 1, 4, 2),
    (1, 33, 1),
)


@law("one-axis")
def test_one_axis(ask: Question, layer_type: type[spec.Flatten]) -> None:
    """Every sample becomes a vector of all its values, whatever its axes."""

    def question(case: Case) -> None:
        shape = ask.run(case.layer, case.x).shape
        vector = (case.shape[0], math.prod(case.shape[1:]))
        if shape != vector:
            message = f"{case.shape} became {shape}, not {vector}"
            raise Failure("law", message, expected=str(vector), actual=str(shape))

    ask.sweep([Case(layer_type(), shape) for shape in SHAPES], question)


def any_bits(case: Case) -> Array:
    """Return an array of the case's form with any bits: signed zeros, infinities, quiet NaNs.

    Among them are the smallest and the largest subnormal number. Every NaN has a payload; it is
    quiet, because IEEE 754 lets an operation make it so.
    """
    dtype = dtype_named(case.dtype)
    rng = random(case)
    raw = rng.integers(0, 256, (*case.shape, dtype.itemsize), np.uint8).view(dtype)[..., 0]
    if dtype.kind in "iu":
        return raw
    tiny = bounds.format_of(case.dtype).tiny
    special = np.array([0.0, -0.0, np.inf, -np.inf, tiny, tiny, np.nan], dtype)
    bits_of = special.view(f"u{dtype.itemsize}")
    bits_of[-1] |= 5
    bits_of[-2] -= 1
    bits_of[-3] = 1
    with np.errstate(invalid="ignore"):  # some of the random bits are signalling NaNs
        finite = np.isfinite(raw) & (rng.random(case.shape) < 0.5)
    return np.where(finite, raw, rng.choice(special, case.shape))


def bits(array: Array) -> Array:
    """Return the array with every NaN made the same."""
    return (
        array
        if array.dtype.kind in "iu"
        else np.where(np.isnan(array), np.nan, array).astype(array.dtype)
    )


@by_layer_type_and_dtype({spec.TYPES[name]: ids for name, ids in laws("values-unchanged").items()})
def test_values_unchanged(ask: Question, layer_type: type[spec.Flatten], dtype: str) -> None:
    """The same bits come out, signed zeros included; NaNs count as equal."""

    def question(case: Case) -> None:
        x = any_bits(case)
        said = answer(ask, case.layer, x)
        unsigned = f"u{x.dtype.itemsize}"
        before, after = (np.sort(bits(a).view(unsigned), axis=None) for a in (x, said.y))
        changed = np.flatnonzero(before != after)
        if len(changed):
            old, new = (f"{int(a[changed[0]]):#x}" for a in (before, after))
            with said.shown():
                raise Failure("law", f"the bits {old} are gone", expected=old, actual=new)

    few(ask, cases(layer_type, dtype, regimes=("integer",)), question)


@law("row-major-order")
def test_row_major_order(ask: Question, layer_type: type[spec.Flatten]) -> None:
    """The order is that of memory: the last axis fastest."""

    def question(case: Case) -> None:
        y = answer(ask, case.layer, case.x).y
        strides = [math.prod(case.shape[axis + 1 :]) for axis in range(1, len(case.shape))]
        for index in np.ndindex(*case.shape):
            place = sum(i * s for i, s in zip(index[1:], strides, strict=True))
            if y[index[0], place] != case.x[index]:
                message = f"{index} is not at place {place} of its vector"
                raise Failure("law", message, actual=str(y[index[0], place]))

    ask.sweep([Case(layer_type(), shape, seed=0) for shape in SHAPES], question)


@law("idempotent")
def test_idempotent(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Applied twice it gives what it gives once."""

    def question(case: Case) -> None:
        once = answer(ask, case.layer, case.x)
        alike("the second time changed something", once, answer(ask, case.layer, once.y))

    few(ask, cases(layer_type), question)
