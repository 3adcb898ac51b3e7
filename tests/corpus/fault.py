"""How a faulty backend is declared: a layer, an edit of the honest kernels, and a witness.

An *edit* makes a subclass of ``Honest`` that goes wrong in layers of one type. A *witness* asks a
backend something small; the answers of the faulty and of the honest backend differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from cnnformance.adapters.backend import Array, Backend, Weights
from cnnformance.spec import layers as spec
from cnnformance.spec.layers import Layer, Shape
from corpus.kernels import FLOATS, Honest

Level = Literal["document", "semantics", "precision", "gradient", "memory", "refusal"]
Witness = Callable[[Backend], Any]
Edit = Callable[[type[Layer]], type[Honest]]


@dataclass(frozen=True)
class Fault:
    """One realistic fault.

    Attributes:
        id: ``layer.fault``, unique.
        layer: the layer type that is wrong.
        fault_class: the family of faults that it belongs to.
        level: ``document`` if it shows in plain layers (a window and a stride, nothing else), in
            their outputs, shapes or counts; else what has to be asked for it to show.
        make: returns the backend.
        witness: asks what shows it.
    """

    id: str
    layer: str
    fault_class: str
    level: Level
    make: Callable[[], type[Honest]]
    witness: Witness


class Faults(dict[str, Fault]):
    """Faults by id."""

    def __init__(self, fault_class: str = "") -> None:
        super().__init__()
        self.fault_class = fault_class

    def add(  # noqa: PLR0917 - a row of a table
        self,
        kind: type[Layer],
        name: str,
        edit: Edit,
        witness: Witness,
        level: Level = "document",
        fault_class: str = "",
    ) -> None:
        """Declare a fault; the class is called after the layer and the name."""
        backend = edit(kind)
        words = re.split(r"\W+", f"{kind.__name__}-{name}")
        backend.__name__ = backend.__qualname__ = "".join(w[0].upper() + w[1:] for w in words)
        backend.__doc__ = f"{kind.__name__}: {name.replace('-', ' ')}."
        key = f"{kind.__name__}.{name}"
        if key in self:
            raise ValueError(f"two faults are called {key}")
        family = fault_class or self.fault_class
        self[key] = Fault(key, kind.__name__, family, level, lambda: backend, witness)


# Edits


def hook(**changes: Callable[..., Any]) -> Edit:
    """Change methods of ``Honest``: each change gets the honest method, then its arguments."""

    def edit(kind: type[Layer]) -> type[Honest]:
        methods = {name: _hooked(name, change, kind) for name, change in changes.items()}
        return type("Faulty", (Honest,), methods)

    return edit


def _hooked(name: str, change: Callable[..., Any], kind: type[Layer]) -> Callable[..., Any]:
    original = getattr(Honest, name)

    def method(self: Honest, *args: Any) -> Any:
        honest = partial(original, self)
        return change(honest, *args) if isinstance(self.layer, kind) else honest(*args)

    return method


def reads(change: Callable[[Any], Layer]) -> Edit:
    """Misread the layer's description, in all that is asked about it."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def understood(self, layer: Layer) -> Layer:
                return change(layer) if isinstance(layer, kind) else layer

        return Faulty

    return edit


Call = Callable[[Layer, Weights, Array], Array]


def computes(change: Callable[[Call, Any, dict[str, Array], Array], Array]) -> Edit:
    """Change the forward pass; ``change`` gets the honest one, the layer, its weights and ``x``."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def forward(self, layer: Layer, weights: Weights, x: Array) -> Array:
                honest = super().forward
                if not isinstance(layer, kind):
                    return honest(layer, weights, x)
                return change(honest, layer, dict(weights), x)

        return Faulty

    return edit


def output(change: Callable[[Array], Array]) -> Edit:
    """Change the result; it keeps its dtype."""
    return computes(
        lambda honest, layer, weights, x: change(y := honest(layer, weights, x)).astype(y.dtype)
    )


def inputs(change: Callable[[Array], Array]) -> Edit:
    """Change the input; it keeps its dtype."""
    return computes(
        lambda honest, layer, weights, x: honest(layer, weights, change(x).astype(x.dtype))
    )


def weighs(**changes: Callable[[Array], Array]) -> Edit:
    """Change the weights, by name; they keep their dtype."""

    def change(honest: Call, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
        for name, alter in changes.items():
            if name in weights:
                weights[name] = alter(weights[name]).astype(x.dtype)
        return honest(layer, weights, x)

    return computes(change)


def backpropagates(change: Callable[..., dict[str, Array]]) -> Edit:
    """Change the gradients; ``change`` gets them, then the layer, weights, ``x``, upstream."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def backward(
                self, layer: Layer, weights: Weights, x: Array, upstream: Array
            ) -> dict[str, Array]:
                grads = super().backward(layer, weights, x, upstream)
                if not isinstance(layer, kind):
                    return grads
                wrong = change(dict(grads), layer, weights, x, upstream.astype(np.float64))
                return {name: wrong[name] for name in grads}

        return Faulty

    return edit


def counts(change: Callable[[int, Any], Any]) -> Edit:
    """Change the number of parameters."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def parameters(self, layer: Layer) -> int:
                count = super().parameters(layer)
                return int(change(count, layer)) if isinstance(layer, kind) else count

        return Faulty

    return edit


def tells(change: Callable[[Shape, Any, Shape], Shape]) -> Edit:
    """Change the static answer; ``change`` gets it, the layer and the input's shape."""

    def edit(kind: type[Layer]) -> type[Honest]:
        class Faulty(Honest):
            def output_shape(self, layer: Layer, shape: Shape) -> Shape:
                result = super().output_shape(layer, shape)
                return change(result, layer, shape) if isinstance(layer, kind) else result

        return Faulty

    return edit


# Inputs of witnesses


def whole(*shape: int, dtype: str = "float32", low: int = -9, high: int = 9) -> Array:
    """Return drawn integers between ``low`` and ``high`` as an array."""
    drawn = np.random.default_rng(sum(shape) + 1).integers(low, high, shape, endpoint=True)
    return drawn.astype(dtype)


def values(*items: float, dtype: str = "float32") -> Array:
    """Return one image of one axis and one channel."""
    return np.array(items).astype(dtype).reshape(1, -1, 1)


def weights_of(layer: Layer, dtype: str = "float32") -> dict[str, Array]:
    """Return drawn integer weights for a layer."""
    return {name: whole(*shape, dtype=dtype) for name, shape in spec.weight_shapes(layer).items()}


# Witnesses


def result(layer: Layer, x: Array, **weights: Array) -> Witness:
    """Ask for the output; weights that are not given are drawn integers."""
    held = {**weights_of(layer, x.dtype.name), **weights}
    return lambda backend: backend.build(layer, held)(x)


def static(layer: Layer, *shape: int) -> Witness:
    """Ask for the static output shape."""
    return lambda backend: backend.output_shape(layer, shape)


def number(layer: Layer) -> Witness:
    """Ask for the number of parameters."""
    return lambda backend: backend.parameters(layer)


def gradient(layer: Layer, x: Array, **weights: Array) -> Witness:
    """Ask for the gradients under an upstream of drawn integers."""
    held = {**weights_of(layer, x.dtype.name), **weights}

    def witness(backend: Backend) -> Any:
        y = Honest().build(layer, held)(x)
        upstream = whole(*y.shape, dtype=x.dtype.name, low=1)
        return backend.gradients(layer, held, x, upstream)

    return witness


def refused(ask: Witness) -> Witness:
    """Ask whether a question is refused with an exception."""

    def witness(backend: Backend) -> bool:
        try:
            ask(backend)
        except Exception:  # noqa: BLE001 - any exception is a refusal
            return True
        return False

    return witness


def distance(left: Any, right: Any) -> float:
    """Return how far two answers differ, relative to the larger of ``right`` and 1.

    Infinite for a difference of kind, shape, dtype, or of NaN and infinities; the smallest number
    if only the sign of a zero differs.
    """
    if isinstance(left, dict):
        return max(distance(left[key], right[key]) for key in right)
    a, b = np.asarray(left), np.asarray(right)
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    if a.dtype.name not in FLOATS:
        return 0 if np.array_equal(a, b) else math.inf
    a, b = a.astype(np.longdouble).ravel(), b.astype(np.longdouble).ravel()
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    signs = np.signbit(a[same]) != np.signbit(b[same])
    if same.all():
        return math.ulp(0) if (signs & ~np.isnan(a[same])).any() else 0
    a, b = a[~same], b[~same]
    if not (np.isfinite(a) & np.isfinite(b)).all():
        return math.inf
    return float((np.abs(a - b) / np.maximum(np.abs(b), 1)).max())
