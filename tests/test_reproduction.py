"""Scripts that show a failure hold the arrays bit for bit."""

from __future__ import annotations

import ast
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cnnformance.adapters import registry
from cnnformance.adapters.backend import Array
from cnnformance.adapters.memory import arranged
from cnnformance.adapters.subject import Subject
from cnnformance.conformance.judge import Failure, Other
from cnnformance.conformance.literals import ARRANGED, TooLarge, laid_out, written
from cnnformance.conformance.reproduction import script
from cnnformance.spec.layers import AveragePool, Dense, Flatten, MaxPool, ReLU

ARRAYS = {
    "special": np.array([[np.nan, np.inf], [-np.inf, -0.0], [1e-45, 0.1]], np.float32),
    "signed NaN": np.array([-np.nan, np.nan, 1.0], np.float32),
    "bfloat16": np.array([1.5, np.nan, -np.inf], ml_dtypes.bfloat16),
    "integers": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "large": np.arange(1000, dtype=np.float16).reshape(10, 100),
    "of one value": np.full((7, 90), -0.0, np.float32),
    "of a draw": np.random.default_rng(0).integers(-4, 5, (30, 40)).astype(np.float64),
    "apart": np.where(np.arange(300) == 7, np.nan, 2).astype(np.float32),
    "empty": np.empty((0, 3), np.float64),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_what_is_written_is_the_array(array: Array) -> None:
    names: dict[str, Any] = {"np": np, "ml_dtypes": ml_dtypes}
    lines = written("x", array)
    exec("\n".join(lines), names)  # noqa: S102 - the source under test
    found = names["x"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()
    assert sum(map(len, lines)) < 5000


def test_what_no_short_source_makes_is_not_written() -> None:
    with pytest.raises(TooLarge):
        written("x", np.random.default_rng(0).normal(size=10_000))


@pytest.mark.parametrize("memory", list(ARRANGED))
@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3, 4), (3, 1, 1)])
def test_an_array_lies_in_memory_as_it_did(memory: str, shape: tuple[int, ...]) -> None:
    array = np.broadcast_to(np.arange(shape[-1], dtype=np.float32), shape).copy()
    names: dict[str, Any] = {"np": np, "x": array.copy()}
    exec("\n".join(laid_out("x", array, memory)), names)  # noqa: S102 - the source under test
    lain = arranged(array, memory)
    assert names["x"].strides == lain.strides
    assert names["x"].flags.writeable == lain.flags.writeable
    np.testing.assert_array_equal(names["x"], array)


def test_a_script_tells_a_hostile_message_in_one_comment() -> None:
    said = "\x1b[31mno\0\u2028pe\u202e\r\nimport os"
    failing = Failure("value", said, arrays={"x": np.ones((1, 2, 1), np.float32)},
                      layers=(MaxPool((2,)),))  # fmt: skip
    subject = Subject(registry.parse("numpy"), in_process=True)
    subject.start()
    found = script(subject, failing)
    assert found
    _, told, *code = found.splitlines()
    assert told.replace("\N{REPLACEMENT CHARACTER}", "?") == "# no??pe? import os"
    assert "import os" not in code
    ast.parse(found)


IMAGE = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
SPOILT = np.where(IMAGE == 5, np.nan, IMAGE).astype(np.float32)
POOL = MaxPool((2, 2))
BOTH = {"x": IMAGE, "upstream": np.ones((1, 2, 2, 1), np.float32)}
SHAPE = {"shape": np.array([1, 4, 4, 1])}
CASES: dict[str, tuple[Any, ...]] = {
    "a selection": (POOL, "value", "5.0", "6.0", {"x": IMAGE}, {}),
    "a sum": (AveragePool((2, 2)), "value", "2.5", "2.6", {"x": IMAGE}, {"bound": "1e-6"}),
    "NaN": (POOL, "not-finite", "nan", "5.0", {"x": SPOILT}, {}),
    "an infinity": (ReLU(), "not-finite", "0.0", "inf", {"x": IMAGE}, {}),
    "a shape": (POOL, "shape", "(1, 2, 2, 1)", "(1, 2, 3, 1)", {"x": IMAGE}, {"index": None}),
    "a dtype": (POOL, "dtype", "float32", "float64", {"x": IMAGE}, {"index": None}),
    "a claim": (POOL, "law", "{map}.sum() == 40", "{map}.sum() == 41", {"x": IMAGE}, {}),
    "a gradient": (POOL, "value", "0.0", "1.0", BOTH, {"call": "gradients", "operand": "input"}),
    "a count": (Dense(3, 2), "count", "8", "9", {}, {"call": "parameters", "index": None}),
    "a static shape": (POOL, "shape", "(1, 2, 2, 1)", "(1, 2, 2, 2)", SHAPE,
                       {"call": "output_shape", "index": None}),
}  # fmt: skip


def status(source: str) -> int:
    """Return the status with which Python ends that runs a script."""
    try:
        exec(source, {})  # noqa: S102 - the script under test
    except AssertionError:
        return 1
    return 0


@pytest.mark.parametrize("memory", ["contiguous", "reversed", "fortran"])
@pytest.mark.parametrize("name", CASES)
def test_a_script_fails_while_the_answer_is_not_what_holds(name: str, memory: str) -> None:
    layer, effect, holds, wrong, arrays, more = CASES[name]
    subject = Subject(registry.parse("numpy"), in_process=True)
    subject.start()
    for expected, found in ((holds, 0), (wrong, 1)):
        claim = expected if name == "a claim" else ""
        given = {"index": (0, 0, 0, 0), "claim": claim, "memory": (memory, memory), **more}
        failing = Failure(effect, "m", expected=expected, arrays=dict(arrays), layers=(layer,),
                          **given)  # fmt: skip # as the fields
        source = script(subject, failing)
        assert source
        assert status(source) == found, source


def test_a_script_of_what_should_be_refused_fails_while_it_is_taken() -> None:
    subject = Subject(registry.parse("numpy"), in_process=True)
    subject.start()
    for layer, found in ((MaxPool.unchecked(window=(0, 2)), 0), (POOL, 1)):
        source = script(subject, Failure("not-refused", "m", arrays={"x": IMAGE}, layers=(layer,)))
        assert source
        assert status(source) == found


def test_a_script_of_two_answers_compares_them() -> None:
    subject = Subject(registry.parse("numpy"), in_process=True)
    subject.start()
    for x, found in ((IMAGE, 0), (SPOILT, 1)):
        other = Other((ReLU(),), {"x": x}, index=(0, 1, 1, 0))
        failing = Failure("trait", "m", arrays={"x": IMAGE}, layers=(POOL,), index=(0, 0, 0, 0),
                          other=other, claim="{value} == {other_value}")  # fmt: skip
        source = script(subject, failing)
        assert source
        assert status(source) == found


def test_a_script_of_a_model_chains_its_layers() -> None:
    subject = Subject(registry.parse("numpy"), in_process=True)
    subject.start()
    weights = {"weight_2": np.ones((1, 4), np.float32), "bias_2": np.ones(1, np.float32)}
    layers = (POOL, Flatten(), Dense(4, 1))
    for expected, found in (("41.0", 0), ("40.0", 1)):
        failing = Failure("value", "m", index=(0, 0), expected=expected, layers=layers,
                          arrays={"x": IMAGE, **weights})  # fmt: skip
        source = script(subject, failing)
        assert source
        assert status(source) == found


def test_large_arrays_that_fail_likewise_are_made_by_a_line() -> None:
    subject = Subject(registry.parse("numpy"), in_process=True)
    subject.start()
    x = np.random.default_rng(0).normal(size=(1, 80, 80, 1)).astype(np.float32)
    failing = Failure("value", "m", index=(0, 0, 0, 0), expected="9", layers=(POOL,),
                      arrays={"x": x})  # fmt: skip
    assert script(subject, failing) is None  # NumPy is right of all plainer arrays
