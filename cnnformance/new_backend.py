"""``cnnformance new-backend``: the first file of a backend, which runs as it is written."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from string import Template

_FIRST = Template('''\
"""$name, as the conformance suite asks it.

cnnformance try $file:$class_name
pytest --pyargs cnnformance.conformance --backend $file:$class_name --profile quick
"""

import numpy as np  # TODO: import the framework here, at the top

from cnnformance.adapters.backend import Unsupported
from cnnformance.adapters.calls import call
from cnnformance.adapters.table import BIAS, WEIGHT, Table
from cnnformance.spec.layers import Conv, Dense, Flatten, GlobalMaxPool, MaxPool, ReLU


class $class_name(Table):
    """TODO: NumPy answers below. Put the framework's own layers in its place."""

    layout = "channels_last"  # TODO: or "channels_first", (batch, channels, *spatial)
    kernel_layout = "hwio"  # TODO: the framework's: "oihw", "ohwi", ...
    dense_layout = "io"  # TODO: or "oi", (out, in)
    dtypes = ("float32", "float64")  # TODO: what its layers take; `cnnformance try` shows it
    imports = "import numpy as np"  # TODO: what the calls below need; a script begins with it
    printed = 'print("NumPy", np.__version__)'

    def version(self):
        return np.__version__  # TODO: the framework's

    def native(self, layer, x):
        match layer:
            case ReLU():
                return call("np.maximum", x, 0)
            case Flatten(start):
                return call("np.reshape", x, x.joined(start))
            case GlobalMaxPool(rank):
                return call("np.max", x, tuple(range(1, rank + 1)))
            case Dense():  # a layer that is made: call("nn.Linear", 4, 3)(x), and `hold`
                y = call("np.matmul", x, WEIGHT)
                return call("np.add", y, BIAS) if layer.bias else y
            case MaxPool() | Conv():
                # TODO: window, stride, padding (pairs, or "same", "same_lower"; adapters.padding
                # has them in other words), dilation. A kernel is not flipped.
                raise Unsupported(f"TODO: {type(layer).__name__}")
        raise Unsupported(f"there is no {type(layer).__name__}")

    # TODO, where tensors are not arrays: expressions
    # def tensor(self, name, array): return f"framework.tensor({name})"
    # def array(self, name, dtype): return f"{name}.numpy()"

    # TODO, each optional: lines of source, which are run, and shown as they ran
    # def hold(self, layer, like): put weights into `layer`, where it is made
    # def backward(self, layer, made, x, upstream, dtype): set gradients
    # def counted(self, layer, made): set count, to what the framework says
    # def stated(self, layer, made): set shape, to its static answer
    # def supports(self, layer, dtype): where dtypes differ by layer
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
    if not (output or file.exists()) and find_spec(file.stem):
        said = f"{file} would hide the module {file.stem} from what runs here"
        raise ValueError(f"new-backend {name}: {said}; name another file by --output")
    text = _FIRST.substitute(name=name, file=file, class_name=class_name)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError as error:
        raise FileExistsError(f"{file} exists, and is left as it is: name another") from error
    return file, class_name
