"""Apache TVM: the models of ``onnx_models``, imported to Relax and compiled for each size."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import tvm
import tvm.relax.frontend.onnx

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.calls import Call, Tensor
from cnnformance.adapters.onnx_models import PARSE, OnnxModels
from cnnformance.spec.layers import Flatten, GlobalMaxPool, Layer, MaxPool, ReLU, StochasticPool

SELECTIONS = (MaxPool, GlobalMaxPool, ReLU, Flatten)


class Tvm(OnnxModels):
    """TVM's Relax, compiled by LLVM."""

    devices = ("cpu",)
    dtypes = ("float32", "float64", "float16", "int8", "uint8", "int32", "int64")
    imports = (
        PARSE + "import tvm\nfrom tvm import relax\nfrom tvm.relax.frontend.onnx import from_onnx\n"
    )
    printed = 'print("TVM", tvm.__version__, "ONNX", onnx.__version__)'
    symbolic = False

    def version(self) -> str:
        """Return TVM's version."""
        return str(tvm.__version__)

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Integers are selected and not summed."""
        return dtype in self.dtypes and ("float" in dtype or isinstance(layer, SELECTIONS))

    def result(self, layer: Layer, x: Tensor) -> tuple[Call, bool]:
        """Return the operators that TVM imports: of constants those alone that are arrays."""
        if isinstance(layer, StochasticPool):
            raise Unsupported("TVM imports no constant that is a number")
        return super().result(layer, x)

    def loaded(self, x: Tensor) -> list[str]:
        """Return the lines that import and compile the model."""
        return [
            'built = tvm.compile(from_onnx(model), target="llvm")',
            "machine = relax.VirtualMachine(built, tvm.cpu())",
            'run = lambda x: machine["main"](tvm.runtime.tensor(x)).numpy()',
        ]
