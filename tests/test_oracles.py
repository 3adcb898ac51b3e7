"""The two oracles agree: the float64 reference, and the formulas in exact rational arithmetic.

They were written apart: one gathers all windows at once, the other loops over single cells.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import exact
import numpy as np
import pytest
from hypothesis import assume, given, settings
from small import KINDS, Drawn, drawn

from cnnformance.reference import (
    Array,
    candidates,
    forward,
    gradients,
    output_shape,
    parameter_count,
)
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    LpPool,
    MaxPool,
    ReLU,
    StochasticPool,
)

CLOSE = Fraction(1, 2**48)
ROUNDED = (AveragePool, GlobalAveragePool, AdaptiveAveragePool, LpPool, StochasticPool)
"""The layers that divide or take roots, whose results float64 cannot always hold."""

LINEAR = (AveragePool, GlobalAveragePool, AdaptiveAveragePool, Flatten, Conv, Dense)

each_kind = pytest.mark.parametrize("kind", KINDS)


def agrees(actual: float, expected: Any, tolerance: Fraction) -> bool:
    """Whether a float is an exact number, to a relative tolerance, or the same non-finite."""
    if isinstance(expected, float) and not math.isfinite(expected):
        return actual == expected or (math.isnan(actual) and math.isnan(expected))
    if not math.isfinite(actual):
        return False
    return abs(Fraction(actual) - Fraction(expected)) <= tolerance * abs(Fraction(expected))


def assert_agree(actual: Array, expected: Array, tolerance: Fraction) -> None:
    """Check that a reference's array is an exact one, element by element."""
    assert actual.shape == expected.shape
    for index in np.ndindex(expected.shape):
        assert agrees(float(actual[index]), expected[index], tolerance), (
            f"at {index}: reference {float(actual[index])!r}, exact {expected[index]}"
        )


@each_kind
def test_the_oracles_agree(kind: type) -> None:
    tolerance = CLOSE if issubclass(kind, ROUNDED) else Fraction(0)

    @settings(deadline=None)
    @given(drawn(kind))
    def check(case: Drawn) -> None:
        x, weights = case.dyadic(case.shape), case.weights()
        assert output_shape(case.layer, x.shape) == exact.output_shape(case.layer, x.shape)
        expected = exact.output(case.layer, x, weights)
        assert_agree(forward(case.layer, x, weights), expected, tolerance)

    check()


@pytest.mark.parametrize("kind", LINEAR)
def test_the_oracles_agree_on_the_gradients_of_linear_layers(kind: type) -> None:
    tolerance = CLOSE if issubclass(kind, ROUNDED) else Fraction(0)

    @settings(deadline=None, max_examples=30)
    @given(drawn(kind))
    def check(case: Drawn) -> None:
        x, weights, upstream = case.dyadic(case.shape), case.weights(), case.upstream()
        # The exact gradient evaluates the layer once for every element.
        assume(math.prod(x.shape) * upstream.size <= 2000)
        # A mean over padding alone is NaN, and has no gradient.
        assume(np.isfinite(forward(case.layer, x, weights)).all())
        expected = exact.gradient(case.layer, x, upstream, weights)
        actual = gradients(case.layer, x, weights, upstream)
        assert actual.keys() == expected.keys()
        for name, gradient in actual.items():
            # Shares of opposite sign may cancel, so the tolerance is of the sum's magnitude.
            scale = np.abs(upstream).sum()
            np.testing.assert_allclose(
                gradient,
                expected[name].astype(np.float64),
                rtol=0,
                atol=float(tolerance) * scale,
            )

    check()


@pytest.mark.parametrize("kind", [k for k in KINDS if not issubclass(k, StochasticPool | Dense)])
def test_the_oracles_agree_on_infinities(kind: type) -> None:
    tolerance = CLOSE if issubclass(kind, ROUNDED) else Fraction(0)

    @settings(deadline=None, max_examples=50)
    @given(drawn(kind))
    def check(case: Drawn) -> None:
        x, weights = case.dyadic(case.shape), case.weights()
        x[case.rng.random(x.shape) < 0.2] = np.inf
        x[case.rng.random(x.shape) < 0.2] = -np.inf
        expected = exact.output(case.layer, x, weights)
        assert_agree(forward(case.layer, x, weights), expected, tolerance)

    check()


@settings(deadline=None)
@given(drawn(StochasticPool))
def test_the_oracles_agree_on_what_training_draws(case: Drawn) -> None:
    layer = case.layer.replace(training=True)
    x = case.dyadic(case.shape)
    values, probabilities = candidates(layer, x)
    draws = exact.draws(layer, x)
    assert draws.shape == values.shape[:-1]
    for index in np.ndindex(draws.shape):
        expected: dict[Fraction, Fraction] = {}
        actual: dict[Fraction, float] = {}
        for value, probability in draws[index]:
            expected[value] = expected.get(value, Fraction(0)) + probability
        for value, probability in zip(values[index], probabilities[index], strict=True):
            actual[Fraction(value)] = actual.get(Fraction(value), 0.0) + probability
        drawable = {value for value, probability in actual.items() if probability}
        assert drawable == {value for value, probability in expected.items() if probability}
        for value in drawable:
            assert agrees(actual[value], expected[value], CLOSE)


@given(drawn())
def test_the_oracles_agree_on_parameter_counts(case: Drawn) -> None:
    assert parameter_count(case.layer) == exact.parameter_count(case.layer)


@pytest.mark.parametrize(
    ("actual", "expected", "holds"),
    [
        (0.5, Fraction(1, 2), True),
        (0.5, Fraction(1, 3), False),
        (1 / 3, Fraction(1, 3), True),
        (math.nan, math.nan, True),
        (math.nan, Fraction(0), False),
        (0.0, math.nan, False),
        (math.inf, -math.inf, False),
        (-math.inf, -math.inf, True),
    ],
)
def test_agreement_can_fail(actual: float, expected: Any, holds: bool) -> None:
    assert agrees(actual, expected, CLOSE) is holds


def test_a_wrong_reference_would_be_seen() -> None:
    x = np.arange(4.0).reshape(1, 4, 1)
    expected = exact.output(MaxPool((2,)), x, {})
    with pytest.raises(AssertionError, match=r"at \(0, 0, 0\): reference 0"):
        assert_agree(forward(ReLU(), x)[:, ::2], expected, CLOSE)
