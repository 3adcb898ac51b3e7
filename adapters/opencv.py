"""OpenCV's module ``dnn``: the models of ``onnx_models``, one for each size of the input."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from importlib import metadata
from typing import ClassVar

import cv2  # noqa: F401 - imported once, before a worker is forked

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.calls import Call, Tensor
from cnnformance.adapters.onnx_models import PARSE, OnnxModels
from cnnformance.spec.layers import Flatten, Layer, LpPool

ENGINES = {"": "NEW", "classic": "CLASSIC"}


class OpenCv(OnnxModels):
    """The engine for graphs of OpenCV's ``dnn``, on the CPU.

    Modes:
        classic: the engine that was there before OpenCV 5.
    """

    devices = ("cpu",)
    dtypes = ("float32", "int8", "uint8", "int32")
    modes: ClassVar[tuple[str, ...]] = ("classic",)
    imports = PARSE + "import cv2\n\ncv2.setNumThreads(1)\n"
    printed = 'print("OpenCV", cv2.__version__, "ONNX", onnx.__version__)'
    symbolic = False

    def version(self) -> str:
        """Return the version of the package, which tells more than OpenCV's own."""
        return metadata.version(metadata.packages_distributions()["cv2"][0])

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Integers are reshaped."""
        return dtype in self.dtypes and (dtype == "float32" or isinstance(layer, Flatten))

    def native(self, layer: Layer, x: Tensor) -> Call:
        """Return the operator, of those that OpenCV has."""
        if isinstance(layer, LpPool):
            raise Unsupported("OpenCV has no layer for LpPool")
        return super().native(layer, x)

    def loaded(self, x: Tensor) -> list[str]:
        """Return the lines that read the model, which must state the size of its output."""
        return [
            "model = onnx.shape_inference.infer_shapes(model)",
            "buffer = np.frombuffer(model.SerializeToString(), np.uint8)",
            f"net = cv2.dnn.readNetFromONNX(buffer, cv2.dnn.ENGINE_{ENGINES[self.mode]})",
            "",
            "def run(x):",
            '    net.setInput(x, "x")',
            "    return net.forward().copy()",
            "",
        ]
