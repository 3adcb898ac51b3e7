"""Topics of windows: padding, the divisor at borders, rounding of sizes, dilation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.conformance.contrast import Asked, Both, Probe, Reply, Side, brief, probe
from cnnformance.conformance.signatures import COUNTED, COUNTING, UNCOUNTED, NotAsked, default
from cnnformance.conformance.topics import Topic, plainly, sentence, telling
from cnnformance.reference import ShapeError, forward
from cnnformance.spec.layers import AveragePool, Conv, LpPool, MaxPool, Padding, Pool, Windowed


def counting(*sizes: int) -> Array:
    """Return one sample of one channel that counts 1, 2, 3, ..."""
    return np.arange(1, np.prod(sizes) + 1).reshape(1, *sizes, 1).astype(np.float32)


def digits(window: int) -> dict[str, Array]:
    """Return a kernel of 1, 10, 100, ...: the digits of an output are the cells of its window."""
    return {"weight": (10.0 ** np.arange(window)).reshape(window, 1, 1).astype(np.float32)}


def _made(reply: Reply) -> str:
    return f" (made of {reply.composed})" if reply.composed else ""


# 3 padding


def _kept(kind: type[Windowed], window: int, stride: int, cells: int) -> Probe:
    """Return the probe of a layer that keeps the size, or divides it by the stride.

    By the word ``same`` or, where a framework has none of its own, by pads on both sides.
    """
    half = (window - 1) // 2
    paddings: tuple[Padding, ...] = ("same", ((half, half),))
    fields: dict[str, Any] = {"bias": False} if kind is Conv else {}
    layers = [kind((window,), (stride,), padding, **fields) for padding in paddings]
    weights = digits(window) if kind is Conv else {}
    where = f"window {window} stride {stride} on {cells} cells"
    return probe(kind.__name__, where, counting(cells), *layers, weights=weights)


def _keeping(_: Both) -> list[Probe]:
    sizes = ((3, 2, 4), (3, 1, 3), (3, 2, 5), (2, 1, 3), (5, 2, 6))
    found = [_kept(Conv, *each) for each in sizes]
    return [*found, *(_kept(MaxPool, *each) for each in (*sizes[:3], (2, 2, 3)))]


def pads_of(asked: Asked, reply: Reply) -> tuple[int, int] | None:
    """Return the cells before and after with which the reference gives an answer; None: none."""
    layer = reply.layer
    if reply.y is None or not isinstance(layer, Windowed):
        return None
    if layer.padding != "same" and not isinstance(layer.padding, str):
        return layer.padding[0]
    cells = range(layer.window[0])
    for pair in sorted(((a, b) for a in cells for b in cells), key=sum):
        try:
            y = forward(layer.replace(padding=(pair,)), asked.probe.x, asked.probe.weights)
        except ShapeError:
            continue
        if y.shape == reply.y.shape and np.allclose(y, reply.y):
            return pair
    return None


def _padded(asked: Asked, reply: Reply) -> str:
    if reply.y is None:
        return plainly(reply)
    word = isinstance(reply.layer, Windowed) and reply.layer.padding == "same"
    pair = pads_of(asked, reply)
    told = f"pads {pair}" if pair else f"gives {brief(reply.y)}"
    by = "by 'same'" if word else "written as numbers, for there is no 'same' of its own"
    return f"{told} {by}{_made(reply)}"


# 4 averages

WORD = UNCOUNTED.replace(padding="same")
_ONES = COUNTING.inputs[0]


def _by_default(side: Side) -> Reply | None:
    """Return how a side averages at a border where nothing is said; None where that is not known.

    It is its only way or, of two, the one that its signature has for a default.
    """
    replies = {each: side.ask(probe("", "", _ONES, each)) for each in (COUNTED, UNCOUNTED, WORD)}
    own = [a for a, r in replies.items() if r.state == "answered" and not r.composed]
    if COUNTED not in own or UNCOUNTED not in own:
        return replies[own[0]] if own else None
    try:
        found = default(side, COUNTING)
    except NotAsked:
        return None
    for layer in (COUNTED, UNCOUNTED):
        y = replies[layer].y
        if found.answer is not None and y is not None and np.array_equal(found.answer, y):
            return replace(replies[layer], note=f"its default, {found.parameter}={found.value}")
    return None


def _averages(both: Both) -> list[Probe | Asked]:
    named = {
        "with padding (1, 1) that counts": COUNTED,
        "with padding (1, 1) that does not count": UNCOUNTED,
        "with padding 'same'": WORD,
    }
    probes = [probe("AveragePool", f"3x3 {where}", _ONES, named[where]) for where in named]
    one, other = (_by_default(side) for side in both.sides)
    if one is None or other is None:
        return [*probes]
    plain = Probe("AveragePool", "3x3 with padding as it comes", _ONES, (one.layers,))
    return [Asked(plain, (one, other)), *probes]


def _divided(asked: Asked, reply: Reply) -> str:
    """Return by what the sum of a corner window was divided: its cells are ones."""
    del asked
    corner = float(reply.y.ravel()[0]) if reply.y is not None else 0
    if not corner > 0:
        return plainly(reply)
    note = f" ({reply.note})" if reply.note else ""
    return f"a corner of 4 cells is divided by {4 / corner:.4g}{note}{_made(reply)}"


def _all_divided(topic: Topic, asked: Sequence[Asked], at: int) -> str:
    return sentence([((a.probe.of, a.probe.where), topic.summary(a, a.replies[at])) for a in asked])


# 5 rounding

_MANY = 112
_UP: dict[str, Any] = {"ceil_mode": True}
_SIZES = {
    "rounded down": MaxPool((3,), (2,)),
    "rounded up": MaxPool((3,), (2,), **_UP),
    "rounded down with padding (1, 1)": MaxPool((3,), (2,), ((1, 1),)),
    "rounded up with padding (1, 1)": MaxPool((3,), (2,), ((1, 1),), **_UP),
    "with padding 'same'": MaxPool((3,), (2,), "same"),
}


def _rounding(both: Both) -> list[Probe | Asked]:
    hang, last = "window 2 stride 2 on 3 cells", "window 3 stride 3 padding (1, 1) on 2 cells"
    stem = "window 3 stride 2 padding (1, 1) on 4 cells rounded down"
    found: list[Probe | Asked] = [
        probe("MaxPool", f"{hang} rounded down", counting(3), MaxPool((2,))),
        probe("MaxPool", stem, -counting(4), MaxPool((3,), (2,), ((1, 1),))),
    ]
    kinds: tuple[type[Pool], ...] = (MaxPool, AveragePool)
    for kind in (*kinds, LpPool):
        layer = kind((2,), (2,), **_UP)
        found.append(probe(kind.__name__, f"{hang} rounded up", counting(3), layer))
    for kind in kinds:
        layer = kind((3,), (3,), ((1, 1),), **_UP)
        asked = probe(kind.__name__, f"{last} rounded up", counting(2), layer)
        found.insert(-1, asked if kind is MaxPool else both.form(asked))
    big = f"window 3 stride 2 on {_MANY} cells"
    many = (probe("MaxPool", f"{big} {where}", counting(_MANY), a) for where, a in _SIZES.items())
    return [*found, *map(both.form, many)]


def _sized(asked: Asked, reply: Reply) -> str:
    """Return an answer, or the size of one whose values are none of this topic."""
    del asked
    if reply.y is None or reply.y.any():
        return plainly(reply)
    size = reply.y.shape[1]
    return f"{size} cell{'s' * (size != 1)}{_made(reply)}"


def _resized(reply: Reply, where: str) -> str:
    size = plainly(reply) if reply.y is None else str(reply.y.shape[1])
    return f"{size} {where}{_made(reply)}"


def _rounded(topic: Topic, asked: Sequence[Asked], at: int) -> str:
    """Return to how many cells the large map comes, each way, and what differs on small ones."""
    small, large = asked[: -len(_SIZES)], asked[-len(_SIZES) :]
    sizes = zip(_SIZES, large, strict=True)
    told = [_resized(a.replies[at], where) for where, a in sizes]
    head = f"{_MANY} cells with window 3 and stride 2 become {', '.join(told)}"
    return f"{head}. {telling(topic, small, at)}"


# 7 dilation


def _dilated(_: Both) -> list[Probe]:
    x, two = counting(5), (2,)
    found = []
    for stride in (1, 2):
        conv = Conv((2,), (stride,), dilation=two, bias=False)
        where = f"with dilation 2 and stride {stride}"
        found.append(probe("Conv", where, x, conv, weights=digits(2)))
        kinds: tuple[type[Pool], ...] = (MaxPool, AveragePool, LpPool)
        found += [probe(k.__name__, where, x, k((2,), (stride,), (), two)) for k in kinds]
    return found


TOPICS = {
    "padding": Topic(
        "padding", "padding that keeps the size, with strides", _keeping, _padded, lacking=True
    ),
    "averages": Topic(
        "averages",
        "divisor of averages at borders",
        _averages,
        _divided,
        _all_divided,
        lacking=True,
    ),
    "rounding": Topic(
        "rounding",
        "rounding of sizes, and the last window",
        _rounding,
        _sized,
        _rounded,
        lacking=True,
        codes=4,
    ),
    "dilation": Topic("dilation", "dilation", _dilated, lacking=True, codes=2),
}
