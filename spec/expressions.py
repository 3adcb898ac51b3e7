"""A safe evaluator of expressions that stand in data files; nothing is ever handed to ``eval``.

An expression is parsed once against the whitelist of a ``Language``, and called with a value for
each of its names. The specification's formulas (``formulas``) are one language, the predicates of
recorded divergences (``conformance.divergence_predicates``) another.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

Compiled = Callable[[Mapping[str, Any]], Any]


class ExpressionError(ValueError):
    """A text that is no expression of its language; the message says where and why."""


@dataclass(frozen=True)
class Language:
    """What expressions may hold, and how it is computed.

    Attributes:
        longest: the most characters of a text.
        constant: returns the value of a literal; raises ``ValueError`` for one that is not allowed.
        operators: what ``+``, ``/``, ... make of two values.
        negative: what a minus sign makes of a value.
        functions: each function, by its name, called with the values of its arguments.
        arguments: how many arguments each function takes.
        comparisons: what ``==``, ``in``, ... make of two values; where there are any, there are
            tuples, ``and``, ``or`` and ``not`` too.
    """

    longest: int
    constant: Callable[[Any], Any]
    operators: Mapping[type[ast.operator], Callable[[Any, Any], Any]]
    negative: Callable[[Any], Any]
    functions: Mapping[str, Callable[..., Any]]
    arguments: Mapping[str, Container[int]]
    comparisons: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = field(default_factory=dict)


@dataclass(frozen=True)
class Expression:
    """A parsed text, called with the values of its ``names``; the names are those it can read."""

    names: frozenset[str]
    run: Compiled


def parse(text: str, language: Language) -> Expression:
    """Return the expression of a text.

    Raises:
        ExpressionError: the text is malformed, too long, or uses what its language has not.
    """
    if len(text) > language.longest:
        raise ExpressionError(f"{text[:40]!r}...: longer than {language.longest} characters")
    parser = _Parser(language)
    try:
        run = parser.compiled(ast.parse(text.strip(), mode="eval").body)
    except ExpressionError as error:
        raise ExpressionError(f"{text!r}: {error}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"{text!r}: not an expression") from error
    return Expression(frozenset(parser.names), run)


class _Parser:
    """Makes functions of a syntax tree, and gathers the names that they read."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.names: set[str] = set()

    def compiled(self, node: ast.expr) -> Compiled:
        match node:
            case ast.Constant(value=literal):
                return self._constant(node, literal)
            case ast.Name(id=name) if name not in self.language.functions:
                self.names.add(name)
                return lambda values: values[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._applied(self.language.negative, operand)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in self.language.operators:
                return self._applied(self.language.operators[type(op)], left, right)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(node, name, arguments)
        found = self._truth(node) if self.language.comparisons else None
        if found is None:
            _refuse(node)
        return found

    def _applied(self, function: Callable[..., Any], *operands: ast.expr) -> Compiled:
        parts = [self.compiled(operand) for operand in operands]
        return lambda values: function(*(part(values) for part in parts))

    def _constant(self, node: ast.expr, literal: object) -> Compiled:
        try:
            value = self.language.constant(literal)
        except ValueError:
            _refuse(node)
        return lambda _: value

    def _call(self, node: ast.expr, name: str, arguments: list[ast.expr]) -> Compiled:
        if name not in self.language.functions:
            _refuse(node)
        if len(arguments) not in self.language.arguments[name]:
            raise ExpressionError(f"{name} does not take {len(arguments)} arguments")
        return self._applied(self.language.functions[name], *arguments)

    def _truth(self, node: ast.expr) -> Compiled | None:
        """Return what only a language with comparisons has; None where it has it not."""
        match node:
            case ast.Tuple(elts=elements):
                return self._applied(lambda *values: values, *elements)
            case ast.BoolOp(op=op, values=operands):
                parts, chosen = [self.compiled(o) for o in operands], _BOTH[type(op)]
                return lambda values: chosen(part(values) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._applied(lambda value: not value, operand)
            case ast.Compare(left=first, ops=ops, comparators=others):
                if not all(type(op) in self.language.comparisons for op in ops):
                    return None
                compare = [self.language.comparisons[type(op)] for op in ops]
                return self._applied(
                    lambda *values: all(map(_called, compare, values, values[1:])), first, *others
                )
        return None


def _called(function: Callable[[Any, Any], bool], first: object, second: object) -> bool:
    return function(first, second)


_BOTH: Mapping[type[ast.boolop], Callable[[Any], bool]] = {ast.And: all, ast.Or: any}


def _refuse(node: ast.expr) -> NoReturn:
    raise ExpressionError(f"{ast.unparse(node)!r} is not allowed")
