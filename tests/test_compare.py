"""A comparison sees what two subjects do otherwise, and that alone."""

from __future__ import annotations

import re

import numpy as np
import pytest
from comparisons import CORPUS, HONEST, apart, both_of, rows_of

from cnnformance.conformance import comparing
from cnnformance.conformance.equivalents import equivalent
from cnnformance.conformance.scratch import Scratch, ScriptFailed
from cnnformance.conformance.topics import measured
from cnnformance.reference import forward
from cnnformance.spec.layers import (
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    GlobalMaxPool,
    Layer,
    MaxPool,
)

ALONE = {
    "porting.py:SameLower": "padding",
    "porting.py:SameBothSides": "padding",
    "porting.py:CountsPadding": "averages",
    "porting.py:RoundsDown": "rounding",
    "porting.py:KeepsTheLastWindow": "rounding",
    "porting.py:DividesByTheWindow": "rounding",
    "porting.py:Undilated": "dilation",
    "porting.py:FlattensChannelsFirst": "flatten",
    "porting.py:HalfSums": "halves",
    "porting.py:NoMinPool": "offers",
    "porting.py:RefusesEmptyBatches": "empty",
    "correct.py:NaNIgnored": "special",
    "correct.py:SplitTie": "gradients",
    "correct.py:LastTie": "gradients",
    "correct.py:HalfAtZero": "gradients",
}


@pytest.mark.parametrize("other", ALONE)
def test_what_differs_is_seen_and_nothing_else(other: str) -> None:
    rows = rows_of(other)
    assert apart(rows) == {ALONE[other]}
    row = rows[ALONE[other]]
    assert row.example
    one, two = row.example.answers
    assert one != two
    measured_rows = {name for name, row in rows.items() if row.status != "unknown"}
    assert measured_rows == rows.keys() - {"defaults"}  # these backends write no scripts


@pytest.mark.parametrize(
    "other", [f"correct.py:{n}" for n in ("SequentialSum", "BlockedSum", "FusedSum", "ShuffledSum")]
)
def test_other_orders_of_summation_are_rounding_and_no_difference(other: str) -> None:
    rows = rows_of(other)
    assert not apart(rows)
    assert rows["plain"].status == "rounding"
    assert "of the proven bound" in rows["plain"].says[1]


def test_dtypes_that_one_lacks_are_told() -> None:
    rows = rows_of("correct.py:Float32Only")
    assert apart(rows) == {"offers"}
    assert re.search(r"alone has .*float64.* arrays", rows["offers"].says[0])
    assert rows["halves"].status == "unknown"


def test_equal_subjects_are_the_same_in_every_topic() -> None:
    rows = rows_of("kernels.py:Honest")
    assert {row.status for name, row in rows.items() if name != "defaults"} == {"same"}
    assert not any(row.example or row.code for row in rows.values())


def test_channels_first_is_a_matter_of_layout_and_of_flattening() -> None:
    rows = rows_of("correct.py:ChannelsFirst")
    assert apart(rows) == {"layout", "flatten"}
    assert "transpose" in rows["layout"].code[0].source


def test_the_sizes_of_the_pooling_that_converters_disagree_on_are_told() -> None:
    says = rows_of("porting.py:RoundsDown")["rounding"].says
    assert "become 55 rounded down, 56 rounded up" in says[0]
    assert "57 rounded up with padding (1, 1)" in says[0]
    assert "become 55 rounded down, 55 rounded up" in says[1]


def test_the_pads_of_a_word_are_told() -> None:
    row = rows_of("porting.py:SameLower")["padding"]
    assert "pads (0, 1) by 'same'" in row.says[0]
    assert "pads (1, 0) by 'same'" in row.says[1]
    assert "window 3 stride 1 on 3 cells" in row.where("same")
    assert "window 3 stride 2 on 4 cells" in row.where("differs")


def test_the_divisor_at_a_corner_is_told() -> None:
    row = rows_of("porting.py:CountsPadding")["averages"]
    assert "divided by 4" in row.says[0]
    assert "divided by 9" in row.says[1]


def test_a_crash_is_the_behaviour_and_costs_its_row_alone() -> None:
    both = both_of(HONEST, f"{CORPUS}/porting.py:DiesOfLargeWindows")
    try:
        rows = {topic.name: measured(topic, both) for topic in comparing.TOPICS}
    finally:
        both.close()
    assert apart(rows) == {"empty"}
    assert "died by SIGFPE" in rows["empty"].says[1]


def test_a_hang_costs_its_row_alone() -> None:
    both = both_of(HONEST, f"{CORPUS}/porting.py:HangsOnDilation", seconds=1.0)
    try:
        names = ("dilation", "special", "plain")
        rows = [measured(t, both) for t in comparing.TOPICS if t.name in names]
    finally:
        both.close()
    assert [row.status for row in rows] == ["differs", "same", "same"]
    assert "no answer within 1 s" in rows[0].says[1]


EQUIVALENT: list[tuple[Layer, tuple[int, ...]]] = [
    (MaxPool((3,), (2,), "same"), (1, 4, 1)),
    (MaxPool((3,), (2,), ((1, 1),)), (1, 5, 1)),
    (MaxPool((2, 3), (2, 2), (), (), ceil_mode=True), (1, 5, 6, 2)),
    (MaxPool((3,), (3,), ((1, 1),), ceil_mode=True), (1, 2, 1)),
    (AveragePool((2,), (2,), ceil_mode=True), (1, 3, 1)),
    (AveragePool((3, 3), (1, 1), "same_lower"), (1, 4, 4, 1)),
    (GlobalMaxPool(2), (2, 3, 4, 2)),
    (AdaptiveMaxPool((2, 2)), (1, 4, 6, 1)),
]


@pytest.mark.parametrize(("layer", "shape"), EQUIVALENT, ids=str)
def test_equivalent_layers_compute_the_same(layer: Layer, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float64)
    written = list(equivalent(layer, shape, {}))
    assert len(written) > 1
    for other, weights, after in written:
        names = {"y": forward(other, x, weights)}
        exec("\n".join(after), names)  # noqa: S102 - the lines under test
        np.testing.assert_array_equal(names["y"], forward(layer, x))


def test_a_dilated_kernel_is_one_with_zeros() -> None:
    rng = np.random.default_rng(0)
    layer = Conv((2, 3), (2, 1), "same", (2, 3), 2, 3)
    weights = {
        name: rng.integers(-3, 4, s).astype(float) for name, s in layer.weight_shapes().items()
    }
    x = rng.integers(-9, 9, (1, 7, 8, 2)).astype(float)
    others = list(equivalent(layer, x.shape, weights))
    assert {other.dilation for other, _, _ in others if isinstance(other, Conv)} == {(2, 3), (1, 1)}
    for other, held, _ in others:
        np.testing.assert_array_equal(forward(other, x, held), forward(layer, x, weights))


def test_a_script_that_fails_is_told_and_the_next_one_runs() -> None:
    scratch = Scratch(seconds=2.0, first=2.0)
    try:
        scratch.begin("y = 1")
        assert scratch.run("y = 2", "y") == 2
        for source, said in {
            "raise ValueError('no')": "ValueError: no",
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "died by SIGSEGV",
            "while True: pass": "no answer in 2 s",
            "import os; os._exit(3)": "ended with 3",
        }.items():
            with pytest.raises(ScriptFailed, match=said):
                scratch.run(source, "y")
        assert scratch.run("y = {'a': 1}", "y") == {"a": 1}
    finally:
        scratch.close()
