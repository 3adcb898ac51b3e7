"""The backward pass: each framework's own differentiation against an independent reference."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import cases_by_option, judge
from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_at_edges import many_cells
from cnnformance.conformance.cases_by_memory import laid_out
from cnnformance.conformance.cases_by_place import peaks
from cnnformance.conformance.cases_by_size import large
from cnnformance.conformance.cases_varied import counting_padding
from cnnformance.conformance.gradients import (
    differentiated,
    distinct,
    few_enough,
    judged,
    law_broken,
    upstream_of,
)
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.parametrize import FLOATS, law
from cnnformance.conformance.question import Question
from cnnformance.conformance.small_layers import one_window
from cnnformance.conformance.strategies import cases
from cnnformance.reference import bounds, fast_algorithms, maximal, output_shape, scatter, windows
from cnnformance.reference.gradient_bounds import gradient_bounds
from cnnformance.spec import layers as spec

REGIMES = ("integer", "normal", "negative")


gradient = law(
    "gradient",
    {spec.AveragePool: ["pool.average.gradient"], spec.LpPool: ["pool.l2.gradient"]},
)


@gradient
def test_gradient(ask: Question, layer_type: type[spec.Layer]) -> None:
    """The gradients for input, weight and bias lie within their bounds of the reference's."""
    question = partial(judged, ask)
    ask.sweep(cases_by_option.plain(layer_type), question)
    ask.explore(cases(layer_type, regimes=REGIMES), question, _examples(ask))
    for dtype in FLOATS if layer_type.elementwise else ():  # a constant may drown what is small
        drawn = cases(layer_type, dtype, regimes=("faint", "small"))
        ask.explore(drawn, question, _examples(ask) // 3)
    empty = partial(_of_none, ask)
    ask.explore(cases(layer_type).map(Case.emptied), empty, max(2, ask.profile.examples // 10))


@gradient
def test_gradient_of_large(ask: Question, layer_type: type[spec.Layer]) -> None:
    """The gradients lie within their bounds in the shapes of published networks, and in large ones.

    Where a layer has weights, long sums are of whole numbers, which show the loss of a few terms.
    """
    every = 2 * ask.profile.every  # a new shape costs most in the backward pass
    for dtype, share in (("float32", every), ("float64", 4 * every)):
        sized = itertools.islice(large(layer_type, dtype), 0, None, share)
        ask.sweep(map(_whole, sized), partial(judged, ask))
    wide = (Case(layer_type(**fields), shape) for fields, shape in many_cells(layer_type))
    ask.sweep(wide, partial(judged, ask))  # an index of the largest needs more than a byte
    if layer_type.compares and layer_type.takes_images:
        ask.sweep(peaks(layer_type), partial(judged, ask))


def _whole(case: Case) -> Case:
    long = case.layer.has_weights and math.prod(case.shape[:-1]) > 1000
    return case.with_(regimes=("integer",)) if long and case.dtype == "float32" else case


@gradient
def test_gradient_of_options(ask: Question, layer_type: type[spec.Layer]) -> None:
    """The gradients lie within their bounds with every option of a layer, and in every dtype."""
    question = partial(judged, ask)
    ask.sweep(cases_by_option.one_size(layer_type), question)
    ask.explore(cases(layer_type, plain=False, regimes=REGIMES), question, _examples(ask))
    for turn, dtype in enumerate(("float64", "float16", "bfloat16")):
        each = cases_by_option.one_size(layer_type, dtype)
        if ask.profile.name == "quick":
            each = cases_by_option.in_turn(layer_type, dtype, turn)
        ask.sweep((case for case in each if few_enough(case) and _in_range(case)), question)
        drawn = cases(layer_type, dtype, plain=False, regimes=REGIMES).filter(few_enough)
        ask.explore(drawn, question, _examples(ask) // 3)


@gradient
def test_gradient_in_other_memory(ask: Question, layer_type: type[spec.Layer]) -> None:
    """The gradients lie within their bounds for operands that lie in memory in other ways."""
    most = 9 if ask.profile.name == "quick" else None
    ask.sweep(laid_out(layer_type, most), partial(judged, ask))
    ask.sweep(laid_out(layer_type, 9, "float64"), partial(judged, ask))


def _in_range(case: Case) -> bool:
    """Whether the powers of a norm stay in the range of the format, with values up to 3."""
    power = 3.0 ** getattr(case.layer, "p", 1)
    return power * case.terms < bounds.format_of(case.dtype).largest


def _examples(ask: Question) -> int:
    return max(6, ask.profile.examples // 3)


def _of_none(ask: Question, case: Case) -> None:
    """Judge the gradients of an empty batch; a refusal is right too, for no authority has any."""
    try:
        judged(ask, case)
    except Failure as failure:
        if failure.effect != "exception":
            raise
        raise Unsupported(failure.message) from None


@law("gradient-mass")
def test_gradient_mass(ask: Question, layer_type: type[spec.Layer]) -> None:
    """The gradient for the input sums to the upstream gradient: nothing is lost or made.

    A mean that counts padding gives that share of the upstream gradient away.
    """

    def question(case: Case) -> None:
        x, upstream = distinct(case), np.abs(upstream_of(case))
        found = differentiated(ask, case, x, upstream)["input"].astype(np.float64)
        total, mass = float(found.sum()), float(upstream.astype(np.float64).sum())
        allowed = gradient_bounds(case.layer, x, {}, upstream)["input"]
        most = float(allowed.error.sum()) + bounds.growth(found.size + upstream.size, 2**-53) * mass
        if not abs(total - mass) <= most:
            said = f"the gradients sum to {total!r}, the upstream gradient to {mass!r}"
            broken = law_broken(said, case.layer, x, upstream)
            claim = f"abs({{result}}.astype(float).sum() - {mass!r}) <= {most!r}"
            raise dataclasses.replace(broken, reason="mass-not-conserved", claim=claim)

    count = max(6, ask.profile.examples // 6)
    ask.explore(cases(layer_type), question, count)
    ask.explore(
        cases(layer_type, plain=False).map(partial(counting_padding, counts=False)), question, count
    )


def _tied(case: Case) -> Iterator[tuple[Array, bool]]:
    """Yield inputs with ties, and whether their gradient must keep its mass.

    Padding is no larger than infinities of the losing sign, and may tie with them.
    """
    dtype = dtype_named(case.dtype)
    yield np.ones(case.shape, dtype), True
    layer = case.layer
    alone = not isinstance(layer, spec.Pool) or (layer.unpadded and not layer.ceil_mode)
    worst = np.inf if layer.least else -np.inf
    yield np.full(case.shape, worst).astype(dtype), alone
    yield np.random.default_rng([case.seed, 4]).integers(0, 2, case.shape).astype(dtype), True


@law("gradient-ties")
def test_gradient_at_ties(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Equal largest values share the gradient of their window: no other cell gets any of it."""

    def question(case: Case) -> None:
        upstream = np.abs(upstream_of(case)) + np.ones((), dtype_named(case.dtype))
        for x, whole in _tied(case):
            found = differentiated(ask, case, x, upstream)["input"].astype(np.float64)
            layer: Any = case.layer  # one of the selections that the law is stated for
            chosen = maximal(layer, x)
            spread = np.expand_dims(upstream.astype(np.float64), -2)
            most = scatter(layer, case.shape, np.where(chosen, spread, 0.0))
            # so many additions at the most, and a share by a rounded reciprocal
            slack = 1 + bounds.growth(chosen.shape[-2] + 2, bounds.format_of(case.dtype).unit)
            mass, total = float(upstream.astype(np.float64).sum()), float(found.sum())
            kept = not whole or abs(total - mass) <= mass * (slack - 1)
            inside = (found >= 0) & (found <= most * slack)
            if not inside.all() or not kept:
                said = (
                    "at ties the gradient is no convex combination over the maximal cells: "
                    f"it sums to {total!r}, upstream {mass!r}"
                )
                broken = law_broken(said, case.layer, x, upstream)
                claim = f"abs({{result}}.astype(float).sum() - {mass!r}) <= {mass * (slack - 1)!r}"
                index = tuple(int(i) for i in np.argwhere(~inside)[0]) if kept else None
                if index:
                    claim = f"0 <= {{value}} <= {float(most[index] * slack)!r}"
                raise dataclasses.replace(
                    broken, reason="gradient-at-ties", index=index, claim=claim
                )

    def shared(case: Case) -> None:
        """Name how one whole window of equal values shares its gradient."""
        x = np.ones(case.shape, np.float32)
        upstream = np.ones(output_shape(case.layer, case.shape), np.float32)
        found = differentiated(ask, case, x, upstream)["input"].ravel().tolist()
        names = {(1.0, 0.0, 0.0): "the first takes all", (0.0, 0.0, 1.0): "the last takes all"}
        even = max(found) - min(found) < 1e-6
        value = names.get(tuple(found), "all share alike" if even else f"shares {found}")
        ask.trait(
            f"gradient at ties in {layer_type.__name__}", value, str(case.layer), "three ones"
        )

    ask.explore(cases(layer_type, plain=False), question, max(6, ask.profile.examples // 6))
    ask.each([Case(one_window(layer_type, (3,)), (1, 3, 1))], shared)


@law("gradient-at-zero-trait")
def test_gradient_at_zero(ask: Question, layer_type: type[spec.Layer]) -> None:
    """At zero the gradient is a trait: between none and all of the upstream gradient."""
    norm = issubclass(layer_type, spec.LpPool)

    def question(case: Case) -> None:
        x = np.zeros(case.shape, np.float32)
        upstream = np.ones(output_shape(case.layer, x.shape), np.float32)
        values = np.unique(differentiated(ask, case, x, upstream)["input"])
        for value in values:
            ask.trait(
                f"gradient of {layer_type.__name__} at zero", judge.text(value), str(case.layer), ""
            )
        inside = (values >= 0) & (values <= 1) | (norm & np.isnan(values))
        if len(values) > 1 or not inside.all():
            said = f"the gradient at zero is {values.tolist()}"
            broken = law_broken(said, case.layer, x, upstream)
            claim = "np.unique(np.nan_to_num({result})).size == 1 and 0 <= {result}.max() <= 1"
            raise dataclasses.replace(broken, effect="trait", reason="not-consistent", claim=claim)

    shapes = ((1, 4, 3), (1, 4, 2, 3), (1, 2, 4, 2, 3))
    fields = [{"window": (2,) * (len(shape) - 2)} if norm else {} for shape in shapes]
    ask.sweep([Case(layer_type(**f), s) for f, s in zip(fields, shapes, strict=True)], question)
    if norm:
        layers = [layer_type(window=(2, 2, 1)[:rank], p=1) for rank in (1, 2, 3)]  # type: ignore[call-arg] # norms
        shapes = ((1, 2, 1), (1, 2, 2, 1), (1, 2, 2, 1, 1))
        ask.sweep(map(Case, layers, shapes), partial(_beside_a_zero, ask))


def _beside_a_zero(ask: Question, case: Case) -> None:
    """Require of a sum of absolute values a subgradient at a zero that stands among others."""
    x = np.array([0, 3, 2, 1], np.float32)[: math.prod(case.shape)].reshape(case.shape)
    upstream = np.ones(output_shape(case.layer, case.shape), np.float32)
    zero = float(differentiated(ask, case, x, upstream)["input"].flat[0])
    if not abs(zero) <= 1 + bounds.growth(8, bounds.format_of("float32").unit):
        said = f"beside a zero of a window the gradient is {zero}, should be of -1 to 1"
        raise law_broken(said, case.layer, x, upstream)


@law("adjoint")
def test_adjoint(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Without a bias <layer(x), g> = <x, gradient(g)>, within the bounds of both sides."""

    def question(case: Case) -> None:
        layer, x, weights, upstream = case.layer, case.x, case.weights, upstream_of(case)
        found = differentiated(ask, case, x, upstream)["input"].astype(np.float64)
        y = ask.run(layer, x, weights).astype(np.float64)
        forward = bounds.bound(layer, x, weights)
        backward = gradient_bounds(layer, x, weights, upstream)["input"]
        g, v = upstream.astype(np.float64), x.astype(np.float64)
        left, right = float((y * g).sum()), float((v * found).sum())
        most = float((forward.error * np.abs(g)).sum() + (backward.error * np.abs(v)).sum())
        if isinstance(layer, spec.Conv):
            more = fast_algorithms.normwise(layer, x, weights)
            back = fast_algorithms.fast_gradients(layer, x, weights, upstream).get(
                "input", np.zeros(1)
            )
            most += float((more * np.abs(g)).sum() + (back * np.abs(v)).sum())
        size = float((np.abs(forward.value) * np.abs(g)).sum() + (np.abs(v) * np.abs(found)).sum())
        most += bounds.growth(g.size + v.size, 2.0**-53) * size  # of the two sums here
        if not abs(left - right) <= most:
            said = f"<layer(x), g> is {left!r}, <x, gradient(g)> is {right!r} (± {most:.3g})"
            raise law_broken(said, layer, x, upstream, **weights)

    drawn = cases(layer_type, plain=False, regimes=("integer",)).map(_unbiased)
    ask.explore(drawn, question, max(6, ask.profile.examples // 6))


def _unbiased(case: Case) -> Case:
    """Return the case with a layer that is linear, and not affine."""
    if case.layer.has_weights:
        return case.with_(layer=case.layer.replace(bias=False))
    return case


@law("evaluation-gradient")
def test_gradient_of_evaluation(ask: Question, layer_type: type[spec.Layer]) -> None:
    """In evaluation the gradient is that of the formula, whose probabilities are no constants."""
    question = partial(judged, ask)
    ask.sweep(cases_by_option.plain(layer_type), question)
    for dtype in FLOATS:
        ask.explore(
            cases(layer_type, dtype, plain=False), question, max(6, ask.profile.examples // 6)
        )


@law("gradient-selects")
def test_gradient_of_a_draw(ask: Question, layer_type: type[spec.Layer]) -> None:
    """In training the gradient of a window goes to one cell, and that cell could be drawn.

    Not always to the largest: that has a probability below 1e-15. Cells that several windows drew
    get the gradient of each.
    """
    assert issubclass(layer_type, spec.StochasticPool)
    maps = ((2, 2), (8, 8)), ((3,), (24,)), ((2, 1, 2), (4, 4, 8))
    asked = [(*sizes, "float32") for sizes in maps]
    asked += [(*maps[0], dtype) for dtype in FLOATS[1:]]
    drawn = (
        Case(layer_type(window=window, training=True), (4, *spatial, 3), dtype, ("positive",))
        for window, spatial, dtype in asked
    )
    ask.sweep(drawn, partial(_drawn, ask))


def _drawn(ask: Question, case: Case) -> None:
    layer: Any = case.layer
    x = np.random.default_rng(ask.seed).integers(0, 4, case.shape).astype(dtype_named(case.dtype))
    upstream = np.full(output_shape(layer, x.shape), 2.0, x.dtype)
    found = differentiated(ask, case, x, upstream)["input"].astype(np.float64)
    cells, _ = windows(layer, x.astype(np.float64), 0.0)
    shares, _ = windows(layer, found, 0.0)
    drawn = (shares != 0).sum(axis=-2)
    lost = (drawn == 0) & (cells.max(axis=-2) > 0)
    wrong = ((shares != 0) & (shares != 2.0)).any() or ((shares != 0) & (cells <= 0)).any(
        where=(cells.max(axis=-2, keepdims=True) > 0)
    )
    if (drawn > 1).any() or lost.any() or wrong:
        said = "the gradient of a draw does not go to one cell that could be drawn"
        raise law_broken(said, layer, x, upstream)
    largest, totals = cells.max(axis=-2), cells.sum(axis=-2)
    ties = (cells == largest[..., None, :]).sum(axis=-2)
    chance = np.divide(largest * ties, totals, out=np.ones_like(largest), where=totals > 0)
    reached = np.where(shares != 0, cells, 0).max(axis=-2)
    if float(np.log(chance).sum()) < math.log(1e-15) and (reached == largest).all():
        said = "the gradient of a draw goes to the largest cell of every window"
        raise law_broken(said, layer, x, upstream)
    _overlapping_draws(ask, layer.replace(stride=(1,) * layer.rank), x + x.dtype.type(1))


def _overlapping_draws(ask: Question, layer: spec.Layer, x: Array) -> None:
    """Require the gradients of overlapping windows, of positive values, to add up."""
    upstream = np.full(output_shape(layer, x.shape), 2.0, x.dtype)
    case = Case(layer, x.shape, x.dtype.name, regimes=("positive",))
    found = differentiated(ask, case, x, upstream)["input"].astype(np.float64)
    total = float(upstream.astype(np.float64).sum())
    if found.sum() != total or (found % 2).any():
        said = f"the gradients of overlapping draws sum to {found.sum()}, not to {total}"
        raise law_broken(said, layer, x, upstream)
