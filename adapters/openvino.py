"""OpenVINO: one model per layer, of the operations of ``openvino.opset16``."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import openvino
import openvino.opset16 as ops  # noqa: F401 - imported once, before a worker is forked

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Tensor, call
from cnnformance.adapters.compositions import OPENVINO
from cnnformance.adapters.table import BIAS, WEIGHT, Definition, Held, Table
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    ReLU,
    Shape,
    Windowed,
)

IMPORTS = """\
from functools import lru_cache

import openvino
from openvino import opset16 as ops

core = openvino.Core()
settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
# Each that is kept has threads of its own.
compiled = lru_cache(16)(lambda model: core.compile_model(model, "CPU", settings))
"""
AUTO_PAD = {"same": "same_upper", "same_lower": "same_lower"}
SELECTIONS = (MaxPool, GlobalMaxPool, ReLU, Flatten)


class OpenVino(Table):
    """OpenVINO's plugin for CPUs, on a model for the shape of its input.

    Modes:
        dynamic: on a model for inputs of any size.
    """

    layout = "channels_first"
    kernel_layout = "oihw"
    dtypes = ("float32", "float16", "int8", "uint8", "int32")
    modes = ("dynamic",)
    imports = IMPORTS
    printed = 'print("OpenVINO", openvino.__version__)'
    compositions = OPENVINO

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Find the device."""
        super().__init__(mode, device)
        if device.upper() not in (there := openvino.Core().available_devices):
            raise Unsupported(f"OpenVINO has the devices {there}, and not {device!r}")

    def version(self) -> str:
        """Return OpenVINO's version, without that of its sources."""
        return str(openvino.__version__).partition("-")[0]

    def supports(self, layer: Layer, dtype: str) -> bool:
        """The plugin computes in float32, which holds bytes; it keeps integers of 32 bits."""
        if dtype == "int32":
            return isinstance(layer, Flatten)
        return dtype in self.dtypes and ("float" in dtype or isinstance(layer, SELECTIONS))

    def native(self, layer: Layer, x: Tensor) -> Call:  # noqa: C901, PLR0911 - a table of the layer types
        """Return the operation that computes a layer; of a sum, with its bias added."""
        axes = list(range(2, len(x.shape)))
        match layer:
            case MaxPool(window, stride, _, dilation):
                pads, rest = padding(layer)
                pool = call("ops.max_pool", x, stride, dilation, *pads, window, **rest)
                return call("openvino.Node.output", pool, 0)
            case AveragePool(window, stride, _, dilation, count_include_pad=counts):
                pads, rest = padding(layer)
                rest["dilations"] = dilation
                return call("ops.avg_pool", x, stride, *pads, window, not counts, **rest)
            case GlobalAveragePool():
                return call("ops.reduce_mean", x, axes, keep_dims=False)
            case GlobalMaxPool():
                return call("ops.reduce_max", x, axes, keep_dims=False)
            case AdaptiveAveragePool(output):
                return call("ops.adaptive_avg_pool", x, list(output))
            case AdaptiveMaxPool(output):
                pool = call("ops.adaptive_max_pool", x, list(output), "i32")
                return call("openvino.Node.output", pool, 0)
            case Conv():
                return convolution(layer, x)
            case Dense():
                y = call("ops.matmul", x, WEIGHT, False, True)
                return call("ops.add", y, BIAS) if layer.bias else y
            case ReLU():
                return call("ops.relu", x)
            case Flatten(start=1):
                return call("ops.reshape", x, [0, -1], True)
        raise Unsupported(f"OpenVINO has no operation for {layer}")

    def tensor(self, name: str, array: Array) -> str:
        """Return the array in C order."""
        return f"np.ascontiguousarray({name})"

    def define(self, layer: Layer, x: Tensor, *, held: Held = True) -> Definition:
        """Return the compiled model; not ``held``, the model alone, with weights as inputs."""
        made = super().define(layer, x, held=held)
        shape = [-1] * len(x.shape) if self.mode and held else list(x.shape)
        sizes = self.axes.native_shapes(layer)
        given = [f"ops.constant({name})" for name in sizes]
        if not held:
            given = [f"ops.parameter({list(size)}, np.{x.dtype})" for size in sizes.values()]
        lines = [
            *made.lines,
            f"inputs = [ops.parameter({shape}, np.{x.dtype}), {', '.join(given)}]",
            "model = openvino.Model([run(*inputs)], inputs)",
        ]
        if held:
            lines[-1] = "model = openvino.Model([run(*inputs)], inputs[:1])"
            lines.append("run = lambda x: compiled(model)(x)[0]")
        return Definition(lines, "run", (), {})

    def stated(self, layer: Layer, made: Definition) -> list[str]:
        """Return what the model says of its output."""
        return [*made.lines, "shape = tuple(model.output(0).get_shape())"]


def padding(layer: Windowed) -> tuple[list[Shape], dict[str, Any]]:
    """Return the cells before and after, and the options that say the rest."""
    options: dict[str, Any] = {}
    if not isinstance(layer, Conv):
        options["rounding_type"] = "ceil_torch" if getattr(layer, "ceil_mode", False) else "floor"
    if isinstance(layer.padding, str):
        options["auto_pad"] = AUTO_PAD.get(layer.padding, layer.padding)
        return [(0,) * layer.rank] * 2, options
    return list(zip(*layer.padding, strict=True)), options


def convolution(layer: Conv, x: Tensor) -> Call:
    """Return a convolution; of groups, with the axis that OpenVINO has for them."""
    pads, rest = padding(layer)
    given = (layer.stride, *pads, layer.dilation)
    if layer.groups == 1:
        y = call("ops.convolution", x, WEIGHT, *given, **rest)
    else:
        rows = [layer.groups, layer.out_channels // layer.groups]
        shape = [*rows, layer.in_channels // layer.groups, *layer.window]
        kernel = call("ops.reshape", WEIGHT, shape, False)
        y = call("ops.group_convolution", x, kernel, *given, **rest)
    if not layer.bias:
        return y
    return call("ops.add", y, call("ops.reshape", BIAS, [1, -1, *[1] * layer.rank], False))
