"""``cnnformance new-backend``: the first file of a backend, which runs as it is written."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template

_FIRST = Template('''\
"""$name, as the conformance suite asks it.

cnnformance try $file:$class_name
pytest --pyargs cnnformance.conformance --backend $file:$class_name --profile quick
"""

import math

import numpy as np  # TODO: import the framework here, at the top

from cnnformance.adapters.backend import Backend, Composed, Unsupported
from cnnformance.spec.layers import Conv, Dense, Flatten, GlobalMaxPool, MaxPool, ReLU


class $class_name(Backend):
    """TODO: NumPy answers below. Put the framework's own layers in its place."""

    layout = "channels_last"  # TODO: or "channels_first", (batch, channels, *spatial)
    dtypes = ("float32", "float64")  # TODO: what its layers take; `cnnformance try` shows it

    def version(self):
        return np.__version__  # TODO: the framework's

    def build(self, layer, weights):
        match layer:
            case ReLU():
                return lambda x: np.maximum(x, 0)
            case Flatten(start=1):
                return lambda x: x.reshape(len(x), math.prod(x.shape[1:]))
            case Dense():  # weight comes as (out, in), and there may be no bias
                bias = weights.get("bias", 0)
                return lambda x: x @ weights["weight"].T + bias
            case GlobalMaxPool(rank):
                axes = tuple(range(1, rank + 1))
                # several calls because no layer of the framework fits: Composed tells so
                return Composed(lambda x: np.max(x, axes), "a maximum over the spatial axes")
            case MaxPool() | Conv():
                # TODO: window, stride, padding (pairs, or "same", "same_lower"), dilation; of
                # Conv the weight comes as (*window, in // groups, out), and is not flipped
                raise Unsupported(f"TODO: {type(layer).__name__}")
        raise Unsupported(f"there is no {type(layer).__name__}")

    # TODO: where tensors are not arrays
    # def from_numpy(self, array): return framework.tensor(array)
    # def to_numpy(self, tensor): return tensor.numpy()

    # TODO, each optional: what the framework itself says, never the suite's own numbers
    # def supports(self, layer, dtype): where dtypes differ by layer
    # def parameters(self, layer): how many it counts, without allocating them
    # def output_shape(self, layer, shape): its static answer, in its layout, with the batch
    # def gradients(self, layer, weights, x, upstream): {"input": ..., "weight": ..., "bias": ...}
    # def script(self, layer, x): source that reads x and weights, and sets y
''')

_IMPORTED = set(re.findall(r"[A-Z]\w+", "\n".join(re.findall("(?m)^from .*", _FIRST.template))))


def write(name: str, output: str | None = None) -> tuple[Path, str]:
    """Write the file, by default ``NAME.py`` here, and return it and the name of its class.

    Raises:
        ValueError: no class can be named so, or the file is no ``.py``.
        FileExistsError: there is such a file; it is left as it is.
    """
    words = re.findall(r"[A-Za-z0-9]+", name)
    class_name = "".join(word[0].upper() + word[1:] for word in words)
    if not class_name.isidentifier() or keyword.iskeyword(class_name):
        raise ValueError(f"new-backend {name}: no class can be named so; begin with a letter")
    if class_name in _IMPORTED:
        raise ValueError(f"new-backend {name}: the file imports a {class_name}; name another")
    file = Path(output or f"{'_'.join(words).lower()}.py")
    if file.suffix != ".py":
        raise ValueError(f"--output {file}: a backend is a Python file, such as {file.stem}.py")
    if not f"{name}{file}".isprintable() or set(f"{name}{file}") & set('"\\'):
        raise ValueError(f"new-backend {name!r}, {str(file)!r}: no quotes, backslashes or controls")
    text = _FIRST.substitute(name=name, file=file, class_name=class_name)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError as error:
        raise FileExistsError(f"{file} exists, and is left as it is: name another") from error
    return file, class_name
