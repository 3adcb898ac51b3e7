"""What all runtimes of ONNX share: one model per layer, written in the textual form of ONNX."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import replace
from typing import Any

import onnx.parser
import onnx.shape_inference  # noqa: F401 - imported once, before a worker is forked

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Program, Tensor, call
from cnnformance.adapters.compositions import ONNX
from cnnformance.adapters.padding import begins_then_ends
from cnnformance.adapters.table import BIAS, WEIGHT, Definition, Held, Table
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Global,
    Layer,
    LpPool,
    MaxPool,
    ReLU,
    StochasticPool,
    Windowed,
)

NEWEST = (10, 22)
"""The model format, and the first operator set whose shape inference drops a last window that
starts in the padding."""

TYPES = {"float32": "float", "float64": "double"}
"""The names of dtypes in the textual form, where they differ from NumPy's."""

AUTO_PAD = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER"}

SINCE = {
    "AveragePool": {"dilations": 19, "ceil_mode": 10},
    "LpPool": {"dilations": 18, "ceil_mode": 18},
}
"""The operator set from which on a pooling has an attribute, of those that came late."""

CAST_LIKE = 15

PARSE = "import onnx.parser\nimport onnx.shape_inference\nfrom onnx import numpy_helper\n"


class Nodes(Program):
    """Operators of ONNX in its textual form, with options as attributes."""

    def text(self, function: str, of: Call) -> str:
        """Return the text of a node."""
        given = (f"{name} = {json.dumps(value)}" for name, value in of.options.items())
        attributes = f"<{', '.join(given)}> " if of.options else ""
        return f"{function} {attributes}({', '.join(map(self.written, of.args))})"


class OnnxModels(Table):
    """A runtime of ONNX models.

    A dense layer is ``Gemm`` for inputs of 2 axes, as ``Gemm`` has no others, and else ``MatMul``
    and ``Add``. Global pooling is followed by ``Flatten``. Operators take their weights as inputs:
    a count would be that of the initialisers that they are given.

    A mode ``opset11`` writes models of that operator set.

    Class attributes:
        symbolic: whether one model is loaded for all sizes of its input, or one for each.
        newest: the model format and the operator set of the models.
    """

    layout = "channels_first"
    kernel_layout = "oihw"
    compositions = ONNX
    symbolic = True
    newest = NEWEST

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Choose the operator set."""
        super().__init__(mode, device)
        self._format, newest = self.newest
        self._operators = int(mode.removeprefix("opset")) if mode.startswith("opset") else newest

    @abstractmethod
    def loaded(self, x: Tensor) -> list[str]:
        """Return the lines that make ``run``, a function of ``x``, of ``model``."""

    def native(self, layer: Layer, x: Tensor) -> Call:  # noqa: PLR0911 - a table of the layer types
        """Return the operator that computes a layer."""
        bias = [BIAS] if getattr(layer, "bias", False) else []
        match layer:
            case MaxPool(ceil_mode=ceil):
                return self._windowed(layer, "MaxPool", x, ceil_mode=int(ceil))
            case AveragePool(ceil_mode=ceil, count_include_pad=counts):
                at = {"ceil_mode": int(ceil), "count_include_pad": int(counts)}
                return self._windowed(layer, "AveragePool", x, **at)
            case LpPool(ceil_mode=ceil, p=p):
                return self._windowed(layer, "LpPool", x, ceil_mode=int(ceil), p=p)
            case Global():
                return call("Flatten", call(type(layer).__name__, x), axis=1)
            case Conv():
                return self._windowed(layer, "Conv", x, WEIGHT, *bias, group=layer.groups)
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

    def result(self, layer: Layer, x: Tensor) -> tuple[Call, bool]:
        """Return the operator, or the operators of a composition, of this operator set."""
        if isinstance(layer, StochasticPool) and self._operators < CAST_LIKE:
            raise Unsupported(f"ONNX has CastLike from operator set {CAST_LIKE} on")
        return super().result(layer, x)

    def _windowed(self, layer: Windowed, name: str, *args: Any, **more: int) -> Call:
        lists = {"kernel_shape": layer.window, "strides": layer.stride, "dilations": layer.dilation}
        given: dict[str, Any] = {key: list(value) for key, value in lists.items()}
        if isinstance(layer.padding, str):
            given["auto_pad"] = AUTO_PAD.get(layer.padding, layer.padding)
        else:
            given["pads"] = begins_then_ends(layer.padding)
        given |= more
        for key, since in SINCE.get(name, {}).items():
            if since > self._operators and given.pop(key) not in (0, [1] * layer.rank):
                raise Unsupported(f"{name} has {key} from operator set {since} on")
        return call(name, *args, **given)

    def tensor(self, name: str, array: Array) -> str:
        """Return the array in C order."""
        return f"np.ascontiguousarray({name})"

    def define(self, layer: Layer, x: Tensor, *, held: Held = True) -> Definition:
        """Return the model, and the runtime's function of it; not ``held``, the model alone."""
        result, _ = self.result(layer, x)
        sizes = ", ".join(map(str, x.shape))
        if not held:
            return Definition(self.model(result, x.dtype, sizes), "", (), {})
        lines = self.model(result, x.dtype, symbols(x) if self.symbolic else sizes)
        if layer.has_weights:
            tensor = "numpy_helper.from_array(np.ascontiguousarray(array), name)"
            lines += [
                "for name, array in weights.items():",
                f"    model.graph.initializer.append({tensor})",
            ]
        return Definition([*lines, *self.loaded(x)], "run", (), {})

    def model(self, result: Call, kind: str, dims: str, inputs: tuple[str, ...] = ()) -> list[str]:
        """Return the lines of a model, without its weights or with them as further ``inputs``."""
        kind = TYPES.get(kind, kind)
        *before, last = Nodes.of(result).steps.items()
        nodes = [f"  {name} = {text}" for name, text in (*before, ("y", last[1]))]
        given = ", ".join([f"{kind}[{dims}] x", *(f"{kind}[] {name}" for name in inputs)])
        header = f'<ir_version: {self._format}, opset_import: ["" : {self._operators}]>'
        head = f"model = onnx.parser.parse_model('''{header}"
        return [head, f"layer ({given}) => ({kind}[] y) {{", *nodes, "}''')"]

    def load(self, layer: Layer, dtype: str, lines: list[str]) -> None:
        """Run lines after the model of a layer in this dtype, with weights as inputs.

        Raises:
            Unsupported: there is no such model.
        """
        x = replace(self.nominal(layer), dtype=dtype)
        result, _ = self.result(layer, x)
        model = self.model(result, dtype, symbols(x), tuple(layer.weight_shapes()))
        self.execute([*model, *lines])

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


def symbols(x: Tensor) -> str:
    """Return the dims of an input of any size."""
    return ", ".join(f"d{axis}" for axis in range(len(x.shape)))
