"""Scripts that show a failure in the framework's own calls."""

from __future__ import annotations

import ast
import base64
import zlib

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.subject import AdapterBroke, Crashed, Refused, Stopped, Subject
from cnnformance.conformance.judge import Failure
from cnnformance.spec import layers as spec
from cnnformance.spec.printable import printable

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
    layers = failure.layers
    head = f"# {subject.name} {subject.info.version}: {'; '.join(map(str, layers))}"
    tail = f"# {_one_line(failure.message)}"
    if failure.call in ("parameters", "output_shape"):
        asked = _static(subject, failure)
        return "\n".join([head, *asked, tail]) + "\n" if asked else None
    if "x" not in failure.arrays or len(layers) != 1:
        return None
    image = spec.takes_images(layers)
    native = image and subject.info.layout == "channels_first"

    def placed(array: Array) -> Array:
        return np.moveaxis(array, -1, 1) if native and array.ndim >= 3 else array

    gradients = failure.call == "gradients"
    inputs = {n: placed(failure.arrays[n]) for n in ("x", "upstream")[: 1 + gradients]}
    weights = {name: a for name, a in failure.arrays.items() if name in ("weight", "bias")}
    future, rest = _script(subject, layers[0], gradients=gradients)
    lines = [head, *future, *_imports([*inputs.values(), *weights.values()])]
    lines += [f"{name} = {literal(array)}" for name, array in inputs.items()]
    if native and inputs["x"].ndim >= 3:
        lines += ["# the axes are (batch, channels, *spatial)"]
    entries = ", ".join(f"{name!r}: {literal(a)}" for name, a in weights.items())
    lines += [f"weights = {{{entries}}}", "", *rest]
    lines += ["", f"print({'gradients' if gradients else 'y'})", tail]
    return "\n".join(lines) + "\n"


def _one_line(message: str) -> str:
    """Return a framework's message as a comment can hold it: one line, and printable."""
    return " ".join(printable(message).split())


def _script(subject: Subject, layer: spec.Layer, *, gradients: bool) -> tuple[list[str], list[str]]:
    """Return the adapter's script: the imports that must stand first, and the rest."""
    try:
        source = subject.script(layer, gradients=gradients)
        ast.parse(source)
    except Unsupported:
        lines = _through_adapter(subject, layer, gradients=gradients)
    except (Refused, Crashed, AdapterBroke, Stopped) as error:
        said = f"# through the adapter: its own script was not had ({_one_line(str(error))})"
        lines = [said, *_through_adapter(subject, layer, gradients=gradients)]
    except SyntaxError as error:
        said = f"# through the adapter: its own script is no Python (line {error.lineno})"
        lines = [said, *_through_adapter(subject, layer, gradients=gradients)]
    else:
        lines = source.rstrip().splitlines()
    future = [line for line in lines if line.startswith("from __future__")]
    return future, [line for line in lines if line not in future]


def _backend(subject: Subject) -> list[str]:
    target = subject.target
    return [
        "from cnnformance.adapters.worker import find",
        "from cnnformance.spec.layers import *",
        "",
        f"backend = find({target.path!r})(mode={target.mode!r}, device={target.device!r})",
    ]


def _through_adapter(subject: Subject, layer: spec.Layer, *, gradients: bool) -> list[str]:
    call = (
        "gradients = backend.gradients(layer, weights, x, upstream)"
        if gradients
        else "y = backend.to_numpy(backend.build(layer, weights)(backend.from_numpy(x)))"
    )
    return [*_backend(subject), f"layer = {layer!r}", call]


def _static(subject: Subject, failure: Failure) -> list[str]:
    """Return the adapter's call that counts parameters, or that states a shape, if it is known."""
    lines = [*_backend(subject), f"layers = {list(failure.layers)!r}"]
    if failure.call == "parameters":
        return [*lines, "print(sum(backend.parameters(layer) for layer in layers))"]
    if "shape" not in failure.arrays:
        return []
    batch, *sizes = failure.arrays["shape"].tolist()
    image = spec.takes_images(failure.layers)
    if image and subject.info.layout == "channels_first" and len(sizes) > 1:
        sizes = [sizes[-1], *sizes[:-1]]
    return [
        *lines,
        f"shape = {(batch, *sizes)}",
        "for layer in layers:",
        "    shape = backend.output_shape(layer, shape)",
        "print(shape)",
    ]
