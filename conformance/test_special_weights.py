"""NaN and infinities in weights: IEEE 754 says what they become, also where they meet a zero."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case, given
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.parametrize import FLOATS, law
from cnnformance.conformance.question import Question
from cnnformance.reference import forward
from cnnformance.spec import layers as spec

SPECIALS = (np.nan, np.inf, -np.inf)
_CONVOLUTIONS: tuple[tuple[dict[str, Any], spec.Shape], ...] = (
    ({"window": (3, 3), "in_channels": 2}, (6, 7)),
    ({"window": (1, 1), "in_channels": 3}, (3, 4)),
    ({"window": (3,), "in_channels": 2}, (9,)),
    ({"window": (2, 2, 2), "in_channels": 1}, (3, 4, 3)),
    ({"window": (3, 3), "in_channels": 3, "padding": ((1, 1), (0, 2))}, (5, 4)),
    ({"window": (3, 2), "in_channels": 1, "stride": (2, 1)}, (7, 5)),
    ({"window": (2, 3), "in_channels": 1, "dilation": (2, 1)}, (6, 5)),
    ({"window": (3, 3), "in_channels": 4, "groups": 2}, (5, 5)),
    ({"window": (3, 3), "in_channels": 8, "groups": 8}, (4, 6)),
)


def _layers(layer_type: type[spec.Layer]) -> Iterator[tuple[spec.Layer, spec.Shape]]:
    """Yield layers of eight outputs, each with the shape of an input of three samples."""
    if issubclass(layer_type, spec.Dense):
        for features in (1, 5, 33):
            yield layer_type(features, 8), (3, features)
        yield layer_type(4, 8), (3, 2, 4)
        return
    for fields, spatial in _CONVOLUTIONS:
        layer = layer_type(out_channels=8, **fields)  # type: ignore[call-arg] # convolutions
        yield layer, (3, *spatial, fields["in_channels"])


def _spoilt(layer: spec.Layer, shape: spec.Shape, dtype: str, turn: int, zeros: slice) -> Case:
    """Return small integers with specials in half of the outputs' weights, and one in the bias.

    The samples in ``zeros`` are all zeros. ``turn`` moves the specials on to other weights.
    """
    rng = np.random.default_rng(turn)
    weights = {
        name: rng.integers(-2, 3, size).astype(dtype_named(dtype))
        for name, size in spec.weight_shapes(layer).items()
    }
    rows = weights["weight"]  # one for each output
    rows = rows if isinstance(layer, spec.Dense) else np.moveaxis(rows, -1, 0)
    cells = int(np.prod(rows.shape[1:]))
    for number, special in enumerate(SPECIALS):
        place = (number * cells // 2 + turn * 7) % cells
        rows[(2 * number + turn) % 8][np.unravel_index(place, rows.shape[1:])] = special
    weights["bias"][(6 + turn) % 8] = np.nan
    x = rng.integers(-2, 3, shape).astype(dtype_named(dtype))
    x[zeros] = 0
    return given(layer, x, **weights)


def _reached(case: Case, special: Any) -> Array:
    """Return which outputs read a cell of the input through a special weight, or add one."""
    marked = {name: special(w).astype(np.float64) for name, w in case.weights.items()}
    return forward(case.layer, np.ones(case.shape), marked) > 0


@law("weights-keep-specials")
def test_special_weights(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A NaN or an infinity in a weight reaches every output that uses it, and does not get lost.

    It reaches the output through a zero as well: zero times an infinity is NaN. Fast algorithms may
    turn an infinity into NaN and spread both over further outputs, and padding may or may not be
    multiplied: traits.
    """
    spread: set[str] = set()

    def question(case: Case) -> None:
        y = ask.run(case.layer, case.x, case.weights)
        judge.same_form(y, y.shape, case.x.dtype)
        got = y.astype(np.float64)
        reached, as_nan = _reached(case, lambda w: ~np.isfinite(w)), _reached(case, np.isnan)
        expected = np.asarray(forward(case.layer, case.x, case.weights), np.float64)
        lost = (reached & np.isfinite(got)) | (as_nan & ~np.isnan(got))
        if isinstance(case.layer, spec.Dense):
            lost |= reached & ~((got == expected) | (np.isnan(got) & np.isnan(expected)))
        if lost.any():
            index = tuple(int(i) for i in np.argwhere(lost)[0])
            shown = judge.text(expected[index]), judge.text(y[index])
            raise Failure(
                "not-finite",
                f"at {index}: {shown[1]}, should be {shown[0]} (a weight that is not finite is "
                f"used there); {int(lost.sum())} of {lost.size} elements are wrong",
                index=index,
                expected=shown[0],
                actual=shown[1],
            )
        leaked = ~reached & ~np.isfinite(got)
        if leaked.any():
            spread.add(case.dtype)
        finite = {n: np.where(np.isfinite(w), w, w.dtype.type(0)) for n, w in case.weights.items()}
        clean = given(case.layer, case.x, **finite)
        others = np.asarray(forward(case.layer, case.x, finite)).astype(y.dtype)
        judge.output(clean, np.where(reached | leaked, others, y))

    turns = 1 if ask.profile.name == "quick" else 4
    for dtype in FLOATS:
        layers = itertools.islice(_layers(layer_type), 0, None, 1 if dtype == "float32" else 3)
        pairs = itertools.product(enumerate(layers), range(turns))
        zeros = itertools.cycle([slice(1, 2), slice(1, 2), slice(None)])
        spoilt = (_spoilt(*each, dtype, turn + at, next(zeros)) for (at, each), turn in pairs)
        ask.sweep(spoilt, question)
    for dtype in sorted(spread):
        name = f"NaN and infinities in weights of {layer_type.__name__}"
        ask.trait(name, "spread to outputs that do not use them", dtype, "")
