"""The layers as networks have them: which options meet, in which order, and that each has cells."""

from __future__ import annotations

import itertools
import math

import pytest

from cnnformance.conformance.cases_by_size import large
from cnnformance.conformance.cases_published import families, of_other_ranks, published, triples
from cnnformance.conformance.cases_spread import first, interleaved, spread
from cnnformance.reference import output_shape
from cnnformance.spec import layers as spec

AXES = ("abcde", "fgh", "ijkl", "mnopq", "rs", "tuvw")


def test_any_options_of_three_axes_meet() -> None:
    rows = list(triples(*AXES))
    assert len(rows) == 125
    for three in itertools.combinations(range(len(AXES)), 3):
        met = {tuple(row[axis] for axis in three) for row in rows}
        assert met == set(itertools.product(*(AXES[axis] for axis in three)))


def test_five_rows_have_each_option() -> None:
    rows = list(triples(*AXES))
    for start in range(0, 125, 5):
        for axis, options in enumerate(zip(*rows[start : start + 5], strict=True)):
            assert set(options) == set(AXES[axis])


@pytest.mark.parametrize("size", [1, 2, 7, 8, 100])
def test_each_prefix_is_spread_over_the_whole(size: int) -> None:
    order = spread(range(size))
    assert sorted(order) == list(range(size))
    for length in range(1, size + 1):
        ends = [-1, *sorted(order[:length]), size]
        widest = max(after - before for before, after in itertools.pairwise(ends))
        assert widest <= 4 * size / length + 1


def test_families_are_taken_in_equal_parts() -> None:
    order = interleaved(tuple("aaaaaaaa"), tuple("bbbb"), tuple("cc"))
    assert order[:3] == ("a", "b", "c")
    for length in range(3, len(order) + 1):
        shares = [order[:length].count(name) / order.count(name) for name in "abc"]
        assert max(shares) - min(shares) <= 1 / 2


def test_a_part_is_rounded_up() -> None:
    assert first((), 7) == ()
    assert first((1, 2, 3), 7) == (1,)
    assert first(tuple(range(15)), 7) == (0, 1, 2)


@pytest.mark.parametrize("kind", spec.TYPES.values())
def test_each_layer_gives_cells(kind: type[spec.Layer]) -> None:
    for fields, shape in (*published(kind), *interleaved(*of_other_ranks(kind))):
        assert min(output_shape(kind(**fields), shape)) > 0, (fields, shape)


def test_one_in_seven_of_each_family_is_taken() -> None:
    for some, whole in zip(families(spec.Conv, 7), families(spec.Conv), strict=True):
        assert some == whole[: len(some)]
        assert len(some) == -(-len(whole) // 7)


@pytest.mark.parametrize("kind", [spec.Conv, spec.Dense])
def test_no_weight_is_all_zero(kind: type[spec.Layer]) -> None:
    small = [case for case in large(kind) if math.prod(case.shape) < 10**6]
    assert all(case.weights["weight"].any() for case in small)
    assert any(case.seed > 1 for case in small)  # some would have been


@pytest.mark.parametrize("period", range(2, 13))
def test_a_spread_prefix_meets_each_phase_of_each_period(period: int) -> None:
    items = range(400)
    assert sorted(spread(items)) == list(items)
    assert {item % period for item in spread(items)[:50]} == set(range(period))
