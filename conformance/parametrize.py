"""Which questions go to which layers: parametrisations made from the spec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from cnnformance.spec import clauses
from cnnformance.spec import layers as spec

HALVES = ("float16", "bfloat16")
FLOATS = ("float32", "float64", *HALVES)
INTEGERS = ("int8", "uint8", "int16", "int32", "int64")

Mark = Callable[[Any], Any]


def dtypes(kind: type[spec.Layer]) -> tuple[str, ...]:
    """Return the dtypes that a layer is asked with."""
    return (*FLOATS, *INTEGERS) if kind.exact else FLOATS


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
    """Parametrise a test by ``kind``: every layer type that the spec states the law for.

    ``also`` adds clauses, of other kinds than laws, that the test checks of a layer type.
    """
    more = {kind.__name__: list(ids) for kind, ids in (also or {}).items()}
    return pytest.mark.parametrize("kind", [
        pytest.param(
            spec.TYPES[layer], marks=pytest.mark.clauses(*ids, *more.get(layer, [])), id=layer
        )
        for layer, ids in laws(name).items()
    ])  # fmt: skip


def every(stated: Mapping[type[spec.Layer], Iterable[str]]) -> dict[type[spec.Layer], list[str]]:
    """Return the clauses of every registered layer type, which may have none."""
    return {kind: list(stated.get(kind, ())) for kind in spec.TYPES.values()}


def by_kind(
    table: Mapping[type[spec.Layer], Iterable[str]], laws_shown: Iterable[str] = ()
) -> Mark:
    """Parametrise a test by ``kind``, with the clauses of each, and of the laws that it shows."""
    return pytest.mark.parametrize("kind", [
        pytest.param(kind, marks=_marks(kind, ids, laws_shown), id=kind.__name__)
        for kind, ids in table.items()
    ])  # fmt: skip


def by_kind_and_dtype(
    table: Mapping[type[spec.Layer], Iterable[str]], laws_shown: Iterable[str] = ()
) -> Mark:
    """Parametrise a test by ``kind`` and ``dtype``, with the clauses of each."""
    return pytest.mark.parametrize(("kind", "dtype"), [
        pytest.param(
            kind, dtype, marks=_marks(kind, ids, laws_shown), id=f"{kind.__name__}-{dtype}"
        )
        for kind, ids in table.items()
        for dtype in dtypes(kind)
    ])  # fmt: skip


def _marks(
    kind: type[spec.Layer], ids: Iterable[str], laws_shown: Iterable[str]
) -> pytest.MarkDecorator:
    shown = [i for name in laws_shown for i in laws(name).get(kind.__name__, [])]
    return pytest.mark.clauses(*ids, *shown)
