"""ONNX Runtime: one ONNX model per layer, written in the textual form of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
from onnx import numpy_helper
from onnxruntime.capi import (  # type: ignore[import-untyped]  # likewise
    onnxruntime_pybind11_state as refusals,  # pyright: ignore[reportAttributeAccessIssue]  # in C++
)

from cnnformance.adapters.backend import Array, Backend, Composed, Unsupported, Weights
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
    Shape,
    StochasticPool,
    Windowed,
    weight_shapes,
)

# The first operator set whose shape inference drops a last window that starts in the padding.
HEADER = '<ir_version: 10, opset_import: ["" : 22]>'
TYPES = {"float32": "float", "float64": "double"}
"""The names of dtypes in the textual form, where they differ from NumPy's."""

AUTO_PAD = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER"}

NOTES: Mapping[type[Layer], str] = {
    MinPool: "Neg, MaxPool, Neg",
    StochasticPool: "AveragePool of the squares, divided by AveragePool",
}
"""The compositions."""


IMPORTS = """\
import onnx.parser
import onnx.shape_inference
import onnxruntime
from onnx import numpy_helper

print("ONNX Runtime", onnxruntime.__version__, "ONNX", onnx.__version__)
"""


def attributes(layer: Windowed, **more: int) -> str:
    """Return the attributes of ONNX's pooling and convolution, and more of an operator's own."""
    given: dict[str, Any] = {
        "kernel_shape": list(layer.window),
        "strides": list(layer.stride),
        "dilations": list(layer.dilation),
    }
    if isinstance(layer.padding, str):
        given["auto_pad"] = f'"{AUTO_PAD.get(layer.padding, layer.padding)}"'
    else:
        given["pads"] = [before for before, _ in layer.padding]
        given["pads"] += [after for _, after in layer.padding]
    given |= {name: int(value) for name, value in more.items()}
    return "<" + ", ".join(f"{name} = {value}" for name, value in given.items()) + ">"


def nodes(layer: Layer, ndim: int) -> str:  # noqa: C901, PLR0911, PLR0912 - a table, one case per layer
    """Return the nodes that compute ``y`` from an ``x`` of ``ndim`` axes.

    Raises:
        Unsupported: ONNX has no such operator.
    """
    inputs = ", ".join(["x", *weight_shapes(layer)])
    match layer:
        case MaxPool():
            return f"y = MaxPool {attributes(layer, ceil_mode=layer.ceil_mode)} (x)"
        case MinPool():
            at = attributes(layer, ceil_mode=layer.ceil_mode)
            return f"negated = Neg (x)  pooled = MaxPool {at} (negated)  y = Neg (pooled)"
        case AveragePool(ceil_mode=ceil, count_include_pad=include):
            at = attributes(layer, ceil_mode=ceil, count_include_pad=include)
            return f"y = AveragePool {at} (x)"
        case LpPool():
            return f"y = LpPool {attributes(layer, ceil_mode=layer.ceil_mode, p=layer.p)} (x)"
        case StochasticPool(training=False):
            at = attributes(layer)
            return f"""none = Constant <value_float = 0.0> ()  zero = CastLike (none, x)
  squares = Mul (x, x)  over = AveragePool {at} (squares)  under = AveragePool {at} (x)
  share = Div (over, under)  empty = Equal (under, zero)  y = Where (empty, zero, share)"""
        case GlobalAveragePool():
            return "pooled = GlobalAveragePool (x)  y = Flatten <axis = 1> (pooled)"
        case GlobalMaxPool():
            return "pooled = GlobalMaxPool (x)  y = Flatten <axis = 1> (pooled)"
        case Conv(padding=str(), dilation=dilation) if max(dilation) > 1:
            raise Unsupported("ONNX Runtime's Conv takes auto_pad or dilations, and not both")
        case Conv():
            return f"y = Conv {attributes(layer, group=layer.groups)} ({inputs})"
        case Dense() if ndim == 2:
            return f"y = Gemm <transB = 1> ({inputs})"
        case Dense():
            product = "rows = Transpose <perm = [1, 0]> (weight)  {} = MatMul (x, rows)"
            added = "  y = Add (product, bias)" if layer.bias else ""
            return product.format("product" if layer.bias else "y") + added
        case ReLU():
            return "y = Relu (x)"
        case Flatten(start=1):
            return "y = Flatten <axis = 1> (x)"
    raise Unsupported(f"ONNX has no operator for {layer}")


def in_onnx(layer: Layer, weights: Weights) -> dict[str, Array]:
    """Return the weights in the axes of ONNX: a kernel is ``(out, in // groups, *window)``."""
    kernel_first = isinstance(layer, Conv)
    return {
        name: np.moveaxis(array, (-1, -2), (0, 1)) if kernel_first and array.ndim > 1 else array
        for name, array in weights.items()
    }


def dims_of(layer: Layer) -> list[onnx.TensorProto]:
    """Return the weights as ONNX tensors with dims and without data: no size is too large."""
    hollow = {name: np.broadcast_to(0, shape) for name, shape in weight_shapes(layer).items()}
    return [
        onnx.TensorProto(name=name, dims=array.shape, data_type=onnx.TensorProto.FLOAT)
        for name, array in in_onnx(layer, hollow).items()
    ]


def model(
    layer: Layer, dtype: str, dims: Sequence[int | str], inputs: Sequence[str] = ()
) -> onnx.ModelProto:
    """Return the model, without its weights or with them as further ``inputs``."""
    kind = TYPES.get(dtype, dtype)
    given = ", ".join(
        [f"{kind}[{', '.join(map(str, dims))}] x", *(f"{kind}[] {i}" for i in inputs)]
    )
    return onnx.parser.parse_model(
        f"{HEADER} layer ({given}) => ({kind}[] y) {{ {nodes(layer, len(dims))} }}"
    )


class OnnxRuntime(Backend):
    """ONNX Runtime, on a model with symbolic dims.

    A dense layer is ``Gemm`` for inputs of 2 axes, as ``Gemm`` has no others, and else ``MatMul``
    and ``Add``. Global pooling is followed by ``Flatten``. Operators take their weights as inputs:
    a count would be that of the initialisers that they are given.

    Modes:
        disabled: without graph optimisations.
    """

    layout = "channels_first"
    dtypes = ("float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64")
    modes = ("disabled",)

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Choose the execution provider of the device."""
        super().__init__(mode, device)
        self._provider = f"{device.upper()}ExecutionProvider"
        if self._provider not in onnxruntime.get_available_providers():
            raise Unsupported(f"this ONNX Runtime has no {self._provider}")

    def version(self) -> str:
        """Return the version of ONNX Runtime."""
        return str(onnxruntime.__version__)

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Ask ONNX Runtime to load the layer. The smallest integer has no negative, for MinPool."""
        if dtype == "float32" or dtype not in self.dtypes:
            return dtype in self.dtypes
        dims = [f"d{axis}" for axis in range(getattr(layer, "rank", 0) + 2)]
        try:
            self._session(model(layer, dtype, dims, inputs=list(weight_shapes(layer))))
        except Unsupported:
            return True
        except (refusals.NotImplemented, refusals.InvalidGraph):
            return False
        return not (isinstance(layer, MinPool) and "int" in dtype)

    def from_numpy(self, array: Array) -> Array:
        """Return the array in C order."""
        return np.ascontiguousarray(array)

    def _session(self, made: onnx.ModelProto) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if self.mode == "disabled":
            level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        data = made.SerializeToString()
        return onnxruntime.InferenceSession(data, options, providers=[self._provider])

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        """Return the layer's session, made at the first call for a dtype and number of axes."""
        nodes(layer, 2)
        tensors = [
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in in_onnx(layer, weights).items()
        ]

        @cache
        def session(dtype: str, ndim: int) -> Any:
            made = model(layer, dtype, [f"d{axis}" for axis in range(ndim)])
            made.graph.initializer.extend(tensors)
            return self._session(made)

        def call(x: Array) -> Any:
            return session(x.dtype.name, x.ndim).run(None, {"x": x})[0]

        note = NOTES.get(type(layer))
        return Composed(call, note) if note else call

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """Return what ONNX's shape inference says."""
        made = model(layer, "float32", shape)
        made.graph.initializer.extend(dims_of(layer))
        inferred = onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
        (y,) = inferred.graph.output
        return tuple(size.dim_value for size in y.type.tensor_type.shape.dim)

    def script(self, layer: Layer, x: Array) -> str:
        """Return the model's text and a session."""
        kind = TYPES.get(x.dtype.name, x.dtype.name)
        dims = ", ".join(f"d{axis}" for axis in range(x.ndim))
        held = ""
        if layer.has_weights:
            moved = "np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim > 1 else array"
            array = moved if isinstance(layer, Conv) else "array"
            held = f"""for name, array in weights.items():
    array = np.ascontiguousarray({array})
    model.graph.initializer.append(numpy_helper.from_array(array, name))
"""
        level = "options.graph_optimization_level = "
        level += "onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL\n"
        return f"""{IMPORTS}
model = onnx.parser.parse_model('''{HEADER}
layer ({kind}[{dims}] x) => ({kind}[] y) {{
  {nodes(layer, x.ndim)}
}}''')
{held}options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
{level if self.mode == "disabled" else ""}session = onnxruntime.InferenceSession(
    model.SerializeToString(), options, providers=[{self._provider!r}]
)
(y,) = session.run(None, {{"x": np.ascontiguousarray(x)}})
"""

    def shape_script(self, layer: Layer, shape: Shape) -> str:
        """Return the model's text, and ONNX's shape inference."""
        dims = ", ".join(map(str, shape))
        sizes = {tensor.name: list(tensor.dims) for tensor in dims_of(layer)}
        held = f"""for name, dims in {sizes}.items():
    tensor = onnx.TensorProto(name=name, dims=dims, data_type=onnx.TensorProto.FLOAT)
    model.graph.initializer.append(tensor)
"""
        return f"""{IMPORTS}
model = onnx.parser.parse_model('''{HEADER}
layer (float[{dims}] x) => (float[] y) {{
  {nodes(layer, len(shape))}
}}''')
{held if sizes else ""}infer = onnx.shape_inference.infer_shapes
(y,) = infer(model, strict_mode=True, data_prop=True).graph.output
shape = tuple(size.dim_value for size in y.type.tensor_type.shape.dim)
"""
