"""A backend as a table: of each layer, the calls of the framework that compute it.

The calls print as Python. That source is what runs, what is differentiated and what a script shows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, TypeVar

import numpy as np

from cnnformance.adapters.axes import WeightAxes
from cnnformance.adapters.backend import Array, Backend, Unsupported, Weights
from cnnformance.adapters.calls import (
    Call,
    Name,
    Program,
    Tensor,
    Told,
    assigns,
    compiled,
    is_from_source,
    require,
)
from cnnformance.adapters.exceptions import AdapterError
from cnnformance.spec.layers import Conv, Dense, Flatten, Layer, Shape

Composition = Callable[["Table", Any, Tensor], Call]
"""Makes a layer that the framework lacks of calls that it has."""

WEIGHT, BIAS = Name("weight"), Name("bias")
"""The weights of a layer, as arguments of a function of the framework."""

_T = TypeVar("_T")
_DICT: type[Any] = Mapping
_CONTEXT: type[Any] = AbstractContextManager

Held = bool | Mapping[str, "np.dtype[Any]"]  # whether weights are held, or of which dtypes
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
        raise AdapterError(f"{type(self).__name__} needs hold, whose lines set a layer's weights")

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
            AdapterError: what the table returns is no call.
        """
        compose = None
        try:
            found = self.native(layer, x)
        except Unsupported:
            if (compose := self.compositions.get(type(layer))) is None:
                raise
            found = compose(self, layer, x)
        method = getattr(compose, "__name__", "a composition") if compose else "native"
        found = self._is(Call, method, found, f"a Call, as of call(name, x), for {layer}")
        return found, compose is not None

    def _is(self, kind: type[_T], method: str, found: object, what: str) -> _T:
        """Return what a method gave, if it is of this kind."""
        if isinstance(found, kind):
            return found
        said = f"{type(self).__name__}.{method} is {found!r:.80}"
        raise AdapterError(f"{said}; it is to be {what}")

    def _lines(self, method: str, found: object) -> list[str]:
        lines = self._is(list, method, found, "a list of lines")
        return [self._is(str, f"{method}[{n}]", line, "a line") for n, line in enumerate(lines)]

    def _tensor(self, name: str, array: Array) -> str:
        return self._is(str, "tensor", self.tensor(name, array), "the source of a tensor")

    def _array(self, name: str, dtype: str) -> str:
        return self._is(str, "array", self.array(name, dtype), "the source of an array")

    def _given(self, layer: Layer) -> Mapping[str, Any]:
        return self._is(_DICT, "given", self.given(layer), "a dict of values by name")

    def _wrapped(self, name: str) -> str:
        """Return the source of what the wrapper makes of the function of this name."""
        try:
            return self.wrapper.format(name)
        except (IndexError, KeyError, ValueError, AttributeError):
            return ""

    def define(self, layer: Layer, x: Tensor, *, held: Held = True) -> Definition:
        """Return a layer for such an input in source; not ``held``, without its weights."""
        program = Program.of(self.result(layer, x)[0])
        lines = [f"{name} = {text}" for name, text in program.layers.items()]
        shapes = self.axes.native_shapes(layer)
        if held and shapes:
            of = dict.fromkeys(shapes, np.dtype(x.dtype)) if held is True else held
            like = {n: np.broadcast_to(np.zeros((), of[n]), size) for n, size in shapes.items()}
            hold = self._lines("hold", self.hold(layer, like)) if program.layers else None
            lines += self._named(like) if hold is None else hold
        parameters = tuple(program.parameters)
        name = "layer" if program.alone else "run"
        if not program.alone:
            lines += ["", f"def run({', '.join(['x', *parameters])}):", *program.body(), ""]
        if self.wrapper:
            lines.append(f"run = {self._wrapped(name)}")
            name = "run"
        return Definition(lines, name, parameters, program.layers)

    def _named(self, like: Mapping[str, Array]) -> list[str]:
        return [f"{n} = {self._tensor(f'weights[{n!r}]', a)}" for n, a in like.items()]

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        """Return the layer's calls: those for an input are asked for at the first like it."""
        self.begin()
        held = {name: array.dtype for name, array in weights.items()} or True

        @lru_cache(_PROGRAMS)
        def defined(x: Tensor) -> tuple[tuple[str, ...], str, str]:
            made = self.define(layer, x, held=held)
            result, composed = self.result(layer, x)
            note = ", ".join(Program.of(result).functions) if composed else ""
            return tuple(made.lines), made.call("x"), note

        @lru_cache(_PROGRAMS)
        def names(lines: tuple[str, ...], _seeds: int) -> dict[str, Any]:
            return self.execute(lines, weights=weights)

        def run(x: Any) -> tuple[Any, str]:
            lines, call, note = defined(self.like(x))
            made = names(lines, self._seeds if layer.draws else 0)
            return self._evaluate(call, {**made, **self._given(layer), "x": x}), note

        return Told(run)

    _seeds: int = 0
    """How often the random numbers were seeded: what was traced before keeps its seed."""

    def seed(self, seed: int) -> None:
        """Count the seeds."""
        self._seeds += 1

    def from_numpy(self, array: Array) -> Any:
        """Return what the expression of a tensor evaluates to."""
        return self._evaluate(self._tensor("array", array), {**self._names, "array": array})

    def to_numpy(self, tensor: Any) -> Array:
        """Return what the expression of an array evaluates to."""
        source = self._array("tensor", self.like(tensor).dtype)
        found: Array = self._evaluate(source, {**self._names, "tensor": tensor})
        return found

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Run what ``gradient_script`` shows."""
        lines = self._differentiated(layer, x, upstream)[1]
        given = {**self._given(layer), "weights": weights, "x": x, "upstream": upstream}
        found: dict[str, Array] = self._set("backward", "gradients", lines, given)
        return found

    def parameters(self, layer: Layer) -> int:
        """Run what ``count_script`` shows."""
        found: int = self._set("counted", "count", self._counted(layer), {})
        return found

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """Run what ``shape_script`` shows."""
        found: Shape = self._set("stated", "shape", self._stated(layer, shape), {"shape": shape})
        return found

    def script(self, layer: Layer, x: Array) -> str:
        """Return the layer's calls."""
        made = self.define(layer, self.like(x))
        y = self._array(made.call(self._tensor("x", x)), x.dtype.name)
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
        tensors = self._tensor("x", x), self._tensor("upstream", upstream)
        lines = self._lines("backward", self.backward(layer, made, *tensors, dtype))
        return made, [*made.lines, *lines]

    def _counted(self, layer: Layer) -> list[str]:
        made = self.define(layer, self.nominal(layer), held=False)
        return self._lines("counted", self.counted(layer, made))

    def _stated(self, layer: Layer, shape: Shape) -> list[str]:
        x = Tensor(shape, "float32", self.layout == "channels_first")
        made = self.define(layer, x, held=False)
        return [*self._defaulted(made), *self._lines("stated", self.stated(layer, made))]

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

    def begin(self) -> None:
        """Check the class attributes, and run the imports.

        Raises:
            AdapterError: one is malformed, or the imports fail.
        """
        assert self._names

    @cached_property
    def _names(self) -> dict[str, Any]:
        for name in ("imports", "printed", "wrapper"):
            self._is(str, name, getattr(self, name), "source")
        for name in ("compositions", "defaults"):
            self._is(_DICT, name, getattr(self, name), "a dict")
        compiled(self.printed, "exec")
        if self.wrapper and "layer" not in self._wrapped("layer"):
            said = f"{type(self).__name__}.wrapper is {self.wrapper!r}"
            raise AdapterError(f"{said}; it is to have {{}} where the function stands")
        names: dict[str, Any] = {"np": np}
        code = compiled(self.imports, "exec")
        try:
            exec(code, names)  # noqa: S102 - what is shown is to be what runs
        except Exception as error:
            said = f"{type(self).__name__}.imports raise {type(error).__name__}: {error}"
            raise AdapterError(f"{said}; they are to run by themselves") from error
        return names

    def execute(self, lines: Sequence[str], **given: Any) -> dict[str, Any]:
        """Run source of the adapter, and return the names that it sets."""
        names = {**self._names, **given}
        code = compiled(source := "\n".join(lines), "exec")
        require(source, self._names, type(self).__name__)
        with self._inside():
            exec(code, names)  # noqa: S102 - likewise
        return names

    def _set(self, method: str, name: str, lines: list[str], given: Mapping[str, Any]) -> Any:
        """Return the value that lines give to a name."""
        names = self.execute(lines, **given)
        if not assigns("\n".join(lines), name):
            said = f"the lines of {type(self).__name__}.{method} set no {name}"
            raise AdapterError(f"{said}; they are to assign it")
        return names[name]

    def _evaluate(self, source: str, names: dict[str, Any]) -> Any:
        code = compiled(source, "eval")
        with self._inside():
            return eval(code, names)  # noqa: S307 - likewise

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Run within the context; a name that our own source lacks is the adapter's error."""
        what = "a context, as of contextlib.nullcontext()"
        with self._is(_CONTEXT, "within", self.within(), what):
            try:
                yield
            except NameError as error:
                if not is_from_source(error):
                    raise
                said = f"{error}, in the source of {type(self).__name__}"
                raise AdapterError(f"{said}; see that imports or lines define it") from error
