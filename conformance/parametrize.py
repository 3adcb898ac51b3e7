"""Which questions go to which layers: parametrisations made from the spec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest

from cnnformance.spec import clauses
from cnnformance.spec import layers as spec

HALVES = ("float16", "bfloat16")
FLOATS = ("float32", "float64", *HALVES)
INTEGERS = ("int8", "uint8", "int16", "int32", "int64")

FORMULA_CLAUSES: Mapping[type[spec.Layer], Sequence[str]] = {
    spec.MaxPool: ["pool.max.formula"],
    spec.MinPool: ["pool.min.formula"],
    spec.AveragePool: ["pool.average.formula"],
    spec.LpPool: ["pool.l2.formula"],
    spec.StochasticPool: ["pool.stochastic.evaluation"],
    spec.GlobalAveragePool: ["pool.global-average.formula"],
    spec.GlobalMaxPool: ["pool.global-max.formula"],
    spec.AdaptiveAveragePool: ["pool.adaptive.start", "pool.adaptive.end"],
    spec.AdaptiveMaxPool: ["pool.adaptive.start", "pool.adaptive.end"],
    spec.Conv: ["conv.formula"],
    spec.ReLU: ["relu.formula"],
    spec.Flatten: ["flatten.example-1"],
    spec.Dense: ["dense.formula"],
}
"""The clauses that say what a layer computes."""

Mark = Callable[[Any], Any]


def dtypes(layer_type: type[spec.Layer]) -> tuple[str, ...]:
    """Return the dtypes that a layer is asked with."""
    return (*FLOATS, *INTEGERS) if layer_type.exact else FLOATS


def laws(name: str) -> dict[str, list[str]]:
    """Return the layer types that a law is stated for, each with the clauses that state it.

    Raises:
        KeyError: the spec has no such law.
    """
    found: dict[str, list[str]] = {}
    for clause in clauses.load().of(clauses.Law):
        if clause.law == name:
            for layer in clause.layers:
                found.setdefault(layer, []).append(clause.id)
    if not found:
        raise KeyError(f"the spec has no law {name!r}")
    return found


def law(name: str, also: Mapping[type[spec.Layer], Iterable[str]] | None = None) -> Mark:
    """Parametrise a test by ``layer_type``: every layer type that the spec states the law for.

    ``also`` adds clauses, of other kinds than laws, that the test checks of a layer type.
    """
    more = {layer_type.__name__: list(ids) for layer_type, ids in (also or {}).items()}
    return pytest.mark.parametrize("layer_type", [
        pytest.param(
            spec.TYPES[layer], marks=pytest.mark.clauses(*ids, *more.get(layer, [])), id=layer
        )
        for layer, ids in laws(name).items()
    ])  # fmt: skip


def every(stated: Mapping[type[spec.Layer], Iterable[str]]) -> dict[type[spec.Layer], list[str]]:
    """Return the clauses of every registered layer type, which may have none."""
    return {layer_type: list(stated.get(layer_type, ())) for layer_type in spec.TYPES.values()}


def by_layer_type(
    table: Mapping[type[spec.Layer], Iterable[str]], laws_shown: Iterable[str] = ()
) -> Mark:
    """Parametrise a test by ``layer_type``.

    Each has its clauses, and those of the laws that the test shows for it.
    """
    return pytest.mark.parametrize("layer_type", [
        pytest.param(layer_type, marks=_marks(layer_type, ids, laws_shown), id=layer_type.__name__)
        for layer_type, ids in table.items()
    ])  # fmt: skip


def by_layer_type_and_dtype(
    table: Mapping[type[spec.Layer], Iterable[str]], laws_shown: Iterable[str] = ()
) -> Mark:
    """Parametrise a test by ``layer_type`` and ``dtype``, with the clauses of each."""
    return pytest.mark.parametrize(("layer_type", "dtype"), [
        pytest.param(
            layer_type,
            dtype,
            marks=_marks(layer_type, ids, laws_shown),
            id=f"{layer_type.__name__}-{dtype}",
        )
        for layer_type, ids in table.items()
        for dtype in dtypes(layer_type)
    ])  # fmt: skip


def _marks(
    layer_type: type[spec.Layer], ids: Iterable[str], laws_shown: Iterable[str]
) -> pytest.MarkDecorator:
    shown = [i for name in laws_shown for i in laws(name).get(layer_type.__name__, [])]
    return pytest.mark.clauses(*ids, *shown)
