"""Recorded divergences recognised in records of any version, whatever versions they are kept for.

So it shows which versions have one. A record holds the smallest failure of each cause alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cnnformance.conformance.divergence_entry import rebuilt
from cnnformance.conformance.divergences import Divergences
from cnnformance.reports import records
from cnnformance.reports.records import Divergence, Run, Verdict


def recognised(run: Run, divergences: Sequence[Divergence], mode: str) -> Run:
    """Return a run whose verdicts name every divergence that explains a failure of theirs.

    A verdict of which all failures are explained is ``known``. The header tells the divergences
    as they are now.
    """
    ever = Divergences(tuple(replace(each, versions="") for each in divergences))
    verdicts = tuple(
        _recognised(v, ever, mode) if v.verdict in records.FAILING else v for v in run.verdicts
    )
    subjects = tuple(replace(s, divergences=tuple(divergences)) for s in run.header.subjects)
    return replace(run, verdicts=verdicts, header=replace(run.header, subjects=subjects))


def _recognised(verdict: Verdict, ever: Divergences, mode: str) -> Verdict:
    if verdict.failure is None:
        return verdict
    message = verdict.failure.message or verdict.message
    failures = [replace(verdict.failure, message=message), *verdict.others]
    ids = [_explaining(failure, ever, mode) for failure in failures]
    known = tuple(dict.fromkeys([*verdict.known, *filter(None, ids)]))
    left = [failure for failure, id_ in zip(failures, ids, strict=True) if not id_]
    if not left:
        first = replace(verdict.failure, message="")
        return replace(verdict, verdict="known", known=known, failure=first, others=())
    left.sort(key=lambda failure: records.FAILING.index(_verdict(failure)))
    first, *others = left
    return replace(
        verdict,
        verdict=_verdict(first),
        message=first.message,
        layer=records.blamed(verdict.layer, first),
        known=known,
        failure=replace(first, message=""),
        others=tuple(others),
    )


def _verdict(failure: records.Failure) -> records.VerdictName:
    return records.VERDICT_OF.get(failure.effect, "fail")


def _explaining(failure: records.Failure, ever: Divergences, mode: str) -> str:
    try:
        return ever.explaining(rebuilt(failure), "", mode)
    except ValueError:  # it cannot be read again, and stays what it is
        return ""
