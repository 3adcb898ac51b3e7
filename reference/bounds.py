"""Proven bounds on the rounding error of a correct kernel, element by element.

Every bound holds for any order of summation, with or without fused multiply-add, with gradual
underflow or with flush to zero. Each computed sum is the exact one with every term multiplied by
at most ``k`` factors ``1 + d``, ``|d| <= u``, where ``u`` is the unit roundoff; so it is off by at
most ``((1 + u)**k - 1) * sum(|terms|)`` (Higham, *Accuracy and Stability of Numerical
Algorithms*, 2nd ed., ch. 3 and 4). ``docs/derivations.md`` has the derivations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from cnnformance.reference.forward import Weights, forward
from cnnformance.reference.gradients import gradients
from cnnformance.reference.windows import Array, scatter, windows
from cnnformance.spec import layers as spec

HALVES = ("float16", "bfloat16")
SELECTIONS = (
    spec.MaxPool,
    spec.MinPool,
    spec.GlobalMaxPool,
    spec.AdaptiveMaxPool,
    spec.ReLU,
    spec.Flatten,
)
"""The layers whose results are elements of their input: bitwise equality, no bound."""

_LIBRARY = 8
"""Units that a library's power, root or reciprocal may be off by (glibc: 1; SIMD libraries: 4)."""


@dataclass(frozen=True)
class Format:
    """A floating-point format: unit roundoff, smallest normal and largest number, precision."""

    unit: float
    tiny: float
    largest: float
    bits: int


@cache
def format_of(dtype: str) -> Format:
    """Return the format of a floating-point dtype, by name. Raises ``ValueError`` for others."""
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call] # it has no types
    return Format(
        float(info.eps) / 2, float(info.smallest_normal), float(info.max), int(info.nmant) + 1
    )


def growth(factors: float, unit: float) -> float:
    """Return ``(1 + u)**k - 1``: how far ``k`` roundings can move a term, relatively."""
    return math.expm1(factors * math.log1p(unit))


def divides_exactly(layer: spec.Layer, shape: spec.Shape) -> bool:
    """Whether a layer has no divisor, or one power of two for all windows: it rounds nothing."""
    match layer:
        case spec.AveragePool():
            whole = layer.count_include_pad or layer.unpadded
            return whole and not layer.ceil_mode and _power_of_two(math.prod(layer.window))
        case spec.GlobalAveragePool():
            return _power_of_two(math.prod(shape[1:-1]))
        case spec.Conv() | spec.Dense():
            return True
    return False


def _power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def terms(layer: spec.Layer, x: Array) -> int:
    """Return how many roundings a term of one output element can meet, for a sum layer.

    A product of n terms: one multiplication, n - 1 additions, and the bias. A mean of n terms:
    n - 1 additions and, unless the divisor is a power of two, up to four more (the divisor, its
    reciprocal, the product, and the correction of a window at the border).
    """
    match layer:
        case spec.Conv():
            products = math.prod(layer.window) * (layer.in_channels // layer.groups)
            return int(products) + layer.bias
        case spec.Dense():
            return int(layer.in_features) + layer.bias
        case spec.AveragePool() | spec.GlobalAveragePool() if divides_exactly(layer, x.shape):
            window = getattr(layer, "window", x.shape[1:-1])
            return int(math.prod(window)) - 1
        case spec.GlobalAveragePool():
            return int(math.prod(x.shape[1:-1])) + 3
        case spec.AdaptiveAveragePool():
            cells = [-(-n // m) + 1 for n, m in zip(x.shape[1:-1], layer.output, strict=True)]
            return int(math.prod(cells)) + 3
        case spec.Windowed():
            return math.prod(layer.window) + 3
    raise TypeError(f"{type(layer).__name__} is no sum")


@dataclass(frozen=True)
class Bound:
    """What a correct kernel may return.

    ``value`` is the exact result up to ``float64`` rounding; a correct result lies within
    ``error`` of it, unless ``judged`` is False there: some order of summation overflows.
    All three have the output's shape.
    """

    value: Array
    error: Array
    judged: Array


def bound(
    layer: spec.Layer,
    x: Array,
    weights: Weights,
    accumulator: str | None = None,
    factors: int | None = None,
) -> Bound:
    """Return the bound for one of the sum layers.

    ``accumulator`` names the format that sums are kept in (default: the input's own); the result
    is rounded to the input's. ``factors`` overrides how many roundings a term can meet, for
    kernels that sum in a known shape.
    """
    output = format_of(x.dtype.name)
    inner = format_of(accumulator or x.dtype.name)
    with np.errstate(all="ignore"):
        value = np.asarray(forward(layer, x, weights), dtype=np.float64)
        count = terms(layer, x) if factors is None else factors
        match layer:
            case spec.LpPool():
                error, largest = _norm(layer, value, count, inner)
                error = error + output.unit * (np.abs(value) + error)
            case spec.StochasticPool():
                error, largest = _weighted(layer, x, value, count, inner)
                error = error + output.unit * (np.abs(value) + error)
            case _:
                error, largest = _sum(layer, x, weights, count, inner)
                last = output.unit * np.abs(value)
                if accumulator is None:  # its last rounding is counted; a wider one rounds once
                    wide = _sum(layer, x, weights, count + 2, _wider(output))[0]
                    error = np.maximum(error, wide * (1 + output.unit) + last)
                else:
                    error = error * (1 + output.unit) + last
        error = error + output.tiny
        overflow = np.nan_to_num(largest, nan=np.inf) * (1 + growth(count, inner.unit))
        in_range = (overflow < inner.largest) & (np.abs(value) + error < output.largest)
        judged = in_range | ~np.isfinite(value)
    return Bound(value, error, judged)


def _wider(narrow: Format) -> Format:
    """Return the next wider accumulator: float32 for halves, float64, extended precision."""
    if narrow.bits < 24:
        return format_of("float32")
    unit = 2.0**-53 if narrow.bits < 53 else 2.0**-64
    return Format(unit, narrow.tiny, math.inf, 0)


def _sum(
    layer: spec.Layer, x: Array, weights: Weights, count: int, inner: Format
) -> tuple[Array, Array]:
    """Bound a sum of products by the same sum over absolute values."""
    x64 = np.abs(np.asarray(x, dtype=np.float64))
    absolute = {name: np.abs(np.asarray(w, dtype=np.float64)) for name, w in weights.items()}
    size = forward(layer, x64, absolute)
    error = (growth(count, inner.unit) + growth(count, 2.0**-53)) * size
    lost: float = 2 * count * inner.tiny
    for ours, theirs in ((x64, absolute.get("weight")), (absolute.get("weight"), x64)):
        if theirs is not None and ours is not None and ((ours > 0) & (ours < inner.tiny)).any():
            lost += (
                count * inner.tiny * float(theirs.max(initial=0.0))
            )  # subnormals may count as zero
    largest = size * count if not weights else size  # a mean is divided after it was summed
    return error + lost, largest


def _norm(layer: spec.LpPool, value: Array, count: int, inner: Format) -> tuple[Array, Array]:
    """Bound a p-norm: powers, their sum, and a root that divides relative errors by p.

    A power by ``exp(p * log x)`` is off by ``|p log x|`` units more, and so is a root whose
    exponent ``1 / p`` was rounded; the cube root of a sum is the usual case.
    """
    p = layer.p
    finite = np.abs(np.where(np.isfinite(value) & (value > 0), value, 1.0))
    logarithm = 4 * p * np.abs(np.log(finite)) + 4 * p * math.log(max(count, 2))
    relative = growth(count + p + _LIBRARY, inner.unit) / p + inner.unit * (
        2 * _LIBRARY + logarithm
    )
    lost = (2 * count * inner.tiny) ** (1 / p)
    return value * (relative + 2.0**-45) + lost, np.abs(value) ** p * count


def _weighted(
    layer: spec.StochasticPool, x: Array, value: Array, count: int, inner: Format
) -> tuple[Array, Array]:
    """Bound ``sum(x**2) / sum(x)``, also as ``sum((x / sum(x)) * x)``; all terms are positive."""
    cells, _ = windows(layer, np.asarray(x, dtype=np.float64), 0.0)
    total = cells.sum(axis=-2)
    lost = 2 * count * inner.tiny
    error = value * (growth(3 * count + _LIBRARY, inner.unit) + 2.0**-45)
    share = np.divide(lost, total, out=np.zeros_like(total), where=total > 0)
    return error + lost + share, (cells**2).sum(axis=-2)


_WINOGRAD = 40.0**2
"""How much larger than that of the plain sum the error of a Winograd kernel may be."""


def _accumulator(output: Format) -> Format:
    return format_of("float32") if output.bits < 24 else output


def _transformed(layer: spec.Conv, x: Array) -> float:
    """Return the roundings of a Fourier transform of the padded input, its inverse and product."""
    cells = math.prod(2 * (n + e) for n, e in zip(x.shape[1:-1], layer.extent, strict=True))
    return 15 * math.log2(max(cells, 2)) + 3


def _winograd(layer: spec.Conv) -> bool:
    return layer.window == (3, 3) and layer.stride == layer.dilation == (1, 1)


def fast_convolution(layer: spec.Conv, x: Array, weights: Weights) -> Array:
    """Return the normwise bound that FFT and Winograd kernels keep, of shape ``(batch, ..., out)``.

    The error of such a kernel follows the largest inputs of the sample and not the own window's:
    ``(15 log2 N + 3) u ||x||_2 ||w||_1`` for a transform of N cells, and for 3x3 kernels of stride
    1 up to ``(356/9)**2`` times the error of the sum (``docs/derivations.md``, section f). Half
    precision accumulates in float32.
    """
    output = format_of(x.dtype.name)
    inner = _accumulator(output)
    axes = tuple(range(1, x.ndim))
    x64 = np.asarray(x, dtype=np.float64)
    kernel = np.abs(np.asarray(weights["weight"], dtype=np.float64))
    total = kernel.sum(axis=tuple(range(kernel.ndim - 1)))
    factors = _transformed(layer, x) + layer.in_channels
    error = growth(factors, inner.unit) * np.sqrt((x64**2).sum(axis=axes, keepdims=True)) * total
    if _winograd(layer):
        count = layer.in_channels // layer.groups + 35
        largest = np.abs(x64).max(axis=axes, initial=0.0, keepdims=True)
        error = np.maximum(error, _WINOGRAD * growth(count, inner.unit) * largest * total)
    if "bias" in weights:
        error = error + inner.unit * np.abs(np.asarray(weights["bias"], dtype=np.float64))
    return np.asarray(error + factors * output.tiny)


def normwise(layer: spec.Conv | spec.Dense, x: Array, weights: Weights) -> Array:
    """Return the normwise bound of a layer's fast algorithms; it broadcasts to the output's shape.

    A dense layer that is computed in scaled integers, or by Strassen's rule within a sample, is off
    by the growth of its sum times the largest input of the row and the weights' absolute sum.
    """
    if isinstance(layer, spec.Conv):
        return fast_convolution(layer, x, weights)
    inner = _accumulator(format_of(x.dtype.name))
    largest = np.abs(np.asarray(x, dtype=np.float64)).max(axis=-1, initial=0.0, keepdims=True)
    total = np.abs(np.asarray(weights["weight"], dtype=np.float64)).sum(axis=-1)
    return np.asarray(growth(terms(layer, x) + 2, inner.unit) * largest * total)


def fast_gradients(
    layer: spec.Conv, x: Array, weights: Weights, upstream: Array
) -> dict[str, Array]:
    """Return the normwise bounds that FFT and Winograd kernels keep in the backward pass.

    The gradient for the input is a convolution of the upstream gradient with the kernel, and that
    for the weight one of the input with the upstream gradient, summed over the batch
    (``docs/derivations.md``, section f). Each has its gradient's shape, or broadcasts to it.
    """
    output = format_of(x.dtype.name)
    unit = _accumulator(output).unit
    samples = tuple(range(1, x.ndim))
    given, sent = (np.abs(np.asarray(a, dtype=np.float64)) for a in (x, upstream))
    kernel = np.abs(np.asarray(weights["weight"], dtype=np.float64))
    taps = kernel.sum(axis=tuple(range(layer.rank)))  # (in // groups, out)
    outputs = layer.out_channels // layer.groups
    reads = taps.reshape(-1, layer.groups, outputs).sum(axis=-1).T.ravel()
    sums = sent.sum(axis=samples[:-1], keepdims=True)
    roundings = _transformed(layer, x)

    def norm(a: Array) -> Array:
        return np.asarray(np.sqrt((a**2).sum(axis=samples, keepdims=True)))

    passed = growth(roundings + layer.out_channels, unit) * norm(sent) * reads
    used = growth(roundings + len(x), unit) * (norm(given) * sums).sum(axis=0)
    if _winograd(layer):
        largest = sent.max(axis=samples, initial=0.0, keepdims=True)
        passed = np.maximum(passed, _WINOGRAD * growth(outputs + 35, unit) * largest * reads)
        largest = given.max(axis=samples, initial=0.0, keepdims=True)
        count = math.prod(upstream.shape[:-1]) + 35
        used = np.maximum(used, _WINOGRAD * growth(count, unit) * (largest * sums).sum(axis=0))
    lost = (roundings + layer.out_channels + len(x)) * output.tiny
    return {"input": passed + lost, "weight": used + lost}


def _gradient_terms(layer: spec.Layer, x: Array, upstream: Array) -> dict[str, int]:
    """Return how many roundings a term of each gradient can meet."""
    positions = math.prod(upstream.shape[:-1])
    match layer:
        case spec.Conv():
            reads = math.prod(layer.window) * (layer.out_channels // layer.groups)
            return {"input": reads + 2, "weight": positions + 2, "bias": positions + 2}
        case spec.Dense():
            counts = {"input": layer.out_features + 2}
            return counts | {"weight": positions + 2, "bias": positions + 2}
        case spec.LpPool():
            terms = 4 * math.prod(layer.window) + 4 * layer.p + 4 * _LIBRARY
        case spec.StochasticPool():
            terms = 6 * math.prod(layer.window) + 16
        case spec.Windowed():
            terms = math.prod(layer.window) + 4
        case spec.Adaptive():
            terms = math.prod(layer.output) + 4
        case _:
            terms = math.prod(x.shape[1:-1]) + 4
    return {"input": terms}


def _gradient_parts(layer: spec.StochasticPool, x: Array, upstream: Array) -> Array:
    """Return the gradient of the evaluation with the parts of ``(2 x - y) / sum x`` added up."""
    values, _ = windows(layer, x, 0.0)
    with np.errstate(all="ignore"):
        shares = np.nan_to_num(upstream / values.sum(axis=-2), posinf=0.0, neginf=0.0)
    parts = 2 * values + forward(layer, x)[..., None, :]
    return scatter(layer, x.shape, parts * shares[..., None, :])


def gradient_bounds(
    layer: spec.Layer, x: Array, weights: Weights, upstream: Array
) -> dict[str, Bound]:
    """Return the bound for each gradient of ``sum(layer(x) * upstream)``, by name.

    A gradient is the adjoint of a sum, so it is a sum too: of one term for each output that read
    the cell, or for each position that used the weight (``docs/derivations.md``, section h).
    The input must not tie where the layer selects. Sums of products of whole numbers are exact, as
    long as the precision holds them (section d).
    """
    fmt = format_of(x.dtype.name)
    exact = gradients(layer, x, weights, upstream)
    selects = isinstance(layer, SELECTIONS)
    absolute = {name: np.abs(w.astype(np.float64)) for name, w in weights.items()}
    places = x if selects else np.abs(x.astype(np.float64))
    sizes = gradients(layer, places, absolute, np.abs(upstream.astype(np.float64)))
    counts = _gradient_terms(layer, x, upstream)
    operands = (x, upstream, *weights.values()) if layer.has_weights else ()
    whole = bool(operands) and all((a == np.rint(a)).all() for a in operands)
    bounds = {}
    for name, value in exact.items():
        size = np.abs(sizes[name])
        if isinstance(layer, spec.StochasticPool):
            size = _gradient_parts(layer, places, np.abs(upstream.astype(np.float64)))
        error = (growth(counts[name], fmt.unit) + growth(counts[name], 2.0**-53)) * size
        if isinstance(layer, spec.LpPool) and layer.p > 1:
            error = error + 400 * layer.p * fmt.unit * size  # rounded exponents, see _norm
        error = error + fmt.unit * np.abs(value) + 4 * counts[name] * fmt.tiny
        if whole:
            error = np.where(size <= 2.0**fmt.bits, 0.0, error)
        judged = size * counts[name] < fmt.largest
        bounds[name] = Bound(value, error, judged | ~np.isfinite(value))
    return bounds
