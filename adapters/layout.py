"""Arrays between the suite and a backend: the order of the axes, and what an array may be.

The suite's arrays are channels-last. Those of a backend are in its own layout.
"""

from __future__ import annotations

import numpy as np

from cnnformance.adapters.backend import Array, Layout
from cnnformance.adapters.exceptions import AdapterError
from cnnformance.spec import layers as spec


def gives_images(model: spec.Model) -> bool:
    """Whether the output of a model has the layout of images."""
    joined = any(isinstance(layer, spec.Flatten | spec.Dense) for layer in model)
    return spec.takes_images(model) and not joined


def native(x: Array, layout: Layout, *, image: bool) -> Array:
    """Return an array of the suite in a backend's layout; an image's axes are moved."""
    if image and layout == "channels_first" and x.ndim >= 3:
        return np.moveaxis(x, -1, 1)
    return x


def canonical(y: Array, layout: Layout, *, image: bool) -> Array:
    """Return an array of a backend in the suite's layout and the machine's byte order.

    Raises:
        AdapterError: it holds no numbers.
    """
    hidden = np.count_nonzero(np.ma.getmaskarray(y)) if np.ma.isMaskedArray(y) else 0
    if hidden:
        raise AdapterError(f"{hidden} of {y.size} elements of the array are masked")
    y = np.asarray(y)  # no subclass: its operators may mean something else
    if y.dtype.kind not in "biufc" and y.dtype.name != "bfloat16":
        raise AdapterError(f"the backend returned an array of dtype {y.dtype}")
    if not y.dtype.isnative:
        y = y.astype(y.dtype.newbyteorder("="))
    if image and layout == "channels_first" and y.ndim >= 3:
        return np.moveaxis(y, 1, -1)
    return y


def native_shape(shape: spec.Shape, layout: Layout, *, image: bool) -> spec.Shape:
    """Return a shape of the suite in a backend's layout."""
    if image and layout == "channels_first" and len(shape) >= 3:
        return (shape[0], shape[-1], *shape[1:-1])
    return shape


def canonical_shape(shape: spec.Shape, layout: Layout, *, image: bool) -> spec.Shape:
    """Return a shape in a backend's layout as one of the suite."""
    if image and layout == "channels_first" and len(shape) >= 3:
        return (shape[0], *shape[2:], shape[1])
    return shape
