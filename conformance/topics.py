"""How a topic of a comparison becomes a row: asked of both, told in a sentence, shown by the least.

The topics themselves stand in ``topics_*.py``, and their order in ``comparing``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cnnformance.conformance.contrast import Asked, Both, Probe, Reply, Side
from cnnformance.conformance.instead import both_ways
from cnnformance.reports import matrix, tables
from cnnformance.reports.compare import Agreement, Code, Row, Status, grouped

Told = tuple[tuple[str, str, str], ...]
"""What records hold: of what, the first's, the second's."""
Summary = Callable[[Asked, Reply], str]
"""What an answer amounts to, in a few words."""


def plainly(reply: Reply) -> str:
    """Return an answer, or why there is none in a word or two."""
    words = {"unsupported": "not offered", "refused": "refused", "unknown": "cannot be measured"}
    said = words.get(reply.state) or str(reply)
    made = f" (made of {reply.composed})" if reply.composed else ""
    return f"{said}{made}{f' ({reply.note})' if reply.note else ''}"


def sentence(told: Sequence[tuple[tuple[str, str], str]]) -> str:
    """Return what holds of which layer and configuration: those of one answer together."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for place, said in told:
        groups.setdefault(said, []).append(place)
    return ". ".join(f"{grouped(places)}: {said}" for said, places in groups.items())


def apart(asked: Sequence[Asked]) -> list[Asked]:
    """Return what is answered otherwise, and then what one of the two lacks."""
    kinds: tuple[Agreement, ...] = ("differs", "one lacks it")
    return [each for kind in kinds for each in asked if each.agreement == kind]


def telling(topic: Topic, asked: Sequence[Asked], at: int) -> str:
    """Return the answers of a side where the two differ or, where they do not, all of them."""
    shown = [a for a in asked if a in apart(asked)] or asked
    return sentence([((a.probe.of, a.probe.where), topic.summary(a, a.replies[at])) for a in shown])


@dataclass(frozen=True)
class Topic:
    """One row: what is asked, how an answer is told, and which recorded traits are about it.

    ``says`` makes the sentence of a side of what was asked; ``traits`` is a pattern for the names
    of traits, and ``held`` what else the records hold on it. What one of the two lacks counts only
    where it is ``lacking``, and is else a topic of its own. There is code for so many differences
    as ``codes``, with ``right`` only for answers within the proven bound. ``whole`` measures what
    is no list of probes.
    """

    name: str
    title: str
    probes: Callable[[Both], Sequence[Probe | Asked]] = lambda _: ()
    summary: Summary = lambda _, reply: plainly(reply)
    says: Callable[[Topic, Sequence[Asked], int], str] = telling
    traits: str = ""
    held: Callable[[Both], Told] = lambda _: ()
    lacking: bool = False
    codes: int = 1
    right: bool = False
    whole: Callable[[Topic, Both], Row] | None = None


def status(asked: Sequence[Asked]) -> Status:
    """Return what the answers amount to."""
    found = {each.agreement for each in asked}
    if found & {"differs", "one lacks it"}:
        return "differs"
    if found <= {"unknown", "both lack it"}:
        return "unknown"
    return "rounding" if "rounding" in found else "same"


def recorded(both: Both, pattern: str) -> Told:
    """Return the traits of a topic that the records hold, and what each of the two chose."""
    if not pattern:
        return ()
    chosen: dict[str, list[str]] = {}
    for at, side in enumerate(both.sides):
        for name, choices in (matrix.traits(side.run) if side.run else {}).items():
            if side.name in choices and re.match(pattern, name):
                row = chosen.setdefault(name, [tables.NOTHING] * 2)
                row[at] = tables.chosen(choices[side.name]).text
    return tuple((name, one, other) for name, (one, other) in sorted(chosen.items()))


def _otherwise(told: Told) -> bool:
    """Whether a record shows that the two chose otherwise."""
    return any(one != other and tables.NOTHING not in (one, other) for _, one, other in told)


def row(
    topic: Topic,
    both: Both,
    asked: Sequence[Asked],
    says: tuple[str, str],
    code: tuple[Code, ...] | None = None,
) -> Row:
    """Return the row of what was asked, its example and the code that undoes the difference.

    The example is the first whose answers differ, or else the first that one of the two lacks.
    """
    examples = apart(asked)
    example = examples[0] if examples else None
    if code is None:
        shown = [a.right() if topic.right else a for a in examples if not a.formed]
        shown = shown[: topic.codes]
        code = tuple(c for a in shown for c in both_ways(both.sides, a))
    told = (*recorded(both, topic.traits), *topic.held(both))
    found = status(asked)
    if _otherwise(told):
        found = "differs"
    elif found == "unknown" and told:
        found = "same" if all(one == other for _, one, other in told) else "unknown"
    return Row(
        topic.name,
        topic.title,
        found,
        says,
        example.instance() if example else None,
        tuple(each.instance() for each in asked),
        code,
        told,
    )


def _why(side: Side, replies: Sequence[Reply]) -> str:
    """Return why a side tells nothing on a topic; empty where it does."""
    if side.subject is None:
        return "it is not installed here"
    if all(reply.state == "unsupported" for reply in replies):
        told = {reply.why for reply in replies}
        return told.pop() if len(told) == 1 else "it has none of these layers"
    return "" if any(reply.state != "unknown" for reply in replies) else str(replies[0])


def unmeasured(topic: Topic, both: Both, asked: Sequence[Asked]) -> Row | None:
    """Return the row of a topic on which one of the two tells nothing; None where both do."""
    one, other = (_why(s, [a.replies[at] for a in asked]) for at, s in enumerate(both.sides))
    if not (one or other):
        return None
    made = row(topic, both, asked, (one, other), ())
    if made.status == "differs" and not _otherwise(made.recorded):
        made = replace(made, status="unknown")
    return replace(made, example=None)


def measured(topic: Topic, both: Both) -> Row:
    """Return the row of a topic."""
    if topic.whole:
        return topic.whole(topic, both)
    asked = [a for p in topic.probes(both) for a in (both.ask(p) if isinstance(p, Probe) else [p])]
    if nothing := unmeasured(topic, both, asked):
        return nothing
    if not topic.lacking:
        asked = [a for a in asked if "unsupported" not in {r.state for r in a.replies}]
    return row(topic, both, asked, (topic.says(topic, asked, 0), topic.says(topic, asked, 1)))
