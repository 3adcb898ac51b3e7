"""What fills the pages that are templates: all from data, by the names that the pages use."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from cnnformance.adapters import registry
from cnnformance.conformance.divergences import load_divergences
from cnnformance.reports import credentials, statements
from cnnformance.reports.claims import outcome
from cnnformance.reports.clause_views import cited, own_file
from cnnformance.reports.markdown import escape
from cnnformance.reports.reasons import MEANINGS
from cnnformance.reports.records import Divergence
from cnnformance.spec import clauses
from cnnformance.spec.clause import Shown
from cnnformance.spec.clauses import Claim, Clause, Erratum, Law, Narrative
from cnnformance.spec.layers import TYPES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

TEMPLATES = frozenset({"bounds", "clauses", "divergences", "document", "proof", "verdicts"})
"""The pages that are templates."""

_SECTION = re.compile(r"^## \((?P<letter>[a-z])\) (?P<title>.+)$", re.MULTILINE)
"""The heading of a section of the derivations, which proves bounds."""

_LINK = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")
"""A link to a file."""

_STATEMENT = re.compile(r"^.*\*Statement\.\*.*?(?=^\*Proof|\Z)", re.MULTILINE | re.DOTALL)
"""What a section states, up to its proof."""


@dataclass(frozen=True)
class Told:
    """A clause, with what is told of it beside what it says."""

    clause: Clause
    authority: str
    url: str
    words: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Bound:
    """A section of the derivations, what it states, and the code that cites it, with its words."""

    letter: str
    title: str
    statement: str
    code: tuple[tuple[str, str], ...]


def filled(name: str, text: str) -> str:
    """Return the text of a page: a template filled, the bounds of the derivations marked."""
    if name == "derivations":
        return _SECTION.sub(r"(bound-\g<letter>)=\n\g<0>", text)
    if name not in TEMPLATES:
        return text
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - Markdown has other escapes, which the filters write
    )
    environment.filters |= {
        "text": escape,
        "code": _code,
        "linked": _linked,
        "title": _title,
        "docstring": _docstring,
    }
    return environment.from_string(text).render(_data())


def moved(text: str, folder: Path) -> str:
    """Return Markdown of a file in a folder with its links as they are from the folder of pages."""
    return _LINK.sub(lambda found: f"]({os.path.relpath(folder / found[1], HERE)})", text)


def _code(text: str) -> str:
    """Return a text as code in a line."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _linked(text: str, address: str) -> str:
    """Return a text as a link."""
    return f"[{escape(text)}](<{address}>)"


def _docstring(text: str) -> str:
    """Return the words of a docstring as Markdown, with its code as code."""
    parts = text.split("``")
    parts[1::2] = map(_code, parts[1::2])
    parts[::2] = [escape(f"|{part}|")[2:-2] for part in parts[::2]]  # which keeps its blank ends
    return "".join(parts)


def _title(file: str) -> str:
    """Return what the clauses of a file are about: a layer type, or what the file is called."""
    types = {own_file(name): name for name in TYPES}
    return types.get(file, file.removesuffix(".toml").capitalize())


@cache
def _data() -> Mapping[str, Any]:
    spec = clauses.load()
    told = [_told(clause, spec) for clause in spec.clauses.values()]
    measured = credentials.load()
    return {
        "spec": spec,
        "files": [(file, list(of)) for file, of in groupby(told, lambda t: t.clause.file)],
        "divergences": dict(_divergences()),
        "bounds": list(_bounds()),
        "reasons": MEANINGS,
        "measured": measured,
        "measurements": credentials.rows(measured),
    }


def _told(clause: Clause, spec: clauses.Spec) -> Told:
    words: dict[str, str] = {}
    facts: dict[str, Sequence[str]] = {}
    match clause:
        case Erratum():
            words = {"What holds": clause.holds}
            facts = {"Counterexample": [statements.counterexample(clause)]}
        case Claim():
            words = {"Measured": outcome(clause), "Not checkable": clause.reason}
            facts = {"Figures": [statements.formula(clause)]}
        case Narrative():
            words = {"Not checkable": clause.reason}
        case Law():
            facts = {"Law": [f"{clause.law}, of {', '.join(clause.of)}"]}
        case Shown():
            facts = {"Example": statements.trials(clause)}
        case _:
            facts = {"Formula": [statements.formula(clause)]}
    return Told(
        clause,
        *cited(clause, spec.authorities),
        tuple((label, text) for label, text in words.items() if text),
        tuple((label, tuple(texts)) for label, texts in facts.items()),
    )


def _divergences() -> Iterator[tuple[str, tuple[Divergence, ...]]]:
    """Yield the name of each backend of ours that has recorded divergences, with these."""
    for name in registry.registered():
        if found := load_divergences(name).divergences:
            yield name, found


def _bounds() -> Iterator[Bound]:
    """Yield the sections of the derivations."""
    text = (ROOT / "docs/derivations.md").read_text(encoding="utf-8")
    code = list(_citing())
    found = list(_SECTION.finditer(text))
    ends = [match.start() for match in found[1:]] + [text.index("\n## References")]
    for match, end in zip(found, ends, strict=True):
        stated = _STATEMENT.search(text[match.end() : end])
        cited = tuple((name, says) for letters, name, says in code if match["letter"] in letters)
        yield Bound(match["letter"], match["title"], stated[0] if stated else "", cited)


def _citing() -> Iterator[tuple[str, str, str]]:
    """Yield what cites sections of the derivations: their letters, its name, its first sentence."""
    for path in sorted([*ROOT.glob("reference/*.py"), *ROOT.glob("conformance/*.py")]):
        file, tree = path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))
        said = {f"{file}": ast.get_docstring(tree)}
        said |= {
            f"{file}, {node.name}": ast.get_docstring(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
        }
        for name, text in said.items():
            if found := re.search(r"\bsections? ([a-z](?:, [a-z])*)\)", text or ""):
                first = (text or "").split("\n\n")[0]
                yield found[1], name, re.sub(r" \([^(]*\bsections? [^)]*\)", "", first)
