"""ONNX Runtime: one ONNX model per layer, written in the textual form of ONNX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx.parser
import onnx.shape_inference  # noqa: F401 - imported once, before a worker is forked
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
from onnxruntime.capi import (  # type: ignore[import-untyped]  # likewise
    onnxruntime_pybind11_state as refusals,  # pyright: ignore[reportAttributeAccessIssue]  # in C++
)

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Program, Tensor, call
from cnnformance.adapters.compositions import ONNX
from cnnformance.adapters.padding import begins_then_ends
from cnnformance.adapters.table import BIAS, WEIGHT, Definition, Table
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Global,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
    Windowed,
)

# The first operator set whose shape inference drops a last window that starts in the padding.
HEADER = '<ir_version: 10, opset_import: ["" : 22]>'
TYPES = {"float32": "float", "float64": "double"}
"""The names of dtypes in the textual form, where they differ from NumPy's."""
AUTO_PAD = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER"}

IMPORTS = """\
import onnx.parser
import onnx.shape_inference
import onnxruntime
from onnx import numpy_helper
"""


class Nodes(Program):
    """Operators of ONNX in its textual form, with options as attributes."""

    def text(self, function: str, of: Call) -> str:
        """Return the text of a node."""
        given = (f"{name} = {json.dumps(value)}" for name, value in of.options.items())
        attributes = f"<{', '.join(given)}> " if of.options else ""
        return f"{function} {attributes}({', '.join(map(self.written, of.args))})"


def model(result: Call, kind: str, dims: str, inputs: tuple[str, ...] = ()) -> list[str]:
    """Return the lines of a model, without its weights or with them as further ``inputs``."""
    kind = TYPES.get(kind, kind)
    *before, last = Nodes.of(result).steps.items()
    nodes = [f"  {name} = {text}" for name, text in (*before, ("y", last[1]))]
    given = ", ".join([f"{kind}[{dims}] x", *(f"{kind}[] {name}" for name in inputs)])
    head = f"model = onnx.parser.parse_model('''{HEADER}"
    return [head, f"layer ({given}) => ({kind}[] y) {{", *nodes, "}''')"]


class OnnxRuntime(Table):
    """ONNX Runtime, on a model with symbolic dims.

    A dense layer is ``Gemm`` for inputs of 2 axes, as ``Gemm`` has no others, and else ``MatMul``
    and ``Add``. Global pooling is followed by ``Flatten``. Operators take their weights as inputs:
    a count would be that of the initialisers that they are given.

    Modes:
        disabled: without graph optimisations.
    """

    layout = "channels_first"
    kernel_layout = "oihw"
    dtypes = ("float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64")
    modes = ("disabled",)
    imports = IMPORTS
    printed = 'print("ONNX Runtime", onnxruntime.__version__, "ONNX", onnx.__version__)'
    compositions = ONNX

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
        x = replace(self.nominal(layer), dtype=dtype)
        try:
            result, _ = self.result(layer, x)
            lines = model(result, dtype, self._symbols(x), tuple(layer.weight_shapes()))
            self.execute([*lines, *self._session()])
        except Unsupported:
            return True
        except (refusals.NotImplemented, refusals.InvalidGraph):
            return False
        return not (isinstance(layer, MinPool) and "int" in dtype)

    def native(self, layer: Layer, x: Tensor) -> Call:  # noqa: C901, PLR0911 - a table of the layer types
        """Return the operator that computes a layer."""

        def operator(name: str, *args: Any, **more: int) -> Call:
            assert isinstance(layer, Windowed)
            lists = {"kernel_shape": layer.window, "strides": layer.stride}
            given = {k: list(v) for k, v in (lists | {"dilations": layer.dilation}).items()}
            if isinstance(layer.padding, str):
                padding = {"auto_pad": AUTO_PAD.get(layer.padding, layer.padding)}
                return call(name, *args, **given, **padding, **more)
            return call(name, *args, **given, pads=begins_then_ends(layer.padding), **more)

        bias = [BIAS] if getattr(layer, "bias", False) else []
        match layer:
            case MaxPool(ceil_mode=ceil):
                return operator("MaxPool", x, ceil_mode=int(ceil))
            case AveragePool(ceil_mode=ceil, count_include_pad=counts):
                at = {"ceil_mode": int(ceil), "count_include_pad": int(counts)}
                return operator("AveragePool", x, **at)
            case LpPool(ceil_mode=ceil, p=p):
                return operator("LpPool", x, ceil_mode=int(ceil), p=p)
            case Global():
                return call("Flatten", call(type(layer).__name__, x), axis=1)
            case Conv(padding=str(), dilation=dilation) if max(dilation) > 1:
                raise Unsupported("ONNX Runtime's Conv takes auto_pad or dilations, and not both")
            case Conv():
                return operator("Conv", x, WEIGHT, *bias, group=layer.groups)
            case Dense() if len(x.shape) == 2:
                return call("Gemm", x, WEIGHT, *bias, transB=1)
            case Dense():
                product = call("MatMul", x, call("Transpose", WEIGHT, perm=[1, 0]))
                return call("Add", product, BIAS) if layer.bias else product
            case ReLU():
                return call("Relu", x)
            case Flatten(start=1):
                return call("Flatten", x, axis=1)
        raise Unsupported(f"ONNX has no operator for {layer}")

    def tensor(self, name: str, array: Array) -> str:
        """Return the array in C order."""
        return f"np.ascontiguousarray({name})"

    def define(
        self,
        layer: Layer,
        x: Tensor,
        *,
        held: bool = True,
        dtypes: Mapping[str, np.dtype[Any]] | None = None,
    ) -> Definition:
        """Return the model with symbolic dims, and its session; not ``held``, the model alone."""
        del dtypes  # a model's initializers have their own
        result, _ = self.result(layer, x)
        if not held:
            return Definition(model(result, x.dtype, ", ".join(map(str, x.shape))), "", (), {})
        lines = model(result, x.dtype, self._symbols(x))
        if layer.has_weights:
            tensor = "numpy_helper.from_array(np.ascontiguousarray(array), name)"
            lines += [
                "for name, array in weights.items():",
                f"    model.graph.initializer.append({tensor})",
            ]
        run = 'run = lambda x: session.run(None, {"x": x})[0]'
        return Definition([*lines, *self._session(), run], "run", (), {})

    def stated(self, layer: Layer, made: Definition) -> list[str]:
        """Return what ONNX's shape inference says; weights have dims, and no data."""
        held = []
        if layer.has_weights:
            sizes = {n: list(size) for n, size in self.axes.native_shapes(layer).items()}
            tensor = "onnx.TensorProto(name=name, dims=dims, data_type=onnx.TensorProto.FLOAT)"
            held = [
                f"for name, dims in {sizes}.items():",
                f"    model.graph.initializer.append({tensor})",
            ]
        return [
            *made.lines,
            *held,
            "infer = onnx.shape_inference.infer_shapes",
            "(y,) = infer(model, strict_mode=True, data_prop=True).graph.output",
            "shape = tuple(size.dim_value for size in y.type.tensor_type.shape.dim)",
        ]

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

    @staticmethod
    def _symbols(x: Tensor) -> str:
        return ", ".join(f"d{axis}" for axis in range(len(x.shape)))
