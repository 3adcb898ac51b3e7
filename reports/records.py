"""Verdict records: what a run writes down, line by line, and reads back.

A run is a file of JSON objects, one a line: a ``Header``, a ``Verdict`` for each question and
subject, the ``Trait`` records, and a ``Footer``. Each line is written as it falls, so a killed
run keeps what it had. ``schema.json`` beside this file is the published form.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from cnnformance.reports.reasons import Reason

SCHEMA = 1
"""The version of the format, written into each header."""

FILE = "verdicts.jsonl"
FOLDER = ".cnnformance"

VerdictName = Literal["crash", "hang", "fail", "error", "known", "not-run", "unsupported", "pass"]
Effect = Literal[
    "value", "shape", "dtype", "special", "exception", "accepted", "crash", "hang",
    "trait", "impure", "count", "statistics", "law", "precision", "adapter",
]  # fmt: skip
Class = Literal["fault", "documented", "open"]
GradeName = Literal[
    "exact", "float64", "float32", "pairwise half", "half",
    "running", "logarithm", "Winograd", "Fourier", "normwise",
]  # fmt: skip

VERDICTS: tuple[VerdictName, ...] = typing.get_args(VerdictName)
"""Every verdict, the worst first."""

FAILING: tuple[VerdictName, ...] = ("crash", "hang", "fail", "error")
"""The verdicts that fail a run."""

KNOWN: tuple[VerdictName, ...] = ("known",)
"""The verdict of a recorded divergence that was seen again; it fails no run."""

GRADES: tuple[GradeName, ...] = typing.get_args(GradeName)
"""Every precision grade, the tightest first."""

SCHEMA_FILE = Path(__file__).with_name("schema.json")
"""The JSON Schema of a line of ``verdicts.jsonl``."""


class RecordError(ValueError):
    """A run that cannot be found or read; one line with file, line number and remedy."""


@dataclass(frozen=True)
class Divergence:
    """A recorded divergence: what a framework is known to do otherwise than the specification.

    ``kind`` is ``fault`` (the framework is wrong), ``documented`` (it does what its own
    documentation says) or ``open`` (a question that no authority settles). It explains failures of
    these ``layers`` and ``effects`` of which the predicate ``when`` holds, in these ``modes``
    (empty: in all) and ``versions`` (bounds such as ``>=2.13,<3``). ``says`` is one sentence,
    ``link`` where it can be read about, and ``seen`` the day on which it was first seen.
    """

    id: str
    kind: Class
    layers: tuple[str, ...]
    effects: tuple[str, ...]
    when: str
    modes: tuple[str, ...]
    versions: str
    says: str
    link: str
    seen: str


@dataclass(frozen=True)
class Subject:
    """A subject of the run, the version of its framework, and what is recorded of it."""

    subject: str
    version: str = ""
    divergences: tuple[Divergence, ...] = ()


@dataclass(frozen=True)
class Header:
    """The first line: what ran, where, and how many verdicts were planned over all subjects."""

    record: ClassVar[str] = "header"
    started: str
    cnnformance: str
    python: str
    numpy: str
    platform: str
    profile: str
    seed: int
    planned: int
    subjects: tuple[Subject, ...]
    schema: int = SCHEMA


@dataclass(frozen=True)
class Array:
    """An array as JSON: nested lists, or base64 of the zlib-compressed little-endian bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: Any


@dataclass(frozen=True)
class Failure:
    """What went wrong, with the smallest case that shows it.

    ``case`` holds the layers (as ``spec.layers.to_json`` gives them), shape, dtype, regimes, seed
    and memory layout; ``share`` is the part of the bound that the error used (above 1: broken);
    ``alone`` says whether the case failed again in a fresh process. ``message`` says what is wrong;
    that of a verdict's own failure is the verdict's. ``reason`` says why it is wrong, in a word of
    ``reasons.MEANINGS``; ``call`` what was asked of the layers, and ``operand`` whose gradient is
    wrong (both empty where a record does not say).
    """

    effect: Effect
    case: Mapping[str, Any] | None = None
    arrays: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    index: tuple[int, ...] | None = None
    expected: str = ""
    actual: str = ""
    bound: str | None = None
    share: float | None = None
    alone: bool | None = None
    detail: str = ""
    script: str | None = None
    message: str = ""
    reason: Reason | None = None
    call: str = ""
    operand: str = ""


@dataclass(frozen=True)
class Verdict:
    """The answer of one subject to one question.

    ``examples`` cases were asked of the ``planned`` ones, which leave out what the subject
    declined (0 where a record does not say). ``composed`` tells how a layer was made that the
    framework lacks; ``grade`` and ``share`` are the loosest precision grade and the largest share
    of the bound over all examples, ``sharpness`` the smallest allowed error over the size of its
    answer. ``compiles``: the subject compiles for each new shape, so that fewer were planned.
    ``others`` are failures of other causes than ``failure``.
    """

    record: ClassVar[str] = "verdict"
    subject: str
    question: str
    layer: str
    clauses: tuple[str, ...]
    level: str
    dtype: str | None
    verdict: VerdictName
    examples: int = 0
    planned: int = 0
    seconds: float = 0.0
    composed: str | None = None
    grade: GradeName | None = None
    share: float | None = None
    sharpness: float | None = None
    compiles: bool = False
    message: str = ""
    known: tuple[str, ...] = ()
    failure: Failure | None = None
    others: tuple[Failure, ...] = ()


def blamed(layer: str, failure: Failure) -> str:
    """Return the layer that a failure is of: the type of what it shows, if that is one alone.

    Else, and for a law or a trait, which is of several calls, it is the question's own ``layer``.
    """
    shown = (failure.case or {}).get("layers", []) if failure.effect not in ("law", "trait") else []
    types = list({str(each["type"]): None for each in shown if "type" in each})
    return types[0] if len(types) == 1 else layer


VERDICT_OF: Mapping[str, VerdictName] = {"crash": "crash", "hang": "hang", "adapter": "error"}
"""The verdict that a failure of an effect makes, where it is not ``fail``."""


@dataclass(frozen=True)
class Trait:
    """A choice that the text leaves open, as measured once: its value, where, and shown how."""

    record: ClassVar[str] = "trait"
    subject: str
    trait: str
    value: str
    where: Mapping[str, Any]
    shown: str = ""


@dataclass(frozen=True)
class Footer:
    """The last line: the run came to its end."""

    record: ClassVar[str] = "footer"
    finished: str
    seconds: float
    recorded: int


Record = Header | Verdict | Trait | Footer
_KINDS: Mapping[str, type[Record]] = {
    kind.record: kind for kind in (Header, Verdict, Trait, Footer)
}


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
    def partial(self) -> bool:
        """Whether the run ended early: no footer, too few verdicts, or a subject without any."""
        return self.footer is None or self.recorded < self.header.planned or bool(self.missing)


def encode(record: Any) -> Any:
    """Return a record as strict JSON data: tuples as lists, NaN and infinities as strings."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        fields = {f.name: encode(getattr(record, f.name)) for f in dataclasses.fields(record)}
        kind = getattr(record, "record", None)
        return {"record": kind, **fields} if kind else fields
    if isinstance(record, Mapping):
        return {str(key): encode(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [encode(value) for value in record]
    if callable(tolist := getattr(record, "tolist", None)):  # a NumPy scalar or array
        return encode(tolist())
    if isinstance(record, float) and not math.isfinite(record):
        return str(record)
    return record


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


def _hints(kind: type[Any]) -> Mapping[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


_UNIONS = (types.UnionType, typing.Union)
_HINTS = {
    k: _hints(k) for k in (Header, Subject, Divergence, Verdict, Failure, Array, Trait, Footer)
}


def _object(kind: type[Any], value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"{where} is not an object")
    hints = _HINTS[kind]
    if unknown := sorted(value.keys() - hints.keys()):
        raise ValueError(f"{where} has an unknown key {unknown[0]!r}")
    needed = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory}
    if lacking := sorted(needed - value.keys()):
        raise ValueError(f"{where} lacks {lacking[0]!r}")
    return kind(**{key: _decode(hints[key], v, f"{where}.{key}") for key, v in value.items()})


_LARGEST = 10**1000
"""Sums of numbers as large can still be written in digits."""


def _deep(value: Any, levels: int = 100) -> bool:
    """Whether a JSON value is nested deeper than that: what shows it would run out of stack."""
    level = [value]
    for _ in range(levels):
        holders = [v for v in level if isinstance(v, dict | list)]
        level = [item for v in holders for item in (v.values() if isinstance(v, dict) else v)]
    return bool(level)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if typing.get_origin(hint) is Literal and value in typing.get_args(hint):
        return value
    if hint is float and (type(value) in (int, float) or value in ("nan", "inf", "-inf")):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{where} is beyond the numbers of float64") from None
    if hint is int and type(value) is int and abs(value) > _LARGEST:
        raise ValueError(f"{where} is a number of more than 1,000 digits")
    if hint in (str, int, bool) and type(value) is hint:
        return value
    raise ValueError(f"{where} cannot be {value!r:.60}")


def _decode(hint: Any, value: Any, where: str) -> Any:
    """Return a JSON value as the annotated type, or raise ValueError or TypeError saying where."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or (origin in _UNIONS and value is None):
        return value
    if origin in _UNIONS:  # only ever `T | None`
        return _decode(args[0], value, where)
    if dataclasses.is_dataclass(hint):
        return _object(typing.cast("type[Any]", hint), value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_decode(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _decode(args[1], v, f"{where}.{key}") for key, v in value.items()}
    return _scalar(hint, value, where)


def decode(line: str) -> Record:
    """Return the record that a line holds.

    Raises:
        ValueError, TypeError: the line is no JSON, or no record of this format.
    """
    try:
        data = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if _deep(data):
        raise ValueError("it is nested too deeply")
    if not isinstance(data, dict) or data.get("record") not in _KINDS:
        raise ValueError(f'"record" is none of {", ".join(_KINDS)}')
    if data["record"] == "header" and data.get("schema") != SCHEMA:
        found = data.get("schema")
        raise ValueError(f"the format is schema {found!r}, and this version reads {SCHEMA}")
    kind = data.pop("record")
    record: Record = _object(_KINDS[kind], data, kind)
    failures = [record.failure, *record.others] if isinstance(record, Verdict) else []
    for case in (failure.case for failure in failures if failure and failure.case):
        layers = case.get("layers", [])
        if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
            raise ValueError("verdict.failure.case.layers is no list of objects")
    return record


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
        except (ValueError, TypeError) as error:
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


def is_record(path: Path) -> bool:
    """Whether a file is empty, or begins as a record of verdicts does."""
    with path.open("rb") as file:
        begin = file.read(2)
        return not begin or (begin == b'{"' and b'"record"' in begin + file.read(1 << 16))


def _newest(folder: Path) -> Path | None:
    found = [p for p in folder.glob(f"{FOLDER}/*/{FILE}") if p.is_file()]
    return max(found, key=lambda p: (p.stat().st_mtime_ns, p.parent.name), default=None)


def resolve(argument: str | os.PathLike[str] | None, root: Path) -> Path:
    """Return the file of verdicts that an argument names.

    Args:
        argument: a file, a folder that holds ``verdicts.jsonl``, a folder in which runs were
            made, or None for the newest run made in ``root``.
        root: the folder that relative names start from.

    Raises:
        RecordError: there is none.
    """
    if argument is None:
        if newest := _newest(root):
            return newest
        raise RecordError(
            f"no run under {root / FOLDER}; make one with `pytest conformance`, or name one"
        )
    path = root / argument
    if path.is_dir():
        inside = path / FILE
        if found := inside if inside.is_file() else _newest(path):
            return found
        raise RecordError(f"{path}: the folder holds no {FILE}; name the folder of a run")
    if not path.exists():
        raise RecordError(f"{path}: no such file or folder; name a {FILE} or its folder")
    return path
