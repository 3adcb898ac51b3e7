"""A backend as a table: of each layer, the calls of the framework that compute it.

The calls print as Python. That source is what runs, what is differentiated and what a script shows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from types import CodeType
from typing import Any, ClassVar

import numpy as np

from cnnformance.adapters.axes import WeightAxes
from cnnformance.adapters.backend import Array, Backend, Composed, Unsupported, Weights
from cnnformance.adapters.calls import Call, Name, Program, Tensor
from cnnformance.spec.layers import Conv, Dense, Flatten, Layer, Shape

Composition = Callable[["Table", Any, Tensor], Call]
"""Makes a layer that the framework lacks of calls that it has."""

WEIGHT, BIAS = Name("weight"), Name("bias")
"""The weights of a layer, as arguments of a function of the framework."""

_PROGRAMS = 64
"""Those of one layer that are kept: one for each input that asks for other calls."""


def bits(name: str, dtype: str) -> str:
    """Return the expression of an array for a framework that knows no bfloat16 of NumPy's."""
    return f"{name}.view(np.int16)" if dtype == "bfloat16" else name


def from_bits(name: str, dtype: str) -> str:
    """Return the expression of an array of this dtype from one of its bits."""
    return f"{name}.view({dtype!r})"


class Table(Backend):
    """A framework whose layers are told as calls, by ``native``; all methods follow.

    Class attributes:
        imports: the lines that import the framework under the names that calls use, and settle
            how it computes. They run in each worker, and begin each script.
        printed: the line of a script that prints the framework's version.
        compositions: what is made of several calls because the framework has no such layer.
        wrapper: what a mode puts around the function that runs, such as ``"jax.jit({})"``.
    """

    imports: str = ""
    printed: str = ""
    compositions: ClassVar[Mapping[type[Layer], Composition]] = {}
    wrapper: str = ""

    @abstractmethod
    def native(self, layer: Layer, x: Tensor) -> Call:
        """Return the call of the framework that computes a layer of ``x``.

        A function takes weights by their names, ``WEIGHT`` and ``BIAS``. A layer that is made
        holds them, as ``hold`` says.

        Raises:
            Unsupported: the framework has no such layer; ``compositions`` may have.
        """

    def tensor(self, name: str, array: Array) -> str:
        """Return the expression that makes the array of this name the framework's tensor.

        It may depend on the dtype, the number of axes and the memory of ``array``.
        """
        return name

    def array(self, name: str, dtype: str) -> str:
        """Return the expression that makes the framework's tensor of this name an array."""
        return f"np.asarray({name})"

    def hold(self, layer: Layer, like: Mapping[str, Array]) -> list[str]:
        """Return the lines that put ``weights``, a dict of arrays, into the layer ``layer``."""
        raise NotImplementedError

    def backward(self, layer: Layer, run: str, x: str, upstream: str, dtype: str) -> list[str]:
        """Return the lines that set ``gradients``, a dict of arrays by name.

        ``run`` is the call of the layer, in which ``{}`` stands for the input; ``x`` and
        ``upstream`` are expressions of tensors.
        """
        raise Unsupported(f"{type(self).__name__} has no gradients")

    def counted(self, layer: Layer, program: Program) -> list[str]:
        """Return the lines that set ``count`` to how many parameters a layer holds."""
        raise Unsupported(f"{type(self).__name__} does not count parameters")

    def stated(self, layer: Layer, run: str, program: Program) -> list[str]:
        """Return the lines that set ``shape`` to the framework's static answer for ``shape``."""
        raise Unsupported(f"{type(self).__name__} has no static shapes")

    def given(self, layer: Layer) -> Mapping[str, Any]:
        """Return names with which a layer is called each time anew, such as a random key."""
        return {}

    # What follows is the same for all frameworks.

    @cached_property
    def _names(self) -> dict[str, Any]:
        names: dict[str, Any] = {"np": np}
        _execute(self.imports, names)
        return names

    @cached_property
    def _axes(self) -> WeightAxes:
        return WeightAxes(self.kernel_layout, self.dense_layout)

    def like(self, tensor: Any) -> Tensor:
        """Return what is known of a tensor of the framework, or of an array."""
        dtype = str(getattr(tensor.dtype, "name", tensor.dtype)).rpartition(".")[2]
        return Tensor(tuple(tensor.shape), dtype, self.layout == "channels_first")

    def result(self, layer: Layer, x: Tensor) -> tuple[Call, bool]:
        """Return the call that computes a layer, and whether it is composed.

        Raises:
            Unsupported: the framework has no such layer, and nothing to compose it of.
        """
        try:
            return self.native(layer, x), False
        except Unsupported:
            if (compose := self.compositions.get(type(layer))) is None:
                raise
        return compose(self, layer, x), True

    def setup(self, layer: Layer, x: Tensor, *, held: bool = True) -> tuple[list[str], str]:
        """Return the lines that define a layer, and its call, in which ``{}`` is the input."""
        program = Program.of(self.result(layer, x)[0])
        arrays = self._weights_like(layer, x.dtype)
        lines = [f"{name} = {text}" for name, text in program.layers.items()]
        parameters = [] if program.layers else [*arrays, *self.given(layer)]
        if held and arrays:
            lines += self.hold(layer, arrays) if program.layers else self._named(arrays)
        run = "layer" if program.alone else "run"
        if not program.alone:
            lines += ["", f"def run({', '.join(['x', *parameters])}):", *program.body(), ""]
        if self.wrapper:
            lines.append(f"run = {self.wrapper.format(run)}")
            run = "run"
        return lines, f"{run}({', '.join(['{}', *parameters])})"

    def _weights_like(self, layer: Layer, dtype: str) -> dict[str, Array]:
        """Return arrays like the weights of a layer, without memory."""
        one = np.zeros((), dtype)
        shapes = self._axes.native_shapes(layer)
        return {name: np.broadcast_to(one, shape) for name, shape in shapes.items()}

    def _named(self, like: Mapping[str, Array]) -> list[str]:
        return [f"{n} = {self.tensor(f'weights[{n!r}]', a)}" for n, a in like.items()]

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        """Return the layer's calls, as ``Composed`` where they are; made at the first input."""
        result, composed = self.result(layer, self._nominal(layer))
        held = {"weights": weights}

        @lru_cache(_PROGRAMS)
        def program(source: str, call: str, _seeds: int) -> tuple[CodeType, dict[str, Any]]:
            names = self._names | held
            _execute(source, names)
            return compile(call.format("x"), "<call>", "eval"), names

        @lru_cache(_PROGRAMS)
        def source(x: Tensor) -> tuple[str, str]:
            lines, call = self.setup(layer, x)
            return "\n".join(lines), call

        def run(x: Any) -> Any:
            code, names = program(*source(self.like(x)), self._seeds if layer.draws else 0)
            return eval(code, names, {"x": x, **self.given(layer)})  # noqa: S307 - our own words

        return Composed(run, ", ".join(Program.of(result).functions)) if composed else run

    _seeds: int = 0
    """How often the random numbers were seeded: what was traced before keeps its seed."""

    def seed(self, seed: int) -> None:
        """Count the seeds."""
        self._seeds += 1

    def from_numpy(self, array: Array) -> Any:
        """Return what the expression of a tensor evaluates to."""
        return _evaluated(self.tensor("array", array), {**self._names, "array": array})

    def to_numpy(self, tensor: Any) -> Array:
        """Return what the expression of an array evaluates to."""
        names = {**self._names, "tensor": tensor}
        found: Array = _evaluated(self.array("tensor", self.like(tensor).dtype), names)
        return found

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Run what ``gradient_script`` shows."""
        names = {**self._names, "weights": weights, "x": x, "upstream": upstream}
        _execute("\n".join(self._differentiated(layer, x, upstream)), names)
        found: dict[str, Array] = names["gradients"]
        return found

    def parameters(self, layer: Layer) -> int:
        """Run what ``count_script`` shows."""
        names = dict(self._names)
        _execute("\n".join(self._counted(layer)), names)
        return int(names["count"])

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """Run what ``shape_script`` shows."""
        names = {**self._names, "shape": shape}
        _execute("\n".join(self._stated(layer, shape)), names)
        found: Shape = names["shape"]
        return found

    def script(self, layer: Layer, x: Array) -> str:
        """Return the layer's calls."""
        lines, call = self.setup(layer, self.like(x))
        y = self.array(call.format(self.tensor("x", x)), x.dtype.name)
        return self._script([*lines, f"y = {y}"])

    def gradient_script(self, layer: Layer, x: Array, upstream: Array) -> str:
        """Return the layer's calls, and their derivative."""
        return self._script(self._differentiated(layer, x, upstream))

    def count_script(self, layer: Layer) -> str:
        """Return how the framework counts the parameters of the layer."""
        return self._script(self._counted(layer))

    def shape_script(self, layer: Layer, shape: Shape) -> str:
        """Return how the framework states the shape."""
        return self._script(self._stated(layer, shape))

    def _script(self, lines: list[str]) -> str:
        return "\n".join([self.imports.rstrip(), self.printed, *lines, ""])

    def _differentiated(self, layer: Layer, x: Array, upstream: Array) -> list[str]:
        lines, call = self.setup(layer, self.like(x))
        x_, upstream_ = self.tensor("x", x), self.tensor("upstream", upstream)
        return [*lines, *self.backward(layer, call, x_, upstream_, x.dtype.name)]

    def _counted(self, layer: Layer) -> list[str]:
        return self.counted(layer, Program.of(self.result(layer, self._nominal(layer))[0]))

    def _stated(self, layer: Layer, shape: Shape) -> list[str]:
        x = Tensor(shape, "float32", self.layout == "channels_first")
        lines, call = self.setup(layer, x, held=False)
        return [*lines, *self.stated(layer, call, Program.of(self.result(layer, x)[0]))]

    def _nominal(self, layer: Layer) -> Tensor:
        """Return an input that a layer could have; of an image, of one cell."""
        first = self.layout == "channels_first"
        match layer:
            case Flatten(start=start):
                return Tensor((1,) * (max(start, 1) + 1), "float32")
            case Dense(features):
                return Tensor((1, features), "float32")
            case Layer(takes_images=True):
                channels = layer.in_channels if isinstance(layer, Conv) else 1
                ones = (1,) * getattr(layer, "rank", 2)
                shape = (1, channels, *ones) if first else (1, *ones, channels)
                return Tensor(shape, "float32", first)
        return Tensor((1, 1), "float32")


@lru_cache(1 << 10)
def _compiled(source: str, mode: str) -> CodeType:
    return compile(source, "<calls>", mode)


def _execute(source: str, names: dict[str, Any]) -> None:
    """Run source that an adapter wrote."""
    exec(_compiled(source, "exec"), names)  # noqa: S102 - that what is shown runs is the point


def _evaluated(source: str, names: dict[str, Any]) -> Any:
    return eval(_compiled(source, "eval"), names)  # noqa: S307 - likewise
