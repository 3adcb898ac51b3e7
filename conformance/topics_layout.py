"""Topics of order: how arrays and weights lie, and in what order a map is flattened."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Refused, Stopped
from cnnformance.conformance.contrast import (
    Asked,
    Both,
    Probe,
    Side,
    brief,
    native,
    stored,
    supported,
)
from cnnformance.conformance.instead import Source, tidy
from cnnformance.conformance.literals import written
from cnnformance.conformance.scratch import ScriptFailed
from cnnformance.conformance.topics import Topic, row, sentence, unmeasured
from cnnformance.reports.compare import Code, Instance, Row, Status
from cnnformance.spec.layers import Conv, Dense, Flatten, Layer, MaxPool, Shape

Axes = tuple[str, ...]

_UNTOLD = (Unsupported, AdapterBroke, Crashed, Refused, Stopped, ScriptFailed)

# 1 layout

IMAGE: Axes = ("batch", "height", "width", "channels")
HELD: Mapping[str, tuple[Layer, Shape, Axes]] = {
    "kernel": (
        Conv((2, 3), in_channels=4, out_channels=5, bias=False),
        (2, 3, 4, 5),
        ("height", "width", "in", "out"),
    ),
    "dense": (Dense(4, 5, bias=False), (5, 4), ("out", "in")),
}
"""The weights of a layer, their canonical sizes, each another, and the axes that these are of."""

_MOST = 20_000
"""The most objects that are looked at for one that has a weight's shape."""


def held(names: Mapping[str, Any], sizes: Sequence[int]) -> Shape | None:
    """Return the shape of the framework's own array that has these sizes in some order.

    It is searched for in what a script left behind, and in what that holds. None: there is none.
    """
    passed = (np.ndarray, str, bytes, type, types.ModuleType, types.FunctionType)
    queue, seen = [value for name, value in names.items() if not name.startswith("__")], set()
    for value in itertools.islice(_grown(queue), _MOST):
        if id(value) in seen or isinstance(value, passed):
            continue
        seen.add(id(value))
        try:
            shape = tuple(int(size) for size in value.shape)
        except Exception:  # noqa: BLE001 - an object of a framework may do anything
            shape = ()
        if sorted(shape) == sorted(sizes):
            return shape
        if isinstance(value, Mapping):
            queue += list(value.values())
        elif isinstance(value, list | tuple | set):
            queue += list(value)
        else:
            queue += list(getattr(value, "__dict__", {}).values())
    return None


def _grown(queue: list[Any]) -> Iterable[Any]:
    """Yield the items of a list that grows meanwhile."""
    place = 0
    while place < len(queue):
        yield queue[place]
        place += 1


_FIND = """
from cnnformance.conformance.topics_layout import held
answer = held(dict(globals()), {sizes})
"""


def _axes(side: Side) -> tuple[dict[str, Axes], dict[str, str]]:
    """Return the axes of each array as a side holds it, and why some are not known."""
    if side.subject is None:
        return {}, dict.fromkeys(("images", *HELD), "it is not installed here")
    moved = side.layout == "channels_first"
    image: Axes = (IMAGE[0], IMAGE[-1], *IMAGE[1:-1]) if moved else IMAGE
    found, why = {"images": image}, {}
    for name, (layer, sizes, axes) in HELD.items():
        x = np.ones((1, 4, 4, 4) if isinstance(layer, Conv) else (1, 4), np.float32)
        given = native(side, layer, x)
        if not supported(side, layer, given):
            why[name] = "it has no such layer"
            continue
        try:
            own = side.subject.script(layer, (given,))
            weight = {"weight": np.ones(sizes, np.float32)}
            source = Source({"x": given}, stored(side, layer, weight))
            shape = side.scratch.run(source.text((), own, (_FIND.format(sizes=sizes),)), "answer")
        except _UNTOLD as error:
            why[name] = f"its script does not tell ({' '.join(str(error).split())[:120]})"
            continue
        if shape is None:
            why[name] = "it holds none: weights are arguments of each call"
        else:
            found[name] = tuple(axes[sizes.index(size)] for size in shape)
    return found, why


def _moves(one: Mapping[str, Axes], other: Mapping[str, Axes]) -> dict[str, tuple[int, ...]]:
    """Return the transposition of each array from one layout to the other, where it moves axes."""
    found = {
        name: tuple(axes.index(a) for a in other[name])
        for name, axes in one.items()
        if name in other
    }
    return {name: order for name, order in found.items() if order != tuple(sorted(order))}


_SIZES = {"batch": 2, "height": 2, "width": 3, "channels": 4, "in": 4, "out": 5}


def _transposed(one: Side, other: Side, of: Mapping[str, Axes], to: Mapping[str, Axes]) -> Code:
    """Return the lines that turn the arrays of one into those of the other."""
    moves = _moves(of, to)
    lines, shapes = ["import numpy as np"], []
    for name in moves:
        shape = tuple(_SIZES[axis] for axis in of[name])
        lines.append(f"{name} = np.zeros({shape})  # {', '.join(of[name])}: as {one.name} holds it")
    for name, order in moves.items():
        lines.append(f"{name} = np.transpose({name}, {order})  # {', '.join(to[name])}")
        shapes.append(f"{name}.shape")
    source = "\n".join([*lines, f"shapes = [{', '.join(shapes)}]"]) + "\n"
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102 - the lines above
    return Code(other.name, one.name, ", ".join(moves), source, f"shapes {names['shapes']}")


def _layout(topic: Topic, both: Both) -> Row:
    (one, why_one), (other, why_other) = told = [_axes(side) for side in both.sides]
    says = [
        sentence(
            [
                ((name, ""), f"({', '.join(axes[name])})" if name in axes else why[name])
                for name in ("images", *HELD)
            ]
        )
        for axes, why in told
    ]
    instances = []
    for name in ("images", *HELD):
        known = name in one and name in other
        same = known and one[name] == other[name]
        answers = [", ".join(axes[name]) if name in axes else why[name] for axes, why in told]
        instances.append(
            Instance(
                name,
                "",
                "",
                ("", ""),
                (answers[0], answers[1]),
                "same" if same else "differs" if known else "unknown",
            )
        )
    del why_one, why_other
    moves = bool(_moves(one, other))
    first, second = both.sides
    code = (
        (_transposed(first, second, one, other), _transposed(second, first, other, one))
        if moves
        else ()
    )
    known = any(i.agreement == "same" for i in instances)
    found: Status = "differs" if moves else "same" if known else "unknown"
    return Row(
        topic.name,
        topic.title,
        found,
        (says[0], says[1]),
        next((i for i in instances if i.agreement == "differs"), None),
        tuple(instances),
        code,
    )


# 2 flatten order


def _flat(*sizes: int) -> Probe:
    """Return the probe of a map that counts 1, 2, 3, ..., pooled by windows of 1 and flattened."""
    x = np.arange(1, np.prod(sizes) + 1).reshape(1, *sizes).astype(np.float32)
    layers = (MaxPool((1,) * (len(sizes) - 1)), Flatten())
    return Probe("Flatten", f"of a map of shape {sizes}", x, (layers,))


_WEIGHT = np.array([[1, 10, 100, 1000]], np.float32)


def _first_dense() -> Probe:
    x = np.array([[[1, 2], [3, 4]]], np.float32)
    layers = (MaxPool((1,)), Flatten(), Dense(4, 1, bias=False))
    where = "with weights [1, 10, 100, 1000] after it"
    return Probe("Dense", where, x, (layers,), {"weight": _WEIGHT})


def _order(asked: Asked, at: int) -> tuple[int, ...] | None:
    """Return the order of a map's axes in which a side flattens it; None for another."""
    y, x = asked.replies[at].y, asked.probe.x[0]
    if y is None:
        return None
    orders = itertools.permutations(range(x.ndim))
    return next((o for o in orders if np.array_equal(x.transpose(o).ravel(), y[0])), None)


def _permuted(both: Both, asked: Asked, dense: Asked, at: int) -> Code:
    """Return how the weight of the next dense layer of one side becomes the other's."""
    (one, other), sides = (at, 1 - at), both.sides
    orders = _order(asked, one), _order(asked, other)
    of = "Dense after Flatten"
    code = Code(sides[other].name, sides[one].name, of)
    subject, x = sides[other].subject, dense.probe.x
    mine, theirs = orders
    wanted = dense.replies[one].y
    if mine is None or theirs is None or subject is None or wanted is None:
        return Code(code.subject, code.like, of, why="the order of one of the two is none of axes")
    shape = tuple(x[0].shape[axis] for axis in mine)
    turned = tuple(mine.index(axis) for axis in theirs)
    first = sides[other].layout == "channels_first"
    given = np.moveaxis(x, -1, 1) if first else x
    layer = Dense(4, 1, bias=False)
    other_order = stored(sides[other], layer, {"weight": _WEIGHT})["weight"].shape != _WEIGHT.shape
    weight = "weight.T.copy()" if other_order else "weight"
    try:
        flat = subject.script(Flatten(), (given,)).strip().splitlines()
        own = subject.script(layer, (np.ones((1, 4), np.float32),))
    except _UNTOLD as error:
        return Code(code.subject, code.like, of, why=" ".join(str(error).split()))
    named = ", ".join(("cells", "channels")[axis] for axis in mine)
    count = f"np.arange({x[0].size}).reshape({shape})  # {named}: the features of {code.like}"
    lines = [
        "import numpy as np",
        *written("x", np.ascontiguousarray(given)),
        *written("weight", _WEIGHT),
        f"# (out, features) of the first dense layer after the flatten, as {code.like} has it",
        f"features = {count}",
        f"weight = weight[:, features.transpose({turned}).ravel()]",
        "weights = {}",
        "",
        *flat,
        f"x, weights = y, {{'weight': {weight}}}",
        *own.splitlines(),
        "",
    ]
    source = "\n".join(tidy(lines))
    try:
        y = np.asarray(sides[other].scratch.run(source, "y"))
    except ScriptFailed as error:
        return Code(code.subject, code.like, of, why=str(error))
    if not np.array_equal(y, wanted):
        return Code(code.subject, code.like, of, why=f"the permuted weight gives {brief(y)}")
    return Code(code.subject, code.like, of, source, brief(y))


def _named(asked: Asked, at: int) -> str:
    order = _order(asked, at)
    if order is None:
        return str(asked.replies[at])
    names = ("height", "width", "channels")
    return f"({', '.join(names[axis] for axis in order)}), the last fastest"


def _flatten(topic: Topic, both: Both) -> Row:
    asked = both.ask(_flat(2, 2), _first_dense(), _flat(2, 3, 4))
    if nothing := unmeasured(topic, both, asked):
        return nothing
    small, dense, large = asked
    says = (f"in the order {_named(large, 0)}", f"in the order {_named(large, 1)}")
    differs = dense.agreement == "differs" and small.agreement == "differs"
    code = tuple(_permuted(both, small, dense, at) for at in (0, 1)) if differs else ()
    return row(topic, both, asked, says, code)


TOPICS = {
    "layout": Topic("layout", "layout of arrays and weights", whole=_layout),
    "flatten": Topic("flatten", "order of flattening", traits="flatten order", whole=_flatten),
}
