"""The reference: worked examples, shapes, dtypes, special values, and what it refuses."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import KINDS, Drawn, drawn

from cnnformance.reference import (
    Array,
    ShapeError,
    candidates,
    forward,
    forward_model,
    gradients,
    maximal,
    model_shapes,
    output_shape,
    parameter_count,
    windows,
)
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
    Windowed,
    weight_shapes,
)

SELECTIONS = (MaxPool, MinPool, GlobalMaxPool, AdaptiveMaxPool, ReLU, Flatten)
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "int32", "int64", "uint64")

FIRST = [[1, 3, 2, 1], [4, 6, 5, 2], [0, 2, 1, 3], [1, 2, 4, 0]]
SECOND = [[1, 3, 2, 1], [4, 6, 5, 2], [7, 2, 8, 1], [1, 3, 2, 0]]
RAMP = [[1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6], [4, 5, 6, 7]]


def image(rows: Any, dtype: Any = np.float64) -> Array:
    """Return rows of numbers as a batch of one image with one channel."""
    return np.array(rows, dtype)[None, ..., None]


def line(*values: float, dtype: Any = np.float64) -> Array:
    """Return numbers as a batch of one signal with one channel."""
    return np.array(values, dtype)[None, :, None]


@pytest.mark.parametrize(
    ("layer", "rows", "expected"),
    [
        (MaxPool((2, 2)), FIRST, [[6, 5], [2, 4]]),
        (AveragePool((2, 2)), FIRST, [[3.5, 2.5], [1.25, 2]]),
        (MaxPool((2, 2)), SECOND, [[6, 5], [7, 8]]),
        (MinPool((2, 2)), [[1, 4], [2, 3]], [[1]]),
        (MaxPool((2, 2)), [[1, 3], [2, 0]], [[3]]),
        (LpPool((2, 2)), [[3, 4], [0, 0]], [[5]]),
        (LpPool((2, 2), p=1), [[3, -4], [0, 1]], [[8]]),
        (StochasticPool((2, 2)), [[1, 3], [0, 0]], [[2.5]]),
        (GlobalAveragePool(), RAMP, 4),
        (GlobalMaxPool(), RAMP, 7),
        (AdaptiveAveragePool((2, 2)), FIRST, [[3.5, 2.5], [1.25, 2]]),
        (AdaptiveMaxPool((3, 1)), FIRST, [[6], [6], [4]]),
        (ReLU(), [[-1, 2], [0, -3]], [[0, 2], [0, 0]]),
    ],
)
def test_worked_examples(layer: Layer, rows: Any, expected: Any) -> None:
    assert forward(layer, image(rows))[0, ..., 0].tolist() == expected


def test_the_worked_dense_layer() -> None:
    weights = {
        "weight": np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]),
        "bias": np.array([0.5, -0.5]),
    }
    y = forward_model([Dense(3, 2), ReLU()], [weights, {}], np.array([[1, 2, 3]]))
    np.testing.assert_allclose(y, [[1.9, 2.7]], rtol=2.0**-50)


def test_flatten_keeps_the_order_of_rows() -> None:
    assert forward(Flatten(), np.arange(1, 9).reshape(1, 2, 2, 2))[0].tolist() == [*range(1, 9)]
    assert forward(Flatten(2), np.arange(8).reshape(1, 2, 2, 2)).shape == (1, 2, 4)
    assert output_shape(Flatten(), (5, 7, 7, 64)) == (5, 3136)


def test_a_convolution_does_not_flip_its_kernel() -> None:
    weight = np.array([1.0, 10.0]).reshape(2, 1, 1)
    y = forward(Conv((2,), bias=False), line(1, 2, 3), {"weight": weight})
    assert y[0, :, 0].tolist() == [21, 32]


def test_each_group_reads_its_own_block_of_channels() -> None:
    layer = Conv((1,), in_channels=4, out_channels=2, groups=2, bias=False)
    weight = np.array([[1.0, 10.0], [2.0, 20.0]]).reshape(1, 2, 2)
    y = forward(layer, np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4), {"weight": weight})
    assert y[0, 0].tolist() == [1 * 1 + 2 * 2, 3 * 10 + 4 * 20]


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        (Dense(6272, 1024), 6_423_552),
        (Dense(6272, 1024, bias=False), 6_422_528),
        (Conv((3, 3), in_channels=3, out_channels=64), 1792),
        (Conv((3, 3), in_channels=64, out_channels=64, groups=64, bias=False), 576),
        (Dense(2**40, 2**40, bias=False), 2**80),
        (MaxPool((2, 2)), 0),
        (Flatten(), 0),
        ([Conv((3, 3)), ReLU(), Flatten(), Dense(4, 2)], 20),
    ],
)
def test_parameter_counts(layer: Layer | list[Layer], count: int) -> None:
    assert parameter_count(layer) == count


def test_the_shapes_of_a_model() -> None:
    model = [
        Conv((3, 3), padding="same", out_channels=4),
        MaxPool((2, 2)),
        Flatten(),
        Dense(784, 10),
    ]
    assert model_shapes(model, (5, 28, 28, 1)) == [
        (5, 28, 28, 4),
        (5, 14, 14, 4),
        (5, 784),
        (5, 10),
    ]


@settings(deadline=None)
@given(drawn(*(kind for kind in KINDS if issubclass(kind, Windowed))))
def test_the_output_s_size_is_the_number_of_places_for_a_window(case: Drawn) -> None:
    layer, sizes = case.layer, case.shape[1:-1]
    for axis, size in enumerate(output_shape(layer, case.shape)[1:-1]):
        stride, extent, length = layer.stride[axis], layer.extent[axis], sizes[axis]
        if isinstance(layer.padding, str):
            assert size == len(range(0, length, stride))
            continue
        before, after = layer.padding[axis]
        end = length + before + after
        places = range(0, end, stride)
        if isinstance(layer, Pool) and layer.ceil_mode:
            # A window may hang over, by less than a stride, if it starts before the padding.
            starts = [s for s in places if s + extent - end < stride and s < length + before]
        else:
            starts = [s for s in places if s + extent <= end]
        assert size == len(starts)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_same_padding_puts_the_odd_cell_where_its_name_says(
    size: int, window: int, stride: int
) -> None:
    x = np.ones((1, size, 1))
    out = -(-size // stride)
    total = max((out - 1) * stride + window - size, 0)
    for padding, before in (("same", total // 2), ("same_lower", total - total // 2)):
        layer = MaxPool((window,), (stride,), padding)
        real = windows(layer, x, 0)[1]
        assert real.shape == (out, window)
        cells = np.arange(out)[:, None] * stride - before + np.arange(window)
        assert np.array_equal(real, (cells >= 0) & (cells < size))


def test_a_window_one_longer_than_the_input_gives_an_empty_output() -> None:
    for layer in (MaxPool((4,)), AveragePool((4,)), StochasticPool((4,)), LpPool((4,))):
        y = forward(layer, np.ones((2, 3, 5)))
        assert y.shape == (2, 0, 5)
        gradient = gradients(layer, np.ones((2, 3, 5)), {}, np.ones(y.shape))["input"]
        assert np.array_equal(gradient, np.zeros((2, 3, 5)))


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (MaxPool((5,), (1,)), (1, 3, 1), r"MaxPool\(.*fit.*\(3,\)"),
        (Conv((2, 5)), (1, 9, 3, 1), r"Conv\(.*fit.*\(9, 3\)"),
        (MaxPool((2, 2)), (1, 4, 4), r"MaxPool.*needs 4 axes.*\(1, 4, 4\)"),
        (GlobalMaxPool(), (1, 4), r"GlobalMaxPool.*needs 4 axes.*\(1, 4\)"),
        (AdaptiveMaxPool((2,)), (1, 4, 4, 1), r"AdaptiveMaxPool.*needs 3 axes"),
        (GlobalAveragePool(), (1, 0, 4, 1), r"GlobalAveragePool.*nothing to pool.*\(0, 4\)"),
        (AdaptiveMaxPool((2,)), (1, 0, 1), r"AdaptiveMaxPool.*nothing to pool.*\(0,\)"),
        (Conv((1,), in_channels=2), (1, 4, 3), r"Conv.*3 channels"),
        (Dense(3, 2), (4, 2), r"Dense.*\(4, 2\)"),
        (Dense(3, 2), (), r"Dense.*\(\)"),
        (Flatten(2), (4, 2), r"Flatten.*\(4, 2\)"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(
    layer: Layer, shape: tuple[int, ...], message: str
) -> None:
    weights = {name: np.zeros(size) for name, size in weight_shapes(layer).items()}
    with pytest.raises(ShapeError, match=message):
        output_shape(layer, shape)
    with pytest.raises(ShapeError, match=message):
        forward(layer, np.zeros(shape), weights)


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"weight": np.zeros((2, 3))},
        {"weight": np.zeros((3, 2)), "bias": np.zeros(2)},
        {"weight": np.zeros((2, 3)), "bias": np.zeros(1)},
        {"weight": np.zeros((2, 3)), "bias": np.zeros(2), "scale": np.zeros(2)},
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: dict[str, Array]) -> None:
    with pytest.raises(ShapeError, match=r"Dense.*needs weights"):
        forward(Dense(3, 2), np.zeros((1, 3)), weights)


def test_training_draws_at_random_and_is_refused() -> None:
    with pytest.raises(ValueError, match="random"):
        forward(StochasticPool((2,), training=True), np.ones((1, 2, 1)))


@settings(deadline=None)
@given(
    drawn(*(kind for kind in KINDS if kind is not Dense)), st.sampled_from(["batch", "channels"])
)
def test_an_empty_batch_and_no_channels_give_an_empty_output(case: Drawn, axis: str) -> None:
    if axis == "channels" and isinstance(case.layer, Conv):
        return
    shape = (0, *case.shape[1:]) if axis == "batch" else (*case.shape[:-1], 0)
    x, weights = np.zeros(shape), case.weights()
    y = forward(case.layer, x, weights)
    assert y.shape == output_shape(case.layer, shape)
    assert y.size == 0
    found = gradients(case.layer, x, weights, np.zeros(y.shape))
    assert found["input"].shape == shape
    for name, weight in weights.items():
        assert np.array_equal(found[name], np.zeros(weight.shape))


def test_a_dense_layer_without_features_is_its_bias() -> None:
    weights = {"weight": np.zeros((2, 0)), "bias": np.array([1.0, 2.0])}
    y = forward(Dense(0, 2), np.zeros((3, 0)), weights)
    assert np.array_equal(y, [[1, 2]] * 3)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("kind", SELECTIONS)
def test_a_selection_keeps_dtype_and_bits(kind: type, dtype: str) -> None:
    kept = np.dtype(getattr(ml_dtypes, dtype, dtype))

    @settings(deadline=None, max_examples=30)
    @given(drawn(kind))
    def check(case: Drawn) -> None:
        # Each of 120 numbers holds in every dtype, also in the seven bits of bfloat16 and int8.
        low = 0 if dtype.startswith("u") else -60
        x = case.rng.integers(low, low + 120, case.shape).astype(kept)
        y = forward(case.layer, x)
        assert y.dtype == kept
        expected = forward(case.layer, x.astype(np.float64))
        finite = np.isfinite(expected)
        assert np.array_equal(y.astype(np.float64)[finite], expected[finite])

    check()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_reach_their_ends(dtype: str) -> None:
    ends = np.iinfo(dtype)
    padded = ((1, 1),)
    low = np.full((1, 2, 1), ends.min, dtype)
    high = np.full((1, 2, 1), ends.max, dtype)
    assert (forward(MaxPool((2,), (1,), padded), low) == ends.min).all()
    assert (forward(MinPool((2,), (1,), padded), high) == ends.max).all()
    assert (forward(MaxPool((2,), (1,), padded), high) == ends.max).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_padding_never_wins(dtype: str) -> None:
    kept = np.dtype(getattr(ml_dtypes, dtype, dtype))
    layer: dict[str, Any] = {"window": (3,), "stride": (1,), "padding": ((2, 2),)}
    for value in (-np.inf, -7.0, np.inf, 7.0, -0.0):
        x = np.full((1, 3, 1), value, kept)
        for kind in (MaxPool, MinPool):
            y = forward(kind(**layer), x)
            assert y.tobytes() == np.full((1, 5, 1), value, kept).tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("kind", [MaxPool, MinPool, AveragePool, LpPool, StochasticPool])
def test_nan_propagates_from_every_position(kind: Any, position: int, dtype: str) -> None:
    x = np.ones((1, 4, 1), np.dtype(getattr(ml_dtypes, dtype, dtype)))
    x[0, position] = np.nan
    y = forward(kind((2,)), x).astype(np.float64)[0, :, 0]
    assert np.isnan(y).tolist() == [position < 2, position >= 2]
    if kind in (MaxPool, MinPool):
        assert maximal(kind((2,)), x)[0, :, :, 0].any(axis=1).tolist() == [
            position >= 2,
            position < 2,
        ]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
@pytest.mark.parametrize(
    "kind", [AveragePool, LpPool, StochasticPool, GlobalAveragePool, Conv, Dense]
)
def test_a_sum_is_float64_and_not_rounded(kind: Any, dtype: str) -> None:
    x = np.array([1, 2, 4], np.dtype(getattr(ml_dtypes, dtype, dtype))).reshape(1, 3, 1)
    weights: dict[str, Array] = {}
    match kind.__name__:
        case "GlobalAveragePool":
            layer, expected = kind(1), 7 / 3
        case "Dense":
            x = x[..., 0]
            layer, expected = kind(3, 1, bias=False), 7 / 3
            weights = {"weight": np.full((1, 3), 1 / 3)}
        case "Conv":
            layer, expected = kind((3,), bias=False), 7 / 3
            weights = {"weight": np.full((3, 1, 1), 1 / 3)}
        case "LpPool":
            layer, expected = kind((3,)), math.sqrt(21)
        case "StochasticPool":
            layer, expected = kind((3,)), 3.0
        case _:
            layer, expected = kind((3,)), 7 / 3
    y = forward(layer, x, weights)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, expected, rtol=2.0**-51)


def test_a_mean_does_not_overflow_on_the_way() -> None:
    largest = np.finfo(np.float64).max
    for layer in (AveragePool((3,)), GlobalAveragePool(1), AdaptiveAveragePool((1,))):
        assert forward(layer, line(largest, largest, largest)).ravel() == pytest.approx(
            largest, rel=2.0**-50
        )
        assert forward(layer, line(largest, -largest, largest)).ravel() == pytest.approx(
            largest / 3, rel=2.0**-50
        )
    mixed = forward(AveragePool((2,)), line(largest, largest, 5e-324, 5e-324, np.inf, 1))
    assert mixed.ravel().tolist() == [largest, 5e-324, np.inf]


@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [2.0**1020, 2.0**-1040])
def test_a_norm_does_not_overflow_on_the_way(p: int, scale: float) -> None:
    expected = (3**p + 4**p) ** (1 / p) * scale
    y = forward(LpPool((2,), p=p), line(3 * scale, -4 * scale))
    assert y.ravel() == pytest.approx(expected, rel=2.0**-30, abs=0)


@pytest.mark.parametrize(
    ("layer", "values", "expected"),
    [
        (AveragePool((2,)), (np.inf, 1), np.inf),
        (AveragePool((2,)), (np.inf, -np.inf), np.nan),
        (LpPool((2,)), (-np.inf, 1), np.inf),
        (LpPool((2,)), (np.inf, np.nan), np.nan),
        (MaxPool((2,)), (-np.inf, -np.inf), -np.inf),
        (StochasticPool((2,)), (0, 0), 0),
        (ReLU(), (-np.inf,), 0),
    ],
)
def test_special_values_come_out_without_warnings(
    layer: Layer, values: tuple[float, ...], expected: float
) -> None:
    np.testing.assert_array_equal(forward(layer, line(*values)).ravel(), [expected])


def test_a_zero_weight_does_not_hide_an_infinity() -> None:
    weights = {"weight": np.array([[0.0, 1.0]])}
    y = forward(Dense(2, 1, bias=False), np.array([[np.inf, 1.0], [np.nan, 1.0]]), weights)
    assert np.isnan(y).all()


def test_padding_counts_but_what_lies_beyond_it_does_not() -> None:
    layer = AveragePool((3,), (3,), ((1, 1),), ceil_mode=True, count_include_pad=True)
    # Windows: one of padding and two cells; two cells and one of padding.
    assert forward(layer, line(3, 6, 4, 8))[0, :, 0].tolist() == [3, 4]
    layer = layer.replace(stride=(2,))
    # A third window holds the last cell, one of padding, and one beyond that does not count.
    assert forward(layer, line(3, 6, 4, 8))[0, :, 0].tolist() == [3, 6, 4]


def test_a_window_of_padding_alone() -> None:
    fields: dict[str, Any] = {"dilation": (3,), "stride": (1,), "padding": ((1, 1),)}
    x = line(1, 2)
    real = windows(MaxPool((2,), **fields), x, 0)[1]
    assert real.tolist() == [[False, False]]
    assert forward(MaxPool((2,), **fields), x).item() == -np.inf
    assert forward(MinPool((2,), **fields), x).item() == np.inf
    assert np.isnan(forward(AveragePool((2,), **fields), x).item())
    assert forward(AveragePool((2,), **fields, count_include_pad=True), x).item() == 0
    assert forward(LpPool((2,), **fields), x).item() == 0


def test_windows_show_cells_in_row_major_order_and_padding_as_fill() -> None:
    layer = MaxPool((2, 2), (2, 2), ((1, 0), (0, 1)), (1, 2))
    values, real = windows(layer, image([[1, 2, 3]], np.int8), -9)
    assert values.dtype == np.int8
    assert values[0, 0, 0, :, 0].tolist() == [-9, -9, 1, 3]
    assert real[0, 0].tolist() == [False, False, True, True]


def test_stochastic_pooling_draws_in_proportion() -> None:
    x = line(1, 3, 0, 0, dtype=np.float32)
    values, probabilities = candidates(StochasticPool((2,), training=True), x)
    assert values.shape == probabilities.shape == (1, 2, 1, 2)
    assert values.dtype == np.float32
    assert values[0, :, 0].tolist() == [[1, 3], [0, 0]]
    assert probabilities[0, :, 0].tolist() == [[0.25, 0.75], [0.5, 0.5]]


@settings(deadline=None)
@given(drawn(StochasticPool))
def test_evaluation_is_the_expectation_of_training(case: Drawn) -> None:
    x = case.dyadic(case.shape)
    values, probabilities = candidates(case.layer, x)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=2.0**-48)
    expectation = (values * probabilities).sum(axis=-1)
    np.testing.assert_allclose(forward(case.layer, x), expectation, rtol=2.0**-48)


@settings(deadline=None)
@given(drawn())
def test_the_size_of_the_blocks_does_not_show(case: Drawn) -> None:
    x, weights, upstream = case.dyadic(case.shape), case.weights(), case.upstream()
    with pytest.MonkeyPatch.context() as patch:
        y, found = forward(case.layer, x, weights), gradients(case.layer, x, weights, upstream)
        patch.setattr(import_module("cnnformance.reference.windows"), "BLOCK", 1)
        np.testing.assert_array_equal(forward(case.layer, x, weights), y)
        for name, gradient in gradients(case.layer, x, weights, upstream).items():
            np.testing.assert_array_equal(gradient, found[name])


@settings(deadline=None)
@given(drawn())
def test_inputs_and_weights_are_left_as_they_were(case: Drawn) -> None:
    x, weights = case.dyadic(case.shape), case.weights()
    for array in (x, *weights.values()):
        array.flags.writeable = False
    forward(case.layer, x, weights)
    gradients(case.layer, x, weights, case.upstream())


@settings(deadline=None)
@given(drawn())
def test_the_memory_layout_of_the_input_does_not_show(case: Drawn) -> None:
    x, weights = case.dyadic(case.shape), case.weights()
    y = forward(case.layer, x, weights)
    for strided in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x[:, ::-1].copy()[:, ::-1]):
        np.testing.assert_array_equal(forward(case.layer, strided, weights), y)
