"""A counterexample is drawn as the layer reads it."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from made import failure

from cnnformance.reference import forward
from cnnformance.reports.drawing import draw
from cnnformance.reports.records import Failure
from cnnformance.reports.windows import channels, reaches
from cnnformance.spec.layers import (
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    GlobalMaxPool,
    Layer,
    MaxPool,
    ReLU,
)

TIMES = "\N{MULTIPLICATION SIGN}"


WINDOWED: tuple[tuple[Layer, tuple[int, ...]], ...] = (
    (MaxPool((2,)), (5,)),
    (MaxPool((3,), (2,), padding=((1, 1),)), (6,)),
    (MaxPool((2,), (1,), dilation=(3,)), (7,)),
    (MaxPool((2, 3), (2, 2), padding="same"), (5, 7)),
    (MaxPool((2, 3), (1, 2), padding="same_lower"), (4, 6)),
    (MaxPool((3, 2), (2, 3), padding=((1, 0), (0, 1)), ceil_mode=True), (6, 6)),
    (MaxPool((2, 2), (2, 1), padding=((2, 1), (0, 2)), dilation=(2, 3)), (6, 7)),
    (MaxPool((2, 1, 2)), (4, 3, 4)),
    (AdaptiveMaxPool((3,)), (7,)),
    (AdaptiveMaxPool((2, 4)), (5, 3)),
    (GlobalMaxPool(2), (3, 4)),
)


@pytest.mark.parametrize(("layer", "sizes"), WINDOWED, ids=str)
def test_the_output_is_the_largest_of_the_cells_that_it_is_said_to_read(
    layer: Layer, sizes: tuple[int, ...]
) -> None:
    x = np.random.default_rng(0).permutation(math.prod(sizes)).astype(np.float64)
    x = x.reshape(1, *sizes, 1)
    y = forward(layer, x)
    y = y.reshape(1, *[1] * (x.ndim - y.ndim), *y.shape[1:])
    for at in product(*(range(n) for n in y.shape[1:-1])):
        index = at if len(at) == len(sizes) else (0,) * len(sizes)
        reach = reaches(layer, sizes, index)
        inside = [[c for c in axis.cells if 0 <= c < axis.size] for axis in reach]
        assert x[0, ..., 0][np.ix_(*inside)].max() == y[(0, *at, 0)]


def test_a_convolution_reads_the_channels_of_its_group() -> None:
    layer = Conv((1,), in_channels=6, out_channels=4, groups=2)
    assert [channels(layer, c) for c in range(4)] == [range(3), range(3), range(3, 6), range(3, 6)]
    assert channels(MaxPool((1,)), 2) == range(2, 3)


def test_a_drawing_shows_padding_window_and_values() -> None:
    layer = AveragePool((2, 2), padding=((1, 1), (1, 1)))
    x = np.arange(1, 10).reshape(1, 3, 3, 1)
    drawn = draw(failure(layer, x, (0, 0, 0, 0), expected="1.0", actual="0.25"))
    assert drawn
    assert len(drawn.squares) == 25
    assert [s.text for s in drawn.squares if not s.padding] == list("123456789")
    assert [(s.x, s.y) for s in drawn.squares if s.read] == [(0, 0), (30, 0), (0, 26), (30, 26)]
    assert (drawn.window.x, drawn.window.y, drawn.window.width, drawn.window.height) == (
        0,
        0,
        60,
        52,
    )
    said = "The output at (0, 0, 0, 0) reads 1 and 3 cells outside the input: it should be 1"
    assert drawn.caption.startswith(said)
    assert "divides by 4, all cells of the window, and not by 1" in drawn.source


@pytest.mark.parametrize(
    ("pads", "expected", "actual", "said"),
    [
        (1, "6.0", "3.0", f"3 {TIMES} 2 = 6 {TIMES} 1: it divides by 2"),
        (1, "6.0", "5.0", ""),
        (1, "nan", "1.0", ""),
        (0, "3.5", "3.49", ""),
    ],
)
def test_arithmetic_tells_only_what_it_explains(
    pads: int, expected: str, actual: str, said: str
) -> None:
    layer = AveragePool((2,), padding=((pads, pads),))
    drawn = draw(failure(layer, [[[6.0], [1.0]]], (0, 0, 0), expected=expected, actual=actual))
    assert drawn
    assert drawn.source.startswith(said)
    assert bool(drawn.source) == bool(said)


@pytest.mark.parametrize(
    ("layer", "values", "at", "actual", "said"),
    [
        (MaxPool((2,), dilation=(2,)), [1, 9, 3], 0, "9.0", "9 stands at (1), which"),
        (MaxPool((2,), padding=((1, 1),)), [-3, -4], 0, "0.0", "No cell that it reads is 0"),
        (MaxPool((2,)), [-3, -4], 0, "0.0", ""),  # of a window without padding
        (MaxPool((2,)), [5, 7, 7, 7], 0, "5.0", ""),  # which it reads
        (MaxPool((2,)), [5, 6, 7, 7], 0, "7.0", ""),  # which of the two, nothing tells
        (MaxPool((2,)), [5, 6, 7, 8], 0, "nan", ""),
    ],
)
def test_a_selection_of_another_cell_is_told(
    layer: Layer, values: list[float], at: int, actual: str, said: str
) -> None:
    x = np.array(values, np.float32)[None, :, None]
    drawn = draw(failure(layer, x, (0, at, 0), actual=actual))
    assert drawn
    assert drawn.source.startswith(said)
    assert bool(drawn.source) == bool(said)


def test_a_cell_on_a_plane_or_in_a_slice_is_named_by_all_its_axes() -> None:
    x = np.arange(16).reshape(1, 4, 4, 1)
    drawn = draw(failure(MaxPool((2, 2)), x, (0, 0, 0, 0), expected="5.0", actual="11.0"))
    assert drawn
    assert drawn.source.startswith("11 stands at (2, 3)")
    layer = MaxPool((1, 2, 2))
    drawn = draw(failure(layer, x[:, None].repeat(2, 1) + 0.5, (0, 1, 0, 0, 0), actual="11.5"))
    assert drawn
    assert drawn.source.startswith("11.5 stands at (1, 2, 3)")


def test_of_a_large_map_the_surroundings_of_the_window_are_drawn() -> None:
    drawn = draw(failure(MaxPool((2, 2)), np.zeros((1, 40, 40, 1)), (0, 10, 10, 0)))
    assert drawn
    assert len(drawn.squares) == 36
    assert draw(failure(MaxPool((20,)), np.zeros((1, 40, 1)), (0, 1, 0))) is None


@pytest.mark.parametrize(
    "shown",
    [
        failure(ReLU(), np.zeros((1, 3, 1)), (0, 1, 0)),
        failure(MaxPool((2,)), np.zeros((1, 4, 1)), (0, 1, 0), call="gradients"),
        failure(MaxPool((2,)), np.zeros((1, 4, 1)), (0, 1, 0), index=None),
        failure(MaxPool((2,)), np.zeros((1, 4, 1)), (0, 1, 0), arrays={}),
        failure(MaxPool((2,)), np.zeros((1, 4, 1)), (0, 1, 7)),
        failure(MaxPool((2,)), np.zeros((1, 4, 1)), (0, 1, 0), actual="a NaN here, 1.0 there"),
        failure(MaxPool((2, 2, 2)), np.zeros((1, 4, 4, 4, 1)), (0, 1, 1, 1, 0)),
        failure(MaxPool((2,)), np.zeros((1, 4, 1)), (0, 1, 0), case={"layers": [{"type": "No"}]}),
    ],
)
def test_what_is_no_window_on_a_plane_is_not_drawn(shown: Failure) -> None:
    assert draw(shown) is None
