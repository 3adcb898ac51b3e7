"""What one line of a record holds: a header, a verdict, a trait or a footer.

Field by field this is the published form: ``schema.json`` is generated from these types, with what
is said of them here (see ``schema``), and ``records`` reads and writes the lines.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    StrictBool,
    StrictFloat,
    StrictInt,
    WithJsonSchema,
)
from typing_extensions import TypedDict  # that of Python 3.12, which pydantic needs

from cnnformance.reports.reasons import Reason
from cnnformance.spec.levels import Level

SCHEMA: Final = 1
"""The version of the format, written into each header."""

VerdictName = Literal["crash", "hang", "fail", "error", "known", "not-run", "unsupported", "pass"]
Effect = Literal[
    "value", "shape", "dtype", "not-finite", "exception", "not-refused", "crash", "hang",
    "trait", "state", "count", "statistics", "law", "precision", "adapter",
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


def _as_number(value: object) -> object:
    return float(value) if value in ("nan", "inf", "-inf") else value


Number = Annotated[
    float,
    BeforeValidator(_as_number, json_schema_input_type=StrictFloat | Literal["nan", "inf", "-inf"]),
    Field(strict=True),
]
"""A number of JSON; NaN and the infinities are texts."""


def _data(value: object) -> object:
    if not isinstance(value, list | str | int | float):
        raise ValueError(f"needs lists, a text or a number, not {value!r:.60}")  # noqa: TRY004
    return value


Natural = Annotated[StrictInt, Field(ge=0)]
Shard = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}/[1-9][0-9]{0,4}$")]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class CaseLayer(TypedDict):
    """A layer, as ``spec.layers.to_json`` gives it; the keys beside its type are its fields."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc] # pydantic's own way
    type: str


class Case(TypedDict):
    """The recipe of an input. Further keys may follow."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc] # likewise
    layers: list[CaseLayer]
    shape: NotRequired[list[Natural]]
    dtype: NotRequired[str]
    regimes: NotRequired[list[str]]
    seed: NotRequired[StrictInt]
    memory: NotRequired[str]


Recipe = Annotated[
    Mapping[str, Any], GetPydanticSchema(lambda _, handler: handler.generate_schema(Case))
]
"""A mapping with the keys of a ``Case``."""


@dataclass(frozen=True)
class Divergence:
    """A recorded divergence: what a framework is known to do otherwise than the specification."""

    id: str
    kind: Class
    """``fault`` (the framework is wrong), ``documented`` (it does what its own documentation says)
    or ``open`` (a question that no authority settles)."""
    layers: tuple[str, ...]
    """The layer types that it is of."""
    effects: tuple[str, ...]
    """The effects of the failures that it explains."""
    when: str
    """A predicate over a failure."""
    modes: tuple[str, ...]
    """The modes that it is seen in; empty: all."""
    versions: str
    """Of the framework, as bounds such as ``>=2.13,<3``."""
    says: str
    """What it is, in one sentence."""
    link: str
    """Where it can be read about; empty: nowhere yet."""
    seen: str
    """The day on which it was first seen."""


@dataclass(frozen=True)
class Subject:
    """A subject of the run, and what is recorded of it."""

    subject: str
    """``NAME[==VERSION][:MODE][@DEVICE]``, or a class or function with mode and device."""
    version: str = ""
    """That of the framework, as installed; empty for other backends."""
    divergences: tuple[Divergence, ...] = ()
    """What is recorded of it; the verdicts name those that were seen again."""


@dataclass(frozen=True)
class Header:
    """The first line: what ran, and where."""

    record: Literal["header"] = dataclasses.field(default="header", kw_only=True)
    started: Time
    """When the run began."""
    cnnformance: str
    """The version of the suite."""
    python: str
    """The version of Python."""
    numpy: str
    """The version of NumPy."""
    platform: str
    """The machine, in words."""
    profile: str
    """How much was asked: quick, default or thorough."""
    seed: StrictInt
    """What all drawn inputs follow from."""
    planned: Natural
    """How many verdicts were to be recorded, over all subjects."""
    subjects: tuple[Subject, ...]
    schema: Literal[1] = SCHEMA
    """The version of this format."""
    shards: tuple[Shard, ...] = ()
    """The parts of the questions that were asked, as K/N; empty: all of them."""


@dataclass(frozen=True)
class Array:
    """An array: nested lists, or base64 of the zlib-compressed little-endian bytes in C order."""

    dtype: str
    shape: tuple[Natural, ...]
    data: Annotated[
        Any,
        BeforeValidator(_data),
        WithJsonSchema({"type": ["array", "string", "number", "boolean"]}),
    ]


@dataclass(frozen=True)
class Failure:
    """What went wrong, with the smallest case that shows it."""

    effect: Effect
    case: Recipe | None = None
    arrays: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    index: tuple[Natural, ...] | None = None
    """Where in the output."""
    expected: str = ""
    actual: str = ""
    bound: str | None = None
    """The largest error allowed there."""
    share: Number | None = None
    """The error as a multiple of the bound: above 1 it is broken."""
    alone: StrictBool | None = None
    """Whether it failed again in a fresh process."""
    detail: str = ""
    """A traceback, or the end of stderr."""
    script: str | None = None
    """Python that shows it in the framework's own calls."""
    message: str = ""
    """What is wrong; empty where the verdict's message says it."""
    reason: Reason | None = None
    """Why it was judged wrong, in a word of ``reasons.MEANINGS``; null where a record does not
    say."""
    call: str = ""
    """What was asked of the layers: forward, gradients, parameters or output_shape."""
    operand: str = ""
    """Whose gradient is wrong: input, weight or bias; else empty."""


@dataclass(frozen=True)
class Verdict:
    """The answer of one subject to one question."""

    record: Literal["verdict"] = dataclasses.field(default="verdict", kw_only=True)
    subject: str
    question: str
    """The test that asked, ``FILE::TEST[PARAMETERS]``."""
    layer: str
    """The layer type in question."""
    clauses: tuple[str, ...]
    """The ids of the clauses in question."""
    level: Level
    """On what authority the answer is judged."""
    dtype: str | None
    verdict: VerdictName
    examples: Natural = 0
    """How many inputs were tried."""
    planned: Natural = 0
    """How many inputs were to be tried, without those that the subject declined; 0 where it was not
    recorded."""
    seconds: Number = 0.0
    composed: str | None = None
    """What a layer was made of that the framework lacks."""
    grade: GradeName | None = None
    """The loosest precision that was shown."""
    share: Number | None = None
    """The largest share of the bound that was used."""
    sharpness: Number | None = None
    """The smallest allowed error, over the size of its answer; 0 for equality."""
    compiles: StrictBool = False
    """The subject compiles for each new shape, so that fewer inputs were planned."""
    message: str = ""
    known: tuple[str, ...] = ()
    """The ids of recorded divergences seen again."""
    failure: Failure | None = None
    others: tuple[Failure, ...] = ()
    """Failures of other causes."""


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
    """A choice that the text leaves open, or a figure of an experiment, as measured once."""

    record: Literal["trait"] = dataclasses.field(default="trait", kw_only=True)
    subject: str
    trait: str
    """The choice, such as ``max_pool.nan``."""
    value: str
    """What was chosen."""
    where: Mapping[str, Any]
    """The configuration that it was measured in."""
    shown: str = ""
    """What showed it."""
    experiment: str = ""
    """How it was measured, where it is a figure of an experiment and no choice; else empty."""


@dataclass(frozen=True)
class Footer:
    """The last line: the run came to its end."""

    record: Literal["footer"] = dataclasses.field(default="footer", kw_only=True)
    finished: Time
    seconds: Number
    recorded: Natural
    """How many verdicts were recorded."""


Record = Header | Verdict | Trait | Footer


def encode(record: Any) -> Any:
    """Return a record as strict JSON data: tuples as lists, NaN and infinities as strings."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: encode(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, Mapping):
        return {str(key): encode(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [encode(value) for value in record]
    if callable(tolist := getattr(record, "tolist", None)):  # a NumPy scalar or array
        return encode(tolist())
    if isinstance(record, float) and not math.isfinite(record):
        return str(record)
    return record
