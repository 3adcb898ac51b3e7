"""MNN: the models of ``onnx_models``, converted to its own."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from importlib import metadata

import MNN  # noqa: F401 - imported once, before a worker is forked

from cnnformance.adapters.calls import Tensor
from cnnformance.adapters.onnx_models import PARSE, OnnxModels

IMPORTS = """\
import tempfile

import _tools  # MNN.tools would install a package that reports what is converted
import MNN
from MNN import expr
"""


class Mnn(OnnxModels):
    """MNN on the CPU, at high precision and on one thread."""

    devices = ("cpu",)
    dtypes = ("float32",)
    imports = PARSE + IMPORTS
    printed = 'print("MNN", MNN.version(), "ONNX", onnx.__version__)'

    def version(self) -> str:
        """Return MNN's version."""
        return metadata.version("MNN")

    def loaded(self, x: Tensor) -> list[str]:
        """Return the lines that convert the model, in files, and load it."""
        files = 'f"{folder}/layer.onnx", "--MNNModel", f"{folder}/layer.mnn"'
        return [
            "with tempfile.TemporaryDirectory() as folder:",
            '    onnx.save(model, f"{folder}/layer.onnx")',
            f'    given = ["-f", "ONNX", "--modelFile", {files}, "--bizCode", "layer"]',
            '    _tools.mnnconvert(["mnnconvert", *given])',
            "    options = {'precision_mode': 1, 'thread_num': 1}",
            "    net = MNN.nn.load_module_from_file(",
            '        f"{folder}/layer.mnn", ["x"], ["y"], **options',
            "    )",
            "",
            "def run(x):",
            "    x = expr.const(x, list(x.shape), expr.NCHW, expr.float)",
            "    return np.array(expr.convert(net.forward([x])[0], expr.NCHW).read())",
            "",
        ]
