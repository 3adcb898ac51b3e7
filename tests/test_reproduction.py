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
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.literals import ARRANGED, TooLarge, laid_out, written
from cnnformance.conformance.reproduction import script
from cnnformance.spec.layers import MaxPool

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
