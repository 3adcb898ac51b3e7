"""Hypothesis strategies: layers, shapes and regimes drawn together as cases.

They shrink towards one row, one channel, rank 1, small windows and the integer regime.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from hypothesis import strategies as st

from cnnformance.conformance.cases import Case
from cnnformance.conformance.per_type import PerType
from cnnformance.conformance.regimes import FINITE, is_integer
from cnnformance.reference.windows import ShapeError, axis_cells
from cnnformance.spec import layers as spec

SELECTED = ("lowest", "highest", "large", "infinite")
"""The regimes that only a selection is asked with: no arithmetic is done on them."""

CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33)
_LONGEST = {1: 9, 2: 4, 3: 2}
_EXTRA = {1: 16, 2: 7, 3: 4}

Draw = Any


def regimes_of(layer_type: type[spec.Layer], dtype: str) -> tuple[str, ...]:
    """Return the regimes that a layer's output is judged in; NaN is a question of its own."""
    if is_integer(dtype):
        return ("integer", "ends")
    if layer_type.draws:
        return ("positive", "faint")
    return FINITE + SELECTED if layer_type.exact else FINITE


def _sizes(draw: Draw, rank: int, low: int, high: int) -> spec.Shape:
    return tuple(draw(st.integers(low, high)) for _ in range(rank))


def _window(draw: Draw, rank: int) -> spec.Shape:
    return _sizes(draw, rank, 1, _LONGEST[rank] + 1)


def _padding(draw: Draw, extent: spec.Shape) -> spec.Padding:
    choice = draw(st.sampled_from(["symmetric", "asymmetric", "same", "same_lower"]))
    if choice in spec.SAME:
        return str(choice)
    before = [
        draw(st.integers(0, (e - 1) // 2 if choice == "symmetric" else e - 1)) for e in extent
    ]
    if choice == "symmetric":
        return tuple((b, b) for b in before)
    return tuple((b, draw(st.integers(0, e - 1))) for b, e in zip(before, extent, strict=True))


def _geometry(draw: Draw, rank: int, *, plain: bool, dilated: bool) -> dict[str, Any]:
    window = _window(draw, rank)
    fields: dict[str, Any] = {"window": window}
    if draw(st.booleans()):
        fields["stride"] = _sizes(draw, rank, 1, _LONGEST[rank] + 2)
    if plain:
        return fields
    if dilated and draw(st.integers(0, 3)) == 3:
        fields["dilation"] = _sizes(draw, rank, 1, 3)
    dilation = fields.get("dilation", (1,) * rank)
    extent = tuple((w - 1) * d + 1 for w, d in zip(window, dilation, strict=True))
    if draw(st.integers(0, 3)):
        fields["padding"] = _padding(draw, extent)
    if isinstance(fields.get("padding"), str) and "stride" in fields:
        # the authorities differ where a stride skips cells: the total would be negative
        pairs = zip(fields["stride"], extent, strict=True)
        fields["stride"] = tuple(min(s, e) for s, e in pairs)
    return fields


def _spatial(draw: Draw, layer: spec.Windowed) -> spec.Shape:
    """Draw an input that at least one window fits into, often just so."""
    pads = ((0, 0),) * layer.rank if isinstance(layer.padding, str) else layer.padding
    sizes = []
    for extent, pair in zip(layer.extent, pads, strict=True):
        least = 1 if isinstance(layer.padding, str) else max(1, extent - sum(pair))
        sizes.append(least + draw(st.integers(0, _EXTRA[layer.rank])))
    return tuple(sizes)


@PerType
def drawn(layer_type: type[Any], draw: Draw, rank: int, *, plain: bool) -> spec.Layer:
    """Draw a layer of a type, for maps of a rank; a plain one is as the document describes it."""
    del draw, rank, plain
    layer: spec.Layer = layer_type()
    return layer


@drawn.register(spec.Global)
def _global(layer_type: type[spec.Global], draw: Draw, rank: int, *, plain: bool) -> spec.Layer:
    del draw, plain
    return layer_type(rank=rank)


@drawn.register(spec.Adaptive)
def _adaptive(layer_type: type[spec.Adaptive], draw: Draw, rank: int, *, plain: bool) -> spec.Layer:
    del plain
    return layer_type(output=_sizes(draw, rank, 1, _LONGEST[rank] + 1))


@drawn.register(spec.Flatten)
def _flatten(layer_type: type[spec.Flatten], draw: Draw, rank: int, *, plain: bool) -> spec.Layer:
    return layer_type(start=1 if plain else draw(st.integers(1, rank + 1)))


@drawn.register(spec.Dense)
def _dense(layer_type: type[spec.Dense], draw: Draw, rank: int, *, plain: bool) -> spec.Layer:
    del rank
    features = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    return layer_type(*features, bias=True if plain else draw(st.booleans()))


@drawn.register(spec.StochasticPool)
def _stochastic(
    layer_type: type[spec.StochasticPool], draw: Draw, rank: int, *, plain: bool
) -> spec.Layer:
    del plain
    return layer_type(**_geometry(draw, rank, plain=True, dilated=False))


@drawn.register(spec.Conv)
def _conv(layer_type: type[spec.Conv], draw: Draw, rank: int, *, plain: bool) -> spec.Layer:
    fields = _geometry(draw, rank, plain=plain, dilated=True)
    groups = 1 if plain else draw(st.sampled_from([1, 1, 2, 3]))
    return layer_type(
        **fields,
        in_channels=groups * draw(st.integers(1, 5)),
        out_channels=groups * draw(st.integers(1, 5)),
        groups=groups,
        bias=True if plain else draw(st.booleans()),
    )


@drawn.register(spec.Pool)
def _pool(layer_type: type[spec.Pool], draw: Draw, rank: int, *, plain: bool) -> spec.Layer:
    fields = _geometry(draw, rank, plain=plain, dilated=True)
    fields |= options(layer_type, draw, plain=plain)
    if not plain:
        fields["ceil_mode"] = draw(st.booleans()) and not isinstance(fields.get("padding"), str)
    return layer_type(**fields)


@PerType
def options(layer_type: type[Any], draw: Draw, *, plain: bool) -> dict[str, Any]:
    """Draw the fields that a pooling has beyond its windows."""
    del layer_type, draw, plain
    return {}


@options.register(spec.LpPool)
def _order(layer_type: type[spec.LpPool], draw: Draw, *, plain: bool) -> dict[str, Any]:
    del layer_type
    return {"p": 2 if plain else draw(st.sampled_from([2, 1, 3, 4, 5]))}


@options.register(spec.AveragePool)
def _counted(layer_type: type[spec.AveragePool], draw: Draw, *, plain: bool) -> dict[str, Any]:
    del layer_type
    return {} if plain else {"count_include_pad": draw(st.booleans())}


@singledispatch
def _shape(layer: spec.Layer, draw: Draw, rank: int, batch: int, *, plain: bool) -> spec.Shape:
    """Draw the shape of an input of a layer."""
    del layer, plain
    return (batch, *_sizes(draw, rank, 1, _EXTRA[rank] + 4), draw(st.sampled_from(CHANNELS)))


@_shape.register
def _windowed_shape(
    layer: spec.Windowed, draw: Draw, _rank: int, batch: int, *, plain: bool
) -> spec.Shape:
    del plain
    return (batch, *_spatial(draw, layer), draw(st.sampled_from(CHANNELS)))


@_shape.register
def _conv_shape(layer: spec.Conv, draw: Draw, _rank: int, batch: int, *, plain: bool) -> spec.Shape:
    del plain
    return (batch, *_spatial(draw, layer), layer.in_channels)


@_shape.register
def _dense_shape(
    layer: spec.Dense, draw: Draw, _rank: int, batch: int, *, plain: bool
) -> spec.Shape:
    middle = () if plain else _sizes(draw, draw(st.integers(0, 2)), 1, 3)
    return (batch, *middle, layer.in_features)


def every_window_reads(layer: spec.Windowed, spatial: spec.Shape) -> bool:
    """Whether each window holds a cell of the input; a dilated one can lie in padding alone.

    What such a window gives is defined by no authority.
    """
    if max(layer.dilation) == 1 or layer.unpadded:
        return True
    try:
        cells = axis_cells(layer, spatial)
    except ShapeError:
        return False
    inside = [(c >= 0) & (c < n) for c, n in zip(cells, spatial, strict=True)]
    return all(bool(axis.any(axis=1).all()) for axis in inside)


@st.composite
def cases(
    draw: Draw,
    layer_type: type[spec.Layer],
    dtype: str = "float32",
    *,
    plain: bool = True,
    regimes: Sequence[str] = (),
    memory: Sequence[str] = ("contiguous",),
) -> Case:
    """Draw a case of a layer type.

    ``plain`` cases use what the document describes: windows and strides that may differ per axis
    and overlap. Others add padding, dilation, ceil mode, groups and the like. All regimes are
    packed along the batch axis, or one is drawn.
    """
    families = tuple(regimes) or regimes_of(layer_type, dtype)
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    layer = drawn(layer_type, draw, rank, plain=plain)
    packed = draw(st.sampled_from([*((family,) for family in families), families, families]))
    batch = len(packed) if len(packed) > 1 else draw(st.sampled_from([1, 2, 3, 4]))
    shape = _shape(layer, draw, rank, batch, plain=plain)
    if isinstance(layer, spec.Windowed) and not every_window_reads(layer, shape[1:-1]):
        stride = tuple(min(s, w) for s, w in zip(layer.stride, layer.window, strict=True))
        layer = layer.replace(dilation=(1,) * rank, padding="same", stride=stride)
        if isinstance(layer, spec.Pool):
            layer = layer.replace(ceil_mode=False)
    return Case(
        layer,
        shape,
        dtype,
        packed,
        draw(st.sampled_from(["integer", "normal", "cancellation", "sparse"]))
        if layer.has_weights
        else "integer",
        draw(st.integers(0, 2**31)),
        draw(st.sampled_from(list(memory))),
    )
