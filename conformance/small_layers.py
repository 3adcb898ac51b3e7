"""Small layers of a type, as the questions need them."""

from __future__ import annotations

from typing import Any

from cnnformance.conformance.per_type import PerType
from cnnformance.spec import layers as spec


@PerType
def one_window(layer_type: type[Any], spatial: spec.Shape) -> spec.Layer:
    """Return the layer of this type whose one window is a whole map of these spatial sizes."""
    del spatial
    layer: spec.Layer = layer_type()
    return layer


@one_window.register(spec.Global)
def _global(layer_type: type[spec.Global], spatial: spec.Shape) -> spec.Layer:
    return layer_type(rank=len(spatial))


@one_window.register(spec.Adaptive)
def _adaptive(layer_type: type[spec.Adaptive], spatial: spec.Shape) -> spec.Layer:
    return layer_type(output=(1,) * len(spatial))


@one_window.register(spec.Windowed)
def _windowed(layer_type: type[spec.Windowed], spatial: spec.Shape) -> spec.Layer:
    return layer_type(window=spatial)


@PerType
def halving(layer_type: type[Any], rank: int) -> spec.Layer:
    """Return a layer of this type for maps of this rank: windows of two, outputs of two."""
    return one_window(layer_type, (2,) * rank)


@halving.register(spec.Adaptive)
def _to_halves(layer_type: type[spec.Adaptive], rank: int) -> spec.Layer:
    return layer_type(output=(2,) * rank)


@halving.register(spec.Dense)
def _to_two(layer_type: type[spec.Dense], rank: int) -> spec.Layer:
    del rank
    return layer_type(1, 2)


WINDOW, STRIDE, OUTPUT = (2, 3, 2), (1, 2, 1), (2, 1, 3)


@PerType
def ordinary(layer_type: type[Any], rank: int = 2) -> spec.Layer:
    """Return an ordinary layer of this type, which takes four channels or features."""
    return one_window(layer_type, WINDOW[:rank])


@ordinary.register(spec.Windowed)
def _overlapping(layer_type: type[spec.Windowed], rank: int = 2) -> spec.Layer:
    return layer_type(window=WINDOW[:rank], stride=STRIDE[:rank], **channels(layer_type, 4, 6))


@ordinary.register(spec.Adaptive)
def _uneven(layer_type: type[spec.Adaptive], rank: int = 2) -> spec.Layer:
    return layer_type(OUTPUT[:rank])


@ordinary.register(spec.Dense)
def _dense(layer_type: type[spec.Dense], rank: int = 2) -> spec.Layer:
    del rank
    return layer_type(4, 3)


@PerType
def channels(layer_type: type[Any], ins: int, outs: int) -> dict[str, Any]:
    """Return the fields of a layer of windows that says how many channels it takes and gives."""
    del layer_type, ins, outs
    return {}


@channels.register(spec.Conv)
def _of_convolution(layer_type: type[spec.Conv], ins: int, outs: int) -> dict[str, Any]:
    del layer_type
    return {"in_channels": ins, "out_channels": outs}
