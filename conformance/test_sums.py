"""Sums of few and of many terms: each term counts once, with its own weight, in every dtype.

Whole numbers in a part of the terms, another part for each sample, must come out exactly however
many terms there are; so must a single product, rounded once. Ordinary values beside them show the
precision of what is added up. The bounds of these are sharp at every size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.conformance import judge, regimes
from cnnformance.conformance.cases import Case
from cnnformance.conformance.gradients import differentiated, shown
from cnnformance.conformance.parametrize import HALVES, by_layer_type_and_dtype, laws
from cnnformance.conformance.per_type import PerType
from cnnformance.conformance.question import Question
from cnnformance.conformance.test_output import FORMULAS
from cnnformance.reference import bounds, output_shape
from cnnformance.reference.terms import divides_exactly
from cnnformance.spec import layers as spec

SUMS = {layer_type: ids for layer_type, ids in FORMULAS.items() if not layer_type.exact}
FEW, MANY = (8, 72, 320, 2304), (2, 8, 24, 72, 130, 320, 1032, 2304, 4104)
"""Numbers of terms: below and past those at which halves stop counting, and between blocks."""
ORDINARY = ("normal", "negative", "sparse", "onehot")
SHOWN = ("exact-on-integers", "componentwise-bound", "precision-grade", "normwise-bound")

Sized = tuple[spec.Layer, spec.Shape]


def _folded(n: int) -> spec.Shape:
    """Return a map of about n cells that is nearly square, and of n if that is a power of two."""
    side = math.isqrt(n)
    if n & (n - 1) == 0:
        side = 1 << (n.bit_length() // 2)
    return side, -(-n // side)


def _convolutions(n: int) -> Iterator[Sized]:
    """Yield convolutions of about n terms: in the channels, in the window, and in both."""
    eights = max(8, n // 72 * 8)
    yield spec.Conv((1, 1), in_channels=n, out_channels=4), (1, 2, n)
    yield spec.Conv((3, 3), in_channels=eights, out_channels=8), (3, 4, eights)
    yield spec.Conv((n,), in_channels=1, out_channels=2), (n + 1, 1)
    yield spec.Conv((3, 3), stride=(2, 2), in_channels=eights, out_channels=8), (3, 5, eights)
    grouped = spec.Conv((2, 2), in_channels=2 * n, out_channels=4, groups=2, bias=False)
    yield grouped, (2, 3, 2 * n)
    half = max(1, n // 8)
    yield spec.Conv((2, 2, 2), in_channels=half, out_channels=3), (2, 3, 2, half)
    yield spec.Conv(_folded(n), in_channels=2, out_channels=2, groups=2), (*_folded(n), 2)


@PerType
def sized(layer_type: type[Any], n: int) -> Iterator[Sized]:
    """Yield layers of a type whose outputs have about n terms, and an input without its batch.

    Layers whose outputs have one term each are left out.
    """
    del layer_type, n
    yield from ()


@sized.register(spec.Conv)
def _sized_convolutions(layer_type: type[spec.Conv], n: int) -> Iterator[Sized]:
    del layer_type
    yield from _convolutions(n)


@sized.register(spec.Dense)
def _sized_dense(layer_type: type[spec.Dense], n: int) -> Iterator[Sized]:
    yield layer_type(n, 5), (n,)
    yield layer_type(n, 8, bias=False), (n,)


@sized.register(spec.Global)
def _sized_maps(layer_type: type[spec.Global], n: int) -> Iterator[Sized]:
    yield layer_type(rank=1), (n, 1)
    yield layer_type(), (*_folded(n), 1)


@sized.register(spec.Adaptive)
def _sized_adaptive(layer_type: type[spec.Adaptive], n: int) -> Iterator[Sized]:
    yield layer_type(output=(1,)), (n, 1)
    yield layer_type(output=(2, 1)), (2 * _folded(n)[0], _folded(n)[1], 1)


@sized.register(spec.StochasticPool)
def _sized_evaluations(layer_type: type[spec.StochasticPool], n: int) -> Iterator[Sized]:
    if n <= 256:  # composed everywhere, one call for each cell
        yield layer_type(window=(n,)), (n, 1)


@sized.register(spec.Pool)
def _sized_windows(layer_type: type[spec.Pool], n: int) -> Iterator[Sized]:
    yield layer_type(window=(n,)), (n, 1)
    yield layer_type(window=_folded(n)), (*_folded(n), 1)


@sized.register(spec.LpPool)
def _sized_norms(layer_type: type[spec.LpPool], n: int) -> Iterator[Sized]:
    yield layer_type(window=(n,)), (n, 1)
    yield layer_type(window=_folded(n), p=3), (*_folded(n), 1)


def _some(chosen: list[Sized], first: int, count: int) -> Iterator[Sized]:
    """Yield so many of a list, from a place on and round again."""
    for number in range(min(count, len(chosen))):
        yield chosen[(first + number) % len(chosen)]


def samples(layer: spec.Layer, shape: spec.Shape, dtype: str) -> int:
    """Return into how many parts an input goes, so that one part is exact or its bound sharp.

    Sums of products of whole numbers up to 3 and 2 are exact, and means of those that divide by a
    power of two. Roots and other divisors round: in a half eight terms of a mean are few enough and
    four of a norm, and everywhere two of an average by their own weights.
    """
    limit: int = 2 ** bounds.format_of(dtype).bits
    if layer.has_weights:
        most = limit // 6
    elif divides_exactly(layer, (1, *shape)):
        most = limit // 3
    elif layer.draws:
        most = 2
    elif dtype in HALVES:
        most = 8 if layer.linear else 4
    else:
        most = 512
    return min(600, -(-math.prod(shape) // most))


def sums(layer_type: type[spec.Layer], dtype: str, *, few: bool) -> Iterator[Case]:
    """Yield the cases of a layer type and dtype by their number of terms.

    With ``few``, of each number of terms two layers alone, not the same for all. Sums of products
    of one sign grow until a half-precision accumulator holds them no longer; and where no weight is
    larger than the one that meets a single value, no algorithm may round it more than once.
    """
    grows = (("negative", "negative"), ("onehot", "units")) if layer_type.has_weights else ()
    ones = 1 if layer_type.linear or layer_type.draws else 2  # norms of either order
    for place, n in enumerate(FEW if few else MANY):
        chosen = list(sized(layer_type, n))
        exact = layer_type.averages and sized(layer_type, 1 << (n - 1).bit_length())
        for layer, shape in _some(list(exact or chosen), place, ones if few else len(chosen)):
            yield Case(layer, (samples(layer, shape, dtype), *shape), dtype, ("block",), "units")
        for layer, shape in _some(chosen, 2 * place, 2 if few else len(chosen)):
            if layer.draws:
                yield Case(layer, (1, *shape), dtype, ("positive",))
                continue
            yield Case(layer, (len(ORDINARY), *shape), dtype, ORDINARY, "normal")
            for regime, weights in (("onehot", "normal"), ("normal", "sparse"), *grows):
                yield Case(layer, (1, *shape), dtype, (regime,), weights)  # mixed with no other


@by_layer_type_and_dtype(SUMS, SHOWN)
def test_sums(ask: Question, layer_type: type[spec.Layer], dtype: str) -> None:
    """Every term counts once and with its own weight, however many there are."""
    ask.sweep(sums(layer_type, dtype, few=ask.profile.name == "quick"), ask.output)


GRADIENTS = {spec.TYPES[name]: ids for name, ids in laws("gradient").items()}
SUMMED = {layer_type: ids for layer_type, ids in GRADIENTS.items() if layer_type in SUMS}


@dataclass(frozen=True)
class Backward(Case):
    """A case, and how its upstream gradient is made.

    ``upstream`` is a regime. In parts (``block``) it is one for each sample or, where the gradient
    of a weight sums over the samples, one for each output ``channel``.
    """

    upstream: str = "normal"
    by_channel: bool = False

    def upstream_gradient(self) -> Array:
        """Return the upstream gradient, in the output's shape."""
        shape = output_shape(self.layer, self.shape)
        rng = np.random.default_rng([self.seed, 2])
        if self.by_channel:
            turned = (shape[-1], math.prod(shape[:-1]))
            made = regimes.fill(rng, turned, self.dtype, (self.upstream,), 1, weighted=False)
            return made.T.reshape(shape)
        made = regimes.fill(rng, shape, self.dtype, (self.upstream,), 1, weighted=False)
        if few_read(type(self.layer)):  # shares stay far above underflow
            made *= made.dtype.type(2**10)
        return made


def few_read(layer_type: type[spec.Layer]) -> bool:
    """Whether few windows read a cell, however many cells they have: poolings of whole maps."""
    return issubclass(layer_type, spec.Global | spec.Adaptive)


@PerType
def over_outputs(layer_type: type[Any], n: int) -> Iterator[Sized]:
    """Yield layers whose inputs are read by about n terms, and an input without its batch."""
    yield from sized(layer_type, n)


@over_outputs.register(spec.Dense)
def _neurons(layer_type: type[spec.Dense], n: int) -> Iterator[Sized]:
    yield layer_type(3, n), (3,)


@over_outputs.register(spec.Conv)
def _kernels(layer_type: type[spec.Conv], n: int) -> Iterator[Sized]:
    outs = max(8, n // 72 * 8)
    yield layer_type((3, 3), in_channels=8, out_channels=outs), (5, 5, 8)
    yield layer_type((1, 1), in_channels=2, out_channels=n), (2, 1, 2)
    if n <= 400:  # the windows that read one cell hold the square of their number
        yield layer_type((n,), in_channels=1, out_channels=1), (n + n // 2, 1)


@over_outputs.register(spec.Pool)
def _overlapping(layer_type: type[spec.Pool], n: int) -> Iterator[Sized]:
    if not layer_type.linear:
        yield from sized(layer_type, n)
    elif n <= 400:  # likewise
        yield layer_type(window=(n,), stride=(1,)), (2 * n, 1)
        yield (
            layer_type(window=_folded(n), stride=(1, 1)),
            (*(2 * side - 1 for side in _folded(n)), 1),
        )


@PerType
def over_samples(layer_type: type[Any], n: int, parts: int) -> Iterator[Sized]:
    """Yield layers whose weights are used at about n places, and an input with its batch."""
    del layer_type, n, parts
    yield from ()


@over_samples.register(spec.Dense)
def _rows(layer_type: type[spec.Dense], n: int, parts: int) -> Iterator[Sized]:
    yield layer_type(3, max(2, parts)), (n, 3)


@over_samples.register(spec.Conv)
def _places(layer_type: type[spec.Conv], n: int, parts: int) -> Iterator[Sized]:
    parts = max(2, parts)
    outs = 8 * -(-parts // 8)
    yield layer_type((3,), in_channels=2, out_channels=outs), (1, n + 2, 2)
    yield layer_type((3, 3), in_channels=8, out_channels=outs), (-(-n // 4), 4, 4, 8)
    yield layer_type((1, 1), in_channels=1, out_channels=parts), (n, 1, 1, 1)


def backward(layer_type: type[spec.Layer], dtype: str, *, few: bool) -> Iterator[Backward]:
    """Yield the cases of the backward pass by the number of terms of a gradient."""
    for place, n in enumerate(FEW if few else MANY[:-2]):
        parts = -(-n // (2 ** bounds.format_of(dtype).bits // 6 if layer_type.has_weights else 8))
        if few_read(layer_type):
            parts = 2
        chosen = list(over_outputs(layer_type, n))
        count = 2 if issubclass(layer_type, spec.Conv) else 1  # one of a kernel of one cell
        for layer, shape in _some(chosen, place + 1, count if few else len(chosen)):
            if not layer.linear:
                yield Backward(layer, (2, *shape), dtype, ("normal",))
                yield Backward(layer, (2, *shape), dtype, ("onehot",))
                continue
            if layer_type.has_weights:
                grows = "negative"
                yield Backward(layer, (1, *shape), dtype, ("normal",), grows, upstream=grows)
            yield Backward(layer, (parts, *shape), dtype, ("units",), "units", upstream="block")
            yield Backward(layer, (2, *shape), dtype, ("normal",), "normal")
            yield Backward(layer, (2, *shape), dtype, ("normal",), "sparse", upstream="onehot")
        chosen = list(over_samples(layer_type, n, parts))
        for layer, shape in _some(chosen, place, 1 if few else len(chosen)):
            whole = ("units",), "units"
            yield Backward(layer, shape, dtype, *whole, upstream="block", by_channel=True)
            yield Backward(layer, shape, dtype, ("negative",), "normal", upstream="negative")
            for regime, sent in (("normal", "normal"), ("sparse", "normal"), ("normal", "onehot")):
                yield Backward(layer, shape, dtype, (regime,), "normal", upstream=sent)


@by_layer_type_and_dtype(SUMMED)
def test_sums_of_gradients(ask: Question, layer_type: type[spec.Layer], dtype: str) -> None:
    """Every term of a gradient counts once, however many outputs or samples it sums over."""

    def question(case: Case) -> None:
        assert isinstance(case, Backward)
        layer, weights, upstream = case.layer, case.weights, case.upstream_gradient()
        found = differentiated(ask, case, case.x, upstream)
        with shown(layer, case.x, upstream, **weights):
            for evidence in judge.gradients(layer, case.x, weights, upstream, found):
                ask.note(evidence)

    ask.sweep(backward(layer_type, dtype, few=ask.profile.name == "quick"), question)
