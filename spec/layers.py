"""The layer types: frozen, framework-neutral descriptions of what a layer computes.

Arrays are channels-last, ``(batch, *spatial, channels)``. The rank of a windowed layer is the
length of its window, so one type serves 1, 2 and 3 spatial dimensions. A *model* is a sequence
of layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

Pads = tuple[tuple[int, int], ...]
"""Explicit padding: (before, after) for each spatial axis."""

Padding = str | Pads
"""``"same"`` (extra cell after), ``"same_lower"`` (extra cell before), or explicit pads."""

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

SAME = ("same", "same_lower")


class LayerError(ValueError):
    """A layer description that no framework could honour; the message names field and value."""


def _need(layer: Layer, field: str, holds: bool, rule: str) -> None:
    if not holds:
        name, value = type(layer).__name__, getattr(layer, field)
        message = f"{name}.{field} = {value!r}: {rule}"
        raise LayerError(message)


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _positives(value: object, rank: int) -> bool:
    return isinstance(value, tuple) and len(value) == rank and all(_positive(v) for v in value)


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


TYPES: dict[str, type[Layer]] = {}
"""Every concrete layer type by its name: those that are registered."""

Kind = TypeVar("Kind", bound=type[Layer])


def register(kind: Kind) -> Kind:
    """Make a layer type one of ``TYPES``, and so one that is asked."""
    TYPES[kind.__name__] = kind
    return kind


@contextmanager
def registered(*kinds: type[Layer]) -> Iterator[None]:
    """Have these layer types among ``TYPES`` inside the context."""
    before = dict(TYPES)
    try:
        for kind in kinds:
            register(kind)
        yield
    finally:
        TYPES.clear()
        TYPES.update(before)


@dataclass(frozen=True)
class Windowed(Layer):
    """A layer that slides a window over the spatial axes.

    ``stride`` defaults to the window for poolings and to 1 for convolution; ``padding`` to none
    (``"valid"`` is accepted and means the same); ``dilation`` to 1.
    """

    window: Shape
    stride: Shape = ()
    padding: Padding = ()
    dilation: Shape = ()
    takes_images: ClassVar[bool] = True

    @property
    def rank(self) -> int:
        """The number of spatial dimensions."""
        return len(self.window)

    @property
    def extent(self) -> Shape:
        """The cells that a dilated window spans per axis: ``(window - 1) * dilation + 1``."""
        return tuple((w - 1) * d + 1 for w, d in zip(self.window, self.dilation, strict=True))

    @property
    def unpadded(self) -> bool:
        """Whether the layer never adds a padding cell."""
        return self.padding == ((0, 0),) * self.rank

    def _default_stride(self) -> Shape:
        return self.window

    def _fill_defaults(self) -> None:
        if self.stride == ():
            object.__setattr__(self, "stride", self._default_stride())
        if self.dilation == ():
            object.__setattr__(self, "dilation", (1,) * self.rank)
        if self.padding in ((), "valid"):
            object.__setattr__(self, "padding", ((0, 0),) * self.rank)

    @classmethod
    def unchecked(cls, **fields: Any) -> Self:
        """Make a layer without validation; what is left out has its usual default."""
        layer = super().unchecked(**fields)
        if isinstance(layer.window, tuple):
            layer._fill_defaults()  # noqa: SLF001 - an instance of this very class
        return layer

    def __post_init__(self) -> None:
        """Fill the defaults and refuse what has no meaning."""
        window_holds = isinstance(self.window, tuple) and 1 <= len(self.window) <= 3
        _need(self, "window", window_holds, "needs a tuple of 1, 2 or 3 sizes")
        _need(self, "window", _positives(self.window, self.rank), "sizes are positive integers")
        self._fill_defaults()
        for field in ("stride", "dilation"):
            holds = _positives(getattr(self, field), self.rank)
            _need(self, field, holds, f"needs {self.rank} positive integers, one per axis")
        if isinstance(self.padding, str):
            _need(self, "padding", self.padding in SAME, f"the words are 'valid', {SAME}")
        else:
            pads_hold = len(self.padding) == self.rank and all(
                len(pair) == 2 and min(pair) >= 0 for pair in self.padding
            )
            _need(self, "padding", pads_hold, f"needs {self.rank} pairs (before, after), each >= 0")


@dataclass(frozen=True)
class Pool(Windowed):
    """A pooling over windows, channel by channel.

    With ``ceil_mode`` the number of outputs is rounded up, and a last window that would start
    inside the padding after the input is dropped (ONNX MaxPool-22, PyTorch).
    """

    ceil_mode: bool = False

    def __post_init__(self) -> None:
        """Refuse padding that a window could lie in entirely."""
        super().__post_init__()
        if not isinstance(self.padding, str):
            inside = all(max(pair) < e for pair, e in zip(self.padding, self.extent, strict=True))
            _need(self, "padding", inside, "each side is smaller than the (dilated) window")


@register
@dataclass(frozen=True)
class MaxPool(Pool):
    """The largest value of each window; padding never wins."""

    exact: ClassVar[bool] = True
    compares: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class AveragePool(Pool):
    """The mean of each window.

    The divisor counts the cells of the window that lie in the input and, with
    ``count_include_pad``, those in the padding; never cells beyond the padding, into which a
    last window of ``ceil_mode`` may hang over.
    """

    count_include_pad: bool = False
    linear: ClassVar[bool] = True
    averages: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class MinPool(Pool):
    """The smallest value of each window; padding never wins."""

    exact: ClassVar[bool] = True
    compares: ClassVar[bool] = True
    least: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class LpPool(Pool):
    """The p-norm of each window, ``sum(|x|**p) ** (1/p)``; padding adds nothing. L2 is ``p=2``."""

    p: int = 2

    def __post_init__(self) -> None:
        """Refuse an order below 1."""
        super().__post_init__()
        _need(self, "p", _positive(self.p), "the order of the norm is a positive integer")


@register
@dataclass(frozen=True)
class StochasticPool(Windowed):
    """Stochastic pooling of non-negative activations (Zeiler & Fergus 2013).

    In training one element of each window is drawn with probability proportional to its value;
    in evaluation the result is the probability-weighted average ``sum(x**2) / sum(x)``. A window
    of zeros gives 0. Padding and dilation are not used.
    """

    training: bool = False
    draws: ClassVar[bool] = True


@dataclass(frozen=True)
class Global(Layer):
    """A pooling over all spatial axes: ``(batch, *spatial, channels)`` to ``(batch, channels)``."""

    rank: int = 2
    takes_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse a rank other than 1, 2 or 3."""
        _need(self, "rank", self.rank in (1, 2, 3), "the number of spatial axes is 1, 2 or 3")


@register
@dataclass(frozen=True)
class GlobalAveragePool(Global):
    """The mean of each feature map."""

    linear: ClassVar[bool] = True
    averages: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class GlobalMaxPool(Global):
    """The largest value of each feature map."""

    exact: ClassVar[bool] = True
    compares: ClassVar[bool] = True


@dataclass(frozen=True)
class Adaptive(Layer):
    """A pooling to a given output size.

    Output cell ``i`` of ``M`` over an axis of length ``N`` covers the input cells from
    ``floor(i * N / M)`` up to, and without, ``ceil((i + 1) * N / M)`` (PyTorch).
    """

    output: Shape
    takes_images: ClassVar[bool] = True

    @property
    def rank(self) -> int:
        """The number of spatial dimensions."""
        return len(self.output)

    def __post_init__(self) -> None:
        """Refuse an output without 1, 2 or 3 positive sizes."""
        holds = isinstance(self.output, tuple) and 1 <= len(self.output) <= 3
        _need(self, "output", holds, "needs a tuple of 1, 2 or 3 sizes")
        _need(self, "output", _positives(self.output, self.rank), "sizes are positive integers")


@register
@dataclass(frozen=True)
class AdaptiveAveragePool(Adaptive):
    """The mean of each adaptive window."""

    linear: ClassVar[bool] = True
    averages: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class AdaptiveMaxPool(Adaptive):
    """The largest value of each adaptive window."""

    exact: ClassVar[bool] = True
    compares: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class Conv(Windowed):
    """A convolution as CNNs use it: the kernel is not flipped (cross-correlation).

    Weights: ``weight`` of shape ``(*window, in_channels // groups, out_channels)`` and, with
    ``bias``, ``bias`` of shape ``(out_channels,)``. Group ``g`` reads the ``g``-th block of input
    channels and writes the ``g``-th block of output channels.
    """

    in_channels: int = 1
    out_channels: int = 1
    groups: int = 1
    bias: bool = True
    linear: ClassVar[bool] = True
    has_weights: ClassVar[bool] = True

    def weight_shapes(self) -> Shapes:
        """Return the shapes of ``weight`` and, if there is one, of ``bias``."""
        inputs = self.in_channels // self.groups
        weight = {"weight": (*self.window, inputs, self.out_channels)}
        return weight | ({"bias": (self.out_channels,)} if self.bias else {})

    def _default_stride(self) -> Shape:
        return (1,) * self.rank

    def __post_init__(self) -> None:
        """Refuse channels that the groups do not divide."""
        super().__post_init__()
        for field in ("in_channels", "out_channels", "groups"):
            _need(self, field, _positive(getattr(self, field)), "needs a positive integer")
        for field in ("in_channels", "out_channels"):
            divides = getattr(self, field) % self.groups == 0
            _need(self, field, divides, f"is not divisible by groups = {self.groups}")


@register
@dataclass(frozen=True)
class ReLU(Layer):
    """``max(x, 0)``, element by element."""

    exact: ClassVar[bool] = True
    compares: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class Flatten(Layer):
    """Join all axes from ``start`` on into one, values and their native order unchanged."""

    start: int = 1
    exact: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    reshapes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse to flatten the batch."""
        _need(self, "start", _positive(self.start), "the first joined axis is 1 or later")


@register
@dataclass(frozen=True)
class Dense(Layer):
    """``y = W x + b`` on the last axis.

    Weights: ``weight`` of shape ``(out_features, in_features)`` and, with ``bias``, ``bias`` of
    shape ``(out_features,)``.
    """

    in_features: int
    out_features: int
    bias: bool = True
    linear: ClassVar[bool] = True
    has_weights: ClassVar[bool] = True

    def weight_shapes(self) -> Shapes:
        """Return the shapes of ``weight`` and, if there is one, of ``bias``."""
        weight = {"weight": (self.out_features, self.in_features)}
        return weight | ({"bias": (self.out_features,)} if self.bias else {})

    def __post_init__(self) -> None:
        """Refuse negative sizes; zero features or units are allowed."""
        for field in ("in_features", "out_features"):
            value = getattr(self, field)
            _need(self, field, isinstance(value, int) and value >= 0, "needs an integer >= 0")


Model = Sequence[Layer]

FAMILIES: Mapping[str, Callable[[type[Layer]], bool]] = {
    "every layer": lambda _: True,
    "not drawn": lambda kind: not kind.draws,
    "without weights": lambda kind: not kind.has_weights,
    "sums": lambda kind: not (kind.exact or kind.draws),
    "selections of images": lambda kind: kind.compares and kind.takes_images,
    "windowed": lambda kind: issubclass(kind, Windowed) and not kind.draws,
    "windowed poolings": lambda kind: issubclass(kind, Windowed) and not kind.has_weights,
    "poolings with padding": lambda kind: issubclass(kind, Pool),
}
"""The families of layer types that laws are stated for, by what is general about a type."""


def family(name: str) -> list[type[Layer]]:
    """Return the registered layer types of a family, in order. Raises ``KeyError``: no family."""
    return [kind for kind in TYPES.values() if FAMILIES[name](kind)]


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
    kind = TYPES.get(data.get("type", ""))
    if kind is None:
        message = f"layer type {data.get('type')!r} is unknown; known are {', '.join(TYPES)}"
        raise LayerError(message)
    if unknown := fields.keys() - {f.name for f in dataclasses.fields(kind)}:
        message = f"{kind.__name__} has no field {', '.join(sorted(unknown))}"
        raise LayerError(message)
    if not checked:
        return kind.unchecked(**fields)
    try:
        return kind(**fields)
    except TypeError as error:
        message = f"{kind.__name__}: {error}"
        raise LayerError(message) from error
