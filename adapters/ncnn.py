"""ncnn: one network per layer, in its textual form; it has no batch, and is called per sample."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import math

import ncnn

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Program, Tensor, call
from cnnformance.adapters.compositions import NCNN
from cnnformance.adapters.padding import undilated
from cnnformance.adapters.table import Definition, Held, Table
from cnnformance.spec.layers import (
    Adaptive,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Global,
    GlobalMaxPool,
    Layer,
    MaxPool,
    Pool,
    ReLU,
    Shape,
    Windowed,
)

IMPORTS = """\
import tempfile

import ncnn

SHORT = ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "packing_layout")
"""
BY_RANK = ("1D", "", "3D")
"""How the names of layers end."""
WORDS = {"same": -233, "same_lower": -234}


class Params(Program):
    """Layers of ncnn in its textual form: a kind, an input, and numbered parameters."""

    def text(self, function: str, of: Call) -> str:
        """Return a layer without its name and that of its output."""
        source, params = of.args
        given = (f"{key}={int(value)}" for key, value in params.items())
        return " ".join([function, self.written(source), *given])


class Ncnn(Table):
    """ncnn on the CPU, without short formats of numbers."""

    devices = ("cpu",)
    layout = "channels_first"
    kernel_layout = "oihw"
    dtypes = ("float32",)
    imports = IMPORTS
    printed = 'print("ncnn", ncnn.__version__)'
    compositions = NCNN

    def version(self) -> str:
        """Return ncnn's version."""
        return str(ncnn.__version__)

    def native(self, layer: Layer, x: Tensor) -> Call:  # noqa: PLR0911 - a table of the layer types
        """Return the layer of ncnn, with its parameters."""
        ends = BY_RANK[getattr(layer, "rank", 2) - 1]
        if x.dtype != "float32":
            raise Unsupported("ncnn's layers have numbers of 32 bits, and no word for others")
        if isinstance(layer, Pool):
            undilated(layer, "ncnn")
        match layer:
            case MaxPool() | AveragePool():
                average = isinstance(layer, AveragePool)
                params = {0: average, **windows(layer, 2, 3, 14), 5: pad_mode(layer)}
                params |= {6: layer.count_include_pad} if isinstance(layer, AveragePool) else {}
                return call(f"Pooling{ends}", x, params)
            case Global():
                return call(f"Pooling{ends}", x, {0: not isinstance(layer, GlobalMaxPool), 4: 1})
            case Adaptive(output):
                kind = not isinstance(layer, AdaptiveMaxPool)
                return call(f"Pooling{ends}", x, {0: kind, 7: 1, **numbered(8, output)})
            case Conv(groups=groups):
                params = {0: layer.out_channels, **windows(layer, 3, 4, 15)}
                params |= numbered(2, layer.dilation) | {5: layer.bias, 6: size(layer)}
                grouped = ("DepthWise", {7: groups}) if groups > 1 else ("", {})
                return call(f"Convolution{grouped[0]}{ends}", x, params | grouped[1])
            case Dense(_, outputs, bias) if len(x.shape) < 4:
                return call("InnerProduct", x, {0: outputs, 1: bias, 2: size(layer)})
            case ReLU():
                return call("ReLU", x, {})
            case Flatten(start=1):
                return call("Flatten", x, {})
        raise Unsupported(f"ncnn has no layer for {layer}")

    def tensor(self, name: str, array: Array) -> str:
        """Return the array in C order."""
        return f"np.ascontiguousarray({name})"

    def define(self, layer: Layer, x: Tensor, *, held: Held = True) -> Definition:
        """Return the network, and the function that runs it for each sample."""
        steps = Params.of(self.result(layer, x)[0]).steps
        lines = ["7767517", f"{len(steps) + 1} {len(steps) + 1}", "Input x 0 1 x"]
        for name, text in steps.items():
            kind, source, *params = text.split()
            lines.append(" ".join([kind, name, "1 1", source, name, *params]))
        tag = 'b"\\0\\0\\0\\0" + ' if layer.has_weights else ""  # of a weight in 32 bits
        return Definition(
            [
                "net = ncnn.Net()",
                "net.opt.num_threads = 1",
                "for name in SHORT:",
                '    setattr(net.opt, f"use_{name}", False)',
                "code = net.load_param_mem('''" + lines[0],
                *lines[1:],
                "''')",
                "with tempfile.NamedTemporaryFile() as file:",
                "    arrays = [np.ascontiguousarray(each).tobytes() for each in weights.values()]",
                f'    file.write({tag}b"".join(arrays))',
                "    file.flush()",
                "    code = code or net.load_model(file.name)",
                "if code:",
                '    raise ValueError("ncnn cannot load the layer")',
                "",
                "def one(sample):",
                "    run, held = net.create_extractor(), np.array(sample)",
                '    run.input("x", ncnn.Mat(held).clone())',
                f'    code, y = run.extract("{list(steps)[-1]}")',
                "    if code:",
                '        raise ValueError(f"ncnn returned {code}")',
                "    return np.array(y)",
                "",
                "run = lambda x: np.stack([one(sample) for sample in x])",
            ],
            "run",
            (),
            {},
        )


def numbered(first: int, sizes: Shape, step: int = 10) -> dict[int, int]:
    """Return sizes by the numbers of their parameters, those of the last axis first."""
    return {first + step * place: n for place, n in enumerate(reversed(sizes))}


def windows(layer: Windowed, stride: int, before: int, after: int) -> dict[int, int]:
    """Return the parameters of windows, by the numbers of the first of each kind."""
    found = numbered(1, layer.window) | numbered(stride, layer.stride)
    if isinstance(layer.padding, str):
        if isinstance(layer, Pool):
            return found
        return found | numbered(before, (WORDS.get(layer.padding, 0),) * layer.rank)
    befores = tuple(pair[0] for pair in layer.padding)
    afters = tuple(pair[1] for pair in layer.padding)
    return found | numbered(before, befores) | numbered(after, afters, 1)


def pad_mode(layer: Pool) -> int:
    """Return ncnn's number of a padding: rounding up, rounding down, or a word."""
    if isinstance(layer.padding, str):
        return 2 if layer.padding == "same" else 3
    return 0 if layer.ceil_mode else 1


def size(layer: Conv | Dense) -> int:
    """Return how many numbers the weight has."""
    return math.prod(layer.weight_shapes()["weight"])
