"""What came of a trial of an adapter, and how it is told."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from tabulate import tabulate

from cnnformance.adapters.backend import Array, Weights
from cnnformance.conformance.cases import Given
from cnnformance.conformance.parametrize import FLOATS, INTEGERS
from cnnformance.reports.printable import printable

_COLUMNS = (*FLOATS, *INTEGERS, "options", "calls", "shape", "count", "gradient", "script")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: of which layer and method, what, and what to do about it."""

    layer: str
    method: str
    said: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return it as a paragraph."""
        head = ", ".join(filter(None, [self.layer, self.method]))
        text = f"{head}: {' '.join(printable(self.said).split())}"
        text = text if len(text) < 600 else f"{text[:600]} ..."
        wrapped = textwrap.fill(text, 98, subsequent_indent="    ")
        remedy = textwrap.fill(f"-> {self.remedy}", 98, initial_indent="    ",
                               subsequent_indent="       ")  # fmt: skip
        return f"{wrapped}\n{remedy}" if self.remedy else wrapped


def _joined(problems: Sequence[Problem]) -> Iterator[Problem]:
    """Yield each problem once, with all the layers that have it."""
    found: dict[Problem, dict[str, None]] = {}
    for problem in problems:
        found.setdefault(replace(problem, layer=""), {})[problem.layer] = None
    for problem, layers in found.items():
        yield replace(problem, layer=", ".join(filter(None, layers)))


@dataclass(frozen=True)
class Script:
    """What an adapter wrote for a case; ``x`` and ``weights`` are in the backend's layouts."""

    layer: str
    source: str
    case: Given
    x: Array
    weights: Weights


@dataclass
class Trial:
    """What came of an adapter.

    ``contract`` are breaches of it, ``wrong`` answers that are not right, ``hints`` neither.
    ``cells`` has a word for each layer and column; ``faults`` are those that were put, and
    ``hidden`` those of them that the adapter did not pass on.
    """

    name: str
    version: str = ""
    contract: list[Problem] = field(default_factory=list)
    wrong: list[Problem] = field(default_factory=list)
    hints: list[Problem] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    cells: dict[str, dict[str, str]] = field(default_factory=dict)
    scripts: list[Script] = field(default_factory=list)
    faults: int = 0
    hidden: list[Problem] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong, and the adapter was seen to pass faults on."""
        return not (self.contract or self.wrong or self.hidden) and self.faults > 0

    def text(self) -> str:
        """Return the report: what breaks the contract first."""
        parts = [f"{self.name} {self.version}".rstrip()]
        titles = [
            ("Breaks the contract", self.contract),
            ("Hides faults: what the framework gets wrong, this adapter would mend", self.hidden),
            ("Wrong answers", self.wrong),
            ("Worth a look", self.hints),
        ]
        for title, problems in titles:
            if problems:
                joined = map(str, _joined(problems))
                listed = [f"{number}. {text}" for number, text in enumerate(joined, start=1)]
                parts.append("\n".join([title, "", *listed]))
        if self.cells:
            parts.append(self._table())
        if self.reasons:
            lines = [
                f"  {reason}: {', '.join(dict.fromkeys(of))}" for reason, of in self.reasons.items()
            ]
            parts.append("\n".join(["Not offered", "", *lines]))
        parts.append(self._verdict())
        return "\n\n".join(parts) + "\n"

    def _table(self) -> str:
        """Return a row for each layer that was answered at all, without columns of none."""
        rows = [row for row in self.cells.values() if set(row.values()) != {"no"}]
        columns = [c for c in _COLUMNS if {row.get(c, "no") for row in rows} != {"no"}]
        lines = [
            [name, *(row.get(column, "") for column in columns)]
            for name, row in self.cells.items()
            if row in rows
        ]
        return tabulate(lines, ["layer", *columns], disable_numparse=True)

    def _verdict(self) -> str:
        passed = self.faults - len(self.hidden)
        told = f"{passed} of {self.faults} faults that were put behind it were told"
        if not self.faults:
            told = "nothing shows that it can fail: no layer gave a right answer"
        return f"{'Fine' if self.fine else 'Not fine'}: {told}."
