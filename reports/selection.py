"""Some of the verdicts of a run: those of a subject, of a layer, of a finding, or what failed."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from cnnformance.reports import causes
from cnnformance.reports.causes import Finding, Part
from cnnformance.reports.matrix import layer_order
from cnnformance.reports.records import FAILING, RecordError, Run, Trait
from cnnformance.spec.suggestions import instead


def part(
    run: Run,
    subjects: Sequence[str] = (),
    layers: Sequence[str] = (),
    *,
    failures: bool = False,
    finding: int | None = None,
) -> Run:
    """Return what was chosen of a run, the run itself where nothing was.

    Args:
        run: the whole run.
        subjects: of these subjects alone; empty: of all.
        layers: of these layer types alone; empty: of all.
        failures: what fails alone.
        finding: the verdicts of one finding alone, the first of those that are left being 1.

    Raises:
        RecordError: there is no such subject, layer or finding; the message names those there are.
    """
    if not (subjects or layers or failures or finding is not None):
        return run
    everything = causes.findings(run)
    blamed = {v.layer for f in everything for v in f.verdicts}
    types = sorted(blamed | {v.layer for v in run.verdicts}, key=layer_order)
    _require("subject", subjects, run.subjects)
    _require("layer", layers, types)
    subjects, of = subjects or run.subjects, set(layers or types)
    found = [f for f in (_within(f, of) for f in everything) if f.verdicts]
    found = [f for f in found if f.subject in subjects]
    if finding is not None:
        found = [_numbered(found, finding)]
    asked = {(v.subject, v.question) for f in found for v in f.verdicts}
    verdicts = tuple(
        v
        for v in run.verdicts
        if v.subject in subjects
        and ((v.subject, v.question) in asked or (v.layer in of and finding is None))
        and (not failures or v.verdict in FAILING)
    )
    traits = () if failures or finding is not None else run.traits
    answered = {v.subject for v in verdicts} | set(run.missing)
    told = [f"subject {', '.join(subjects)}"] * (subjects is not run.subjects)
    told += [f"layer {', '.join(layers)}"] * bool(layers) + ["failures"] * failures
    told += [f"finding {finding}"] * (finding is not None)
    chosen = Part(
        run.path,
        replace(
            run.header,
            subjects=tuple(
                s for s in run.header.subjects if s.subject in subjects and s.subject in answered
            ),
        ),
        verdicts,
        tuple(t for t in traits if t.subject in subjects and (not layers or _about(t, of))),
        run.footer,
        run.truncated,
        found=tuple(found),
        chosen=f"{'; '.join(told)}: {len(verdicts)} of {len(run.verdicts)} verdicts",
    )
    missing = run.header.planned - (run.recorded - chosen.recorded)
    return replace(chosen, header=replace(chosen.header, planned=max(missing, 0)))


def _require(what: str, named: Sequence[str], there: Collection[str]) -> None:
    for name in named:
        if name not in there:
            raise RecordError(f"no {what} {name!r} in this run; {instead(name, there)}")


def _within(finding: Finding, layers: Collection[str]) -> Finding:
    kept = tuple(v for v in finding.verdicts if v.layer in layers)
    names = {v.layer for v in kept}
    return replace(finding, verdicts=kept, layer=names.pop() if len(names) == 1 else finding.layer)


def _numbered(found: Sequence[Finding], number: int) -> Finding:
    if not 1 <= number <= len(found):
        there = f"there are 1 to {len(found)}" if found else "there is none here"
        raise RecordError(f"no finding {number}; {there}")
    return found[number - 1]


def _about(trait: Trait, layers: Collection[str]) -> bool:
    """Whether a trait names one of the layers, in its name or in where it was measured."""
    words = set(re.findall(r"\w+", " ".join([trait.trait, *map(str, trait.where.values())])))
    return not words.isdisjoint(layers)
