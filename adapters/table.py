"""A backend as a table: of each layer, the calls of the framework that compute it.

The calls print as Python. That source is what runs, what is differentiated and what a script shows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Definition:
    """A layer in source: the lines that define it, and the function that it is then.

    ``layers`` are those that the framework makes for it, each the source of a name, and the one
    that is called last is ``layer``. ``parameters`` are those of the function, after ``x``.
    """

    lines: list[str]
    name: str
    parameters: tuple[str, ...]
    layers: Mapping[str, str]

    def call(self, x: str) -> str:
        """Return the call of the layer with an input of this name."""
        return f"{self.name}({', '.join([x, *self.parameters])})"


class Table(Backend):
    """A framework whose layers are told as calls, by ``native``; all methods follow.

    Class attributes:
        imports: the lines that import the framework under the names that calls use, and settle
            how it computes. They run in each worker, and begin each script.
        printed: the line of a script that prints the framework's version.
        compositions: what is made of several calls because the framework has no such layer.
        defaults: the source of each name that calls are given besides weights.
        wrapper: what a mode puts around the function that runs, such as ``"jax.jit({})"``.
    """

    imports: str = ""
    printed: str = ""
    compositions: ClassVar[Mapping[type[Layer], Composition]] = {}
    defaults: ClassVar[Mapping[str, str]] = {}
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
        """Return the lines that put ``weights``, a dict of arrays, into what ``layer`` names."""
        raise NotImplementedError(f"{type(self).__name__}.hold has no lines that set weights")

    def backward(
        self, layer: Layer, made: Definition, x: str, upstream: str, dtype: str
    ) -> list[str]:
        """Return the lines that set ``gradients``, a dict of arrays by name.

        They follow those of ``made``; ``x`` and ``upstream`` are expressions of tensors.
        """
        raise Unsupported(f"{type(self).__name__} has no gradients")

    def counted(self, layer: Layer, made: Definition) -> list[str]:
        """Return the lines that set ``count`` to how many parameters a layer holds."""
        raise Unsupported(f"{type(self).__name__} does not count parameters")

    def stated(self, layer: Layer, made: Definition) -> list[str]:
        """Return the lines that set ``shape`` to the framework's static answer for ``shape``."""
        raise Unsupported(f"{type(self).__name__} has no static shapes")

    def given(self, layer: Layer) -> Mapping[str, Any]:
        """Return what takes the place of ``defaults`` at each call, such as the next random key."""
        return {}

    def within(self) -> AbstractContextManager[Any]:
        """Return the context in which all runs, such as that of a device."""
        return nullcontext()

    # What follows is the same for all frameworks.

    @cached_property
    def axes(self) -> WeightAxes:
        """The order of the axes of weights."""
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
            found, composed = self.native(layer, x), False
        except Unsupported:
            if (compose := self.compositions.get(type(layer))) is None:
                raise
            found, composed = compose(self, layer, x), True
        if not isinstance(found, Call):
            raise TypeError(f"{layer} is told as {found!r:.80}, and is to be a Call")
        return found, composed

    def define(self, layer: Layer, x: Tensor, *, held: bool = True) -> Definition:
        """Return a layer for such an input in source; not ``held``, without its weights."""
        program = Program.of(self.result(layer, x)[0])
        lines = [f"{name} = {text}" for name, text in program.layers.items()]
        shapes = self.axes.native_shapes(layer)
        if held and shapes:
            one = np.zeros((), x.dtype)
            like = {name: np.broadcast_to(one, shape) for name, shape in shapes.items()}
            lines += self.hold(layer, like) if program.layers else self._named(like)
        parameters = tuple(program.parameters)
        name = "layer" if program.alone else "run"
        if not program.alone:
            lines += ["", f"def run({', '.join(['x', *parameters])}):", *program.body(), ""]
        if self.wrapper:
            lines.append(f"run = {self.wrapper.format(name)}")
            name = "run"
        return Definition(lines, name, parameters, program.layers)

    def _named(self, like: Mapping[str, Array]) -> list[str]:
        return [f"{n} = {self.tensor(f'weights[{n!r}]', a)}" for n, a in like.items()]

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        """Return the layer's calls, as ``Composed`` where they are; made at the first input."""
        result, composed = self.result(layer, self.nominal(layer))

        @lru_cache(_PROGRAMS)
        def defined(x: Tensor) -> tuple[tuple[str, ...], str]:
            made = self.define(layer, x)
            return tuple(made.lines), made.call("x")

        @lru_cache(_PROGRAMS)
        def names(lines: tuple[str, ...], _seeds: int) -> dict[str, Any]:
            return self.execute(lines, weights=weights)

        def run(x: Any) -> Any:
            lines, call = defined(self.like(x))
            made = names(lines, self._seeds if layer.draws else 0)
            return self._evaluate(call, {**made, **self.given(layer), "x": x})

        return Composed(run, ", ".join(Program.of(result).functions)) if composed else run

    _seeds: int = 0
    """How often the random numbers were seeded: what was traced before keeps its seed."""

    def seed(self, seed: int) -> None:
        """Count the seeds."""
        self._seeds += 1

    def from_numpy(self, array: Array) -> Any:
        """Return what the expression of a tensor evaluates to."""
        return self._evaluate(self.tensor("array", array), {**self._names, "array": array})

    def to_numpy(self, tensor: Any) -> Array:
        """Return what the expression of an array evaluates to."""
        source = self.array("tensor", self.like(tensor).dtype)
        found: Array = self._evaluate(source, {**self._names, "tensor": tensor})
        return found

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Run what ``gradient_script`` shows."""
        lines = self._differentiated(layer, x, upstream)[1]
        names = self.execute(lines, weights=weights, x=x, upstream=upstream, **self.given(layer))
        found: dict[str, Array] = names["gradients"]
        return found

    def parameters(self, layer: Layer) -> int:
        """Run what ``count_script`` shows."""
        found: int = self.execute(self._counted(layer))["count"]
        return found

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """Run what ``shape_script`` shows."""
        names = self.execute(self._stated(layer, shape), shape=shape)
        found: Shape = names["shape"]
        return found

    def script(self, layer: Layer, x: Array) -> str:
        """Return the layer's calls."""
        made = self.define(layer, self.like(x))
        y = self.array(made.call(self.tensor("x", x)), x.dtype.name)
        return self._script([*self._defaulted(made), *made.lines, f"y = {y}"])

    def gradient_script(self, layer: Layer, x: Array, upstream: Array) -> str:
        """Return the layer's calls, and their derivative."""
        made, lines = self._differentiated(layer, x, upstream)
        return self._script([*self._defaulted(made), *lines])

    def count_script(self, layer: Layer) -> str:
        """Return how the framework counts the parameters of the layer."""
        return self._script(self._counted(layer))

    def shape_script(self, layer: Layer, shape: Shape) -> str:
        """Return how the framework states the shape."""
        return self._script(self._stated(layer, shape))

    def _script(self, lines: list[str]) -> str:
        return "\n".join([self.imports.rstrip(), self.printed, *lines, ""])

    def _defaulted(self, made: Definition) -> list[str]:
        return [f"{n} = {text}" for n, text in self.defaults.items() if n in made.parameters]

    def _differentiated(
        self, layer: Layer, x: Array, upstream: Array
    ) -> tuple[Definition, list[str]]:
        made, dtype = self.define(layer, self.like(x)), x.dtype.name
        tensors = self.tensor("x", x), self.tensor("upstream", upstream)
        return made, [*made.lines, *self.backward(layer, made, *tensors, dtype)]

    def _counted(self, layer: Layer) -> list[str]:
        return self.counted(layer, self.define(layer, self.nominal(layer), held=False))

    def _stated(self, layer: Layer, shape: Shape) -> list[str]:
        x = Tensor(shape, "float32", self.layout == "channels_first")
        made = self.define(layer, x, held=False)
        return [*self._defaulted(made), *self.stated(layer, made)]

    def nominal(self, layer: Layer) -> Tensor:
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

    @cached_property
    def _names(self) -> dict[str, Any]:
        names: dict[str, Any] = {"np": np}
        exec(_compiled(self.imports, "exec"), names)  # noqa: S102 - what is shown is to be what runs
        return names

    def execute(self, lines: Sequence[str], **given: Any) -> dict[str, Any]:
        """Run source of the adapter, and return the names that it sets."""
        names = {**self._names, **given}
        with self.within():
            exec(_compiled("\n".join(lines), "exec"), names)  # noqa: S102 - likewise
        return names

    def _evaluate(self, source: str, names: dict[str, Any]) -> Any:
        with self.within():
            return eval(_compiled(source, "eval"), names)  # noqa: S307 - likewise


@lru_cache(1 << 10)
def _compiled(source: str, mode: str) -> CodeType:
    return compile(source, "<calls>", mode)
