"""Recorded divergences: where a framework is known to differ, as data beside its adapter.

The adapter's module with the suffix ``.toml`` holds them. One explains a failure when layer,
effect, predicate and version all fit; another failure of the same layer stays a failure.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter

from cnnformance.adapters import registry
from cnnformance.adapters.environments import Needs
from cnnformance.adapters.versions import VERSION, reported
from cnnformance.conformance import other_definitions
from cnnformance.conformance.divergence_predicates import holds
from cnnformance.reference import bounds
from cnnformance.reports import records, renamed
from cnnformance.reports.records import Divergence
from cnnformance.spec import layers as spec
from cnnformance.spec import reading
from cnnformance.spec.reading import DataError, Text

if TYPE_CHECKING:
    from cnnformance.adapters.subject import Subject
    from cnnformance.conformance.judge import Failure


def names_of(failure: Failure) -> dict[str, Any]:
    """Return what a predicate can speak of: fields, input, and what was expected and returned.

    Every field of every layer type has a name; None where the layer has no such field. Of the
    input: ``dtype``, ``shape``, ``spatial``, ``channels``, ``batch``, ``rank``, ``extent``,
    ``axes``, ``fits`` (a window fits into the padded input), ``overhangs``, ``spare`` (the word
    ``same`` would need less than no padding, so that windows leave out cells), ``memory``,
    ``has_nan``, ``all_nan``, ``has_inf``, ``has_negative``, ``lowest``, ``largest``, ``tiny``. Of
    the failure: ``reason`` (a word of ``reports.reasons``), ``call`` (``forward``, ``gradients``,
    ``parameters``, ``output_shape``), ``operand`` (whose gradient: ``input``, ``weight``,
    ``bias``), ``expected`` and ``actual`` as numbers, ``ratio`` (the actual over the expected),
    ``raised`` (what the framework itself said, as it refused), and whether it agrees with another
    definition: ``as_power_mean``, ``as_whole_mean``, ``as_float32`` (see ``other_definitions``).
    """
    fields = {f.name for kind in spec.TYPES.values() for f in dataclasses.fields(kind)}
    layer = failure.layers[0] if failure.layers else failure.case.layer if failure.case else None
    names: dict[str, Any] = {name: getattr(layer, name, None) for name in fields}
    x = failure.arrays.get("x")
    shape = x.shape if x is not None else failure.case.shape if failure.case else ()
    dtype = x.dtype.name if x is not None else failure.case.dtype if failure.case else ""
    values = x.astype(np.float64) if x is not None else np.zeros(0)
    floating = dtype.startswith(("float", "bfloat"))
    names |= {
        "dtype": dtype,
        "shape": shape,
        "spatial": shape[1:-1],
        "channels": shape[-1] if shape else 0,
        "batch": shape[0] if shape else 0,
        "rank": len(shape) - 2,
        "extent": getattr(layer, "extent", None),
        "fits": _fits(layer, shape),
        "overhangs": _overhangs(layer, shape),
        "spare": _spare(layer, shape),
        "axes": len(shape),
        "memory": failure.case.memory if failure.case else "contiguous",
        "has_nan": bool(np.isnan(values).any()),
        "all_nan": bool(values.size and np.isnan(values).all()),
        "has_inf": bool(np.isinf(values).any()),
        "has_negative": bool((values < 0).any()),
        "lowest": -bounds.format_of(dtype).largest if floating else None,
        "largest": bounds.format_of(dtype).largest if floating else None,
        "tiny": bounds.format_of(dtype).tiny if floating else None,
        "inf": math.inf,
        "call": failure.call,
        "expected": _number(failure.expected),
        "actual": _number(failure.actual),
        "ratio": _ratio(failure),
        "reason": failure.reason,
        "operand": failure.operand,
        "raised": failure.message if failure.reason == "raised" else "",
        "as_power_mean": False,
        "as_whole_mean": False,
        "as_float32": False,
    }
    return names | other_definitions.agreeing(failure)


def _fits(layer: spec.Layer | None, shape: spec.Shape) -> bool:
    """Whether a window of the layer fits into the padded input, on every axis."""
    if not isinstance(layer, spec.Windowed) or len(shape) != layer.rank + 2:
        return True
    if isinstance(layer.padding, str):
        return True
    triples = zip(shape[1:-1], layer.padding, layer.extent, strict=True)
    return all(size + sum(pads) >= extent for size, pads, extent in triples)


def _spare(layer: spec.Layer | None, shape: spec.Shape) -> bool:
    """Whether the windows of the word ``same`` end before the input does, on some axis."""
    if not isinstance(layer, spec.Windowed) or len(shape) != layer.rank + 2:
        return False
    if not isinstance(layer.padding, str):
        return False
    triples = zip(shape[1:-1], layer.stride, layer.extent, strict=True)
    return any((-(-size // step) - 1) * step + extent < size for size, step, extent in triples)


def _overhangs(layer: spec.Layer | None, shape: spec.Shape) -> bool:
    """Whether the last window of a ceil mode reaches beyond the padding, on some axis."""
    if not isinstance(layer, spec.Pool) or not layer.ceil_mode or isinstance(layer.padding, str):
        return False
    if len(shape) != layer.rank + 2:
        return False
    axes = zip(shape[1:-1], layer.padding, layer.extent, layer.stride, strict=True)
    return any((size + sum(pads) - extent) % stride for size, pads, extent, stride in axes)


def _ratio(failure: Failure) -> float | None:
    expected, actual = _number(failure.expected), _number(failure.actual)
    return actual / expected if expected and actual is not None else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def in_range(version: str, ranges: str) -> bool:
    """Whether a version fits bounds such as ``>=2.13,<3``, as PEP 440 compares them.

    A release candidate comes before its release. An empty text fits all, and a version that
    PEP 440 does not know fits nothing else.

    Raises:
        ValueError: the text holds no bounds.
    """
    try:
        accepted = SpecifierSet(ranges)
    except InvalidSpecifier as error:
        raise ValueError(f"{ranges!r} holds no bounds such as '>=2.13,<3'") from error
    try:
        own = version_of(version)
    except InvalidVersion:
        return not accepted
    return accepted.contains(own, prereleases=True)


def version_of(text: str) -> Version:
    """Return the version that an adapter's own text on it begins with.

    Raises:
        InvalidVersion: PEP 440 does not know it.
    """
    return Version(reported(text))


@dataclass(frozen=True)
class Divergences:
    """The divergences recorded for one subject."""

    divergences: tuple[Divergence, ...] = ()

    def applying(self, version: str, mode: str) -> Iterator[Divergence]:
        """Yield the divergences recorded for a version and a mode (empty: the default)."""
        for divergence in self.divergences:
            if divergence.modes and (mode or "default") not in divergence.modes:
                continue
            if in_range(version, divergence.versions):
                yield divergence

    def foretold(self, seen: Collection[str], crash: Failure) -> bool:
        """Whether one of the divergences seen says that the case of ``crash`` ends the process."""
        layer = crash.case.layer if crash.case else None
        return any(
            divergence.id in seen
            and divergence.effects == ("crash",)
            and type(layer).__name__ in divergence.layers
            and holds(divergence.when, names_of(crash))
            for divergence in self.divergences
        )

    def match(self, subject: Subject, failure: Failure) -> str:
        """Return the id of the divergence that explains a failure, or an empty string."""
        return self.explaining(failure, subject.info.version, subject.target.mode)

    def explaining(self, failure: Failure, version: str, mode: str) -> str:
        """Return the id of the one that explains a failure of a version in a mode, if one does."""
        layer = type(failure.layers[0]).__name__ if failure.layers else ""
        # a value that a shorter format would explain may have another cause
        effects = {failure.effect, "value" if failure.effect == "precision" else failure.effect}
        for divergence in self.applying(version, mode):
            if layer not in divergence.layers or not effects & set(divergence.effects):
                continue
            if holds(divergence.when, names_of(failure)):
                return divergence.id
        return ""


def _layer_type(name: str) -> str:
    if name not in spec.TYPES:
        raise ValueError(f"{name!r:.60} is none of {', '.join(spec.TYPES)}")
    return name


def _predicate(text: str) -> str:
    from cnnformance.conformance.judge import Failure  # noqa: PLC0415 - judge's cases import us not

    holds(text, names_of(Failure("value", "")))
    return text


def _bounds(text: str) -> str:
    in_range("1.0", text)
    return text


def _version(text: str) -> str:
    if not VERSION.fullmatch(text):
        raise ValueError(f"needs a version such as '1.20', not {text!r:.60}")
    return text


def _requirement(text: str) -> str:
    try:
        Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"needs a requirement such as 'numpy<2', not {text!r:.60}") from error
    return text


def _day(value: object) -> str:
    if type(value) is not dt.date:
        raise ValueError(f"needs a date such as 2026-01-31, not {value!r:.60}")
    return str(value)


def _address(link: str) -> str:
    if link and not link.startswith(("https://", "http://")):
        raise ValueError(f"needs an address such as https://..., not {link!r:.60}")
    return link


@dataclass(frozen=True, kw_only=True)
class Entry(Divergence):
    """A divergence as it stands in a file: what it names exists, and what it says has a meaning."""

    __pydantic_config__: ClassVar[ConfigDict] = reading.CLOSED
    id: Text
    kind: Annotated[records.Class, Field(alias="class")]
    layers: Annotated[tuple[Annotated[str, AfterValidator(_layer_type)], ...], Field(min_length=1)]
    effects: Annotated[
        tuple[Annotated[records.Effect, BeforeValidator(renamed.today)], ...], Field(min_length=1)
    ]
    when: Annotated[str, AfterValidator(_predicate)]
    modes: tuple[str, ...] = ()
    versions: Annotated[str, AfterValidator(_bounds)]
    says: Text
    link: Annotated[str, AfterValidator(_address)] = ""
    seen: Annotated[str, BeforeValidator(_day)]


@dataclass(frozen=True)
class _Needs(Needs):
    """What an environment holds, with a meaning for those that make it."""

    __pydantic_config__: ClassVar[ConfigDict] = reading.CLOSED
    since: Annotated[str, AfterValidator(_version)]
    package: Annotated[str, AfterValidator(_requirement)] = ""
    needs: tuple[Annotated[str, AfterValidator(_requirement)], ...] = ()


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file of entries; each is read by itself, so that its id tells where."""

    __pydantic_config__: ClassVar[ConfigDict] = reading.CLOSED
    known: tuple[dict[str, Any], ...] = ()
    environment: tuple[_Needs, ...] = ()


_FILE: TypeAdapter[_File] = reading.adapter(_File)
_ENTRY: TypeAdapter[Entry] = reading.adapter(Entry)


def parse(text: str, file: str) -> tuple[Divergence, ...]:
    """Return the divergences of a TOML text.

    Raises:
        DataError: the text is no TOML, or an entry has unknown, missing or malformed keys.
    """
    tables = reading.typed(_FILE, reading.toml(text, file), file=file, limits=None).known
    entries: dict[str, Entry] = {}
    for number, table in enumerate(tables):
        key = reading.key_of(table, f"known[{number}]")
        entry = reading.typed(_ENTRY, table, key=key, file=file)
        if entry.id in entries:
            raise DataError(key, "there are two entries of this id", file)
        entries[entry.id] = entry
    return tuple(entries.values())


@cache
def load_divergences(subject: str) -> Divergences:
    """Return the divergences recorded beside a subject's adapter; none where there is no file.

    Raises:
        DataError: the file is malformed.
        SubjectError: the subject's name means nothing.
    """
    file = registry.divergences(registry.parse(subject, asked=False))
    if file is None:
        return Divergences()
    return Divergences(parse(reading.text(file, file.name), file.name))
