"""Topics of what is there: defaults, empty and unbatched input, and what one of the two lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnformance.conformance.contrast import Asked, Both, Probe, Reply, State, brief, probe
from cnnformance.conformance.instead import write
from cnnformance.conformance.signatures import COUNTING, Default, NotAsked, Option, default
from cnnformance.conformance.small_layers import ordinary
from cnnformance.conformance.topics import Told, Topic, plainly, row, sentence
from cnnformance.conformance.topics_windows import counting
from cnnformance.reports import tables
from cnnformance.reports.compare import Agreement, Code, Instance, Row, Status, grouped
from cnnformance.reports.records import Run
from cnnformance.spec import layers as spec
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    ReLU,
)

# 6 defaults


def _options() -> tuple[Option, ...]:
    x, ones = counting(12), {"weight": np.ones((3, 1, 1), np.float32)}
    conv, bare = Conv((3,), bias=False), Dense(3, 2, bias=False)
    double = np.array([[0.1]])

    def windows(layer: Any, **weights: np.ndarray) -> list[Option]:
        of, changed = (
            type(layer).__name__,
            {
                "stride": (layer.replace(stride=(2,)),),
                "padding": (layer.replace(padding=((1, 1),)), layer.replace(padding="same")),
                "dilation": (layer.replace(dilation=(2,)),),
            },
        )
        return [Option(of, name, layer, o, (x, x), weights) for name, o in changed.items()]

    rounding = MaxPool((3,), (2,))
    return (
        *windows(MaxPool((3,))),
        *windows(conv, **ones),
        Option("MaxPool", "rounding", rounding, (rounding.replace(ceil_mode=True),), (x, x)),
        COUNTING,
        Option("Conv", "bias", conv, (conv.replace(bias=True),), (x, x), counted=True),
        Option("Dense", "bias", bare, (Dense(3, 2),), (x, x), counted=True),
        Option("ReLU", "dtype of float64", ReLU(), (ReLU(),), (double, double.astype(np.float32))),
    )


def _effect(option: Option, found: Default) -> str:
    """Return what comes of a default, in a few words."""
    if found.answer is None:
        return "it must be given"
    if option.counted:
        return f"{found.answer} parameters"
    y = np.asarray(found.answer)
    if option.name.startswith("dtype"):
        return f"gives {y.dtype}"
    if y.ndim == 3 and y.size > 1:
        return f"{option.inputs[0].shape[1]} cells become {y.shape[1]}"
    return f"gives {brief(y)}"


def _argument(found: Default) -> str:
    if not found.parameter:
        return "no such argument"
    return f"{found.call}({found.parameter}{f'={found.value}' if found.value else ' left out'})"


@dataclass(frozen=True, eq=False)
class _Chosen:
    """An option, what each of the two takes where it is left out, and why that is not known."""

    option: Option
    found: tuple[Default | None, Default | None]
    why: tuple[str, str]

    @property
    def agreement(self) -> Agreement:
        """Whether the same comes of both defaults."""
        one, other = self.found
        if one is None or other is None:
            return "unknown"
        return "same" if _effect(self.option, one) == _effect(self.option, other) else "differs"

    def told(self, at: int) -> str:
        """Return the default of one of the two."""
        found = self.found[at]
        if found is None:
            return f"cannot be asked: {self.why[at]}"
        return f"{_argument(found)}, {_effect(self.option, found)}"

    def instance(self) -> Instance:
        """Return it as reports show it."""
        given = "" if self.option.counted else brief(self.option.inputs[0])
        calls = [_argument(each) if each else "" for each in self.found]
        told = (self.told(0), self.told(1))
        layers = (calls[0], calls[1])
        return Instance(self.option.of, self.option.name, given, layers, told, self.agreement)


def _chosen(both: Both, option: Option) -> _Chosen:
    found: list[Default | None] = []
    why = []
    for side in both.sides:
        try:
            found.append(default(side, option))
            why.append("")
        except NotAsked as error:
            found.append(None)
            why.append(str(error))
    return _Chosen(option, (found[0], found[1]), (why[0], why[1]))


def _spelt(both: Both, each: _Chosen) -> tuple[Code, ...]:
    """Return how each of the two is told to do what the other does by default."""
    option = each.option
    if option.counted:
        return ()
    asked = probe(option.of, option.name, option.inputs[0], option.layer, weights=option.weights)
    found = []
    for at, side in enumerate(both.sides):
        theirs = each.found[1 - at]
        if theirs is not None and isinstance(theirs.answer, np.ndarray):
            wanted = Reply("answered", (option.layer,), theirs.answer)
            found.append(write(side, asked, both.sides[1 - at].name, wanted))
    return tuple(found)


def _defaults(topic: Topic, both: Both) -> Row:
    chosen = [_chosen(both, option) for option in _options()]
    kinds = [each.agreement for each in chosen]
    differ = [each for each in chosen if each.agreement == "differs"]
    shown = differ or chosen
    says = [sentence([((c.option.of, c.option.name), c.told(at)) for c in shown]) for at in (0, 1)]
    if all(kind == "unknown" for kind in kinds):
        says = ["; ".join(dict.fromkeys(c.why[at] for c in chosen if c.why[at])) for at in (0, 1)]
    found: Status = "differs" if differ else "same" if "same" in kinds else "unknown"
    return Row(
        topic.name,
        topic.title,
        found,
        (says[0], says[1]),
        differ[0].instance() if differ else None,
        tuple(each.instance() for each in chosen),
        _spelt(both, differ[0]) if differ else (),
    )


# 10 empty and unbatched

_CHANNELS = 4
"""As many as cells along each axis: one sample fits wherever its axes lie."""


def _plain_layers() -> list[Layer]:
    conv = Conv((2, 2), in_channels=_CHANNELS, bias=False)
    pools = (MaxPool((2, 2)), AveragePool((2, 2)), GlobalAveragePool(2), GlobalMaxPool(2))
    return [*pools, conv, Dense(_CHANNELS, 2, bias=False), Flatten(), ReLU()]


def _ones(layer: Layer) -> dict[str, np.ndarray]:
    return {name: np.ones(s, np.float32) for name, s in layer.weight_shapes().items()}


def _sample(layer: Layer) -> spec.Shape:
    return (_CHANNELS,) * (1 if isinstance(layer, Dense) else 3)


def _empty(both: Both) -> list[Probe | Asked]:
    found: list[Probe | Asked] = []
    for layer in _plain_layers():
        x = np.empty((0, *_sample(layer)), np.float32)
        name = type(layer).__name__
        found.append(probe(name, "of an empty batch", x, layer, weights=_ones(layer)))
    step = (1, 1)
    for wide in (MaxPool((3, 3), step), AveragePool((3, 3), step), Conv((3, 3), bias=False)):
        x = np.ones((1, 2, 2, 1), np.float32)
        where = "window 3x3 on 2x2 cells"
        found.append(both.form(probe(type(wide).__name__, where, x, wide, weights=_ones(wide))))
    for layer in _plain_layers():
        if not layer.elementwise:
            x = np.ones(_sample(layer), np.float32)
            asked = probe(type(layer).__name__, "of one sample", x, layer, weights=_ones(layer))
            one, other = (_taken(side.ask(asked)) for side in both.sides)
            found.append(Asked(asked, (one, other)))
    return found


def _taken(reply: Reply) -> Reply:
    """Return an answer without its values: where the axes of one sample lie is each one's own."""
    return replace(reply, y=None, why="taken without a batch") if reply.y is not None else reply


def _emptied(asked: Asked, reply: Reply) -> str:
    del asked
    if reply.y is not None:
        kind = "empty" if reply.y.size == 0 else "values"
        return f"answered, {kind} of shape {reply.y.shape}"
    return reply.why if reply.state == "answered" else plainly(reply)


# 12 what one has


def _offered(both: Both) -> list[Asked]:
    """Return whether each has an ordinary layer of every type, and with each option."""
    found: dict[tuple[str, str], Layer] = {}
    for name, kind in spec.TYPES.items():
        for rank in (1, 2, 3) if kind.takes_images else (2,):
            found[name, "" if rank == 2 else f"in {rank}-D"] = ordinary(kind, rank)
    for pool in (MaxPool, AveragePool, spec.MinPool, spec.LpPool):
        layer, name = pool((3,), (2,)), pool.__name__
        found |= {
            (name, "rounded up"): layer.replace(ceil_mode=True),
            (name, "with padding (1, 1)"): layer.replace(padding=((1, 1),)),
            (name, "with padding (0, 1)"): layer.replace(padding=((0, 1),)),
            (name, "with padding 'same'"): layer.replace(padding="same"),
            (name, "with dilation 2"): pool((2,), (1,), dilation=(2,)),
        }
    conv = Conv((3,), in_channels=4, out_channels=4)
    found |= {
        ("Conv", "with padding (0, 1)"): conv.replace(padding=((0, 1),)),
        ("Conv", "with padding 'same' and stride 2"): conv.replace(padding="same", stride=(2,)),
        ("Conv", "with groups"): conv.replace(groups=2),
        ("Conv", "with dilation 2 and stride 2"): conv.replace(stride=(2,), dilation=(2,)),
        ("Flatten", "from axis 2"): Flatten(2),
    }
    asked = [_had(both, _of_shape(of, where, layer)) for (of, where), layer in found.items()]
    plain = {a.probe.of: _states(a) for a in asked if not a.probe.where}
    return [a for a in asked if a.probe.where[-2:] != "-D" or _states(a) != plain[a.probe.of]]


def _states(asked: Asked) -> tuple[State, State]:
    one, other = asked.replies
    return one.state, other.state


def _of_shape(of: str, where: str, layer: Layer) -> Probe:
    shape = (2, 4) if isinstance(layer, Dense) else (1, *(6,) * getattr(layer, "rank", 2), 4)
    x = (np.arange(np.prod(shape)) % 7).reshape(shape).astype(np.float32)
    return probe(of, where, x, layer, weights=_ones(layer))


def _had(both: Both, asked: Probe) -> Asked:
    """Return whether each answers: what it answers is a matter of other rows."""
    one, other = (
        replace(reply, y=None, why="offered") if reply.y is not None else reply
        for reply in (side.ask(asked) for side in both.sides)
    )
    return Asked(asked, (one, other))


def _dtypes(both: Both) -> tuple[Instance, ...]:
    """Return the dtypes that one of the two takes, and the other does not."""
    one, other = (set(side.subject.info.dtypes) if side.subject else set() for side in both.sides)
    if not one or not other:
        return ()
    words = {True: "offered", False: "not offered"}
    return tuple(
        Instance(d, "arrays", "", ("", ""), (words[d in one], words[d in other]), LACKS)
        for d in sorted(one ^ other)
    )


def _declined(run: Run | None, name: str) -> Counter[str]:
    verdicts = run.verdicts if run else ()
    return Counter(v.layer for v in verdicts if v.subject == name and v.verdict == "unsupported")


def _recorded(both: Both) -> Told:
    """Return how many questions on each layer each has declined, as the records hold it."""
    counts = [_declined(side.run, side.name) for side in both.sides]
    layers = [name for name in spec.TYPES if any(each[name] for each in counts)]
    one, other = (
        [f"{each[name]} declined" if side.run else tables.NOTHING for name in layers]
        for side, each in zip(both.sides, counts, strict=True)
    )
    return tuple((f"questions about {n}", a, b) for n, a, b in zip(layers, one, other, strict=True))


def _has(asked: Sequence[Asked], dtypes: Sequence[Instance], at: int) -> str:
    """Return what a side has and the other lacks, and where it does worse than decline."""
    alone = [a.probe for a in asked if a.agreement == LACKS and a.replies[at].state == "answered"]
    places = [(each.of, each.where) for each in alone]
    places += [(i.of, i.where) for i in dtypes if i.answers[at] == "offered"]
    told = f"it alone has {grouped(places)}" if places else "it has nothing that the other lacks"
    bad = [
        ((a.probe.of, a.probe.where), plainly(a.replies[at]))
        for a in asked
        if a.replies[at].state in ("crashed", "refused")
    ]
    return f"{told}. {sentence(bad)}" if bad else told


def _lacks(topic: Topic, both: Both) -> Row:
    asked, dtypes = _offered(both), _dtypes(both)
    says = _has(asked, dtypes, 0), _has(asked, dtypes, 1)
    made = row(topic, both, asked, says, ())
    found: Status = "differs" if dtypes and made.status == "same" else made.status
    example = made.example or next(iter(dtypes), None)
    shown = tuple(each for each in made.instances if each.agreement not in ("same", "both lack it"))
    return replace(made, example=example, instances=(*shown, *dtypes), status=found)


LACKS: Agreement = "one lacks it"

TOPICS = {
    "defaults": Topic("defaults", "defaults of stride, padding, bias and dtype", whole=_defaults),
    "empty": Topic(
        "empty",
        "empty and unbatched input",
        _empty,
        _emptied,
        traits="empty batch|no channels|.*no cells|input without batch",
    ),
    "offers": Topic("offers", "what one has and the other lacks", whole=_lacks, held=_recorded),
}
