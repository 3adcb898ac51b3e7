"""Records for tests of reports: a verdict, a run, a file of it, and a failure of one output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnformance.reports import arrays
from cnnformance.reports.records import (
    Failure,
    Footer,
    Header,
    Run,
    Subject,
    Trait,
    Verdict,
    VerdictName,
    Writer,
)
from cnnformance.spec.layers import Layer, to_json


def verdict(name: VerdictName = "pass", **changes: Any) -> Verdict:
    plain = Verdict(
        subject="torch",
        question="test_a.py::test_a",
        layer="MaxPool",
        clauses=("pool.max.formula",),
        level="document",
        dtype="float32",
        verdict=name,
        examples=10,
        planned=10,
    )
    return replace(plain, **changes)


def run(*verdicts: Verdict, traits: tuple[Trait, ...] = (), head: tuple[Subject, ...] = ()) -> Run:
    names = dict.fromkeys([v.subject for v in verdicts] + [t.subject for t in traits])
    subjects = head or tuple(Subject(name, "1.0") for name in names)
    versions = ("0.1.0", "3.11.7", "2.4.6", "Linux")
    header = Header("2026-01-02T03:04:05Z", *versions, "quick", 0, len(verdicts), subjects)
    footer = Footer("2026-01-02T03:05:05Z", 60.0, len(verdicts))
    return Run(Path("verdicts.jsonl"), header, verdicts, traits, footer)


def write(path: Path, made: Run) -> Path:
    ended = (made.footer,) if made.footer else ()
    with Writer(path) as writer:
        for record in (made.header, *made.verdicts, *made.traits, *ended):
            writer.write(record)
    return path


def failure(layer: Layer, x: Any, at: tuple[int, ...], **changes: Any) -> Failure:
    array = np.asarray(x, np.float32)
    case = {"layers": [to_json(layer)], "shape": list(array.shape), "dtype": "float32"}
    packed = {"x": arrays.pack(array)}
    plain = Failure("value", case, packed, at, expected="1.0", actual="2.0", call="forward")
    return replace(plain, **changes)
