"""Backends that differ from the plain way of computing, and are right: none may ever be flagged.

Summation orders, accumulators and algorithms that practice knows; memory layouts; choices that the
specification leaves open; abilities that a framework may lack; and manners that disturb nobody.
"""

# ruff: noqa: ARG002 - what is not supported needs no arguments

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
import mmap
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cnnformance.adapters.backend import Array, Composed, Layout, Unsupported, Weights
from cnnformance.spec import layers as spec
from cnnformance.spec.layers import Layer, Shape

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpus.kernels import Axis, Honest, L
from corpus.winograd import transforms

# Summation


class Native(Honest):
    """Sums in the input's own dtype, halves in float32."""

    def wide(self, x: Array) -> Array:
        return x.astype(np.float32) if x.dtype.itemsize <= 2 else x


class Summing(Native):
    """Adds the terms of every inner product with ``total``."""

    def factors(self, x: Array) -> Array:
        """Return values in the dtype in which they are multiplied and added."""
        return self.wide(x)

    def inner(self, rows: Array, columns: Array) -> Array:
        rows, columns = self.factors(rows), self.factors(columns).T
        height = max(1, 2**20 // max(1, columns.size))
        parts = [np.zeros((0, len(columns)), rows.dtype)]
        for start in range(0, len(rows), height):
            terms = rows[start : start + height, None, :] * columns
            parts.append(self.total(terms) if terms.shape[-1] else terms.sum(-1))
        return np.concatenate(parts)


class SequentialSum(Summing):
    """Adds from the first term to the last."""

    def total(self, terms: Array) -> Array:
        return np.cumsum(terms, axis=-1)[..., -1]


class ReversedSum(Summing):
    """Adds from the last term to the first."""

    def total(self, terms: Array) -> Array:
        return np.cumsum(terms[..., ::-1], axis=-1)[..., -1]


class PairwiseSum(Summing):
    """Adds halves, and halves of halves."""

    def total(self, terms: Array) -> Array:
        while (n := terms.shape[-1]) > 1:
            pairs = terms[..., : n // 2] + terms[..., n // 2 : n - n % 2]
            terms = np.concatenate([pairs, terms[..., n - n % 2 :]], -1)
        return terms[..., 0]


class HalfSum(Summing):
    """Adds halves in halves; in float32 where such a sum overflows."""

    longest: ClassVar[int]
    half: np.dtype[Any]

    def forward(self, layer: Layer, weights: Weights, x: Array) -> Array:
        self.half = x.dtype
        return super().forward(layer, weights, x)

    def narrow(self, cells: int) -> bool:
        """Whether sums of so many terms are added in halves."""
        return self.half.itemsize <= 2 and cells <= self.longest

    def factors(self, x: Array) -> Array:
        return x if self.narrow(0) else self.wide(x)

    def inner(self, rows: Array, columns: Array) -> Array:
        plain = self.wide(rows) @ self.wide(columns)
        if not self.narrow(len(columns)):
            return plain
        found = super().inner(rows, columns).astype(plain.dtype)
        return np.where(np.isfinite(found), found, plain)

    def mean(self, terms: Array, divisor: Array) -> Array:
        plain = super().mean(terms, divisor)
        if not self.narrow(terms.shape[-1]):
            return plain
        found = self.total(terms.astype(self.half)).astype(plain.dtype) / divisor
        return np.where(np.isfinite(found), found, plain)


class PairwiseHalfSum(HalfSum, PairwiseSum):
    """Adds halves, and halves of halves, in half precision."""

    longest: ClassVar[int] = 2**30


class ShortHalfSum(HalfSum, SequentialSum):
    """Adds sums of up to 32 terms one by one in half precision."""

    longest: ClassVar[int] = 32


class LanesSum(Summing):
    """Adds in eight interleaved lanes, then the lanes, as vector units do."""

    def total(self, terms: Array) -> Array:
        lanes = [terms[..., lane::8] for lane in range(min(8, terms.shape[-1]))]
        partial = np.stack([np.cumsum(lane, axis=-1)[..., -1] for lane in lanes], -1)
        return np.cumsum(partial, axis=-1)[..., -1]


class BlockedSum(Summing):
    """Adds blocks of sixteen neighbours, then the blocks."""

    def total(self, terms: Array) -> Array:
        starts = np.arange(0, terms.shape[-1], 16)
        return np.cumsum(np.add.reduceat(terms, starts, axis=-1), axis=-1)[..., -1]


class AscendingSum(Summing):
    """Adds from the smallest magnitude to the largest."""

    def total(self, terms: Array) -> Array:
        order = np.abs(terms).argsort(-1)
        return np.cumsum(np.take_along_axis(terms, order, -1), axis=-1)[..., -1]


class KahanSum(Summing):
    """Adds blocks of 64 terms with compensation, and likewise the blocks."""

    def total(self, terms: Array) -> Array:
        while terms.shape[-1] > 64:
            blocks = range(0, terms.shape[-1], 64)
            terms = np.stack([self._kahan(terms[..., b : b + 64]) for b in blocks], -1)
        return self._kahan(terms)

    def _kahan(self, terms: Array) -> Array:
        total, lost = terms[..., 0], np.zeros(terms.shape[:-1], terms.dtype)
        for number in range(1, terms.shape[-1]):
            term = terms[..., number] - lost
            larger = total + term
            lost = np.where(np.isfinite(larger), (larger - total) - term, 0)
            total = larger
        return total


class FusedSum(Native):
    """Multiplies and adds with one rounding (float32 products are exact in float64)."""

    def inner(self, rows: Array, columns: Array) -> Array:
        rows, columns = self.wide(rows), self.wide(columns)
        exact = np.float64 if rows.dtype == np.float32 else np.longdouble
        total = np.zeros((len(rows), columns.shape[1]), rows.dtype)
        for number in range(len(columns)):
            product = rows[:, number, None].astype(exact) * columns[number].astype(exact)
            total = (total.astype(exact) + product).astype(rows.dtype)
        return total


class FusedLanesSum(FusedSum):
    """Multiplies and adds with one rounding in four interleaved lanes, then adds the lanes."""

    def inner(self, rows: Array, columns: Array) -> Array:
        lanes = [super(FusedLanesSum, self).inner(rows[:, n::4], columns[n::4]) for n in range(4)]
        return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])


class ShuffledSum(Summing):
    """Adds in an order that changes from call to call, as atomic additions do."""

    deterministic: ClassVar[bool] = False

    def total(self, terms: Array) -> Array:
        order = self.random.permutation(terms.shape[-1])
        return np.cumsum(terms[..., order], axis=-1)[..., -1]


# Means


class ReciprocalMean(Native):
    """Multiplies by 1/n instead of dividing by n."""

    def mean(self, terms: Array, divisor: Array) -> Array:
        return self.total(terms) * (1 / divisor).astype(terms.dtype)


class PrescaledMean(Native):
    """Divides each term before adding: the sum cannot overflow."""

    def mean(self, terms: Array, divisor: Array) -> Array:
        return self.total(terms / divisor[..., None].astype(terms.dtype))


class ConvolvedMean(Native):
    """Weighs each term by 1/window as a constant kernel does, and corrects at the border."""

    def mean(self, terms: Array, divisor: Array) -> Array:
        cells = terms.shape[-1]
        kernel = np.full(cells, 1 / cells, terms.dtype)
        return self.total(terms * kernel) * (cells / divisor).astype(terms.dtype)


class RunningMean(Honest):
    """Moves the mean towards each new term, in a wider dtype."""

    def held(self, terms: Array) -> Array:
        """Return terms in the dtype in which the mean is kept."""
        return terms.astype(np.longdouble)

    def mean(self, terms: Array, divisor: Array) -> Array:
        plain = super().mean(terms, divisor)
        if not np.isfinite(terms).all() or terms.shape[-1] > 4096:
            return plain
        terms = self.held(terms)
        mean = terms[..., 0]
        for number in range(1, terms.shape[-1]):
            mean = mean + (terms[..., number] - mean) / (number + 1)
        mean = mean * (terms.shape[-1] / divisor).astype(terms.dtype)
        return np.where(np.isfinite(mean), mean, plain)


class RunningMeanNative(RunningMean, Native):
    """Moves the mean towards each new term, in float32 for halves and float32."""

    def held(self, terms: Array) -> Array:
        return terms


class SeparableMean(Honest):
    """Averages unpadded windows axis by axis."""

    def average_pool(self, layer: Layer, weights: Weights, x: Array) -> Array:
        axes = self.axes(layer, x.shape[1:-1])
        if not all(axis.inside.all() for axis in axes):
            return super().average_pool(layer, weights, x)
        y = self.wide(x)
        for number in range(len(axes)):
            others = [Axis(np.arange(n)[:, None], n, np.ones((n, 1), bool)) for n in y.shape[1:-1]]
            others[number] = axes[number]
            width = axes[number].index.shape[1]
            terms = self.gather(y, others)
            y = self.mean(terms, np.full((1,), width))
        return self.finish(y, x.dtype)


class NaiveIntermediates(Native):
    """Lets sums and squares overflow or vanish where the result would not."""

    def mean(self, terms: Array, divisor: Array) -> Array:
        return self.total(terms) / divisor.astype(terms.dtype)

    def norm(self, terms: Array, p: int) -> Array:
        total = self.total(np.abs(terms) ** p)
        return np.sqrt(total) if p == 2 else total ** terms.dtype.type(1 / p)


# Norms


class HypotNorm(Honest):
    """Folds ``hypot`` over the window, in a wider dtype."""

    def held(self, terms: Array) -> Array:
        """Return terms in the dtype in which the norm is kept."""
        return terms.astype(np.longdouble)

    def norm(self, terms: Array, p: int) -> Array:
        if p != 2 or terms.shape[-1] > 4096 or np.isnan(terms).any():
            return super().norm(terms, p)
        return np.hypot.reduce(self.held(terms), axis=-1)


class HypotNormNative(HypotNorm, Native):
    """Folds ``hypot`` over the window, in float32 for halves and float32."""

    def held(self, terms: Array) -> Array:
        return terms


class InverseRootNorm(Native):
    """Takes a square root as the sum times the reciprocal of its root."""

    def norm(self, terms: Array, p: int) -> Array:
        if p != 2:
            return super().norm(terms, p)
        power, scaled = self.scaled(terms)
        total = self.total(scaled * scaled)
        root = total * (1 / np.sqrt(total))
        return np.ldexp(np.where((total > 0) & (total < np.inf), root, total), power)


class NormFromMean(Native):
    """Takes the norm from the mean of the powers times their number."""

    def norm(self, terms: Array, p: int) -> Array:
        power, scaled = self.scaled(terms)
        count = terms.shape[-1]
        total = self.mean(np.abs(scaled) ** p, np.full((1,), count)) * terms.dtype.type(count)
        return np.ldexp(np.sqrt(total) if p == 2 else total ** terms.dtype.type(1 / p), power)


class PowerNorm(Honest):
    """Takes every root by ``pow``."""

    def norm(self, terms: Array, p: int) -> Array:
        power, scaled = self.scaled(terms)
        return np.ldexp(np.power(self.total(np.power(np.abs(scaled), p)), 1 / p), power)


class QuotientNormGradient(Native):
    """Takes the gradient of the 2-norm as x / y."""

    def norm_gradient(self, terms: Array, p: int) -> Array:
        if p != 2:
            return super().norm_gradient(terms, p)
        norm = self.norm(terms, p)[..., None]
        return terms / np.where(norm == 0, 1, norm)


class PowerNormGradient(Native):
    """Takes the gradient of a norm as x |x|**(p - 2) y**(1 - p)."""

    def norm_gradient(self, terms: Array, p: int) -> Array:
        if p == 1:
            return super().norm_gradient(terms, p)
        _power, scaled = self.scaled(terms)
        norm = self.norm(scaled, p)[..., None]
        norm = np.where(norm == 0, 1, norm)
        return scaled * np.abs(scaled) ** (p - 2) * norm ** (1 - p)


class ChainedNormGradient(Native):
    """Differentiates power, sum and root one after another, as automatic differentiation does."""

    def norm_gradient(self, terms: Array, p: int) -> Array:
        _power, scaled = self.scaled(terms)
        total = self.total(np.abs(scaled) ** p)[..., None]
        total = np.where(total == 0, 1, total)
        root = total ** terms.dtype.type(1 / p - 1) / p
        return np.sign(scaled) * (root * (p * np.abs(scaled) ** (p - 1)))


class ExponentNorm(Native):
    """Takes powers and roots by logarithms to the base 2, as shaders do."""

    def norm(self, terms: Array, p: int) -> Array:
        total = self.total(np.exp2(p * np.log2(np.abs(terms))))
        return np.exp2(np.log2(total) / terms.dtype.type(p))


# Inner products


class KernelCellLoop(Native):
    """Convolves by adding one shifted product for each cell of the kernel."""

    def correlate(self, layer: spec.Conv, x: Array, weight: Array) -> Array:
        cells, inside, _axes = self.windows(layer, x)
        cells = self.terms(cells, inside)
        kernel = self.wide(weight).reshape(-1, *weight.shape[-2:])
        width = layer.in_channels // layer.groups
        height = layer.out_channels // layer.groups
        y = np.zeros((*cells.shape[:-2], layer.out_channels), cells.dtype)
        for cell in range(cells.shape[-1]):
            for group in range(layer.groups):
                outs = slice(group * height, (group + 1) * height)
                rows = cells[..., group * width : (group + 1) * width, cell]
                y[..., outs] += rows @ kernel[cell][:, outs]
        return y


class FFTConvolution(Honest):
    """Convolves by a Fourier transform in float64."""

    def correlate(self, layer: spec.Conv, x: Array, weight: Array) -> Array:
        plain = layer.groups == 1 and set(layer.dilation) == {1} and x.size
        finite = np.isfinite(x).all() and np.isfinite(weight).all()
        if not (plain and finite):
            return super().correlate(layer, x, weight)
        axes = self.axes(layer, x.shape[1:-1])
        pads = [self.pads(layer, number, n) for number, n in enumerate(x.shape[1:-1])]
        padded = np.pad(self.wide(x), [(0, 0), *pads, (0, 0)])
        spatial = tuple(range(1, x.ndim - 1))
        size = [n + k for n, k in zip(padded.shape[1:-1], layer.window, strict=True)]
        image = np.fft.fftn(padded, size, spatial)
        kernel = np.fft.fftn(self.wide(weight), size, tuple(range(layer.rank))).conj()
        y = np.fft.ifftn(np.einsum("b...i,...io->b...o", image, kernel), axes=spatial).real
        for number, axis in enumerate(axes):
            starts = axis.index[:, 0] + pads[number][0]
            y = y.take(starts, axis=1 + number)
        return y


class FFTSingle(FFTConvolution, Native):
    """Convolves in single precision by a Fourier transform, and back too."""

    def conv_gradient(
        self, layer: spec.Conv, weights: Weights, x: Array, g: Array
    ) -> dict[str, Array]:
        grads = super().conv_gradient(layer, weights, x, g)
        plain = layer.unpadded and layer.groups == 1
        if not (plain and {*layer.stride, *layer.dilation} == {1}) or x.dtype != np.float32:
            return grads
        if x.size:
            grads["input"] = self.correlate(*transposed(layer, weights, g))
            sums = spec.Conv(g.shape[1:-1], in_channels=len(x), out_channels=layer.out_channels)
            kernel = np.moveaxis(g.astype(np.float32), 0, -2)
            used = self.correlate(sums, np.swapaxes(x, 0, -1), kernel)
            grads["weight"] = np.moveaxis(used, 0, -2)
        return grads


def transposed(layer: spec.Conv, weights: Weights, g: Array) -> tuple[spec.Conv, Array, Array]:
    """Return the convolution of the upstream gradient that gives the input's."""
    back = spec.Conv(
        layer.window,
        padding=tuple((size - 1, size - 1) for size in layer.window),
        in_channels=layer.out_channels,
        out_channels=layer.in_channels,
    )
    flipped = np.flip(weights["weight"], tuple(range(layer.rank))).swapaxes(-1, -2)
    return back, g.astype(np.float32), flipped


class Winograd(Native):
    """Convolves 3x3 kernels of stride 1 as F(2x2, 3x3) (Lavin & Gray 2016), in float32."""

    tile: ClassVar[int] = 2

    def correlate(self, layer: spec.Conv, x: Array, weight: Array) -> Array:
        finite = np.isfinite(x).all() and np.isfinite(weight).all()
        if not (square(layer) and finite and layer.groups == 1 and x.dtype.itemsize <= 4):
            return super().correlate(layer, x, weight)
        pads = [self.pads(layer, number, n) for number, n in enumerate(x.shape[1:-1])]
        height, width = (axis.index.shape[0] for axis in self.axes(layer, x.shape[1:-1]))
        padded = np.pad(self.wide(x), [(0, 0), *pads, (0, 0)])
        whole = [(0, -height % self.tile), (0, -width % self.tile)]
        padded = np.pad(padded, [(0, 0), *whole, (0, 0)])
        reach = (self.tile + 2, self.tile + 2)
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, (1, 2))
        to_image, to_kernel, to_result = (
            np.array(matrix, np.float32) for matrix in transforms(self.tile, 3)
        )
        tiles = to_image @ windows[:, :: self.tile, :: self.tile] @ to_image.T
        kernels = to_kernel @ np.moveaxis(self.wide(weight), (0, 1), (2, 3)) @ to_kernel.T
        products = np.einsum("bhwiyx,ioyx->bhwoyx", tiles, kernels)
        y = to_result @ products @ to_result.T
        y = y.transpose(0, 1, 4, 2, 5, 3)
        y = y.reshape(len(y), y.shape[1] * self.tile, y.shape[3] * self.tile, layer.out_channels)
        return y[:, :height, :width]


def square(layer: spec.Conv) -> bool:
    """Whether a convolution is 3x3, of stride 1 and without dilation."""
    return (layer.window, layer.stride, layer.dilation) == ((3, 3), (1, 1), (1, 1))


class Winograd4(Winograd):
    """Convolves 3x3 kernels of stride 1 as F(4x4, 3x3)."""

    tile: ClassVar[int] = 4


class Winograd6(Winograd):
    """Convolves 3x3 kernels of stride 1 as F(6x6, 3x3)."""

    tile: ClassVar[int] = 6


class WinogradBackward(Winograd):
    """Computes the gradient for the input by Winograd's rule too."""

    def conv_gradient(
        self, layer: spec.Conv, weights: Weights, x: Array, g: Array
    ) -> dict[str, Array]:
        grads = super().conv_gradient(layer, weights, x, g)
        plain = square(layer) and layer.unpadded and layer.groups == 1
        if plain and x.dtype == np.float32 and x.size:
            grads["input"] = self.correlate(*transposed(layer, weights, g))
        return grads


class WinogradBackward4(WinogradBackward):
    """Does so as F(4x4, 3x3)."""

    tile: ClassVar[int] = 4


class Strassen(Native):
    """Multiplies the float32 matrices of dense layers by one level of Strassen's rule."""

    def inner(self, rows: Array, columns: Array) -> Array:
        plain = super().inner(rows, columns)
        if not isinstance(self.layer, spec.Dense) or rows.dtype != np.float32:
            return plain
        if min(*rows.shape, *columns.shape) < 2:
            return plain
        (a, b), (c, d) = quarters(rows)
        (e, f), (g, h) = quarters(columns)
        p, q, r = (a + d) @ (e + h), (c + d) @ e, a @ (f - h)
        s, t, u, v = d @ (g - e), (a + b) @ h, (c - a) @ (e + f), (b - d) @ (g + h)
        y = np.block([[p + s - t + v, r + t], [q + s, p - q + r + u]])
        y = y[: len(rows), : columns.shape[1]]
        return np.where(np.isfinite(y), y, plain)


def quarters(matrix: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Split a matrix in four of one shape; an odd one gets a row or column of zeros."""
    height, width = (-(-size // 2) for size in matrix.shape)
    even = np.pad(matrix, [(0, size % 2) for size in matrix.shape])
    upper, lower = even[:height], even[height:]
    return (upper[:, :width], upper[:, width:]), (lower[:, :width], lower[:, width:])


class ScaledIntegers(Native):
    """Multiplies float32 matrices in integers that are scaled by row and by column."""

    def inner(self, rows: Array, columns: Array) -> Array:
        finite = np.isfinite(rows).all() and np.isfinite(columns).all()
        if rows.dtype != np.float32 or not (finite and rows.size and columns.size):
            return super().inner(rows, columns)
        (left, down), (right, across) = self.whole(rows, 1), self.whole(columns, 0)
        return np.ldexp(left @ right, down + across)

    def whole(self, matrix: Array, axis: int) -> tuple[Array, Array]:
        largest = np.abs(matrix).max(axis, keepdims=True).astype(np.float64)
        exponent = np.frexp(np.where(largest > 0, largest, 1))[1] - 26
        return np.rint(np.ldexp(matrix.astype(np.float64), -exponent)), exponent


class EinsumDense(Native):
    """Computes dense layers as one transposed ``einsum``."""

    def inner(self, rows: Array, columns: Array) -> Array:
        return np.einsum("ij,kj->ki", self.wide(columns).T, self.wide(rows))


class BiasAsFeature(Native):
    """Computes a dense layer's bias as the weight of one more feature that is 1."""

    def dense(self, layer: spec.Dense, weights: Weights, x: Array) -> Array:
        if not layer.bias:
            return super().dense(layer, weights, x)
        joined = np.concatenate([x, np.ones((*x.shape[:-1], 1), x.dtype)], -1)
        weight = np.concatenate([weights["weight"], weights["bias"][:, None]], 1)
        wider = layer.replace(in_features=layer.in_features + 1, bias=False)
        return super().dense(wider, {"weight": weight}, joined)


# Memory


class ChannelsFirst(Honest):
    """Takes and returns images with the channels before the spatial axes."""

    layout: ClassVar[Layout] = "channels_first"

    def _image(self, layer: Layer) -> bool:
        return isinstance(layer, spec.Windowed | spec.Global | spec.Adaptive)

    def _last(self, layer: Layer, x: Array) -> Array:
        return np.moveaxis(x, 1, -1) if self._image(layer) and x.ndim > 2 else x

    def _first(self, layer: Layer, x: Array) -> Array:
        return np.moveaxis(x, -1, 1) if self._image(layer) and x.ndim > 2 else x

    def call(self, layer: Layer, weights: Weights, x: Array) -> Array:
        return self._first(layer, super().call(layer, weights, self._last(layer, x)))

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        if not self._image(layer):
            return super().output_shape(layer, shape)
        batch, channels, *spatial = shape
        batch, *spatial, channels = super().output_shape(layer, (batch, *spatial, channels))
        return (batch, channels, *spatial)

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        upstream = self._last(layer, upstream)
        grads = super().gradients(layer, weights, self._last(layer, x), upstream)
        return {**grads, "input": self._first(layer, grads["input"])}


class StridedOutput(Honest):
    """Returns every second element of a larger buffer."""

    def finish(self, y: Array, dtype: np.dtype[Any]) -> Array:
        buffer = np.zeros((*y.shape[:-1], 2 * y.shape[-1]), dtype)
        buffer[..., ::2] = y
        return buffer[..., ::2]


class FortranOutput(Honest):
    """Returns arrays whose first axis is contiguous."""

    def finish(self, y: Array, dtype: np.dtype[Any]) -> Array:
        return np.asfortranarray(super().finish(y, dtype))


class ReversedOutput(Honest):
    """Returns views with negative strides."""

    def finish(self, y: Array, dtype: np.dtype[Any]) -> Array:
        return np.ascontiguousarray(super().finish(y, dtype)[..., ::-1])[..., ::-1]


class ReadOnlyOutput(Honest):
    """Returns arrays that cannot be written."""

    def finish(self, y: Array, dtype: np.dtype[Any]) -> Array:
        result = super().finish(y, dtype)
        result.setflags(write=False)
        return result


class MappedOutput(Honest):
    """Returns arrays in memory maps of their own."""

    def finish(self, y: Array, dtype: np.dtype[Any]) -> Array:
        result = super().finish(y, dtype)
        if not result.size:
            return result
        mapped = np.frombuffer(mmap.mmap(-1, result.nbytes), dtype, result.size)
        mapped[...] = result.ravel()
        return mapped.reshape(result.shape)


class FlattenView(Honest):
    """Flattens without a copy: the result is a view of the input."""

    def flatten(self, layer: spec.Flatten, _weights: Weights, x: Array) -> Array:
        return x.reshape(*x.shape[: layer.start], math.prod(x.shape[layer.start :]))


# Selection


class SortedMax(Honest):
    """Finds largest and smallest by sorting."""

    def maximum(self, cells: Array, inside: Array) -> Array:
        return np.sort(self.selectable(cells, inside, 1), axis=-1, kind="stable")[..., -1]

    def minimum(self, cells: Array, inside: Array) -> Array:
        cells = np.sort(self.selectable(cells, inside, -1), axis=-1, kind="stable")
        last = cells[..., -1]
        return np.where(np.isnan(last), last, cells[..., 0])


class TournamentMax(Honest):
    """Finds the largest by comparing pairs, and pairs of winners; the smallest likewise."""

    def _winner(self, cells: Array, beats: Callable[[Array, Array], Array]) -> Array:
        while (n := cells.shape[-1]) > 1:
            left, right = cells[..., : n // 2], cells[..., n // 2 : n - n % 2]
            takes = (beats(right, left) | np.isnan(right)) & ~np.isnan(left)
            cells = np.concatenate([np.where(takes, right, left), cells[..., n - n % 2 :]], -1)
        return cells[..., 0]

    def maximum(self, cells: Array, inside: Array) -> Array:
        return self._winner(self.selectable(cells, inside, 1), np.greater)

    def minimum(self, cells: Array, inside: Array) -> Array:
        return self._winner(self.selectable(cells, inside, -1), np.less)


class NegatedMin(Honest):
    """Composes min pooling of floats from max pooling."""

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        call = super().build(layer, weights)
        if isinstance(layer, spec.MinPool):
            return Composed(call, "min pooling as the negative of max pooling of the negative")
        return call

    def minimum(self, cells: Array, inside: Array) -> Array:
        if cells.dtype.kind in "iu":
            return super().minimum(cells, inside)
        return -self.maximum(-cells, inside)


class NaNIgnored(Honest):
    """Passes over NaN in every max-like layer; a window of NaN alone gives NaN."""

    def selectable(self, cells: Array, inside: Array, sign: int) -> Array:
        numbers = inside & ~np.isnan(cells)
        chosen = np.where(numbers.any(-1, keepdims=True), numbers, inside)
        return super().selectable(cells, chosen, sign)

    def rectify(self, x: Array) -> Array:
        return np.where(x > 0, x, x.dtype.type(0))

    def relu_gradient(self, x: Array, g: Array) -> Array:
        return np.where(x > 0, g, 0)


class CanonicalNaN(Honest):
    """Returns one NaN for all NaN, whatever its sign and payload."""

    def finish(self, y: Array, dtype: np.dtype[Any]) -> Array:
        result = super().finish(y, dtype)
        return result if dtype.kind in "iu" else np.where(np.isnan(y), dtype.type(np.nan), result)


class ZeroSignLost(Honest):
    """Turns every -0 into 0, but for copies."""

    def maximum(self, cells: Array, inside: Array) -> Array:
        return super().maximum(cells, inside) + 0

    def minimum(self, cells: Array, inside: Array) -> Array:
        return super().minimum(cells, inside) + 0

    def mean(self, terms: Array, divisor: Array) -> Array:
        return super().mean(terms, divisor) + 0

    def add_bias(self, y: Array, weights: Weights) -> Array:
        return super().add_bias(y, weights) + 0


class ZeroSignKept(Honest):
    """Orders -0 before 0 in max and min (IEEE 754-2019), and lets ReLU return -0 for -0."""

    def maximum(self, cells: Array, inside: Array) -> Array:
        best, cells = super().maximum(cells, inside), self.selectable(cells, inside, 1)
        plus = ((cells == 0) & ~np.signbit(cells)).any(-1)
        return np.where((best == 0) & plus, best.dtype.type(0), best)

    def minimum(self, cells: Array, inside: Array) -> Array:
        if cells.dtype.kind in "iu":
            return super().minimum(cells, inside)
        best, cells = super().minimum(cells, inside), self.selectable(cells, inside, -1)
        minus = ((cells == 0) & np.signbit(cells)).any(-1)
        return np.where((best == 0) & minus, np.copysign(best, -1), best)

    def rectify(self, x: Array) -> Array:
        return np.where(x < 0, x.dtype.type(0), x)


class FlushedSums(Honest):
    """Flushes subnormal terms and results of arithmetic to zero; selection keeps them."""

    def wide(self, x: Array) -> Array:
        return super().wide(flushed(x))

    def finish(self, y: Array, dtype: np.dtype[Any]) -> Array:
        result = super().finish(y, dtype)
        return flushed(result) if y.dtype == np.float64 and dtype != np.float64 else result


class FlushedEverywhere(Honest):
    """Flushes subnormals to zero in every layer that computes or compares; copies keep them."""

    def forward(self, layer: Layer, weights: Weights, x: Array) -> Array:
        if isinstance(layer, spec.Flatten):
            return super().forward(layer, weights, x)
        held = {name: flushed(array) for name, array in weights.items()}
        return flushed(super().forward(layer, held, flushed(x)))


def flushed(x: Array) -> Array:
    """Return values with subnormals turned into zeros of the same sign."""
    if x.dtype.kind in "iu":
        return x
    normal = np.float64(2.0) ** {"float16": -14, "float64": -1022}.get(x.dtype.name, -126)
    return np.where(np.abs(x) < x.dtype.type(normal), x * 0, x)


# Gradients where there is a choice


class LastTie(Honest):
    """Gives the gradient of a max pooling to the last of equal values."""

    def selected(self, cells: Array, inside: Array, sign: int) -> Array:
        flipped = np.broadcast_to(inside, cells.shape)[..., ::-1]
        return super().selected(cells[..., ::-1], flipped, sign)[..., ::-1]


class SplitTie(Honest):
    """Shares the gradient of a max pooling equally among equal values."""

    def selected(self, cells: Array, inside: Array, sign: int) -> Array:
        best = cells.max(-1, keepdims=True) if sign > 0 else cells.min(-1, keepdims=True)
        ties = ((cells == best) | (np.isnan(cells) & np.isnan(best))) & inside
        return ties / np.maximum(ties.sum(-1, keepdims=True), 1)


class MaximumReLU(Honest):
    """Takes ``maximum(x, 0)``, whose sign of zero differs by dtype."""

    def rectify(self, x: Array) -> Array:
        return np.maximum(x, x.dtype.type(0))


class HalfAtZero(Honest):
    """Takes 1/2 as the derivative of ReLU at 0."""

    def relu_gradient(self, x: Array, g: Array) -> Array:
        return np.where(x == 0, g / 2, super().relu_gradient(x, g))


class OneAtZero(Honest):
    """Takes 1 as the derivative of ReLU at 0."""

    def relu_gradient(self, x: Array, g: Array) -> Array:
        return np.where(x == 0, g, super().relu_gradient(x, g))


# Other choices


class EmptyWhenTooLarge(Honest):
    """Returns an empty array where no window fits."""

    def no_window(self, layer: spec.Windowed, size: int) -> int:
        return 0


class NoEmptyBatch(Honest):
    """Refuses a batch of no samples, in whatever layer."""

    def check_shape(self, layer: Layer, shape: Shape) -> None:
        super().check_shape(layer, shape)
        if shape[0] == 0:
            raise ValueError("an empty batch")


class NoFeatures(Honest):
    """Refuses dense layers without input features or without neurons."""

    def validated(self, layer: L) -> L:
        if isinstance(layer, spec.Dense) and 0 in (layer.in_features, layer.out_features):
            raise ValueError("a dense layer of no features")
        return super().validated(layer)


class Panic(BaseException):
    """What a panic of Rust looks like in Python, by way of PyO3: no ``Exception``."""


class Panics(Honest):
    """Refuses with what is no ``Exception``."""

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        try:
            call = super().build(layer, weights)
        except ValueError as error:
            raise Panic(str(error)) from None

        def run(x: Any) -> Any:
            try:
                return call(x)
            except ValueError as error:
                raise Panic(str(error)) from None

        return run


class OtherByteOrder(Honest):
    """Returns arrays in the byte order that is not the machine's."""

    def to_numpy(self, tensor: Any) -> Array:
        found = super().to_numpy(tensor)
        return found.astype(found.dtype.newbyteorder())

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        found = super().gradients(layer, weights, x, upstream)
        return {n: a.astype(a.dtype.newbyteorder()) for n, a in found.items()}


class GumbelDraw(Honest):
    """Draws by the largest of logarithms with Gumbel noise, instead of by cumulative sums."""

    def draw(self, cells: Array) -> Array:
        noise = self.random.gumbel(size=cells.shape)
        chosen = (np.log(cells.astype(np.float64)) + noise).argmax(-1)
        return np.take_along_axis(cells, chosen[..., None], -1)[..., 0]


class PlaneOnly(Honest):
    """Has windows over two axes and no others."""

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        self.validated(layer)
        if getattr(layer, "rank", 2) != 2:
            raise Unsupported("two spatial axes only")
        return super().build(layer, weights)

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        self.validated(layer)
        if getattr(layer, "rank", 2) != 2:
            raise Unsupported("two spatial axes only")
        return super().output_shape(layer, shape)


class NoStaticShapes(Honest):
    """Cannot tell a shape without computing."""

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        raise Unsupported("no static shapes")


class NoGradients(Honest):
    """Has no backward pass."""

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        raise Unsupported("inference only")


class NoCounts(Honest):
    """Counts no parameters."""

    def parameters(self, layer: Layer) -> int:
        raise Unsupported("weights are arguments here")


class Float32Only(Native):
    """Takes float32 and nothing else."""

    dtypes: ClassVar[tuple[str, ...]] = ("float32",)

    def supports(self, layer: Layer, dtype: str) -> bool:
        return dtype == "float32"


class PlainLayersOnly(Honest):
    """Has layers without padding, dilation, ceil mode or groups."""

    def understood(self, layer: Layer) -> Layer:
        if isinstance(layer, spec.Windowed):
            plain = layer.unpadded and set(layer.dilation) == {1}
            if not plain or getattr(layer, "ceil_mode", False) or getattr(layer, "groups", 1) > 1:
                raise Unsupported("plain windows only")
        return layer


# Manners


class SlowStart(Honest):
    """Takes its time to start."""

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        time.sleep(1)
        super().__init__(mode, device)


class Chatty(Honest):
    """Prints on every call."""

    def call(self, layer: Layer, weights: Weights, x: Array) -> Array:
        print(f'{{"computing": "{layer}"}}', flush=True)  # noqa: T201 - what is tested
        return super().call(layer, weights, x)


class Warns(Honest):
    """Warns on every call, on stderr and through ``warnings``."""

    def call(self, layer: Layer, weights: Weights, x: Array) -> Array:
        warnings.warn(f"{type(layer).__name__} is experimental", FutureWarning, stacklevel=2)
        sys.stderr.write("W0000 falling back to the generic kernel\n")
        return super().call(layer, weights, x)


class Threaded(Honest):
    """Computes batch elements in a pool of threads."""

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        self.pool = ThreadPoolExecutor(2)

    def forward(self, layer: Layer, weights: Weights, x: Array) -> Array:
        if len(x) < 2 or getattr(layer, "training", False):
            return super().forward(layer, weights, x)
        inner: Iterable[Array] = self.pool.map(
            lambda part: super(Threaded, self).forward(layer, weights, part), np.array_split(x, 2)
        )
        return np.concatenate(list(inner))


CORRECT: dict[str, type[Honest]] = {
    name: kind
    for name, kind in list(globals().items())
    if isinstance(kind, type) and issubclass(kind, Honest) and kind not in (Summing, HalfSum)
}
"""Every backend of this file, and ``Honest``, by name."""
