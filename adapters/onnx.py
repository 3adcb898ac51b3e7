"""ONNX's own evaluator, in NumPy: the models of ``onnx_models``, operator by operator."""

from __future__ import annotations

import onnx
import onnx.reference  # imported once, before a worker is forked

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.calls import Tensor
from cnnformance.adapters.onnx_models import PARSE, OnnxModels
from cnnformance.spec.layers import Layer, MinPool

FLOATS = ("float32", "float64", "float16", "bfloat16")


class Onnx(OnnxModels):
    """The reference evaluator of ONNX.

    Modes:
        opset11: the operators as they were in operator set 11.
    """

    dtypes = (*FLOATS, "int8", "uint8", "int16", "int32", "int64")
    modes = ("opset11",)
    imports = PARSE + "import onnx.reference\n"
    printed = 'print("ONNX", onnx.__version__)'

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Refuse devices: NumPy has none."""
        if device != "cpu":
            raise Unsupported(f"the evaluator of ONNX has no device {device!r}")
        super().__init__(mode, device)

    def version(self) -> str:
        """Return ONNX's version."""
        return onnx.__version__

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Ask ONNX's types of the operator. The smallest integer has no negative, for MinPool."""
        if dtype == "float32" or dtype not in self.dtypes:
            return dtype in self.dtypes
        checks = ["onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)"]
        try:
            self.load(layer, dtype, checks)
        except Unsupported:
            return True
        except onnx.shape_inference.InferenceError:
            return False
        return not (isinstance(layer, MinPool) and "int" in dtype)

    def loaded(self, x: Tensor) -> list[str]:
        """Return the lines of an evaluator."""
        return [
            "evaluator = onnx.reference.ReferenceEvaluator(model)",
            'run = lambda x: evaluator.run(None, {"x": x})[0]',
        ]
