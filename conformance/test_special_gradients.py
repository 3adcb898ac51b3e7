"""NaN, infinities and maps of one value in the backward pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import cases_by_option, judge
from cnnformance.conformance.cases import Case, given
from cnnformance.conformance.gradients import differentiated, distinct, shown, upstream_of
from cnnformance.conformance.judge import Failure, Index
from cnnformance.conformance.parametrize import FLOATS, law
from cnnformance.conformance.question import Question
from cnnformance.conformance.small_layers import channels
from cnnformance.conformance.test_special_values import Choices, whole_windows
from cnnformance.reference import bounds, gradients, maximal, output_shape, scatter, windows
from cnnformance.reports.reasons import Reason
from cnnformance.spec import layers as spec


def _padded(layer_type: type[spec.Layer]) -> Iterator[Case]:
    """Yield layers at each rank with padding on all sides, and on one."""
    if not issubclass(layer_type, spec.Pool | spec.Conv):
        return
    weights = channels(layer_type, 2, 3)
    for rank, spatial in ((1, (5,)), (2, (5, 4)), (3, (4, 3, 5))):
        for pads, step in (((1, 1), 1), ((1, 0), 2), ((0, 1), 2)):
            fields: dict[str, Any] = {"window": (2,) * rank, "stride": (step,) * rank, **weights}
            yield Case(layer_type(**fields, padding=(pads,) * rank), (2, *spatial, 2))


def _cases(ask: Question, layer_type: type[spec.Layer]) -> Iterator[Case]:
    """Yield padded and plain layers of a type, in whole numbers; a third of them in ``quick``.

    In the dtypes other than float32 it is a third as well, and none in ``quick``.
    """
    quick = ask.profile.name == "quick"
    for dtype in ("float32",) if quick else FLOATS:
        every = 3 if quick or dtype != "float32" else 1
        for cases in (
            _padded(layer_type),
            cases_by_option.plain(layer_type, dtype),
        ):  # padding shows more
            for case in itertools.islice(cases, 0, None, every):
                yield case.with_(dtype=dtype, regimes=("integer",))


def _reads(case: Case, place: Index) -> Array:
    """Return which elements of the input one element of the output depends on.

    In a layer with weights that is its sample: fast algorithms join all cells and channels.
    """
    layer: Any = case.layer
    reads = np.zeros(case.shape, np.bool_)
    if layer.has_weights:
        reads[place[0]] = True
    elif layer.takes_images:
        cells = np.zeros_like(windows(layer, reads, 0)[0])
        window: Any = (*place[:-1], slice(None), place[-1])
        cells[window] = 1
        reads = scatter(layer, case.shape, cells) > 0
    else:
        reads = _derivative(case, np.ones(case.shape), place)["input"] != 0
    return reads


def _derivative(case: Case, x: Array, place: Index) -> dict[str, Array]:
    """Return the derivatives of one element of the output, by input and weights."""
    one = np.zeros(output_shape(case.layer, case.shape))
    one[place] = 1
    return gradients(case.layer, x, case.weights, one)


@law("gradient-keeps-specials")
def test_special_upstream(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A NaN or an infinity in the upstream gradient reaches all that its output depends on.

    It may reach what its output read without effect, for zero times either is NaN; but no other
    window, and no other sample.
    """

    def question(case: Case) -> None:
        x = distinct(case)
        x = np.abs(x) if case.layer.draws or case.layer.elementwise else x
        upstream = upstream_of(case)
        place = tuple(int(i) for i in np.unravel_index(case.seed % upstream.size, upstream.shape))
        for special in (np.nan, np.inf):
            upstream[place] = special
            found = differentiated(ask, case, x, upstream)
            derivatives = _derivative(case, x, place)
            for name, derivative in derivatives.items():
                wrong = (derivative != 0) & np.isfinite(found[name].astype(np.float64))
                if np.isnan(special):
                    wrong |= (derivative != 0) & ~np.isnan(found[name].astype(np.float64))
                if name == "input":
                    wrong |= ~_reads(case, place) & ~np.isfinite(found[name].astype(np.float64))
                with shown(case.layer, x, upstream, **case.weights):
                    said = f"upstream {special} at {place}: the gradient for {name}"
                    _none(wrong, said, found[name], operand=name)

    seeds = (0,) if ask.profile.name == "quick" else (0, 3)
    numbered = itertools.product(enumerate(_cases(ask, layer_type)), seeds)
    ask.sweep((case.with_(seed=1 + 7 * n + seed) for (n, case), seed in numbered), question)


def _none(
    wrong: Array,
    why: str,
    found: Array,
    reason: Reason = "not-finite",
    *,
    operand: str = "input",
    claim: str = "",
) -> None:
    """Require no element of the gradient for an operand to be wrong."""
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        value = judge.text(found[index])
        many = f"{int(wrong.sum())} of {wrong.size} elements are wrong"
        said = f"{why} at {index} is {value}; {many}"
        layer_type = (
            "isfinite" if np.isfinite(found[index]) else "isinf" if value[-1] == "f" else "isnan"
        )
        raise Failure(
            "not-finite",
            said,
            index=index,
            actual=value,
            reason=reason,
            operand=operand,
            claim=claim or f"not np.{layer_type}({{value}})",
        )


def _shares(case: Case, upstream: Array, mask: Array | float) -> tuple[Array, float]:
    """Return the sum of the upstream gradients of the windows over each cell, times a mask.

    The second result is how much larger rounding can make it, in any order.
    """
    layer: Any = case.layer  # it has windows
    cells = np.zeros_like(windows(layer, case.x, 0)[0], np.float64)
    spread = np.expand_dims(upstream.astype(np.float64), -2)
    over = int(scatter(layer, case.shape, cells + 1).max())
    rounded = bounds.growth(over + 8, bounds.format_of(case.dtype).unit)
    return scatter(layer, case.shape, cells + spread * mask), float(rounded)


def _made(upstream: Array, found: Array) -> Array:
    """Return of which samples and channels the gradient sums to more than arrives from upstream."""
    axes, form = tuple(range(1, found.ndim - 1)), bounds.format_of(upstream.dtype.name)
    arrives = upstream.astype(np.float64).sum(tuple(range(1, upstream.ndim - 1)))
    made = found.sum(axes) > arrives * (1 + bounds.growth(found[0].size, form.unit))
    return np.asarray(np.expand_dims(made, axes))


def _wrong(case: Case, upstream: Array, found: Array) -> Array:
    """Return which elements of the gradient for maps of one value cannot be right."""
    layer: Any = case.layer
    x, nan = case.x, np.isnan(case.x)
    if layer.averages:
        value = gradients(layer, np.zeros(case.shape), {}, upstream)["input"]
        _, rounded = _shares(case, upstream, 0)
        return np.asarray(~(np.abs(found - value) <= rounded * value))
    if layer.linear:
        return ~np.isfinite(found)
    if layer.exact and layer.elementwise:
        value = gradients(layer, np.nan_to_num(x.astype(np.float64)), {}, upstream)["input"]
        return np.asarray((found != value) & ~nan & (x != 0))
    if layer.compares:
        chosen = maximal(layer, np.where(nan, 0, x).astype(x.dtype))
        most, rounded = _shares(case, upstream, chosen)
        fits = (found >= 0) & (found <= most * (1 + rounded)) & ~_made(upstream, found)
        return np.asarray(~(fits | (nan & np.isnan(found))))
    return np.zeros(case.shape, np.bool_)


def _right(case: Case, upstream: Array, wrong: Array) -> str:
    """Return what is true of the gradient for maps of one value where it is wrong first."""
    if not wrong.any():
        return ""
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    arrives = upstream.astype(np.float64).sum(tuple(range(1, upstream.ndim - 1)))
    layer: Any = case.layer
    if layer.averages:
        value = gradients(layer, np.zeros(case.shape), {}, upstream)["input"][index]
        allowed = value * _shares(case, upstream, 0)[1]
        return f"abs(float({{value}}) - {float(value)!r}) <= {float(allowed)!r}"
    if layer.compares and layer.takes_images:
        form = bounds.format_of(case.dtype)
        mass = arrives[index[0], index[-1]] * (1 + bounds.growth(case.x[0].size, form.unit))
        chosen = maximal(layer, np.where(np.isnan(case.x), 0, case.x).astype(case.x.dtype))
        most, rounded = _shares(case, upstream, chosen)
        share = f"0 <= {{value}} <= {float(most[index] * (1 + rounded))!r}"
        whole = f"{share} and {{map}}.astype(float).sum() <= {float(mass)!r}"
        return f"np.isnan({{value}}) or {whole}" if np.isnan(case.x[index]) else whole
    return "np.isfinite({value})"


@law("gradient-of-one-value")
def test_map_of_one_value(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Maps of infinities, of NaN, or of one number have gradients too, in padded windows as well.

    Those of means are what they are anywhere, and those of linear layers finite; ReLU is open to
    what is positive; a selection gives each of its largest cells a share of 0 to 1, and no other
    cell any. Of a norm it is asked that the call ends well.
    """

    def question(case: Case) -> None:
        largest = bounds.format_of(case.dtype).largest
        values = (np.nan, np.inf, -np.inf, largest, -largest, 0.0)  # one a sample
        x = np.multiply.outer(values, np.ones(case.shape[1:])).astype(dtype_named(case.dtype))
        maps = given(case.layer, x, **case.weights)
        upstream = np.abs(upstream_of(maps)) + np.ones((), x.dtype)
        found = differentiated(ask, maps, x, upstream)["input"]
        with shown(case.layer, x, upstream, **case.weights):
            wrong = _wrong(maps, upstream, found.astype(np.float64))
            why = "maps of one value: the gradient"
            _none(wrong, why, found, "gradient-of-one-value", claim=_right(maps, upstream, wrong))

    ask.sweep(_cases(ask, layer_type), question)


def _receiver(found: Array, nan: int, largest: int) -> str:
    """Name where the gradient of a window with a NaN went."""
    if np.isnan(found).any():
        return "NaN"
    places = np.flatnonzero(found).tolist()
    names = {(): "lost", (nan,): "to the NaN", (largest,): "to the largest number"}
    return names.get(tuple(places), "to another cell" if len(places) == 1 else "shared")


_RECEIVES = {
    "NaN": "np.isnan({result}).any()",
    "lost": "not {result}.any()",
    "to the NaN": "{result}[np.isnan({x})].any()",
    "to the largest number": "not {result}[np.isnan({x})].any()",
}
"""What is true of a gradient that went there."""


@law("gradient-at-nan-trait")
def test_gradient_at_nan(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Where the gradient of a window with a NaN goes is the same at every cell, size and rank."""
    choices = Choices()

    def question(case: Case) -> None:
        cells = case.shape[0]
        order = np.random.default_rng(cells).permutation(cells) + 1.0
        x = np.empty((cells, cells, case.shape[-1]))
        x[:] = (-order if case.layer.least else order)[:, None]
        x[np.arange(cells), np.arange(cells)] = np.nan
        x = x.reshape(case.shape).astype(dtype_named(case.dtype))
        upstream = np.ones(output_shape(case.layer, case.shape), x.dtype)
        found = differentiated(ask, case, x, upstream)["input"].astype(np.float64)
        best = order.copy()
        for cell, share in enumerate(found.reshape(cells, cells, -1)):
            best = np.where(np.arange(cells) == cell, 0, order)
            for channel in range(share.shape[1]):
                said = _receiver(share[:, channel], cell, int(best.argmax()))
                where = f"{case.dtype} {case.shape[1:]}, NaN in cell {cell}"
                sample, one = x[cell : cell + 1], upstream[cell : cell + 1]
                shows = _RECEIVES.get(said, "")
                choices.add(said, where, sample, case.layer, shows, upstream=one)

    for dtype in FLOATS if ask.profile.name != "quick" else ("float32",):
        every = 4 if ask.profile.name == "quick" or dtype != "float32" else 1
        sized = itertools.islice(whole_windows(layer_type), 0, None, every)
        ask.sweep(
            (Case(layer, (math.prod(shape[:-1]), *shape), dtype) for layer, shape in sized),
            question,
        )
    choices.settle(ask, f"gradient of {layer_type.__name__} at NaN", "gradient-at-nan")
