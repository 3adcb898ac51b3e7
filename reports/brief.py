"""A run in one line each: what is missing, what was asked, and what fell."""

from __future__ import annotations

from cnnformance.reports import causes, matrix
from cnnformance.reports.records import Run


def banner(run: Run) -> str:
    """Return what is missing from a partial run, and what was chosen; empty for a whole one."""
    parts = [f"SHOWN IN PART: {run.chosen}"] if isinstance(run, causes.Part) else []
    if shards := ", ".join(run.header.shards):
        parts.append(f"SHARD {shards} ALONE: `cnnformance merge` joins it with the others")
    if run.ended:
        return "; ".join(parts)
    parts.append(f"PARTIAL: {run.recorded} of {run.header.planned} questions recorded")
    if run.footer is None:
        parts.append("the run did not come to its end")
    if run.missing:
        parts.append(f"nothing from {', '.join(run.missing)}")
    return "; ".join(parts)


def asked(run: Run) -> str:
    """Return how many examples were asked, and in which time."""
    examples = sum(v.examples for v in run.verdicts)
    seconds = run.footer.seconds if run.footer else sum(v.seconds for v in run.verdicts)
    return f"{examples:,} examples in {seconds:,.1f} s"


def closing(run: Run) -> str:
    """Return one line on the number of verdicts, the examples and the time."""
    fallen = ", ".join(f"{n} {name}" for name, n in matrix.counts(run.verdicts).items())
    head = run.header
    shown = f"profile {head.profile}, seed {head.seed}"
    return f"{fallen or 'nothing recorded'}; {asked(run)} ({shown})"


def shortfall(run: Run) -> str:
    """Return one line on the verdicts that stand on fewer cases than planned; empty if none do."""
    if not (short := matrix.cut(run.verdicts)):
        return ""
    asked, planned = sum(v.examples for v in short), sum(v.planned for v in short)
    n = f"{len(short)} question{'s' if len(short) > 1 else ''}"
    told = f"CUT SHORT: {n} asked fewer cases than planned, {asked:,} of {planned:,}"
    return f"{told}, by the budget or after a recorded crash or hang"
