"""The document as data: the typed reading of the TOML files beside this module.

A clause is one checkable statement. Each file holds the clauses of one layer;
``document.toml`` lists those files and maps every section of the document to its clauses, and
``authorities.toml`` names the texts that clauses of level ``semantics`` follow.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np

from cnnformance.spec.formulas import Formula, FormulaError, Number, Value, number
from cnnformance.spec.layers import (
    FAMILIES,
    TYPES,
    Adaptive,
    Conv,
    Flatten,
    Global,
    Layer,
    LayerError,
    Shape,
    Windowed,
    family,
    from_json,
    weight_shapes,
)
from cnnformance.spec.limits import outsized

Array = np.ndarray[Any, np.dtype[Any]]
"""Of objects, here: each number exactly as written, a ``Fraction`` or a float (NaN, ±inf, -0.0)."""

Level = Literal["document", "semantics", "precision", "gradient"]
Counts = Literal["parameters", "size", "features"]

DOCUMENT = "document.toml"
AUTHORITIES = "authorities.toml"


class SpecError(ValueError):
    """A malformed specification file; the message names the file, the key and the reason."""

    def __init__(self, file: str, key: str, reason: str) -> None:
        """Join file, key and reason into the message."""
        super().__init__(f"{file}: {key}: {reason}")
        self.file, self.key, self.reason = file, key, reason


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A text that the specification follows where the document is silent."""

    name: str
    version: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the document: its heading, the heading's depth, and its clauses in order."""

    heading: str
    depth: int
    clauses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A model, its weights (one mapping a layer, empty without), an input and the exact output.

    Arrays are canonical: channels-last with the batch in front.
    """

    model: tuple[Layer, ...]
    weights: tuple[Mapping[str, Array], ...]
    input: Array
    output: Array


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A layer, made unchecked, that must be refused for inputs of a shape."""

    layer: Layer
    shape: Shape


@dataclass(frozen=True, kw_only=True)
class Clause:
    """One statement of the specification.

    ``section`` is the heading of the document under which it falls, ``says`` a paraphrase,
    ``authority`` a key of ``Spec.authorities`` or empty.
    """

    id: str
    file: str
    section: str
    says: str
    level: Level
    authority: str = ""
    kind: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class Example(Clause):
    """A worked example: each trial's output is what its model computes."""

    trials: tuple[Trial, ...]
    kind: ClassVar[str] = "example"


@dataclass(frozen=True, kw_only=True)
class FormulaClause(Clause):
    """A formula, and what each of its names stands for."""

    formula: Formula
    where: Mapping[str, str]
    kind: ClassVar[str] = "formula"


@dataclass(frozen=True, kw_only=True)
class Law(Clause):
    """A property that holds for every input, named by ``law``.

    It is stated for layer types, or families of them (``layers.FAMILIES``); ``refusals`` are the
    cases of a law that something is refused.
    """

    law: str
    of: tuple[str, ...]
    refusals: tuple[Refusal, ...] = ()
    kind: ClassVar[str] = "law"

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layer types that it is stated for, of families those registered now."""
        found = (
            [kind.__name__ for kind in family(name)] if name in FAMILIES else [name]
            for name in self.of
        )
        return tuple(itertools.chain.from_iterable(found))


@dataclass(frozen=True, kw_only=True)
class Count(Clause):
    """A number that follows from a formula.

    With a ``model``, ``value`` is also, by ``counts``: the model's ``parameters``; or, for an
    input ``shape`` without the batch, the ``size`` of the output's first spatial axis or the
    number of ``features`` of the output.
    """

    formula: Formula
    bindings: Mapping[str, Value]
    value: Number
    model: tuple[Layer, ...] = ()
    counts: Counts | None = None
    shape: Shape = ()
    kind: ClassVar[str] = "count"


@dataclass(frozen=True, kw_only=True)
class Erratum(Clause):
    """A statement that is false or incomplete as written; ``holds`` says what is so instead.

    The counterexample is ``trials`` of what layers really compute, or a ``formula`` as written
    whose value for ``bindings`` is not ``value``, beside the one that holds, ``instead``.
    """

    holds: str
    trials: tuple[Trial, ...] = ()
    formula: Formula | None = None
    instead: Formula | None = None
    bindings: Mapping[str, Value]
    value: Value | None = None
    kind: ClassVar[str] = "erratum"


@dataclass(frozen=True, kw_only=True)
class Narrative(Clause):
    """A statement that no run of a layer can confirm or refute, with the reason."""

    reason: str
    kind: ClassVar[str] = "narrative"


C = TypeVar("C", bound=Clause)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The whole specification."""

    clauses: Mapping[str, Clause]
    sections: tuple[Section, ...]
    authorities: Mapping[str, Authority]

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


_MISSING: Any = object()


class _Table:
    """A TOML table, read key by key; what is left unread at the end is refused."""

    def __init__(self, file: str, key: str, data: Any) -> None:
        self.file, self.key = file, key
        if not isinstance(data, dict):
            raise SpecError(file, key, f"needs a table, not {data!r:.60}")
        self.data: dict[str, Any] = dict(data)

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def error(self, key: str, reason: str) -> SpecError:
        return SpecError(self.file, f"{self.key}.{key}" if self.key else key, reason)

    def take(self, key: str, kind: type, default: Any = _MISSING) -> Any:
        if key not in self.data:
            if default is _MISSING:
                raise self.error(key, "is missing")
            return default
        value = self.data.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(key, f"needs {kind.__name__}, not {value!r:.60}")
        return value

    def text(self, key: str, default: Any = _MISSING) -> str:
        value: str = self.take(key, str, default)
        if not value and default is _MISSING:
            raise self.error(key, "is empty")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> Any:
        value = self.text(key)
        if value not in choices:
            raise self.error(key, f"{value!r:.60} is none of {', '.join(choices)}")
        return value

    def list_of(self, key: str, kind: type, default: Any = _MISSING) -> tuple[Any, ...]:
        values = self.take(key, list, default)
        for value in values:
            if not isinstance(value, kind) or isinstance(value, bool):
                raise self.error(key, f"needs a list of {kind.__name__}, not {value!r:.60}")
        return tuple(values)

    def tables(self, key: str, default: Any = _MISSING) -> list[_Table]:
        values = self.take(key, list, default)
        return [
            _Table(self.file, f"{self.key}.{key}[{i}]".lstrip("."), v) for i, v in enumerate(values)
        ]

    def table(self, key: str, default: Any = _MISSING) -> _Table:
        return _Table(self.file, f"{self.key}.{key}", self.take(key, dict, default))

    def sane(self) -> None:
        """Refuse a value beyond the limits of a file."""
        if found := outsized(self.data, self.key):
            raise SpecError(self.file, *found)

    def formula(self, key: str) -> Formula:
        try:
            return Formula(self.text(key))
        except FormulaError as error:
            raise self.error(key, str(error)) from error

    def value(self, key: str) -> Value:
        value = self.take(key, object)
        try:
            return tuple(map(number, value)) if isinstance(value, list) else number(value)
        except FormulaError as error:
            raise self.error(key, str(error)) from error

    def bindings(self, formula: Formula) -> Mapping[str, Value]:
        table = self.table("bindings", {})
        values = {name: table.value(name) for name in list(table.data)}
        if values.keys() != formula.names:
            given, wanted = sorted(values), sorted(formula.names)
            raise self.error("bindings", f"binds {given}, and the formula has {wanted}")
        return MappingProxyType(values)

    def has_value(self, key: str, formula: Formula, bindings: Mapping[str, Value]) -> None:
        try:
            formula(**bindings)
        except FormulaError as error:
            raise self.error(key, str(error)) from error

    def array(self, key: str) -> Array:
        value = self.take(key, object)
        shape: list[int] = []
        level: list[Any] = [value]
        while level and all(isinstance(item, list) for item in level):
            lengths = {len(item) for item in level}
            if len(lengths) > 1:
                raise self.error(key, "is ragged")
            shape.append(lengths.pop())
            level = [cell for item in level for cell in item]
        if any(isinstance(item, list) for item in level):
            raise self.error(key, "is ragged")
        cells = np.empty(len(level), dtype=object)
        try:
            cells[:] = [_written(item) for item in level]
        except FormulaError as error:
            raise self.error(key, str(error)) from error
        return cells.reshape(shape)

    def layer(self, key: str, data: Any, *, checked: bool = True) -> Layer:
        if not isinstance(data, dict):
            raise self.error(key, f"needs a layer, not {data!r:.60}")
        try:
            return from_json(data, checked=checked)
        except (LayerError, TypeError) as error:
            raise self.error(key, str(error)) from error

    def model(self) -> tuple[Layer, ...]:
        layers = self.take("model", list)
        if not layers:
            raise self.error("model", "has no layer")
        return tuple(self.layer(f"model[{i}]", data) for i, data in enumerate(layers))

    def done(self) -> None:
        if self.data:
            raise self.error(min(self.data), "is unknown")


def _written(value: object) -> Number:
    """Return a number as written; unlike ``number`` it keeps the sign of zero."""
    if isinstance(value, Decimal) and value.is_zero() and value.is_signed():
        return -0.0
    return number(value)


def _rank(layers: Sequence[Layer]) -> int | None:
    """Return how many spatial axes the first of the layers that fixes them has, if one does."""
    for layer in layers:
        match layer:
            case Windowed() | Adaptive() | Global():
                return layer.rank
            case Flatten():
                return None
    return None


def _output_rank(layers: Sequence[Layer]) -> int | None:
    """Return how many spatial axes the output has, if a layer fixes them."""
    for layer in reversed(layers):
        match layer:
            case Windowed() | Adaptive():
                return layer.rank
            case Global() | Flatten(start=1):
                return 0
            case Flatten():
                return None
    return None


def _canonical(table: _Table, key: str, rank: int | None, *, batch: bool) -> Array:
    """Read an array and add the axes that it leaves out: the batch, and a single channel."""
    array = table.array(key)
    if batch:
        return array
    if rank is not None and array.ndim == rank:
        array = array[..., None]
    elif rank is not None and array.ndim != rank + 1:
        raise table.error(key, f"has {array.ndim} axes where {rank} or {rank + 1} are needed")
    return array[None]


def _weights(table: _Table, layer: Layer) -> Mapping[str, Array]:
    weights = {}
    for name, shape in weight_shapes(layer).items():
        array = table.array(name)
        if isinstance(layer, Conv) and array.shape == layer.window:
            array = array[..., None, None]
        if array.shape != shape:
            raise table.error(name, f"has the shape {array.shape}, and {shape} is needed")
        weights[name] = array
    table.done()
    return MappingProxyType(weights)


def _trial(table: _Table, model: tuple[Layer, ...], given: Sequence[_Table]) -> Trial:
    batch = table.take("batch", bool, default=False)
    weighted = [layer for layer in model if layer.has_weights]
    if len(given) != len(weighted):
        reason = f"has {len(given)} tables, and {len(weighted)} layers have weights"
        raise table.error("weights", reason)
    remaining = iter(given)
    return Trial(
        model=model,
        weights=tuple(_weights(next(remaining), m) if m.has_weights else {} for m in model),
        input=_canonical(table, "input", _rank(model), batch=batch),
        output=_canonical(table, "output", _output_rank(model), batch=batch),
    )


def _trials(table: _Table) -> tuple[Trial, ...]:
    """Read trials that share a model and weights; one trial may stand in the clause itself."""
    model = table.model()
    weights = table.take("weights", list, [])

    def read(one: _Table) -> Trial:
        given = [_Table(table.file, f"{table.key}.weights[{i}]", w) for i, w in enumerate(weights)]
        return _trial(one, model, given)

    if "trial" not in table:
        return (read(table),)
    trials = []
    for one in table.tables("trial"):
        trials.append(read(one))
        one.done()
    return tuple(trials)


def _example(table: _Table, common: Mapping[str, Any]) -> Example:
    return Example(**common, trials=_trials(table))


def _formula(table: _Table, common: Mapping[str, Any]) -> FormulaClause:
    formula, where = table.formula("formula"), table.table("where", {})
    meanings = {name: where.text(name) for name in list(where.data)}
    if meanings.keys() != formula.names:
        given, wanted = sorted(meanings), sorted(formula.names)
        raise table.error("where", f"explains {given}, and the formula has {wanted}")
    return FormulaClause(**common, formula=formula, where=MappingProxyType(meanings))


def _refusal(table: _Table) -> Refusal:
    layer = table.layer("layer", table.take("layer", dict), checked=False)
    refusal = Refusal(layer=layer, shape=table.list_of("shape", int))
    table.done()
    return refusal


def _law(table: _Table, common: Mapping[str, Any]) -> Law:
    of = table.list_of("layers", str)
    if unknown := [name for name in of if name not in TYPES and name not in FAMILIES]:
        raise table.error("layers", f"{unknown[0]!r} is no layer type, and no family of them")
    if not of:
        raise table.error("layers", "is empty")
    law = table.text("law")
    if not law.replace("-", "").isalnum() or law != law.lower():
        raise table.error("law", f"{law!r} is not lower-case words joined by hyphens")
    refusals = tuple(map(_refusal, table.tables("refusal", [])))
    return Law(**common, law=law, of=of, refusals=refusals)


def _count(table: _Table, common: Mapping[str, Any]) -> Count:
    formula = table.formula("formula")
    fields: dict[str, Any] = {}
    if "model" in table:
        counts = table.choice("counts", get_args(Counts))
        shape = () if counts == "parameters" else table.list_of("shape", int)
        fields = {"model": table.model(), "counts": counts, "shape": shape}
    bindings = table.bindings(formula)
    value = table.value("value")
    if not isinstance(value, Fraction):
        raise table.error("value", "needs one number, and a finite one")
    table.has_value("formula", formula, bindings)
    return Count(**common, formula=formula, bindings=bindings, value=value, **fields)


def _erratum(table: _Table, common: Mapping[str, Any]) -> Erratum:
    fields: dict[str, Any] = {"holds": table.text("holds"), "bindings": MappingProxyType({})}
    if "model" in table:
        fields["trials"] = _trials(table)
    elif "formula" in table:
        formula, instead = table.formula("formula"), table.formula("instead")
        if formula.names != instead.names:
            raise table.error("instead", "has other names than the formula")
        fields |= {"formula": formula, "instead": instead, "value": table.value("value")}
        fields["bindings"] = bindings = table.bindings(formula)
        table.has_value("formula", formula, bindings)
        table.has_value("instead", instead, bindings)
    else:
        raise table.error("model", "is missing, and so is formula: no counterexample")
    return Erratum(**common, **fields)


def _narrative(table: _Table, common: Mapping[str, Any]) -> Narrative:
    return Narrative(**common, reason=table.text("reason"))


_KINDS = {
    "example": _example,
    "formula": _formula,
    "law": _law,
    "count": _count,
    "erratum": _erratum,
    "narrative": _narrative,
}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SpecError(file.name, "encoding", str(error)) from error


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text[:40]!r} has an exponent that is too large") from error


def _toml(text: str, file: str) -> _Table:
    try:
        return _Table(file, "", tomllib.loads(text, parse_float=_decimal))
    except (ValueError, RecursionError) as error:
        raise SpecError(file, "syntax", str(error)) from error


def _clause(table: _Table) -> Clause:
    table.key = name = table.text("id")
    table.sane()
    kind = table.choice("kind", tuple(_KINDS))
    common = {
        "id": name,
        "file": table.file,
        "section": table.text("section"),
        "says": table.text("says"),
        "level": table.choice("level", get_args(Level)),
        "authority": table.text("authority", ""),
    }
    if common["level"] == "semantics" and not common["authority"]:
        raise table.error("authority", "is missing, and the level is semantics")
    clause = _KINDS[kind](table, common)
    table.done()
    return clause


def parse(text: str, file: str) -> tuple[Clause, ...]:
    """Return the clauses of one layer's file, given its text.

    Raises:
        SpecError: the text is malformed; names file, key and reason.
    """
    top = _toml(text, file)
    clauses = tuple(map(_clause, top.tables("clause")))
    top.done()
    return clauses


def _parse_document(text: str) -> tuple[tuple[str, ...], tuple[Section, ...]]:
    """Return the names of the clauses' files, and the sections."""
    top = _toml(text, DOCUMENT)
    top.sane()
    files = top.list_of("files", str)
    sections = []
    for table in top.tables("section"):
        section = Section(
            heading=table.text("heading"),
            depth=table.take("depth", int),
            clauses=table.list_of("clauses", str),
        )
        table.done()
        sections.append(section)
    top.done()
    return files, tuple(sections)


def _parse_authorities(text: str) -> Mapping[str, Authority]:
    top = _toml(text, AUTHORITIES)
    top.sane()
    authorities = {}
    for key in list(top.data):
        table = _Table(AUTHORITIES, key, top.take(key, dict))
        authorities[key] = Authority(
            name=table.text("name"), version=table.text("version"), url=table.text("url")
        )
        table.done()
    return MappingProxyType(authorities)


def _check_references(spec: Spec) -> None:
    """Refuse ids, headings and authorities that do not exist, and clauses in no section."""
    mapped: dict[str, set[str]] = {}
    for section in spec.sections:
        for name in section.clauses:
            if name not in spec.clauses:
                raise SpecError(DOCUMENT, section.heading, f"no clause has the id {name!r}")
        mapped.setdefault(section.heading, set()).update(section.clauses)
    for clause in spec.clauses.values():
        if clause.section not in mapped:
            reason = f"{clause.section!r} is no heading of the document"
            raise SpecError(clause.file, f"{clause.id}.section", reason)
        if clause.level == "document" and clause.id not in mapped[clause.section]:
            reason = f"{clause.section!r} does not list the clause"
            raise SpecError(clause.file, f"{clause.id}.section", reason)
        if clause.authority and clause.authority not in spec.authorities:
            reason = f"{clause.authority!r} is no authority"
            raise SpecError(clause.file, f"{clause.id}.authority", reason)


def assemble(texts: Mapping[str, str]) -> Spec:
    """Return the specification, given texts by file name; the document says which hold clauses.

    Raises:
        SpecError: a file is malformed or missing, an id is used twice, a section names a clause
            that does not exist, a clause names a section or an authority that does not exist, or
            a clause of the document stands in no section.
    """
    for file in (DOCUMENT, AUTHORITIES):
        if file not in texts:
            raise SpecError(file, "file", "is missing")
    files, sections = _parse_document(texts[DOCUMENT])
    authorities = _parse_authorities(texts[AUTHORITIES])
    clauses: dict[str, Clause] = {}
    for file in files:
        if file not in texts:
            raise SpecError(DOCUMENT, "files", f"{file} is missing")
        for clause in parse(texts[file], file):
            if clause.id in clauses:
                raise SpecError(file, clause.id, f"is also in {clauses[clause.id].file}")
            clauses[clause.id] = clause
    spec = Spec(clauses=MappingProxyType(clauses), sections=sections, authorities=authorities)
    _check_references(spec)
    return spec


@cache
def load() -> Spec:
    """Return the specification in the files beside this module, read once.

    Raises:
        SpecError: a file is malformed.
    """
    files = Path(__file__).parent.glob("*.toml")
    return assemble({file.name: _text(file) for file in files})
