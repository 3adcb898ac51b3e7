"""Convolution as CNNs use it, the kernel not flipped (ONNX Conv-22, PyTorch Conv2d).

Each window becomes a row of cells by input channels, so that a block of windows meets the kernel
in one matrix product per group.
"""

from __future__ import annotations

import math

import numpy as np

from cnnformance.reference.forward import compute
from cnnformance.reference.gradient_bounds import reads
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.shapes import image_shape, output_shape
from cnnformance.reference.terms import terms
from cnnformance.reference.windows import (
    Array,
    ShapeError,
    grid,
    over_windows,
    scatter_rows,
    window_blocks,
)
from cnnformance.spec.layers import Conv, Shape


@output_shape.register
def conv_shape(layer: Conv, input_shape: Shape) -> Shape:
    """Return the shape with the output's channels; raises ``ShapeError`` for other inputs."""
    shape = image_shape(layer, input_shape)
    if shape[-1] != layer.in_channels:
        raise ShapeError(f"{layer}: the input has {shape[-1]} channels")
    return (*shape[:-1], layer.out_channels)


@terms.register
def conv_terms(layer: Conv, _shape: Shape) -> int:
    """Return the number of products, and one for the bias."""
    return math.prod(layer.window) * (layer.in_channels // layer.groups) + layer.bias


@reads.register
def conv_reads(layer: Conv, _shape: Shape) -> int:
    """Return how many products an element of the input takes part in, at the most."""
    return math.prod(layer.window) * (layer.out_channels // layer.groups)


def _by_group(array: Array, groups: int) -> Array:
    """Turn ``(..., rows, channels)`` into ``(groups, all rows, channels of a group)``."""
    channels = array.shape[-1] // groups
    rows = array.size // (groups * channels) if array.size else 0
    return array.reshape(rows, groups, channels).swapaxes(0, 1)


def _rows(block: Array, groups: int) -> Array:
    """Turn windows into ``(groups, windows, cells * channels)``."""
    batch, outputs, cells, channels = block.shape
    split = block.reshape(batch * outputs, cells, groups, channels // groups)
    return split.transpose(2, 0, 1, 3).reshape(
        groups, batch * outputs, cells * (channels // groups)
    )


def _kernels(layer: Conv, weight: Array) -> Array:
    """Return the kernels as ``(groups, cells * inputs of a group, outputs of a group)``."""
    return _by_group(weight.astype(np.float64, copy=False), layer.groups)


@compute.register
def conv(layer: Conv, x: Array, *, weight: Array, bias: Array | None = None) -> Array:
    """Return ``sum(x[i + u] * w[u])`` over window and input channels, plus the bias."""
    kernels = _kernels(layer, weight)

    def product(block: Array) -> Array:
        sums = _rows(block, layer.groups) @ kernels
        return sums.swapaxes(0, 1).reshape(*block.shape[:2], layer.out_channels)

    sums = over_windows(layer, x.astype(np.float64, copy=False), 0.0, product)
    return sums if bias is None else sums + bias


@differentiate.register
def conv_gradients(
    layer: Conv, x: Array, upstream: Array, *, weight: Array, bias: Array | None = None
) -> Gradients:
    """Return the gradients of input, weight and bias."""
    batch, channels = len(x), x.shape[-1]
    at = grid(layer, x.shape[1:-1])
    x = x.astype(np.float64, copy=False)
    kernels = _kernels(layer, weight)
    to_kernels = np.zeros_like(kernels)
    to_input = np.zeros((batch, at.size + 1, channels))
    flat = upstream.reshape(batch, len(at.cells), layer.out_channels)
    for rows, block in window_blocks(layer, x, 0.0):
        arriving = _by_group(flat[:, rows], layer.groups)
        to_kernels += _rows(block, layer.groups).swapaxes(1, 2) @ arriving
        split = (arriving @ kernels.swapaxes(1, 2)).reshape(
            layer.groups, *block.shape[:3], channels // layer.groups
        )
        scatter_rows(at, rows, to_input, split.transpose(1, 2, 3, 0, 4).reshape(block.shape))
    found = {
        "input": to_input[:, : at.size].reshape(x.shape),
        "weight": to_kernels.swapaxes(0, 1).reshape(weight.shape),
    }
    if bias is not None:
        found["bias"] = upstream.sum(axis=tuple(range(upstream.ndim - 1)))
    return found
