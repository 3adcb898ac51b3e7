"""A table of calls runs what it shows, and the suite moves the axes of weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from cnnformance.adapters import padding, registry
from cnnformance.adapters.axes import WeightAxes, unknown
from cnnformance.adapters.backend import (
    Array,
    Backend,
    DenseLayout,
    KernelLayout,
    Unsupported,
    Weights,
)
from cnnformance.adapters.calls import Call, Name, Program, Tensor, Told, call
from cnnformance.adapters.exceptions import AdapterError
from cnnformance.adapters.importing import find
from cnnformance.adapters.numpy import NumPy
from cnnformance.adapters.subject import Subject
from cnnformance.adapters.table import BIAS, WEIGHT, Definition, Table
from cnnformance.adapters.worker import Server
from cnnformance.conformance.judge import Failure
from cnnformance.conformance.reproduction import script
from cnnformance.spec.layers import (
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    MinPool,
    ReLU,
    to_json,
    weight_shapes,
)

X = Tensor((2, 5, 4), "float32")


def negated_max(table: Table, layer: Any, x: Tensor) -> Call:
    """Make a least value of a largest."""
    fields = GlobalMaxPool.unchecked(**vars(layer))
    return call("np.negative", table.native(fields, x.after(call("np.negative", x))))


class Numeric(Table):
    """NumPy's own functions, as a table."""

    dense_layout = "io"
    dtypes = ("float32", "float64", "bfloat16")
    imports = "import math"
    printed = 'print("NumPy", np.__version__)'
    compositions = {GlobalAveragePool: negated_max}  # noqa: RUF012 - a table of a test

    def native(self, layer: Layer, x: Tensor) -> Call:
        match layer:
            case ReLU():
                return call("np.maximum", x, 0)
            case Flatten(start):
                return call("np.reshape", x, x.joined(start))
            case GlobalMaxPool(rank):
                return call("np.max", x, tuple(range(1, rank + 1)))
            case Dense():
                y = call("np.matmul", x, WEIGHT)
                return call("np.add", y, BIAS) if layer.bias else y
        raise Unsupported(f"there is no {type(layer).__name__}")

    def counted(self, layer: Layer, made: Definition) -> list[str]:  # noqa: ARG002 - the interface's
        sizes = list(self.axes.native_shapes(layer).values())
        return [f"count = sum(math.prod(size) for size in {sizes})"]

    def backward(
        self,
        layer: Layer,
        made: Definition,
        x: str,
        upstream: str,
        dtype: str,  # noqa: ARG002 - likewise
    ) -> list[str]:
        if not isinstance(layer, Dense):
            raise Unsupported("only of dense layers")
        return [f"y = {made.call(x)}", f"gradients = {{'input': {upstream} @ weight.T}}"]


def test_calls_print_in_the_order_in_which_they_run() -> None:
    inner = X.after(call("f", X, (1,), axis=-1))
    program = Program.of(call("g", inner, [inner, 2.5], float("-inf"), Name("lax.max"), WEIGHT))
    assert program.body() == [
        "    y1 = f(x, (1,), axis=-1)",
        "    return g(y1, [y1, 2.5], -np.inf, lax.max, weight)",
    ]
    assert program.functions == ["f", "g"]
    assert program.parameters == ["weight"]


def test_a_call_that_stands_twice_runs_once() -> None:
    drawn = call("draw", X)
    assert Program.of(call("add", drawn, drawn)).body() == [
        "    y1 = draw(x)",
        "    return add(y1, y1)",
    ]


def test_what_a_call_makes_is_made_once_and_the_last_is_called_layer() -> None:
    padded = X.after(call("Pad", 1)(X))
    program = Program.of(call("Conv", 3, bias=False)(padded))
    assert program.layers == {"layer": "Conv(3, bias=False)", "layer2": "Pad(1)"}
    assert program.body() == ["    y1 = layer2(x)", "    return layer(y1)"]
    assert not program.alone
    assert Program.of(call("ReLU")(X)).alone


@pytest.mark.parametrize(
    "layer", [ReLU(), Flatten(), GlobalMaxPool(1), Dense(4, 3), Dense(4, 3, bias=False)]
)
def test_what_is_shown_is_what_ran(layer: Layer) -> None:
    backend = Numeric()
    x = np.arange(-20, 20, dtype=np.float32).reshape(2, 5, 4)
    weights = {n: np.full(s, 0.5, x.dtype) for n, s in backend.axes.native_shapes(layer).items()}
    made = backend.build(layer, weights)
    names: dict[str, Any] = {"np": np, "x": x, "weights": weights}
    exec(backend.script(layer, x), names)  # noqa: S102 - that it runs is the claim
    np.testing.assert_array_equal(names["y"], made(x))
    expected = NumPy().build(layer, {n: w.T for n, w in weights.items()})(x)
    np.testing.assert_array_equal(names["y"], expected)
    assert backend.parameters(layer) == sum(w.size for w in weights.values())


def test_one_layer_takes_inputs_of_other_shapes_and_dtypes() -> None:
    made = Numeric().build(Flatten(), {})
    for shape, dtype in (((2, 3, 4), "float32"), ((1, 6), "float64"), ((0, 3, 2), "float32")):
        y = made(np.zeros(shape, dtype))
        assert y.shape == (shape[0], int(np.prod(shape[1:])))
        assert y.dtype == dtype


def test_a_composition_is_asked_where_the_framework_has_no_layer_and_says_so() -> None:
    made = Numeric().build(GlobalAveragePool(1), {})
    made(x := np.zeros((2, 3, 1), np.float32))
    assert isinstance(made, Told)
    assert made.note == "np.negative, np.max, np.negative"
    with pytest.raises(Unsupported, match="there is no MinPool"):
        Numeric().build(MinPool((2,)), {})(x)


def test_what_a_table_does_not_tell_is_unsupported_in_method_and_script() -> None:
    backend, x = Numeric(), np.ones((2, 4), np.float32)
    for ask in (
        lambda: backend.output_shape(ReLU(), (2, 4)),
        lambda: backend.shape_script(ReLU(), (2, 4)),
        lambda: backend.gradients(ReLU(), {}, x, x),
        lambda: backend.gradient_script(ReLU(), x, x),
    ):
        with pytest.raises(Unsupported):
            ask()


class Turned(Backend):
    """Takes weights in an order of its own, computes canonically, and returns gradients so."""

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        super().__init__(mode, device)
        self.seen: list[Mapping[str, tuple[int, ...]]] = []

    def _canonical(self, layer: Layer, weights: Weights) -> dict[str, Array]:
        self.seen.append({name: array.shape for name, array in weights.items()})
        axes = WeightAxes(self.kernel_layout, self.dense_layout)
        return {name: axes.canonical(layer, name, array) for name, array in weights.items()}

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        return NumPy().build(layer, self._canonical(layer, weights))

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        found = NumPy().gradients(layer, self._canonical(layer, weights), x, upstream)
        axes = WeightAxes(self.kernel_layout, self.dense_layout)
        return {name: axes.native(layer, name, array) for name, array in found.items()}


def asked(backend: Backend, ask: str, layer: Layer, *more: Array) -> list[Array]:
    """Return the worker's answer about a layer whose weights are those of ``held``."""
    weights = held(layer)
    request = {
        "ask": ask,
        "layers": [to_json(layer)],
        "weights": [list(weights)],
        "dtype": "float32",
    }
    header, arrays = Server(backend).answer(request, [*weights.values(), *more])
    assert header["status"] == "ok", header
    assert not header.get("modified")
    return arrays


def held(layer: Layer) -> Weights:
    """Return canonical weights of distinct numbers."""
    sizes = weight_shapes(layer).items()
    return {n: np.arange(np.prod(s), dtype=np.float32).reshape(s) for n, s in sizes}


KERNEL = Conv((2, 3), in_channels=4, out_channels=5)


@pytest.mark.parametrize(
    ("kernel", "shape"),
    [
        ("hwio", (2, 3, 4, 5)),
        ("oihw", (5, 4, 2, 3)),
        ("ohwi", (5, 2, 3, 4)),
        ("hwoi", (2, 3, 5, 4)),
        ("iohw", (4, 5, 2, 3)),
        ("ihwo", (4, 2, 3, 5)),
    ],
)
def test_kernels_come_in_the_order_that_is_declared(
    kernel: KernelLayout, shape: tuple[int, ...]
) -> None:
    backend = type("Declared", (Turned,), {"kernel_layout": kernel})()
    x = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    expected = NumPy().build(KERNEL, held(KERNEL))(x)
    (y,) = asked(backend, "run", KERNEL, x)
    np.testing.assert_array_equal(y, expected)
    found = asked(backend, "gradients", KERNEL, x, np.ones_like(expected))
    gradients = NumPy().gradients(KERNEL, held(KERNEL), x, np.ones_like(expected))
    for name, gradient in zip(["input", "weight", "bias"], found, strict=True):
        np.testing.assert_array_equal(gradient, gradients[name])
    assert backend.seen == [{"weight": shape, "bias": (5,)}] * 2
    assert WeightAxes(kernel).native_shapes(KERNEL)["weight"] == shape


@pytest.mark.parametrize(("dense", "shape"), [("oi", (3, 4)), ("io", (4, 3))])
def test_dense_weights_come_in_the_order_that_is_declared(
    dense: DenseLayout, shape: tuple[int, ...]
) -> None:
    backend = type("Declared", (Turned,), {"dense_layout": dense})()
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    (y,) = asked(backend, "run", Dense(4, 3), x)
    np.testing.assert_array_equal(y, NumPy().build(Dense(4, 3), held(Dense(4, 3)))(x))
    assert backend.seen[0]["weight"] == shape


def test_native_weights_lie_in_memory_as_asked() -> None:
    flags = []

    class Looks(Turned):
        kernel_layout = "oihw"

        def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
            flags.append(weights["weight"].flags.c_contiguous)
            return super().build(layer, weights)

    asked(Looks(), "run", KERNEL, np.zeros((1, 2, 3, 4), np.float32))
    assert flags == [True]


def test_an_order_that_is_not_known_is_an_error_that_names_those_that_are() -> None:
    for attribute, value in (("kernel_layout", "OIHW"), ("dense_layout", "hwio")):
        backend = type("Wrong", (NumPy,), {attribute: value})()
        with pytest.raises(AdapterError, match=f"{attribute} is '{value}', and must be"):
            Server(backend).describe()
    for kernel in get_args(KernelLayout):
        assert not unknown(kernel, "io")


def test_padding_in_the_terms_of_frameworks() -> None:
    uneven = MaxPool((3, 2), padding=((1, 0), (0, 1)), stride=(1, 1))
    assert padding.begins_then_ends(((1, 0), (2, 3))) == [1, 2, 0, 3]
    assert padding.last_axis_first(((1, 0), (2, 3))) == [2, 3, 1, 0]
    assert padding.with_channels_last(((1, 0),)) == [[0, 0], [1, 0], [0, 0]]
    assert padding.alike(MaxPool((3,), padding=((1, 1),)), "It") == (1,)
    for wrong in (uneven, MaxPool((3,), padding="same")):
        with pytest.raises(Unsupported, match="It pads both sides"):
            padding.alike(wrong, "It")
    assert padding.is_explicit(uneven)
    assert not padding.is_explicit(MaxPool((3,)))
    with pytest.raises(Unsupported, match="It has no dilation in MaxPool"):
        padding.undilated(MaxPool((3,), dilation=(2,)), "It")


def test_words_are_resolved_with_the_extra_cell_on_their_side() -> None:
    for word, expected in (("same", ((0, 1), (1, 1))), ("same_lower", ((1, 0), (1, 1)))):
        layer = MaxPool((2, 3), stride=(1, 1), padding=word)
        assert padding.pairs(layer, (5, 5)) == expected


def test_a_last_window_hangs_over_only_if_it_starts_inside() -> None:
    for size, after, over in ((7, 1, 0), (9, 1, 1), (9, 0, 2), (8, 1, 0)):  # the last: outside
        layer = MaxPool((3,), stride=(3,), padding=((1, after),), ceil_mode=True)
        assert padding.overhanging(layer, (size,)) == ((1, after + over),)


DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "adapters.md"
DOCUMENTED: tuple[tuple[Layer, tuple[int, ...]], ...] = (
    (MaxPool((2, 3), padding=((1, 1), (1, 1))), (2, 7, 6, 4)),
    (Conv((2, 3), in_channels=4, out_channels=6, groups=2), (2, 7, 6, 4)),
    (ReLU(), (3, 4)),
    (Flatten(), (2, 3, 4)),
    (Dense(4, 3, bias=False), (2, 4)),
)


@pytest.mark.filterwarnings("default")  # PyTorch may warn as it likes
def test_the_documented_table_is_one(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    _, _, rest = DOCUMENT.read_text(encoding="utf-8").partition("<!-- table.py -->\n```python\n")
    (tmp_path / "table.py").write_text(rest.partition("```")[0], encoding="utf-8")
    server = Server(find(f"{tmp_path / 'table.py'}:Mine")())
    assert server.describe()["kernel_layout"] == "oihw"
    for layer, shape in DOCUMENTED:
        x = np.arange(-20, np.prod(shape) - 20, dtype=np.float32).reshape(shape)
        y = NumPy().build(layer, held(layer))(x)
        (found,) = asked(server.backend, "run", layer, x)
        np.testing.assert_array_equal(found, y)
        expected = NumPy().gradients(layer, held(layer), x, np.ones_like(y))
        names = ["input", *held(layer)]
        for name, gradient in zip(
            names, asked(server.backend, "gradients", layer, x, np.ones_like(y)), strict=True
        ):
            np.testing.assert_array_equal(gradient, expected[name])
        assert server.backend.parameters(layer) == sum(w.size for w in held(layer).values())


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("index", [(0, 1, 2, 3), (1, 2, 0, 4)])
def test_a_script_has_weights_and_indices_in_the_order_of_the_framework(
    index: tuple[int, ...],
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    x = np.arange(48, dtype=np.float32).reshape(1, 4, 3, 4)
    upstream = np.ones((1, 3, 1, 5), np.float32)
    arrays = {"x": x, "upstream": upstream, **held(KERNEL)}
    right = NumPy().gradients(KERNEL, held(KERNEL), x, upstream)["weight"][index]
    subject = Subject(registry.parse("torch"), in_process=True)
    subject.start()
    for expected, status in ((right, 0), (right + 1, 1)):
        failing = Failure(
            "value", "wrong", arrays=arrays, layers=(KERNEL,), call="gradients", operand="weight",
            index=index, expected=str(float(expected)), actual=str(float(right)),
        )  # fmt: skip
        found = script(subject, failing)
        assert found
        place = f"gradients['weight'][{index[3]}, {index[2]}, {index[0]}, {index[1]}]"
        assert place in found
        assert _status(found) == status


def _status(source: str) -> int:
    try:
        exec(source, {})  # noqa: S102 - the script under test
    except AssertionError:
        return 1
    return 0


def asking(table: type[Table], ask: str, layer: Layer, x: Array, **more: Any) -> Mapping[str, Any]:
    """Return what the worker says to a request about a table."""
    weights = held(layer)
    request = {
        "ask": ask,
        "layers": [to_json(layer)],
        "weights": [list(weights)],
        "dtype": "float32",
        "memory": "contiguous",
        **more,
    }
    arrays = [*weights.values(), x, x] if ask == "gradients" else [*weights.values(), x]
    return Server(table()).answer(request, arrays)[0]


def gives(value: Any) -> Callable[..., Any]:
    """Return a method that returns this."""
    return lambda *_, **_named: value


ROW = np.ones((1, 3), np.float32)
SHAPE = {"ask": "output_shape", "shape": [1, 3]}
BREACHES: tuple[tuple[str, Mapping[str, Any], str, str], ...] = (
    ("no call", {"native": gives(np.abs)}, "run", r"native\(ReLU\(\)\) is .*; it is to be a Call"),
    ("nothing", {"native": gives(None)}, "run", r"native\(ReLU\(\)\) is None"),
    ("no Python", {"native": gives(call("np.abs)", X))}, "run", "does not compile .*calls"),
    ("no such name", {"native": gives(call("nq.abs", X))}, "run", "'nq' is not defined.*imports"),
    ("tensor", {"tensor": gives(None)}, "run", r"\.tensor is None; it is to be the source"),
    ("array", {"array": gives(1)}, "run", r"\.array is 1; it is to be the source"),
    ("given", {"given": gives(None)}, "run", r"\.given is None; it is to be a dict"),
    ("within", {"within": gives(None)}, "run", r"\.within is None; it is to be a context"),
    ("backward sets nothing", {"backward": gives(["y = 1"])}, "gradients", "backward set no grad"),
    ("backward is text", {"backward": gives("gradients = {}")}, "gradients", "a list of lines"),
    ("counted sets nothing", {"counted": gives([])}, "parameters", "counted set no count"),
    ("counted is text", {"counted": gives("count = 1")}, "parameters", "a list of lines"),
    ("stated sets nothing", {"stated": gives(["y = shape"])}, "output_shape", "set no shape"),
    ("stated holds a number", {"stated": gives([1])}, "output_shape", r"stated\[0\] is 1"),
    ("a set", {"native": gives(call("np.abs", X, object()))}, "run", "is a object, which has no"),
    ("array", {"native": gives(call("np.abs", X, ROW))}, "run", "is a ndarray, which has no"),
)


@pytest.mark.parametrize(
    ("methods", "ask", "said"), [b[1:] for b in BREACHES], ids=[b[0] for b in BREACHES]
)
def test_a_breach_of_a_table_is_its_own(methods: Mapping[str, Any], ask: str, said: str) -> None:
    table = type("Broken", (Numeric,), dict(methods))
    answer = asking(table, ask, ReLU(), ROW, shape=[1, 3])
    assert answer["status"] == "adapter", answer
    assert re.search(said, answer["message"]), answer["message"]
    assert asking(Numeric, "run", ReLU(), ROW)["status"] == "ok"


@pytest.mark.parametrize("composed", [None, call])
def test_a_composition_that_makes_no_call_is_the_tables_error(composed: Any) -> None:
    compositions = {GlobalAveragePool: lambda *_: composed}
    table = type("Broken", (Numeric,), {"compositions": compositions})
    answer = asking(table, "run", GlobalAveragePool(1), np.ones((1, 3, 2), np.float32))
    assert answer["status"] == "adapter"
    assert "it is to be a Call" in answer["message"]


def test_a_layer_that_is_made_needs_lines_that_hold_its_weights() -> None:
    table = type("Broken", (Numeric,), {"native": gives(call("Layer")(X))})
    answer = asking(table, "run", Dense(3, 2), ROW)
    assert answer["status"] == "adapter"
    assert "needs hold" in answer["message"]


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"imports": "import no_such_module"}, "imports raise ModuleNotFoundError"),
        ({"imports": "import"}, "does not compile"),
        ({"imports": ["import math"]}, r"imports is \['import math'\]"),
        ({"printed": None}, "printed is None"),
        ({"printed": "print("}, "does not compile"),
        ({"wrapper": "jit"}, "to have {} where the function stands"),
        ({"wrapper": "jit({}, {})"}, "to have {} where the function stands"),
        ({"wrapper": np.abs}, "wrapper is <ufunc"),
        ({"compositions": [ReLU]}, "compositions is .* a dict"),
        ({"defaults": None}, "defaults is None"),
    ],
)
def test_class_attributes_are_checked_when_a_backend_is_made(
    attributes: Mapping[str, Any], said: str
) -> None:
    backend = type("Broken", (Numeric,), dict(attributes))()
    with pytest.raises(AdapterError, match=said):
        Server(backend).describe()


def test_a_name_that_the_framework_lacks_is_its_own_answer() -> None:
    class Calls(Numeric):
        def native(self, layer: Layer, x: Tensor) -> Call:  # noqa: ARG002 - the interface's
            return call("np.apply_along_axis", Name("lambda row: fails(row)"), 1, x)

        imports = "def fails(row):\n    raise ValueError"

    assert asking(Calls, "run", ReLU(), ROW)["type"] == "ValueError"


class Selective(Numeric):
    """Has a layer for inputs of some shapes alone."""

    def native(self, layer: Layer, x: Tensor) -> Call:
        if x.shape[-1] == 1 or x.dtype != "float32":
            raise Unsupported("one feature is too few")
        return super().native(layer, x)

    compositions = {ReLU: lambda _, __, x: call("np.abs", call("np.abs", x))}  # noqa: RUF012 - of a test


def test_native_is_asked_for_each_input_and_not_for_another() -> None:
    wide, thin = np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)
    assert asking(Selective, "run", Flatten(), wide)["status"] == "ok"
    answer = asking(Selective, "run", Flatten(), thin)
    assert (answer["status"], answer["message"]) == ("unsupported", "one feature is too few")


def test_an_answer_is_marked_composed_if_its_input_was_composed() -> None:
    wide, thin = np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)
    server, request = Server(Selective()), {"ask": "run", "weights": [[]], "dtype": "float32"}
    request["layers"] = [to_json(ReLU())]
    notes = [server.answer(request, [x])[0]["composed"] for x in (wide, thin, wide)]
    assert notes == ["", "np.abs, np.abs", ""]


def test_arguments_hold_calls_in_dicts_lists_and_tuples() -> None:
    inner = call("g", X)
    program = Program.of(call("f", {"x": X, "y": [(inner, WEIGHT)]}, options={"deep": inner}))
    assert program.body() == [
        "    y1 = g(x)",
        "    return f({'x': x, 'y': [(y1, weight)]}, options={'deep': y1})",
    ]
    assert program.parameters == ["weight"]


def test_what_is_made_holds_what_is_made() -> None:
    program = Program.of(call("Sequential", call("ReLU"), [call("Flat", 1)], last=call("M"))(X))
    assert program.layers == {"layer": "Sequential(ReLU(), [Flat(1)], last=M())"}
    assert program.alone
    assert program.functions == ["Sequential"]


def test_a_call_of_a_call_of_a_call_is_made_once_if_it_reads_no_input() -> None:
    program = Program.of(call("partial", 1)(2)(X))
    assert program.layers == {"layer": "partial(1)(2)"}
    assert program.functions == ["partial"]
    assert Program.of(call("bind", X)(WEIGHT)).body() == [
        "    y1 = bind(x)",
        "    return y1(weight)",
    ]


@pytest.mark.parametrize(
    ("value", "source"),
    [
        (Name("None"), "None"),
        (Name("True"), "True"),
        (Name("x"), "x"),
        (np.float32, "np.float32"),
        (np.dtype("int8"), "np.dtype('int8')"),
        (np.float32(0.5), "np.float32(0.5)"),
        (np.float64("-inf"), "np.float64(-np.inf)"),
        (int, "int"),
        (float("nan"), "np.nan"),
    ],
)
def test_plain_values_print_as_what_they_are(value: Any, source: str) -> None:
    program = Program.of(call("f", value, a=value))
    assert program.body() == [f"    return f({source}, a={source})"]
    assert not program.parameters


def test_an_option_has_a_name_that_python_can_write() -> None:
    for name in ("stride-x", "lambda", ""):
        with pytest.raises(AdapterError, match=f"call of f has an option {name!r}; options"):
            call("f", X, **{name: 1})


def test_a_chain_of_calls_that_is_too_long_is_told() -> None:
    x = X
    for _ in range(3000):
        x = x.after(call("f", x))
    with pytest.raises(AdapterError, match="nested more deeply than Python can follow"):
        Program.of(call("f", x))
