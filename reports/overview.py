"""What a report says first: of what, by which specification, how much, and the answer in short."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median_low

from cnnformance.reports import brief, causes, divergences, matrix
from cnnformance.reports.cells import Part, bar, state
from cnnformance.reports.records import Run
from cnnformance.spec.clauses import Spec


@dataclass(frozen=True)
class SubjectView:
    """A subject, its version, the answer on it in one sentence, and all its verdicts as a bar."""

    name: str
    version: str
    sentence: str
    parts: tuple[Part, ...]


def subjects(run: Run) -> tuple[SubjectView, ...]:
    """Return the subjects of a run."""
    versions = {s.subject: s.version for s in run.header.subjects}
    found = Counter(finding.subject for finding in causes.findings(run))
    seen = Counter(each.subject for each in divergences.seen(run))
    layers = matrix.by_layer(run)
    told = []
    for name in run.subjects:
        answered = [v for v in run.verdicts if v.subject == name]
        states = [state(cells.get(name, [])) for cells in layers.values()]
        not_run = sum(v.verdict == "not-run" for v in answered)
        sentence = _sentence(
            found[name], seen[name], states.count("not-offered"), not_run, any_=bool(answered)
        )
        told.append(SubjectView(name, versions.get(name, ""), sentence, bar(answered)))
    return tuple(told)


def _sentence(found: int, seen: int, lacking: int, not_run: int, *, any_: bool) -> str:
    if not any_:
        return "Nothing was recorded."
    told = [
        f"{found} open fault{'s' if found > 1 else ''}" if found else "no open fault",
        f"{seen} recorded divergence{'s' if seen > 1 else ''} met again" if seen else "",
        f"{lacking} layer{'s' if lacking > 1 else ''} not offered" if lacking else "",
        f"{not_run} question{'s' if not_run > 1 else ''} not run" if not_run else "",
    ]
    sentence = ", ".join(filter(None, told))
    return f"{sentence[0].upper()}{sentence[1:]}."


def facts(run: Run) -> tuple[tuple[str, str], ...]:
    """Return what ran, where and how much, as labels and texts."""
    header = run.header
    seconds = run.footer.seconds if run.footer else sum(v.seconds for v in run.verdicts)
    examples = sum(v.examples for v in run.verdicts)
    answers = f"{run.recorded:,} of {header.planned:,}"
    told = [
        ("Begun", header.started.replace("T", " ")),
        ("Profile", header.profile),
        ("Seed", str(header.seed)),
        ("Questions answered", answers if run.recorded != header.planned else f"{run.recorded:,}"),
        ("Cases asked", f"{examples:,}"),
        ("Time", f"{seconds:,.0f} s"),
        ("Platform", header.platform),
        ("Python", header.python),
        ("NumPy", header.numpy),
        ("cnnformance", header.cnnformance),
    ]
    return tuple(told)


def credentials(run: Run, spec: Spec) -> tuple[tuple[str, str], ...]:
    """Return what the answers rest on, counted from the specification and the record."""
    kinds = Counter[str](clause.kind for clause in spec.clauses.values())
    levels = Counter[str](clause.level for clause in spec.clauses.values())
    asked = set(matrix.by_clause(run)) & set(spec.clauses)
    checkable = sum(kinds.values()) - kinds["narrative"]
    compared = [v for v in run.verdicts if v.share is not None]
    rounded = sum(bool(v.sharpness) for v in compared)
    compiled = sum(v.compiles for v in run.verdicts)
    cases = sorted(v.examples for v in run.verdicts if v.verdict == "pass")
    behind = f"{cases[0]:,} to {cases[-1]:,}, the median {median_low(cases):,}" if cases else ""
    held = f"{rounded:,} within proven error bounds, {len(compared) - rounded:,} bit for bit"
    told = [
        ("Clauses of the specification", _counted(kinds)),
        ("By level", _counted(levels)),
        ("Checkable clauses asked in this run", f"{len(asked):,} of {checkable:,}"),
        ("Seed", f"{run.header.seed}; the same seed, subjects and versions are asked the same"),
        ("Cases behind a pass", behind),
        ("Questions whose values were compared", held if compared else ""),
        ("Fewer cases than planned", brief.shortfall(run)),
        ("Fewer cases as each new shape is compiled", f"{compiled:,} questions" * bool(compiled)),
    ]
    return tuple((label, text) for label, text in told if text)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.most_common())
