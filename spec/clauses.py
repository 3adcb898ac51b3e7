"""The document as data: the reading of the TOML files beside this module.

Each file holds the clauses of one layer (``clause`` has their types); ``document.toml`` lists those
files and maps every section of the document to its clauses, and ``authorities.toml`` names the
texts that clauses of level ``semantics`` follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import ConfigDict, Field, StrictInt, TypeAdapter

from cnnformance.spec import reading
from cnnformance.spec.clause import (
    Claim,
    Clause,
    Count,
    Counts,
    Erratum,
    Example,
    FormulaClause,
    Law,
    Narrative,
    Refusal,
)
from cnnformance.spec.formulas import Formula
from cnnformance.spec.levels import Level
from cnnformance.spec.reading import DataError, Text
from cnnformance.spec.trials import Array, Trial

__all__ = [
    "AUTHORITIES",
    "DOCUMENT",
    "Array",
    "Authority",
    "Claim",
    "Clause",
    "Count",
    "Counts",
    "Erratum",
    "Example",
    "FormulaClause",
    "Law",
    "Level",
    "Narrative",
    "Refusal",
    "Section",
    "Spec",
    "Trial",
    "assemble",
    "load",
    "parse",
]

DOCUMENT = "document.toml"
AUTHORITIES = "authorities.toml"


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A text that the specification follows where the document is silent."""

    name: Text
    version: Text
    url: Text


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the document: its heading, the heading's depth, and its clauses in order."""

    heading: Text
    depth: StrictInt
    clauses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Document:
    """Which document it is, the names of the files of clauses, and the sections."""

    __pydantic_config__: ClassVar[ConfigDict] = reading.CLOSED
    source: str = ""
    files: tuple[str, ...]
    sections: Annotated[tuple[Section, ...], Field(alias="section")]


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file of clauses; each is read by itself, so that its id tells where."""

    __pydantic_config__: ClassVar[ConfigDict] = reading.CLOSED
    clauses: Annotated[tuple[dict[str, Any], ...], Field(alias="clause")]


C = TypeVar("C", bound=Clause)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The whole specification; ``source`` is the document that it holds: title, author, year."""

    clauses: Mapping[str, Clause]
    sections: tuple[Section, ...]
    authorities: Mapping[str, Authority]
    source: str = ""

    def of(self, kind: type[C]) -> tuple[C, ...]:
        """Return the clauses of one kind."""
        return tuple(clause for clause in self.clauses.values() if isinstance(clause, kind))

    def formula(self, name: str) -> Formula:
        """Return the formula of a formula clause.

        Raises:
            KeyError: no formula clause has this id.
        """
        clause = self.clauses[name]
        if not isinstance(clause, FormulaClause):
            raise KeyError(name)
        return clause.formula


_FILE: TypeAdapter[_File] = reading.adapter(_File)
_DOCUMENT: TypeAdapter[_Document] = reading.adapter(_Document)
_AUTHORITIES: TypeAdapter[dict[str, Authority]] = reading.adapter(dict[str, Authority])
_CLAUSE: TypeAdapter[Clause] = reading.adapter(
    Annotated[
        Example | FormulaClause | Law | Count | Erratum | Claim | Narrative,
        Field(discriminator="kind"),
    ]
)


def parse(text: str, file: str) -> tuple[Clause, ...]:
    """Return the clauses of one layer's file, given its text.

    Raises:
        DataError: the text is malformed; names file, key and reason.
    """
    tables = reading.typed(_FILE, reading.toml(text, file), file=file, limits=None).clauses
    return tuple(
        reading.typed(
            _CLAUSE,
            table,
            key=reading.key_of(table, f"clause[{number}]"),
            file=file,
            tagged=True,
            added={"file": file},
        )
        for number, table in enumerate(tables)
    )


def _check_references(spec: Spec) -> None:
    """Refuse ids, headings and authorities that do not exist, and clauses in no section."""
    mapped: dict[str, set[str]] = {}
    for section in spec.sections:
        for name in section.clauses:
            if name not in spec.clauses:
                raise DataError(section.heading, f"no clause has the id {name!r}", DOCUMENT)
        mapped.setdefault(section.heading, set()).update(section.clauses)
    for clause in spec.clauses.values():
        if clause.section not in mapped:
            reason = f"{clause.section!r} is no heading of the document"
            raise DataError(f"{clause.id}.section", reason, clause.file)
        if clause.level == "document" and clause.id not in mapped[clause.section]:
            reason = f"{clause.section!r} does not list the clause"
            raise DataError(f"{clause.id}.section", reason, clause.file)
        if clause.authority and clause.authority not in spec.authorities:
            reason = f"{clause.authority!r} is no authority"
            raise DataError(f"{clause.id}.authority", reason, clause.file)


def assemble(texts: Mapping[str, str]) -> Spec:
    """Return the specification, given texts by file name; the document says which hold clauses.

    Raises:
        DataError: a file is malformed or missing, an id is used twice, a section names a clause
            that does not exist, a clause names a section or an authority that does not exist, or
            a clause of the document stands in no section.
    """
    for file in (DOCUMENT, AUTHORITIES):
        if file not in texts:
            raise DataError("file", "is missing", file)
    document = reading.typed(_DOCUMENT, reading.toml(texts[DOCUMENT], DOCUMENT), file=DOCUMENT)
    authorities = reading.typed(
        _AUTHORITIES, reading.toml(texts[AUTHORITIES], AUTHORITIES), file=AUTHORITIES
    )
    clauses: dict[str, Clause] = {}
    for file in document.files:
        if file not in texts:
            raise DataError("files", f"{file} is missing", DOCUMENT)
        for clause in parse(texts[file], file):
            if clause.id in clauses:
                raise DataError(clause.id, f"is also in {clauses[clause.id].file}", file)
            clauses[clause.id] = clause
    spec = Spec(
        clauses=MappingProxyType(clauses),
        sections=document.sections,
        authorities=MappingProxyType(authorities),
        source=document.source,
    )
    _check_references(spec)
    return spec


@cache
def load() -> Spec:
    """Return the specification in the files beside this module, read once.

    Raises:
        DataError: a file is malformed.
    """
    files = Path(__file__).parent.glob("*.toml")
    return assemble({file.name: reading.text(file, file.name) for file in files})
