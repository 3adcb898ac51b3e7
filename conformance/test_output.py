"""Does each layer compute its formula? Drawn layers, shapes and values, every dtype."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import cases_by_option
from cnnformance.conformance.cases import Case, given
from cnnformance.conformance.parametrize import (
    FORMULA_CLAUSES,
    by_layer_type_and_dtype,
    dtypes,
    every,
)
from cnnformance.conformance.question import Question
from cnnformance.conformance.refusals import shape_for
from cnnformance.conformance.regimes import is_integer
from cnnformance.conformance.small_layers import ordinary
from cnnformance.conformance.strategies import cases
from cnnformance.reference import bounds
from cnnformance.spec import layers as spec

FORMULAS = every(FORMULA_CLAUSES)
"""The layers, each with the clauses that say what it computes."""

SHOWN = (
    "dtype-kept",
    "exact-on-integers",
    "componentwise-bound",
    "precision-grade",
    "normwise-bound",
    "output-shape",
    "modes-agree",
)
"""Laws of every output that the judge compares: each comparison shows them.

A mode is a subject of its own, and is held to the same reference as every other.
"""


def _examples(ask: Question, dtype: str) -> int:
    return ask.profile.examples if dtype == "float32" else max(3, ask.profile.examples // 3)


@by_layer_type_and_dtype(FORMULAS, SHOWN)
def test_output(ask: Question, layer_type: type[spec.Layer], dtype: str) -> None:
    """Windows, strides, sizes, channels and batches as the document describes them."""
    if dtype == "float32" or ask.profile.name != "quick":
        ask.sweep(cases_by_option.plain(layer_type, dtype), ask.output)
    if layer_type.compares:
        ask.sweep(_of_one_end(cases_by_option.plain(layer_type), dtype), ask.output)
    if layer_type.has_weights:
        ask.sweep(_of_magnitudes(layer_type, dtype), ask.output)
    ask.explore(cases(layer_type, dtype), ask.output, _examples(ask, dtype))


def _of_magnitudes(layer_type: type[spec.Layer], dtype: str) -> Iterator[Case]:
    """Yield weights from far below 1 to far above it: none may be taken for zero."""
    for rank, weights in enumerate(("wide", "faint", "small"), start=1):
        layer = ordinary(layer_type, rank)
        yield Case(layer, shape_for(layer), dtype, ("normal",), weights)


_WINDOWS = ["pool.output-size-general", "pool.extent", "pool.same.size", "pool.same.total"]
_SIZES = [*_WINDOWS, "pool.ceil-mode.size"]
_OPTIONS: dict[type[spec.Layer], list[str]] = {
    spec.MaxPool: ["pool.max.padding-never-wins", *_SIZES],
    spec.MinPool: ["pool.min.padding-never-wins", *_SIZES],
    spec.AveragePool: [
        "pool.average.excludes-padding",
        "pool.average.counts-padding",
        "pool.average.overhang",
        *_SIZES,
    ],
    spec.LpPool: ["pool.lp.formula", "pool.lp.padding-adds-nothing", "pool.lp.overhang", *_SIZES],
    spec.Conv: [
        "conv.padding-is-zeros",
        "conv.dilation-example",
        "conv.groups-example",
        "conv.bias",
        *_WINDOWS,
    ],
    spec.Flatten: ["flatten.inner-axis"],
    spec.Dense: ["dense.without-bias"],
}
OPTIONS = {
    layer_type: ids
    for layer_type, ids in every(_OPTIONS).items()
    if cases_by_option.has_options(layer_type)
}


@by_layer_type_and_dtype(OPTIONS)
def test_options(ask: Question, layer_type: type[spec.Layer], dtype: str) -> None:
    """Padding, dilation, ceil mode, counted padding, groups, inner axes, absent biases."""
    if dtype == "float32" or ask.profile.name == "thorough":
        few: dict[str, Any] = {"strides": ((2, 3),)} if ask.profile.name == "quick" else {}
        ask.sweep(cases_by_option.options(layer_type, dtype, **few), ask.output)
    elif ask.profile.name == "quick":  # each dtype may have kernels of its own
        turn = dtypes(layer_type).index(dtype)
        ask.sweep(cases_by_option.in_turn(layer_type, dtype, turn), ask.output)
    else:
        ask.sweep(cases_by_option.one_size(layer_type, dtype), ask.output)
    if layer_type.compares:
        optional = cases_by_option.one_size(layer_type)
        every_so_many = 1 if is_integer(dtype) or ask.profile.name != "quick" else 3
        ask.sweep(
            _of_one_end(itertools.islice(optional, 0, None, every_so_many), dtype), ask.output
        )
    examples = 2 * _examples(ask, dtype)
    ask.explore(cases(layer_type, dtype, plain=False), ask.output, examples)


def _of_one_end(cases: Iterable[Case], dtype: str) -> Iterator[Case]:
    """Yield maps of the finite number that loses, which neither padding nor a first value beats."""
    low: float
    high: float
    if is_integer(dtype):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        high = bounds.format_of(dtype).largest
        low = -high
    for case in cases:
        value = high if case.layer.least else low
        yield given(case.layer, np.full(case.shape, value, dtype_named(dtype)))
