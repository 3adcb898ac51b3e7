"""The exact oracle against plain definitions that share nothing with it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import exact
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnformance.spec.formulas import ROOT_BITS
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
    Pool,
    ReLU,
    StochasticPool,
    weight_shapes,
)

SIZES = st.integers(1, 12)


def line(*values: float) -> exact.Array:
    """Return a 1-D map of one channel."""
    return np.array(values, dtype=object).reshape(1, -1, 1)


def integers(shape: tuple[int, ...], seed: int = 0) -> exact.Array:
    return np.random.default_rng(seed).integers(-9, 10, shape)


def weights_of(layer: Layer, seed: int = 1) -> dict[str, exact.Array]:
    return {name: integers(shape, seed) for name, shape in weight_shapes(layer).items()}


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, dict[str, Any]]:
    """An input size and the fields of a pooling over it."""
    size, window = draw(SIZES), draw(st.integers(1, 4))
    dilation, stride = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    limit = st.integers(0, (window - 1) * dilation)
    fields = {
        "window": (window,),
        "stride": (stride,),
        "dilation": (dilation,),
        "padding": ((draw(limit), draw(limit)),),
        "ceil_mode": draw(st.booleans()),
    }
    return size, fields


@given(windows())
def test_output_size_counts_the_starts_that_qualify(case: tuple[int, dict[str, Any]]) -> None:
    size, fields = case
    layer = MaxPool(**fields)
    ((before, after),), (stride,), (extent,) = fields["padding"], layer.stride, layer.extent
    end = size + after

    def qualifies(start: int) -> bool:
        whole = start + extent <= end
        # Rounding up adds one window, unless the one before it reaches the end exactly.
        overhangs = start < size and start - stride + extent < end
        return whole or (layer.ceil_mode and overhangs)

    found = sum(qualifies(start) for start in range(-before, end, stride))
    assert exact.output_shape(layer, (1, size, 1)) == (1, found, 1)


@given(windows(), st.booleans())
def test_average_divides_by_the_cells_it_says(
    case: tuple[int, dict[str, Any]], counted: bool
) -> None:
    size, fields = case
    layer = AveragePool(**fields, count_include_pad=counted)
    (axis,) = exact.axes(layer, (size,))
    y = exact.output(layer, line(*range(size)))[0, :, 0]
    ((before, after),) = fields["padding"]
    counts = range(-before, size + after) if counted else range(size)
    for cells, value in zip(axis.windows, y, strict=True):
        read = [i for i in cells if i in range(size)]
        divisor = len([i for i in cells if i in counts])
        if divisor:
            assert value * divisor == sum(read)
        else:
            assert math.isnan(value)


@given(SIZES, st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_same_padding_is_the_least_that_covers_every_window(
    size: int, window: int, stride: int, dilation: int
) -> None:
    fields: dict[str, Any] = {"window": (window,), "stride": (stride,), "dilation": (dilation,)}
    (upper,) = exact.axes(MaxPool(**fields, padding="same"), (size,))
    (lower,) = exact.axes(MaxPool(**fields, padding="same_lower"), (size,))
    assert len(upper.windows) == len(lower.windows) == -(-size // stride)
    assert (upper.before, upper.after) == (lower.after, lower.before)
    assert 0 <= upper.after - upper.before <= 1
    last = upper.windows[-1][-1]
    assert last < size + upper.after
    if upper.after:
        assert last == size + upper.after - 1


@given(st.integers(1, 40), st.integers(1, 40))
def test_adaptive_windows_cover_the_input_in_order(size: int, outputs: int) -> None:
    (axis,) = exact.axes(AdaptiveAveragePool((outputs,)), (size,))
    assert len(axis.windows) == outputs
    assert {i for cells in axis.windows for i in cells} == set(range(size))
    for i, cells in enumerate(axis.windows):
        assert cells[0] == i * size // outputs
        assert cells[-1] + 1 == math.ceil(Fraction((i + 1) * size, outputs))


POOLS: list[tuple[type[Pool], Any]] = [
    (MaxPool, max),
    (MinPool, min),
    (AveragePool, lambda x: Fraction(sum(x), len(x))),
]


@pytest.mark.parametrize(("kind", "function"), POOLS)
def test_pooling_in_two_dimensions_takes_each_window(kind: type[Pool], function: Any) -> None:
    x = integers((2, 7, 6, 3))
    y = exact.output(kind(window=(3, 2), stride=(2, 3)), x)
    assert y.shape == (2, 3, 2, 3)
    for n, i, j, c in np.ndindex(y.shape):
        cells = x[n, 2 * i : 2 * i + 3, 3 * j : 3 * j + 2, c].ravel().tolist()
        assert y[n, i, j, c] == function(cells)


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_norms_to_the_power_are_the_sums(p: int) -> None:
    x = integers((1, 8, 1))
    y = exact.output(LpPool(window=(4,), p=p), x)
    for o in range(2):
        total = sum(abs(int(v)) ** p for v in x[0, 4 * o : 4 * o + 4, 0])
        assert y[0, o, 0] ** p <= total <= (y[0, o, 0] * (1 + Fraction(1, 2**ROOT_BITS // 2))) ** p


def test_globals_equal_the_window_as_large_as_the_input() -> None:
    x = integers((2, 3, 4, 2))
    for single, windowed in ((GlobalMaxPool(), MaxPool), (GlobalAveragePool(), AveragePool)):
        assert (exact.output(single, x) == exact.output(windowed((3, 4)), x)[:, 0, 0]).all()
    assert (exact.output(AdaptiveMaxPool((1, 1)), x)[:, 0, 0] == x.max(axis=(1, 2))).all()


def test_windows_without_any_cell_of_the_input() -> None:
    fields: dict[str, Any] = {
        "window": (2,),
        "stride": (1,),
        "dilation": (2,),
        "padding": ((1, 1),),
    }
    x = line(5)
    assert exact.output(MaxPool(**fields), x).ravel().tolist() == [-math.inf]
    assert exact.output(MinPool(**fields), x).ravel().tolist() == [math.inf]
    assert exact.output(LpPool(**fields), x).ravel().tolist() == [0]
    assert exact.output(AveragePool(**fields, count_include_pad=True), x).ravel().tolist() == [0]
    assert math.isnan(exact.output(AveragePool(**fields), x)[0, 0, 0])


def test_a_window_that_fits_nowhere_gives_an_empty_output() -> None:
    assert exact.output(MaxPool((3,)), line(1, 2)).shape == (1, 0, 1)
    assert exact.output(Conv((9,)), line(1, 2), weights_of(Conv((9,)))).shape == (1, 0, 1)


@settings(max_examples=25)
@given(
    groups=st.integers(1, 2),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    bias=st.booleans(),
)
def test_convolution_is_a_sum_of_shifted_inputs(
    groups: int, stride: int, dilation: int, pads: tuple[int, int], bias: bool
) -> None:
    layer = Conv(
        (3,),
        (stride,),
        (pads,),
        (dilation,),
        in_channels=4,
        out_channels=2,
        groups=groups,
        bias=bias,
    )
    x, weights = integers((2, 8, 4)), weights_of(layer)
    padded = np.pad(x, ((0, 0), pads, (0, 0)))
    length = padded.shape[1] - 2 * dilation
    assume(length > 0)
    expected = np.zeros((2, length, 2), dtype=int)
    for m in range(2):
        block = slice(m * groups // 2 * (4 // groups), (m * groups // 2 + 1) * (4 // groups))
        for k in range(3):
            shifted = padded[:, k * dilation : k * dilation + length, block]
            expected[..., m] += shifted @ weights["weight"][k, :, m]
    expected += weights.get("bias", np.zeros(2, dtype=int))
    assert (exact.output(layer, x, weights) == expected[:, ::stride]).all()


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 3), (0, 3), (2, 2, 2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_dense_is_a_matrix_product_on_the_last_axis(shape: tuple[int, ...], bias: bool) -> None:
    layer = Dense(3, 2, bias=bias)
    x, weights = integers(shape), weights_of(layer)
    y = exact.output(layer, x, weights)
    expected = x @ weights["weight"].T + weights.get("bias", 0)
    assert y.shape == expected.shape
    assert (y == expected).all()


def test_dense_without_features_is_the_bias() -> None:
    layer = Dense(0, 2)
    weights = weights_of(layer)
    assert (exact.output(layer, np.zeros((3, 0)), weights) == weights["bias"]).all()


@pytest.mark.parametrize(("start", "shape"), [(1, (2, 24)), (2, (2, 3, 8)), (3, (2, 3, 4, 2))])
def test_flatten_joins_axes(start: int, shape: tuple[int, ...]) -> None:
    x = integers((2, 3, 4, 2))
    y = exact.output(Flatten(start), x)
    assert y.shape == shape
    assert (y.ravel() == x.ravel()).all()


def test_relu_cuts_at_zero() -> None:
    assert exact.output(ReLU(), [-1.5, 0.0, 2.0]).tolist() == [0, 0, 2]


def test_stochastic_pooling_draws_in_proportion() -> None:
    layer = StochasticPool((2,), training=True)
    y = exact.draws(layer, line(1, 3, 0, 0))
    assert y[0, 0, 0] == ((1, Fraction(1, 4)), (3, Fraction(3, 4)))
    assert y[0, 1, 0] == ((0, 1),)
    with pytest.raises(exact.ExactError, match="draws"):
        exact.output(layer, line(1, 3))


@given(st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_evaluation_is_the_mean_of_the_draws(x: list[int]) -> None:
    layer = StochasticPool((4,), training=True)
    drawn = exact.draws(layer, line(*x))[0, 0, 0]
    assert sum(p for _, p in drawn) == 1
    mean = exact.output(layer.replace(training=False), line(*x))[0, 0, 0]
    assert sum(v * p for v, p in drawn) == mean


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        (Conv((3, 2), in_channels=4, out_channels=6), 3 * 2 * 4 * 6 + 6),
        (Conv((3,), in_channels=4, out_channels=6, groups=2, bias=False), 3 * 2 * 6),
        (Dense(3, 5), 20),
        (Dense(3, 5, bias=False), 15),
        (MaxPool((2, 2)), 0),
        (Flatten(), 0),
        (ReLU(), 0),
    ],
)
def test_parameters_are_counted(layer: Layer, count: int) -> None:
    assert exact.parameter_count(layer) == count
    assert count == sum(math.prod(shape) for shape in weight_shapes(layer).values())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (MaxPool((2, 2)), (1, 4, 1)),
        (GlobalMaxPool(), (1, 4, 1)),
        (AdaptiveMaxPool((2,)), (1, 4, 4, 1)),
        (Conv((2,), in_channels=2), (1, 4, 1)),
        (Dense(3, 2), (1, 4)),
        (Flatten(2), (1, 4)),
    ],
)
def test_inputs_of_another_shape_are_refused(layer: Layer, shape: tuple[int, ...]) -> None:
    with pytest.raises(exact.ExactError, match=type(layer).__name__):
        exact.output_shape(layer, shape)


def test_negative_activations_are_refused() -> None:
    with pytest.raises(exact.ExactError, match=">= 0"):
        exact.output(StochasticPool((2,)), line(1, -1))


LINEAR: list[tuple[Layer, tuple[int, ...]]] = [
    (AveragePool((3,), (2,), ((1, 2),), ceil_mode=True), (2, 5, 2)),
    (AveragePool((3,), (2,), ((1, 1),), count_include_pad=True), (1, 5, 1)),
    (GlobalAveragePool(), (2, 2, 3, 2)),
    (AdaptiveAveragePool((3,)), (1, 5, 1)),
    (Flatten(), (2, 2, 2)),
    (Dense(3, 2), (2, 3)),
    (Conv((2,), (2,), ((1, 0),), in_channels=2, out_channels=4, groups=2), (2, 4, 2)),
]


@pytest.mark.parametrize(("layer", "shape"), LINEAR, ids=lambda v: type(v).__name__)
def test_gradients_are_the_slopes(layer: Layer, shape: tuple[int, ...]) -> None:
    x, weights = integers(shape), weights_of(layer)
    upstream = integers(exact.output_shape(layer, shape), seed=2)

    def loss(given: dict[str, exact.Array]) -> Any:
        y = exact.output(layer, given["input"], {k: v for k, v in given.items() if k != "input"})
        return (y * upstream).sum()

    places = {"input": x, **weights}
    gradients = exact.gradient(layer, x, upstream, weights)
    assert gradients.keys() == places.keys()
    for name, array in places.items():
        for index in np.ndindex(array.shape):
            moved = array.copy()
            moved[index] += 1
            assert loss(places | {name: moved}) - loss(places) == gradients[name][index]


def test_gradients_of_other_layers_are_refused() -> None:
    with pytest.raises(exact.ExactError, match="not linear"):
        exact.gradient(MaxPool((2,)), line(1, 2), line(1))
