"""The reference's gradients: against finite differences, adjointness, and another library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from small import KINDS, Drawn, drawn

from cnnformance.reference import (
    Array,
    ShapeError,
    forward,
    gradients,
    maximal,
    output_shape,
    scatter,
    windows,
)
from cnnformance.spec.layers import (
    Adaptive,
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Global,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    Pool,
    ReLU,
    StochasticPool,
    Windowed,
)

STEP = 2.0**-14
LOCATED = tuple(kind for kind in KINDS if issubclass(kind, Windowed | Global | Adaptive))
SELECTIONS = (MaxPool, MinPool, GlobalMaxPool, AdaptiveMaxPool)


def central_differences(case: Drawn, arrays: dict[str, Array], upstream: Array) -> dict[str, Array]:
    """Differentiate ``sum(forward * upstream)`` numerically in every element of every array.

    Windows of padding alone, whose output is not finite, depend on nothing and are left out.
    """
    found = {}
    for name, array in arrays.items():
        found[name] = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            ends = []
            for step in (STEP, -STEP):
                moved = {key: value.copy() for key, value in arrays.items()}
                moved[name][index] += step
                x = moved.pop("input")
                y = forward(case.layer, x, moved)
                ends.append((np.where(np.isfinite(y), y, 0.0) * upstream).sum())
            found[name][index] = (ends[0] - ends[1]) / (2 * STEP)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_limits_of_differences(kind: type) -> None:
    @settings(deadline=None)
    @given(drawn(kind))
    def check(case: Drawn) -> None:
        x, weights, upstream = case.untied(), case.weights(), case.upstream()
        actual = gradients(case.layer, x, weights, upstream)
        expected = central_differences(case, {"input": x, **weights}, upstream)
        assert actual.keys() == expected.keys()
        for name, gradient in actual.items():
            assert gradient.dtype == np.float64
            assert gradient.shape == expected[name].shape
            np.testing.assert_allclose(gradient, expected[name], rtol=1e-6, atol=1e-6)

    check()


@settings(deadline=None)
@given(drawn(*LOCATED))
def test_scatter_is_the_adjoint_of_windows(case: Drawn) -> None:
    x = case.dyadic(case.shape)
    values, real = windows(case.layer, x, 0.0)
    cell_values = case.dyadic(values.shape)
    back = scatter(case.layer, x.shape, cell_values)
    assert back.shape == x.shape
    assert (values * cell_values).sum() == (x * back).sum()
    assert not values[:, ~real].any()


@settings(deadline=None)
@given(drawn(*SELECTIONS))
def test_a_selection_gives_every_window_s_share_to_one_maximal_cell(case: Drawn) -> None:
    x = case.rng.integers(-1, 2, case.shape).astype(np.float32)
    mask = maximal(case.layer, x)
    values, real = windows(case.layer, x, 0)
    selected = forward(case.layer, x)[..., None, :]
    assert (mask == ((values == selected) & real[..., None])).all()
    upstream = np.where(mask.any(axis=-2), np.abs(case.upstream()), 0.0)
    gradient = gradients(case.layer, x, {}, upstream)["input"]
    assert gradient.sum() == upstream.sum()
    most = scatter(case.layer, x.shape, np.where(mask, upstream[..., None, :], 0.0))
    assert (gradient <= most).all()


def test_at_a_tie_every_maximal_cell_is_named() -> None:
    x = np.array([2.0, 2.0, 1.0, 3.0]).reshape(1, 4, 1)
    mask = maximal(MaxPool((2,)), x)[0, :, :, 0]
    assert mask.tolist() == [[True, True], [False, True]]


def test_cells_of_minus_infinity_are_maximal_and_padding_is_not() -> None:
    layer = MaxPool((2,), (1,), ((1, 1),))
    x = np.full((1, 2, 1), -np.inf)
    mask = maximal(layer, x)[0, :, :, 0]
    assert mask.tolist() == [[False, True], [True, True], [True, False]]
    gradient = gradients(layer, x, {}, np.ones((1, 3, 1)))["input"]
    assert gradient.sum() == 3


@pytest.mark.parametrize("p", [1, 2, 3])
def test_a_norm_has_gradient_zero_at_the_origin(p: int) -> None:
    x = np.zeros((1, 4, 1))
    assert not gradients(LpPool((2,), p=p), x, {}, np.ones((1, 2, 1)))["input"].any()


@pytest.mark.parametrize("scale", [2.0**700, 2.0**-700])
@pytest.mark.parametrize("layer", [LpPool((3,)), LpPool((3,), p=3), StochasticPool((3,))])
def test_the_slope_of_a_homogeneous_pooling_does_not_change_with_the_scale(
    layer: LpPool | StochasticPool, scale: float
) -> None:
    x = np.array([1.0, 2.0, 5.0]).reshape(1, 3, 1)
    upstream = np.ones((1, 1, 1))
    expected = gradients(layer, x, {}, upstream)["input"]
    actual = gradients(layer, x * scale, {}, upstream)["input"]
    np.testing.assert_allclose(actual, expected, rtol=2.0**-48)


def test_an_upstream_gradient_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"ReLU.*\(2, 3\).*\(3, 2\)"):
        gradients(ReLU(), np.zeros((2, 3)), {}, np.zeros((3, 2)))


def test_stochastic_pooling_in_training_has_no_gradient() -> None:
    with pytest.raises(ValueError, match="random"):
        gradients(StochasticPool((2,), training=True), np.ones((1, 2, 1)), {}, np.ones((1, 1, 1)))


def expressible(layer: Layer) -> Layer:
    """Return the layer with what torch lacks taken away: padding is symmetric, and small."""
    if not isinstance(layer, Windowed):
        return layer
    pads = () if isinstance(layer.padding, str) else layer.padding
    fields: dict[str, Any] = {}
    if isinstance(layer, Pool):
        smaller = [min(b, w // 2) for (b, _), w in zip(pads, layer.window, strict=False)]
    else:
        smaller = [before for before, _ in pads]
    if isinstance(layer, AveragePool):
        fields["dilation"] = ()
    return layer.replace(padding=tuple((p, p) for p in smaller), **fields)


def is_safe_in_torch(case: Drawn) -> bool:
    """Whether torch takes the case: it fits, and no window is padding alone.

    The latter gives an index beyond the input, to which torch 2.13 writes the gradient. Its
    ``avg_pool3d`` wants windows that fit without padding or ceil mode.
    """
    layer = case.layer
    if isinstance(layer, AveragePool):
        layer = layer.replace(ceil_mode=False, padding=())
    try:
        if 0 in output_shape(layer, case.shape):
            return False
    except ShapeError:
        return False
    real = windows(case.layer, np.zeros(case.shape), 0)[1]
    return bool(real.any(axis=-1).all())


def by_torch(layer: Any, x: Any, weight: Any = None, bias: Any = None) -> Any:
    """Return what torch computes for channels-first ``x`` and its own order of weights."""
    functional = pytest.importorskip("torch").nn.functional
    pads = [before for before, _ in getattr(layer, "padding", ())]
    match layer:
        case MaxPool(window, stride, _, dilation, ceil_mode):
            call = getattr(functional, f"max_pool{layer.rank}d")
            return call(x, window, stride, pads, dilation, ceil_mode)
        case AveragePool(window, stride, _, _, ceil_mode, counts):
            call = getattr(functional, f"avg_pool{layer.rank}d")
            return call(x, window, stride, pads, ceil_mode, counts)
        case AdaptiveMaxPool():
            return getattr(functional, f"adaptive_max_pool{layer.rank}d")(x, layer.output)
        case AdaptiveAveragePool():
            return getattr(functional, f"adaptive_avg_pool{layer.rank}d")(x, layer.output)
        case Conv(_, stride, _, dilation):
            call = getattr(functional, f"conv{layer.rank}d")
            kernel = weight.movedim((-1, -2), (0, 1)).contiguous()
            return call(x, kernel, bias, stride, pads, dilation, layer.groups)
    raise AssertionError(layer)


@pytest.mark.parametrize("kind", [MaxPool, AveragePool, AdaptiveMaxPool, AdaptiveAveragePool, Conv])
def test_torch_agrees_forward_and_backward(kind: type) -> None:
    torch = pytest.importorskip("torch")

    @settings(deadline=None)
    @given(drawn(kind))
    def check(drawn_case: Drawn) -> None:
        case = drawn_case._replace(layer=expressible(drawn_case.layer))
        assume(is_safe_in_torch(case))
        x, weights, upstream = case.untied(), case.weights(), case.upstream()
        tensors = {
            name: torch.from_numpy(array).requires_grad_()
            for name, array in {"input": x, **weights}.items()
        }
        own = {name: tensor for name, tensor in tensors.items() if name != "input"}
        y = by_torch(case.layer, tensors["input"].movedim(-1, 1), **own).movedim(1, -1)
        expected = forward(case.layer, x, weights)
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
        (y * torch.from_numpy(upstream)).sum().backward()
        for name, gradient in gradients(case.layer, x, weights, upstream).items():
            np.testing.assert_allclose(tensors[name].grad, gradient, rtol=1e-12, atol=1e-12)

    check()
