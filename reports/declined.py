"""Why questions have no answer: what a subject does not offer, and what was not run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cnnformance.reports import matrix
from cnnformance.reports.records import Run, Verdict, VerdictName

UNANSWERED: tuple[VerdictName, ...] = ("not-run", "unsupported")
"""The verdicts of a question that was put, or was to be put, and has no answer."""


@dataclass(frozen=True)
class Reason:
    """One reason for which questions to a subject have no answer, with what they are about.

    In ``text``, "(...)" stands for the fields of a layer, and "<layer>" and "<dtype>" for those of
    each question, so that reasons that differ in these alone are one.
    """

    subject: str
    verdict: VerdictName
    text: str
    questions: int
    layers: tuple[str, ...]
    dtypes: tuple[str, ...]


def _without_fields(text: str) -> str:
    """Return a text with ``(...)`` in place of what stands in parentheses."""
    kept, depth = [], 0
    for c in text:
        depth += c == "("
        if depth == 0:
            kept.append(c)
        elif c == ")":
            depth -= 1
            kept.append("(...)" if depth == 0 else "")
    return "".join(kept)


def _reason(verdict: Verdict) -> str:
    text = " ".join(_without_fields(verdict.message).split())
    for name, stands in ((verdict.layer, "<layer>"), (verdict.dtype, "<dtype>")):
        if name:
            text = re.sub(rf"\b{re.escape(name)}\b", stands, text)
    return text or "no reason is recorded"


def reasons(run: Run) -> list[Reason]:
    """Return the reasons by subject, those of the most questions first."""
    unanswered = [v for v in run.verdicts if v.verdict in UNANSWERED]
    alike = matrix.grouped(unanswered, lambda v: (v.subject, v.verdict, _reason(v)))
    found = [
        Reason(
            subject,
            verdict,
            text,
            len(same),
            tuple(sorted({v.layer for v in same}, key=matrix.layer_order)),
            tuple(sorted({v.dtype for v in same if v.dtype})),
        )
        for (subject, verdict, text), same in alike.items()
    ]
    return sorted(found, key=lambda r: (run.subjects.index(r.subject), r.verdict, -r.questions))
