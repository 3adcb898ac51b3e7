"""What others wrote, made safe to show: frameworks, adapters, and whoever sends a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from cnnformance.spec.printable import printable

__all__ = ["cleaned", "printable"]

T = TypeVar("T")


def cleaned(record: T) -> T:
    """Return a record, or what it is made of, with every text printable."""
    made: object = record
    match record:
        case str():
            made = printable(record)
        case tuple() | list():
            made = type(record)(map(cleaned, record))
        case Mapping():
            made = {cleaned(key): cleaned(value) for key, value in record.items()}
        case _ if dataclasses.is_dataclass(record) and not isinstance(record, type):
            fields = {f.name: cleaned(getattr(record, f.name)) for f in dataclasses.fields(record)}
            made = dataclasses.replace(record, **fields)
    return made  # type: ignore[return-value] # each case makes what it was given
