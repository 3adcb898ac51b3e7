"""Records of runs: what a run writes down, line by line, and reads back.

A run is a file of JSON objects, one a line (``record`` has their types): a ``Header``, a
``Verdict`` for each question and subject, the ``Trait`` records, and a ``Footer``. Each line is
written as it falls, so a killed run keeps what it had. ``schema.json`` beside this file is the
published form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter

from cnnformance.reports import renamed
from cnnformance.reports.places import FILE, FOLDER, RecordError, is_record, resolve
from cnnformance.reports.record import (
    FAILING,
    GRADES,
    KNOWN,
    SCHEMA,
    VERDICT_OF,
    VERDICTS,
    Array,
    Class,
    Divergence,
    Effect,
    Failure,
    Footer,
    GradeName,
    Header,
    Record,
    Subject,
    Trait,
    Verdict,
    VerdictName,
    blamed,
    encode,
)
from cnnformance.spec import reading
from cnnformance.spec.limits import Limits

__all__ = [
    "FAILING",
    "FILE",
    "FOLDER",
    "GRADES",
    "KNOWN",
    "LINE",
    "SCHEMA",
    "SCHEMA_FILE",
    "VERDICTS",
    "VERDICT_OF",
    "Array",
    "Class",
    "Divergence",
    "Effect",
    "Failure",
    "Footer",
    "GradeName",
    "Header",
    "Record",
    "RecordError",
    "Run",
    "Subject",
    "Trait",
    "Verdict",
    "VerdictName",
    "Writer",
    "blamed",
    "decode",
    "encode",
    "is_record",
    "read",
    "resolve",
]

SCHEMA_FILE = Path(__file__).with_name("schema.json")
"""The JSON Schema of a line of ``verdicts.jsonl``."""

LINE = Annotated[Record, Field(discriminator="record")]
"""The type of a line."""

_LIMITS = Limits(2**64, 100)
"""What arrays of integers hold, and what can be shown without running out of stack."""


@dataclass(frozen=True)
class Run:
    """A run as read. ``truncated``: the last line was cut off in the middle."""

    path: Path
    header: Header
    verdicts: tuple[Verdict, ...]
    traits: tuple[Trait, ...]
    footer: Footer | None
    truncated: bool = False

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """The names of all subjects, those of the header first."""
        named = [s.subject for s in self.header.subjects]
        answered = [v.subject for v in self.verdicts]
        measured = [t.subject for t in self.traits]
        return tuple(dict.fromkeys([*named, *answered, *measured]))

    @cached_property
    def recorded(self) -> int:
        """How many pairs of subject and question have a verdict."""
        return len({(v.subject, v.question) for v in self.verdicts})

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """The subjects without any verdict."""
        answered = {v.subject for v in self.verdicts}
        return tuple(s for s in self.subjects if s not in answered)

    @property
    def ended(self) -> bool:
        """Whether there is a footer, a verdict on all that was planned, and one of each subject."""
        whole = self.recorded >= self.header.planned and not self.missing
        return self.footer is not None and whole

    @property
    def partial(self) -> bool:
        """Whether the run ended early, or is a shard alone."""
        return not self.ended or bool(self.header.shards)


class Writer:
    """Appends records to a file, creating its folder; each line is one write to the system.

    Lines of several processes that append to one file do not mix.
    """

    def __init__(self, path: Path) -> None:
        """Open the file for appending."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("ab", buffering=0)

    def write(self, record: Record | Mapping[str, Any]) -> None:
        """Append one record, or what ``encode`` made of one; it is in the file on return."""
        line = memoryview(json.dumps(encode(record), allow_nan=False).encode() + b"\n")
        while line:
            line = line[self._file.write(line) :]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@cache
def _line() -> TypeAdapter[Record]:
    """Return what reads a line; it is made when the first one is read."""
    return reading.adapter(LINE)


def decode(line: str) -> Record:
    """Return the record that a line holds.

    Raises:
        ValueError: the line is no JSON, or no record of this format; names the key.
    """
    try:
        data = renamed.current(json.loads(line))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if isinstance(data, dict) and data.get("record") == Header.record:
        found = data.get("schema")
        if type(found) is not int or found != SCHEMA:
            said = f"the format is schema {found!r:.60}, and this version reads {SCHEMA}"
            raise ValueError(said)
    return reading.typed(_line(), data, limits=_LIMITS)


def read(path: Path) -> Run:
    """Read a run. A last line that was cut off is left out, and the run is then partial.

    Of several verdicts of one subject on one question, the last holds.

    Raises:
        RecordError: the file cannot be read, has no header, or has a malformed line.
    """
    try:
        if path.exists() and not path.is_file():
            raise RecordError(f"{path} is no file; name a {FILE} or its folder")
        text = path.read_bytes().decode(errors="replace")
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}; name a {FILE} or its folder") from error
    *lines, rest = text.split("\n")
    records: list[Record] = []
    truncated = False
    for number, line in enumerate([*lines, rest] if rest else lines, start=1):
        try:
            record = decode(line)
        except ValueError as error:
            if number > len(lines):  # without its newline: the writer was killed in this line
                truncated = True
                break
            remedy = "delete the line, or run again"
            raise RecordError(f"{path}, line {number}: {error}; {remedy}") from error
        if isinstance(record, Header) != (number == 1):
            what = "a second header" if number > 1 else f"a {record.record} before any header"
            raise RecordError(f"{path}, line {number}: {what}; keep one run a file")
        records.append(record)
    if not records or not isinstance(records[0], Header):
        raise RecordError(f"{path}: no header, the run ended before it began; run again")
    footers = [r for r in records if isinstance(r, Footer)]
    verdicts = {(r.subject, r.question): r for r in records if isinstance(r, Verdict)}
    return Run(
        path=path,
        header=records[0],
        verdicts=tuple(verdicts.values()),
        traits=tuple(r for r in records if isinstance(r, Trait)),
        footer=footers[-1] if footers else None,
        truncated=truncated,
    )
