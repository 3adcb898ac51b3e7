"""PyTorch: the modules of ``torch.nn``."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import nn

from cnnformance.adapters.backend import Array, Backend, Composed, Unsupported, Weights
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
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
    Shape,
    StochasticPool,
    Windowed,
    weight_shapes,
)


def to_tensor(array: Array) -> torch.Tensor:
    """Return the array as a tensor, sharing its memory where PyTorch can."""
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_array(tensor: torch.Tensor) -> Array:
    """Return the tensor as an array, sharing its memory where it is on the CPU."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view("bfloat16")
    return tensor.numpy()


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor of an image or a kernel with its channels last in memory."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if tensor.ndim not in formats:
        return tensor
    return tensor.contiguous(memory_format=formats[tensor.ndim])


def stored(name: str, array: Array) -> Array:
    """Return a copy of a canonical weight as PyTorch stores it: a kernel's channels first."""
    kernel = name == "weight" and array.ndim > 2
    return np.array(np.moveaxis(array, (-1, -2), (0, 1)) if kernel else array, order="C")


def canonical(name: str, array: Array) -> Array:
    """Return the canonical weight of one that PyTorch stores."""
    kernel = name == "weight" and array.ndim > 2
    return np.moveaxis(array, (0, 1), (-1, -2)) if kernel else array


class Pad(nn.Module):
    """Adds the padding that the poolings and convolutions of ``torch.nn`` lack."""

    def __init__(self, padding: Any, extent: Any, stride: Any, lowest: bool = False) -> None:
        """Pad with 0, or the lowest number, by explicit pairs or as the words ask."""
        super().__init__()
        self.padding, self.extent, self.stride, self.lowest = padding, extent, stride, lowest

    def pairs(self, spatial: Any) -> Any:
        """Return (before, after) for each axis."""
        if not isinstance(self.padding, str):
            return self.padding
        axes = zip(spatial, self.extent, self.stride, strict=True)
        totals = [max((-(-n // s) - 1) * s + e - n, 0) for n, e, s in axes]
        halves = [(total // 2, total - total // 2) for total in totals]
        return halves if self.padding == "same" else [half[::-1] for half in halves]

    def forward(self, x: Any) -> Any:
        """Return ``x`` within its padding."""
        lowest = -torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        flat = [cells for pair in reversed(self.pairs(x.shape[2:])) for cells in pair]
        return nn.functional.pad(x, flat, value=lowest if self.lowest else 0)


class UnpaddedMean(Pad):
    """The mean of the cells that lie in the input: the sum of each window over their number."""

    def total(self, x: Any) -> Any:
        """Average with a divisor of 1, which only the ranks 2 and 3 can."""
        average = nn.functional.avg_pool3d if x.ndim == 5 else nn.functional.avg_pool2d
        unit = (1,) * (x.ndim == 3)
        x = super().forward(x).unflatten(1, (-1, *unit))
        x = average(x, (*unit, *self.extent), (*unit, *self.stride), divisor_override=1)
        return x.squeeze(2) if unit else x

    def forward(self, x: Any) -> Any:
        """Return the means."""
        return self.total(x) / self.total(torch.ones_like(x[:1, :1]))


class Reverse(nn.Module):
    """Reverses the order of numbers: ``-x``, or ``~x`` where ``-x`` could overflow."""

    def forward(self, x: Any) -> Any:
        """Return the reversed numbers."""
        return -x if x.is_floating_point() else ~x


class StochasticPooling(nn.Module):
    """Draws a cell of each window, or averages the cells, by their share in the window's sum."""

    def __init__(self, window: Any, stride: Any, draw: bool) -> None:
        """Draw, or average, over windows of this size and stride."""
        super().__init__()
        self.window, self.stride, self.draw = window, stride, draw

    def forward(self, x: Any) -> Any:
        """Return one number for each window, 0 for a window of zeros."""
        for axis, (size, step) in enumerate(zip(self.window, self.stride, strict=True), 2):
            x = x.unfold(axis, size, step)
        cells = x.flatten(-len(self.window))
        total = cells.sum(-1, keepdim=True)
        share = torch.where(total == 0, 1 / cells.shape[-1], cells / total)
        if not self.draw:
            return (cells * share).sum(-1)
        drawn = torch.multinomial(share.flatten(0, -2), 1).view(total.shape)
        return cells.gather(-1, drawn).squeeze(-1)


class Step:
    """A module still to be made, or to be written down."""

    def __init__(self, kind: type[nn.Module], *args: Any, **options: Any) -> None:
        """Keep the class and its arguments."""
        self.kind, self.args, self.options = kind, args, options

    def make(self) -> nn.Module:
        """Return the module."""
        return self.kind(*self.args, **self.options)

    @property
    def ours(self) -> bool:
        """Whether the class is of this file."""
        return self.kind.__module__ == __name__

    def __str__(self) -> str:
        options = [f"{name}={value!r}" for name, value in self.options.items()]
        given = ", ".join([*map(repr, self.args), *options])
        return f"{'' if self.ours else 'nn.'}{self.kind.__name__}({given})"


def pad(layer: Windowed, *, lowest: bool = False) -> Step:
    """Return the step that pads, before a layer without padding."""
    rounds_up = getattr(layer, "ceil_mode", False)
    if not isinstance(layer.padding, str) and (rounds_up or min(map(min, layer.padding)) < 0):
        raise Unsupported(f"PyTorch cannot round up, or crop, with padding {layer.padding}")
    return Step(Pad, layer.padding, layer.extent, layer.stride, lowest)


def divide(layer: Windowed, *, lowest: bool = False) -> tuple[list[Step], Shape | str]:
    """Return the padding as a step of its own, if it must be one, and as ``torch.nn`` takes it.

    That is one number for both sides of an axis, in poolings at most half of the window, or
    ``"same"`` in convolutions of stride 1.
    """
    pools = not isinstance(layer, Conv)
    if isinstance(layer.padding, str):
        if layer.padding == "same" and not pools and all(s == 1 for s in layer.stride):
            return [], "same"
    else:
        sides = zip(layer.padding, layer.window, strict=True)
        if all(a == b and not (pools and 2 * a > w) for (a, b), w in sides):
            return [], tuple(a for a, _ in layer.padding)
    return [pad(layer, lowest=lowest)], (0,) * layer.rank


def steps(layer: Layer) -> list[Step]:  # noqa: C901, PLR0911, PLR0912 - a table of the layer types
    """Return the modules that run one after the other; one alone, where ``torch.nn`` has it.

    Raises:
        Unsupported: PyTorch cannot express the layer.
    """

    def of(name: str, *args: Any, **options: Any) -> Step:
        return Step(getattr(nn, f"{name}{layer.rank}d"), *args, **options)  # type: ignore[attr-defined]

    match layer:
        case MaxPool(window, stride, _, dilation, ceil_mode):
            before, padding = divide(layer, lowest=True)
            return [*before, of("MaxPool", window, stride, padding, dilation, ceil_mode=ceil_mode)]
        case MinPool():
            pooling = steps(MaxPool.unchecked(**vars(layer)))
            return [Step(Reverse), *pooling, Step(Reverse)]
        case AveragePool() | LpPool() | StochasticPool() if any(d != 1 for d in layer.dilation):
            raise Unsupported(f"PyTorch has no dilation in {type(layer).__name__}")
        case AveragePool(window, stride, _, _, ceil_mode, counts):
            before, padding = divide(layer)
            if before and not counts:
                return [Step(UnpaddedMean, *before[0].args)]
            return [*before, of("AvgPool", window, stride, padding, ceil_mode, counts)]
        case LpPool(window, stride, _, _, ceil_mode, p):
            before = [] if layer.unpadded else [pad(layer)]
            size = window if layer.rank > 1 else window[0]  # LPPool1d multiplies by it
            return [*before, of("LPPool", p, size, stride, ceil_mode)]
        case StochasticPool(window, stride, training=training):
            before = [] if layer.unpadded else [pad(layer)]
            return [*before, Step(StochasticPooling, window, stride, training)]
        case GlobalAveragePool():
            return [of("AdaptiveAvgPool", 1), Step(nn.Flatten)]
        case GlobalMaxPool():
            return [of("AdaptiveMaxPool", 1), Step(nn.Flatten)]
        case AdaptiveAveragePool(output):
            return [of("AdaptiveAvgPool", output)]
        case AdaptiveMaxPool(output):
            return [of("AdaptiveMaxPool", output)]
        case Conv(window, stride, _, dilation, inputs, outputs, groups, bias):
            before, padding = divide(layer)
            options = (stride, padding, dilation, groups, bias)
            return [*before, of("Conv", inputs, outputs, window, *options)]
        case ReLU():
            return [Step(nn.ReLU)]
        case Flatten(start):
            return [Step(nn.Flatten, start)]
        case Dense(inputs, outputs, bias):
            return [Step(nn.Linear, inputs, outputs, bias)]
    raise Unsupported(f"PyTorch has nothing for {type(layer).__name__}")


def module(layer: Layer) -> nn.Module:
    """Return the layer's modules as one, whose weights have shapes and no memory."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is nothing to initialise in an empty weight
        made = [step.make() for step in steps(layer)]
    return made[0] if len(made) == 1 else nn.Sequential(*made)


IMPORTS = """\
import torch
from torch import nn

print("PyTorch", torch.__version__)
torch.set_num_threads(1)
"""

BACKWARD = """\
t = {x}.requires_grad_()
found = torch.autograd.grad(run(t), [t, *model.parameters()], {upstream})
names = ["input", *(name.rpartition(".")[2] for name, _ in model.named_parameters())]
gradients = {{name: {array} for name, g in zip(names, found)}}
"""


def tensor_of(name: str, array: Array) -> str:
    """Return the expression that makes the array of this name a tensor, as ``to_tensor`` does."""
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        name = f"{name}.copy()"
    if array.dtype.name == "bfloat16":
        return f"torch.from_numpy({name}.view(np.int16)).view(torch.bfloat16)"
    return f"torch.from_numpy({name})"


def array_of(name: str, dtype: str) -> str:
    """Return the expression that makes the tensor of this name an array, as ``to_array`` does."""
    if dtype == "bfloat16":
        return f"{name}.view(torch.int16).numpy().view(ml_dtypes.bfloat16)"
    return f"{name}.numpy()"


def shown(step: Step, spatial: Shape, dtype: str) -> str:
    """Return a step as PyTorch's own module; one that pads, for maps of these sizes."""
    if step.kind is not Pad:
        return str(step)
    made = Pad(*step.args)
    flat = tuple(cells for pair in reversed(made.pairs(spatial)) for cells in pair)
    lowest: Any = "-torch.inf" if "float" in dtype else np.iinfo(dtype).min
    return f"nn.ConstantPad{len(spatial)}d({flat}, {lowest if made.lowest else 0})"


FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8")


class Torch(Backend):
    """PyTorch, eager and on one thread by default.

    Modes:
        compile: the module inside ``torch.compile``.
        channels_last: input and weights in the memory format ``channels_last``.
    """

    layout = "channels_first"
    dtypes = (*FLOATS, *INTEGERS)
    modes = ("compile", "channels_last")

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Set PyTorch to one thread, to full precision, and to compile as often as asked."""
        super().__init__(mode, device)
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise Unsupported(f"PyTorch has no device {device!r}: {error}") from error
        torch.set_num_threads(1)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        if mode == "compile":  # beyond its limits, PyTorch would fall back to the eager mode
            config = import_module("torch._dynamo").config
            config.cache_size_limit = config.accumulated_cache_size_limit = 1 << 30

    def version(self) -> str:
        """Return PyTorch's version."""
        return torch.__version__

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Answer from trials of every layer and dtype on release 2.13."""
        on_cpu = self.device == "cpu"
        match layer:
            case ReLU() | Flatten():
                return dtype in self.dtypes
            case MaxPool() | MinPool() if on_cpu and layer.rank > 1:
                return dtype in self.dtypes
            case AveragePool() | LpPool() if on_cpu and layer.rank == 3:
                return dtype in ("float32", "float64")
        return dtype in FLOATS

    def from_numpy(self, array: Array) -> torch.Tensor:
        """Return the tensor on the device, in the mode's memory format."""
        tensor = to_tensor(array).to(self.device)
        return channels_last(tensor) if self.mode == "channels_last" else tensor

    def to_numpy(self, tensor: torch.Tensor) -> Array:
        """Return the array."""
        return to_array(tensor)

    def _module(self, layer: Layer, weights: Weights) -> nn.Module:
        held = {name: self.from_numpy(stored(name, array)) for name, array in weights.items()}
        made = module(layer)
        names = {name: held[name.rpartition(".")[2]] for name in made.state_dict()}
        made.load_state_dict(names, assign=True)
        return made

    def _run(self, made: nn.Module) -> Callable[[Any], Any]:
        if self.mode == "compile":
            return torch.compile(made, dynamic=False, fullgraph=True)
        return made

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        """Return the module, or ``Composed`` of several."""
        run = self._run(self._module(layer, weights).requires_grad_(requires_grad=False))
        called = steps(layer)
        if len(called) == 1 and not called[0].ours:
            return run
        return Composed(run, ", then ".join(step.kind.__name__ for step in called))

    def seed(self, seed: int) -> None:
        """Seed PyTorch's default generators."""
        torch.manual_seed(seed)

    def parameters(self, layer: Layer) -> int:
        """Count the parameters of the module, made without memory."""
        return sum(parameter.numel() for parameter in module(layer).parameters())

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """Run the module on tensors without memory."""
        return tuple(module(layer)(torch.empty(shape, device="meta")).shape)

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Return what automatic differentiation finds."""
        made = self._module(layer, weights)
        held = {"input": self.from_numpy(x).requires_grad_()}
        held |= {name.rpartition(".")[2]: weight for name, weight in made.named_parameters()}
        y = self._run(made)(held["input"])
        found = torch.autograd.grad(y, list(held.values()), self.from_numpy(upstream))
        return {
            name: canonical(name, to_array(gradient))
            for name, gradient in zip(held, found, strict=True)
        }

    def script(self, layer: Layer, x: Array) -> str:
        """Return the layer's modules and their call."""
        y = f"run({self._tensor('x', x)})"
        array = array_of(y if self.device == "cpu" else f"{y}.cpu()", x.dtype.name)
        return self._script(layer, x, f"with torch.no_grad():\n    y = {array}\n")

    def gradient_script(self, layer: Layer, x: Array, upstream: Array) -> str:
        """Return the layer's modules, and their backward pass."""
        backward = BACKWARD.format(
            x=self._tensor("x", x),
            upstream=self._tensor("upstream", upstream),
            array=array_of("g" if self.device == "cpu" else "g.cpu()", x.dtype.name),
        )
        if isinstance(layer, Conv):
            moved = 'np.moveaxis(gradients["weight"], (0, 1), (-1, -2))'
            backward += f'gradients["weight"] = {moved}\n'
        return self._script(layer, x, backward)

    def count_script(self, layer: Layer) -> str:
        """Return the layer's module, and the sum of the sizes of its parameters."""
        made = ", ".join(str(step) for step in steps(layer) if not step.ours)
        count = "count = sum(parameter.numel() for parameter in model.parameters())\n"
        return f'{IMPORTS}with torch.device("meta"):\n    model = nn.Sequential({made})\n{count}'

    def shape_script(self, layer: Layer, shape: Shape) -> str:
        """Return the layer's module, and its call on a tensor without memory."""
        made = ", ".join(shown(step, shape[2:], "float32") for step in self._native(layer))
        call = 'shape = tuple(model(torch.empty(shape, device="meta")).shape)\n'
        return f'{IMPORTS}with torch.device("meta"):\n    model = nn.Sequential({made})\n{call}'

    def _native(self, layer: Layer) -> list[Step]:
        """Return the steps of a layer, if each of them can be shown as a module of PyTorch."""
        called = steps(layer)
        if any(step.ours and step.kind is not Pad for step in called):
            raise Unsupported("PyTorch has no modules that could be shown alone")
        return called

    def _tensor(self, name: str, array: Array) -> str:
        """Return the expression for ``from_numpy`` of the array of this name."""
        tensor = tensor_of(name, array)
        if self.device != "cpu":
            tensor += f".to({self.device!r})"
        if self.mode == "channels_last" and array.ndim in (4, 5):
            suffix = "" if array.ndim == 4 else "_3d"
            tensor += f".contiguous(memory_format=torch.channels_last{suffix})"
        return tensor

    def _script(self, layer: Layer, x: Array, call: str) -> str:
        called, dtype = steps(layer), x.dtype.name
        reversed_ = called[0].kind is Reverse
        called = called[1:-1] if reversed_ else called
        ours = dict.fromkeys(
            kind
            for step in called
            if step.ours and step.kind is not Pad
            for kind in reversed(step.kind.__mro__)
            if kind.__module__ == __name__
        )
        lines = ["from typing import Any\n\n"] if ours else []
        lines = [IMPORTS, *lines, *(inspect.getsource(kind) + "\n" for kind in ours)]
        made = [str(s) if s.kind in ours else shown(s, x.shape[2:], dtype) for s in called]
        whole = made[0] if len(made) == 1 else f"nn.Sequential({', '.join(made)})"
        lines.append(f"model = {whole}")
        last = "model" if len(made) == 1 else "model[-1]"
        for name, size in weight_shapes(layer).items():
            kernel = name == "weight" and isinstance(layer, Conv)
            weight = f"weights[{name!r}]"
            if kernel:
                weight = f"np.moveaxis({weight}, (-1, -2), (0, 1)).copy()"
            order = [len(size) - 1, len(size) - 2, *range(len(size) - 2)] if kernel else None
            held = np.empty(size, x.dtype).transpose(order)
            lines.append(f"{last}.{name} = nn.Parameter({self._tensor(weight, held.copy())})")
        run = "lambda t: -model(-t)" if "float" in dtype else "lambda t: ~model(~t)"
        run = run if reversed_ else "model"
        if self.mode == "compile":
            run = f"torch.compile({run}, dynamic=False, fullgraph=True)"
        if run == "model":
            return "\n".join([*lines, call.replace("run(", "model(")])
        return "\n".join([*lines, f"run = {run}", call])
