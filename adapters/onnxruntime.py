"""ONNX Runtime: the models of ``onnx_models``, on an execution provider."""

from __future__ import annotations

import onnxruntime  # type: ignore[import-untyped]  # it ships no types
from onnxruntime.capi import (  # type: ignore[import-untyped]  # likewise
    onnxruntime_pybind11_state as refusals,  # pyright: ignore[reportAttributeAccessIssue]  # in C++
)

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.calls import Call, Tensor
from cnnformance.adapters.onnx_models import NEWEST, PARSE, OnnxModels
from cnnformance.adapters.versions import release
from cnnformance.spec.layers import Conv, Layer, MinPool

OLDER = {(1, 21): (10, 21), (1, 18): (9, 20), (1, 17): (9, 19)}
"""The model format and operator set of ONNX that versions of the runtime before these read."""


class OnnxRuntime(OnnxModels):
    """ONNX Runtime, on a model with symbolic dims.

    Modes:
        disabled: without graph optimisations.
        opset11: the operators as they were in operator set 11.
    """

    dtypes = ("float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64")
    modes = ("disabled", "opset11")
    newest = min(
        (read for before, read in OLDER.items() if release(onnxruntime.__version__) < before),
        default=NEWEST,
    )
    imports = PARSE + "import onnxruntime\n"
    printed = 'print("ONNX Runtime", onnxruntime.__version__, "ONNX", onnx.__version__)'

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Choose the execution provider of the device."""
        super().__init__(mode, device)
        self._provider = f"{device.upper()}ExecutionProvider"
        if self._provider not in onnxruntime.get_available_providers():
            raise Unsupported(f"this ONNX Runtime has no {self._provider}")
        onnxruntime.set_default_logger_severity(3)

    def version(self) -> str:
        """Return the version of ONNX Runtime."""
        return str(onnxruntime.__version__)

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Ask ONNX Runtime to load the layer. The smallest integer has no negative, for MinPool."""
        if dtype == "float32" or dtype not in self.dtypes:
            return dtype in self.dtypes
        try:
            self.load(layer, dtype, self._session())
        except Unsupported:
            return True
        except (refusals.NotImplemented, refusals.InvalidGraph):
            return False
        return not (isinstance(layer, MinPool) and "int" in dtype)

    def native(self, layer: Layer, x: Tensor) -> Call:
        """Return the operator that computes a layer."""
        if isinstance(layer, Conv) and isinstance(layer.padding, str) and max(layer.dilation) > 1:
            raise Unsupported("ONNX Runtime's Conv takes auto_pad or dilations, and not both")
        return super().native(layer, x)

    def loaded(self, x: Tensor) -> list[str]:
        """Return the lines of a session."""
        return [*self._session(), 'run = lambda x: session.run(None, {"x": x})[0]']

    def _session(self) -> list[str]:
        """Return the lines that load a model."""
        level = "options.graph_optimization_level = "
        level += "onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL"
        given = f"model.SerializeToString(), options, providers=[{self._provider!r}]"
        return [
            "options = onnxruntime.SessionOptions()",
            "options.intra_op_num_threads = options.inter_op_num_threads = 1",
            *([level] if self.mode == "disabled" else []),
            f"session = onnxruntime.InferenceSession({given})",
        ]
