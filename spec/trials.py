"""Models with exact answers, as the specification's data gives them: the reading of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PlainValidator, StrictBool

from cnnformance.spec.formulas import Number, number
from cnnformance.spec.layers import (
    Adaptive,
    Conv,
    Flatten,
    Global,
    Layer,
    Windowed,
    from_json,
    weight_shapes,
)
from cnnformance.spec.reading import DataError

Array = np.ndarray[Any, np.dtype[Any]]
"""Of objects, here: each number exactly as written, a ``Fraction`` or a float (NaN, ±inf, -0.0)."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A model, its weights (one mapping a layer, empty without), an input and the exact output.

    Arrays are canonical: channels-last with the batch in front.
    """

    model: tuple[Layer, ...]
    weights: tuple[Mapping[str, Array], ...]
    input: Array
    output: Array


def _written(value: object) -> Number:
    """Return a number as written; unlike ``number`` it keeps the sign of zero."""
    if isinstance(value, Decimal) and value.is_zero() and value.is_signed():
        return -0.0
    return number(value)


def _array(value: object) -> Array:
    """Return nested lists of numbers as an array. Raises ``ValueError``."""
    shape: list[int] = []
    level: list[Any] = [value]
    while level and all(isinstance(item, list) for item in level):
        lengths = {len(item) for item in level}
        if len(lengths) > 1:
            raise ValueError("is ragged")
        shape.append(lengths.pop())
        level = [cell for item in level for cell in item]
    if any(isinstance(item, list) for item in level):
        raise ValueError("is ragged")
    cells = np.empty(len(level), dtype=object)
    cells[:] = [_written(item) for item in level]
    return cells.reshape(shape)


def _layer(value: object, *, checked: bool = True) -> Layer:
    """Return the layer that a table describes. Raises ``ValueError``."""
    if not isinstance(value, dict):
        raise ValueError(f"needs a layer, not {value!r:.60}")  # noqa: TRY004 - of the data
    return from_json(value, checked=checked)


Cells = Annotated[Array, PlainValidator(_array)]
"""An array that stands in a file as nested lists."""

Layers = Annotated[tuple[Annotated[Layer, PlainValidator(_layer)], ...], Field(min_length=1)]
"""The layers of a model, which stand in a file as tables."""

UncheckedLayer = Annotated[Layer, PlainValidator(lambda value: _layer(value, checked=False))]
"""A layer of which a field may have no meaning."""

Weights = tuple[Mapping[str, Cells], ...]
"""A table of arrays for each layer that has weights."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """An input and an output as they stand in a file: without a batch, and without one channel.

    With ``batch`` they are whole.
    """

    input: Cells
    output: Cells
    batch: StrictBool = False


def _rank(layers: Sequence[Layer]) -> int | None:
    """Return how many spatial axes the first of the layers that fixes them has, if one does."""
    for layer in layers:
        match layer:
            case Windowed() | Adaptive() | Global():
                return layer.rank
            case Flatten():
                return None
    return None


def _output_rank(layers: Sequence[Layer]) -> int | None:
    """Return how many spatial axes the output has, if a layer fixes them."""
    for layer in reversed(layers):
        match layer:
            case Windowed() | Adaptive():
                return layer.rank
            case Global() | Flatten(start=1):
                return 0
            case Flatten():
                return None
    return None


def _canonical(array: Array, key: str, rank: int | None, *, batch: bool) -> Array:
    """Return an array with the axes that it leaves out: the batch, and a single channel."""
    if batch:
        return array
    if rank is not None and array.ndim == rank:
        array = array[..., None]
    elif rank is not None and array.ndim != rank + 1:
        raise DataError(key, f"has {array.ndim} axes where {rank} or {rank + 1} are needed")
    return array[None]


def _weights(given: Mapping[str, Array], layer: Layer, key: str) -> Mapping[str, Array]:
    shapes = weight_shapes(layer)
    for name in sorted(given.keys() ^ shapes.keys()):
        raise DataError(f"{key}.{name}", "is missing" if name in shapes else "is unknown")
    weights = {}
    for name, shape in shapes.items():
        array = given[name]
        if isinstance(layer, Conv) and array.shape == layer.window:
            array = array[..., None, None]
        if array.shape != shape:
            reason = f"has the shape {array.shape}, and {shape} is needed"
            raise DataError(f"{key}.{name}", reason)
        weights[name] = array
    return MappingProxyType(weights)


def _of_each_layer(model: tuple[Layer, ...], weights: Weights) -> Iterator[Mapping[str, Array]]:
    """Yield the weights of each layer of a model; nothing for one without any."""
    weighted = sum(layer.has_weights for layer in model)
    if len(weights) != weighted:
        reason = f"has {len(weights)} tables, and {weighted} layers have weights"
        raise DataError("weights", reason)
    numbered = enumerate(weights)
    for layer in model:
        if layer.has_weights:
            number, given = next(numbered)
            yield _weights(given, layer, f"weights[{number}]")
        else:
            yield {}


def trials_of(
    model: tuple[Layer, ...], weights: Weights, rows: Mapping[str, Row]
) -> tuple[Trial, ...]:
    """Return the trials of a model, given rows, each by what its keys begin with in the file.

    Raises:
        DataError: an array does not fit the model; names its key.
    """
    held = tuple(_of_each_layer(model, weights))
    ranks = _rank(model), _output_rank(model)
    return tuple(
        Trial(
            model=model,
            weights=held,
            input=_canonical(row.input, f"{key}input", ranks[0], batch=row.batch),
            output=_canonical(row.output, f"{key}output", ranks[1], batch=row.batch),
        )
        for key, row in rows.items()
    )
