"""The layer types: frozen, framework-neutral descriptions of what a layer computes.

Arrays are channels-last, ``(batch, *spatial, channels)``. The rank of a windowed layer is the
length of its window, so one type serves 1, 2 and 3 spatial dimensions. A *model* is a sequence
of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from cnnformance.spec.layer import (
    TYPES,
    Layer,
    LayerError,
    Model,
    Shape,
    Shapes,
    from_json,
    need,
    positive,
    positives,
    register,
    registered,
    takes_images,
    to_json,
    weight_shapes,
)

__all__ = [
    "FAMILIES",
    "SAME",
    "TYPES",
    "Adaptive",
    "AdaptiveAveragePool",
    "AdaptiveMaxPool",
    "AveragePool",
    "Conv",
    "Dense",
    "Flatten",
    "Global",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Layer",
    "LayerError",
    "LpPool",
    "MaxPool",
    "MinPool",
    "Model",
    "Padding",
    "Pads",
    "Pool",
    "ReLU",
    "Shape",
    "Shapes",
    "StochasticPool",
    "Windowed",
    "family",
    "from_json",
    "register",
    "registered",
    "takes_images",
    "to_json",
    "weight_shapes",
]

Pads = tuple[tuple[int, int], ...]
"""Explicit padding: (before, after) for each spatial axis."""

Padding = str | Pads
"""``"same"`` (extra cell after), ``"same_lower"`` (extra cell before), or explicit pads."""

SAME = ("same", "same_lower")


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
        need(self, "window", window_holds, "needs a tuple of 1, 2 or 3 sizes")
        need(self, "window", positives(self.window, self.rank), "sizes are positive integers")
        self._fill_defaults()
        for field in ("stride", "dilation"):
            holds = positives(getattr(self, field), self.rank)
            need(self, field, holds, f"needs {self.rank} positive integers, one per axis")
        if isinstance(self.padding, str):
            need(self, "padding", self.padding in SAME, f"the words are 'valid', {SAME}")
        else:
            pads_hold = len(self.padding) == self.rank and all(
                len(pair) == 2 and min(pair) >= 0 for pair in self.padding
            )
            need(self, "padding", pads_hold, f"needs {self.rank} pairs (before, after), each >= 0")


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
            need(self, "padding", inside, "each side is smaller than the (dilated) window")


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
        need(self, "p", positive(self.p), "the order of the norm is a positive integer")


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
        need(self, "rank", self.rank in (1, 2, 3), "the number of spatial axes is 1, 2 or 3")


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
        need(self, "output", holds, "needs a tuple of 1, 2 or 3 sizes")
        need(self, "output", positives(self.output, self.rank), "sizes are positive integers")


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
            need(self, field, positive(getattr(self, field)), "needs a positive integer")
        for field in ("in_channels", "out_channels"):
            divides = getattr(self, field) % self.groups == 0
            need(self, field, divides, f"is not divisible by groups = {self.groups}")


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
        need(self, "start", positive(self.start), "the first joined axis is 1 or later")


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
            need(self, field, isinstance(value, int) and value >= 0, "needs an integer >= 0")


FAMILIES: Mapping[str, Callable[[type[Layer]], bool]] = {
    "every layer": lambda _: True,
    "not drawn": lambda layer_type: not layer_type.draws,
    "without weights": lambda layer_type: not layer_type.has_weights,
    "sums": lambda layer_type: not (layer_type.exact or layer_type.draws),
    "selections of images": lambda layer_type: layer_type.compares and layer_type.takes_images,
    "windowed": lambda layer_type: issubclass(layer_type, Windowed) and not layer_type.draws,
    "windowed poolings": lambda layer_type: (
        issubclass(layer_type, Windowed) and not layer_type.has_weights
    ),
    "poolings with padding": lambda layer_type: issubclass(layer_type, Pool),
}
"""The families of layer types that laws are stated for, by what is general about a type."""


def family(name: str) -> list[type[Layer]]:
    """Return the registered layer types of a family, in order. Raises ``KeyError``: no family."""
    return [layer_type for layer_type in TYPES.values() if FAMILIES[name](layer_type)]
