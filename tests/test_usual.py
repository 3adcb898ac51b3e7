"""The layers as networks have them: which options meet, and that each layer has an answer."""

from __future__ import annotations

import itertools

import pytest

from cnnformance.conformance.usual import of_other_ranks, triples, usual
from cnnformance.reference import output_shape
from cnnformance.spec import layers as spec

AXES = ("abcde", "fgh", "ijkl", "mnopq", "rs", "tuvw")


def test_any_options_of_three_axes_meet() -> None:
    rows = list(triples(*AXES))
    assert len(rows) == 125
    for three in itertools.combinations(range(len(AXES)), 3):
        met = {tuple(row[axis] for axis in three) for row in rows}
        assert met == set(itertools.product(*(AXES[axis] for axis in three)))


@pytest.mark.parametrize("kind", spec.TYPES.values())
def test_each_layer_gives_cells(kind: type[spec.Layer]) -> None:
    for fields, shape in (*usual(kind), *of_other_ranks(kind)):
        assert min(output_shape(kind(**fields), shape)) > 0, (fields, shape)


def test_one_in_seven_is_taken() -> None:
    assert usual(spec.Conv, 7) == usual(spec.Conv)[::7] != usual(spec.Conv)
