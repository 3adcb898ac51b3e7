"""What a framework does where an argument is left out, asked of its own calls.

Two scripts of an adapter that differ in one option show which argument of which call it is: its
default is read off the signature, and what it does is seen by running the script without it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Refused, Stopped
from cnnformance.conformance.contrast import Side, canonical, native, probe, stored, supported
from cnnformance.conformance.instead import Source
from cnnformance.conformance.scratch import ScriptFailed
from cnnformance.spec import layers as spec

_NONE = frozenset({"cnnformance", "numpy", "ml_dtypes"}) | sys.stdlib_module_names
"""What a script imports that is no framework."""


@dataclass(frozen=True, eq=False)
class Option:
    """A layer, others that differ in one option alone, and an input that shows which is taken.

    The first of ``inputs`` is the layer's, the second the others': they differ where the option is
    the dtype. With ``counted`` it is the number of parameters that shows which is taken.
    """

    of: str
    name: str
    layer: spec.Layer
    others: tuple[spec.Layer, ...]
    inputs: tuple[Array, Array]
    weights: Mapping[str, Array] = field(default_factory=dict)
    counted: bool = False


@dataclass(frozen=True, eq=False)
class Default:
    """The argument of a framework's call for an option, its default, and what comes of it.

    ``parameter`` is empty where the framework has no such argument, ``value`` where its signature
    states no default; ``answer`` is None where the argument must be given.
    """

    call: str
    parameter: str
    value: str
    answer: Any


_ONES = np.ones((1, 2, 2, 1), np.float32)
COUNTED = spec.AveragePool((3, 3), (1, 1), ((1, 1), (1, 1)), count_include_pad=True)
UNCOUNTED = COUNTED.replace(count_include_pad=False)
COUNTING = Option("AveragePool", "padding that counts", COUNTED, (UNCOUNTED,), (_ONES, _ONES))
"""Whether padding counts in the divisor of an average."""


class NotAsked(Exception):  # noqa: N818 - an answer
    """A default that cannot be asked for; the message says why."""


@dataclass(frozen=True)
class _Argument:
    """Where an argument stands in a script: which call in order, and its place or keyword."""

    number: int
    call: str
    key: int | str


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _imported(tree: ast.Module) -> set[str]:
    """Return the names by which a script imports a framework."""
    names = set()
    for node in tree.body:
        match node:
            case ast.Import(names=aliases):
                found = {(a.asname or a.name.partition(".")[0], a.name) for a in aliases}
            case ast.ImportFrom(module=str(module), names=aliases):
                found = {(a.asname or a.name, module) for a in aliases}
            case _:
                continue
        names |= {name for name, origin in found if origin.partition(".")[0] not in _NONE}
    return names


def _given(call: ast.Call) -> dict[int | str, str]:
    """Return the arguments of a call as source, by place or keyword."""
    placed = {n: ast.unparse(arg) for n, arg in enumerate(call.args)}
    return placed | {k.arg or "**": ast.unparse(k.value) for k in call.keywords}


def _differing(one: ast.Module, other: ast.Module) -> _Argument | None:
    """Return the argument in which two scripts differ; None where there is not one alone."""
    names = _imported(one)
    for number, (a, b) in enumerate(zip(_calls(one), _calls(other), strict=False)):
        called = ast.unparse(a.func)
        if called != ast.unparse(b.func) or called.partition(".")[0] not in names:
            continue
        mine, theirs = _given(a), _given(b)
        keys = [key for key in mine if mine[key] != theirs.get(key)]
        if mine.keys() == theirs.keys() and len(keys) == 1 and "(" not in mine[keys[0]].strip("("):
            return _Argument(number, called, keys[0])
    return None


def _head(tree: ast.Module) -> str:
    """Return the statements with which a script imports, and sets what an import reads."""
    kept: list[ast.stmt] = [
        node
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript))
    ]
    return ast.unparse(ast.Module(kept, []))


_SIGNATURE = """
import inspect
answer = [
    (p.name, p.kind.name, "" if p.default is p.empty else repr(p.default))
    for p in inspect.signature({call}).parameters.values()
]
"""


def _without(tree: ast.Module, at: _Argument, names: list[str]) -> str:
    """Return a script without an argument; those placed behind it are given by their names."""
    call = _calls(tree)[at.number]
    if isinstance(at.key, str):
        call.keywords = [k for k in call.keywords if k.arg != at.key]
    else:
        behind = list(enumerate(call.args))[at.key + 1 :]
        named = [ast.keyword(names[n], arg) for n, arg in behind]
        call.args, call.keywords = call.args[: at.key], [*named, *call.keywords]
    return ast.unparse(tree)


def _script(side: Side, option: Option, layer: spec.Layer, x: Array) -> ast.Module:
    """Return the script of a layer. Raises ``NotAsked``: there is none."""
    assert side.subject is not None
    given, call = ((), "parameters") if option.counted else ((native(side, layer, x),), "forward")
    try:
        return ast.parse(side.subject.script(layer, given, call))
    except (Unsupported, Refused, Crashed, AdapterBroke, Stopped) as error:
        raise NotAsked(" ".join(str(error).split())) from error
    except SyntaxError as error:
        raise NotAsked("its script is no Python") from error


def _found(side: Side, option: Option, tree: ast.Module) -> _Argument | None:
    """Return the argument that is the option; None where no call has it.

    Raises:
        NotAsked: scripts differ, and not in one argument alone.
    """
    known = True
    for other in option.others:
        try:
            changed = _script(side, option, other, option.inputs[1])
        except NotAsked:
            continue
        if at := _differing(tree, changed):
            return at
        known = known and ast.unparse(changed) == ast.unparse(tree)
    if not known:
        raise NotAsked("the option is no argument of one call")
    return None


def default(side: Side, option: Option) -> Default:
    """Return what a side does where an option is left out.

    Raises:
        NotAsked: its scripts do not tell; the message says why.
    """
    if side.subject is None:
        raise NotAsked("it is not installed here")
    if not supported(side, option.layer, option.inputs[0]):
        raise NotAsked("it has no such layer")
    tree = _script(side, option, option.layer, option.inputs[0])
    if not _imported(tree):
        raise NotAsked("its scripts call no framework whose defaults could be asked")
    at = _found(side, option, tree)
    if at is None:
        if side.ask(probe("", "", option.inputs[0], option.layer, weights=option.weights)).composed:
            raise NotAsked("it has no such option")
        return Default("", "", "", _ran(side, option, ast.unparse(tree)))
    try:
        told = side.scratch.run(_head(tree) + _SIGNATURE.format(call=at.call), "answer")
        names = [name for name, kind, _ in told if kind != "VAR_KEYWORD"]
        parameter = at.key if isinstance(at.key, str) else names[at.key]
    except (ScriptFailed, IndexError) as error:
        raise NotAsked(f"{at.call} has no signature: {error}") from error
    value = next((value for name, _, value in told if name == parameter), "")
    try:
        answer = _ran(side, option, _without(tree, at, names))
    except NotAsked:
        if value:
            raise
        answer = None
    return Default(at.call, parameter, value, answer)


def _ran(side: Side, option: Option, source: str) -> Any:
    """Return what a script gives for an option's input."""
    layer = option.layer
    arrays = {} if option.counted else {"x": native(side, layer, option.inputs[0])}
    made = Source(arrays, {} if option.counted else stored(side, layer, option.weights))
    try:
        found = side.scratch.run(made.text((), source, ()), "count" if option.counted else "y")
    except ScriptFailed as error:
        raise NotAsked(str(error)) from error
    return found if option.counted else canonical(side, layer, np.asarray(found))
