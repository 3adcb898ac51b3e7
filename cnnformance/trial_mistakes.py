"""What makes a wrong answer: the usual mistakes of new adapters, each by what it would give."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from cnnformance.adapters.backend import Array, Layout, Weights
from cnnformance.conformance.cases import Given
from cnnformance.reference import ShapeError, forward, gradients, output_shape, parameter_count
from cnnformance.spec import layers as spec

Mistake = tuple[str, spec.Layer, Array, Weights]
"""What was done, and the layer, input and weights that give the same where it is not done."""


def _changed(layer: spec.Layer) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the options that are easily forgotten, each with what stands in their place."""
    if isinstance(layer, spec.Windowed):
        yield "the stride is left to a default: pass layer.stride on", {"stride": ()}
        ones = (1,) * layer.rank
        yield "the stride is 1: pass layer.stride on", {"stride": ones}
        yield "the stride is the window: pass layer.stride on", {"stride": layer.window}
        yield "the padding is left out: pass layer.padding on", {"padding": ()}
        yield "the dilation is left out: pass layer.dilation on", {"dilation": ones}
        turned = {name: getattr(layer, name)[::-1] for name in ("window", "stride", "dilation")}
        yield "the axes of the window are exchanged", turned
    match layer:
        case spec.AveragePool(count_include_pad=True):
            said = "the mean leaves the padding out: pass layer.count_include_pad on"
            yield said, {"count_include_pad": False}
        case spec.AveragePool():
            said = "the mean counts the padding: pass layer.count_include_pad on"
            yield said, {"count_include_pad": True}
        case spec.LpPool():
            for p in (1, 3):
                yield f"the order of the norm is {p}: pass layer.p on", {"p": p}


def _other_weights(weights: Weights) -> Iterator[tuple[str, Weights]]:
    """Yield the weights as they are if their axes were not brought to the framework's order."""
    kernel = weights.get("weight")
    if kernel is None:
        return
    if "bias" in weights:
        yield "the bias is left out", {**weights, "bias": np.zeros_like(weights["bias"])}
    if kernel.ndim == 2:
        yield "the weight is transposed: it comes as (out, in)", {**weights, "weight": kernel.T}
        return
    canonical = "it comes as (*window, in // groups, out), and is to be transposed, not reshaped"
    spatial = tuple(range(kernel.ndim - 2))
    yield (
        "the kernel is turned around: convolution does not flip it",
        {**weights, "weight": np.flip(kernel, spatial)},
    )
    ordered = [(*axes, *last) for axes in itertools.permutations(spatial) for last in (
        (kernel.ndim - 2, kernel.ndim - 1), (kernel.ndim - 1, kernel.ndim - 2))]  # fmt: skip
    for axes in ordered[1:]:
        said = f"the axes of the kernel are exchanged, as by transpose{axes}: {canonical}"
        yield said, {**weights, "weight": kernel.transpose(axes)}
    shape = (kernel.shape[-1], kernel.shape[-2], *kernel.shape[:-2])
    reshaped = np.moveaxis(kernel.reshape(shape), (0, 1), (-1, -2))
    yield f"the kernel is reshaped: {canonical}", {**weights, "weight": reshaped}


def _mistakes(case: Given) -> Iterator[Mistake]:
    for said, changes in _changed(case.layer):
        layer = type(case.layer).unchecked(**{**vars(case.layer), **changes})
        yield said, layer, case.x, case.weights
    for said, others in _other_weights(case.weights):
        yield said, case.layer, case.x, others


def explained(case: Given, actual: Array, layout: Layout) -> str:
    """Return the mistake whose result this is, to the digits that it has; empty: none is known."""
    for said, layer, x, weights in _mistakes(case):
        if same(actual, _forward(layer, x, weights)):
            return said
    if spec.takes_images([case.layer]):
        other = "channels_first" if layout == "channels_last" else "channels_last"
        here, there = (1, -1) if layout == "channels_last" else (-1, 1)
        misread = _forward(case.layer, np.moveaxis(case.x, here, there), case.weights)
        if misread is not None and misread.ndim > 2:
            misread = np.moveaxis(misread, there, here)
        if same(actual, misread):
            return f'the framework reads its arrays as {other}: set layout = "{other}"'
    if same(actual, case.x):
        return "the output is the input"
    return ""


def _forward(layer: spec.Layer, x: Array, weights: Weights) -> Array | None:
    try:
        return np.asarray(forward(layer, x, weights))
    except (ShapeError, spec.LayerError, ValueError, TypeError, IndexError):
        return None


def same(actual: Array, other: Array | None) -> bool:
    """Whether two arrays are equal, to about three digits: enough to tell mistakes apart."""
    if other is None or actual.shape != other.shape or actual.dtype.kind not in "fiuV":
        return False
    got, wanted = actual.astype(np.float64), other.astype(np.float64)
    return bool(np.allclose(got, wanted, rtol=4e-3, atol=1e-6, equal_nan=True))


def gradient_explained(case: Given, upstream: Array, found: Mapping[str, Array]) -> str:
    """Return the mistake that gives such gradients; empty: none is known."""
    right = gradients(case.layer, case.x, case.weights, upstream)
    for name, value in right.items():
        got = found[name]
        if same(got, value):
            continue
        for axes in itertools.permutations(range(value.ndim)):
            if same(got, value.transpose(axes)):
                return (
                    f"the gradient for {name} comes in the framework's layout {got.shape}, and is "
                    f"to be {value.shape}: it is transpose{axes} of the right one"
                )
        if same(got, value / len(case.x)):
            return f"the gradient for {name} is a mean over the batch: it is that of a sum"
        ones = np.ones_like(upstream)
        if same(got, gradients(case.layer, case.x, case.weights, ones).get(name)):
            return f"the gradient for {name} is that of sum(y), and not of sum(y * upstream)"
    return ""


def count_explained(layer: spec.Layer, count: int) -> str:
    """Return the mistake that gives such a count; empty: none is known."""
    bias = spec.weight_shapes(layer).get("bias", (0,))[0]
    right = parameter_count(layer)
    if bias and count == right - bias:
        return "the bias is not counted"
    if (
        not bias
        and count > right
        and count - right == getattr(layer, "out_channels", getattr(layer, "out_features", None))
    ):
        return "a bias is counted that the layer has not: pass layer.bias on"
    return ""


def shape_explained(layer: spec.Layer, shape: spec.Shape, stated: spec.Shape) -> str:
    """Return the mistake that gives such a static shape; empty: none is known."""
    right = output_shape(layer, shape)
    if stated == right[1:]:
        return "the batch is left out: both shapes include it"
    if sorted(stated) == sorted(right):
        return "the axes are in another order: both shapes are in the backend's layout"
    return ""
