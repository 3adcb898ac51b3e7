"""Scripts that show a failure in the framework's own calls.

A script makes the arrays, calls the framework, prints the answer, and asserts what must hold: it
ends with status 1 where the fault shows, and with 0 where it is mended.
"""

from __future__ import annotations

import ast
import dataclasses
import math
from collections.abc import Callable, Sequence
from textwrap import indent

import numpy as np

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.exceptions import AdapterBroke, Crashed, Refused, Stopped
from cnnformance.adapters.registry import Target
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import judge
from cnnformance.conformance.judge import Failure, Index, Other
from cnnformance.conformance.literals import LISTED, RECIPES, TooLarge, laid_out, written
from cnnformance.conformance.native_weights import in_weight, in_weights, weights
from cnnformance.reports.tables import called
from cnnformance.spec import layers as spec
from cnnformance.spec.printable import printable

_NO_ANSWER = (Refused, Crashed, AdapterBroke, Stopped)
_HEAD = ("import ", "from ", "print(", "os.environ[", "jax.config.", "torch.set_num_threads")
"""How the lines begin that stand once in a script, and above what may raise."""
_JUDGED = ("beyond-bound", "not-equal", "not-finite", "long-half-sums", "raised")
"""The reasons for which a simpler input is looked for."""
_LONGEST = 300
"""Characters of the message that a script tells."""


def script(subject: Subject, failure: Failure) -> str | None:
    """Return a self-contained Python script that shows a failure.

    It uses the framework's own calls where the adapter gives them, and otherwise the adapter. None
    where there is no input, or one that has no short source.
    """
    failure = _simpler(subject, failure)
    names = " then ".join(called(spec.to_json(layer)) for layer in failure.layers)
    message = failure.message
    if failure.index is not None:  # as the printed array has it
        place = in_weight(subject, failure.operand, failure.layers, failure.index)
        place = _native(place, first=_first_in_result(subject, failure))
        message = message.replace(f"at {failure.index}", f"at {place}")
        failure = in_weights(subject, failure)
    head = [f"# {subject.name} {subject.info.version}: {names}", f"# {_told(message)}"]
    own = Other(failure.layers, failure.arrays, failure.call, failure.index)
    try:
        lines = _body(subject, failure, own)
    except TooLarge:
        return None
    return "\n".join([*head, *lines]) + "\n" if lines else None


def _told(message: str) -> str:
    """Return a framework's message as a comment can hold it: one line, and printable."""
    line = " ".join(printable(message).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


def _body(subject: Subject, failure: Failure, own: Other) -> list[str]:
    """Return the lines below the head; none without an input."""
    memories = _memories(failure)
    calls = []
    if failure.other and failure.claim:
        other = failure.other
        asked = other.subject or subject
        calls += _call(asked, other, ("contiguous", "contiguous"))
        calls += [f"other, other_x = {_result(other, failure.operand)}, x", ""]
    calls += _call(subject, own, memories)
    if not calls:
        return []
    arrays = [a for each in (own, failure.other) if each for a in each.arrays.values()]
    if any(array.dtype.name == "bfloat16" for array in arrays):
        calls = ["import ml_dtypes", *calls]
    calls = _once(["import numpy as np", *calls])
    if failure.effect == "not-refused":
        return _to_be_refused(calls)
    shown = _result(own, failure.operand)
    both = f"other, {shown}, sep='\\n'" if failure.other and failure.claim else shown
    return [*calls, f"print({both})", *_claimed(failure, shown, subject)]


def _memories(failure: Failure) -> tuple[str, str]:
    """Return how the input and the weights lay in memory."""
    if failure.memory:
        return failure.memory
    memory = failure.case.memory if failure.case else "contiguous"
    return memory, memory if failure.call == "gradients" else "contiguous"


def _once(lines: Sequence[str]) -> list[str]:
    """Return the lines, those of the head first and once, and no two empty ones in a row."""
    head = list(dict.fromkeys(line for line in lines if line.startswith(_HEAD)))
    head.sort(key=lambda line: not line.startswith("from __future__"))
    rest = [""]
    for line in lines:
        if not line.startswith(_HEAD) and (line or rest[-1]):
            rest.append(line)
    return [*head, *rest]


def _result(call: Other, operand: str) -> str:
    names = {"parameters": "count", "output_shape": "shape", "forward": "y"}
    shown = f"gradients[{operand!r}]" if operand else "gradients"
    return names.get(call.call, shown)


def _to_be_refused(lines: list[str]) -> list[str]:
    """Return the lines of a call that should raise, and does not."""
    head = [line for line in lines if line.startswith(_HEAD)]
    calls = indent("\n".join(line for line in lines[len(head) :] if line), "    ")
    refused = ["except Exception as refusal:", '    print("refused:", refusal)', "else:"]
    return [*head, "", "try:", calls, *refused, '    raise AssertionError("taken")']


def _first(subject: Subject, layers: Sequence[spec.Layer]) -> bool:
    """Whether the channels of the input come first."""
    return spec.takes_images(layers) and subject.info.layout == "channels_first"


def _first_in_result(subject: Subject, failure: Failure) -> bool:
    """Whether the channels come first in what the call of a failure returns."""
    if failure.call in ("forward", "output_shape") and any(
        isinstance(layer, spec.Flatten | spec.Dense) for layer in failure.layers
    ):
        return False
    return _first(subject, failure.layers) and failure.operand in ("", "input")


def _native(index: Index, *, first: bool) -> Index:
    """Return an index, or a shape, in the subject's layout."""
    return (index[0], index[-1], *index[1:-1]) if first and len(index) >= 3 else index


def _call(subject: Subject, call: Other, memories: tuple[str, str]) -> list[str]:
    """Return the lines that make the arrays and the calls; none without an input."""
    layers, first = call.layers, _first(subject, call.layers)
    if call.call == "parameters":
        return _parameters(subject, layers)
    if call.call == "output_shape":
        shape = tuple(int(n) for n in call.arrays["shape"]) if "shape" in call.arrays else ()
        shape = _native(shape, first=first)
        return [f"shape = {shape}", *_stated(subject, layers, shape)] if shape else []
    if "x" not in call.arrays or not layers:
        return []
    memory, weight_memory = memories
    names = ("x", "upstream") if call.call == "gradients" else ("x",)
    lines, placed = [], []
    for name in names:
        array = call.arrays[name]
        moved = first and array.ndim >= 3
        native = np.moveaxis(array, -1, 1) if moved else array
        placed.append(native)
        if (
            moved
            and np.ascontiguousarray(native).strides != np.empty_like(native, order="C").strides
        ):
            lines += [*written(name, array), f"{name} = np.moveaxis({name}, -1, 1)"]
        else:
            lines += written(name, native)
        if moved and name == "x":
            lines[-1] += "  # (batch, channels, *spatial)"
        lines += laid_out(name, native, memory)
    for number, layer in enumerate(layers):
        suffix = f"_{number}" if len(layers) > 1 else ""
        lines += weights(subject, layer, call.arrays, suffix, weight_memory)
        lines += _source(subject, layer, placed, call.call, memory)
        if number < len(layers) - 1:
            lines.append("x = y")
            placed = [_after(layer, placed[0])]
    return lines


def _adapter_of(target: Target) -> str:
    """Return the line that makes an adapter; its module is imported with the mode known."""
    names = ", ".join(map(repr, filter(None, (target.path, target.mode))))
    return f"backend = find({names})(mode={target.mode!r}, device={target.device!r})"


def _after(layer: spec.Layer, x: Array) -> Array:
    """Return an array like the output of a layer: its dtype, and its number of axes."""
    axes = layer.start + 1 if isinstance(layer, spec.Flatten) else x.ndim
    axes = 2 if isinstance(layer, spec.Global) else axes
    return np.empty((1,) * axes, x.dtype)


def _source(
    subject: Subject, layer: spec.Layer, arrays: Sequence[Array], call: str, memory: str
) -> list[str]:
    """Return the adapter's script; through the adapter where it has none."""
    target = subject.target
    weights = "weights" if layer.has_weights else "{}"
    through = [
        "from cnnformance.adapters.importing import find",
        "from cnnformance.spec.layers import *",
        _adapter_of(target),
        f"layer = {layer!r}",
        f"gradients = backend.gradients(layer, {weights}, x, upstream)"
        if call == "gradients"
        else f"y = backend.to_numpy(backend.build(layer, {weights})(backend.from_numpy(x)))",
    ]
    try:
        source = subject.script(layer, arrays, call, memory)
        ast.parse(source)
    except Unsupported:
        return through
    except _NO_ANSWER as error:
        said = f"# through the adapter: its own script was not had ({_told(str(error))})"
        return [said, *through]
    except SyntaxError as error:
        said = f"# through the adapter: its own script is no Python (line {error.lineno})"
        return [said, *through]
    lines = source.rstrip().splitlines()
    if not layer.has_weights and "weights" in source:
        lines = ["weights = {}", *lines]
    return lines


def _asked(
    subject: Subject, layers: Sequence[spec.Layer], call: str, shape: spec.Shape
) -> list[str]:
    """Return the adapter's script of a count or a static shape; none where it has none."""
    if len(layers) != 1:
        return []
    try:
        return subject.script(layers[0], (), call, "contiguous", shape).rstrip().splitlines()
    except (Unsupported, *_NO_ANSWER):
        return []


def _backend(subject: Subject, layers: Sequence[spec.Layer]) -> list[str]:
    target = subject.target
    return [
        "from cnnformance.adapters.importing import find",
        "from cnnformance.spec.layers import *",
        _adapter_of(target),
        f"layers = {list(layers)!r}",
    ]


def _parameters(subject: Subject, layers: Sequence[spec.Layer]) -> list[str]:
    """Return the lines that have the framework count parameters."""
    through = "count = sum(backend.parameters(layer) for layer in layers)"
    return _asked(subject, layers, "parameters", ()) or [*_backend(subject, layers), through]


def _stated(subject: Subject, layers: Sequence[spec.Layer], shape: spec.Shape) -> list[str]:
    """Return the lines that have the framework state a shape."""
    through = ["for layer in layers:", "    shape = backend.output_shape(layer, shape)"]
    own = _asked(subject, layers, "output_shape", shape)
    return own or [*_backend(subject, layers), *through]


def _claimed(failure: Failure, shown: str, subject: Subject) -> list[str]:
    """Return what must hold, as an assertion; a comment where nothing can be asserted."""
    first = _first_in_result(subject, failure)
    match failure.effect:
        case "crash":
            return ["# the process ends before this line"]
        case "hang":
            return ["# this line is not reached within the time limit"]
        case "exception":
            return ["# a call above raises, and should not"]
    claim = _claim(failure, shown, first)
    if not claim:
        return [f"# should be: {_told(failure.expected)}"] if failure.expected else []
    told = {"y": "y.shape", "shape": "shape", "count": "count"}.get(shown, "")
    told = told if failure.index is None else _value(shown, failure.index, first)
    return [f"assert {claim}, {told}" if told else f"assert {claim}"]


def _value(result: str, index: Index | None, first: bool) -> str:
    """Return the expression of the element at an index, in the layout of the result."""
    if index is None:
        return result
    return f"{result}[{', '.join(map(str, _native(index, first=first)))}]"


def _claim(failure: Failure, shown: str, first: bool) -> str:
    """Return the expression that holds where the fault is mended; empty: none is known."""
    if failure.claim:
        index, other = failure.index, failure.other
        place = (f"{index[0]}, {'' if first else '..., '}{index[-1]}") if index else "..."
        return failure.claim.format(
            result=shown,
            value=_value(shown, index, first) if index else shown,
            map=f"{shown}[{place}]",
            x="x",
            other="other",
            other_x="other_x",
            other_value=_value("other", other.index, first) if other and other.index else "other",
        )
    match failure.effect:
        case "count":
            return f"count == {failure.expected}"
        case "shape":
            return _of_shape(failure, shown, first)
        case "dtype" if failure.call == "forward":
            return f"y.dtype.name == {failure.expected!r}"
    if failure.index is None or failure.call not in ("forward", "gradients"):
        return ""
    return _near(_value(shown, failure.index, first), failure.expected, failure.bound)


def _of_shape(failure: Failure, shown: str, first: bool) -> str:
    try:
        shape = tuple(ast.literal_eval(failure.expected))
    except (ValueError, SyntaxError, TypeError):
        return ""
    if failure.call == "gradients":
        return "all(gradients[n].shape == a.shape for n, a in {'input': x, **weights}.items())"
    shape = _native(shape, first=first)
    return f"shape == {shape}" if failure.call == "output_shape" else f"{shown}.shape == {shape}"


def _near(value: str, expected: str, bound: str) -> str:
    """Return that a value is the expected one, within a bound where there is one."""
    try:
        number = ast.literal_eval(expected) if expected.lstrip("-").isdigit() else float(expected)
    except ValueError:
        return ""
    if isinstance(number, int):
        return f"{value} == {number}"
    if math.isnan(number):
        return f"np.isnan({value})"
    if math.isinf(number):
        return f"{value} == {'-' * (number < 0)}np.inf"
    if bound and float(bound):
        return f"abs(float({value}) - {number!r}) <= {bound}"
    return f"float({value}) == {number!r}"


def _simpler(subject: Subject, failure: Failure) -> Failure:
    """Return a failure of the same effect on large arrays that a line makes, if there is one."""
    large = any(array.size > LISTED for array in failure.arrays.values())
    judged = failure.reason in _JUDGED and not failure.claim
    if not large or not judged or len(failure.layers) != 1 or "x" not in failure.arrays:
        return failure
    first = _first(subject, failure.layers)
    for make in RECIPES.values():
        arrays = {
            name: _made(make, array, first=first and name in ("x", "upstream"))
            if array.size > LISTED
            else array
            for name, array in failure.arrays.items()
        }
        found = _fails(subject, failure, arrays)
        raised = "exception" in (failure.effect, found.effect if found else "")
        if found is not None and (not raised or found.effect == failure.effect):
            return found
    return failure


def _made(make: Callable[[spec.Shape], Array], array: Array, *, first: bool) -> Array:
    """Return a canonical array of this shape and dtype, made in the layout of the subject."""
    if first and array.ndim >= 3:
        native = make(_native(array.shape, first=True))
        return np.ascontiguousarray(np.moveaxis(native, 1, -1)).astype(array.dtype)
    return np.asarray(make(array.shape).astype(array.dtype))


def _fails(subject: Subject, failure: Failure, arrays: dict[str, Array]) -> Failure | None:
    """Return how the layer of a failure fails on other arrays, if it does."""
    (layer,) = failure.layers
    memory, weight_memory = _memories(failure)
    x, weights = arrays["x"], {n: arrays[n] for n in spec.weight_shapes(layer) if n in arrays}
    try:
        if failure.call == "gradients":
            given = arrays["upstream"]
            made = subject.gradients(layer, weights, x, given, memory)
            list(judge.gradients(layer, x, weights, given, made.arrays))
        else:
            y = subject.run([layer], [weights], x, memory, weight_memory).y
            judge.met(layer, x, weights, y)
    except Failure as found:
        found.arrays, found.layers, found.call = arrays, failure.layers, failure.call
        found.memory = memory, weight_memory
        return found
    except Refused as error:
        said = f"raised {error}"
        return dataclasses.replace(failure, effect="exception", message=said, arrays=arrays)
    except (Unsupported, *_NO_ANSWER):
        return None
    return None
