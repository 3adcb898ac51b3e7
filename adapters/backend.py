"""The interface between the suite and a framework.

An adapter is a subclass of ``Backend``. ``build`` is all that it must have; what else the
framework offers (parameter counts, gradients, static shapes) it adds. It runs in a process of
its own, so it may crash or hang without ending the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from cnnformance.spec.layers import Layer, Shape

Array = np.ndarray[Any, np.dtype[Any]]
Weights = Mapping[str, Array]
Layout = Literal["channels_last", "channels_first"]
KernelLayout = Literal["hwio", "oihw", "ohwi", "hwoi", "iohw", "ihwo"]
"""The axes of a kernel: ``hw`` for all spatial ones, ``i`` for input channels, ``o`` for output."""
DenseLayout = Literal["oi", "io"]
"""The axes of the weight of a dense layer."""


class Unsupported(Exception):  # noqa: N818 - an answer, not an error
    """The framework has no such layer, dtype or feature. Carries the reason."""


@dataclass(frozen=True)
class Composed:
    """A callable built from several framework calls because no layer of the framework fits.

    The report tells composed layers from native ones and shows the ``note``.
    """

    call: Callable[[Any], Any]
    note: str

    def __call__(self, x: Any) -> Any:
        """Run the composition on a tensor of the framework."""
        return self.call(x)


class Backend(ABC):
    """A framework, as the suite asks it.

    Class attributes:
        layout: how the framework's layers want their arrays. The suite transposes: ``build``'s
            callable receives and returns arrays of this layout.
        kernel_layout: in which order ``build`` and ``gradients`` get a kernel, and return its
            gradient: ``hw`` for all spatial axes, ``i`` for input, ``o`` for output.
        dense_layout: likewise of the weight of a dense layer.
        dtypes: the dtypes that the framework's layers take, by NumPy name or ``bfloat16``.
        modes: further ways of running (such as ``compile``), asked for as ``NAME:MODE``.
        devices: those that it can be asked on; empty: the class itself refuses what it has not.
        deterministic: whether two equal calls give the same bits.
    """

    layout: ClassVar[Layout] = "channels_last"
    kernel_layout: ClassVar[KernelLayout] = "hwio"
    dense_layout: ClassVar[DenseLayout] = "oi"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    modes: ClassVar[tuple[str, ...]] = ()
    devices: ClassVar[tuple[str, ...]] = ()
    deterministic: ClassVar[bool] = True

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Prepare the framework. Raises ``Unsupported`` for an unknown mode or device."""
        if mode and mode not in self.modes:
            known = ", ".join(self.modes) or "none"
            message = f"{type(self).__name__} has no mode {mode!r}; it has {known}"
            raise Unsupported(message)
        if self.devices and device not in self.devices:
            known = ", ".join(self.devices)
            raise Unsupported(f"{type(self).__name__} is asked on {known}, and not on {device!r}")
        self.mode = mode
        self.device = device

    def version(self) -> str:
        """Return the framework's version, for the record."""
        return "unknown"

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Whether the framework takes arrays of this dtype in this layer."""
        return dtype in self.dtypes

    @abstractmethod
    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        """Return the framework's own layer, holding these weights, as a callable.

        ``weights`` has the arrays of ``spec.layers.weight_shapes(layer)``: the kernel of a
        convolution in the order of ``kernel_layout``, by default ``(*window, in // groups, out)``,
        the weight of a dense layer in that of ``dense_layout``, by default ``(out, in)``, and the
        bias ``(out,)``; it is empty for a layer without weights. The callable maps a tensor (what
        ``from_numpy`` returns) to a tensor (what ``to_numpy`` takes). What is made of several
        calls is returned as ``Composed``.

        Raises:
            Unsupported: the framework cannot express this layer.
        """

    def from_numpy(self, array: Array) -> Any:
        """Return the array as the framework's tensor. The array itself, unless overridden."""
        return array

    def to_numpy(self, tensor: Any) -> Array:
        """Return the framework's tensor as a NumPy array."""
        return np.asanyarray(tensor)  # a mask is not to be lost

    def seed(self, seed: int) -> None:
        """Seed the framework's random numbers, for stochastic pooling."""

    def parameters(self, layer: Layer) -> int:
        """Return how many learnable parameters the framework itself says that the layer holds."""
        raise Unsupported(f"{type(self).__name__} does not count parameters")

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """Return the framework's static answer: the output's shape for an input shape.

        Both are in the backend's ``layout`` and include the batch. Nothing is computed.
        """
        raise Unsupported(f"{type(self).__name__} has no static shapes")

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Return the gradients of ``sum(layer(x) * upstream)``.

        The keys are ``input`` (shape and layout of ``x``) and the names in ``weights`` (the
        shapes that these have).
        """
        raise Unsupported(f"{type(self).__name__} has no gradients")

    def script(self, layer: Layer, x: Array) -> str:
        """Return Python source in the framework's own calls that computes the layer.

        It reads ``x`` (a NumPy array in the backend's ``layout``) and ``weights`` (a dict of
        arrays as in ``build``), and sets ``y`` to a NumPy array; ``numpy`` is imported as ``np``,
        and of arrays of bfloat16 ``ml_dtypes``. It imports the framework, prints its version, and
        needs nothing of ours. It is for this ``x``: it may depend on its shape, dtype and memory.
        """
        raise Unsupported(f"{type(self).__name__} writes no scripts")

    def gradient_script(self, layer: Layer, x: Array, upstream: Array) -> str:
        """Return Python source in the framework's own calls that computes ``gradients``.

        As ``script``, but it also reads ``upstream`` (a NumPy array in the backend's ``layout``),
        and sets ``gradients`` to what the method of that name returns.
        """
        raise Unsupported(f"{type(self).__name__} writes no scripts of gradients")

    def count_script(self, layer: Layer) -> str:
        """Return Python source in the framework's own calls that sets ``count`` likewise.

        That is what ``parameters`` returns.
        """
        raise Unsupported(f"{type(self).__name__} writes no scripts of counts")

    def shape_script(self, layer: Layer, shape: Shape) -> str:
        """Return Python source in the framework's own calls that reads and sets ``shape`` likewise.

        Of the input it is ``shape``, and then what ``output_shape`` returns.
        """
        raise Unsupported(f"{type(self).__name__} writes no scripts of shapes")
