"""What an adapter asks of a framework, as data: its own calls, by name and argument.

A call prints as the Python that makes it. That text is run, and shown in the script of a failure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cnnformance.spec.layers import Shape


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
    """

    function: str | Call
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

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
class Program:
    """Calls in the order in which they run, each the value of a name.

    ``layers`` are made once; ``steps`` run for each input ``x``, and the last is the result.
    ``functions`` are the names of the framework's that are called, and ``parameters`` those names
    that are given, such as a weight's.
    """

    layers: dict[str, str] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, result: Call) -> Program:
        """Return the program that ends in a call."""
        program = cls()
        program.written(result)
        return program

    @property
    def alone(self) -> bool:
        """Whether the program is one layer, called with the input."""
        return list(self.steps.values()) == ["layer(x)"]

    def body(self) -> list[str]:
        """Return the lines of a function of ``x`` that runs the steps."""
        *before, (_, last) = self.steps.items()
        return [*(f"    {name} = {text}" for name, text in before), f"    return {last}"]

    def written(self, value: Any) -> str:
        """Return the source of an argument, after the steps that it needs."""
        match value:
            case Tensor(made=made):
                return "x" if made is None else self.written(made)
            case Call():
                return self._called(value)
            case list():
                return f"[{', '.join(map(self._listed, value))}]"
            case tuple():
                return f"({', '.join(map(self.written, value))}{',' * (len(value) == 1)})"
            case Name() if value.isidentifier() and value not in self.parameters:
                self.parameters.append(value)
            case float() if not math.isfinite(value):
                return "np.nan" if math.isnan(value) else "np.inf" if value > 0 else "-np.inf"
        return repr(value)

    def _called(self, of: Call) -> str:
        """Return the name of a call's result."""
        match of.function:
            case Call(str(name)) as made:
                # named before its input is, so that the outermost layer is ``layer``
                function = _kept(self.layers, "layer", self.text(name, made))
            case name:
                function = str(name)
        text = self.text(function, of)
        if text not in self.steps.values():
            self.functions.append(str(name))
        return _kept(self.steps, "y", text)

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
