"""PyTorch: the modules of ``torch.nn``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Tensor, call
from cnnformance.adapters.compositions import TORCH
from cnnformance.adapters.padding import alike, undilated
from cnnformance.adapters.table import Definition, Held, Table, bits, from_bits
from cnnformance.adapters.torch_conversions import CONVERTED, ONNX_IMPORTS, ONNX_PRINTED, converted
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Layer,
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
    Shape,
    StochasticPool,
    Windowed,
)

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8")


def padding(layer: Windowed) -> Shape | str:
    """Return the padding as ``torch.nn`` takes it.

    That is one number for both sides of an axis, in poolings at most half of the window, or
    ``"same"`` in convolutions of stride 1.
    """
    pools = not isinstance(layer, Conv)
    if layer.padding == "same" and not pools and all(s == 1 for s in layer.stride):
        return "same"
    both = alike(layer, "PyTorch")
    if pools and any(p and 2 * p > w for p, w in zip(both, layer.window, strict=True)):
        raise Unsupported("PyTorch pads a pooling by at most half of its window")
    return both


class Torch(Table):
    """PyTorch, eager and on one thread by default.

    Modes:
        compile: the module inside ``torch.compile``.
        channels_last: input and weights in the memory format ``channels_last``.
        export: the program that ``torch.export`` makes of the module, for the shape of its input.
        onnx: the model that ``torch.onnx`` makes of it, run by ONNX Runtime.
    """

    layout = "channels_first"
    kernel_layout = "oihw"
    dtypes = (*FLOATS, *INTEGERS)
    modes = ("compile", "channels_last", "export", "onnx")
    imports = "import torch\nfrom torch import nn\n\ntorch.set_num_threads(1)"
    printed = 'print("PyTorch", torch.__version__)'
    compositions = TORCH

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Set PyTorch to full precision, and to compile as often as asked."""
        super().__init__(mode, device)
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise Unsupported(f"PyTorch has no device {device!r}: {error}") from error
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        if mode == "onnx":
            if missing := [name for name in ("onnxscript", "onnxruntime") if not find_spec(name)]:
                raise Unsupported(f"the mode onnx needs {missing[0]}, which is not installed")
            self.imports, self.printed = ONNX_IMPORTS, ONNX_PRINTED
        if mode == "compile":  # beyond its limits, PyTorch would fall back to the eager mode
            self.wrapper = "torch.compile({}, dynamic=False, fullgraph=True)"
            config = import_module("torch._dynamo").config
            config.cache_size_limit = config.accumulated_cache_size_limit = 1 << 30

    def version(self) -> str:
        """Return PyTorch's version."""
        return torch.__version__

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Answer from trials of every layer and dtype on release 2.13."""
        if self.mode == "onnx" and dtype != "float32":
            return False  # what ONNX Runtime lacks of the others is told by its own adapter
        match layer:
            case ReLU() | Flatten():
                return dtype in self.dtypes
            case MaxPool() | MinPool() if self.device == "cpu" and layer.rank > 1:
                return dtype in self.dtypes
            case AveragePool() | LpPool() if self.device == "cpu" and layer.rank == 3:
                return dtype in ("float32", "float64")
        return dtype in FLOATS

    def native(self, layer: Layer, x: Tensor) -> Call:  # noqa: C901, PLR0911 - a table of the layer types
        """Return a module of ``torch.nn``, called with ``x``."""

        def module(name: str, *args: Any, **options: Any) -> Call:
            return call(f"nn.{name}{getattr(layer, 'rank', 0)}d", *args, **options)(x)

        if isinstance(layer, AveragePool | LpPool | StochasticPool):
            undilated(layer, "PyTorch")
        match layer:
            case MaxPool(window, stride, _, dilation, ceil_mode):
                return module(
                    "MaxPool", window, stride, padding(layer), dilation, ceil_mode=ceil_mode
                )
            case AveragePool(window, stride, _, _, ceil_mode, counts):
                return module("AvgPool", window, stride, padding(layer), ceil_mode, counts)
            case LpPool(window, stride, _, _, ceil_mode, p) if layer.unpadded:
                size = window if layer.rank > 1 else window[0]  # LPPool1d multiplies by it
                return module("LPPool", p, size, stride, ceil_mode)
            case AdaptiveAveragePool(output):
                return module("AdaptiveAvgPool", output)
            case AdaptiveMaxPool(output) if self.mode == "onnx" and max(output) > 1:
                raise Unsupported("torch.onnx converts no adaptive maximum of many cells")
            case AdaptiveMaxPool(output):
                return module("AdaptiveMaxPool", output)
            case Conv(window, stride, _, dilation, inputs, outputs, groups, bias):
                options = (stride, padding(layer), dilation, groups, bias)
                return module("Conv", inputs, outputs, window, *options, device="meta")
            case ReLU():
                return call("nn.ReLU")(x)
            case Flatten(start):
                return call("nn.Flatten", start)(x)
            case Dense(inputs, outputs, bias):
                return call("nn.Linear", inputs, outputs, bias, device="meta")(x)
        raise Unsupported(f"PyTorch has no module for {type(layer).__name__}")

    def define(self, layer: Layer, x: Tensor, *, held: Held = True) -> Definition:
        """Return the module or, in the modes that convert it, what becomes of it."""
        made = super().define(layer, x, held=held)
        return converted(made, x, CONVERTED[self.mode]) if held and self.mode in CONVERTED else made

    def tensor(self, name: str, array: Array) -> str:
        """Share the array's memory where PyTorch can."""
        if not array.flags.writeable or min(array.strides, default=0) < 0:
            name = f"{name}.copy()"
        tensor = f"torch.from_numpy({bits(name, array.dtype.name)})"
        if array.dtype.name == "bfloat16":
            tensor += ".view(torch.bfloat16)"
        if self.device != "cpu":
            tensor += f".to({self.device!r})"
        if self.mode == "channels_last" and array.ndim in (4, 5):
            suffix = "" if array.ndim == 4 else "_3d"
            tensor += f".contiguous(memory_format=torch.channels_last{suffix})"
        return tensor

    def array(self, name: str, dtype: str) -> str:
        """Share the tensor's memory where it is on the CPU."""
        name = name if self.device == "cpu" else f"{name}.cpu()"
        if dtype == "bfloat16":
            return from_bits(f"{name}.view(torch.int16).numpy()", dtype)
        return f"{name}.numpy()"

    def hold(self, layer: Layer, like: Mapping[str, Array]) -> list[str]:
        """Return the lines that replace the weights without memory, with which it is made."""
        held = (f"{n!r}: {self.tensor(f'weights[{n!r}]', a)}" for n, a in like.items())
        return [
            f"layer.load_state_dict({{{', '.join(held)}}}, assign=True)",
            "layer.requires_grad_(False)",
        ]

    def seed(self, seed: int) -> None:
        """Seed PyTorch's default generators."""
        torch.manual_seed(seed)

    def backward(
        self, layer: Layer, made: Definition, x: str, upstream: str, dtype: str
    ) -> list[str]:
        """Return what automatic differentiation finds."""
        if self.mode == "onnx":
            raise Unsupported("what ONNX Runtime runs has no gradients")
        learned = ", *layer.requires_grad_().parameters()" if layer.has_weights else ""
        return [
            f"held = [{x}.requires_grad_(){learned}]",
            f"found = torch.autograd.grad({made.call('held[0]')}, held, {upstream})",
            f"arrays = [{self.array('gradient', dtype)} for gradient in found]",
            'gradients = dict(zip(["input", *weights], arrays))',
        ]

    def counted(self, layer: Layer, made: Definition) -> list[str]:
        """Count the parameters of the module, which is made without memory."""
        lines = [f"{name} = {text}" for name, text in made.layers.items()]
        layers = ", ".join(made.layers)
        return [*lines, f"count = sum(p.numel() for each in [{layers}] for p in each.parameters())"]

    def stated(self, layer: Layer, made: Definition) -> list[str]:
        """Run the module on a tensor without memory."""
        empty = 'torch.empty(shape, device="meta")'
        return [*made.lines, f"shape = tuple({made.call(empty)}.shape)"]
