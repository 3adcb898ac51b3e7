"""Small layers of a type, as the questions need them."""

from __future__ import annotations

from typing import Any

from cnnformance.conformance.per_type import PerType
from cnnformance.spec import layers as spec


@PerType
def one_window(kind: type[Any], spatial: spec.Shape) -> spec.Layer:
    """Return the layer of this type whose one window is a whole map of these spatial sizes."""
    del spatial
    layer: spec.Layer = kind()
    return layer


@one_window.register(spec.Global)
def _global(kind: type[spec.Global], spatial: spec.Shape) -> spec.Layer:
    return kind(rank=len(spatial))


@one_window.register(spec.Adaptive)
def _adaptive(kind: type[spec.Adaptive], spatial: spec.Shape) -> spec.Layer:
    return kind(output=(1,) * len(spatial))


@one_window.register(spec.Windowed)
def _windowed(kind: type[spec.Windowed], spatial: spec.Shape) -> spec.Layer:
    return kind(window=spatial)


@PerType
def halving(kind: type[Any], rank: int) -> spec.Layer:
    """Return a layer of this type for maps of this rank: windows of two, outputs of two."""
    return one_window(kind, (2,) * rank)


@halving.register(spec.Adaptive)
def _to_halves(kind: type[spec.Adaptive], rank: int) -> spec.Layer:
    return kind(output=(2,) * rank)


@halving.register(spec.Dense)
def _to_two(kind: type[spec.Dense], rank: int) -> spec.Layer:
    del rank
    return kind(1, 2)


WINDOW, STRIDE, OUTPUT = (2, 3, 2), (1, 2, 1), (2, 1, 3)


@PerType
def ordinary(kind: type[Any], rank: int = 2) -> spec.Layer:
    """Return an ordinary layer of this type, which takes four channels or features."""
    return one_window(kind, WINDOW[:rank])


@ordinary.register(spec.Windowed)
def _overlapping(kind: type[spec.Windowed], rank: int = 2) -> spec.Layer:
    return kind(window=WINDOW[:rank], stride=STRIDE[:rank], **channels(kind, 4, 6))


@ordinary.register(spec.Adaptive)
def _uneven(kind: type[spec.Adaptive], rank: int = 2) -> spec.Layer:
    return kind(OUTPUT[:rank])


@ordinary.register(spec.Dense)
def _dense(kind: type[spec.Dense], rank: int = 2) -> spec.Layer:
    del rank
    return kind(4, 3)


@PerType
def channels(kind: type[Any], ins: int, outs: int) -> dict[str, Any]:
    """Return the fields of a layer of windows that says how many channels it takes and gives."""
    del kind, ins, outs
    return {}


@channels.register(spec.Conv)
def _of_convolution(kind: type[spec.Conv], ins: int, outs: int) -> dict[str, Any]:
    del kind
    return {"in_channels": ins, "out_channels": outs}
