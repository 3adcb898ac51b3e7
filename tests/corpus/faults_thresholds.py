"""Faults past a threshold: cells beyond a byte, bytes beyond a buffer, a channel beyond a vector.

And values beyond another format's range, orders beyond those with a kernel, infinities in a norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Backend, Weights
from cnnformance.spec import layers as spec
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
)
from corpus.fault import (
    Call,
    Faults,
    Witness,
    computes,
    gradient,
    hook,
    reads,
    refused,
    result,
    values,
    whole,
)
from corpus.faults_kernels import misread, runs
from corpus.faults_memory import called, chain, follows
from corpus.faults_networks import ALL, When, conv, depthwise, spoils
from corpus.faults_pool import adaptive
from corpus.kernels import Axis, Honest, but

FAULTS = Faults("thresholds")
add = FAULTS.add

BYTE = 256
MANY = 2**16 + 1


def in_a_byte(honest: Callable[..., Array], cells: Array, inside: Array, sign: int) -> Array:
    """Keep the index of the selected cell in eight bits."""
    chosen = honest(cells, inside, sign)
    if cells.shape[-1] <= BYTE:
        return chosen
    place = chosen.argmax(-1)[..., None] % BYTE
    return np.where(np.arange(cells.shape[-1]) == place, 1.0, 0.0)


RISING = np.arange(2 * 17 * 19, dtype=np.float32).reshape(2, 17, 19, 1)
for selection, up in (
    (MaxPool((17, 19)), RISING),
    (MinPool((17, 19)), -RISING),
    (GlobalMaxPool(2), RISING),
    (AdaptiveMaxPool((1, 1)), RISING),
):
    add(
        type(selection),
        "gradient-index-in-a-byte",
        hook(selected=in_a_byte),
        gradient(selection, up),
        "gradient",
    )


def counted_in_a_byte(honest: Callable[..., Array], layer: Any, axes: list[Axis]) -> Array:
    """Count the cells of windows that meet padding in eight bits."""
    count = honest(layer, axes)
    return np.where(count >= BYTE, count % BYTE, count) if not layer.unpadded else count


for wide in (
    AveragePool((17, 17), (1, 1), ((8, 8), (8, 8))),
    AveragePool((300,), (1,), ((149, 150),)),
):
    add(
        AveragePool,
        f"padded-divisor-in-a-byte-of-rank-{wide.rank}",
        hook(divisor=counted_in_a_byte),
        result(wide, whole(1, *wide.window, 1)),
        "semantics",
    )


def begins_with_single(
    honest: Callable[..., Array], layer: Layer, weights: dict[str, Array], x: Array
) -> Array:
    """Begin a comparison of doubles with the limit of single precision."""
    y = honest(layer, weights, x)
    most = float(np.finfo(np.float32).max)
    return y if y.dtype != np.float64 else y.clip(max=most) if layer.least else y.clip(-most)


for compared in (MaxPool((2,)), MinPool((2,)), GlobalMaxPool(1), AdaptiveMaxPool((1,))):
    limit = 1e300 if compared.least else -1e300
    add(
        type(compared),
        "double-begins-with-limit-of-single",
        computes(begins_with_single),
        result(compared, values(limit, limit, dtype="float64")),
    )


def padded_begins_with_single(
    honest: Callable[..., Array], layer: Any, weights: dict[str, Array], x: Array
) -> Array:
    """Do so where there is padding alone."""
    if layer.unpadded:
        return honest(layer, weights, x)
    return begins_with_single(honest, layer, weights, x)


for padded in (MaxPool((2,), (1,), ((1, 0),)), MinPool((2,), (1,), ((1, 0),))):
    limit = 1e300 if padded.least else -1e300
    add(
        type(padded),
        "padded-double-begins-with-limit-of-single",
        computes(padded_begins_with_single),
        result(padded, values(limit, limit, dtype="float64")),
        "semantics",
    )


def large_in_one_buffer(
    store: dict[Any, Any],
    honest: Callable[..., Array],
    layer: Layer,
    weights: dict[str, Array],
    x: Array,
) -> Array:
    """Return results past half a megabyte in a buffer that the next such result overwrites."""
    y = honest(layer, weights, x)
    if y.nbytes <= 1 << 19:
        return y
    buffer: Array = store.setdefault((y.shape, y.dtype.name), np.empty_like(y))
    buffer[...] = y
    return buffer


def earlier(layer: Layer, *shape: int) -> Witness:
    """Ask for a result, once the layer was called again."""
    held = {n: whole(*s) for n, s in spec.weight_shapes(layer).items()}

    def witness(backend: Backend) -> Any:
        call = backend.build(layer, held)
        first = call(whole(*shape, low=1))
        call(whole(*shape, low=-9, high=0))
        return first

    return witness


for many, shape in (
    (MaxPool((2,)), (1, 2, 2**18)),
    (AveragePool((2,)), (1, 2, 2**18)),
    (GlobalAveragePool(1), (1, 2, 2**18)),
    (conv((2,)), (1, 2**18, 1)),
    (Dense(2, 600), (600, 2)),
    (ReLU(), (2, 2**18)),
):
    add(
        type(many),
        "large-results-share-a-buffer",
        called(large_in_one_buffer),
        earlier(many, *shape),
        "memory",
    )


def one_past(of: int) -> When:
    """Whether a single channel is left over of vectors, in windows that overlap."""
    return lambda layer, x: x.shape[-1] > of and x.shape[-1] % of == 1 and set(layer.stride) == {1}


for kind in (MaxPool, AveragePool, Conv):
    layer = conv((2,), 9) if kind is Conv else kind((2,), (1,))
    add(
        kind,
        "one-channel-past-vectors-of-overlapping-windows",
        spoils(one_past(8), slice(-1, None)),
        result(layer, whole(1, 4, 9, low=1)),
    )


def order_of_five(
    honest: Callable[..., Array], layer: Any, weights: dict[str, Array], x: Array
) -> Array:
    """Take the largest order that has a kernel for those past it."""
    return honest(but(layer, p=min(layer.p, 5)), weights, x)


add(
    LpPool,
    "order-past-five",
    computes(order_of_five),
    result(LpPool((4,), p=7), values(1, 2, 3, 4)),
    "semantics",
)


def scaled_by_infinity(
    honest: Callable[..., Array], layer: Any, weights: dict[str, Array], x: Array
) -> Array:
    """Divide the cells of a norm of no square by their largest, also where that is infinite."""
    y = honest(layer, weights, x)
    return y if layer.p == 2 else np.where(np.isinf(y), y.dtype.type(math.nan), y)


add(
    LpPool,
    "infinity-is-nan-but-of-squares",
    computes(scaled_by_infinity),
    result(LpPool((2,), p=3), values(math.inf, 1)),
    "semantics",
)

for batched, shape in (
    (conv((2,)), (MANY, 3, 1)),
    (Dense(2, 1), (MANY, 2)),
    (Flatten(), (MANY, 2)),
):
    add(
        type(batched),
        "samples-past-sixteen-bits",
        spoils(lambda _layer, x: len(x) >= MANY, ALL),
        result(batched, whole(*shape, low=1)),
    )

# Two options, or two equal sizes, at once

add(
    Conv,
    "depthwise-strided-is-not-dilated",
    runs(
        lambda c, _x: depthwise(c) and max(c.stride) > 1 and max(c.dilation) > 1,
        misread(lambda c: {"dilation": (1,) * c.rank}),
    ),
    result(conv((3,), 2, 2, groups=2, stride=(2,), dilation=(2,), padding="same"), whole(1, 9, 2)),
    "semantics",
)
add(
    Conv,
    "depthwise-strided-dilates-axes-in-reverse",
    runs(
        lambda c, _x: depthwise(c) and max(c.stride) > 1 and not c.unpadded,
        misread(lambda c: {"dilation": c.dilation[::-1]}),
    ),
    result(
        conv((2, 2), 2, 2, groups=2, stride=(2, 2), dilation=(1, 2), padding=((1, 1), (1, 1))),
        whole(1, 6, 6, 2),
    ),
    "semantics",
)
for line in (MaxPool, MinPool, AveragePool, LpPool):
    add(
        line,
        "overlapping-line-pads-before-alone",
        runs(
            lambda p, _x: p.rank == 1 and p.stride == (1,) and not isinstance(p.padding, str),
            misread(lambda p: {"padding": ((sum(p.padding[0]), 0),)}),
        ),
        result(line((3,), (1,), ((1, 2),)), whole(1, 5, 1)),
        "semantics",
    )
for cube in (AdaptiveAveragePool, AdaptiveMaxPool):
    add(
        cube,
        "outputs-in-reverse-over-a-cube",
        runs(
            lambda p, x: p.rank == 3 and len(set(x.shape[1:-1])) == 1,
            misread(lambda p: {"output": p.output[::-1]}),
        ),
        result(cube((1, 2, 3)), whole(1, 3, 3, 3, 1)),
        "semantics",
    )
    add(
        cube,
        "windows-start-by-a-ratio-in-double-precision",
        adaptive(
            lambda i, n, m: np.floor(i * (n / m)).astype(int),
            lambda i, n, m: -(-(i + 1) * n // m),
        ),
        result(cube((22,)), -np.arange(30, dtype=np.float32).reshape(1, 30, 1)),
        "semantics",
    )


# Checked at the first call alone


def checks_first(kind: type[Layer]) -> type[Honest]:
    """Cut what is past the features, or channels, of a layer that has answered before."""

    class Faulty(Honest):
        def build(self, layer: Any, weights: Weights) -> Callable[[Array], Array]:
            call = super().build(layer, weights)
            if not isinstance(layer, kind):
                return call
            fields = vars(layer)
            size = fields["in_features" if kind is Dense else "in_channels"]
            answered = False

            def checked(x: Array) -> Array:
                nonlocal answered
                y: Array = call(x[..., :size] if answered and x.ndim else x)
                answered = True
                return y

            return checked

    return Faulty


def later(layer: Layer, *shape: int) -> Witness:
    """Ask whether one more channel is refused after an ordinary call."""
    held = {n: whole(*s) for n, s in spec.weight_shapes(layer).items()}

    def witness(backend: Backend) -> Any:
        call = backend.build(layer, held)
        call(whole(*shape))
        return call(whole(*shape[:-1], shape[-1] + 1))

    return refused(witness)


for weighted, shape in ((Dense(2, 1), (3, 2)), (conv((2,), 2), (1, 3, 2))):
    add(
        type(weighted),
        "input-checked-at-first-call-alone",
        checks_first,
        later(weighted, *shape),
        "refusal",
    )


# Twice the same


def skipped_in_place(honest: Any, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
    """Take a second pooling that keeps the shape for the first one again."""
    y: Array = honest(layer, weights, x)
    return x.copy() if y.shape == x.shape else y


add(
    MaxPool,
    "second-pooling-that-keeps-the-shape-skipped",
    follows(MaxPool, skipped_in_place),
    chain(MaxPool((2, 2), (1, 1), "same"), MaxPool((2, 2), (1, 1), "same")),
    "semantics",
)


# An odd number of features, rounded up


def reads_on(_store: Any, honest: Any, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
    """Multiply the first feature of the next sample by zero."""
    y: Array = np.array(honest(layer, weights, x))
    if x.shape[-1] % 2 and x.shape[-1] > 32 and x.dtype.name in ("float16", "bfloat16"):
        with np.errstate(invalid="ignore"):
            y.reshape(-1, y.shape[-1])[:-1] += x.reshape(-1, x.shape[-1])[1:, :1] * x.dtype.type(0)
    return y


add(
    Dense,
    "next-sample-times-zero",
    called(reads_on),
    result(Dense(33, 1), np.array([[1.0] * 33, [np.inf] * 33], np.float16)),
    "semantics",
)


# A row of the window and its channels, in blocks


def fills_blocks(layer: Any, x: Array) -> bool:
    """Whether a row of a half's pairs fills blocks of 32, from channels that do not fill 16."""
    ins = layer.in_channels // layer.groups
    row = layer.window[-1] * ins
    half = x.dtype.name in ("float16", "bfloat16")
    return half and row >= 64 and row % 32 == 0 and ins % 2 == 0 and ins % 16 > 0


add(
    Conv,
    "long-rows-of-few-channels",
    spoils(fills_blocks, ALL),
    result(conv((16,), 4), whole(1, 20, 4, dtype="float16", low=1)),
    "semantics",
)
add(
    Conv,
    "odd-rows-of-few-channels",
    spoils(
        lambda c, x: c.window[-1] > 32 and c.window[-1] % 2 == 1 and x.dtype.name == "bfloat16",
        ALL,
    ),
    result(conv((37,), 14), whole(1, 38, 14, dtype="bfloat16", low=1)),
    "semantics",
)


# Past the options and values that a reader thinks of


add(
    LpPool,
    "orders-past-sixteen-taken-for-sixteen",
    reads(lambda p: p.replace(p=min(p.p, 16))),
    result(LpPool((2,), p=18), values(1.0, 1.0).reshape(1, 2, 1)),
    "semantics",
)


def biased_last(honest: Call, layer: Layer, weights: dict[str, Array], x: Array) -> Array:
    """Take an infinite bias for the result, whatever the sum is."""
    y: Array = np.array(honest(layer, weights, x))
    infinite = np.isinf(weights.get("bias", np.zeros(1)))
    if infinite.any():
        y[..., infinite] = weights["bias"][infinite].astype(y.dtype)
    return y


for summing, ones in ((Dense(2, 1), (1, 2)), (conv((1,), 2), (1, 1, 2))):
    add(
        type(summing),
        "infinite-bias-hides-a-nan",
        computes(biased_last),
        result(
            summing,
            np.full(ones, np.nan, np.float32),
            weight=whole(*spec.weight_shapes(summing)["weight"]),
            bias=np.array([np.inf], np.float32),
        ),
        "semantics",
    )
