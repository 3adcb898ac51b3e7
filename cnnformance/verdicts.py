"""From the outcome of a question to its verdict: the verdict, its record, and what is shown."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

from cnnformance import pytest_items as items
from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.exceptions import AdapterBroke, Stopped
from cnnformance.conformance import reproduction
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.parametrize import FORMULA_CLAUSES
from cnnformance.conformance.question import Question
from cnnformance.conformance.requests import Cut
from cnnformance.reports import arrays, records
from cnnformance.spec import layers as spec

_LONGEST = 2000
"""The characters of a message that are recorded."""

Outcome = tuple[str, str, list[Failure]]
"""A verdict, what it says, and the failures that it stands on, the worst first."""


def of(asked: Question, call: pytest.CallInfo[None], budget: float | None) -> Outcome:
    """Return the verdict, what it says, and the failures that it stands on, the worst first."""
    error = call.excinfo.value if call.excinfo else None
    failures = list(asked.failures)
    match error:
        case None | Unsupported() | Stopped() | pytest.skip.Exception() | Cut():
            pass
        case Failure():
            asked.count(error)
            if not asked.divergence(error):
                failures.append(error)
        case AdapterBroke():
            failures.append(Failure("adapter", str(error), detail=error.traceback))
        case _:
            return "error", f"{type(error).__name__}: {error}", []
    if failures:
        verdicts = [records.VERDICT_OF.get(failure.effect, "fail") for failure in failures]
        worst = min(range(len(failures)), key=lambda i: records.FAILING.index(verdicts[i]))
        first = failures.pop(worst)
        return verdicts[worst], first.message, [first, *failures]
    if asked.seen_known:
        seen = list(asked.seen_known.values())
        return "known", f"{', '.join(asked.seen_known)}: {seen[0].message}", seen
    return *_unfailed(asked, error, budget), []


def _unfailed(
    asked: Question, error: BaseException | None, budget: float | None
) -> tuple[str, str]:
    """Return the verdict of a question that nothing failed, and what it says."""
    if isinstance(error, Cut):
        asked.left = max(asked.left, 1)
        count = f"{asked.examples} of {asked.planned} cases were asked, and none failed"
        over = f"the budget of {budget:g} s was over"
        return "not-run", f"cut by the budget: {count}" if asked.examples else over
    if isinstance(error, Stopped):
        return "not-run", str(error)
    if asked.left:
        return "not-run", asked.stopped or f"{asked.left} cases were not asked"
    if error is not None or (asked.declined and not asked.examples):
        return "unsupported", str(error or asked.declined)
    return ("pass", "") if asked.examples else ("not-run", "the question asked nothing")


def record(
    item: pytest.Item,
    asked: Question,
    outcome: Outcome,
    seconds: float,
) -> records.Verdict:
    """Return the record of a verdict on a question."""
    params = items.params(item)
    layer_type = items.layer_type(item)
    verdict, message, failures = outcome
    layer = layer_type.__name__ if isinstance(layer_type, type) else str(layer_type or "Model")
    shown = [_failure(asked, failure) for failure in failures]
    layer = records.blamed(layer, shown[0]) if shown else layer
    short = bool(failures) and failures[0].effect == "precision"
    return records.Verdict(
        subject=asked.subject.name,
        question=asked.id,
        layer=layer,
        clauses=_clauses(item, layer, failures),
        level="precision" if short else items.level(item),
        dtype=params.get("dtype"),
        verdict=verdict,  # type: ignore[arg-type] # one of the names, by construction
        examples=asked.examples,
        planned=asked.planned,
        seconds=round(seconds, 4),
        composed=asked.composed.get(layer),
        grade=max(asked.grades, key=records.GRADES.index) if asked.grades else None,  # type: ignore[arg-type] # likewise
        share=asked.share,
        sharpness=asked.sharpness if math.isfinite(asked.sharpness) else None,
        compiles=asked.compiles,
        message=message[:_LONGEST],
        known=tuple(asked.seen_known),
        failure=dataclasses.replace(shown[0], message="") if shown else None,
        others=tuple(shown[1:]),
    )


def _clauses(item: pytest.Item, layer: str, failures: Sequence[Failure]) -> tuple[str, ...]:
    """Return the clauses of a question, and first those of the layer that computes otherwise.

    A law between two calls may hold, where each of them is not what its layer computes.
    """
    broken = any(failure.miscomputed for failure in failures)
    formula = FORMULA_CLAUSES.get(spec.TYPES[layer], ()) if broken and layer in spec.TYPES else ()
    return tuple(dict.fromkeys([*formula, *items.clauses_of(item)]))


def died(item: pytest.Item, asked: Question) -> records.Verdict:
    """Return the verdict on a question of which no more is heard."""
    died = Failure("crash", "the process that asked the question died")
    return record(item, asked, ("crash", died.message, [died]), 0.0)


def _failure(asked: Question, failure: Failure) -> records.Failure:
    script = None
    with contextlib.suppress(Exception):  # a script is a service; the failure stands without it
        script = reproduction.script(asked.subject, failure)
    return records.Failure(
        effect=failure.effect,  # type: ignore[arg-type] # the judge's words are the records' words
        case=_case(failure),
        arrays={name: arrays.pack(a) for name, a in failure.arrays.items()},
        index=failure.index,
        expected=failure.expected,
        actual=failure.actual,
        bound=failure.bound or None,
        share=failure.share,
        alone=failure.alone,
        detail=failure.detail,
        script=script,
        message=failure.message[:_LONGEST],
        reason=failure.reason or None,
        call=failure.call,
        operand=failure.operand,
    )


def _case(failure: Failure) -> dict[str, Any] | None:
    """Return the case with the layers and the input that failed: a question may call others too."""
    if not failure.layers:
        return failure.case.to_json() if failure.case else None
    case = failure.case.to_json() if failure.case else {}
    case["layers"] = [spec.to_json(layer) for layer in failure.layers]
    if failure.case and "x" in failure.arrays:
        case["shape"] = list(failure.arrays["x"].shape)
        case["dtype"] = failure.arrays["x"].dtype.name
    return case


def shown(record: records.Verdict, failure: Failure | None, call: pytest.CallInfo[None]) -> str:
    """Return what the terminal shows of a failing verdict."""
    if failure is None:
        return f"{record.message}\n{call.excinfo.getrepr() if call.excinfo else ''}"
    lines = [f"{record.subject}: {record.verdict} ({failure.effect}): {record.message}"]
    lines += [f"  also      {other.effect}: {other.message}" for other in record.others]
    lines += [f"  clauses   {', '.join(record.clauses)}"]
    if failure.layers:
        lines += [f"  layer     {', '.join(map(str, failure.layers))}"]
    if failure.case:
        case = failure.case
        regimes = ", ".join(case.regimes)
        lines += [f"  input     {case.dtype} {case.shape}, regimes {regimes}, seed {case.seed}"]
        lines += [f"  memory    {case.memory}"]
    if failure.alone is False:
        lines += [
            "  alone     passes in a fresh process: state leaks between calls, or it is flaky"
        ]
    if failure.detail:
        lines += [
            "  detail",
            *(f"    {line}" for line in failure.detail.rstrip().splitlines()[-12:]),
        ]
    if record.failure and record.failure.script:
        lines += ["  script    cnnformance report shows the script that reproduces it"]
    return "\n".join(lines)


def transport(record: records.Verdict, asked: Question) -> str:
    """Return what the recorder writes, as JSON: execnet, which may carry it, limits integers."""
    traits = [
        records.Trait(asked.subject.name, t.name, t.value, {"at": t.where}, t.shown, t.experiment)
        for t in asked.traits
    ]
    return json.dumps([records.encode(each) for each in (record, *traits)], allow_nan=False)
