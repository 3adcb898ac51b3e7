"""Predicates over configurations, as data: a small expression language, never ``eval``."""

from __future__ import annotations

import ast
import math
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


class PredicateError(ValueError):
    """An expression that is no predicate; the message says where and what may stand there."""


def holds(text: str, names: Mapping[str, Any]) -> bool:
    """Whether a predicate is true of the named values.

    It may use numbers, strings, tuples, the names, comparisons, ``and``, ``or``, ``not``,
    ``+ - * // %`` and the functions ``max``, ``min``, ``len``, ``prod`` and ``abs``. A name whose
    value is None (a field that the layer does not have) makes its comparison false.

    Raises:
        PredicateError: the text is no such expression, or names what does not exist.
    """
    if len(text) > _LONGEST:
        raise PredicateError(f"{text[:40]!r}...: longer than {_LONGEST} characters")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise PredicateError(f"{text!r}: {error}") from error
    for node in ast.walk(tree):  # a part that is not evaluated must have a meaning too
        if isinstance(node, ast.Name) and node.id not in names and node.id not in _CALLS:
            raise _unknown(text, node, names)
    try:
        return bool(_value(tree, names, text))
    except TypeError:
        return False


def _value(node: ast.expr, names: Mapping[str, Any], text: str) -> Any:  # noqa: C901, PLR0911 - one case and return for each kind of node
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Tuple(elts=elements):
            return tuple(_value(e, names, text) for e in elements)
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_value(p, names, text) for p in parts)
        case ast.BoolOp(values=parts):
            return any(_value(p, names, text) for p in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, names, text)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, names, text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left, names, text), _value(right, names, text))
        case ast.Compare(left=first, ops=ops, comparators=others):
            values = [_value(first, names, text), *(_value(o, names, text) for o in others)]
            pairs = zip(ops, values[:-1], values[1:], strict=True)
            return all(_COMPARE[type(op)](a, b) for op, a, b in pairs)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _CALLS:
            return _CALLS[name](*(_value(a, names, text) for a in arguments))
    raise _unknown(text, node, names)


def _unknown(text: str, node: ast.expr, names: Mapping[str, Any]) -> PredicateError:
    known = ", ".join(sorted(names))
    return PredicateError(f"{text!r}: {ast.unparse(node)!r} is unknown; names are {known}")
