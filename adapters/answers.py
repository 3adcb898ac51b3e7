"""What a worker may answer to each request. Nothing else reaches the suite."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from cnnformance.adapters.backend import Array, DenseLayout, KernelLayout, Layout
from cnnformance.adapters.wire import Header, WireError

Field = Callable[[Any], bool]
"""Whether a value is what a field of an answer holds."""

_COUNT = re.compile(r"-?[0-9]{1,4000}")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _count(value: Any) -> bool:
    """An integer of any size: JSON's are not, everywhere."""
    return isinstance(value, str) and bool(_COUNT.fullmatch(value))


def _sizes(value: Any) -> bool:
    integers = isinstance(value, list) and all(type(size) is int for size in value)
    return integers and all(abs(size) < 2**63 for size in value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _layout(value: Any) -> bool:
    return value in get_args(Layout)


def _kernel_layout(value: Any) -> bool:
    return value in get_args(KernelLayout)


def _dense_layout(value: Any) -> bool:
    return value in get_args(DenseLayout)


_HELLO: Mapping[str, Field] = {
    "version": _text,
    "layout": _layout,
    "kernel_layout": _kernel_layout,
    "dense_layout": _dense_layout,
    "dtypes": _texts,
    "deterministic": _flag,
}
_TIMED: Mapping[str, Field] = {"seconds": _seconds}
"""Of each answer: the time within the framework."""
_FIELDS: Mapping[str, Mapping[str, Field]] = {
    "hello": _HELLO,
    "run": {**_TIMED, "composed": _text, "modified": _flag},
    "twice": {**_TIMED, "modified": _flag, "aliases_input": _flag, "aliases_output": _flag},
    "gradients": {**_TIMED, "names": _texts, "modified": _flag},
    "parameters": {**_TIMED, "count": _count},
    "supports": {**_TIMED, "supports": _flag},
    "output_shape": {**_TIMED, "shape": _sizes},
    "script": {**_TIMED, "script": _text},
    "seed": _TIMED,
}
_TOLD: Mapping[str, Field] = {"type": _text, "message": _text, "traceback": _text}
"""Of an exception."""
_STATUS: Mapping[str, Sequence[str]] = {"hello": ("ok", "failed")}
_ANSWERED = ("ok", "unsupported", "adapter", "exception")


def check(request: Header, answer: Header, results: Sequence[Array]) -> None:
    """Require of an answer, and of the hello with which a worker starts, all that will be used.

    Raises:
        WireError: a field is missing or holds what it may not, or the arrays are too many or too
            few; the message says which.
    """
    ask = request["ask"]
    status = answer.get("status")
    if status not in _STATUS.get(ask, _ANSWERED):
        raise WireError(f"its status is {_shown(status)}")
    for name, holds in (_FIELDS[ask] if status == "ok" else _TOLD).items():
        if name not in answer:
            raise WireError(f"it has no {name}")
        if not holds(answer[name]):
            raise WireError(f"its {name} is {_shown(answer[name])}")
    arrays = {"run": 1, "twice": 3}.get(ask, 0)
    if ask == "gradients" and status == "ok":
        names = ["input", *request["weights"][0]]
        if answer["names"] != names:
            raise WireError(f"its gradients are {_shown(answer['names'])}, and not {names}")
        arrays = len(names)
    if len(results) != (expected := arrays if status == "ok" else 0):
        raise WireError(f"it holds {len(results)} arrays, and not {expected}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."
