"""Scripts that show a failure in the framework's own calls."""

from __future__ import annotations

import base64
import re
import zlib

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.subject import Subject
from cnnformance.conformance.judge import Failure
from cnnformance.spec import layers as spec

_LITERAL = 200
"""The most elements that are written out as a list."""


def _dtype(array: Array) -> str:
    return "ml_dtypes.bfloat16" if array.dtype.name == "bfloat16" else f"np.{array.dtype.name}"


def literal(array: Array) -> str:
    """Return an expression that evaluates to the array bit for bit (NaN payloads apart).

    It needs ``np``, and for large arrays ``base64`` and ``zlib``.
    """
    if not _packed(array):
        exact = array if array.dtype.kind in "iu" else array.astype(np.float64)
        text = repr(exact.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
        return f"np.array({text}, dtype={_dtype(array)}).reshape({array.shape})"
    packed = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
    data = f'zlib.decompress(base64.b64decode("{packed}"))'
    return f"np.frombuffer({data}, dtype={_dtype(array)}).reshape({array.shape})"


def _packed(array: Array) -> bool:
    """Whether an array is written as bytes: it is large, or holds a NaN whose sign is set."""
    return array.size > _LITERAL or bool((np.isnan(array) & np.signbit(array)).any())


def _imports(values: list[Array]) -> list[str]:
    lines = ["import base64", "import zlib", ""] if any(map(_packed, values)) else []
    lines += ["import ml_dtypes"] if any(a.dtype.name == "bfloat16" for a in values) else []
    return [*lines, "import numpy as np", ""]


def script(subject: Subject, failure: Failure) -> str | None:
    """Return a self-contained Python script that shows a failure, or None without an input.

    It uses the framework's own calls where the adapter gives them, and otherwise the adapter.
    """
    if "x" not in failure.arrays or len(failure.layers) != 1:
        return None
    x = failure.arrays["x"]
    image = isinstance(failure.layers[0], spec.Windowed | spec.Global | spec.Adaptive)
    native = image and subject.info.layout == "channels_first" and x.ndim >= 3
    if native:
        x = np.moveaxis(x, -1, 1)
    weights = {name: a for name, a in failure.arrays.items() if name in ("weight", "bias")}
    head = f"# {subject.name} {subject.info.version}: {'; '.join(map(str, failure.layers))}"
    future, rest = _script(subject, failure.layers[0])
    lines = [head, *future, *_imports([x, *weights.values()]), f"x = {literal(x)}"]
    if native:
        lines += ["# the axes are (batch, channels, *spatial)"]
    entries = ", ".join(f"{name!r}: {literal(a)}" for name, a in weights.items())
    lines += [f"weights = {{{entries}}}", ""]
    lines += rest
    lines += ["", "print(y)", f"# {_one_line(failure.message)}"]
    return "\n".join(lines) + "\n"


def _one_line(message: str) -> str:
    """Return a framework's message without line breaks and terminal colours."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message)
    return " ".join(plain.split())


def _script(subject: Subject, layer: spec.Layer) -> tuple[list[str], list[str]]:
    """Return the adapter's script: the imports that must stand first, and the rest."""
    try:
        lines = subject.script([layer])[0].rstrip().splitlines()
    except Unsupported:
        lines = _through_adapter(subject, layer)
    future = [line for line in lines if line.startswith("from __future__")]
    return future, [line for line in lines if line not in future]


def _through_adapter(subject: Subject, layer: spec.Layer) -> list[str]:
    target = subject.target
    return [
        "from cnnformance.adapters.worker import find",
        "from cnnformance.spec.layers import *",
        "",
        f"backend = find({target.path!r})(mode={target.mode!r}, device={target.device!r})",
        f"layer = {layer!r}",
        "y = backend.to_numpy(backend.build(layer, weights)(backend.from_numpy(x)))",
    ]
