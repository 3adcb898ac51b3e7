"""Predicates over configurations, as data: the language of the ``when`` of a divergence."""

from __future__ import annotations

import ast
import math
import numbers
import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cnnformance.spec.expressions import Expression, ExpressionError, Language, parse


def _of_numbers(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compute(a: object, b: object) -> Any:
        if not isinstance(a, numbers.Real) or not isinstance(b, numbers.Real):
            raise TypeError(f"{function.__name__} is of numbers")
        return function(a, b)

    return compute


def _constant(literal: object) -> object:
    if not isinstance(literal, bool | int | float | str):
        raise ValueError(f"{literal!r} is no constant")  # noqa: TRY004 - of the language
    return literal


_ONE, _SOME = range(1, 2), range(1, 256)
LANGUAGE = Language(
    longest=500,
    constant=_constant,
    operators={
        ast.Add: _of_numbers(operator.add),
        ast.Sub: _of_numbers(operator.sub),
        ast.Mult: _of_numbers(operator.mul),
        ast.FloorDiv: _of_numbers(operator.floordiv),
        ast.Mod: _of_numbers(operator.mod),
    },
    negative=operator.neg,
    functions={"max": max, "min": min, "len": len, "prod": math.prod, "abs": abs},
    arguments={"max": _SOME, "min": _SOME, "len": _ONE, "prod": _ONE, "abs": _ONE},
    comparisons={
        ast.Eq: operator.eq,
        ast.NotEq: operator.ne,
        ast.Lt: operator.lt,
        ast.LtE: operator.le,
        ast.Gt: operator.gt,
        ast.GtE: operator.ge,
        ast.In: lambda a, b: a in b,
        ast.NotIn: lambda a, b: a not in b,
    },
)
"""Numbers, texts, tuples, names, comparisons, ``and``, ``or``, ``not``, and some arithmetic."""


@cache
def _parsed(text: str) -> Expression:
    return parse(text, LANGUAGE)


def holds(text: str, names: Mapping[str, Any]) -> bool:
    """Whether a predicate is true of the named values.

    It may use numbers, strings, tuples, the names, comparisons, ``and``, ``or``, ``not``,
    ``+ - * // %`` of numbers and the functions ``max``, ``min``, ``len``, ``prod`` and ``abs``.
    What has no value makes it false: a comparison with None (a field that the layer does not have),
    a division by zero, the largest of nothing.

    Raises:
        ExpressionError: the text is no such expression, or names what does not exist.
    """
    expression = _parsed(text)
    if unknown := sorted(expression.names - names.keys()):
        known = ", ".join(sorted(names))
        raise ExpressionError(f"{text!r}: {unknown[0]!r} is unknown; names are {known}")
    try:
        return bool(expression.run(names))
    except (TypeError, ArithmeticError, ValueError):
        return False
