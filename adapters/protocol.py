"""What the suite and a command say to each other: the header of each message, as a type.

``docs/protocol.md`` tells it to those who write a command, and ``docs/protocol.json`` is the JSON
Schema that is made of these types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

from cnnformance.adapters.backend import DenseLayout, KernelLayout, Layout
from cnnformance.adapters.wire import Header, WireError

VERSION = 1
"""Of the protocol."""

Numbers = Literal[
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "bfloat16", "float32", "float64",
]  # fmt: skip
"""The dtypes of arrays."""


Call = Literal["forward", "gradients", "parameters", "output_shape"]
"""What a script shows."""


@dataclass(frozen=True)
class Form:
    """An array whose bytes follow the header: little-endian, the last axis fastest."""

    dtype: Numbers
    shape: tuple[int, ...]


CLOSED = {"extra": "forbid"}
"""How pydantic reads the types: it refuses fields that they do not have."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a command is asked. ``id`` is the number of the request."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = CLOSED

    id: int = 0
    arrays: tuple[Form, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Hello(Request):
    """The first request, and the only one without a layer but ``seed``: what are you?

    The mode and the device are those of the subject's name, ``./worker:MODE@DEVICE``; no mode is
    the empty text, and no device is ``cpu``.
    """

    ask: Literal["hello"] = "hello"
    protocol: int = VERSION
    mode: str
    device: str


@dataclass(frozen=True, kw_only=True)
class Run(Request):
    """Compute the layer. The arrays are its weights, which have these names, then ``x``."""

    ask: Literal["run"] = "run"
    layer: Mapping[str, Any]
    weights: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Gradients(Request):
    """Differentiate ``sum(layer(x) * upstream)``.

    The arrays are the weights of these names, then ``x``, then ``upstream``.
    """

    ask: Literal["gradients"] = "gradients"
    layer: Mapping[str, Any]
    weights: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Parameters(Request):
    """Tell how many learnable parameters the framework says that the layer holds."""

    ask: Literal["parameters"] = "parameters"
    layer: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class OutputShape(Request):
    """Tell the shape of the output for an input of this shape; nothing is computed."""

    ask: Literal["output_shape"] = "output_shape"
    layer: Mapping[str, Any]
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Script(Request):
    """Write Python source that does, in the framework's own calls, what ``call`` asks.

    The arrays are ``x``, and of ``gradients`` also ``upstream``; ``shape`` is that of a call of
    ``output_shape``, and else empty.
    """

    ask: Literal["script"] = "script"
    call: Call
    layer: Mapping[str, Any]
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Seed(Request):
    """Seed the framework's random numbers."""

    ask: Literal["seed"] = "seed"
    seed: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command answers. ``id`` is that of the request."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = CLOSED

    id: int
    arrays: tuple[Form, ...]


@dataclass(frozen=True, kw_only=True)
class Done(Answer):
    """What was asked is done; of a seed, that is all."""

    status: Literal["ok"]


@dataclass(frozen=True, kw_only=True)
class Described(Done):
    """What the command has: of each layer type that it takes, the dtypes."""

    protocol: Literal[1]
    version: str
    layers: Mapping[str, tuple[Numbers, ...]]
    layout: Layout = "channels_last"
    kernel_layout: KernelLayout = "hwio"
    dense_layout: DenseLayout = "oi"
    deterministic: bool = True


@dataclass(frozen=True, kw_only=True)
class Computed(Done):
    """The output, which is the one array. ``composed`` is a note on a layer of several calls."""

    composed: str = ""


@dataclass(frozen=True, kw_only=True)
class Differentiated(Done):
    """The gradients, which are the arrays: of the input, then of each weight in its order."""


@dataclass(frozen=True, kw_only=True)
class Counted(Done):
    """The number of parameters."""

    count: int


@dataclass(frozen=True, kw_only=True)
class Shaped(Done):
    """The shape of the output."""

    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Written(Done):
    """The source of a script."""

    script: str


@dataclass(frozen=True, kw_only=True)
class Declined(Answer):
    """The framework has no such layer, option, mode or device, or does not answer such requests."""

    status: Literal["unsupported"]
    message: str


@dataclass(frozen=True, kw_only=True)
class Raised(Answer):
    """The framework raised an exception: the name of its type, what it says, and where."""

    status: Literal["exception"]
    type: str
    message: str
    traceback: str = ""


ANSWERS: Mapping[str, type[Done]] = {
    "hello": Described,
    "run": Computed,
    "gradients": Differentiated,
    "parameters": Counted,
    "output_shape": Shaped,
    "script": Written,
    "seed": Done,
}
"""What answers each request, where neither ``Declined`` nor ``Raised`` does."""

AnyRequest = Hello | Run | Gradients | Parameters | OutputShape | Script | Seed
AnyAnswer = (
    Described | Computed | Differentiated | Counted | Shaped | Written | Done | Declined | Raised
)

A = TypeVar("A", bound=Answer)


def answer(request: AnyRequest, header: Header) -> AnyAnswer:
    """Return the answer to a request, of which a header is given with its arrays described.

    Raises:
        WireError: a field is missing, unknown or holds what it may not, or it is no answer to this
            request; the message says which.
    """
    kinds: Mapping[object, type[AnyAnswer]] = {
        "ok": ANSWERS[request.ask], "unsupported": Declined, "exception": Raised,
    }  # fmt: skip
    status = header.get("status")
    if not isinstance(status, str) or status not in kinds:
        raise WireError(f"its status is {status!r:.200}; known are {', '.join(map(str, kinds))}")
    found = _read(kinds[status], header)
    if found.id != request.id:
        raise WireError(f"its id is {found.id}, and that of the request {request.id}")
    expected = 0
    match request:
        case Run() if status == "ok":
            expected = 1
        case Gradients() if status == "ok":
            expected = 1 + len(request.weights)
    if len(found.arrays) != expected:
        raise WireError(f"it holds {len(found.arrays)} arrays, and not {expected}")
    return found


def _read(kind: type[A], header: Header) -> A:
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    if unknown := sorted(header.keys() - known):
        said = f"{', '.join(unknown)}, which is none of {', '.join(known)}"
        raise WireError(f"its header has {said}"[:400])
    for name, field in known.items():
        if name not in header:
            if field.default is MISSING:
                raise WireError(f"its header has no {name}")
        elif not _holds(header[name], hints[name]):
            raise WireError(f"its {name} is {header[name]!r:.200}, {_words(hints[name])}")
    return kind(**header)


def _holds(value: object, kind: Any) -> bool:
    """Whether a value of JSON is of a type."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in args)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_holds(each, args[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, dict) and all(_holds(each, args[1]) for each in value.values())
    if kind is Form:
        hints = get_type_hints(Form)
        if not isinstance(value, dict) or value.keys() != hints.keys():
            return False
        return all(_holds(value[name], hints[name]) for name in hints)
    return type(value) is kind


def _words(kind: Any) -> str:
    """Return what a field is to hold, in words."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"and not {' or '.join(map(repr, args))}"
    if origin is tuple:
        return "and no list of " + getattr(args[0], "__name__", "known names")
    if origin is Mapping:
        return "and no object with lists of known dtypes"
    return f"and no {kind.__name__}"
