"""NaN, infinities, signed zeros and subnormals: IEEE 754 where it decides, traits where not."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance import cases_special, judge
from cnnformance.conformance.cases import Case
from cnnformance.conformance.judge import Failure, Index, Other
from cnnformance.conformance.parametrize import FLOATS, law, laws
from cnnformance.conformance.question import Question
from cnnformance.conformance.small_layers import one_window
from cnnformance.conformance.strategies import cases
from cnnformance.reference import bounds, fast_algorithms, forward, windows
from cnnformance.reports.reasons import Reason
from cnnformance.spec import layers as spec

Window = tuple[spec.Layer, spec.Shape]


@law("nan-propagates")
def test_sum_keeps_nan_and_infinities(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A sum with a NaN is NaN, and sums with infinities are infinite or, of both signs, NaN."""
    leaks: set[str] = set()

    def question(case: Case) -> None:
        if not isinstance(case.layer, spec.Conv):
            ask.output(case)
            return
        y = ask.run(case.layer, case.x, case.weights)
        allowed = bounds.bound(case.layer, case.x, case.weights)
        other = np.nan_to_num(
            fast_algorithms.normwise(case.layer, case.x, case.weights), posinf=0.0
        )
        allowed = dataclasses.replace(allowed, error=allowed.error + other)
        # FFT and Winograd kernels, and blocks of a vector unit, spread what is not finite over
        # their sample: that is a trait; a NaN that gets lost is not
        spoilt = ~np.isfinite(case.x.astype(np.float64)).all(axis=tuple(range(1, case.x.ndim)))
        spoilt = spoilt.reshape(-1, *(1,) * (y.ndim - 1))
        leaked = spoilt & ~np.isnan(allowed.value) & ~np.isfinite(y.astype(np.float64))
        leaked &= y.astype(np.float64) != allowed.value
        if leaked.any():
            leaks.add(case.dtype)
        judge.within(y, dataclasses.replace(allowed, judged=allowed.judged & ~leaked), y.dtype)

    for dtype, plain in itertools.product(FLOATS, (True, False)):
        drawn = cases(layer_type, dtype, plain=plain, regimes=("nan", "infinite"))
        ask.explore(drawn, question, max(6 if plain else 3, ask.profile.examples // 6))
    if layer_type is spec.Dense:  # a zero weight times an infinity is NaN, and is not skipped
        for value, rows in itertools.product((np.nan, np.inf, -np.inf), ([0, 1], [0, 0])):
            x = np.array([[value, 1.0, 2.0]], np.float32)
            weight = np.array([[rows[0], 1, 1], [rows[1], 0, 0]], np.float32)
            weights = {"weight": weight, "bias": np.zeros(2, np.float32)}
            layer = spec.Dense(3, 2)
            y = ask.run(layer, x, weights)
            judge.within(y, bounds.bound(layer, x, weights), x.dtype)
        ask.sweep(cases_special.spoilt_samples(), ask.output)
    if layer_type.has_weights:
        ask.sweep(cases_special.infinite_biases(layer_type), question)
    for dtype in sorted(leaks):
        ask.trait(f"NaN and infinities in Conv of {dtype}", "spread over their sample", dtype, "")


def whole_windows(layer_type: type[spec.Layer]) -> Iterator[Window]:
    """Yield layers whose one window is the whole map, for several ranks, sizes and channels."""
    small = ((2,), (7,), (9,), (17,), (2, 2), (3, 3), (1, 8), (8, 1), (5, 4), (2, 3, 2))
    for spatial in (*small, (40,), (6, 6), (3, 4, 3)):
        for channels in (1, 3, 16, 17) if spatial in small else (2,):
            layer = one_window(layer_type, spatial)
            yield layer, (*spatial, channels)
            if isinstance(layer, spec.Windowed) and max(spatial) < 8:
                yield layer.replace(stride=(1,) * len(spatial)), (*spatial, channels)


def _placed(shape: spec.Shape, dtype: str, others: float, special: float) -> Array:
    """Return one sample for each cell: ``special`` there, in all channels, ``others`` elsewhere."""
    cells = int(np.prod(shape[:-1]))
    x = np.full((cells, cells, shape[-1]), others)
    x[np.arange(cells), np.arange(cells)] = special
    return x.reshape((cells, *shape)).astype(dtype_named(dtype))


class Choices:
    """The values of a trait as they were seen, each with the first place that showed it."""

    def __init__(self) -> None:
        """Start without any."""
        self.seen: dict[str, tuple[str, Other, str]] = {}

    def add(  # noqa: PLR0917 - what was seen, and what shows it
        self,
        value: str,
        place: str,
        x: Array,
        layer: spec.Layer,
        shows: str = "",
        index: Index | None = None,
        upstream: Array | None = None,
    ) -> None:
        """Keep a value and where it was seen, if it is new.

        ``shows`` is true of the result that shows it, at the index, in the words of a failure's
        claim. With an ``upstream`` the result is the gradient.
        """
        if upstream is None:
            call = Other((layer,), {"x": x}, index=index)
        else:
            call = Other((layer,), {"x": x, "upstream": upstream}, "gradients", index)
        self.seen.setdefault(value, (place, call, shows))

    def settle(
        self, ask: Question, name: str, reason: Reason = "not-consistent", *, varies: bool = False
    ) -> None:
        """Record the trait; more than one value is a failure, unless it may vary."""
        if not self.seen:
            return
        for value, (place, call, _) in self.seen.items():
            ask.trait(name, value, place, str(call.layers[0]))
        if len(self.seen) > 1 and not varies:
            shown = "; ".join(f"{value} at {place}" for value, (place, _, _) in self.seen.items())
            told = [seen for seen in self.seen.values() if seen[2]]
            (_, other, others), *_, (_, call, own) = told if len(told) > 1 else self.seen.values()
            there = others.format(result="{other}", value="{other_value}", x="{other_x}")
            raise Failure(
                "trait",
                f"{name} is not consistent: {shown}",
                arrays=dict(call.arrays),
                layers=call.layers,
                call=call.call,
                index=call.index,
                operand="input" if call.call == "gradients" else "",
                other=other,
                claim=f"not (({own}) and ({there}))" if own and others else "",
                expected="one answer everywhere",
                actual=shown,
                reason=reason,
            )


def _selection_kinds(name: str) -> list[type[spec.Layer]]:
    return [
        layer_type
        for layer_type in map(spec.TYPES.__getitem__, laws(name))
        if layer_type.takes_images
    ]


@pytest.mark.clauses("pool.max.nan")
def test_nan_in_selections(ask: Question) -> None:
    """What a NaN does to a maximum or minimum is the same at every cell, size, rank and dtype."""
    choices = Choices()
    for layer_type in _selection_kinds("nan-trait-consistent"):
        for dtype in FLOATS if ask.profile.name != "quick" else ("float32",):
            for row, (layer, shape) in enumerate(ask.part(whole_windows(layer_type))):
                x = _placed(shape, dtype, 1.0, -np.nan if row % 2 else np.nan)
                try:
                    y = ask.run(layer, x)
                except Unsupported as reason:
                    ask.declined = str(reason)
                    continue
                except Failure as failure:  # other questions show it
                    ask.declined = failure.message
                    break
                ask.examples += 1
                for cell in np.ndindex(y.shape):
                    said = _said(float(y[cell]), 1.0)
                    where = f"{layer_type.__name__} {dtype} {shape}, NaN in cell {cell[0]}"
                    if said not in choices.seen:
                        sample = _showing(ask, layer, x, cell, said)
                        place = cell if len(sample) > 1 else (0, *cell[1:])
                        choices.add(said, where, sample, layer, _nan_shown(said), place)
    choices.settle(ask, "NaN in maximum and minimum", "nan-not-consistent")


def _showing(ask: Question, layer: spec.Layer, x: Array, cell: tuple[int, ...], said: str) -> Array:
    """Return the sample that a value was seen in, or all of them if it does not show it alone."""
    row, *place = cell
    sample = x[row : row + 1]
    try:
        y = ask.run(layer, sample)
    except Failure:
        return x
    return sample if _said(float(y[0, *place]), 1.0) == said else x


def _said(value: float, others: float) -> str:
    if np.isnan(value):
        return "NaN propagates"
    return "NaN is ignored" if value == others else f"NaN gives {value}"


def _nan_shown(said: str) -> str:
    """Return what is true of the value of a window with a NaN that shows this."""
    return f"np.isnan({{value}}) == {said == 'NaN propagates'}"


@pytest.mark.clauses("pool.max.nan")
def test_nan_in_windows(ask: Question) -> None:
    """A NaN reaches the windows that hold it, all in one way, and no others."""
    choices = Choices()

    def question(case: Case) -> None:
        y = ask.run(case.layer, case.x).astype(np.float64)
        cells, real = windows(case.layer, case.x.astype(np.float64), np.nan)  # type: ignore[arg-type] # located
        cells = np.where(real[..., None], cells, np.nan)
        held = (np.isnan(cells) & real[..., None]).any(axis=-2)
        extreme = np.nanmin if case.layer.least else np.nanmax
        some: Array = np.asarray(~np.isnan(cells).all(axis=-2))
        filled = np.where(some[..., None, :], cells, 0.0)
        others = extreme(filled, axis=-2)
        flat, whole = y.reshape(others.shape), some & ~held
        if not (flat[whole] == others[whole]).all():
            raise Failure(
                "not-finite", "a window without NaN is not what it is without NaN elsewhere"
            )
        for index in np.argwhere(held & some)[:50]:
            place = tuple(index)
            said = _said(float(flat[place]), float(others[place]))
            shown = f"{case.layer} on {case.dtype} {case.shape}"
            at = np.unravel_index(np.ravel_multi_index(place, others.shape), y.shape)
            cell = tuple(int(i) for i in at)
            choices.add(said, shown, case.x, case.layer, _nan_shown(said), cell)

    for layer_type in _selection_kinds("nan-trait-consistent"):
        drawn = cases(layer_type, plain=False, regimes=("nan",))
        ask.explore(drawn, question, max(6, ask.profile.examples // 5))
    choices.settle(ask, "NaN in a window", "nan-not-consistent")


@pytest.mark.clauses("pool.max.nan")
def test_windows_of_nan_alone(ask: Question) -> None:
    """A window of NaN alone, of one cell too or in padding, gives NaN or what never wins."""
    choices = Choices()

    def question(case: Case) -> None:
        x = np.full(case.shape, np.nan).astype(dtype_named(case.dtype))
        y = ask.run(case.layer, x).astype(np.float64)
        worst = -1 if not case.layer.least else 1
        most = bounds.format_of(case.dtype).largest
        wrong = ~np.isnan(y) & (worst * y < most)
        if wrong.any():
            raise Failure(
                "not-finite", f"NaN alone gives {judge.text(y[wrong][0])}", arrays={"x": x}
            )
        for never in np.unique(~np.isnan(y)):
            said = "gives what never wins" if never else "is NaN"
            where = f"{type(case.layer).__name__} {case.dtype} {case.shape}"
            shows = f"np.isnan({{value}}) == {not never}"
            index = tuple(int(i) for i in np.argwhere(np.isnan(y) != never)[0])
            choices.add(said, where, x, case.layer, shows, index)

    for layer_type in _selection_kinds("nan-trait-consistent"):
        for dtype in FLOATS if ask.profile.name != "quick" else ("float32",):
            ask.sweep((case.with_(dtype=dtype) for case in _nan_alone(layer_type)), question)
    choices.settle(ask, "NaN in a window alone", "nan-not-consistent")


def _nan_alone(layer_type: type[spec.Layer]) -> Iterator[Case]:
    """Yield windows of one cell and of several, at each rank, and in padding."""
    for spatial in ((1,), (1, 1), (1, 1, 1), (3,), (2, 4), (2, 2, 2)):
        yield Case(one_window(layer_type, spatial), (1, *spatial, 3))
        if issubclass(layer_type, spec.Pool):
            rank = len(spatial)
            fields: dict[str, Any] = {"window": (2,) * rank, "padding": ((1, 0),) * rank}
            yield Case(layer_type(**fields, stride=(1,) * rank), (1, *spatial, 3))


@pytest.mark.clauses("pipeline.subnormals")
def test_subnormals_in_selections(ask: Question) -> None:
    """Maxima and minima keep the subnormal numbers of a format, or all flush them to zero."""
    for dtype in FLOATS:
        _subnormals_in_selections(ask, dtype)


def _subnormals_in_selections(ask: Question, dtype: str) -> None:
    choices = Choices()
    for layer_type in _selection_kinds("nan-trait-consistent"):
        most = None if dtype == "float32" else 9
        for layer, shape in ask.part(itertools.islice(whole_windows(layer_type), most)):
            x = np.full((1, *shape), bounds.format_of(dtype).tiny / 8).astype(dtype_named(dtype))
            try:
                y = ask.run(layer, x)
            except Unsupported as reason:
                ask.declined = str(reason)
                continue
            except Failure as failure:  # other questions show it
                ask.declined = failure.message
                break
            ask.examples += 1
            said = "flushed" if (y == 0).all() else "kept" if (y == x.flat[0]).all() else "mixed"
            shows = {"flushed": "not {result}.any()", "kept": "{result}.all()"}.get(said, "")
            choices.add(said, f"{layer_type.__name__} {shape}", x, layer, shows)
    name = f"subnormals in maximum and minimum of {dtype}"
    choices.settle(ask, name, "subnormals-not-consistent")


@pytest.mark.clauses("relu.nan")
def test_nan_in_relu(ask: Question) -> None:
    """What ReLU makes of a NaN is the same at every position, shape and dtype."""
    choices = Choices()
    for dtype in FLOATS:
        for size in (1, 3, 8, 16, 17, 33, 5003):
            x = np.full((2, size), np.nan).astype(dtype_named(dtype))
            x[0, ::3] = -np.nan
            x[1, ::2] = 1
            try:
                y = ask.run(spec.ReLU(), x)
            except Unsupported as reason:
                ask.declined = str(reason)
                continue
            ask.examples += 1
            was = np.isnan(x.astype(np.float64))
            values, places = np.unique(y[was].astype(np.float64), return_index=True)
            for value, place in zip(values, np.argwhere(was)[places], strict=True):
                said = "NaN propagates" if np.isnan(value) else f"NaN gives {value}"
                if not (np.isnan(value) or value == 0):
                    raise Failure("not-finite", f"ReLU makes {value} of a NaN", arrays={"x": x},
                                  layers=(spec.ReLU(),))  # fmt: skip
                choices.add(said, f"{dtype}, size {size}, position {tuple(place)}", x, spec.ReLU())
    choices.settle(ask, "NaN in ReLU", "nan-not-consistent")


@law("signed-zero-trait")
def test_signed_zero(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A window of zeros gives a zero; whether negative zeros keep their sign is a trait.

    In ReLU it may vary with dtype and size: IEEE 754-2008 lets ``maxNum`` return either of -0.0 and
    +0.0, and the two ways that an array is worked through, by vectors and by elements, differ. A
    window of negative zeros alone leaves no such choice.
    """
    choices = Choices()
    for dtype in FLOATS:
        for layer, shape in ask.part(whole_windows(layer_type)):
            x = np.full((1, *shape), -0.0).astype(dtype_named(dtype))
            try:
                y = ask.run(layer, x)
            except Unsupported as reason:
                ask.declined = str(reason)
                continue
            ask.examples += 1
            if (y != 0).any():
                raise Failure("value", f"a window of zeros gives {y.ravel()[0]}", arrays={"x": x},
                              layers=(layer,))  # fmt: skip
            for sign in np.unique(np.signbit(y.astype(np.float64))):
                said = "-0.0 stays -0.0" if sign else "-0.0 becomes +0.0"
                shows = f"np.signbit({{result}}).any() == {bool(sign)}"
                choices.add(said, f"{dtype} {shape}", x, layer, shows)
    choices.settle(ask, f"sign of zero in {layer_type.__name__}", varies=layer_type.elementwise)


@law("subnormal-trait")
def test_subnormals(ask: Question, layer_type: type[spec.Layer]) -> None:
    """Subnormal numbers are kept or flushed to zero: a trait; anything else is a failure."""
    for dtype in ("float32", "float64"):
        seen: set[str] = set()

        def question(case: Case, seen: set[str] = seen) -> None:
            tiny = bounds.format_of(case.dtype).tiny
            x = (case.x.astype(np.float64) * tiny / 1024).astype(case.x.dtype)
            y = ask.run(case.layer, x, case.weights).astype(np.float64)
            exactly = case.layer.exact
            allowed = None if exactly else bounds.bound(case.layer, x, case.weights)
            exact = np.asarray(forward(case.layer, x, case.weights)).astype(np.float64)
            off = np.abs(y - exact)
            limit = np.full(off.shape, tiny) if allowed is None else allowed.error + tiny
            if not (off <= limit).all():
                got, holds = y.ravel()[off.argmax()], exact.ravel()[off.argmax()]
                said = f"subnormal inputs give {got}, should be {holds}"
                given = {"x": x, **case.weights}
                raise Failure("value", said, arrays=given, layers=(case.layer,))
            inside = (np.abs(exact) > 0) & (np.abs(exact) < tiny)
            if allowed is None and inside.any():
                seen.add("flushed" if (y[inside] == 0).any() else "kept")

        drawn = cases(layer_type, dtype, regimes=("integer",))
        ask.explore(drawn, question, max(4, ask.profile.examples // 8))
        if seen:
            value = "sometimes flushed" if len(seen) > 1 else seen.pop()
            ask.trait(f"subnormals in {layer_type.__name__} of {dtype}", value, dtype, "")
