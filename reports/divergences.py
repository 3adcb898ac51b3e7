"""The recorded divergences that a run met again: one each, however many questions met it."""

from __future__ import annotations

from dataclasses import dataclass

from cnnformance.reports.records import Divergence, Run, Verdict


@dataclass(frozen=True)
class Seen:
    """A recorded divergence of a subject, and the verdicts of the questions that met it.

    ``entry`` is what the run's header says of it; None where a record holds the id alone.
    """

    subject: str
    id: str
    entry: Divergence | None
    verdicts: tuple[Verdict, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of the questions, once each."""
        return tuple(dict.fromkeys(v.layer for v in self.verdicts))

    @property
    def about(self) -> str:
        """Its class, the versions that it is recorded for, and the day it was first seen."""
        if self.entry is None:
            return ""
        versions = f"versions {self.entry.versions}" if self.entry.versions else "all versions"
        modes = f"modes {', '.join(self.entry.modes)}" if self.entry.modes else ""
        told = [self.entry.kind, versions, modes, f"first seen {self.entry.seen}"]
        return ", ".join(filter(None, told))

    @property
    def says(self) -> str:
        """What it is: one sentence of its entry, or what the smallest verdict saw."""
        return self.entry.says if self.entry else " ".join(self.verdicts[0].message.split())

    @property
    def link(self) -> str:
        """Where it can be read about; empty where it is recorded nowhere else."""
        return self.entry.link if self.entry else ""


def seen(run: Run) -> list[Seen]:
    """Return the divergences that were seen again, by subject, in the order of their ids."""
    entries = {(s.subject, d.id): d for s in run.header.subjects for d in s.divergences}
    found: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in run.verdicts:
        for name in verdict.known:
            found.setdefault((verdict.subject, name), []).append(verdict)
    ordered = sorted(found, key=lambda key: (run.subjects.index(key[0]), key[1]))
    return [
        Seen(subject, name, entries.get((subject, name)), tuple(found[subject, name]))
        for subject, name in ordered
    ]
