"""Clauses as reports show them, and which of several a failure breaks first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnformance.spec.clauses import Authority, Clause, Spec, load
from cnnformance.spec.reading import DataError

NONE = Spec(clauses={}, sections=(), authorities={})
"""A specification without clauses: records stand without the paraphrases."""


def specification() -> Spec:
    """Return the specification; ``NONE`` where its files cannot be read."""
    try:
        return load()
    except DataError:  # the records stand without it
        return NONE


_COMMON = ("pool.toml", "pipeline.toml")
"""The files of clauses that several layer types share."""

_ORDINARY = frozenset({"input", "with", "that", "than"})
"""Words of a configuration that tell no clause from another."""


@dataclass(frozen=True)
class ClauseView:
    """A clause, its place in the document, and the authority that it follows, with a link."""

    id: str
    says: str
    level: str
    section: str
    authority: str
    url: str


def link(url: str) -> str:
    """Return an address of the web; empty for any other, which a page must not lead to."""
    return url if re.fullmatch(r"https?://[^\s]+", url) else ""


def view(name: str, spec: Spec) -> ClauseView:
    """Return what a specification says of a clause; of one that it has not, the id alone."""
    clause = spec.clauses.get(name)
    if clause is None:
        return ClauseView(name, "", "", "", "", "")
    authority, url = cited(clause, spec.authorities)
    return ClauseView(name, clause.says, clause.level, clause.section, authority, url)


def cited(clause: Clause, authorities: Mapping[str, Authority]) -> tuple[str, str]:
    """Return the name and the address of the authority of a clause; empty where it has none."""
    found = authorities.get(clause.authority)
    return (f"{found.name} {found.version}", link(found.url)) if found else ("", "")


def own_file(layer: str) -> str:
    """Return the name of the file that holds the clauses of a layer type alone."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", layer).lower() + ".toml"


def _words(texts: Iterable[str]) -> list[str]:
    found = re.findall(r"[A-Za-z]{4,}", " ".join(texts))
    return [word.lower() for word in found if word.lower() not in _ORDINARY]


def ordered(
    clauses: Sequence[str], layer: str, configuration: Sequence[str], spec: Spec, *, shaped: bool
) -> tuple[str, ...]:
    """Return the clauses that a failure may break, the one that its configuration touches first.

    It is none of another layer's; the one that speaks of most of what the failing cases have in
    common; then one of the layer's own; then one of the document itself. Where the result is
    ``shaped`` as it should be, and elements of it are wrong, those about sizes, shapes and dtypes
    come last.
    """
    words = _words(configuration)
    own = own_file(layer)

    def rank(name: str) -> tuple[bool, bool, int, bool, bool, int]:
        place = clauses.index(name)
        clause = spec.clauses.get(name)
        if clause is None:
            return (True, True, 0, True, True, place)
        kept = shaped and bool(re.search("size|shape|dtype", name))
        foreign = clause.file not in (own, *_COMMON)
        said = clause.says.lower()
        touched = sum(2 * (word in clause.id) + (word in said) for word in words)
        return (kept, foreign, -touched, clause.file != own, clause.level != "document", place)

    return tuple(sorted(dict.fromkeys(clauses), key=rank))
