"""Bounds of other algorithms than plain sums: fast convolutions and products, running means.

They are right, and off by more than any order of summation is: a result that needs one of them
gets its name as a grade. Each is open only to the layers that it exists for, and in sparse inputs
each is sharp again, which tells it from short factors (``docs/derivations.md``, sections b, c, f).
Halves are computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from cnnformance.reference.bounds import (
    Format,
    accumulator,
    format_of,
    growth,
    sums,
)
from cnnformance.reference.forward import Weights, forward
from cnnformance.reference.lp_pool import norm_growth
from cnnformance.reference.terms import cells
from cnnformance.reference.windows import Array, explicit_pads, windows
from cnnformance.spec import layers as spec


@dataclass(frozen=True)
class Tile:
    """Winograd's algorithm F(m, r) for m outputs of a kernel of r taps, on one axis.

    With A, G, B the transforms (A. Lavin, S. Gray, CVPR 2016): ``dense`` is the largest of
    ``sum_l |A[i,l] G[l,j]| sum_n |B[l,n]|`` over outputs i and taps j; ``own`` that of
    ``sum_l |A[i,l] G[l,j] B[l,n]|`` over the input n that tap j of output i reads, ``other`` over
    all inputs. ``roundings`` is how many a term meets on its way through the three.
    """

    outputs: int
    taps: int
    dense: float
    own: float
    other: float
    roundings: int


TILES = (
    Tile(2, 3, 4, 1, 2, 8),
    Tile(4, 3, 88 / 3, 5 / 3, 32 / 3, 13),
    Tile(6, 3, 356 / 9, 25 / 9, 257 / 18, 17),
    Tile(2, 5, 88 / 3, 5 / 3, 32 / 3, 15),
    Tile(4, 5, 356 / 9, 25 / 9, 257 / 18, 19),
)
"""The tiles that libraries use, by points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity."""


def winograd_tiles(layer: spec.Layer) -> tuple[Tile, ...]:
    """Return the tiles that exist for a layer: kernels of 3x3 or 5x5 and stride 1."""
    if not isinstance(layer, spec.Conv) or layer.rank != 2:
        return ()
    if layer.stride != (1, 1) or layer.dilation != (1, 1):
        return ()
    return tuple(tile for tile in TILES if layer.window == (tile.taps, tile.taps))


def _absolute(array: Array) -> Array:
    return np.abs(np.asarray(array, dtype=np.float64))


def _padded(layer: spec.Conv, x: Array) -> Array:
    pads = ((0, 0), *explicit_pads(layer, x.shape[1:-1]), (0, 0))
    return np.pad(_absolute(x), pads)


def _around(x: Array, outputs: spec.Shape, reach: int, taps: int, *, largest: bool) -> Array:
    """Return the sum, or the largest, of the cells that can share a tile with each output.

    A tile reaches ``reach`` cells before the first tap of an output and after its last.
    """
    for axis, count in enumerate(outputs, start=1):
        wide = [(0, 0)] * x.ndim
        wide[axis] = (reach, reach)
        boxes = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, wide), taps + 2 * reach, axis=axis
        )
        boxes = boxes.take(np.arange(count), axis=axis)
        x = boxes.max(axis=-1) if largest else boxes.sum(axis=-1)
    return x


def _by_group(array: Array, groups: int) -> Array:
    """Split the last axis, of channels, into groups and the channels of one."""
    return array.reshape(*array.shape[:-1], groups, array.shape[-1] // groups)


def _per_channel(layer: spec.Conv, x: Array, weight: Array) -> Array:
    """Return ``sum over the channels c of a group of x[..., c] * weight[c, out]``."""
    split = _by_group(x, layer.groups)
    joined = np.einsum("...gc,cgo->...go", split, _by_group(weight, layer.groups))
    return np.asarray(joined.reshape(*x.shape[:-1], weight.shape[-1]))


def _winograd(layer: spec.Conv, x: Array, weight: Array, inner: Format) -> Array:
    """Return the bound of the loosest Winograd tile, ``(batch, *out, out_channels)``.

    The error of an output is at most the growth times the sum over its tile of |x| |w| |A G B|:
    that of dense values follows the largest input of the tile, that of sparse ones their sum
    (section f).
    """
    padded = _padded(layer, x)
    taps = _absolute(weight).sum(axis=tuple(range(layer.rank)))
    plain = layer.replace(bias=False)
    size = forward(plain, _absolute(x), {"weight": _absolute(weight)})
    outputs = size.shape[1:-1]
    error = np.zeros_like(size)
    for tile in winograd_tiles(layer):
        reach = tile.outputs - 1
        most = _around(padded, outputs, reach, tile.taps, largest=True)
        total = _around(padded, outputs, reach, tile.taps, largest=False)
        channels = _per_channel(layer, (most > 0).astype(np.float64), (taps > 0).astype(np.float64))
        dense = tile.dense**2 * _per_channel(layer, most, taps)
        pairs = np.maximum(_per_channel(layer, total, taps) - size, 0.0)
        sparse = tile.own**2 * size + tile.other**2 * pairs
        factors = channels + 1 + 2 * tile.roundings
        error = np.maximum(error, growth(factors, inner.unit) * np.minimum(dense, sparse))
    return error


def _transformed(layer: spec.Conv, x: Array) -> float:
    """Return the roundings of a Fourier transform of the padded input, its inverse and product."""
    size = math.prod(2 * (n + e) for n, e in zip(x.shape[1:-1], layer.extent, strict=True))
    return 15 * math.log2(max(size, 2)) + 3


def _fourier(layer: spec.Conv, x: Array, weight: Array, inner: Format) -> Array:
    """Return the bound of a convolution by Fourier transforms, ``(batch, 1, ..., out_channels)``.

    ``(15 log2 N + 3) u ||x||_2 ||w||_1`` for each channel of N cells, which add up (section f).
    """
    spatial = tuple(range(1, x.ndim - 1))
    norm = np.sqrt((_absolute(x) ** 2).sum(axis=spatial, keepdims=True))
    taps = _absolute(weight).sum(axis=tuple(range(layer.rank)))
    channels = _per_channel(layer, (norm > 0).astype(np.float64), (taps > 0).astype(np.float64))
    factors = np.where(channels > 0, _transformed(layer, x) + channels + 1, 0.0)
    return np.asarray(growth(factors, inner.unit) * _per_channel(layer, norm, taps))


def _product(layer: spec.Dense, x: Array, weight: Array, inner: Format) -> Array:
    """Return the bound of a product in scaled integers, or by Strassen's rule over the batch.

    Scaled integers hold each factor to the unit of the largest of its row, and sum exactly.
    Strassen's rule, of one level, mixes pairs of rows, of features and of neurons (section f).
    """
    if not x.size or not layer.out_features:
        return np.zeros((1,) * x.ndim)
    rows, kernel = _absolute(x).reshape(-1, x.shape[-1]), _absolute(weight)
    count = (rows > 0).sum(axis=-1, keepdims=True)
    most, heaviest = rows.max(axis=-1, keepdims=True), kernel.max(axis=-1)
    error = growth(2, inner.unit) * most * np.minimum(kernel.sum(-1), count * heaviest)
    if min(len(rows), *kernel.shape) > 1:
        dense = 6.0 * (layer.in_features + 1) * float(rows.max())
        sparse = 16.0 * float(rows.sum(axis=-1).max())
        factors = min(layer.in_features / 2, 2.0 * float(count.max())) + 6
        strassen = growth(factors, inner.unit) * min(dense, sparse) * float(kernel.max())
        error = np.maximum(error, strassen)
    whole = all((np.rint(factor) == factor).all() for factor in (rows, kernel))
    if whole and 16 * layer.in_features * float(rows.max() * kernel.max()) < 1 / inner.unit:
        error = np.zeros_like(error)  # in whole numbers these are exact too
    return np.asarray(error.reshape(*x.shape[:-1], layer.out_features))


def _running_mean(layer: spec.Layer, x: Array, inner: Format) -> Array:
    """Return the bound of a mean that each term moves, ``m + (x - m) / i`` (section b)."""
    count = cells(layer, x.shape)
    harmonic = sum(1 / i for i in range(1, min(count, 1000) + 1))
    harmonic += math.log(max(count, 1000) / 1000)
    size = forward(layer, _absolute(x), {})
    roundings = count + 3 + 2 * harmonic
    more = 1 + growth(roundings + harmonic, inner.unit)
    return np.asarray(roundings * inner.unit * more * size)


def _running_norm(layer: spec.LpPool, x: Array, inner: Format) -> Array:
    """Return the bound of folded ``hypot``, of scaled norms, of ``S / sqrt(S)`` (section c)."""
    found = sums(layer, x, {})
    folded = growth(2 * np.maximum(found.count - 1, 0), inner.unit) if layer.p == 2 else 0.0
    scaled = norm_growth(layer.p, found.count + layer.p, inner.unit, found.value, layer.window)
    more = growth(3, inner.unit)
    return np.asarray(np.maximum(folded, scaled + more + scaled * more) * found.value)


def _by_logarithms(layer: spec.LpPool, x: Array, inner: Format) -> Array:
    """Return the bound of ``exp(p log x)``, with functions right to one unit (section c)."""
    found = sums(layer, x, {})
    values, _ = windows(layer, _absolute(x), 0.0)
    u, p = inner.unit, layer.p
    with np.errstate(all="ignore"):
        logarithm = np.abs(np.log(np.where(values > 0, values, 1.0)))
        powers = np.expm1(3 * u * p * logarithm) + 3 * u
        shares = (values / found.value[..., None, :]) ** p
        off = np.nan_to_num((shares * powers).sum(axis=-2))
        total = off + growth(found.count, u) * (1 + off)
        root = np.abs(np.log(np.where(found.value > 0, found.value, 1.0)))
        relative = (1 + total / p) * (1 + np.expm1(4 * u * root)) * (1 + 3 * u) - 1
    return np.asarray(relative * found.value)


@singledispatch
def alternatives(layer: spec.Layer, x: Array, _weights: Weights) -> Iterator[tuple[str, Array]]:
    """Yield the other algorithms of a layer: the grade, and the error beyond that of the sum.

    Each error broadcasts to the output's shape.
    """
    if layer.averages:
        yield "running", _running_mean(layer, x, _inner(x))


@alternatives.register
def _of_convolution(layer: spec.Conv, x: Array, weights: Weights) -> Iterator[tuple[str, Array]]:
    weight, tiny = weights["weight"], format_of(x.dtype.name).tiny
    if winograd_tiles(layer):
        yield "Winograd", _winograd(layer, x, weight, _inner(x))
    yield "Fourier", _fourier(layer, x, weight, _inner(x)) + _transformed(layer, x) * tiny


@alternatives.register
def _of_dense(layer: spec.Dense, x: Array, weights: Weights) -> Iterator[tuple[str, Array]]:
    yield "normwise", _product(layer, x, weights["weight"], _inner(x))


@alternatives.register
def _of_norm(layer: spec.LpPool, x: Array, _weights: Weights) -> Iterator[tuple[str, Array]]:
    yield "running", _running_norm(layer, x, _inner(x))
    yield "logarithm", _by_logarithms(layer, x, _inner(x))


def _inner(x: Array) -> Format:
    return accumulator(format_of(x.dtype.name))


def normwise(layer: spec.Layer, x: Array, weights: Weights) -> Array:
    """Return the largest of the errors of a layer's other algorithms; 0 where it has none."""
    with np.errstate(all="ignore"):
        errors = [error for _, error in alternatives(layer, x, weights)]
    if not errors:
        return np.zeros((1,) * x.ndim)
    return np.asarray(np.maximum.reduce(np.broadcast_arrays(*errors)))


def _adjoint(
    layer: spec.Conv, sizes: spec.Shape, weight: Array, upstream: Array
) -> tuple[spec.Conv, Array, Array]:
    """Return the convolution of stride 1 that maps upstream gradients to inputs: layer, x, kernel.

    Upstream cells whose windows lie wholly in padding are left out.
    """
    pads = explicit_pads(layer, sizes)
    around: list[tuple[int, int]] = []
    cut: list[slice] = [slice(None)]
    for window, pair, count in zip(layer.window, pads, upstream.shape[1:-1], strict=True):
        before, after = (window - 1 - pad for pad in pair)
        around.append((max(before, 0), max(after, 0)))
        cut.append(slice(max(-before, 0), count - max(-after, 0)))
    turned = spec.Conv(
        layer.window,
        padding=tuple(around),
        in_channels=layer.out_channels,
        out_channels=layer.in_channels,
        groups=layer.groups,
        bias=False,
    )
    flipped = np.flip(np.asarray(weight), axis=tuple(range(layer.rank)))
    split = _by_group(flipped, layer.groups)
    kernel = split.swapaxes(-3, -1)  # (..., out / groups, groups, in / groups)
    kernel = kernel.reshape(*layer.window, kernel.shape[-3], layer.in_channels)
    return turned, upstream[tuple(cut)], kernel


def _winograd_weight(
    tiles: tuple[Tile, ...], given: Array, sent: Array, used: Callable[..., Array], inner: Format
) -> Array:
    """Return the bound of a weight's gradient by Winograd's rule, ``(in / groups, out)``."""
    spatial = tuple(range(1, given.ndim - 1))
    most = given.max(axis=spatial, initial=0.0)
    total, sum_sent = given.sum(axis=spatial), sent.sum(axis=spatial)
    pairs = np.minimum(
        used((given > 0).sum(axis=spatial), np.ones_like(sum_sent)),
        used(np.ones_like(total), (sent > 0).sum(axis=spatial)),
    )
    error = np.zeros_like(pairs)
    for tile in tiles:
        dense = tile.dense**2 * used(most, sum_sent)
        sparse = tile.other**2 * used(total, sum_sent)
        factors = pairs + 2 * tile.roundings + 1
        error = np.maximum(error, growth(factors, inner.unit) * np.minimum(dense, sparse))
    return error


def fast_gradients(
    layer: spec.Layer, x: Array, weights: Weights, upstream: Array
) -> dict[str, Array]:
    """Return the bounds that Fourier and Winograd kernels keep in the backward pass.

    The gradient for the input is a convolution of the upstream gradient with the kernel, and that
    for the weight one of the input with the upstream gradient, summed over the batch (section f).
    Each broadcasts to its gradient's shape; there is none of another layer than a convolution.
    """
    if not isinstance(layer, spec.Conv):
        return {}
    inner = _inner(x)
    spatial = tuple(range(1, x.ndim - 1))
    given, sent = _absolute(x), _absolute(upstream)
    taps = _absolute(weights["weight"]).sum(axis=tuple(range(layer.rank)))  # (in / groups, out)
    groups, tiles = layer.groups, winograd_tiles(layer)
    flipped = _by_group(taps, groups)

    def passed(size: Array) -> Array:
        """Return what arrives at each input channel of the sizes of the outputs' gradients."""
        joined = np.einsum("...go,cgo->...gc", _by_group(size, groups), flipped)
        return np.asarray(joined.reshape(*size.shape[:-1], x.shape[-1]))

    def used(ours: Array, theirs: Array) -> Array:
        """Return what each pair of channels of a weight gets, summed over the batch."""
        split = _by_group(ours, groups), _by_group(theirs, groups)
        return np.asarray(np.einsum("bgc,bgo->cgo", *split).reshape(taps.shape))

    def norm(a: Array) -> Array:
        return np.asarray(np.sqrt((a**2).sum(axis=spatial, keepdims=True)))

    roundings = _transformed(layer, x)
    sum_sent = sent.sum(axis=spatial)
    to_input = growth(roundings + layer.out_channels, inner.unit) * passed(norm(sent))
    norms = norm(given).reshape(len(x), x.shape[-1])
    to_weight = growth(roundings + len(x), inner.unit) * used(norms, sum_sent)
    if tiles:
        turned = _adjoint(layer, x.shape[1:-1], weights["weight"], upstream)
        to_input = np.maximum(to_input, _winograd(*turned, inner))
        to_weight = np.maximum(to_weight, _winograd_weight(tiles, given, sent, used, inner))
    lost = (roundings + layer.out_channels + len(x)) * format_of(x.dtype.name).tiny
    return {"input": to_input + lost, "weight": to_weight + lost}
