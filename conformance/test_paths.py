"""The same mathematics along another path: rank, batch, adaptive and global poolings."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_varied import random, windowed
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.laws import alike, answer, few
from cnnformance.conformance.parametrize import law
from cnnformance.conformance.question import Question
from cnnformance.conformance.strategies import cases
from cnnformance.spec import layers as spec


@law("rank-consistent")
def test_rank_consistent(ask: Question, layer_type: type[spec.Windowed]) -> None:
    """A unit axis more, for input and window alike, changes nothing."""

    def question(case: Case) -> None:
        layer = windowed(case)
        axis = int(random(case).integers(layer.rank + 1))

        def put(values: Any, unit: Any) -> Any:
            if isinstance(values, str):
                return values
            return (*values[:axis], unit, *values[axis:])

        units = {"window": 1, "stride": 1, "dilation": 1, "padding": (0, 0)}
        higher = layer.replace(**{n: put(getattr(layer, n), unit) for n, unit in units.items()})
        weights = dict(case.weights)
        if "weight" in weights:
            weights["weight"] = np.expand_dims(weights["weight"], axis)
        low = answer(ask, layer, case.x, case.weights)
        high = answer(ask, higher, np.expand_dims(case.x, axis + 1), weights)
        expected = low.view(lambda a: np.expand_dims(a, axis + 1))
        alike(f"not as with rank {layer.rank}", expected, high)

    drawn = cases(layer_type, plain=False).filter(lambda case: windowed(case).rank < 3)
    few(ask, drawn, question, 3)


@law("size-as-convolution")
def test_size_as_convolution(ask: Question, layer_type: type[spec.Windowed]) -> None:
    """Pooling and convolution of equal window, stride and padding give equal sizes."""

    def question(case: Case) -> None:
        fields = {n: getattr(case.layer, n) for n in ("window", "stride", "padding", "dilation")}
        channels = case.shape[-1]
        if layer_type is spec.Conv:
            other: spec.Layer = spec.MaxPool(**fields)
        else:
            other = spec.Conv(**fields, in_channels=channels, out_channels=channels)
        compared = case.with_(layer=other)
        own = ask.run(case.layer, case.x, case.weights).shape
        theirs = ask.run(other, compared.x, compared.weights).shape
        if own[1:-1] != theirs[1:-1]:
            name = type(other).__name__
            raise Failure("law", f"{case.shape} became {own}, and {theirs} under {name}")

    def rounded_down(case: Case) -> Case:
        return (
            case
            if layer_type is spec.Conv
            else case.with_(layer=case.layer.replace(ceil_mode=False))
        )

    few(ask, cases(layer_type, plain=False, regimes=("integer",)).map(rounded_down), question)


@law("adaptive-equals-window")
def test_adaptive_equals_window(ask: Question, layer_type: type[spec.Adaptive]) -> None:
    """Where the output size divides the input size, the quotient is window and stride."""
    pool = spec.MaxPool if layer_type is spec.AdaptiveMaxPool else spec.AveragePool

    def question(case: Case) -> None:
        sizes = zip(case.shape[1:-1], windowed(case).output, strict=True)
        window = answer(ask, pool(window=tuple(n // m for n, m in sizes)), case.x)
        alike("not as with windows", window, answer(ask, case.layer, case.x))

    def divisible(case: Case) -> Case:
        sizes = zip(case.shape[1:-1], windowed(case).output, strict=True)
        spatial = (m * (1 + n % 3) for n, m in sizes)
        return case.with_(shape=(case.shape[0], *spatial, case.shape[-1]))

    few(ask, cases(layer_type).map(divisible), question)


@law("global-equals-window")
def test_global_equals_window(ask: Question, layer_type: type[spec.Global]) -> None:
    """A window as large as the input gives the same as pooling over all cells."""
    pool = spec.MaxPool if layer_type is spec.GlobalMaxPool else spec.AveragePool

    def question(case: Case) -> None:
        window = answer(ask, pool(window=case.shape[1:-1]), case.x)
        everywhere = answer(ask, case.layer, case.x)
        expected = window.view(lambda a: a.reshape(everywhere.y.shape))
        alike("not as with one window", expected, everywhere)

    few(ask, cases(layer_type), question)


@law("batch-independent")
def test_batch_independent(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A sample alone gives what it gives in a batch, in whatever order they come."""

    def question(case: Case) -> None:
        whole = answer(ask, case.layer, case.x, case.weights)
        order = random(case).permutation(case.shape[0])
        for name, rows in (("a sample was alone", order[:1]), ("the batch was permuted", order)):
            some = answer(ask, case.layer, case.x[rows], case.weights)
            alike(name, whole.view(lambda a, rows=rows: a[rows]), some)  # type: ignore[misc] # mypy infers no type for a default

    few(ask, cases(layer_type), question)
