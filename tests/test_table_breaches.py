"""What a table breaks is its own error; what it lacks for an input is unsupported."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numeric import Numeric, held

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.adapters.calls import Call, Name, Tensor, call
from cnnformance.adapters.exceptions import AdapterError
from cnnformance.adapters.table import Table
from cnnformance.adapters.worker import Server
from cnnformance.spec.layers import (
    Dense,
    Flatten,
    GlobalAveragePool,
    Layer,
    ReLU,
    to_json,
)

X = Tensor((2, 5, 4), "float32")


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
BREACHES: tuple[tuple[str, Mapping[str, Any], str, str], ...] = (
    (
        "no call",
        {"native": gives(np.abs)},
        "run",
        r"\.native is <ufunc.*; it is to be a Call, .* for ReLU\(\)",
    ),
    ("nothing", {"native": gives(None)}, "run", r"\.native is None"),
    ("no Python", {"native": gives(call("np.abs)", X))}, "run", "does not compile .*calls"),
    ("no such name", {"native": gives(call("nq.abs", X))}, "run", "'nq' is not defined.*imports"),
    ("misspelt", {"native": gives(call("np.abx", X))}, "run", "no attribute 'abx', as the source"),
    (
        "misspelt option",
        {"native": gives(call("np.sum", X, dtype=Name("np.float23")))},
        "run",
        "no attribute 'float23'",
    ),
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


def test_what_another_version_lacks_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNFORMANCE_VERSION", "1.0")
    table = type("Older", (Numeric,), {"native": gives(call("np.abx", X))})
    answer = asking(table, "run", ReLU(), ROW)
    assert answer["status"] == "unsupported"
    assert "no attribute 'abx'" in answer["message"]


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
    server = Server(Selective())
    request = {"ask": "run", "layers": [to_json(ReLU())], "weights": [[]], "dtype": "float32"}
    notes = [server.answer(request, [x])[0]["composed"] for x in (wide, thin, wide)]
    assert notes == ["", "np.abs, np.abs", ""]
