"""A safe evaluator for the specification's formulas, over exact rational numbers.

A formula is an arithmetic expression such as ``floor((N - F) / S) + 1`` or
``sqrt(sum(x**2))``. It is parsed once against a whitelist of syntax; nothing is ever handed to
``eval``. A value is a number or a tuple of numbers; operators work element by element. A number
is a ``Fraction``, or one of the floats NaN, +inf and -inf, which follow IEEE 754.
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

Number = Fraction | float
"""A ``Fraction``, or a float that is NaN or infinite."""

Value = Number | tuple[Number, ...]

ROOT_BITS = 256
"""An irrational root is truncated to at least this many significant bits."""

MAX_TEXT = 200
MAX_EXPONENT = 64
MAX_BITS = 1 << 18
MAX_DECIMAL_EXPONENT = 400


class FormulaError(ValueError):
    """A formula that is malformed, unsafe or has no value; the message says why."""


def number(value: object) -> Number:
    """Return any real number exactly: a ``Fraction`` where finite, else the float NaN or ±inf.

    Raises:
        FormulaError: the value is not a real number, or its exponent is absurd.
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, Integral | Decimal | SupportsFloat):
        raise FormulaError(f"{value!r:.60} is not a number")
    if isinstance(value, Integral):
        return Fraction(int(value))
    if not isinstance(value, Decimal):
        value = float(value)
    elif value.is_finite() and abs(value.adjusted()) > MAX_DECIMAL_EXPONENT:
        raise FormulaError(f"{value!s:.40} has an exponent beyond {MAX_DECIMAL_EXPONENT}")
    return Fraction(value) if math.isfinite(value) else float(value)


def root(x: Number, p: int) -> Number:
    """Return the p-th root of a non-negative number.

    Exact where the root is rational; else truncated, within a relative ``2**-(ROOT_BITS - 1)``.

    Raises:
        FormulaError: the number is negative.
    """
    if isinstance(x, float):
        if x == -math.inf:
            raise FormulaError("the root of a negative number")
        return x
    if x < 0:
        raise FormulaError("the root of a negative number")
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
        raise FormulaError(f"a number of more than {MAX_BITS} bits")
    return x


def _small(p: Number) -> int:
    if isinstance(p, float) or p.denominator != 1 or not 0 <= p <= MAX_EXPONENT:
        raise FormulaError(f"an exponent that is not an integer from 0 to {MAX_EXPONENT}")
    return int(p)


def _power(x: Number, p: Number) -> Number:
    exponent = _small(p)
    if isinstance(x, float):
        return number(x**exponent)
    if exponent * max(x.numerator.bit_length(), x.denominator.bit_length()) > MAX_BITS:
        raise FormulaError(f"a number of more than {MAX_BITS} bits")
    return Fraction(x**exponent)


def _root(x: Number, p: Number) -> Number:
    order = _small(p)
    if order == 0:
        raise FormulaError("the root of order 0")
    return root(x, order)


_add = _scalar(operator.add)


def _sum(x: Sequence[Number]) -> Number:
    zero: Number = Fraction(0)
    return reduce(_add, x, zero)


def _extreme(name: str, choose: Callable[..., Number]) -> Callable[[Sequence[Number]], Number]:
    def compute(x: Sequence[Number]) -> Number:
        if not x:
            raise FormulaError(f"{name} of nothing")
        return math.nan if any(v != v for v in x) else choose(x)  # noqa: PLR0124 - NaN alone differs from itself

    return compute


def _rounded(function: Callable[[Any], int]) -> Callable[[Number], Number]:
    def compute(x: Number) -> Number:
        if isinstance(x, float):
            raise FormulaError(f"{function.__name__} of {x}")
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
FUNCTIONS: Mapping[str, Sequence[int]] = {
    **dict.fromkeys(SCALAR_FUNCTIONS, (1,)),
    **dict.fromkeys(SEQUENCE_FUNCTIONS, (1,)),
    "root": (2,),
    "max": range(1, 9),
    "min": range(1, 9),
}
"""Every function by its name, with the counts of arguments that it takes."""


def _elementwise(function: Callable[..., Number], *values: Value) -> Value:
    lengths = {len(v) for v in values if isinstance(v, tuple)}
    if not lengths:
        return function(*values)
    if len(lengths) > 1:
        raise FormulaError(f"sequences of different lengths: {sorted(lengths)}")
    length = lengths.pop()
    columns = [v if isinstance(v, tuple) else (v,) * length for v in values]
    return tuple(function(*row) for row in zip(*columns, strict=True))


def _gathered(name: str, values: Sequence[Value]) -> Sequence[Number]:
    if len(values) == 1 and isinstance(values[0], tuple):
        return values[0]
    scalars = [v for v in values if not isinstance(v, tuple)]
    if len(values) == 1 or len(scalars) < len(values):
        raise FormulaError(f"{name} takes one sequence or several numbers")
    return scalars


_Compiled = Callable[[Mapping[str, Value]], Value]


def _compiled(node: ast.expr, names: set[str]) -> _Compiled:
    match node:
        case ast.Constant(value=int(literal)) if not isinstance(literal, bool):
            constant = Fraction(literal)
            return lambda _: constant
        case ast.Name(id=name) if name not in FUNCTIONS:
            names.add(name)
            return lambda bindings: bindings[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _compiled(operand, names)
            return lambda bindings: _elementwise(lambda x: -x, inner(bindings))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in OPERATORS:
            function, first, second = (
                OPERATORS[type(op)],
                _compiled(left, names),
                _compiled(right, names),
            )
            return lambda bindings: _elementwise(function, first(bindings), second(bindings))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            if len(args) not in FUNCTIONS[name]:
                raise FormulaError(f"{name} does not take {len(args)} arguments")
            return _compiled_call(name, [_compiled(arg, names) for arg in args])
    raise FormulaError(f"{ast.unparse(node)!r} is not allowed")


def _compiled_call(name: str, inner: Sequence[_Compiled]) -> _Compiled:
    if name in SCALAR_FUNCTIONS:
        scalar = SCALAR_FUNCTIONS[name]
        return lambda bindings: _elementwise(scalar, *(f(bindings) for f in inner))
    sequence = SEQUENCE_FUNCTIONS[name]
    return lambda bindings: sequence(_gathered(name, [f(bindings) for f in inner]))


@dataclass(frozen=True)
class Formula:
    """An expression, parsed and found safe, that is called with a value for each name.

    Raises:
        FormulaError: when made, the text is malformed or uses syntax that is not allowed.
    """

    text: str
    names: frozenset[str] = field(init=False, compare=False)
    _run: _Compiled = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Parse the text."""
        if len(self.text) > MAX_TEXT:
            raise FormulaError(f"a formula of more than {MAX_TEXT} characters")
        names: set[str] = set()
        try:
            run = _compiled(ast.parse(self.text.strip(), mode="eval").body, names)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if isinstance(error, FormulaError):
                raise FormulaError(f"{self.text!r}: {error}") from None
            raise FormulaError(f"{self.text!r}: not an expression") from error
        object.__setattr__(self, "names", frozenset(names))
        object.__setattr__(self, "_run", run)

    def __call__(self, **bindings: object) -> Value:
        """Return the exact value; each binding is a real number or a sequence of them.

        Raises:
            FormulaError: names are missing or unknown, or the formula has no value there.
        """
        if bindings.keys() != self.names:
            wanted, given = sorted(self.names), sorted(bindings)
            raise FormulaError(f"{self.text!r} needs values for {wanted}, not {given}")
        values: dict[str, Value] = {
            name: tuple(map(number, value)) if isinstance(value, tuple | list) else number(value)
            for name, value in bindings.items()
        }
        try:
            return self._run(values)
        except ZeroDivisionError:
            raise FormulaError(f"{self.text!r}: division by zero") from None

    def scalar(self, **bindings: object) -> Number:
        """Return the exact value of a formula that yields one number.

        Raises:
            FormulaError: as for a call, or the value is a sequence.
        """
        value = self(**bindings)
        if isinstance(value, tuple):
            raise FormulaError(f"{self.text!r} is not one number")
        return value


def evaluate(text: str, **bindings: object) -> Value:
    """Return the exact value of a formula's text.

    Raises:
        FormulaError: the text is malformed or unsafe, or it has no value for these bindings.
    """
    return Formula(text)(**bindings)
