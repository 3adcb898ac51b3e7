"""Max and min pooling select: which value, from where, and what does not matter to them."""

from __future__ import annotations

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_varied import padded, random, shuffled, single_window, windowed
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.laws import Answer, alike, answer, few, holds, require
from cnnformance.conformance.parametrize import law
from cnnformance.conformance.question import Question
from cnnformance.conformance.strategies import cases
from cnnformance.reference import bounds, maximal, output_shape, scatter, windows
from cnnformance.spec import layers as spec


def _bits(array: Array) -> Array:
    return array.view(f"i{array.dtype.itemsize}")


@law("selects-from-window")
def test_selects_from_window(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Each output is, bit for bit, one of the values of its window."""

    def question(case: Case) -> None:
        layer = case.layer
        if layer.draws:
            layer = layer.replace(training=True)
        x = case.x + case.x.dtype.type(0)  # the sign of a zero is a trait of its own,
        x[np.abs(x) < bounds.format_of(case.dtype).tiny] = 0  # and so is what is subnormal
        y = ask.run(layer, x)
        shape = output_shape(layer, case.shape)
        said = Answer((layer,), x, {}, y, np.zeros(shape), np.ones(shape, np.bool_))
        if (y.shape, y.dtype) != (shape, x.dtype):
            with said.shown():
                raise Failure("shape", f"{y.dtype}{y.shape}, not {case.dtype}{shape}")
        cells, real = windows(windowed(case), _bits(x), 0)
        found = ((cells == _bits(y)[..., None, :]) & real[..., None]).any(axis=-2)
        require("the output is none of the values of its window", found, said)

    for dtype in ("float32", "float16"):
        few(ask, cases(layer_type, dtype), question)


@law("ignores-weaker")
def test_ignores_weaker(ask: Question, layer_type: type[spec.MaxPool]) -> None:
    """Lowering the values that are the largest of no window changes nothing."""

    def question(case: Case) -> None:
        layer = windowed(case)
        winners = scatter(layer, case.shape, maximal(layer, case.x).astype(np.float64)) > 0
        lowered = np.where(winners, case.x, case.x.dtype.type(-1e30))
        expected, actual = answer(ask, layer, case.x), answer(ask, layer, lowered)
        alike("values that are not the largest were lowered", expected, actual)

    few(
        ask,
        cases(layer_type, regimes=("integer", "normal", "negative", "ties", "rising")),
        question,
    )


@law("padding-never-wins")
def test_padding_never_wins(ask: Question, layer_type: type[spec.Pool]) -> None:
    """Padding is not among the values: explicit infinities of the losing sign change nothing."""
    sign = 1 if layer_type.least else -1

    def question(case: Case) -> None:
        layer, x = windowed(case), sign * np.abs(case.x)
        explicit = answer(ask, *padded(layer, x, sign * np.inf))
        alike("padding took part", explicit, answer(ask, layer, x))

    drawn = cases(layer_type, plain=False, regimes=("integer", "normal", "negative", "wide"))
    few(ask, drawn.filter(_some_input_everywhere).map(_rounded_down), question, 3)


def _rounded_down(case: Case) -> Case:
    return case.with_(layer=windowed(case).replace(ceil_mode=False))


def _some_input_everywhere(case: Case) -> bool:
    """Whether no window can lie between the cells of the input, all in the padding."""
    return set(windowed(case).dilation) == {1}


@law("spatial-permutation")
def test_spatial_permutation(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Where the largest value lies does not matter: any order of the cells gives the same."""

    def question(case: Case) -> None:
        moved = answer(ask, case.layer, shuffled(case))
        alike("the cells were put in another order", answer(ask, case.layer, case.x), moved)

    few(ask, cases(layer_type), question)


@law("negated-max-pool")
def test_negated_max_pool(ask: Question, layer_type: type[spec.MinPool]) -> None:
    """The minimum is the negated maximum of the negated values."""

    def question(case: Case) -> None:
        largest = answer(ask, spec.MaxPool(**vars(case.layer)), -case.x)
        smallest = answer(ask, case.layer, case.x)
        holds("it is not the negated maximum of -x", -largest.y, smallest)

    few(ask, cases(layer_type), question)


@law("shift-within-window")
def test_shift_within_window(ask: Question, layer_type: type[spec.MaxPool]) -> None:
    """An activation that moves by one cell within its window leaves the output as it is."""

    def question(case: Case) -> None:
        layer = windowed(case)
        x = -np.abs(np.tile(case.x, (1, *(2,) * layer.rank, 1)))
        corner = [w * int(random(case).integers(2)) for w in layer.window]
        axis = int(np.argmax(layer.window))
        peaks = [x.copy(), x.copy()]
        for moved, peak in enumerate(peaks):
            at = [c + moved * (i == axis) for i, c in enumerate(corner)]
            peak[:, *at] = 9
        before, after = (answer(ask, layer, peak) for peak in peaks)
        alike("a peak moved by one cell inside its window", before, after)

    drawn = cases(layer_type, regimes=("integer", "normal")).map(single_window)
    few(ask, drawn.filter(lambda case: max(windowed(case).window) > 1), question)
