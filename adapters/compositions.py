"""Layers that a framework lacks, each made of several of its calls: what here is ours.

An adapter lists in ``compositions`` which of these it needs; reports call such layers composed.
The others are the framework's own, and stand in ``native`` of its adapter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.calls import Call, Name, Tensor, call
from cnnformance.adapters.padding import (
    is_explicit,
    last_axis_first,
    overhanging,
    pairs,
    undilated,
    with_channels_last,
)
from cnnformance.adapters.table import Composition, Table
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    Pool,
    Shape,
    StochasticPool,
    Windowed,
)


def unpadded(layer: Windowed) -> Windowed:
    """Return a windowed layer without its padding."""
    return layer.unchecked(**vars(layer) | {"padding": ()})


def negated_max_pool(table: Table, layer: MinPool, x: Tensor, negative: str) -> Call:
    """Reverse the order of numbers by a call of this name, and take the largest."""
    largest, _ = table.result(MaxPool.unchecked(**vars(layer)), x.after(call(negative, x)))
    return call(negative, largest)


def minimum(negative: str) -> Composition:
    """Return what negates by a call of this name, and takes the largest."""

    def least(table: Table, layer: MinPool, x: Tensor) -> Call:
        return negated_max_pool(table, layer, x, negative)

    return least


def norm(functions: str, **renamed: str) -> Composition:
    """Return the root of the mean of powers times their number, by functions of usual names."""
    usual = ("square", "abs", "pow", "multiply", "sqrt")
    names = [functions.format(renamed.get(name, name)) for name in usual]
    square, magnitude, raised, multiplied, root = names

    def norm_by_mean(table: Table, layer: LpPool, x: Tensor) -> Call:
        two = layer.p == 2
        powers = call(square, x) if two else call(raised, call(magnitude, x), layer.p)
        fields = vars(layer) | {"count_include_pad": True}
        mean, _ = table.result(AveragePool.unchecked(**fields), x.after(powers))
        total = call(multiplied, mean, math.prod(layer.window))
        return call(root, total) if two else call(raised, total, 1 / layer.p)

    return norm_by_mean


def counts_zeros(layer: Windowed) -> bool:
    """Whether zeros around the input are the layer's padding, told by numbers."""
    return is_explicit(layer) and getattr(layer, "count_include_pad", True)


# PyTorch


def torch_min_pool(table: Table, layer: MinPool, x: Tensor) -> Call:
    """Reverse the order of numbers, and take the largest: by ``~x``, where ``-x`` may overflow."""
    negative = "torch.neg" if "float" in x.dtype else "torch.bitwise_not"
    return negated_max_pool(table, layer, x, negative)


def torch_padded(table: Table, layer: Windowed, x: Tensor) -> Call:
    """Pad, by what never wins or adds, before a layer without padding."""
    if isinstance(layer, MaxPool):
        lowest = {"uint8": 0, "int8": -(1 << 7), "int16": -(1 << 15), "int32": -(1 << 31)}
        fill = float("-inf") if "float" in x.dtype else lowest.get(x.dtype, -(1 << 63))
        return table.native(unpadded(layer), torch_pad(layer, x, value=fill))
    if isinstance(layer, AveragePool) and not layer.count_include_pad:
        undilated(layer, "PyTorch")
        ones = x.after(call("torch.ones_like", x))
        return call("torch.div", torch_sum(layer, x), torch_sum(layer, ones))
    return table.native(unpadded(layer), torch_pad(layer, x))


def torch_pad(layer: Windowed, x: Tensor, **fill: Any) -> Tensor:
    """Return the input within its padding.

    Raises:
        Unsupported: the padding crops, or a pooling rounds up, which sees it otherwise.
    """
    rounds_up = getattr(layer, "ceil_mode", False)
    if not isinstance(layer.padding, str) and (rounds_up or min(map(min, layer.padding)) < 0):
        raise Unsupported(f"PyTorch cannot round up, or crop, with padding {layer.padding}")
    flat = last_axis_first(pairs(layer, x.spatial))
    return x.after(call("nn.functional.pad", x, flat, **fill))


def torch_sum(layer: AveragePool, x: Tensor) -> Call:
    """Average with a divisor of 1, which only the ranks 2 and 3 can."""
    x = torch_pad(layer, x)
    if layer.rank == 1:
        pool = "nn.functional.avg_pool2d"
        x = x.after(call("torch.unsqueeze", x, 2))
        window, stride = (1, *layer.window), (1, *layer.stride)
        return call("torch.squeeze", call(pool, x, window, stride, divisor_override=1), 2)
    pool = f"nn.functional.avg_pool{layer.rank}d"
    return call(pool, x, layer.window, layer.stride, divisor_override=1)


def torch_global_pool(table: Table, layer: GlobalAveragePool | GlobalMaxPool, x: Tensor) -> Call:
    """Pool to one cell, and drop its axes."""
    kind = AdaptiveMaxPool if isinstance(layer, GlobalMaxPool) else AdaptiveAveragePool
    cell = table.native(kind.unchecked(output=(1,) * layer.rank), x)
    return call("torch.flatten", cell, 1)


def torch_stochastic_pool(_table: Table, layer: StochasticPool, x: Tensor) -> Call:
    """Draw a cell of each window, or average the cells, by their share in the window's sum."""
    undilated(layer, "PyTorch")
    if not layer.unpadded:
        x = torch_pad(layer, x)
    cells: Any = x
    for axis, (size, step) in enumerate(zip(layer.window, layer.stride, strict=True), 2):
        cells = call("torch.Tensor.unfold", cells, axis, size, step)
    cells = call("torch.flatten", cells, -layer.rank)
    total = call("torch.sum", cells, -1, keepdim=True)
    even = 1 / math.prod(layer.window)
    share = call("torch.where", call("torch.eq", total, 0), even, call("torch.div", cells, total))
    if not layer.training:
        return call("torch.sum", call("torch.mul", cells, share), -1)
    drawn = call("torch.multinomial", call("torch.flatten", share, 0, -2), 1)
    placed = call("torch.Tensor.view_as", drawn, total)
    return call("torch.squeeze", call("torch.gather", cells, -1, placed), -1)


# Keras


def keras_padded(table: Table, layer: AveragePool | Conv, x: Tensor) -> Call:
    """Pad with zeros by a layer of its own, where averages count them."""
    if not counts_zeros(layer):
        return table.native(layer, x)  # which says what there is not
    padding = layer.padding if layer.rank > 1 else layer.padding[0]
    padded = call(f"keras.layers.ZeroPadding{layer.rank}D", padding=padding, dtype=x.dtype)(x)
    return table.native(unpadded(layer), x.after(padded))


# TensorFlow


def rounds_down(layer: Layer) -> None:
    """Raise ``Unsupported`` for what TensorFlow has no word for in any layer."""
    if getattr(layer, "ceil_mode", False) or getattr(layer, "padding", ()) == "same_lower":
        raise Unsupported("TensorFlow rounds the number of windows down, and pads after first")


def tensorflow_padded(table: Table, layer: AveragePool | Conv, x: Tensor) -> Call:
    """Pad by a layer of Keras or, in the modes of functions, by a function."""
    return (functions_padded if table.mode else keras_padded)(table, layer, x)


def functions_padded(table: Table, layer: AveragePool | Conv, x: Tensor) -> Call:
    """Pad with zeros by a call of its own, where averages count them."""
    if not counts_zeros(layer):
        return table.native(layer, x)  # which says what there is not
    padded = call("tf.pad", x, paddings=with_channels_last(pairs(layer, x.spatial)))
    return table.native(unpadded(layer), x.after(padded))


def tensorflow_stochastic_pool(_table: Table, layer: StochasticPool, x: Tensor) -> Call:
    """Draw one element of every window, or average them by probability."""
    rounds_down(layer)
    cells = call("tf.stack", [call("tf.strided_slice", x, *at) for at in slices(layer, x)], -1)
    if not layer.training:
        squares = call("tf.reduce_sum", call("tf.math.multiply", cells, cells), -1)
        return call("tf.math.divide_no_nan", squares, call("tf.reduce_sum", cells, -1))
    shape = (x.shape[0], *windows(layer, x), x.shape[-1])
    rows = call("tf.reshape", cells, (math.prod(shape), math.prod(layer.window)))
    wide = call("tf.cast", rows, "float64")
    empty = call("tf.reduce_all", call("tf.equal", wide, 0), axis=-1, keepdims=True)
    even, logs = call("tf.zeros_like", wide), call("tf.math.log", wide)
    drawn = call("tf.random.categorical", call("tf.where", empty, even, logs), 1)
    return call("tf.reshape", call("tf.gather", rows, drawn, batch_dims=1), shape)


# JAX


def jax_windows(layer: Pool, x: Tensor, operation: str, initial: Any) -> Call:
    """Reduce every window over the spatial axes, in the dtype of the array."""
    dilated = {"window_dilation": (1, *layer.dilation, 1)} if set(layer.dilation) != {1} else {}
    pads = with_channels_last(overhanging(layer, x.spatial))
    return call(
        "lax.reduce_window",
        x,
        call("np.array", initial, x.dtype),
        Name(operation),
        (1, *layer.window, 1),
        (1, *layer.stride, 1),
        tuple(map(tuple, pads)),  # JAX before 0.6 takes no lists
        **dilated,
    )


def jax_average_pool(_table: Table, layer: AveragePool, x: Tensor) -> Call:
    """Divide the sums of the windows by their numbers of cells."""
    ones, counted = call("np.ones", (1, *x.spatial, 1), "float32"), layer
    if layer.count_include_pad:  # the padding is of ones, and what overhangs it is not
        inside, wide = pairs(layer, x.spatial), overhanging(layer, x.spatial)
        ones = call("np.pad", ones, with_channels_last(inside), constant_values=1)
        beyond = tuple((0, w - c) for (_, c), (_, w) in zip(inside, wide, strict=True))
        counted = AveragePool.unchecked(**vars(layer) | {"padding": beyond, "ceil_mode": False})
    cells = jax_windows(counted, Tensor(x.shape, "float32", made=ones), "lax.add", 0)
    total = jax_windows(layer, x, "lax.add", 0)
    return call("lax.convert_element_type", call("jnp.divide", total, cells), x.dtype)


def jax_lp_pool(_table: Table, layer: LpPool, x: Tensor) -> Call:
    """Take the roots of the windows' sums of powers."""
    if layer.p == 2:
        squares = x.after(call("jnp.square", x))
        return call("jnp.sqrt", jax_windows(layer, squares, "lax.add", 0))
    powers = x.after(call("jnp.power", call("jnp.abs", x), layer.p))
    return call("jnp.power", jax_windows(layer, powers, "lax.add", 0), 1 / layer.p)


def jax_stochastic_pool(_table: Table, layer: StochasticPool, x: Tensor) -> Call:
    """Draw one element of every window by ``key``, or average them by probability."""
    cells = call("jnp.stack", [jax_slice(x, *at) for at in slices(layer, x)], -1)
    if not layer.training:
        total = call("jnp.sum", cells, -1)
        squares = call("jnp.sum", call("jnp.multiply", cells, cells), -1)
        some = call("jnp.where", call("jnp.equal", total, 0), 1, total)
        return call("jnp.divide", squares, some)
    wide = call("lax.convert_element_type", cells, "float64" if x.dtype == "float64" else "float32")
    drawn = call("jax.random.categorical", Name("key"), call("jnp.log", wide))
    places = call("jnp.expand_dims", drawn, -1)
    return call("jnp.squeeze", call("jnp.take_along_axis", cells, places, -1), -1)


def jax_slice(x: Tensor, begins: list[int], ends: list[int], strides: list[int]) -> Call:
    """Cut from where the slice begins, then stride: compiled once for all cells of a window."""
    sizes = [end - begin for begin, end in zip(begins, ends, strict=True)]
    return call(
        "lax.slice", call("lax.dynamic_slice", x, begins, sizes), [0] * len(sizes), sizes, strides
    )


# TensorFlow and JAX


def windows(layer: StochasticPool, x: Tensor) -> Shape:
    """Return how many windows fit along each axis."""
    axes = zip(x.spatial, layer.window, layer.stride, strict=True)
    return tuple(max((n - w) // max(s, 1) + 1, 0) for n, w, s in axes)


def slices(layer: StochasticPool, x: Tensor) -> list[tuple[list[int], list[int], list[int]]]:
    """Return, for each cell of a window, where it lies in the input: begins, ends and strides."""
    shape, strides = x.shape, [1, *layer.stride, 1]
    found = []
    for cell in product(*map(range, layer.window)):
        axes = zip(cell, windows(layer, x), layer.stride, strict=True)
        spans = [(i, i + (n - 1) * step + 1) if n else (0, 0) for i, n, step in axes]
        begins, ends = zip(*spans, strict=True)
        found.append(([0, *begins, 0], [shape[0], *ends, shape[-1]], strides))
    return found


# ONNX


def onnx_stochastic_pool(table: Table, layer: StochasticPool, x: Tensor) -> Call:
    """Divide the averages of the squares by the averages."""
    if layer.training:
        raise Unsupported("ONNX has no operator that draws a cell")
    average = AveragePool.unchecked(**vars(layer))
    under = table.native(average, x)
    over = table.native(average, x.after(call("Mul", x, x)))
    zero = call("CastLike", call("Constant", value_float=0.0), x)
    return call("Where", call("Equal", under, zero), zero, call("Div", over, under))


# MLX


def mlx_padded(table: Table, layer: MaxPool | AveragePool, x: Tensor) -> Call:
    """Pad by what never wins, or by zeros that are counted, before a pooling."""
    counts = getattr(layer, "count_include_pad", True)
    if layer.unpadded or not counts or layer.ceil_mode or "float" not in x.dtype:
        return table.native(layer, x)  # which says what there is not
    fill = float("-inf") if isinstance(layer, MaxPool) else 0
    around = with_channels_last(pairs(layer, x.spatial))
    padded = call("mx.pad", x, around, constant_values=fill)
    return table.native(unpadded(layer), x.after(padded))


# ncnn


def ncnn_min_pool(table: Table, layer: MinPool, x: Tensor) -> Call:
    """Negate, and take the largest."""
    negated = call("UnaryOp", x, {0: 1})
    largest, _ = table.result(MaxPool.unchecked(**vars(layer)), x.after(negated))
    return call("UnaryOp", largest, {0: 1})


TORCH: Mapping[type[Layer], Composition] = {
    MaxPool: torch_padded,
    MinPool: torch_min_pool,
    AveragePool: torch_padded,
    LpPool: torch_padded,
    Conv: torch_padded,
    StochasticPool: torch_stochastic_pool,
    GlobalAveragePool: torch_global_pool,
    GlobalMaxPool: torch_global_pool,
}
KERAS: Mapping[type[Layer], Composition] = {
    MinPool: minimum("keras.ops.negative"),
    AveragePool: keras_padded,
    LpPool: norm("keras.ops.{}", pow="power"),
    Conv: keras_padded,
}
TENSORFLOW: Mapping[type[Layer], Composition] = {
    MinPool: minimum("tf.math.negative"),
    AveragePool: tensorflow_padded,
    LpPool: norm("tf.math.{}"),
    Conv: tensorflow_padded,
    StochasticPool: tensorflow_stochastic_pool,
}
LITERT: Mapping[type[Layer], Composition] = {
    MinPool: minimum("tf.math.negative"),
    AveragePool: functions_padded,
    LpPool: norm("tf.math.{}"),
    Conv: functions_padded,
}
JAX: Mapping[type[Layer], Composition] = {
    AveragePool: jax_average_pool,
    LpPool: jax_lp_pool,
    StochasticPool: jax_stochastic_pool,
}
ONNX: Mapping[type[Layer], Composition] = {
    MinPool: minimum("Neg"),
    StochasticPool: onnx_stochastic_pool,
}
OPENVINO: Mapping[type[Layer], Composition] = {MinPool: minimum("ops.negative")}
MLX: Mapping[type[Layer], Composition] = {
    MaxPool: mlx_padded,
    MinPool: minimum("mx.negative"),
    AveragePool: mlx_padded,
    LpPool: norm("mx.{}", pow="power"),
}
PADDLE: Mapping[type[Layer], Composition] = {MinPool: minimum("paddle.neg")}
TINYGRAD: Mapping[type[Layer], Composition] = {
    MinPool: minimum("Tensor.neg"),
    LpPool: norm("Tensor.{}", multiply="mul"),
}
NCNN: Mapping[type[Layer], Composition] = {MinPool: ncnn_min_pool}
