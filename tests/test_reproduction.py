"""Scripts that show a failure hold the arrays bit for bit."""

from __future__ import annotations

import ast
import base64
import zlib

import ml_dtypes
import numpy as np
import pytest

from cnnformance.adapters import registry
from cnnformance.adapters.backend import Array
from cnnformance.adapters.subject import Subject
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.reproduction import literal, script
from cnnformance.spec.layers import MaxPool

ARRAYS = {
    "special": np.array([[np.nan, np.inf], [-np.inf, -0.0], [1e-45, 0.1]], np.float32),
    "signed NaN": np.array([-np.nan, np.nan, 1.0], np.float32),
    "bfloat16": np.array([1.5, np.nan, -np.inf], ml_dtypes.bfloat16),
    "integers": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "large": np.arange(1000, dtype=np.float16).reshape(10, 100),
    "empty": np.empty((0, 3), np.float64),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_a_literal_is_the_array(array: Array) -> None:
    names = {"np": np, "base64": base64, "zlib": zlib, "ml_dtypes": ml_dtypes}
    found = eval(literal(array), names)  # noqa: S307 - the expression under test
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


def test_a_script_tells_a_hostile_message_in_one_comment() -> None:
    said = "\x1b[31mno\0\u2028pe\u202e\r\nimport os"
    failing = Failure("value", said, arrays={"x": np.ones((1, 2, 1), np.float32)},
                      layers=(MaxPool((2,)),))  # fmt: skip
    subject = Subject(registry.parse("numpy"), in_process=True)
    subject.start()
    found = script(subject, failing)
    assert found
    *code, last = found.splitlines()
    assert last.replace("\N{REPLACEMENT CHARACTER}", "?") == "# no??pe? import os"
    assert "import os" not in code
    ast.parse(found)
