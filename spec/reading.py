"""Data of files, read as the types that it is of: the specification, divergences and records.

Types are dataclasses, read by pydantic. What does not fit is refused in one short line that names
file, key and reason. Numbers and truth values are of pydantic's strict types: ``"1"`` is no 1.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import is_dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from cnnformance.spec.limits import SPECIFICATION, Limits, outsized
from cnnformance.spec.printable import printable

T = TypeVar("T")

Text = Annotated[str, Field(min_length=1)]
"""A text that is not empty."""

_LONGEST = 240
"""The most characters of a reason that are told, and twice those of a key."""

_REASONS: Mapping[str, str] = {
    "missing": "is missing",
    "unexpected_keyword_argument": "is unknown",
    "extra_forbidden": "is unknown",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "string_type": "needs a text, not {given}",
    "int_type": "needs an integer, not {given}",
    "float_type": "needs a number of 64 bits, not {given}",
    "bool_type": "needs true or false, not {given}",
    "date_type": "needs a date such as 2026-01-31, not {given}",
    "greater_than_equal": "needs {ge} or more, not {given}",
    "literal_error": "{given} is none of {expected}",
    "union_tag_invalid": "'{tag}' is none of {expected_tags}",
    "union_tag_not_found": "is missing",
    **dict.fromkeys(("tuple_type", "list_type"), "needs a list, not {given}"),
    **dict.fromkeys(
        ("dict_type", "mapping_type", "dataclass_type", "model_attributes_type"),
        "needs a table, not {given}",
    ),
}
"""What is said of an error, by pydantic's name of its type; of others, what pydantic says."""


def _shortened(text: str, longest: int) -> str:
    """Return a text as one printable line; of a long one, its two ends."""
    line = " ".join(printable(text).split())
    if len(line) <= longest:
        return line
    return f"{line[: longest * 2 // 3]} ... {line[-longest // 3 :]}"


class DataError(ValueError):
    """Data that does not fit; the message is one line that names file, key and reason.

    ``file`` is empty where it is not known, and ``key`` where the data is no table.
    """

    def __init__(self, key: str, reason: str, file: str = "") -> None:
        """Join file, key and reason into the message."""
        key, reason = _shortened(key, _LONGEST // 2), _shortened(reason, _LONGEST)
        super().__init__(": ".join(filter(None, [file, key, reason])))
        self.key, self.reason, self.file = key, reason, file


CLOSED = ConfigDict(extra="forbid")
"""Keys that a type does not have are refused, and so they are of the types inside it."""


def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return what reads data as a type, ``CLOSED``; a single dataclass says so itself."""
    return TypeAdapter(kind, config=None if is_dataclass(kind) else CLOSED)


def _joined(key: str, *steps: str | int) -> str:
    for step in steps:
        key = f"{key}[{step}]" if isinstance(step, int) else f"{key}.{step}".lstrip(".")
    return key


def _told(error: ValidationError, key: str, *, tagged: bool) -> tuple[str, str]:
    """Return the key and the reason of an error; ``key`` is that of the data as a whole."""
    found = error.errors(include_url=False)[0]
    where = _joined(key, *found["loc"][tagged:])
    context = found.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, DataError):
        return _joined(where, cause.key), cause.reason
    if cause is not None:
        return where, str(cause)
    if found["type"].startswith("union_tag"):
        where = _joined(where, context["discriminator"].strip("'"))
    said = _REASONS.get(found["type"])
    told = {**context, "given": _shown(found["input"])}
    return where, said.format_map(told) if said else found["msg"]


def _shown(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value!s:.60}"
    try:
        return f"{value!r:.60}"
    except ValueError:  # of an integer with more digits than Python writes
        return "one that is too long to show"


def key_of(table: Mapping[str, Any], place: str) -> str:
    """Return what to call a table of a file: by its id, or by its place where it has none."""
    name = table.get("id")
    return name if name and isinstance(name, str) else place


def typed(
    reader: TypeAdapter[T],
    data: object,
    *,
    key: str = "",
    file: str = "",
    tagged: bool = False,
    limits: Limits | None = SPECIFICATION,
    added: Mapping[str, object] | None = None,
) -> T:
    """Return data of TOML or JSON as the type of an ``adapter``.

    Args:
        reader: the adapter.
        data: what was read; a table, where ``added`` is given.
        key: the key of the data as a whole, for messages.
        file: the file that it stands in, for messages.
        tagged: the type is one of several, each with a tag, for which ``key`` stands in messages.
        limits: of its integers and its depth; None where its parts are read again.
        added: values of keys that do not stand in the file, and must not.

    Raises:
        DataError: the data does not fit; of several reasons, one is told.
    """
    if limits and (found := outsized(data, key, limits)):
        raise DataError(*found, file)
    if added:
        if not isinstance(data, dict):
            raise DataError(key, f"needs a table, not {data!r:.60}", file)
        for name in sorted(added.keys() & data.keys()):
            raise DataError(_joined(key, name), "is unknown", file)
        data = {**data, **added}
    try:
        return reader.validate_python(data)
    except ValidationError as error:
        raise DataError(*_told(error, key, tagged=tagged), file) from error


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text[:40]!r} has an exponent that is too large") from error


def toml(text: str, file: str) -> dict[str, Any]:
    """Return the data of a TOML text; its decimals are exact.

    Raises:
        DataError: the text is no TOML.
    """
    try:
        return tomllib.loads(text, parse_float=_decimal)
    except (ValueError, RecursionError) as error:
        raise DataError("syntax", str(error), file) from error


def text(path: Path, file: str) -> str:
    """Return the text of a file. Raises ``DataError``: it cannot be read, or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError("file", error.strerror or str(error), file) from error
    except ValueError as error:
        raise DataError("encoding", str(error), file) from error
