"""Two subjects asked the same: what each makes of one input, and whether that is the same.

All that ``cnnformance compare`` measures goes through ``Both.ask``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Refused, Stopped
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import judge
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.scratch import Scratch
from cnnformance.reference import ShapeError, output_shape
from cnnformance.reports.compare import Agreement, Instance
from cnnformance.reports.records import Run
from cnnformance.reports.tables import called
from cnnformance.spec import layers as spec

State = Literal["answered", "unsupported", "refused", "crashed", "unknown"]
Layers = tuple[spec.Layer, ...]

_MISFORTUNES = (Refused, Crashed, AdapterBroke, Stopped)
_LONGEST = 160
"""Characters of what a framework says that are shown."""


@dataclass(frozen=True, eq=False)
class Probe:
    """An input, and the ways of asking for what is meant.

    The first of ``ways`` that a subject has natively is its own; most probes have one way. Each
    is a model, mostly of one layer, and ``weights`` are those of its last. With ``gradient`` it is
    the gradient for the input that is asked for, upstream ones.
    """

    of: str
    where: str
    x: Array
    ways: tuple[Layers, ...]
    weights: Mapping[str, Array] = field(default_factory=dict)
    gradient: bool = False

    def upstream(self, layer: spec.Layer) -> Array:
        """Return the upstream gradient: ones, in the shape of the layer's output."""
        return np.ones(output_shape(layer, self.x.shape), self.x.dtype)


def probe(
    of: str,
    where: str,
    x: Array,
    *layers: spec.Layer,
    weights: Mapping[str, Array] | None = None,
    gradient: bool = False,
) -> Probe:
    """Return the probe of layers of which the first that a subject has is its own."""
    return Probe(of, where, x, tuple((layer,) for layer in layers), weights or {}, gradient)


@dataclass(frozen=True, eq=False)
class Reply:
    """What a subject made of a probe: an output, or (``why``) none.

    ``composed`` is the adapter's note on a layer that its framework lacks, ``note`` what else
    there is to say.
    """

    state: State
    layers: Layers
    y: Array | None = None
    why: str = ""
    composed: str = ""
    note: str = ""
    gradients: Mapping[str, Array] = field(default_factory=dict)

    @property
    def layer(self) -> spec.Layer:
        """The layer, the last of a model."""
        return self.layers[-1]

    def __str__(self) -> str:
        return brief(self.y) if self.y is not None else self.why


def line(text: object) -> str:
    """Return what a framework says in one line, and not too long."""
    told = " ".join(str(text).split())
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]} ..."


def _number(value: object) -> str:
    return str(value).removesuffix(".0")


def brief(array: Array) -> str:
    """Return an array in one line: without a batch and a channel axis of one, and in short."""
    if array.size == 0:
        return f"an empty array of shape {array.shape}"
    if array.size > 12:
        return f"an array of shape {array.shape}"
    cut = array
    if cut.ndim > 1 and cut.shape[0] == 1:
        cut = cut[0]
    if cut.ndim > 1 and cut.shape[-1] == 1:
        cut = cut[..., 0]

    def listed(part: Array) -> str:
        if part.ndim == 0:
            return _number(part[()])
        return f"[{', '.join(map(listed, part))}]"

    return listed(cut)


def titled(layers: Layers) -> str:
    """Return layers as their calls."""
    return ", then ".join(called(spec.to_json(layer)) for layer in layers)


@dataclass
class Side:
    """One of the two: a subject that can be asked, or (None) one that is only recorded."""

    name: str
    version: str
    subject: Subject | None = None
    run: Run | None = None
    scratch: Scratch = field(default_factory=Scratch)

    @property
    def layout(self) -> str:
        """How its arrays lie; empty where it cannot be asked."""
        return self.subject.info.layout if self.subject else ""

    def begin(self) -> None:
        """Have the process for its scripts import the framework meanwhile."""
        if self.subject is not None:
            self.scratch.python = self.subject.python
            with contextlib.suppress(Unsupported, *_MISFORTUNES):
                x = np.ones((1, 1), np.float32)
                source = self.subject.script(spec.ReLU(), (x,))
                self.scratch.begin(f"import numpy as np\nx = np.ones((1, 1), np.float32)\n{source}")

    def ask(self, asked: Probe) -> Reply:
        """Return the answer of its own way or, without any, of the first that it answers."""
        replies = []
        for way in asked.ways:
            reply = self._one(asked, way)
            if reply.state == "answered" and not reply.composed:
                return reply
            replies.append(reply)
        return next((r for r in replies if r.state == "answered"), replies[0])

    def _one(self, asked: Probe, way: Layers) -> Reply:
        if self.subject is None:
            return Reply("unknown", way, why="it is not installed here, and could not be asked")
        state: State
        try:
            return self._answered(self.subject, asked, way)
        except Unsupported as error:
            state, why = "unsupported", f"not offered: {line(error)}"
        except Refused as error:
            state, why = "refused", f"refused: {line(error)}"
        except Crashed as error:
            state, why = "crashed", line(error)
        except (AdapterBroke, Stopped) as error:
            state, why = "unknown", f"could not be asked: {line(error)}"
        return Reply(state, way, why=why)

    @staticmethod
    def _answered(subject: Subject, asked: Probe, way: Layers) -> Reply:
        if asked.gradient:
            layer, upstream = way[-1], asked.upstream(way[-1])
            arrays = subject.gradients(layer, asked.weights, asked.x, upstream).arrays
            return Reply("answered", way, arrays["input"], gradients=arrays)
        result = subject.run(way, [*({} for _ in way[1:]), asked.weights], asked.x)
        return Reply("answered", way, result.y, composed=result.composed)


def supported(side: Side, layer: spec.Layer, x: Array) -> bool:
    """Whether a side says that it takes a layer of this type, and of this dtype."""
    try:
        return side.subject is not None and side.subject.supports(layer, x.dtype.name)
    except (Unsupported, *_MISFORTUNES):
        return False


def native(side: Side, layer: spec.Layer, array: Array) -> Array:
    """Return a canonical input of a layer as a side lays it out."""
    first = side.layout == "channels_first" and layer.takes_images and array.ndim >= 3
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if first else array


def canonical(side: Side, layer: spec.Layer, array: Array) -> Array:
    """Return what a side's script makes of a layer, as the suite lays it out."""
    first = side.layout == "channels_first" and layer.takes_images and array.ndim >= 3
    return np.moveaxis(array, 1, -1) if first else array


def stored(side: Side, layer: spec.Layer, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Return canonical weights in the orders of axes in which a side's scripts read them."""
    if side.subject is None:
        return dict(weights)
    axes = side.subject.info.axes
    return {n: np.ascontiguousarray(axes.native(layer, n, w)) for n, w in weights.items()}


def _alike(one: Array, other: Array) -> bool:
    """Whether two arrays are equal: NaNs are, and zeros of any sign."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    with np.errstate(invalid="ignore"):
        same = (one == other) | ((one != one) & (other != other))  # noqa: PLR0124 - a NaN is not itself
    return bool(same.all())


def _met(asked: Probe, reply: Reply) -> bool:
    """Whether the reference, and its proven bound, allow an answer."""
    assert reply.y is not None
    if len(reply.layers) > 1:
        return False
    try:
        if asked.gradient:
            upstream, found = asked.upstream(reply.layer), reply.gradients
            list(judge.gradients(reply.layer, asked.x, asked.weights, upstream, found))
        else:
            judge.met(reply.layer, asked.x, asked.weights, reply.y)
    except (Failure, ShapeError, NotImplementedError):
        return False
    return True


def agreement(asked: Probe, one: Reply, other: Reply) -> Agreement:
    """Return how two answers compare.

    Answers with other bits that both lie within the proven bound of the reference differ by
    rounding. Two refusals are the same, whatever they say.
    """
    states = {one.state, other.state}
    if one.y is not None and other.y is not None:
        return _of_outputs(asked, one, other)
    if "unknown" in states:
        return "unknown"
    if "unsupported" in states and "crashed" not in states:
        return "one lacks it" if "answered" in states else "both lack it"
    same = len(states) == 1 and ("crashed" not in states or one.why == other.why)
    return "same" if same else "differs"


def _of_outputs(asked: Probe, one: Reply, other: Reply) -> Agreement:
    assert one.y is not None
    assert other.y is not None
    if _alike(one.y, other.y):
        return "same"
    own = one.layers == other.layers and not one.layer.exact
    return "rounding" if own and _met(asked, one) and _met(asked, other) else "differs"


@dataclass(frozen=True, eq=False)
class Asked:
    """A probe, the answers of both, and how they compare.

    Of what is ``formed``, the answers have their shapes, and zeros for values.
    """

    probe: Probe
    replies: tuple[Reply, Reply]
    formed: bool = False

    @cached_property
    def agreement(self) -> Agreement:
        """How the answers compare."""
        return agreement(self.probe, *self.replies)

    def right(self) -> Asked:
        """Return it with the answers alone that the reference, and its bound, allow."""
        one, other = (
            reply if reply.y is not None and _met(self.probe, reply) else replace(reply, y=None)
            for reply in self.replies
        )
        return Asked(self.probe, (one, other))

    def instance(self) -> Instance:
        """Return it as reports show it."""
        one, other = self.replies
        return Instance(
            self.probe.of,
            self.probe.where,
            brief(self.probe.x),
            (titled(one.layers), titled(other.layers)),
            (str(one), str(other)),
            self.agreement,
        )


def _shaped(reply: Reply) -> Reply:
    y = reply.y
    return reply if y is None else replace(reply, y=np.zeros_like(y), note=f"shape {y.shape}")


@dataclass
class Both:
    """The asking object: two sides, and what was asked of both."""

    sides: tuple[Side, Side]

    def ask(self, *probes: Probe) -> list[Asked]:
        """Put probes to both."""
        first, second = self.sides
        return [Asked(each, (first.ask(each), second.ask(each))) for each in probes]

    def form(self, asked: Probe) -> Asked:
        """Return the shapes of both answers: the values are of no matter, and zeros."""
        one, other = (side.ask(asked) for side in self.sides)
        return Asked(asked, (_shaped(one), _shaped(other)), formed=True)

    def close(self) -> None:
        """End all processes."""
        for side in self.sides:
            side.scratch.close()
            if side.subject:
                side.subject.close()
