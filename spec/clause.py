"""What a clause is: one checkable statement of the specification, of one of seven kinds.

Each kind is a type whose fields are the keys of a ``[[clause]]`` in the files of the layers; how
the keys of one clause must fit together is checked as it is made. ``clauses`` reads the files.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator, StrictBool, StrictInt

from cnnformance.spec.expressions import ExpressionError
from cnnformance.spec.formulas import Formula, Value, number
from cnnformance.spec.layers import FAMILIES, TYPES, family
from cnnformance.spec.levels import Level
from cnnformance.spec.reading import DataError, Text
from cnnformance.spec.trials import Cells, Layers, Row, Trial, UncheckedLayer, Weights, trials_of

Counts = Literal["parameters", "size", "features"]


def _formula(text: object) -> Formula:
    if not isinstance(text, str):
        raise ValueError(f"needs a text, not {text!r:.60}")  # noqa: TRY004 - of the data
    return Formula(text)


def _value(value: object) -> Value:
    return tuple(map(number, value)) if isinstance(value, list) else number(value)


def _finite(value: object) -> Fraction:
    found = _value(value)
    if not isinstance(found, Fraction):
        raise ValueError("needs one number, and a finite one")  # noqa: TRY004 - of the data
    return found


def _law(text: str) -> str:
    if not text.replace("-", "").isalnum() or text != text.lower():
        raise ValueError(f"{text!r:.60} is not lower-case words joined by hyphens")
    return text


def _layer_types(name: str) -> str:
    if name not in TYPES and name not in FAMILIES:
        raise ValueError(f"{name!r:.60} is no layer type, and no family of them")
    return name


AFormula = Annotated[Formula, PlainValidator(_formula)]
AValue = Annotated[Value, PlainValidator(_value)]
Bindings = Mapping[str, AValue]
"""The value of each name of a formula."""


@dataclass(frozen=True, kw_only=True)
class Clause:
    """One statement of the specification.

    ``section`` is the heading of the document under which it falls, ``says`` a paraphrase,
    ``authority`` a key of ``Spec.authorities`` or empty; ``file`` is the file that it stands in.
    """

    id: Text
    file: str
    section: Text
    says: Text
    level: Level
    authority: str = ""
    kind: str

    def __post_init__(self) -> None:
        """Refuse keys that do not fit together: the message names one."""
        if self.level == "semantics" and not self.authority:
            raise DataError("authority", "is missing, and the level is semantics")


def _given(clause: Clause, name: str) -> bool:
    value = getattr(clause, name)
    return bool(value) if isinstance(value, tuple | Mapping) else value is not None


def _need(clause: Clause, *names: str) -> None:
    """Require keys that a clause of this content must have."""
    for name in names:
        if not _given(clause, name):
            raise DataError(name, "is missing")


def _refuse(clause: Clause, place: str, *names: str) -> None:
    """Refuse keys that a clause of this content cannot have."""
    for name in names:
        if _given(clause, name):
            raise DataError("trial" if name == "rows" else name, f"has no place {place}")


def _has_value(formula: Formula, key: str, bindings: Bindings) -> None:
    """Require a value for each name of the formula of a key, with which it has a value itself."""
    if bindings.keys() != formula.names:
        given, wanted = sorted(bindings), sorted(formula.names)
        raise DataError("bindings", f"binds {given}, and the formula has {wanted}")
    try:
        formula(**bindings)
    except ExpressionError as error:
        raise DataError(key, str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Shown(Clause):
    """A clause that is shown by trials of a model, one of which may stand in the clause itself."""

    model: Layers = ()
    weights: Weights = ()
    rows: Annotated[tuple[Row, ...], Field(alias="trial")] = ()
    input: Cells | None = None
    output: Cells | None = None
    batch: StrictBool | None = None

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """The trials in full; none without a model. Raises ``DataError``: keys do not fit."""
        if not self.model:
            return ()
        rows = {f"trial[{i}].": row for i, row in enumerate(self.rows)}
        if rows:
            _refuse(self, "beside trial", "input", "output", "batch")
        else:
            _need(self, "input", "output")
            assert self.input is not None
            assert self.output is not None
            rows = {"": Row(input=self.input, output=self.output, batch=bool(self.batch))}
        return trials_of(self.model, self.weights, rows)


@dataclass(frozen=True, kw_only=True)
class Example(Shown):
    """A worked example: each trial's output is what its model computes."""

    kind: Literal["example"] = "example"

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit the model."""
        super().__post_init__()
        _need(self, "model", "trials")


@dataclass(frozen=True, kw_only=True)
class FormulaClause(Clause):
    """A formula, and what each of its names stands for."""

    formula: AFormula
    where: Mapping[str, Text] = field(default_factory=dict)
    kind: Literal["formula"] = "formula"

    def __post_init__(self) -> None:
        """Refuse names that are not explained, and others that are."""
        super().__post_init__()
        if self.where.keys() != self.formula.names:
            given, wanted = sorted(self.where), sorted(self.formula.names)
            raise DataError("where", f"explains {given}, and the formula has {wanted}")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A layer, made unchecked, that must be refused for inputs of a shape."""

    layer: UncheckedLayer
    shape: tuple[StrictInt, ...]


@dataclass(frozen=True, kw_only=True)
class Law(Clause):
    """A property that holds for every input, named by ``law``.

    It is stated for layer types, or families of them (``layers.FAMILIES``); ``refusals`` are the
    cases of a law that something is refused.
    """

    law: Annotated[str, AfterValidator(_law)]
    of: Annotated[
        tuple[Annotated[str, AfterValidator(_layer_types)], ...],
        Field(alias="layers", min_length=1),
    ]
    refusals: Annotated[tuple[Refusal, ...], Field(alias="refusal")] = ()
    kind: Literal["law"] = "law"

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

    formula: AFormula
    bindings: Bindings = field(default_factory=dict)
    value: Annotated[Fraction, PlainValidator(_finite)]
    model: Layers = ()
    counts: Counts | None = None
    shape: tuple[StrictInt, ...] = ()
    kind: Literal["count"] = "count"

    def __post_init__(self) -> None:
        """Refuse a formula without a value, and half a model."""
        super().__post_init__()
        if self.model:
            _need(self, "counts")
            if self.counts == "parameters":
                _refuse(self, "beside parameters", "shape")
            else:
                _need(self, "shape")
        else:
            _refuse(self, "without a model", "counts", "shape")
        _has_value(self.formula, "formula", self.bindings)


@dataclass(frozen=True, kw_only=True)
class Erratum(Shown):
    """A statement that is false or incomplete as written; ``holds`` says what is so instead.

    The counterexample is ``trials`` of what layers really compute, or a ``formula`` as written
    whose value for ``bindings`` is not ``value``, beside the one that holds, ``instead``.
    """

    holds: Text
    formula: AFormula | None = None
    instead: AFormula | None = None
    bindings: Bindings = field(default_factory=dict)
    value: AValue | None = None
    kind: Literal["erratum"] = "erratum"

    def __post_init__(self) -> None:
        """Refuse half a counterexample."""
        super().__post_init__()
        if self.model:
            _refuse(self, "beside a model", "formula", "instead", "bindings", "value")
            _need(self, "trials")
            return
        _refuse(self, "without a model", "weights", "rows", "input", "output", "batch")
        if self.formula is None:
            raise DataError("model", "is missing, and so is formula: no counterexample")
        _need(self, "instead", "value")
        assert self.instead is not None
        if self.formula.names != self.instead.names:
            raise DataError("instead", "has other names than the formula")
        _has_value(self.formula, "formula", self.bindings)
        _has_value(self.instead, "instead", self.bindings)


@dataclass(frozen=True)
class Order:
    """Figures and numbers, each below the next, as in ``noise: max pooling < 1``.

    A figure is named ``EXPERIMENT: WHAT``; ``terms`` are those names, and the numbers.
    """

    text: str
    terms: tuple[str | Fraction, ...]

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures."""
        return tuple(term for term in self.terms if isinstance(term, str))

    def holds(self, measured: Mapping[str, float | Fraction]) -> bool:
        """Whether the figures that were measured, and the numbers, stand in this order."""
        told = [measured.get(term) if isinstance(term, str) else term for term in self.terms]
        values = [value for value in told if value is not None]
        return all(low < high for low, high in itertools.pairwise(values))


def _term(text: str) -> str | Fraction:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return Fraction(text)
    if not re.fullmatch(r"[a-z]+: \S.*", text):
        raise ValueError(f"{text!r:.60} is no number, and no figure as EXPERIMENT: WHAT")
    return text


def _order(text: object) -> Order:
    if not isinstance(text, str):
        raise ValueError(f"needs a text, not {text!r:.60}")  # noqa: TRY004 - of the data
    terms = text.split(" < ")
    if len(terms) < 2:
        raise ValueError(f"{text!r:.60} is no order of two or more, parted by ' < '")
    order = Order(text, tuple(map(_term, terms)))
    if not order.figures:
        raise ValueError(f"there is no figure in {text!r:.60}")
    return order


@dataclass(frozen=True, kw_only=True)
class Claim(Clause):
    """A comparison that experiments settle, for it or against it.

    ``order`` is what they show of every correct implementation, ``holds`` whether the statement is
    so, and ``finds`` in words what is; ``reason``, if any, says what of it no run can confirm.
    """

    order: Annotated[tuple[Annotated[Order, PlainValidator(_order)], ...], Field(min_length=1)]
    holds: StrictBool
    finds: Text
    reason: str = ""
    kind: Literal["claim"] = "claim"

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures of its order, each once."""
        return tuple(dict.fromkeys(name for order in self.order for name in order.figures))


@dataclass(frozen=True, kw_only=True)
class Narrative(Clause):
    """A statement that no run of a layer can confirm or refute, with the reason."""

    reason: Text
    kind: Literal["narrative"] = "narrative"
