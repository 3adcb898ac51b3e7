"""What two subjects do differently, topic by topic: the typed rows that every format shows.

``conformance.comparing`` measures them; nothing here asks a framework.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cnnformance.reports.record import encode

Status = Literal["same", "rounding", "differs", "unknown"]
"""``rounding``: other bits, all within the proven bound of the reference: no difference."""

Agreement = Literal["same", "rounding", "differs", "one lacks it", "both lack it", "unknown"]
"""How the answers of two subjects to one input compare."""


def grouped(places: Sequence[tuple[str, str]]) -> str:
    """Return layers and configurations in words: those of one configuration together."""
    layers: dict[str, list[str]] = {}
    for of, where in places:
        layers.setdefault(where, []).append(of)
    told = (" ".join(filter(None, (", ".join(filter(None, of)), w))) for w, of in layers.items())
    return "; ".join(told)


@dataclass(frozen=True)
class Instance:
    """One input with what each of the two subjects made of it.

    ``of`` and ``where`` name the layer and the configuration, ``layers`` what each was asked for,
    ``answers`` what came out: an output, or why there is none.
    """

    of: str
    where: str
    input: str
    layers: tuple[str, str]
    answers: tuple[str, str]
    agreement: Agreement

    @property
    def name(self) -> str:
        """The layer and the configuration."""
        return " ".join(filter(None, (self.of, self.where)))


@dataclass(frozen=True)
class Code:
    """What to write in the calls of ``subject`` for the result that ``like`` gives.

    ``of`` names the layer and the configuration. ``source`` runs as it stands. ``gave`` is what
    came out when it was run for this comparison, and is the result of ``like``. Where nothing was
    found that gives it, ``source`` is empty and ``why`` says so.
    """

    subject: str
    like: str
    of: str
    source: str = ""
    gave: str = ""
    why: str = ""


@dataclass(frozen=True)
class Row:
    """A topic: what each of the two does, where they agree, and how to write one as the other.

    ``says`` is one sentence for each subject; ``example`` the smallest input that shows the
    difference, and None where there is none; ``instances`` all that was asked; ``recorded`` what
    the records hold on it, as (what, the first's, the second's).
    """

    topic: str
    title: str
    status: Status
    says: tuple[str, str]
    example: Instance | None = None
    instances: tuple[Instance, ...] = ()
    code: tuple[Code, ...] = ()
    recorded: tuple[tuple[str, str, str], ...] = ()

    def where(self, *agreements: Agreement) -> str:
        """Return the configurations whose answers compare so, the layers of each together."""
        return grouped([(i.of, i.where) for i in self.instances if i.agreement in agreements])


@dataclass(frozen=True)
class Party:
    """One of the two subjects; ``source`` says where its answers come from."""

    subject: str
    version: str
    source: str


@dataclass(frozen=True)
class Comparison:
    """Two subjects and their rows, in the order in which ports break."""

    parties: tuple[Party, Party]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, str]:
        """The names of the two; with versions where they are one name."""
        first, second = self.parties
        if first.subject != second.subject:
            return first.subject, second.subject
        return f"{first.subject} {first.version}", f"{second.subject} {second.version}"

    @property
    def closing(self) -> str:
        """How many topics differ, in one sentence."""
        kinds = [row.status for row in self.rows]
        words = {"differs": "differ", "rounding": "differ by rounding alone", "same": "agree"}
        told = [f"{kinds.count(k)} {say}" for k, say in words.items() if k in kinds]
        if "unknown" in kinds:
            told.append(f"{kinds.count('unknown')} cannot be measured")
        return f"{len(self.rows)} topics: {', '.join(told)}."


def to_json(found: Comparison) -> str:
    """Return a comparison as JSON, its rows as they are."""
    return json.dumps(encode(found), indent=1, allow_nan=False) + "\n"
