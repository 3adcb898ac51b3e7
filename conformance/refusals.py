"""What has no meaning, by rule and layer type: the cases that must be refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnformance.conformance.cases import Given
from cnnformance.conformance.models import drawn_weights
from cnnformance.conformance.small_layers import WINDOW, ordinary
from cnnformance.spec import layers as spec

SPATIAL = (6, 5, 4)
RANKS = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class Wrong(Given):
    """A case to be refused, and what is wrong with it."""

    why: str = ""


def shape_for(layer: spec.Layer) -> spec.Shape:
    """Return the shape of an ordinary input."""
    return (2, *SPATIAL[: getattr(layer, "rank", 0)], 4)


def broken(layer: spec.Layer, **changes: Any) -> spec.Layer:
    """Return a layer with some fields changed, unchecked."""
    return type(layer).unchecked(**{**vars(layer), **changes})


def wrong(
    why: str,
    layer: spec.Layer,
    shape: spec.Shape = (),
    of: spec.Layer | None = None,
    **shapes: spec.Shape,
) -> Wrong:
    """Return a case of small integers, for an input and weights of these shapes or the usual.

    The usual weights are those of the layer ``of``, by default of the layer itself.
    """
    rng = np.random.default_rng(1)
    (held,) = drawn_weights(rng, [of or layer], integer=True)
    shape = shape or shape_for(layer)
    arrays = {"x": rng.integers(1, 9, shape).astype(np.float32), **held}
    for name, other in shapes.items():
        arrays[name] = rng.integers(1, 5, other).astype(np.float32)
    return Wrong(layer, shape, "float32", ("given",), arrays=arrays, why=why)


def along(sizes: spec.Shape, value: int) -> Iterator[spec.Shape]:
    """Yield the sizes with the value at one axis, each in turn."""
    for axis in range(len(sizes)):
        yield (*sizes[:axis], value, *sizes[axis + 1 :])


def _field(field: str, values: tuple[int, ...]) -> Callable[[type[spec.Layer]], Iterator[Wrong]]:
    def found(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
        for rank in RANKS:
            layer = ordinary(layer_type, rank)
            for value in values:
                for sizes in along(getattr(layer, field), value):
                    yield wrong(f"{field} {sizes}", broken(layer, **{field: sizes}), of=layer)

    return found


def _negative_padding(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    for rank in RANKS:
        none = ((0, 0),) * (rank - 1)
        for pads in (((-1, 0), *none), (*none, (0, -1)), ((-1, -1),) * rank):
            yield wrong(f"padding {pads}", broken(ordinary(layer_type, rank), padding=pads))


def _padding_of_a_window(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    for rank in RANKS:
        window = WINDOW[:rank]
        for pads in (tuple((w, w) for w in window), tuple((0, w + 1) for w in window)):
            yield wrong(f"padding {pads}", broken(ordinary(layer_type, rank), padding=pads))


def _order(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    for rank in RANKS:
        yield wrong("order p = 0", broken(ordinary(layer_type, rank), p=0))


def _more_axes(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    for rank in RANKS:
        layer = ordinary(layer_type, rank)
        batch, *spatial, channels = shape_for(layer)
        for more in ((3,), (2, 3)):
            shape = (batch, *spatial, *more, channels)
            yield wrong(f"an input of {len(shape)} axes", layer, shape)


def _fewer_axes(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    for rank in RANKS:
        layer = ordinary(layer_type, rank)
        _, *spatial, channels = shape_for(layer)
        yield wrong(f"an input of {rank} axes", layer, (*spatial[1:], channels))


def _channels(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    for rank in RANKS:
        for groups in (1, 2):
            layer = broken(ordinary(layer_type, rank), groups=groups)
            *most, channels = shape_for(layer)
            for other in (1, channels - 1, channels + 1, 2 * channels - 1):
                yield wrong(f"{other} input channels", layer, (*most, other))


def _features(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    for batch in ((2,), (1,), (4,), (2, 3)):
        for features in (1, 3, 5, 8):
            yield wrong(f"{features} input features", ordinary(layer_type), (*batch, features))
    for joined in ((2, 2), (4, 1), (2, 1, 2)):
        yield wrong(f"an input with features {joined}", ordinary(layer_type), (3, *joined))
    yield wrong("no bias, 3 input features", layer_type(4, 2, bias=False), (2, 3))  # type: ignore[call-arg] # dense


def _groups(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    for rank in RANKS:
        layer = ordinary(layer_type, rank)
        window = WINDOW[:rank]
        for groups, inputs, outputs in ((3, 4, 6), (4, 4, 6), (2, 4, 5), (2, 3, 4)):
            changed = broken(layer, groups=groups, in_channels=inputs, out_channels=outputs)
            shape = (*shape_for(layer)[:-1], inputs)
            kernel = (*window, inputs // groups, outputs)
            why = f"{groups} groups for {inputs} and {outputs} channels"
            yield wrong(why, changed, shape, weight=kernel, bias=(outputs,))


def _weights(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    if issubclass(layer_type, spec.Dense):
        for shape in ((3, 5), (3, 3), (4, 3), (2, 4), (4, 4)):
            yield wrong(f"a weight of shape {shape}", ordinary(layer_type), weight=shape)
        for size in (2, 4, 6):
            yield wrong(f"a bias of shape {(size,)}", ordinary(layer_type), bias=(size,))
        return
    for rank in RANKS:
        layer = ordinary(layer_type, rank)
        for channels in ((5, 6), (3, 6), (6, 4), (4, 5), (6,)):
            kernel = (*WINDOW[:rank], *channels)
            yield wrong(f"a weight of shape {kernel}", layer, weight=kernel)
        for size in (2, 5, 7):
            yield wrong(f"a bias of shape {(size,)}", layer, bias=(size,))


def _output(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    for rank in RANKS:
        layer = ordinary(layer_type, rank)
        for output in along(layer.output, -1):  # type: ignore[attr-defined] # adaptive
            yield wrong(f"output sizes {output}", broken(layer, output=output))


def _past_the_rank(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    for shape in ((5,), (2, 3), (2, 3, 4), (2, 3, 4, 2)):
        for past in (1, 2, 7):
            layer = layer_type(len(shape) + past)  # type: ignore[call-arg] # flatten
            yield wrong(f"axis {len(shape) + past} of {len(shape)} axes", layer, shape)


def _from_the_end(layer_type: type[spec.Layer]) -> Iterator[Wrong]:
    for shape in ((5,), (1,), (2, 3)):
        layer = layer_type(len(shape))  # type: ignore[call-arg] # flatten
        yield wrong(f"no axis after the first {len(shape)}", layer, shape)


POOLS = spec.family("poolings with padding")
WINDOWED = spec.family("windowed")
DRAWN = [layer_type for layer_type in spec.TYPES.values() if layer_type.draws]
ADAPTIVE = [
    layer_type for layer_type in spec.TYPES.values() if issubclass(layer_type, spec.Adaptive)
]

Rule = Callable[[type[spec.Layer]], Iterator[Wrong]]

RULES: Mapping[str, tuple[Sequence[type[spec.Layer]], Rule]] = {
    "window": ((*POOLS, *DRAWN), _field("window", (0, -1))),
    "stride": (WINDOWED, _field("stride", (0, -1))),
    "stride-zero": (DRAWN, _field("stride", (0,))),
    "dilation": (WINDOWED, _field("dilation", (0, -1))),
    "negative-padding": (WINDOWED, _negative_padding),
    "padding-of-a-window": (POOLS, _padding_of_a_window),
    "order": ((spec.LpPool,), _order),
    "more-axes": (WINDOWED, _more_axes),
    "fewer-axes": (WINDOWED, _fewer_axes),
    "channels": ((spec.Conv,), _channels),
    "groups": ((spec.Conv,), _groups),
    "features": ((spec.Dense,), _features),
    "weights": ((spec.Conv, spec.Dense), _weights),
    "output": (ADAPTIVE, _output),
    "past-the-rank": ((spec.Flatten,), _past_the_rank),
    "from-the-end": ((spec.Flatten,), _from_the_end),
}
"""What is wrong, for which layers, and the cases."""

GENERAL = ("negative-padding", "padding-of-a-window", "more-axes", "from-the-end")
"""The rules that leave an answer: the general meaning."""

OF_INPUTS = ("more-axes", "fewer-axes", "channels", "features")
"""The rules about inputs alone, whose layers take others."""

SIZELESS = ("order", "weights")
"""The rules about what has no part in any size."""

UNSEEN = ("channels", "features")
"""The rules about what only weights tell, which a static answer may not have."""
