"""Which input cells one output of a layer reads, as far as a record of a failure tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnformance.spec.layers import Adaptive, Conv, Global, Layer, Windowed


@dataclass(frozen=True)
class Reach:
    """The cells that one output reads along one spatial axis.

    ``cells`` are input positions, from the first; below 0 and from ``size`` on they are padding
    or beyond it. ``first`` and ``last`` bound what there is to see: the input and its pads.
    """

    cells: tuple[int, ...]
    size: int
    first: int
    last: int

    @property
    def inside(self) -> int:
        """How many of the cells lie in the input."""
        return sum(0 <= cell < self.size for cell in self.cells)


def reaches(layer: Layer, sizes: Sequence[int], at: Sequence[int]) -> tuple[Reach, ...]:
    """Return what the output at ``at`` reads, for each spatial axis; empty for other layers.

    Args:
        layer: the layer.
        sizes: the sizes of the input's spatial axes.
        at: the position of the output on them.
    """
    match layer:
        case Windowed():
            return tuple(_window(layer, axis, n, at[axis]) for axis, n in enumerate(sizes))
        case Adaptive():
            return tuple(
                _span(i * n // m, -(-(i + 1) * n // m), n)
                for n, m, i in zip(sizes, layer.output, at, strict=True)
            )
        case Global():
            return tuple(_span(0, n, n) for n in sizes)
    return ()


def _span(start: int, end: int, size: int) -> Reach:
    return Reach(tuple(range(start, end)), size, 0, size)


def _window(layer: Windowed, axis: int, size: int, at: int) -> Reach:
    stride, dilation, extent = layer.stride[axis], layer.dilation[axis], layer.extent[axis]
    if isinstance(layer.padding, str):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        less = total // 2
        before = less if layer.padding == "same" else total - less
        after = total - before
    else:
        before, after = layer.padding[axis]
    start = at * stride - before
    cells = tuple(start + k * dilation for k in range(layer.window[axis]))
    return Reach(cells, size, min(-before, cells[0]), max(size + after, cells[-1] + 1))


def channels(layer: Layer, channel: int) -> range:
    """Return which input channels the output of a channel reads."""
    if isinstance(layer, Conv):
        each, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        group = channel // outputs
        return range(group * each, (group + 1) * each)
    return range(channel, channel + 1)
