"""What to write in one framework for the result that another gives: found by trying, and run.

Each try is a script in the framework's own calls, with lines of NumPy around it where no call
does; it is kept if what comes out is the other's result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Refused, Stopped
from cnnformance.conformance.contrast import (
    Asked,
    Probe,
    Reply,
    Side,
    agreement,
    brief,
    canonical,
    line,
    native,
    stored,
    supported,
)
from cnnformance.conformance.equivalents import equivalent
from cnnformance.conformance.literals import TooLarge, written
from cnnformance.conformance.scratch import ScriptFailed
from cnnformance.reports.compare import Code
from cnnformance.spec import layers as spec

_UNWRITTEN = (Unsupported, AdapterBroke, Crashed, Refused, Stopped, TooLarge)


@dataclass(frozen=True, eq=False)
class Way:
    """A layer, the lines that prepare its ``x``, and those that finish its ``y``."""

    layer: spec.Layer
    weights: Mapping[str, Array]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


AROUND: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("x = np.where(np.isnan(x), x.dtype.type(-np.inf), x)  # a NaN never wins",), ()),
    (
        ("x = np.concatenate([np.where(np.isnan(x), -np.inf, x), np.isnan(x)]).astype(x.dtype)",),
        (
            "y, spoilt = np.split(y, 2)",
            "y = np.where(spoilt > 0, y.dtype.type(np.nan), y)  # a NaN always wins",
        ),
    ),
    (
        ("given = x.dtype", "x = x.astype(np.float32)  # so are the sums"),
        ("y = y.astype(given)",),
    ),
    (("x = x.astype(np.float32)",), ()),
)
"""Lines of NumPy around a layer that change what it does with NaN, or in what its sums are kept."""


def _padded(layer: spec.Layer, weights: Mapping[str, Array], *, first: bool) -> Iterator[Way]:
    """Yield the layer without its padding, and the line that pads before."""
    if not isinstance(layer, spec.Windowed) or isinstance(layer.padding, str) or layer.unpadded:
        return
    pads = list(layer.padding)
    pads = [(0, 0), (0, 0), *pads] if first else [(0, 0), *pads, (0, 0)]
    if isinstance(layer, spec.AveragePool) and not layer.count_include_pad:
        return
    fill = "0"
    if layer.compares:
        fill = "np.inf" if layer.least else "-np.inf"
    line = f"x = np.pad(x, {pads}, constant_values={fill})"
    yield Way(layer.replace(padding=()), weights, (line,))


def _ways(asked: Probe, wanted: Reply, *, first: bool) -> Iterator[list[Way]]:
    """Yield what may give the result of a layer, the plainest first.

    First other options of the framework's calls, then padding and other lines around one.
    """
    same = list(equivalent(wanted.layer, asked.x.shape, asked.weights))
    yield [Way(layer, weights, after=after) for layer, weights, after in same]
    yield [
        Way(way.layer, weights, way.before, after)
        for layer, weights, after in same
        for way in _padded(layer, weights, first=first)
    ]
    if not asked.gradient and asked.x.dtype.kind not in "iub":
        yield [Way(wanted.layer, asked.weights, before, after) for before, after in AROUND]


def tidy(lines: Sequence[str]) -> list[str]:
    """Return a script's lines: imports once, nothing printed, and no two empty lines in a row."""
    kept = list(dict.fromkeys(each for each in lines if each.startswith("from __future__ ")))
    for each in lines:
        again = each in kept and each.startswith(("import ", "from ", "os.environ["))
        empty = not each.strip() and (not kept or not kept[-1].strip())
        if not again and not empty and not each.startswith("print("):
            kept.append(each)
    return kept


@dataclass
class Source:
    """A script in the making: the arrays, the lines before, the framework's own, those after."""

    arrays: dict[str, Array] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)

    def text(self, before: tuple[str, ...], own: str, after: tuple[str, ...]) -> str:
        """Return the whole. Raises ``TooLarge`` for arrays that no short source makes."""
        held = [*self.arrays.items(), *self.weights.items()]
        lines = ["import numpy as np"]
        if any(array.dtype.name == "bfloat16" for _, array in held):
            lines.append("import ml_dtypes")
        for name, array in held:
            lines += written(name, array)
        if self.weights:
            names = ", ".join(f"{name!r}: {name}" for name in self.weights)
            lines.append(f"weights = {{{names}}}")
        elif "weights" in own:
            lines.append("weights = {}")
        return "\n".join(tidy([*lines, *before, "", *own.splitlines(), *after])) + "\n"


def _own(side: Side, asked: Probe, way: Way) -> tuple[str, str]:
    """Return the script of a way, and the name that holds its answer.

    Raises:
        Unsupported and its kin: the adapter cannot write it, or its arrays are too large.
    """
    assert side.subject is not None
    x = native(side, way.layer, asked.x)
    names: dict[str, Any] = {"np": np, "x": x}
    exec("\n".join(way.before), names)  # noqa: S102 - the lines above
    given: list[Array] = [names["x"]]
    if not supported(side, way.layer, given[0]):
        raise Unsupported(f"it has no {type(way.layer).__name__} of {given[0].dtype}")
    made = Source({"x": x}, stored(side, way.layer, way.weights))
    if asked.gradient:
        upstream = native(side, way.layer, asked.upstream(way.layer))
        given.append(upstream)
        made.arrays["upstream"] = upstream
    call = "gradients" if asked.gradient else "forward"
    own = side.subject.script(way.layer, given, call)
    after = () if asked.gradient else way.after
    return made.text(way.before, own, after), "gradients" if asked.gradient else "y"


def write(side: Side, asked: Probe, like: str, wanted: Reply) -> Code:
    """Return the shortest script of a side that gives a wanted result.

    ``like`` names whose result it is.
    """
    of = " ".join(filter(None, (asked.of, asked.where)))
    if side.subject is None:
        return Code(side.name, like, of, why=f"{side.name} is not installed here")
    why, found = "", []
    for tries in _ways(asked, wanted, first=side.layout == "channels_first"):
        for way in tries:
            try:
                source, y = _run(side, asked, way, wanted)
            except (*_UNWRITTEN, ScriptFailed) as error:
                why = why or line(error)
                continue
            reply = Reply("answered", wanted.layers, y, gradients={"input": y})
            if agreement(asked, wanted, reply) in ("same", "rounding"):
                found.append(Code(side.name, like, of, source, brief(y)))
            why = why or f"its own call gives {brief(y)}"
        if found:
            return min(found, key=lambda code: len(code.source))
    return Code(side.name, like, of, why=f"no call was found that gives it ({why})")


def _run(side: Side, asked: Probe, way: Way, wanted: Reply) -> tuple[str, Array]:
    """Return the script of a way, and what it gives."""
    source, answer = _own(side, asked, way)
    found = side.scratch.run(source, answer)
    found = np.asarray(found["input"] if asked.gradient else found)
    return source, canonical(side, wanted.layer, found)


def both_ways(sides: tuple[Side, Side], asked: Asked) -> tuple[Code, ...]:
    """Return what to write in each for the other's result, where there is one."""
    return tuple(
        write(sides[1 - at], asked.probe, sides[at].name, wanted)
        for at, wanted in enumerate(asked.replies)
        if wanted.y is not None and len(wanted.layers) == 1
    )
