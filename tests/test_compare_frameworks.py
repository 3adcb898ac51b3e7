"""PyTorch and TensorFlow compared: what porters have asked is answered, and the code runs.

They are compared once for all of these tests.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import both_of

from cnnformance.adapters import registry
from cnnformance.conformance import comparing
from cnnformance.conformance.contrast import probe
from cnnformance.reports.compare import Code, Comparison, Row
from cnnformance.spec.layers import Conv

pytestmark = pytest.mark.xdist_group("torch and tensorflow compared")


@pytest.fixture(scope="module")
def frameworks(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Return the comparison of PyTorch and TensorFlow: measured once, in less than two minutes."""
    for name in ("torch", "tensorflow"):
        if not registry.importable(name):
            pytest.skip(f"needs {name}")
    return comparing.compare(("torch", "tensorflow"), [], tmp_path_factory.mktemp("empty"))


def _row(found: Comparison, topic: str) -> Row:
    return next(row for row in found.rows if row.topic == topic)


def _codes(found: Comparison) -> Iterator[Code]:
    return (code for row in found.rows for code in row.code if code.source)


def test_what_is_to_be_written_instead_runs_and_gives_the_others_result(
    frameworks: Comparison, tmp_path: Path
) -> None:
    codes = list(_codes(frameworks))
    assert {code.subject for code in codes} == {"torch", "tensorflow"}
    assert len(codes) > 12
    for name in ("torch", "tensorflow"):  # one process each: the import takes longest
        first = name == "torch"  # its channels come first
        sources = [(c.source, c.gave, first) for c in codes if c.subject == name]
        (tmp_path / "sources.json").write_text(json.dumps(sources))
        done = subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-c", _RUNS, "sources.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]


_RUNS = """
import json, sys
import numpy as np
from cnnformance.conformance.contrast import brief
for source, gave, first in json.load(open(sys.argv[1])):
    names = {"__name__": "__main__"}
    exec(source, names)
    if "shapes" in names:
        found = f"shapes {names['shapes']}"
    else:
        y = np.asarray(names["gradients"]["input"] if "gradients" in names else names["y"])
        found = brief(np.moveaxis(y, 1, -1) if first and y.ndim > 2 else y)
    assert found == gave, f"{source} gives {found}, and not {gave}"
"""


def test_what_the_code_gives_is_what_the_other_gave(frameworks: Comparison) -> None:
    checked = 0
    for row in frameworks.rows:
        told = {instance.name: instance.answers for instance in row.instances}
        for code in row.code:
            answer = told.get(code.of, ("", ""))[frameworks.names.index(code.like)]
            if code.source and answer.startswith("["):
                checked += 1
                assert (code.gave, code.subject == code.like) == (answer, False)
    assert checked > 8


def test_same_padding_differs_at_stride_two_and_not_at_one(frameworks: Comparison) -> None:
    """keras#19291."""
    row = _row(frameworks, "padding")
    assert "Conv window 3 stride 2 on 4 cells" in [
        i.name for i in row.instances if i.agreement == "differs"
    ]
    assert "Conv window 3 stride 1 on 3 cells" in [
        i.name for i in row.instances if i.agreement == "same"
    ]
    source = next(c.source for c in row.code if c.subject == "torch")
    assert re.search(r"(?i)pad.*[\[(]0, 1[\])]", source)


def test_averages_at_borders_are_divided_by_9_or_by_4(frameworks: Comparison) -> None:
    """MMdnn#628."""
    row = _row(frameworks, "averages")
    assert "divided by 9 (its default, count_include_pad=True)" in row.says[0]
    assert (
        "as it comes; AveragePool 3x3 with padding 'same': a corner of 4 cells is divided by 4"
        in row.says[1]
    )
    assert len([code for code in row.code if code.source]) == 2


def test_the_first_dense_layer_after_a_flatten_is_permuted(frameworks: Comparison) -> None:
    """MMdnn#250."""
    row = _row(frameworks, "flatten")
    dense = next(i for i in row.instances if i.of == "Dense")
    assert dense.agreement == "differs"
    gave = [code.gave for code in row.code]
    assert gave == list(dense.answers)


def test_a_pooling_comes_to_55_56_or_57_cells(frameworks: Comparison) -> None:
    """onnx2caffe#3; that a last window in the padding is dropped is pytorch#131272."""
    row = _row(frameworks, "rounding")
    assert "become 55 rounded down, 56 rounded up" in row.says[0]
    assert "57 rounded up with padding (1, 1)" in row.says[0]
    assert "not offered rounded up" in row.says[1]
    dropped = next(i for i in row.instances if "window 3 stride 3" in i.where and i.of == "MaxPool")
    assert dropped.answers[0] == "[2]"


def test_other_last_digits_are_rounding(frameworks: Comparison) -> None:
    """keras#20804."""
    row = _row(frameworks, "plain")
    assert row.status == "rounding"
    assert not row.code


def test_defaults_are_those_of_the_signatures(frameworks: Comparison) -> None:
    row = _row(frameworks, "defaults")
    told = {i.name: (i.layers, i.answers) for i in row.instances}
    assert told["MaxPool stride"][0] == (
        "nn.MaxPool1d(stride=None)",
        "keras.layers.MaxPooling1D(strides=None)",
    )
    assert all("12 cells become 4" in answer for answer in told["MaxPool stride"][1])
    assert told["Conv bias"][0] == ("nn.Conv1d(bias=True)", "keras.layers.Conv1D(use_bias=True)")
    assert "float32" in told["ReLU dtype of float64"][1][1]
    assert "float64" in told["ReLU dtype of float64"][1][0]


def test_transposed_weights_are_those_that_the_framework_holds(frameworks: Comparison) -> None:
    code = next(c for c in _row(frameworks, "layout").code if c.subject == "tensorflow")
    lines = [line for line in code.source.splitlines() if "np.transpose" in line]
    import torch  # noqa: PLC0415 - only with the frameworks

    rng = np.random.default_rng(0)
    model = torch.nn.Conv2d(4, 5, (2, 3), bias=False)
    x = rng.integers(-4, 5, (1, 4, 6, 7)).astype(np.float32)
    kernel = rng.integers(-4, 5, (5, 4, 2, 3)).astype(np.float32)
    model.weight = torch.nn.Parameter(torch.from_numpy(kernel))
    with torch.no_grad():
        y = model(torch.from_numpy(x)).numpy()
    names: dict[str, Any] = {"np": np, "images": x, "kernel": kernel, "dense": np.ones((5, 4))}
    exec("\n".join(lines), names)  # noqa: S102 - the lines under test
    layer = Conv((2, 3), in_channels=4, out_channels=5, bias=False)
    both = both_of("tensorflow", "tensorflow:nn")
    asked = probe("Conv", "", names["images"], layer, weights={"weight": names["kernel"]})
    found = [side.ask(asked).y for side in both.sides]
    both.close()
    for each in found:
        assert each is not None
        np.testing.assert_array_equal(each, np.moveaxis(y, 1, -1))
