"""Calls print as Python, and what cannot be printed is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnformance.adapters.calls import Name, Program, Tensor, call
from cnnformance.adapters.exceptions import AdapterError
from cnnformance.adapters.table import WEIGHT

X = Tensor((2, 5, 4), "float32")


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
