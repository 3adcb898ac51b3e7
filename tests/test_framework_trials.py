"""``cnnformance try`` of each framework in a process of its own, and of its modes.

Some of them cannot share a process: a process has one Keras, and PaddlePaddle dies in that of
TensorFlow. The five in ``test_adapters`` are held against NumPy's there.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cnnformance.adapters import registry
from cnnformance.trial import attempt

pytestmark = pytest.mark.trials

SUBJECTS = (
    "onnx", "onnx:opset11", "onnxruntime:opset11", "torch:export", "keras", "keras:jax",
    "keras:numpy", "keras:saved", "flax", "flax:x64", "openvino", "openvino:dynamic", "litert",
    "litert:builtin", "litert:reference", "mlx", "mlx:compile", "tinygrad:python", "paddle", "ncnn",
    "opencv", "opencv:classic", "tvm", "mnn", "tfjs", "tfjs:wasm",
)  # fmt: skip

WRONG: Mapping[str, set[str]] = {
    "flax": {"AveragePool"},  # halves become float32
    "flax:x64": {"AveragePool"},
    "keras": {"GlobalAveragePool"},  # float64 is computed in float32
    "keras:jax": {"GlobalAveragePool"},
    "keras:saved": {"GlobalAveragePool"},
    "mnn": {"Conv"},  # over one axis, the result has an axis too many
    "paddle": {"LpPool"},  # float64 is computed in float32
}
"""The layers in which a trial meets a fault of the framework; its divergences describe it."""


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_trial_meets_no_more_than_faults_of_the_framework(name: str) -> None:
    framework = name.partition(":")[0]
    if not registry.importable(framework):
        pytest.skip(f"{framework} is not installed")
    found = attempt(name)
    told = [*found.contract, *found.wrong]
    layers = {layer for problem in told for layer in problem.layer.split(", ")}
    assert layers == WRONG.get(name, set()), found.text()
    assert found.hidden == []
    assert found.faults >= 7 * 7
    assert found.scripts


def test_all_frameworks_are_tried() -> None:
    elsewhere = {"numpy", "torch", "tensorflow", "jax", "onnxruntime", "tfjs"}
    assert {name.partition(":")[0] for name in SUBJECTS} >= {*registry.registered()} - elsewhere
