"""Predicates over configurations, as data: a small expression language, never ``eval``."""

from __future__ import annotations

import ast
import math
import numbers
import operator
from collections.abc import Callable, Mapping
from typing import Any

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "max": max,
    "min": min,
    "len": len,
    "prod": math.prod,
    "abs": abs,
}
_LONGEST = 500


class PredicateError(Exception):
    """An expression that is no predicate; the message says where and what may stand there."""


_NODES = (
    ast.Tuple, ast.Load, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp,
    *_BINARY, ast.Compare, *_COMPARE,
)  # fmt: skip


def holds(text: str, names: Mapping[str, Any]) -> bool:
    """Whether a predicate is true of the named values.

    It may use numbers, strings, tuples, the names, comparisons, ``and``, ``or``, ``not``,
    ``+ - * // %`` of numbers and the functions ``max``, ``min``, ``len``, ``prod`` and ``abs``.
    What has no value makes it false: a comparison with None (a field that the layer does not have),
    a division by zero, the largest of nothing.

    Raises:
        PredicateError: the text is no such expression, or names what does not exist.
    """
    if len(text) > _LONGEST:
        raise PredicateError(f"{text[:40]!r}...: longer than {_LONGEST} characters")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PredicateError(f"{text!r}: {error}") from error
    for node in ast.walk(tree):  # a part that is not evaluated must have a meaning too
        if not _has_meaning(node, names):
            raise _unknown(text, node, names)
    try:
        return bool(_value(tree, names))
    except (TypeError, ArithmeticError, ValueError):
        return False


def _has_meaning(node: ast.AST, names: Mapping[str, Any]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in names or name in _CALLS
        case ast.Constant(value=value):
            return isinstance(value, bool | int | float | str)
        case ast.Call(func=ast.Name(id=name), keywords=[]):
            return name in _CALLS
        case ast.Call():
            return False
    return isinstance(node, _NODES)


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:  # noqa: C901, PLR0911 - one case and return for each kind of node
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Tuple(elts=elements):
            return tuple(_value(e, names) for e in elements)
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_value(p, names) for p in parts)
        case ast.BoolOp(values=parts):
            return any(_value(p, names) for p in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, names)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            operands = _value(left, names), _value(right, names)
            if not all(isinstance(value, numbers.Real) for value in operands):
                raise TypeError(f"{ast.unparse(node)} is no arithmetic of numbers")
            return _BINARY[type(op)](*operands)
        case ast.Compare(left=first, ops=ops, comparators=others):
            values = [_value(first, names), *(_value(o, names) for o in others)]
            pairs = zip(ops, values[:-1], values[1:], strict=True)
            return all(_COMPARE[type(op)](a, b) for op, a, b in pairs)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _CALLS:
            return _CALLS[name](*(_value(a, names) for a in arguments))
    raise TypeError(f"{ast.unparse(node)} has no value")


def _unknown(text: str, node: ast.AST, names: Mapping[str, Any]) -> PredicateError:
    known = ", ".join(sorted(names))
    shown = ast.unparse(node) or type(node).__name__
    return PredicateError(f"{text!r}: {shown!r} is unknown; names are {known}")
