"""The judge rejects every sentinel on the cases that are asked, and no honest backend.

Run as ``python tests/test_sentinels.py`` it prints how many are rejected in the default profile, by
layer, dtype and number of terms, and which are not.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from corpus.faults_precision import BITS
from corpus.kernels import Honest
from corpus.sentinels import (
    FORWARD,
    LAYERS,
    SENTINELS,
    SIZES,
    UNITS,
    WEIGHTED,
    Sentinel,
    sentinels,
)
from mutation import Only, put

from cnnformance.conformance import judge
from cnnformance.conformance.cases import Case
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.test_sums import SUMMED, SUMS, Backward, backward, sums
from cnnformance.reference import output_shape

HEAVIEST = 2**22
"""The most cells of windows that a case may have here: the honest kernels gather them all."""


def weight(case: Case) -> int:
    """Return how many cells the windows of a case have."""
    outputs = math.prod(output_shape(case.layer, case.shape))
    return outputs * max(case.terms, 1)


@cache
def asked(layer: str, dtype: str, *, few: bool) -> tuple[Case, ...]:
    """Return the cases of a layer that are asked, the smallest first."""
    kinds = [kind for kind in SUMS if kind.__name__ == layer.split(maxsplit=1)[0]]
    found: list[Case] = [case for kind in kinds for case in sums(kind, dtype, few=few)]
    found += [case for kind in kinds if kind in SUMMED for case in backward(kind, dtype, few=few)]
    mine = [case for case in found if LAYERS[layer](case.layer) and weight(case) < HEAVIEST]
    return tuple(sorted(mine, key=weight))


def answered(backend: Honest, case: Case) -> None:
    """Put one case to a backend, and its answer to the judge. Raises ``Failure``."""
    layer, x, weights = case.layer, case.x, case.weights
    if not isinstance(case, Backward):
        judge.output(case, backend.build(layer, weights)(x))
        return
    sent = case.upstream_gradient()
    found = backend.gradients(layer, weights, x, sent)
    for _evidence in judge.gradients(layer, x, weights, sent, found):
        pass


def concerned(sentinel: Sentinel, cases: Iterable[Case]) -> list[Case]:
    """Return the cases in which a sentinel is wrong."""
    return [
        case
        for case in cases
        if isinstance(case, Backward) == (sentinel.path != FORWARD)
        and sentinel.meets(case.layer, case.x)
    ]


def rejected(sentinel: Sentinel, cases: Iterable[Case]) -> bool:
    """Whether one of the cases shows a sentinel."""
    backend = sentinel.make()()
    for case in cases:
        try:
            answered(backend, case)
        except Failure:
            return True
    return False


def survivors(where: Iterable[Sentinel], *, few: bool) -> Iterator[Sentinel]:
    """Yield the sentinels that are asked and rejected by none of the cases."""
    for sentinel in where:
        cases = concerned(sentinel, asked(sentinel.layer, sentinel.dtype, few=few))
        if cases and not rejected(sentinel, cases):
            yield sentinel


LOOSE = ("LpPool of order 3", "bfloat16", "input", "a twentieth too large")
"""The gradient of a power of one number is rounded up to 16 times: by 6 % in bfloat16."""

HALVES = ("float16", "bfloat16")

EVERYWHERE = [(layer, dtype) for layer in LAYERS for dtype in BITS]
everywhere = pytest.mark.parametrize(("layer", "dtype"), EVERYWHERE)


@everywhere
def test_an_honest_backend_is_not_rejected(layer: str, dtype: str) -> None:
    for case in asked(layer, dtype, few=True):
        answered(Honest(), case)


@everywhere
def test_all_but_the_unit_sized_are_rejected_in_quick(layer: str, dtype: str) -> None:
    large = [s for s in sentinels(layer, dtype) if s.fault != UNITS]
    left = survivors(large, few=True)

    assert [s for s in left if (s.layer, s.dtype, s.path, s.fault) != LOOSE] == []


@everywhere
def test_the_unit_sized_are_rejected_in_default(layer: str, dtype: str) -> None:
    """Where sums of one term are asked: only there can a bound be so small.

    In the dtype of its accumulator, a Fourier transform is off by units for any convolution.
    """
    small = [s for s in sentinels(layer, dtype) if s.fault == UNITS and s.layer in WEIGHTED]
    sharp = [s for s in small if s.layer == "Dense" or s.dtype in HALVES]

    assert list(survivors(sharp, few=False)) == []


SLICE = [
    sentinel
    for number, sentinel in enumerate(s for s in SENTINELS.values() if s.fault != UNITS)
    if number % 97 == 0 and concerned(sentinel, asked(sentinel.layer, sentinel.dtype, few=True))
]
"""Sentinels that are put to the questions, through the public interface."""


@pytest.mark.parametrize("sentinel", SLICE, ids=lambda sentinel: str(sentinel.name))
def test_the_questions_reject_a_sentinel(sentinel: Sentinel) -> None:
    target = f"{Path(__file__).parent / 'corpus' / 'sentinels.py'}:{sentinel.name}"
    outcome = put(target, "quick", 0, [Only(sentinel.layer.split()[0])])

    assert outcome.question


def table() -> Iterator[str]:
    """Yield lines of a table: of the sentinels that are asked in default, how many are rejected."""
    yield f"{'':30}" + "".join(f"{size:>16}" for size in SIZES)
    for layer, dtype in EVERYWHERE:
        cells = []
        for size in SIZES:
            mine = [s for s in sentinels(layer, dtype) if s.size == size]
            mine = [s for s in mine if concerned(s, asked(layer, dtype, few=False))]
            left = list(survivors(mine, few=False))
            cells.append(f"{len(mine) - len(left)} of {len(mine)}" if mine else "-")
            yield from (f"SURVIVED {s.name}" for s in left)
        yield f"{layer:20}{dtype:10}" + "".join(f"{cell:>16}" for cell in cells)


if __name__ == "__main__":
    for line in table():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
