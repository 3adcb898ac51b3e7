"""``check``: one function, put to all questions about its layer, from any program."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from cnnformance.adapters import function as functions
from cnnformance.adapters.backend import Layout
from cnnformance.adapters.worker import Server
from cnnformance.checking_result import Result
from cnnformance.checking_run import IMPORTING, asked_elsewhere, asked_here
from cnnformance.reports import records

Profile = Literal["quick", "default", "thorough"]


def check(
    function: Callable[..., Any],
    layers: functions.Kinds = None,
    *,
    profile: Profile = "quick",
    seed: int = 0,
    dtypes: Sequence[str] | None = None,
    layout: Layout | None = None,
    isolated: bool = False,
) -> Result:
    """Put a function to the questions about its layer, and return what became of each.

    ``function(x, layer)`` returns the output; ``function(x, layer, weights)`` has the arrays of
    ``spec.layers.weight_shapes(layer)`` too. Arrays are channels-last unless ``layout`` says
    otherwise, and of one of ``dtypes`` (float32 and float64). What it has not, it declines by
    raising ``NotImplementedError``.

    Args:
        function: what is asked.
        layers: a layer type, a union or a sequence of some, or a base such as ``Pool``; by default
            what the annotation of the second parameter names.
        profile: how much is asked.
        seed: of the drawn cases.
        dtypes: those that the function takes, by NumPy name or ``bfloat16``.
        layout: how it wants its arrays.
        isolated: call it in a process of its own, so that a crash or a hang is a finding. It must
            stand at the top of a module or file. Otherwise it is called in this very thread.

    Raises:
        ValueError: an option or the function is none that can be used; the message says why.
        RuntimeError: the questions could not be put.
    """
    if IMPORTING in os.environ:
        said = "check is called while it imports the function: write it below if __name__ == ..."
        raise RuntimeError(said)
    backend = functions.of(function, layers, dtypes=dtypes, layout=layout)
    try:
        Server(backend()).describe()
    except Exception as error:  # AdapterError: of a class attribute, which is an option here
        raise ValueError(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="cnnformance-") as folder:
        arguments = ["--profile", str(profile), "--seed", str(seed)]
        if isolated:
            run = asked_elsewhere(backend, Path(folder), arguments)
        else:
            run = asked_here(backend, Path(folder), arguments)
    named = tuple(records.Subject(backend.__name__, s.version) for s in run.header.subjects)
    run = replace(
        run,
        header=replace(run.header, subjects=named),
        verdicts=tuple(replace(v, subject=backend.__name__) for v in run.verdicts),
        traits=tuple(replace(t, subject=backend.__name__) for t in run.traits),
    )
    return Result(backend.__name__, backend.kinds, run)


def conformance_test(
    layers: functions.Kinds = None, **options: Any
) -> Callable[[Callable[..., Any]], Callable[[], None]]:
    """Make a test of a function, for a suite of one's own: it passes if ``check`` finds nothing.

    ::

        @conformance_test(MaxPool)
        def test_max_pool(x, layer):
            if layer != MaxPool(layer.window, layer.stride):
                raise NotImplementedError("padding, dilation and ceil_mode")
            return my_max_pool(x, layer.window, layer.stride)

    ``layers`` and ``options`` are those of ``check``. The function itself is the test's
    ``function``.
    """

    def made(function: Callable[..., Any]) -> Callable[[], None]:
        def test() -> None:
            said = ""
            try:
                check(function, layers, **options).raise_for_failures()
            except AssertionError as error:
                said = str(error)
            if said:  # which says all: our own lines, and a second telling, would say nothing
                pytest.fail(said, pytrace=False)

        for name in ("__name__", "__qualname__", "__module__", "__doc__"):  # not its parameters
            setattr(test, name, getattr(function, name))
        test.function = function  # type: ignore[attr-defined] # as told
        return test

    return made
