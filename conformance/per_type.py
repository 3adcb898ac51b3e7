"""Functions and tables that have an entry for each layer type, or for a base class of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from cnnformance.spec import layers as spec

P = ParamSpec("P")
T = TypeVar("T")
LayerType = TypeVar("LayerType", bound=spec.Layer)

Function = Callable[Concatenate[type[LayerType], P], T]
"""An implementation: its first argument is the type."""


class PerType(Generic[P, T]):
    """A generic function of a layer type, as ``functools.singledispatch`` is of an instance.

    The implementation of the nearest base class that has one is called, with the type first.
    """

    def __init__(self, default: Callable[Concatenate[type[Any], P], T]) -> None:
        """Take the implementation of every type that has none of its own."""
        self._found = singledispatch(default)
        update_wrapper(self, default)

    def register(
        self, *layer_types: type[LayerType]
    ) -> Callable[[Function[LayerType, P, T]], Function[LayerType, P, T]]:
        """Return a decorator that makes a function the implementation of these types."""

        def registered(function: Function[LayerType, P, T]) -> Function[LayerType, P, T]:
            for layer_type in layer_types:
                self._found.register(layer_type, function)
            return function

        return registered

    def __call__(self, layer_type: type[spec.Layer], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the implementation of a type."""
        return self._found.dispatch(layer_type)(layer_type, *args, **kwargs)


def of_type(table: Mapping[type[spec.Layer], T], layer_type: type[spec.Layer]) -> T:
    """Return what a table holds for the nearest base class of a type. Raises ``KeyError``: none."""
    for base in layer_type.__mro__:
        if base in table:
            return table[base]
    raise KeyError(layer_type.__name__)
