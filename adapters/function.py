"""A function as a backend: ``pool(x, layer)`` or ``dense(x, layer, weights)``, and no class.

The function gets canonical arrays (or those of its ``layout``), a layer that is valid and of a type
that it was named for, and the weights by name, all of shapes that fit; it returns the output. What
it has not, it declines with ``Unsupported`` or ``NotImplementedError``.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from cnnformance.adapters.backend import Array, Backend, Layout, Unsupported, Weights
from cnnformance.spec.layers import TYPES, Conv, Dense, Flatten, Layer, LayerError

Kinds = Any
"""A layer type, a union of some, a base such as ``Pool`` (all of it), or a sequence of these."""


class NoLayerType(ValueError):  # noqa: N818 - what is missing
    """What was given names no layer type; the message says what would."""


class Function(Backend):
    """A backend of one function; ``of`` makes it."""

    function: ClassVar[Callable[..., Any]]
    kinds: ClassVar[tuple[type[Layer], ...]]
    takes_weights: ClassVar[bool | None]
    """Whether it has a third parameter; None: it does not say, and gets the weights that exist."""

    def version(self) -> str:
        """Return the version of the package that the function is of, where it has one."""
        package = sys.modules.get(_name_of(self.function, "__module__").partition(".")[0])
        return str(getattr(package, "__version__", "unknown"))

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Whether the function is asked for such a layer, and with this dtype."""
        return isinstance(layer, self.kinds) and super().supports(layer, dtype)

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        """Return the call of the function with this layer.

        Raises:
            Unsupported: the layer is of another type, or one that cannot be made.
        """
        if not isinstance(layer, self.kinds):
            raise Unsupported(f"the function is not for {type(layer).__name__}")
        try:
            layer = layer.replace()
        except LayerError as error:
            raise Unsupported(f"no function is given such a layer: {error}") from error
        more = [weights] if self._weighted(layer) else []

        def call(x: Array) -> Any:
            if x.dtype.name not in self.dtypes:
                raise Unsupported(f"the function is not asked for {x.dtype}")
            if unfit := self._unfit(layer, x, weights):
                raise Unsupported(f"no function is given {unfit}")
            try:
                return self.function(x, layer, *more)
            except NotImplementedError as error:
                raise Unsupported(str(error) or f"it is not implemented for {layer}") from error
            except SystemExit as error:
                raise RuntimeError("the function called sys.exit") from error

        return call

    def _unfit(self, layer: Layer, x: Array, weights: Weights) -> str:
        """Return what of an input or of weights no such layer takes; empty: nothing.

        Kernels trust their caller, which checks what it hands on.
        """
        sizes = dict(layer.weight_shapes())
        if layer.takes_images and x.ndim != (axes := getattr(layer, "rank", x.ndim - 2) + 2):
            return f"an input of {x.ndim} axes for {axes}"
        if isinstance(layer, Flatten) and layer.start >= x.ndim:
            return f"an input of {x.ndim} axes, and none after the first {layer.start}"
        channels = x.shape[1 if self.layout == "channels_first" and layer.takes_images else -1]
        if isinstance(layer, Conv | Dense):
            expected = layer.in_channels if isinstance(layer, Conv) else layer.in_features
            if channels != expected:
                return f"an input of {channels} channels or features for {expected}"
        if sizes != {name: array.shape for name, array in weights.items()}:
            return f"weights of other shapes than {sizes}"
        return ""

    def _weighted(self, layer: Layer) -> bool:
        return layer.has_weights if self.takes_weights is None else self.takes_weights

    def script(self, layer: Layer, x: Array) -> str:
        """Return the call of the function, imported from where it stands if it can be."""
        del x
        more = ", weights" if self._weighted(layer) else ""
        lines = [
            *_imported(self.function),
            f"from cnnformance.spec.layers import {type(layer).__name__}",
            "",
            f"y = np.asarray({_name_of(self.function)}(x, {layer!r}{more}))",
        ]
        return "\n".join(lines)


def of(
    function: Callable[..., Any],
    kinds: Kinds = None,
    *,
    dtypes: Sequence[str] | None = None,
    layout: Layout | None = None,
) -> type[Function]:
    """Return the backend class of a function.

    What is left out is read off the function: ``kinds`` off the annotation of its second
    parameter, ``dtypes`` and ``layout`` off attributes of these names; else a ``Backend``'s own.

    Raises:
        NoLayerType: it is no function of arrays; or its annotation, or ``kinds``, names no layer
            type.
    """
    if not callable(function) or isinstance(function, type):
        raise NoLayerType(f"{function!r:.80} is no function")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise NoLayerType(f"{_name_of(function)} returns a coroutine or a generator, and no array")
    name = _name_of(function)
    claimed: Sequence[str] = getattr(function, "dtypes", Backend.dtypes)
    return type(name, (Function,), {
        "function": staticmethod(function),
        "kinds": annotated(function) if kinds is None else concrete(kinds),
        "takes_weights": _takes_weights(function),
        "dtypes": tuple(claimed if dtypes is None else dtypes),
        "layout": layout or getattr(function, "layout", Backend.layout),
        "__module__": __name__,
    })  # fmt: skip


def _name_of(function: Callable[..., Any], attribute: str = "__name__") -> str:
    """Return a function's name, or its module's; of another callable, its type's.

    What is no name, such as that of a lambda, becomes one.
    """
    name = str(getattr(function, attribute, getattr(type(function), attribute)))
    return re.sub(r"[^\w.]", "_", name)


def concrete(kinds: Kinds) -> tuple[type[Layer], ...]:
    """Return the layer types that are meant, in the order of the spec.

    Raises:
        NoLayerType: something else is named, or nothing.
    """
    named = list(_named(kinds))
    for each in named:
        if not (isinstance(each, type) and issubclass(each, Layer)):
            raise NoLayerType(f"{each!r} is no layer type; they are {', '.join(TYPES)}")
    found = tuple(k for k in TYPES.values() if any(issubclass(k, each) for each in named))
    if not found:
        raise NoLayerType(f"no layer type is named; they are {', '.join(TYPES)}")
    return found


def _named(kinds: Kinds) -> Iterable[Any]:
    if isinstance(kinds, list | tuple | set | frozenset):
        return [each for kind in kinds for each in _named(kind)]
    origin: Any = typing.get_origin(kinds)
    if origin in (typing.Union, types.UnionType):
        return _named(typing.get_args(kinds))
    return [kinds]


def annotated(function: Callable[..., Any]) -> tuple[type[Layer], ...]:
    """Return the layer types that the annotation of a function's second parameter names.

    Raises:
        NoLayerType: there is no such parameter, or its annotation names none.
    """
    name = _name_of(function)
    remedy = f"write def {name}(x, layer: MaxPool), with the type, or a union of them, that it is"
    positional = _positional(function)
    if len(positional) < 2:
        raise NoLayerType(f"{name} takes no layer: {remedy} for")
    annotation = positional[1].annotation
    if annotation is inspect.Parameter.empty:
        raise NoLayerType(f"the layer of {name} has no annotation: {remedy} for")
    holder = types.SimpleNamespace(__annotations__={"layer": annotation})
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        hint = typing.get_type_hints(holder, globalns=names)["layer"]
    except (NameError, AttributeError):  # imported for type checkers alone: its words say it
        hint = [TYPES[w] for w in re.findall(r"\w+", str(annotation)) if w in TYPES]
    except (TypeError, SyntaxError) as error:
        raise NoLayerType(f"the annotation {annotation!r} of {name}: {error}: {remedy}") from error
    try:
        return concrete(hint)
    except NoLayerType as error:
        raise NoLayerType(f"the layer of {name}: {error}") from error


def _positional(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that can be given by place; none where it has no signature."""
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [each for each in parameters if each.kind in by_place]


def _takes_weights(function: Callable[..., Any]) -> bool | None:
    positional = _positional(function)
    return len(positional) > 2 if positional else None


def _imported(function: Callable[..., Any]) -> list[str]:
    """Return the lines that import a function, or say that none can."""
    name, module = _name_of(function), _name_of(function, "__module__")
    if getattr(sys.modules.get(module), name, None) is not function:
        return [f"# {name} is the function that was checked: define it here"]
    place = getattr(sys.modules[module], "__file__", None)
    top = module.partition(".")[0]
    if place and (top == "__main__" or top.startswith("cnnformance_adapter_")):
        return [
            "import runpy",
            f"{name} = runpy.run_path({str(Path(place).resolve())!r})[{name!r}]",
        ]
    return [f"from {module} import {name}"]
