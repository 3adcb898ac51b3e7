"""What ``check`` returns: every verdict on a function, and each finding with a counterexample."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from cnnformance.adapters.backend import Array
from cnnformance.reports import arrays, causes, records, render, tables
from cnnformance.reports.printable import cleaned
from cnnformance.spec.layers import Layer, from_json


@dataclass(frozen=True)
class Counterexample:
    """A finding, as the smallest case that was found shows it.

    ``layer``, ``x`` and ``weights`` (canonical) are the case; ``x`` is None where none was needed.
    At ``index`` the output was ``actual``, should be ``expected``, and ``bound`` is the proven
    allowance where it is not exact. ``clauses`` are what the question checks, of which at least one
    does not hold; ``more`` other questions found the same.
    """

    effect: str
    message: str
    layer: Layer | None
    x: Array | None
    weights: Mapping[str, Array]
    index: tuple[int, ...] | None
    expected: str
    actual: str
    bound: str
    clauses: tuple[str, ...]
    script: str
    question: str
    where: tuple[str, ...]
    more: int
    verdict: records.Verdict

    @property
    def clause(self) -> str:
        """The first clause: its id, where it stands, and what it says."""
        return tables.clause(self.clauses[0]) if self.clauses else ""

    def __str__(self) -> str:
        """Return all of it but the script, a line or a block for each part."""
        where = f" where {' and '.join(self.where)}" if self.where else ""
        lines = [f"{self.verdict.layer}, {self.effect}{where}: {self.message}"]
        skipped = {"message", "script", "case"}
        details = (d for d in tables.details(self.verdict) if d.label not in skipped)
        for detail in details:
            text = detail.text.replace("\n", f"\n{'':14}")
            lines.append(f"    {detail.label:<10}{text}")
        if self.more:
            lines.append(f"    {'likewise':<10}{self.more} more questions")
        return "\n".join(lines)


@dataclass(frozen=True)
class Result:
    """What became of a function: every verdict, and the findings among them.

    ``layers`` are the types that it was asked for.
    """

    name: str
    layers: tuple[type[Layer], ...]
    run: records.Run

    @cached_property
    def failures(self) -> tuple[Counterexample, ...]:
        """The findings, the worst first, each with its smallest counterexample."""
        return tuple(map(_counterexample, causes.findings(cleaned(self.run))))

    @cached_property
    def unasked(self) -> Mapping[str, str]:
        """The layer types of which no question was answered, and why: they were not checked."""
        answered = {v.layer for v in self.run.verdicts if v.verdict in ("pass", *records.FAILING)}
        reasons = {v.layer: v.message for v in reversed(self.run.verdicts)}
        names = (layer_type.__name__ for layer_type in self.layers)
        return {n: reasons.get(n) or "nothing was asked" for n in names if n not in answered}

    @property
    def passed(self) -> bool:
        """Whether nothing failed, and each layer type was asked something."""
        return not self.failures and not self.unasked

    def raise_for_failures(self) -> None:
        """Do nothing if all passed.

        Raises:
            AssertionError: it holds the smallest counterexample of each finding, and the layer
                types that were not checked at all.
        """
        if not self.passed:
            raise AssertionError("\n\n".join([self._headline, *self._told()]))

    def table(self) -> str:
        """Return the verdicts by layer, as text."""
        return render.terminal_table(tables.layers(cleaned(self.run)))

    @property
    def _headline(self) -> str:
        examples = sum(v.examples for v in self.run.verdicts)
        asked = sum(bool(v.examples) for v in self.run.verdicts)
        found = f"{len(self.failures)} finding{'s' * (len(self.failures) != 1)}"
        if self.unasked:
            found += f", and {len(self.unasked)} of {len(self.layers)} layer types not checked"
        header = self.run.header
        return (
            f"{self.name}: {'passed' if self.passed else found} ({asked} questions, "
            f"{examples:,} cases; profile {header.profile}, seed {header.seed})"
        )

    def _told(self) -> Iterator[str]:
        for name, reason in self.unasked.items():
            yield f"{name}: not checked, for it declined all that was asked: {reason}"
        yield from map(str, self.failures)

    def __str__(self) -> str:
        """Return the verdict, the table and the findings."""
        return "\n\n".join([self._headline, self.table().rstrip(), *self._told()])

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        table = tables.layers(cleaned(self.run))
        head = "".join(f"<th>{html.escape(name)}</th>" for name in table.head)
        rows = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell.text)}</td>' for cell in row)}</tr>"
            for row in table.rows
        )
        told = "".join(f"<pre>{html.escape(text)}</pre>" for text in self._told())
        return f"<p>{html.escape(self._headline)}</p><table><tr>{head}</tr>{rows}</table>{told}"


def _counterexample(finding: causes.Finding) -> Counterexample:
    first = finding.ordered[0]
    failure = first.failure or records.Failure("adapter")
    held = {name: arrays.unpack(array) for name, array in failure.arrays.items()}
    described = [layer for layer in (failure.case or {}).get("layers", ()) if "type" in layer]
    return Counterexample(
        effect=finding.effect,
        message=tables.happened(first),
        layer=from_json(described[0], checked=False) if described else None,
        x=held.get("x"),
        weights={name: array for name, array in held.items() if name in ("weight", "bias")},
        index=failure.index,
        expected=failure.expected,
        actual=failure.actual,
        bound=failure.bound or "",
        clauses=first.clauses,
        # its head names the subject as the process that asked did
        script=re.sub(r"\A# \S+ \S+: ", f"# {finding.subject}: ", failure.script or ""),
        question=first.question,
        where=finding.where,
        more=len(finding.questions) - 1,
        verdict=first,
    )
