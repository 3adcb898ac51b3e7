"""What a layer gives by a definition that is not the specification's, but a framework's own.

A recorded divergence that names one excuses the value that it foretells, and no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.reference import ShapeError, bounds, forward, scatter, windows
from cnnformance.reference.average_pool import divisors
from cnnformance.reference.gradient_bounds import gradient_bounds
from cnnformance.spec import layers as spec

if TYPE_CHECKING:
    from cnnformance.conformance.judge import Failure

Pool = spec.AveragePool | spec.LpPool


def _mean_powers(layer: Pool, x: Array) -> tuple[Array, Array, Array]:
    """Return the cells of each window, the mean of their powers, and how many that mean counts.

    Those in the padded input count, and none beyond. The shapes are ``(batch, *out, cells,
    channels)``, ``(batch, *out, channels)`` and ``(*out, 1)``.
    """
    shared = ("window", "stride", "padding", "dilation", "ceil_mode")
    counting = {name: getattr(layer, name) for name in shared}
    counted = divisors(spec.AveragePool(**counting, count_include_pad=True), x.shape[1:-1])
    cells, _ = windows(layer, x.astype(np.float64), 0.0)
    powers = cells**layer.p if isinstance(layer, spec.LpPool) else cells
    return cells, powers.sum(axis=-2) / counted[..., None], counted[..., None]


def power_mean(layer: spec.LpPool, x: Array) -> Array:
    """Return ``(n * mean(x**p)) ** (1/p)``, with ``n`` the size of the whole window.

    The powers keep their sign, and the mean is over the cells in the padded input: so does
    PyTorch's LPPool.
    """
    _, means, _ = _mean_powers(layer, x)
    return np.asarray((math.prod(layer.window) * means) ** (1 / layer.p))


def gradient(layer: Pool, x: Array, upstream: Array, *, whole: bool) -> Array:
    """Return the gradient for the input of ``power_mean``, and of an average that of its mean.

    The mean is shared out by the number of cells that it counts or, with ``whole``, by the size of
    the whole window: so does ``torch.compile``.
    """
    cells, means, counted = _mean_powers(layer, x)
    size = math.prod(layer.window)
    slopes = upstream.astype(np.float64) / (size if whole else counted)
    shares = np.broadcast_to(slopes[..., None, :], cells.shape)
    if isinstance(layer, spec.LpPool):
        norms = size * (size * means) ** (1 / layer.p - 1)
        shares = shares * norms[..., None, :] * cells ** (layer.p - 1)
    return scatter(layer, x.shape, shares)


def _agrees(failure: Failure, layer: Pool, value: Callable[[], Array]) -> bool:
    """Whether the failing element is that of ``value``, within its bound and four roundings."""
    if failure.index is None:
        return False
    try:
        actual, bound = float(failure.actual), float(failure.bound or 0)
        with np.errstate(all="ignore"):
            foretold = float(value()[failure.index])
    except (ValueError, LookupError, ShapeError):
        return False
    held = bounds.format_of(failure.arrays["x"].dtype.name)
    if math.isinf(actual):  # what is summed up on the way to it may not fit
        return abs(foretold) ** getattr(layer, "p", 1) >= held.largest
    off = abs(actual - foretold)
    near = off <= math.prod(layer.window) * bound + 4 * held.unit * abs(foretold)
    return near or (math.isnan(actual) and math.isnan(foretold))


def _as_float32(failure: Failure, layer: spec.Layer) -> bool:
    """Whether the failing element is within the bound of the layer on its operands in float32.

    Where float32 has no finite result, any that is not finite is.
    """
    try:
        with np.errstate(all="ignore"):
            arrays = {name: array.astype(np.float32) for name, array in failure.arrays.items()}
            x, upstream = arrays.pop("x"), arrays.pop("upstream", None)
            if upstream is None and layer.exact:
                selected = np.asarray(forward(layer, x, arrays), np.float64)
                allowed = bounds.Bound(selected, 0.0 * selected, np.isfinite(selected))
            elif upstream is None:
                allowed = bounds.bound(layer, x, arrays)
            else:
                found = gradient_bounds(layer, x, arrays, upstream)
                allowed = found[failure.operand or "input"]
            value, error = allowed.value[failure.index], allowed.error[failure.index]
            fits = bool(allowed.judged[failure.index]) and math.isfinite(value)
        actual = float(failure.actual)
    except (ValueError, TypeError, LookupError, ShapeError):
        return False
    return bool(abs(actual - value) <= error) if math.isfinite(actual) else not fits


def agreeing(failure: Failure) -> dict[str, bool]:
    """Return by name whether the failing element is what another definition gives.

    ``as_power_mean``: ``power_mean`` or, of a backward pass, its gradient; ``as_whole_mean``: the
    gradient that is shared out by whole windows; ``as_float32``: what is computed in float32, of
    float64.
    """
    layer = failure.layers[0] if failure.layers else None
    x = failure.arrays.get("x")
    if x is None or "float" not in x.dtype.name:
        return {}  # integers have no unit of rounding
    if layer is not None and x.dtype == np.float64 and failure.index is not None:
        return {"as_float32": _as_float32(failure, layer)} | _of_pooling(failure, layer)
    return _of_pooling(failure, layer)


def _of_pooling(failure: Failure, layer: spec.Layer | None) -> dict[str, bool]:
    values: dict[str, Callable[[], Array]] = {}
    x, upstream = failure.arrays["x"], failure.arrays.get("upstream")
    if isinstance(layer, spec.AveragePool | spec.LpPool):
        if failure.call == "gradients" and upstream is not None:
            values["as_power_mean"] = partial(gradient, layer, x, upstream, whole=False)
            values["as_whole_mean"] = partial(gradient, layer, x, upstream, whole=True)
        elif isinstance(layer, spec.LpPool):
            values["as_power_mean"] = partial(power_mean, layer, x)
        return {name: _agrees(failure, layer, value) for name, value in values.items()}
    return {}
