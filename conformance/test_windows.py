"""Windows: what an output reads, and the same layer asked along another path."""

from __future__ import annotations

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.conformance.cases import Case
from cnnformance.conformance.cases_varied import longer, random, shuffled, single_window, windowed
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.laws import alike, answer, few, shifted
from cnnformance.conformance.parametrize import law
from cnnformance.conformance.question import Question
from cnnformance.conformance.strategies import cases
from cnnformance.reference.windows import grid
from cnnformance.spec import layers as spec


@law("output-smaller")
def test_output_smaller(ask: Question, layer_type: type[spec.Windowed]) -> None:
    """With a stride above 1 and no padding the output is smaller on every axis."""

    def question(case: Case) -> None:
        shape = ask.run(case.layer, case.x).shape
        if not all(o < n for o, n in zip(shape[1:-1], case.shape[1:-1], strict=True)):
            raise Failure("law", f"{case.shape} became {shape}: not smaller on every axis")

    def coarse(case: Case) -> Case:
        stride = tuple(max(2, s) for s in windowed(case).stride)
        shape = (case.shape[0], *(max(2, n) for n in case.shape[1:-1]), case.shape[-1])
        return case.with_(layer=case.layer.replace(stride=stride), shape=shape)

    few(ask, cases(layer_type).map(coarse), question)


@law("channels-independent")
def test_channels_independent(ask: Question, layer_type: type[spec.Layer]) -> None:
    """A channel alone gives what it gives among others, in whatever order they come."""

    def question(case: Case) -> None:
        whole, count = answer(ask, case.layer, case.x), case.shape[-1]
        one = slice(c := int(random(case).integers(count)), c + 1)
        order = random(case).permutation(count)
        for name, chosen in (("a channel was alone", one), ("the channels were permuted", order)):
            expected = whole.view(lambda a, chosen=chosen: a[..., chosen])  # type: ignore[misc] # mypy infers no type for a default
            alike(name, expected, answer(ask, case.layer, case.x[..., chosen]))

    few(ask, cases(layer_type), question)


@law("local-windows")
def test_local_windows(ask: Question, layer_type: type[spec.Windowed]) -> None:
    """An output stays as it is when every cell outside its window changes."""

    def question(case: Case) -> None:
        at = grid(windowed(case), case.shape[1:-1])
        output = int(random(case).integers(len(at.cells)))
        inside = np.isin(np.arange(at.size), at.cells[output]).reshape(*case.shape[1:-1], 1)
        other = np.where(inside, case.x, case.with_(seed=case.seed + 1).x)
        both = [answer(ask, case.layer, x, case.weights) for x in (case.x, other)]
        before, after = (a.view(lambda y: y.reshape(len(y), -1, y.shape[-1])) for a in both)
        before, after = (a.view(lambda y: y[:, output]) for a in (before, after))
        alike(f"cells outside the window of output {output} changed", before, after)

    few(ask, cases(layer_type), question)


@law("equal-windows-equal-outputs")
def test_equal_windows_equal_outputs(ask: Question, layer_type: type[spec.Pool]) -> None:
    """Copies of one window side by side give copies of its output."""

    def question(case: Case) -> None:
        times = random(case).integers(1, 5, windowed(case).rank)
        tiled = answer(ask, case.layer, np.tile(case.x, (1, *times, 1)))
        once = answer(ask, case.layer, case.x)
        same = once.view(lambda a: np.broadcast_to(a, tiled.y.shape))
        alike("equal windows gave different outputs", same, tiled)

    few(ask, cases(layer_type).map(single_window), question)


def _apart(x: Array, window: spec.Shape) -> Array:
    """Return the blocks of ``x`` as a batch ``(batch * blocks, *window, channels)``."""
    rank = len(window)
    pairs = [size for n, w in zip(x.shape[1:-1], window, strict=True) for size in (n // w, w)]
    split = x.reshape(x.shape[0], *pairs, x.shape[-1])
    split = np.moveaxis(split, range(2, 2 * rank + 1, 2), range(rank + 1, 2 * rank + 1))
    return split.reshape(-1, *window, x.shape[-1])


@law("stride-defaults-to-window")
def test_stride_defaults_to_window(ask: Question, layer_type: type[spec.Windowed]) -> None:
    """Without a stride given the windows stand side by side: each block gives one output."""

    def question(case: Case) -> None:
        window = windowed(case).window
        times = random(case).integers(1, 4, len(window))
        shape = (case.shape[0], *(int(n) for n in times * window), case.shape[-1])
        x, layer = case.with_(shape=shape).x, layer_type(window=window)
        whole = answer(ask, layer, x)
        blocks = answer(ask, layer, _apart(x, window))
        expected = blocks.view(lambda a: a.reshape(whole.y.shape))
        alike("the windows do not stand side by side", expected, whole)

    few(ask, cases(layer_type).map(single_window), question)


@law("stride-default-trait")
def test_stride_default_trait(ask: Question, layer_type: type[spec.Windowed]) -> None:
    """What the framework takes for the stride where the layer names none is a trait."""

    def question(case: Case) -> None:
        try:
            size = ask.run_any(case.layer, case.x).shape[1]
        except Failure as failure:
            if failure.effect != "exception":
                raise
            raise Unsupported("the adapter, or its framework, needs a stride") from failure
        if size not in (4, 10):
            raise Failure("trait", f"without a stride a window of 3 over 12 cells gives {size}")
        taken = "window" if size == 4 else "1"
        ask.trait(
            f"{layer_type.__name__} default stride", taken, "window 3", f"12 cells become {size}"
        )

    ask.sweep([Case(layer_type.unchecked(window=(3,), stride=None), (1, 12, 1))], question)


@law("shift-by-stride")
def test_shift_by_stride(ask: Question, layer_type: type[spec.Pool]) -> None:
    """An input that moves by one stride moves the output by one."""
    few(ask, cases(layer_type).map(longer), lambda case: shifted(ask, case, "moved by one stride"))


@law("window-permutation")
def test_window_permutation(ask: Question, layer_type: type[spec.Windowed]) -> None:
    """The order of the cells in a window does not matter."""

    def question(case: Case) -> None:
        moved = answer(ask, case.layer, shuffled(case))
        alike("the cells of a window were permuted", answer(ask, case.layer, case.x), moved)

    few(ask, cases(layer_type).map(single_window), question)
