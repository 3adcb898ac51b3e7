"""An honest NumPy kernel library with a method for each step that an implementation can get wrong.

Every windowed layer runs through the same steps: ``pads`` and ``output_size`` place the windows on
each spatial axis (``Axis``), ``gather`` collects their cells, and one reduction per layer type
joins them. Sums are accumulated in float64 and rounded once. The other backends of the corpus
override single steps.
"""

# NumPy types much of the arithmetic on arrays of unknown dtype as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, TypeVar

import ml_dtypes  # noqa: F401 - makes NumPy know the dtype bfloat16
import numpy as np

from cnnformance.adapters.backend import Array, Backend, Unsupported, Weights
from cnnformance.spec import layers as spec
from cnnformance.spec.layers import Layer, Shape

L = TypeVar("L", bound=Layer)

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "int32", "int64")
SELECTING = (
    spec.MaxPool,
    spec.MinPool,
    spec.GlobalMaxPool,
    spec.AdaptiveMaxPool,
    spec.ReLU,
    spec.Flatten,
)
"""The layers that only select, move or clip values, and so take integers as well."""


def but(layer: L, **changes: Any) -> L:
    """Return an unvalidated copy of a layer with some fields changed."""
    fields = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}
    return type(layer).unchecked(**{**fields, **changes})


def snake(name: str) -> str:
    """Return ``MaxPool`` as ``max_pool``, ``ReLU`` as ``relu``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.replace("ReLU", "Relu")).lower()


def extreme(dtype: np.dtype[Any], sign: int) -> Any:
    """Return the infinity or the limit integer of a dtype, in the direction of ``sign``."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min
    return dtype.type(sign * math.inf)


@dataclass(frozen=True)
class Axis:
    """How the windows lie over one spatial axis.

    Attributes:
        index: shape ``(outputs, cells)``; the input position of each cell of each window, outside
            ``[0, size)`` for a cell of the padding.
        size: the length of the input axis.
        counted: same shape; whether a divisor that includes the padding counts the cell.
    """

    index: Array
    size: int
    counted: Array

    @property
    def inside(self) -> Array:
        """Whether each cell lies in the input."""
        return (self.index >= 0) & (self.index < self.size)


def crossed(joined: Array, added: Array, combine: Callable[[Array, Array], Array]) -> Array:
    """Extend an array over windows, ``(*outputs, cells)``, by an axis's ``(outputs, cells)``."""
    result = combine(joined[..., None, :, None], added[:, None, :])
    return result.reshape(*result.shape[:-2], math.prod(result.shape[-2:]))


def over_axes(masks: Sequence[Array]) -> Array:
    """Join per-axis masks ``(outputs, cells)`` into one of shape ``(*outputs, 1, cells)``."""
    return reduce(lambda a, b: crossed(a, b, np.logical_and), masks)[..., None, :]


class Honest(Backend):
    """Every layer as specified; accepts the empty batch and zero channels, refuses what is wrong.

    Max-like layers propagate NaN and take the first of equal values. ``layer`` is the layer that is
    being computed.
    """

    layer: Layer

    dtypes: ClassVar[tuple[str, ...]] = (*FLOATS, *INTEGERS)

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        self.random = np.random.default_rng(0)

    def version(self) -> str:
        return "1.0"

    def supports(self, layer: Layer, dtype: str) -> bool:
        return dtype in FLOATS or (dtype in self.dtypes and isinstance(layer, SELECTING))

    def seed(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    # What is asked

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        layer = self.validated(layer)
        held = {name: np.array(array) for name, array in weights.items()}
        self.check_weights(layer, held)
        layer = self.understood(layer)
        return lambda x: self.call(layer, held, x)

    def call(self, layer: Layer, weights: Weights, x: Array) -> Array:
        """Answer one request: refuse a wrong input, else compute."""
        self.layer = layer
        self.check_input(layer, weights, x)
        with np.errstate(all="ignore"):
            return self.forward(layer, weights, x)

    def parameters(self, layer: Layer) -> int:
        layer = self.validated(layer)
        return sum(self.sizes(layer).values())

    def sizes(self, layer: Layer) -> dict[str, int]:
        """Return how many numbers each weight array holds."""
        match layer:
            case spec.Conv():
                kernel = math.prod(layer.window) * (layer.in_channels // layer.groups)
                sizes = {"weight": kernel * layer.out_channels, "bias": layer.out_channels}
            case spec.Dense():
                weight = layer.in_features * layer.out_features
                sizes = {"weight": weight, "bias": layer.out_features}
            case _:
                return {}
        return sizes if layer.bias else {"weight": sizes["weight"]}

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        self.layer = layer = self.understood(self.validated(layer))
        self.check_shape(layer, shape)
        match layer:
            case spec.Flatten():
                return (*shape[: layer.start], math.prod(shape[layer.start :]))
            case spec.ReLU():
                return shape
            case spec.Dense():
                return (*shape[:-1], layer.out_features)
            case spec.GlobalAveragePool() | spec.GlobalMaxPool():
                return (shape[0], shape[-1])
            case _:
                spatial = tuple(axis.index.shape[0] for axis in self.axes(layer, shape[1:-1]))
                channels = layer.out_channels if isinstance(layer, spec.Conv) else shape[-1]
                return (shape[0], *spatial, channels)

    # What is refused

    def validated(self, layer: L) -> L:
        """Return the layer with its defaults filled, or refuse it."""
        fields = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}
        return type(layer)(**fields)

    def understood(self, layer: Layer) -> Layer:
        """Return the layer as the kernels read it: unchanged."""
        return layer

    def check_weights(self, layer: Layer, weights: Weights) -> None:
        """Refuse weights of another shape than the layer's."""
        shapes = {name: array.shape for name, array in weights.items()}
        if shapes != spec.weight_shapes(layer):
            raise ValueError(f"weights of shape {shapes} for {layer}")

    def check_input(self, layer: Layer, weights: Weights, x: Array) -> None:
        """Refuse an array of a dtype or shape that the layer does not take."""
        if not self.supports(layer, x.dtype.name):
            raise TypeError(f"{type(layer).__name__} takes no {x.dtype.name}")
        if any(array.dtype != x.dtype for array in weights.values()):
            raise TypeError(f"weights and input ({x.dtype.name}) differ in dtype")
        self.check_shape(layer, x.shape)

    def check_shape(self, layer: Layer, shape: Shape) -> None:
        """Refuse an input shape that the layer does not take."""
        match layer:
            case spec.Flatten():
                holds = len(shape) >= max(1, layer.start)
            case spec.ReLU():
                holds = True
            case spec.Dense():
                holds = len(shape) >= 1 and shape[-1] == layer.in_features
            case spec.Conv():
                holds = len(shape) == layer.rank + 2 and shape[-1] == layer.in_channels
            case spec.Windowed() | spec.Global() | spec.Adaptive():
                holds = len(shape) == layer.rank + 2
            case _:
                raise Unsupported(f"no kernel for {type(layer).__name__}")
        if not holds:
            raise ValueError(f"an input of shape {shape} does not fit {layer}")
        if isinstance(layer, spec.Global | spec.Adaptive) and 0 in shape[1:-1]:
            raise ValueError(f"{type(layer).__name__} of an empty feature map")

    # Where the windows lie

    def axes(self, layer: Layer, spatial: Shape) -> list[Axis]:
        """Return how the windows lie over each spatial axis."""
        return [self.axis(layer, number, size) for number, size in enumerate(spatial)]

    def axis(self, layer: Layer, number: int, size: int) -> Axis:
        """Return how the windows lie over one spatial axis of length ``size``."""
        match layer:
            case spec.Global():
                index = np.arange(size)[None]
            case spec.Adaptive():
                return self.adaptive_axis(layer.output[number], size)
            case spec.Windowed():
                before, after = self.pads(layer, number, size)
                outputs = self.output_size(layer, number, size)
                if outputs < 1:
                    outputs = self.no_window(layer, size)
                starts = np.arange(outputs) * layer.stride[number] - before
                cells = np.arange(layer.window[number]) * layer.dilation[number]
                index = starts[:, None] + cells
                return Axis(index, size, (index >= -before) & (index < size + after))
            case _:
                raise Unsupported(f"no windows in {type(layer).__name__}")
        return Axis(index, size, np.ones_like(index, dtype=bool))

    def adaptive_axis(self, outputs: int, size: int) -> Axis:
        """Return the windows of an adaptive pooling; cells after a window's end lie outside."""
        number = np.arange(outputs)
        return self.ragged(number * size // outputs, -(-(number + 1) * size // outputs), size)

    def ragged(self, starts: Array, stops: Array, size: int) -> Axis:
        """Return windows that run from ``starts`` up to, and without, ``stops``."""
        index = starts[:, None] + np.arange((stops - starts).max())
        belongs = index < stops[:, None]
        return Axis(np.where(belongs, index, size), size, belongs)

    def no_window(self, layer: spec.Windowed, size: int) -> int:
        """Refuse an input axis in which no window fits."""
        raise ValueError(f"no window of {layer} fits an axis of length {size}")

    def extent(self, layer: spec.Windowed, number: int) -> int:
        """Return the cells that the dilated window spans."""
        return (layer.window[number] - 1) * layer.dilation[number] + 1

    def pads(self, layer: spec.Windowed, number: int, size: int) -> tuple[int, int]:
        """Return the padding before and after an axis."""
        if not isinstance(layer.padding, str):
            return layer.padding[number]
        outputs = -(-size // layer.stride[number])
        whole = (outputs - 1) * layer.stride[number] + self.extent(layer, number)
        return self.split(layer.padding, max(whole - size, 0))

    def split(self, padding: str, cells: int) -> tuple[int, int]:
        """Split the cells that ``same`` adds to an axis into those before and after."""
        less, more = cells // 2, cells - cells // 2
        return (more, less) if padding == "same_lower" else (less, more)

    def output_size(self, layer: spec.Windowed, number: int, size: int) -> int:
        """Return the number of windows along an axis; below 1 if none fits."""
        stride = layer.stride[number]
        if isinstance(layer.padding, str):
            return -(-size // stride)
        before, after = self.pads(layer, number, size)
        room = size + before + after - self.extent(layer, number)
        if not (isinstance(layer, spec.Pool) and layer.ceil_mode):
            return room // stride + 1
        outputs = -(-room // stride) + 1
        return outputs - self.starts_after(outputs, stride, size + before)

    def starts_after(self, outputs: int, stride: int, end: int) -> int:
        """Return 1 if the last window starts after the input has ended, and so is dropped."""
        return int((outputs - 1) * stride >= end)

    def gather(self, x: Array, axes: Sequence[Axis]) -> Array:
        """Return the cells of all windows, shape ``(batch, *outputs, channels, cells)``.

        A cell of the padding holds an arbitrary value of the input.
        """
        rank, cells = len(axes), x
        for number, axis in enumerate(axes):
            if axis.size:
                inside = axis.index.clip(0, axis.size - 1)
                cells = np.take(cells, inside, axis=1 + 2 * number)
            else:
                shape = list(cells.shape)
                shape[1 + 2 * number : 2 + 2 * number] = axis.index.shape
                cells = np.zeros(shape, x.dtype)
        cells = cells.transpose(0, *range(1, 2 * rank, 2), 2 * rank + 1, *range(2, 2 * rank + 1, 2))
        return cells.reshape(*cells.shape[: rank + 2], math.prod(cells.shape[rank + 2 :]))

    def inside(self, axes: Sequence[Axis]) -> Array:
        """Return which cells lie in the input, shape ``(*outputs, 1, cells)``."""
        return over_axes([axis.inside for axis in axes])

    def divisor(self, layer: Layer, axes: Sequence[Axis]) -> Array:
        """Return the divisor of the mean of each window, shape ``(*outputs, 1)``."""
        if isinstance(layer, spec.AveragePool) and layer.count_include_pad:
            return over_axes([axis.counted for axis in axes]).sum(-1)
        return self.inside(axes).sum(-1)

    # What is computed

    def forward(self, layer: Layer, weights: Weights, x: Array) -> Array:
        """Compute a layer: the method of its name."""
        result: Array = getattr(self, snake(type(layer).__name__))(layer, weights, x)
        return result

    def finish(self, y: Array, dtype: np.dtype[Any]) -> Array:
        """Round a result to the dtype of the input, in an array of its own."""
        return np.ascontiguousarray(y.astype(dtype))

    def windows(self, layer: Layer, x: Array) -> tuple[Array, Array, list[Axis]]:
        """Return the cells of the windows, which of them lie in the input, and the axes."""
        axes = self.axes(layer, x.shape[1:-1])
        return self.gather(x, axes), self.inside(axes), axes

    def max_pool(self, layer: Layer, _weights: Weights, x: Array) -> Array:
        cells, inside, _axes = self.windows(layer, x)
        return self.finish(self.maximum(cells, inside), x.dtype)

    def min_pool(self, layer: Layer, _weights: Weights, x: Array) -> Array:
        cells, inside, _axes = self.windows(layer, x)
        return self.finish(self.minimum(cells, inside), x.dtype)

    def average_pool(self, layer: Layer, _weights: Weights, x: Array) -> Array:
        cells, inside, axes = self.windows(layer, x)
        terms = self.terms(cells, inside)
        return self.finish(self.mean(terms, self.divisor(layer, axes)), x.dtype)

    def lp_pool(self, layer: spec.LpPool, _weights: Weights, x: Array) -> Array:
        cells, inside, _axes = self.windows(layer, x)
        return self.finish(self.norm(self.terms(cells, inside), layer.p), x.dtype)

    def stochastic_pool(self, layer: spec.StochasticPool, _weights: Weights, x: Array) -> Array:
        cells, inside, _axes = self.windows(layer, x)
        if layer.training:
            return self.finish(self.draw(np.where(inside, cells, 0)), x.dtype)
        return self.finish(self.expectation(self.terms(cells, inside)), x.dtype)

    def adaptive_max_pool(self, layer: Layer, weights: Weights, x: Array) -> Array:
        return self.max_pool(layer, weights, x)

    def adaptive_average_pool(self, layer: Layer, weights: Weights, x: Array) -> Array:
        return self.average_pool(layer, weights, x)

    def global_max_pool(self, layer: Layer, weights: Weights, x: Array) -> Array:
        return self.max_pool(layer, weights, x).reshape(x.shape[0], x.shape[-1])

    def global_average_pool(self, layer: Layer, weights: Weights, x: Array) -> Array:
        return self.average_pool(layer, weights, x).reshape(x.shape[0], x.shape[-1])

    def conv(self, layer: spec.Conv, weights: Weights, x: Array) -> Array:
        y = self.correlate(layer, x, weights["weight"])
        return self.finish(self.add_bias(y, weights), x.dtype)

    def dense(self, layer: spec.Dense, weights: Weights, x: Array) -> Array:
        rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        y = self.inner(rows, weights["weight"].T)
        y = y.reshape(*x.shape[:-1], layer.out_features)
        return self.finish(self.add_bias(y, weights), x.dtype)

    def relu(self, _layer: Layer, _weights: Weights, x: Array) -> Array:
        return self.finish(self.rectify(x), x.dtype)

    def flatten(self, layer: spec.Flatten, _weights: Weights, x: Array) -> Array:
        joined = x.reshape(*x.shape[: layer.start], math.prod(x.shape[layer.start :]))
        return self.finish(joined, x.dtype)

    # How numbers are joined

    def wide(self, x: Array) -> Array:
        """Return values in the dtype in which they are accumulated: float64."""
        return x.astype(np.float64)

    def terms(self, cells: Array, inside: Array) -> Array:
        """Return cells as terms of a sum; those of the padding are 0."""
        wide = self.wide(cells)
        return np.where(inside, wide, wide.dtype.type(0))

    def total(self, terms: Array) -> Array:
        """Return the sum over the last axis."""
        result: Array = np.add.reduce(terms, axis=-1)
        return result

    def mean(self, terms: Array, divisor: Array) -> Array:
        """Return the sum over the last axis, divided; no intermediate overflows."""
        largest = np.abs(terms).max(-1, initial=0)
        if not np.any(np.isfinite(largest) & (largest > np.finfo(terms.dtype).max / 2**40)):
            return self.total(terms) / divisor.astype(terms.dtype)
        power, scaled = self.scaled(terms)
        return np.ldexp(self.total(scaled) / divisor.astype(terms.dtype), power)

    def scaled(self, terms: Array) -> tuple[Array, Array]:
        """Return a power of two per window, and its terms divided by it: all at most 1."""
        largest = np.abs(terms).max(-1, initial=0)
        power = np.where(np.isfinite(largest), np.frexp(largest)[1], 0)
        return power, np.ldexp(terms, -power[..., None])

    def norm(self, terms: Array, p: int) -> Array:
        """Return the p-norm over the last axis; no intermediate overflows or vanishes."""
        power, scaled = self.scaled(terms)
        total = self.total(np.abs(scaled) ** p)
        return np.ldexp(np.sqrt(total) if p == 2 else total ** (1 / p), power)

    def selectable(self, cells: Array, inside: Array, sign: int) -> Array:
        """Return cells in a dtype that NumPy selects in; those of the padding never win."""
        exact = cells.astype(np.float32) if cells.dtype.name in FLOATS[:2] else cells
        return np.where(inside, exact, extreme(exact.dtype, -sign))

    def maximum(self, cells: Array, inside: Array) -> Array:
        """Return the first largest cell of each window, or its first NaN."""
        cells = self.selectable(cells, inside, 1)
        return np.take_along_axis(cells, cells.argmax(-1)[..., None], -1)[..., 0]

    def minimum(self, cells: Array, inside: Array) -> Array:
        """Return the first smallest cell of each window, or its first NaN."""
        cells = self.selectable(cells, inside, -1)
        return np.take_along_axis(cells, cells.argmin(-1)[..., None], -1)[..., 0]

    def uniform(self, shape: Shape) -> Array:
        """Return uniform draws from [0, 1), one for each window."""
        return self.random.random(shape)

    def draw(self, cells: Array) -> Array:
        """Return a cell of each window, drawn in proportion to its value; 0 if all are 0."""
        return np.take_along_axis(cells, self.place(cells)[..., None], -1)[..., 0]

    def place(self, cells: Array) -> Array:
        """Draw the place of a cell in each window, in proportion to its value."""
        summed = np.cumsum(cells.astype(np.float64), axis=-1)
        threshold = self.uniform(cells.shape[:-1])[..., None] * summed[..., -1:]
        chosen: Array = (summed <= threshold).sum(-1).clip(0, cells.shape[-1] - 1)
        return chosen

    def expectation(self, terms: Array) -> Array:
        """Return the average of each window, weighted by its own values; 0 if all are 0."""
        power, scaled = self.scaled(terms)
        total = self.total(scaled)
        weighted = self.total(scaled * scaled)
        return np.where(total == 0, 0, np.ldexp(weighted / np.where(total == 0, 1, total), power))

    def inner(self, rows: Array, columns: Array) -> Array:
        """Return the matrix product, in the dtype of accumulation."""
        result: Array = self.wide(rows) @ self.wide(columns)
        return result

    def correlate(self, layer: spec.Conv, x: Array, weight: Array) -> Array:
        """Return the convolution without bias, group by group, by gathered windows."""
        cells, inside, axes = self.windows(layer, x)
        cells = np.where(inside, cells, x.dtype.type(0))
        outputs = tuple(axis.index.shape[0] for axis in axes)
        of_in, of_out = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        parts = []
        for group in range(layer.groups):
            rows = cells[..., group * of_in : (group + 1) * of_in, :]
            matrix = weight[..., group * of_out : (group + 1) * of_out]
            matrix = np.moveaxis(matrix.reshape(-1, of_in, of_out), 0, 1)
            flat = rows.reshape(math.prod(rows.shape[:-2]), math.prod(rows.shape[-2:]))
            parts.append(self.inner(flat, matrix.reshape(-1, of_out)))
        return np.concatenate(parts, -1).reshape(x.shape[0], *outputs, layer.out_channels)

    def add_bias(self, y: Array, weights: Weights) -> Array:
        """Return ``y`` plus the bias, if there is one."""
        return y + self.wide(weights["bias"]) if "bias" in weights else y

    def rectify(self, x: Array) -> Array:
        """Return ``max(x, 0)``; NaN stays, the result is never -0."""
        return np.where(x <= 0, x.dtype.type(0), x)

    # Gradients

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        layer = self.validated(layer)
        self.check_weights(layer, weights)
        self.layer = layer = self.understood(layer)
        self.check_input(layer, weights, x)
        with np.errstate(all="ignore"):
            grads = self.backward(layer, weights, x, upstream)
            return {name: self.finish(grad, x.dtype) for name, grad in grads.items()}

    def backward(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Return the gradients in float64."""
        g = upstream.astype(np.float64)
        match layer:
            case spec.Flatten():
                return {"input": g.reshape(x.shape)}
            case spec.ReLU():
                return {"input": self.relu_gradient(x, g)}
            case spec.Dense():
                rows = self.wide(x).reshape(math.prod(x.shape[:-1]), layer.in_features)
                flat = g.reshape(math.prod(x.shape[:-1]), layer.out_features)
                grads = {
                    "input": (flat @ self.wide(weights["weight"])).reshape(x.shape),
                    "weight": flat.T @ rows.reshape(len(flat), layer.in_features),
                    "bias": flat.sum(0),
                }
            case spec.Conv():
                grads = self.conv_gradient(layer, weights, x, g)
            case _:
                cells, inside, axes = self.windows(layer, x)
                g = g.reshape(cells.shape[:-1])
                local = self.cell_gradient(layer, cells, inside, self.divisor(layer, axes))
                return {"input": self.scatter(local * g[..., None], axes, x.shape)}
        return {name: grad for name, grad in grads.items() if name in ("input", *weights)}

    def relu_gradient(self, x: Array, g: Array) -> Array:
        """Return the gradient of ReLU; 0 at 0."""
        return np.where(x <= 0, 0, g)

    def conv_gradient(
        self, layer: spec.Conv, weights: Weights, x: Array, g: Array
    ) -> dict[str, Array]:
        """Return the gradients of a convolution."""
        cells, inside, axes = self.windows(layer, x)
        cells = self.terms(cells, inside)
        kernel = self.wide(weights["weight"])
        of_in, of_out = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        d_cells, d_kernel = np.zeros_like(cells, np.float64), np.zeros_like(kernel)
        for group in range(layer.groups):
            ins = slice(group * of_in, (group + 1) * of_in)
            outs = slice(group * of_out, (group + 1) * of_out)
            flat = kernel[..., outs].reshape(-1, of_in, of_out)
            d_cells[..., ins, :] = np.einsum("...o,kio->...ik", g[..., outs], flat)
            rows = cells[..., ins, :].reshape(-1, of_in, flat.shape[0])
            d_flat = np.einsum("rik,ro->kio", rows, g[..., outs].reshape(-1, of_out))
            d_kernel[..., outs] = d_flat.reshape(*layer.window, of_in, of_out)
        return {
            "input": self.scatter(d_cells, axes, x.shape),
            "weight": d_kernel,
            "bias": g.sum(tuple(range(g.ndim - 1))),
        }

    def cell_gradient(self, layer: Layer, cells: Array, inside: Array, divisor: Array) -> Array:
        """Return the derivative of each window's result by each of its cells."""
        match layer:
            case spec.MaxPool() | spec.GlobalMaxPool() | spec.AdaptiveMaxPool():
                return self.selected(self.selectable(cells, inside, 1), inside, 1)
            case spec.MinPool():
                return self.selected(self.selectable(cells, inside, -1), inside, -1)
            case spec.AveragePool() | spec.GlobalAveragePool() | spec.AdaptiveAveragePool():
                return np.where(inside, 1 / divisor[..., None], np.zeros(cells.shape))
            case spec.LpPool():
                return self.norm_gradient(self.terms(cells, inside), layer.p)
            case spec.StochasticPool(training=False):
                terms = self.terms(cells, inside)
                total = self.total(terms)[..., None]
                mean = self.expectation(terms)[..., None]
                return np.where(total == 0, 0, (2 * terms - mean) / np.where(total == 0, 1, total))
            case spec.StochasticPool():
                return self.drawn(self.place(np.where(inside, cells, 0)), cells.shape[-1])
            case _:
                raise Unsupported(f"no gradient of {layer}")

    def selected(self, cells: Array, inside: Array, sign: int) -> Array:
        """Return 1 at the chosen cell of each window and 0 elsewhere."""
        chosen = (cells.argmax(-1) if sign > 0 else cells.argmin(-1))[..., None]
        inside = np.broadcast_to(inside, cells.shape)
        fits = np.take_along_axis(inside, chosen, -1)
        chosen = np.where(fits, chosen, inside.argmax(-1)[..., None])
        result: Array = (np.arange(cells.shape[-1]) == chosen) & inside
        return result.astype(np.float64)

    def drawn(self, place: Array, cells: int) -> Array:
        """Return 1 at the drawn cell of each window and 0 elsewhere."""
        return (np.arange(cells) == place[..., None]).astype(np.float64)

    def norm_gradient(self, terms: Array, p: int) -> Array:
        """Return the derivative of the p-norm; 0 for a window of zeros."""
        norm = self.norm(terms, p)[..., None]
        share = np.abs(terms) / np.where(norm == 0, 1, norm)
        return np.sign(terms) * share ** (p - 1)

    def scatter(self, cells: Array, axes: Sequence[Axis], shape: Shape) -> Array:
        """Add the gradients of cells into an array of the input's shape."""
        position = axes[0].index
        for axis in axes[1:]:
            position = crossed(position * axis.size, axis.index, np.add)
        keep = self.inside(axes)[..., 0, :].reshape(-1)
        rank = len(axes)
        flat = np.zeros((math.prod(shape[1:-1]), shape[0], shape[-1]))
        moved = cells.transpose(*range(1, rank + 1), rank + 2, 0, rank + 1)
        moved = moved.reshape(position.size, shape[0], shape[-1])
        np.add.at(flat, position.reshape(-1)[keep], moved[keep])
        return np.moveaxis(flat, 0, 1).reshape(shape)
