"""The published schema of records is made from their types, and the reader refuses as it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cnnformance.reports import record, records, schema
from cnnformance.reports.records import (
    Array,
    Divergence,
    Failure,
    Footer,
    Header,
    Subject,
    Trait,
    Verdict,
)

WRITTEN = Path(__file__).with_name("verdicts_of_schema_1.jsonl")
"""Lines of runs that were recorded before the schema was made from the types."""

LINES = WRITTEN.read_text("utf-8").splitlines()
VALIDATOR = jsonschema.Draft202012Validator(schema.published())


def test_the_published_schema_is_that_of_the_types() -> None:
    published = json.loads(records.SCHEMA_FILE.read_text("utf-8"))
    assert published == schema.published(), "stale: run `make schema`"
    defined = schema.published()["$defs"]
    for kind in (Header, Subject, Divergence, Verdict, Failure, Array, Trait, Footer):
        assert defined[kind.__name__]["properties"].keys() == {f.name for f in fields(kind)}
        assert defined[kind.__name__]["description"] == " ".join((kind.__doc__ or "").split())
    assert defined["Verdict"]["properties"]["verdict"]["enum"] == [*record.VERDICTS]
    assert defined["Verdict"]["properties"]["seconds"]["anyOf"][0] == {"type": "number"}
    assert {"record", "schema"} <= {*defined["Header"]["required"]}


def test_a_record_that_was_written_before_is_read_whole() -> None:
    run = records.read(WRITTEN)
    assert not run.partial
    assert [v.verdict for v in run.verdicts] == ["pass", "fail", "known", "unsupported"]
    assert [d.kind for s in run.header.subjects for d in s.divergences] == ["fault"]
    assert run.verdicts[1].failure is not None
    assert isinstance(run.verdicts[1].failure.arrays["x"], Array)
    for line in LINES:
        VALIDATOR.validate(json.loads(line))
        assert _holds(records.encode(records.decode(line)), json.loads(line))


def _holds(read: Any, written: Any) -> bool:
    """Whether all that was written was read; fields that came later have their defaults."""
    match written:
        case dict():
            return all(key in read and _holds(read[key], written[key]) for key in written)
        case list():
            return len(read) == len(written) and all(map(_holds, read, written))
    return bool(read == written)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where a JSON value holds others; of a list, its first two places."""
    if at:
        yield at
    inside = value if isinstance(value, dict) else range(len(value[:2]))
    for key in inside:
        if isinstance(value[key], dict | list):
            yield from _places(value[key], (*at, key))
        else:
            yield (*at, key)


WRONG: tuple[Any, ...] = (True, None, "", "x", "1", -1, 0.5, [], [[1], [2]], ["x", True], {})


def _refused(line: dict[str, Any]) -> str:
    """Return what the reader refuses a line with; empty where it reads it."""
    try:
        records.decode(json.dumps(line))
    except ValueError as error:
        return str(error)
    return ""


EACH = pytest.mark.parametrize("line", [json.loads(line) for line in LINES], ids=range(len(LINES)))


@EACH
def test_the_reader_refuses_the_values_that_the_schema_refuses(line: dict[str, Any]) -> None:
    refusals = set()
    for *outer, last in _places(line):
        for wrong in WRONG:
            changed = holder = deepcopy(line)
            for key in outer:
                holder = holder[key]
            holder[last] = deepcopy(wrong)
            said = _refused(changed)
            assert bool(said) is not VALIDATOR.is_valid(changed), (*outer, last, wrong)
            assert len(said) < 400
            refusals.add(bool(said))
    assert refusals == {True, False}


@EACH
def test_the_reader_refuses_the_keys_that_the_schema_refuses(line: dict[str, Any]) -> None:
    assert not _refused(line)
    for key in line:
        changed = {name: value for name, value in line.items() if name != key}
        assert bool(_refused(changed)) is not VALIDATOR.is_valid(changed), key
    changed = {**line, "other": 1}
    assert _refused(changed) == f"{line['record']}.other: is unknown"
    assert not VALIDATOR.is_valid(changed)
