"""Convolution: what its kernel means, where it reads, and how it moves with its input."""

from __future__ import annotations

import numpy as np
import pytest

from cnnformance.adapters.backend import Array
from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case, given
from cnnformance.conformance.cases_varied import longer, padded, random, unit_cells, windowed
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.laws import alike, answer, few, holds, require, shifted
from cnnformance.conformance.parametrize import law
from cnnformance.conformance.question import Question
from cnnformance.conformance.strategies import cases
from cnnformance.spec import clauses
from cnnformance.spec import layers as spec

LAYER = spec.Conv


@law("border-cells-read-less")
@pytest.mark.clauses("conv.border-reads")
def test_border_cells_read_less(ask: Question, layer_type: type[spec.Conv]) -> None:
    """A one in each cell in turn reaches as many outputs as windows can stand over the cell."""
    formula = clauses.load().formula("conv.border-reads")

    def question(case: Case) -> None:
        window, spatial = windowed(case).window, case.shape[1:-1]
        layer = layer_type(window=window, bias=False)
        weight = np.ones((*window, 1, 1), np.float32)
        said = answer(ask, layer, unit_cells(spatial), {"weight": weight})
        reached = (said.y > 0.5).reshape(len(said.y), -1).sum(axis=1).reshape(spatial)
        along = [
            [int(formula.scalar(i=i, H=n, K=w)) for i in range(n)]
            for n, w in zip(spatial, window, strict=True)
        ]
        reads = np.ones(spatial, int)
        for axis, counts in enumerate(along):
            reads = reads * np.expand_dims(counts, [a for a in range(len(along)) if a != axis])
        with said.shown():
            _same_reads(reached, reads)

    few(ask, cases(layer_type, regimes=("integer",)), question)


def _same_reads(reached: Array, reads: Array) -> None:
    wrong = np.argwhere(reached != reads)
    if len(wrong):
        cell = tuple(int(i) for i in wrong[0])
        message = f"cell {cell} reaches {reached[cell]} outputs, and {reads[cell]} windows read it"
        raise Failure("law", message, expected=str(reads[cell]), actual=str(reached[cell]))


@law("shift-equivariant")
def test_shift_equivariant(ask: Question, layer_type: type[spec.Conv]) -> None:
    """A shifted input gives the shifted output: by one cell for each stride."""
    few(ask, cases(layer_type).map(longer), lambda case: shifted(ask, case, "moved by one stride"))


@law("padding-is-zeros")
def test_padding_is_zeros(ask: Question, layer_type: type[spec.Conv]) -> None:
    """Padding equals explicit zeros around the input and no padding."""

    def question(case: Case) -> None:
        explicit = answer(ask, *padded(windowed(case), case.x, 0), case.weights)
        implied = answer(ask, case.layer, case.x, case.weights)
        alike("not as explicit zeros", explicit, implied)

    few(ask, cases(layer_type, plain=False), question, 3)


@pytest.mark.clauses("dense.equals-conv")
def test_dense_equals_conv(ask: Question) -> None:
    """A convolution whose window is the whole map is a dense layer of the flattened map."""

    def question(case: Case) -> None:
        layer = windowed(case)
        shape = (case.shape[0], *layer.window, case.shape[-1])
        x = case.with_(shape=shape).x
        kernel = case.weights["weight"].reshape(-1, layer.out_channels)
        weights = {"weight": kernel.T, "bias": case.weights["bias"]}
        dense = spec.Dense(*kernel.shape)
        flat = answer(ask, dense, answer(ask, spec.Flatten(), x).y, weights)
        conv = answer(ask, layer, x, case.weights)
        alike("not as the dense layer", flat, conv.view(lambda a: a.reshape(flat.y.shape)))

    few(ask, cases(spec.Conv), question)


@pytest.mark.clauses("conv.formula")
def test_unit_kernel(ask: Question) -> None:
    """A kernel with a single one copies the input from that one's place."""

    def question(case: Case) -> None:
        layer = windowed(case)
        channels = layer.in_channels
        plain = spec.Conv(
            window=layer.window, in_channels=channels, out_channels=channels, bias=False
        )
        at = [int(random(case).integers(w)) for w in layer.window]
        weight = np.zeros((*layer.window, channels, channels), np.float32)
        weight[tuple(at)] = np.eye(channels)
        said = answer(ask, plain, case.x, {"weight": weight})
        sizes = zip(at, said.y.shape[1:-1], strict=True)
        copied = case.x[:, *(slice(a, a + n) for a, n in sizes)]
        holds(f"a single one at {tuple(at)} does not copy", copied, said)

    few(ask, cases(spec.Conv), question)


@pytest.mark.clauses("conv.not-flipped")
def test_kernel_is_not_flipped(ask: Question) -> None:
    """A single one in the input gives the kernel in reverse."""

    def question(case: Case) -> None:
        window = windowed(case).window
        layer = spec.Conv(window=window, bias=False)
        weight = case.with_(layer=layer).weights["weight"]
        x = np.zeros((1, *(2 * w - 1 for w in window), 1), np.float32)
        x[0, *(w - 1 for w in window)] = 1
        said = answer(ask, layer, x, {"weight": weight})
        holds("not the kernel in reverse", np.flip(weight[..., 0])[None], said)

    few(ask, cases(spec.Conv), question)


@pytest.mark.clauses("conv.bias")
def test_bias(ask: Question) -> None:
    """Of an input of zeros the output is the bias, everywhere."""

    def question(case: Case) -> None:
        said = answer(ask, case.layer, np.zeros_like(case.x), case.weights)
        bias = np.broadcast_to(case.weights["bias"], said.y.shape)
        require("not the bias", said.y == bias, said)

    few(ask, cases(spec.Conv), question)


@law("convolution-without-channels")
def test_no_channels(ask: Question, layer_type: type[spec.Conv]) -> None:
    """Without input channels the output is the bias, without output channels empty, or refused."""

    def question(case: Case) -> None:
        layer, value = windowed(case), "answered"
        shape = (*(n - 1 for n in case.shape[1:-1]), layer.out_channels)
        bias = case.weights["bias"]
        try:
            y = ask.run_any(layer, case.x, case.weights)
        except Failure as failure:
            if failure.effect != "exception":
                raise
            value = "refused"
        else:
            judge.equal(y, np.broadcast_to(bias, (case.shape[0], *shape)), "the bias alone")
        name = "no output channels" if layer.in_channels else "no input channels"
        ask.trait(name, value, str(layer), str(case.shape))

    def without(rank: int, inputs: int, outputs: int) -> Case:
        layer = layer_type.unchecked(window=(2,) * rank, in_channels=inputs, out_channels=outputs)
        weight = np.ones((*layer.window, inputs, outputs), np.float32)
        bias = np.arange(outputs, dtype=np.float32) + 1
        x = np.zeros((2, *(5, 4, 3)[:rank], inputs), np.float32)
        return given(layer, x, weight=weight, bias=bias)

    ask.sweep([without(*one) for one in ((1, 0, 3), (2, 0, 1), (3, 0, 2))], question)
    ask.sweep([without(*one) for one in ((1, 2, 0), (2, 1, 0), (3, 3, 0))], question)
