"""The specification's formulas, evaluated over exact rational numbers.

A formula is an arithmetic expression (see ``expressions``) such as ``floor((N - F) / S) + 1`` or
``sqrt(sum(x**2))``. A value is a number or a tuple of numbers; operators work element by element.
A number is a ``Fraction``, or one of the floats NaN, +inf and -inf, which follow IEEE 754.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from numbers import Integral
from typing import Any, SupportsFloat

from cnnformance.spec.expressions import Compiled, ExpressionError, Language, parse

Number = Fraction | float
"""A ``Fraction``, or a float that is NaN or infinite."""

Value = Number | tuple[Number, ...]

ROOT_BITS = 256
"""An irrational root is truncated to at least this many significant bits."""

MAX_EXPONENT = 64
MAX_BITS = 1 << 18
MAX_DECIMAL_EXPONENT = 400


def number(value: object) -> Number:
    """Return any real number exactly: a ``Fraction`` where finite, else the float NaN or ±inf.

    Raises:
        ExpressionError: the value is not a real number, or its exponent is absurd.
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, Integral | Decimal | SupportsFloat):
        raise ExpressionError(f"{value!r:.60} is not a number")
    if isinstance(value, Integral):
        return Fraction(int(value))
    if not isinstance(value, Decimal):
        value = float(value)
    elif value.is_finite() and abs(value.adjusted()) > MAX_DECIMAL_EXPONENT:
        raise ExpressionError(f"{value!s:.40} has an exponent beyond {MAX_DECIMAL_EXPONENT}")
    return Fraction(value) if math.isfinite(value) else float(value)


def root(x: Number, p: int) -> Number:
    """Return the p-th root of a non-negative number.

    Exact where the root is rational; else truncated, within a relative ``2**-(ROOT_BITS - 1)``.

    Raises:
        ExpressionError: the number is negative.
    """
    if isinstance(x, float):
        if x == -math.inf:
            raise ExpressionError("the root of a negative number")
        return x
    if x < 0:
        raise ExpressionError("the root of a negative number")
    top, bottom = _integer_root(x.numerator, p), _integer_root(x.denominator, p)
    if top**p == x.numerator and bottom**p == x.denominator:
        return Fraction(top, bottom)
    bits = x.numerator.bit_length() - x.denominator.bit_length()
    scale = max(0, ROOT_BITS - bits // p + 1)
    return Fraction(_integer_root((x.numerator << p * scale) // x.denominator, p), 1 << scale)


def _integer_root(n: int, p: int) -> int:
    if p == 2 or n < 2:
        return math.isqrt(n)
    found = 1 << -(-n.bit_length() // p)  # Newton's steps fall from above until they reach it
    while (below := ((p - 1) * found + n // found ** (p - 1)) // p) < found:
        found = below
    return found


def _signed(x: Number) -> float:
    """Return what matters of a number beside a NaN or an infinity: itself or its sign."""
    return x if isinstance(x, float) else float((x > 0) - (x < 0))


def _scalar(
    operation: Callable[[Any, Any], Any],
) -> Callable[[Number, Number], Number]:
    def compute(a: Number, b: Number) -> Number:
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return _bounded(operation(a, b))
        if isinstance(b, Fraction) and b == 0 and operation is operator.truediv:
            raise ZeroDivisionError
        return number(operation(_signed(a), _signed(b)))

    return compute


def _bounded(x: Fraction) -> Fraction:
    if max(x.numerator.bit_length(), x.denominator.bit_length()) > MAX_BITS:
        raise ExpressionError(f"a number of more than {MAX_BITS} bits")
    return x


def _small(p: Number) -> int:
    if isinstance(p, float) or p.denominator != 1 or not 0 <= p <= MAX_EXPONENT:
        raise ExpressionError(f"an exponent that is not an integer from 0 to {MAX_EXPONENT}")
    return int(p)


def _power(x: Number, p: Number) -> Number:
    exponent = _small(p)
    if isinstance(x, float):
        return number(x**exponent)
    if exponent * max(x.numerator.bit_length(), x.denominator.bit_length()) > MAX_BITS:
        raise ExpressionError(f"a number of more than {MAX_BITS} bits")
    return Fraction(x**exponent)


def _root(x: Number, p: Number) -> Number:
    order = _small(p)
    if order == 0:
        raise ExpressionError("the root of order 0")
    return root(x, order)


_add = _scalar(operator.add)


def _sum(x: Sequence[Number]) -> Number:
    zero: Number = Fraction(0)
    return reduce(_add, x, zero)


def _extreme(name: str, choose: Callable[..., Number]) -> Callable[[Sequence[Number]], Number]:
    def compute(x: Sequence[Number]) -> Number:
        if not x:
            raise ExpressionError(f"{name} of nothing")
        return math.nan if any(v != v for v in x) else choose(x)  # noqa: PLR0124 - NaN alone differs from itself

    return compute


def _rounded(function: Callable[[Any], int]) -> Callable[[Number], Number]:
    def compute(x: Number) -> Number:
        if isinstance(x, float):
            raise ExpressionError(f"{function.__name__} of {x}")
        return Fraction(function(x))

    return compute


OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: _add,
    ast.Sub: _scalar(operator.sub),
    ast.Mult: _scalar(operator.mul),
    ast.Div: _scalar(operator.truediv),
    ast.Pow: _power,
}
SCALAR_FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "abs": abs,
    "floor": _rounded(math.floor),
    "ceil": _rounded(math.ceil),
    "sqrt": lambda x: root(x, 2),
    "root": _root,
}
SEQUENCE_FUNCTIONS: Mapping[str, Callable[[Sequence[Number]], Number]] = {
    "sum": _sum,
    "len": lambda x: Fraction(len(x)),
    "max": _extreme("max", max),
    "min": _extreme("min", min),
}


def _elementwise(function: Callable[..., Number], *values: Value) -> Value:
    lengths = {len(v) for v in values if isinstance(v, tuple)}
    if not lengths:
        return function(*values)
    if len(lengths) > 1:
        raise ExpressionError(f"sequences of different lengths: {sorted(lengths)}")
    length = lengths.pop()
    columns = [v if isinstance(v, tuple) else (v,) * length for v in values]
    return tuple(function(*row) for row in zip(*columns, strict=True))


def _gathered(name: str, values: Sequence[Value]) -> Sequence[Number]:
    if len(values) == 1 and isinstance(values[0], tuple):
        return values[0]
    scalars = [v for v in values if not isinstance(v, tuple)]
    if len(values) == 1 or len(scalars) < len(values):
        raise ExpressionError(f"{name} takes one sequence or several numbers")
    return scalars


def _constant(literal: object) -> Value:
    if not isinstance(literal, int) or isinstance(literal, bool):
        raise ValueError(f"{literal!r} is no integer")  # noqa: TRY004 - of the language
    return Fraction(literal)


def _each(function: Callable[..., Number]) -> Callable[..., Value]:
    return lambda *values: _elementwise(function, *values)


def _of_all(name: str) -> Callable[..., Value]:
    return lambda *values: SEQUENCE_FUNCTIONS[name](_gathered(name, values))


LANGUAGE = Language(
    longest=200,
    constant=_constant,
    operators={kind: _each(function) for kind, function in OPERATORS.items()},
    negative=_each(lambda x: -x),
    functions={name: _each(function) for name, function in SCALAR_FUNCTIONS.items()}
    | {name: _of_all(name) for name in SEQUENCE_FUNCTIONS},
    arguments=dict.fromkeys((*SCALAR_FUNCTIONS, *SEQUENCE_FUNCTIONS), (1,))
    | {"root": (2,), "max": range(1, 9), "min": range(1, 9)},
)
"""Integers, names, arithmetic, and the functions above; a value is a number or several."""


@dataclass(frozen=True)
class Formula:
    """An expression, parsed and found safe, that is called with a value for each name.

    Raises:
        ExpressionError: when made, the text is malformed or uses syntax that is not allowed.
    """

    text: str
    names: frozenset[str] = field(init=False, compare=False)
    _run: Compiled = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Parse the text."""
        parsed = parse(self.text, LANGUAGE)
        object.__setattr__(self, "names", parsed.names)
        object.__setattr__(self, "_run", parsed.run)

    def __call__(self, **bindings: object) -> Value:
        """Return the exact value; each binding is a real number or a sequence of them.

        Raises:
            ExpressionError: names are missing or unknown, or the formula has no value there.
        """
        if bindings.keys() != self.names:
            wanted, given = sorted(self.names), sorted(bindings)
            raise ExpressionError(f"{self.text!r} needs values for {wanted}, not {given}")
        values: dict[str, Value] = {
            name: tuple(map(number, value)) if isinstance(value, tuple | list) else number(value)
            for name, value in bindings.items()
        }
        try:
            value: Value = self._run(values)
        except ZeroDivisionError:
            raise ExpressionError(f"{self.text!r}: division by zero") from None
        return value

    def scalar(self, **bindings: object) -> Number:
        """Return the exact value of a formula that yields one number.

        Raises:
            ExpressionError: as for a call, or the value is a sequence.
        """
        value = self(**bindings)
        if isinstance(value, tuple):
            raise ExpressionError(f"{self.text!r} is not one number")
        return value
