"""What an adapter asks of a framework, as data: its own calls, by name and argument.

A call prints as the Python that makes it. That text is run, and shown in the script of a failure.
"""

from __future__ import annotations

import ast
import keyword
import math
import os
import symtable
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.exceptions import AdapterError
from cnnformance.adapters.versions import ASKED
from cnnformance.spec.layers import Shape

_SOURCE = "<calls>"
"""The name of the file that source is compiled as."""


class Name(str):
    """An expression that stands in an argument as it is: ``lax.max``, ``weight``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Call:
    """A call of a framework: a dotted name, and arguments, which may be calls themselves.

    What a call returns can be called again: ``Call("nn.ReLU")(x)`` makes a layer, once, and calls
    it with the input.

    Raises:
        AdapterError: an option has a name that Python's calls cannot have.
    """

    function: str | Call
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the names of options."""
        for name in self.options:
            if not str(name).isidentifier() or keyword.iskeyword(name):
                said = f"the call of {self.function!s:.80} has an option {name!r}"
                raise AdapterError(f"{said}; options are named as Python's identifiers are")

    def __call__(self, *args: Any, **options: Any) -> Call:
        """Return the call of what this one returns."""
        return Call(self, args, options)


def call(name: str, /, *args: Any, **options: Any) -> Call:
    """Return the call of a name."""
    return Call(name, args, options)


@dataclass(frozen=True)
class Tensor:
    """What a call may take as input: the layer's own, or what earlier calls made of it.

    ``shape`` and ``dtype`` are what is known of it, in the backend's layout.
    """

    shape: Shape
    dtype: str
    channels_first: bool = False
    made: Call | None = None

    @property
    def spatial(self) -> Shape:
        """The sizes of the spatial axes of an image."""
        return self.shape[2:] if self.channels_first else self.shape[1:-1]

    def joined(self, start: int) -> Shape:
        """Return the shape with the axes from ``start`` on joined.

        Raises:
            ValueError: there is no such axis, nor one before it.
        """
        if start > len(self.shape):
            raise ValueError(f"an input of {len(self.shape)} axes has no axis {start}")
        return (*self.shape[:start], math.prod(self.shape[start:]))

    def after(self, made: Call) -> Tensor:
        """Return what a call makes of it, of which the same is known."""
        return replace(self, made=made)


@dataclass
class Told:
    """A layer of a table. ``native`` is asked for each input that differs in shape or dtype.

    ``note`` is that of a composition, if the last input was computed by one, and else empty.
    """

    call: Callable[[Any], tuple[Any, str]]
    note: str = ""

    def __call__(self, x: Any) -> Any:
        """Run the calls for a tensor of the framework.

        Raises:
            Unsupported: the framework has no such layer for this input.
        """
        y, self.note = self.call(x)
        return y


@dataclass
class Program:
    """Calls in the order in which they run, each the value of a name.

    ``layers`` are made once; ``steps`` run for each input ``x``, and the last is the result.
    ``functions`` are the names of the framework's that are called, and ``parameters`` those names
    that are given, such as a weight's. ``inline``, calls have no names: they stand where they are.
    """

    layers: dict[str, str] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    inline: bool = False

    @classmethod
    def of(cls, result: Call) -> Program:
        """Return the program that ends in a call.

        Raises:
            AdapterError: an argument cannot be written, or calls are nested too deeply.
        """
        program = cls()
        try:
            program.written(result)
        except RecursionError:
            said = "calls are nested more deeply than Python can follow"
            raise AdapterError(f"{said}; use fewer, or one call of a list of them") from None
        return program

    @property
    def alone(self) -> bool:
        """Whether the program is one layer, called with the input."""
        return list(self.steps.values()) == ["layer(x)"]

    def body(self) -> list[str]:
        """Return the lines of a function of ``x`` that runs the steps."""
        *before, (_, last) = self.steps.items()
        return [*(f"    {name} = {text}" for name, text in before), f"    return {last}"]

    def written(self, value: Any) -> str:  # noqa: PLR0911 - a table of the kinds of arguments
        """Return the source of an argument, after the steps that it needs."""
        match value:
            case Tensor(made=made):
                return "x" if made is None else self.written(made)
            case Call() if self.inline:
                return self._made(value)
            case Call():
                return self._called(value)
            case list():
                return f"[{', '.join(map(self._listed, value))}]"
            case tuple():
                return f"({', '.join(map(self.written, value))}{',' * (len(value) == 1)})"
            case dict():
                items = (f"{self.written(k)}: {self.written(v)}" for k, v in value.items())
                return f"{{{', '.join(items)}}}"
            case Name():
                if _is_parameter(value) and value not in self.parameters:
                    self.parameters.append(value)
                return str(value)
        return plain(value)

    def _called(self, of: Call) -> str:
        """Return the name of a call's result."""
        name = function = of.function
        if isinstance(function, Call):
            if reads(function):
                function = self.written(function)
            else:  # named before its input is, so that the outermost layer is ``layer``
                function = _kept(self.layers, "layer", self._made(function))
        while isinstance(name, Call):
            name = name.function
        text = self.text(function, of)
        if text not in self.steps.values():
            self.functions.append(name)
        return _kept(self.steps, "y", text)

    def _made(self, value: Call) -> str:
        """Return the source of what is made once: one expression, without names."""
        inner = value.function
        function = self._made(inner) if isinstance(inner, Call) else inner
        return type(self)(inline=True).text(function, value)

    def _listed(self, value: Any) -> str:
        """Return the source of an element of a list, whose calls have no names: there are many."""
        if isinstance(value, Call) and isinstance(value.function, str):
            return self.text(value.function, value)
        return self.written(value)

    def text(self, function: str, of: Call) -> str:
        """Return the source of a call of what is named ``function``."""
        options = [f"{name}={self.written(value)}" for name, value in of.options.items()]
        return f"{function}({', '.join([*map(self.written, of.args), *options])})"


def _kept(values: dict[str, str], name: str, text: str) -> str:
    """Return the name of a value, new or, of a text that is there already, the one it has."""
    for known, other in values.items():
        if other == text:
            return known
    name = f"{name}{len(values) + 1}" if values or name == "y" else name
    values[name] = text
    return name


def _is_parameter(name: str) -> bool:
    """Whether a name is given to the function, as the input ``x`` and ``None`` are not."""
    return name.isidentifier() and name != "x" and not keyword.iskeyword(name)


def reads(value: Any) -> bool:
    """Whether the input, or a name that the function is given, is in an argument."""
    match value:
        case Tensor():
            return True
        case Name():
            return value == "x" or _is_parameter(value)
        case Call(function, args, options):
            return any(map(reads, (function, *args, *options.values())))
        case list() | tuple():
            return any(map(reads, value))
        case dict():
            return any(map(reads, value.values()))
    return False


def plain(value: Any) -> str:
    """Return the source of a plain value: a number, a text, a dtype of NumPy's and the like.

    Raises:
        AdapterError: there is none, as of an array or of a function.
    """
    match value:
        case np.dtype():
            return f"np.dtype({value.name!r})"
        case type() if value.__module__ in ("numpy", "builtins"):
            return value.__name__ if value.__module__ == "builtins" else f"np.{value.__name__}"
        case np.generic() if type(value).__module__ == "numpy":
            return f"np.{type(value).__name__}({plain(value.item())})"
        case float() if not math.isfinite(value):
            return "np.nan" if math.isnan(value) else "np.inf" if value > 0 else "-np.inf"
    source = repr(value)
    try:
        compile(source, "<argument>", "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        source = ""
    if not source or isinstance(value, np.ndarray):
        said = f"an argument of a call is a {type(value).__name__}, which has no source"
        raise AdapterError(f"{said}; give plain values, calls, or a Name of what imports define")
    return source


@lru_cache(1 << 10)
def compiled(source: str, mode: str) -> CodeType:
    """Return the code of an adapter's source.

    Raises:
        AdapterError: it is no Python.
    """
    try:
        return compile(source, _SOURCE, mode)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        said = f"the source of the adapter does not compile ({error})"
        raise AdapterError(f"{said}; mend its calls or lines: {source[-400:]}") from error


def assigns(source: str, name: str) -> bool:
    """Whether lines of source assign to a name."""
    table = symtable.symtable(source, _SOURCE, "exec")
    return name in table.get_identifiers() and table.lookup(name).is_assigned()


def require(source: str, names: Mapping[str, Any], table: str) -> None:
    """Require that modules among ``names`` have what the source of a table reads of them.

    Raises:
        AdapterError: one has not.
        Unsupported: likewise, in a version that was asked for: the table may be written for others.
    """
    for node in ast.walk(ast.parse(source)):
        try:
            _resolved(node, names)
        except AttributeError as lacking:
            error = Unsupported if os.environ.get(ASKED) else AdapterError
            raise error(f"{lacking}, as the source of {table} has it") from lacking


def _resolved(node: ast.AST, names: Mapping[str, Any]) -> Any:
    """Return the module, or the attribute of one, that a dotted name stands for, or None."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = _resolved(node.value, names)
    return getattr(owner, node.attr) if isinstance(owner, ModuleType) else None


def is_from_source(error: BaseException) -> bool:
    """Whether an exception was raised by the source itself, and not by what it calls."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename == _SOURCE
