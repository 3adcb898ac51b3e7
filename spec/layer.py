"""What is common to a description of any layer, and which layer types there are.

The concrete types are in ``layers``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


class LayerError(ValueError):
    """A layer description that no framework could honour; the message names field and value."""


def need(layer: Layer, field: str, holds: bool, rule: str) -> None:
    """Require what a rule says of a field. Raises ``LayerError``."""
    if not holds:
        name, value = type(layer).__name__, getattr(layer, field)
        message = f"{name}.{field} = {value!r:.60}: {rule}"
        raise LayerError(message)


def positive(value: object) -> bool:
    """Whether a value is a positive integer."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def positives(value: object, rank: int) -> bool:
    """Whether a value is a tuple of so many positive integers."""
    return isinstance(value, tuple) and len(value) == rank and all(positive(v) for v in value)


@dataclass(frozen=True)
class Layer:
    """Base of all layers: what is common to a description of any of them.

    The class variables are what is general about a layer type. All that is asked of layers in
    general follows from them, and from the base class.
    """

    exact: ClassVar[bool] = False
    """Whether it rounds nothing, as what selects or reshapes; else its outputs are sums."""
    compares: ClassVar[bool] = False
    """Whether it chooses between values by comparing them."""
    least: ClassVar[bool] = False
    """Whether it chooses the least of its values, and not the largest."""
    linear: ClassVar[bool] = False
    """Whether its outputs are sums of its inputs, each times a weight or a share."""
    averages: ClassVar[bool] = False
    """Whether it divides a sum by the number of terms."""
    reshapes: ClassVar[bool] = False
    """Whether it keeps all its values, in another shape."""
    elementwise: ClassVar[bool] = False
    """Whether it acts on each element alone, and keeps the shape."""
    takes_images: ClassVar[bool] = False
    """Whether its input has spatial axes and channels."""
    has_weights: ClassVar[bool] = False
    """Whether it learns."""
    draws: ClassVar[bool] = False
    """Whether its training draws at random, from values that are not negative."""

    def weight_shapes(self) -> Shapes:
        """Return the canonical shape of each weight array, by name; empty without any."""
        return {}

    @classmethod
    def unchecked(cls, **fields: Any) -> Self:
        """Make a layer without validation, to ask whether a framework refuses it."""
        layer = object.__new__(cls)
        for field in dataclasses.fields(cls):
            default = None if field.default is dataclasses.MISSING else field.default
            object.__setattr__(layer, field.name, fields.get(field.name, default))
        return layer

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with some fields changed."""
        return dataclasses.replace(self, **changes)


Model = Sequence[Layer]

TYPES: dict[str, type[Layer]] = {}
"""Every concrete layer type by its name: those that are registered."""

LayerType = TypeVar("LayerType", bound=type[Layer])


def register(layer_type: LayerType) -> LayerType:
    """Make a layer type one of ``TYPES``, and so one that is asked."""
    TYPES[layer_type.__name__] = layer_type
    return layer_type


@contextmanager
def registered(*layer_types: type[Layer]) -> Iterator[None]:
    """Have these layer types among ``TYPES`` inside the context."""
    before = dict(TYPES)
    try:
        for layer_type in layer_types:
            register(layer_type)
        yield
    finally:
        TYPES.clear()
        TYPES.update(before)


def takes_images(model: Model) -> bool:
    """Whether the input of a model is read as images, with spatial axes and channels.

    The first layer says so that is not element-wise.
    """
    first = next((layer for layer in model if not layer.elementwise), None)
    return first is not None and first.takes_images


def weight_shapes(layer: Layer) -> Shapes:
    """Return the canonical shape of each weight array of a layer, by name; empty without any."""
    return layer.weight_shapes()


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def to_json(layer: Layer) -> dict[str, Any]:
    """Return a layer as plain JSON data, ``{"type": NAME, FIELD: VALUE, ...}``."""
    fields = {f.name: _plain(getattr(layer, f.name)) for f in dataclasses.fields(layer)}
    return {"type": type(layer).__name__, **fields}


def from_json(data: Mapping[str, Any], *, checked: bool = True) -> Layer:
    """Return the layer that ``to_json`` described.

    Raises:
        LayerError: the type or a field is unknown, or (if ``checked``) a value has no meaning.
    """
    fields = {key: _frozen(value) for key, value in data.items() if key != "type"}
    name = data.get("type")
    layer_type = TYPES.get(name) if isinstance(name, str) else None
    if layer_type is None:
        message = f"layer type {name!r:.60} is unknown; known are {', '.join(TYPES)}"
        raise LayerError(message)
    if unknown := fields.keys() - {f.name for f in dataclasses.fields(layer_type)}:
        message = f"{layer_type.__name__} has no field {', '.join(sorted(unknown))}"
        raise LayerError(message)
    if not checked:
        return layer_type.unchecked(**fields)
    try:
        return layer_type(**fields)
    except TypeError as error:
        message = f"{layer_type.__name__}: {error}"
        raise LayerError(message) from error
