"""A layer type is described once: two toy types, given in this file alone, are asked all questions.

One is its type and two registrations; the other, which has an option of its own, two more. Loaded
as a plugin, this module makes them layer types.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st

from cnnformance.adapters.backend import Array, Weights
from cnnformance.adapters.numpy import NumPy
from cnnformance.adapters.numpy_layers import fold, unfold, widen, window_of
from cnnformance.conformance import cases_by_option, strategies
from cnnformance.reference.forward import compute
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.windows import grid, over_windows, scatter
from cnnformance.spec import layers as spec

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Absolute(spec.Layer):
    """``|x|``, element by element; the smallest integer of a dtype stays what it is."""

    exact: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True


@compute.register
def absolute(_layer: Absolute, x: Array) -> Array:
    """Return ``|x|`` in the dtype of ``x``."""
    return np.abs(x)


@differentiate.register
def absolute_gradients(_layer: Absolute, x: Array, upstream: Array) -> Gradients:
    """Return the upstream gradient with the sign of ``x``."""
    return {"input": np.sign(x) * upstream}


@dataclass(frozen=True)
class SumPool(spec.Pool):
    """The sum of each window, or half of it; padding adds nothing."""

    halved: bool = False
    linear: ClassVar[bool] = True


@compute.register
def sum_pool(layer: SumPool, x: Array) -> Array:
    """Return the float64 sum of each window."""
    x = x.astype(np.float64, copy=False)
    return over_windows(layer, x, 0.0, lambda block: block.sum(axis=-2)) * share(layer)


def share(layer: SumPool) -> float:
    """Return the part of a sum that is the output."""
    return 0.5 if layer.halved else 1.0


@differentiate.register
def sum_pool_gradients(layer: SumPool, x: Array, upstream: Array) -> Gradients:
    """Return at each cell the sum of the upstream gradients of the windows that hold it."""
    cells = grid(layer, x.shape[1:-1]).cells.shape[1]
    shape = (*upstream.shape[:-1], cells, upstream.shape[-1])
    shares = np.broadcast_to(share(layer) * upstream[..., None, :], shape)
    return {"input": scatter(layer, x.shape, shares)}


@strategies.options.register(SumPool)
def drawn_halved(kind: type[SumPool], draw: Any, *, plain: bool) -> dict[str, Any]:
    """Draw whether it is halved."""
    del kind
    return {} if plain else {"halved": draw(st.booleans())}


@cases_by_option.choices.register(SumPool)
def halved_once(kind: type[SumPool]) -> list[dict[str, Any]]:
    """Return the options of any pooling, and its own."""
    del kind
    return [*cases_by_option.choices(spec.Pool), {"halved": True}]


def pytest_configure() -> None:
    """Make the toys layer types, in a session that has this module as its plugin."""
    spec.register(Absolute)
    spec.register(SumPool)


class Toys(NumPy):
    """NumPy's layers and the toys, which are computed otherwise than by the reference."""

    def supports(self, layer: spec.Layer, dtype: str) -> bool:
        """Absolute takes integers too."""
        return isinstance(layer, Absolute) or super().supports(layer, dtype)

    def build(self, layer: spec.Layer, weights: Weights) -> Callable[[Array], Array]:
        """Return the layer. Raises ``ValueError`` for an invalid one."""
        match layer:
            case Absolute():
                return lambda x: np.where(x < 0, -x, x) + x.dtype.type(0)
            case SumPool():
                return lambda x: self.summed(self.checked(layer), x)
        return super().build(layer, weights)

    def checked(self, layer: SumPool) -> SumPool:
        """Return the layer. Raises ``ValueError`` for an invalid one."""
        return layer.replace()

    def summed(self, layer: SumPool, x: Array) -> Array:
        """Return the sum of each window."""
        with np.errstate(all="ignore"):
            cells = unfold(widen(x), 0, **window_of(layer))
            return np.asarray((cells.sum(0) * self.factor(layer, cells)).astype(x.dtype))

    def factor(self, layer: SumPool, like: Array) -> Any:
        """Return what a sum is multiplied by, in the dtype of an array."""
        return like.dtype.type(0.5 if layer.halved else 1)

    def gradients(
        self, layer: spec.Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Return the gradients of ``sum(layer(x) * upstream)``."""
        match layer:
            case Absolute():
                return {"input": np.where(x < 0, -upstream, upstream)}
            case SumPool():
                sent = widen(upstream)
                sent = sent * self.factor(layer, sent)
                each = np.broadcast_to(sent, (prod(layer.window), *sent.shape))
                return {"input": fold(each, x.shape, **window_of(layer)).astype(x.dtype)}
        return super().gradients(layer, weights, x, upstream)


FAULTS = {
    "three": "test_output[",
    "long": "test_sizes[",
    "whole": "test_options or test_gradient_of_options",
    "double": "test_output[",
    "memory": "test_memory_layout",
    "buffer": "test_pure",
    "finite": "test_output or test_sum_keeps_nan",
    "batch": "test_empty_batch",
    "static": "test_static_shape",
    "slope": "test_gradient[",
    "lost": "test_special_upstream",
    "lenient": "test_refused",
}
"""A fault for each general question (values, sizes, options, dtypes, memory, state, special values,
shapes, gradients, refusals), and the question that must catch it."""


class Faulty(Toys):
    """The toys with one fault each, named by the mode."""

    modes = tuple(FAULTS)

    def checked(self, layer: SumPool) -> SumPool:
        """Return the layer, also an invalid one if that is the fault."""
        return layer if self.mode == "lenient" else super().checked(layer)

    def factor(self, layer: SumPool, like: Array) -> Any:
        """Return one throughout, if that is the fault."""
        return like.dtype.type(1) if self.mode == "whole" else super().factor(layer, like)

    def build(self, layer: spec.Layer, weights: Weights) -> Callable[[Array], Array]:
        """Return the layer with the fault."""
        right = super().build(layer, weights)
        kept: dict[spec.Shape, Array] = {}

        def faulty(x: Array) -> Array:  # noqa: PLR0911 - one for each fault
            match self.mode:
                case "three":
                    return right(np.where(x == 3, x.dtype.type(2), x))
                case "long":
                    return right(np.where(np.arange(x.shape[1]) < 100, x.T, -x.T).T)
                case "double":
                    return right(x).astype(np.float64)
                case "memory" if not x.flags.c_contiguous:
                    return right(x.ravel("K").reshape(x.shape))
                case "buffer":
                    y = right(x)
                    kept.setdefault(y.shape, np.empty_like(y))[...] = y
                    return kept[y.shape]
                case "finite":
                    return np.nan_to_num(right(x))
                case "batch" if not len(x):
                    return right(np.ones((1, *x.shape[1:]), x.dtype))
            return right(x)

        return faulty

    def output_shape(self, layer: spec.Layer, shape: spec.Shape) -> spec.Shape:
        """Return a channel too many, if that is the fault."""
        *others, channels = super().output_shape(layer, shape)
        return (*others, channels + (self.mode == "static"))

    def gradients(
        self, layer: spec.Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Return what arrives with a positive sign, or no NaN, if that is the fault."""
        found = super().gradients(layer, weights, x, upstream)
        match self.mode:
            case "slope":
                return {name: np.abs(gradient) for name, gradient in found.items()}
            case "lost":
                return {name: np.nan_to_num(gradient) for name, gradient in found.items()}
        return found


ELEMENTWISE = {
    "test_output.py::test_output",
    "test_sizes.py::test_sizes",
    "test_sizes.py::test_large",
    "test_state.py::test_memory_layout",
    "test_state.py::test_pure",
    "test_state.py::test_state_between_shapes",
    "test_paths.py::test_batch_independent",
    "test_pipeline.py::test_after_each_layer",
    "test_parameters.py::test_no_parameters",
    "test_shapes.py::test_static_shape",
    "test_shapes.py::test_empty_batch",
    "test_shapes.py::test_no_channels",
    "test_shapes.py::test_no_cells",
    "test_gradients.py::test_gradient",
    "test_gradients.py::test_gradient_of_large",
    "test_gradients.py::test_gradient_of_options",
    "test_gradients.py::test_gradient_in_other_memory",
    "test_special_gradients.py::test_special_upstream",
    "test_special_gradients.py::test_map_of_one_value",
    "test_declined.py::test_declined_dtypes",
}
"""What is asked of a layer that acts on each element alone."""

WINDOWED = {
    "test_output.py::test_options",
    "test_sums.py::test_sums",
    "test_sums.py::test_sums_of_gradients",
    "test_special_values.py::test_sum_keeps_nan_and_infinities",
    "test_refusals.py::test_refused",
    "test_refusals.py::test_refused_statically",
    "test_refusals.py::test_without_batch",
    "test_shapes.py::test_window_larger_than_input",
    "test_paths.py::test_rank_consistent",
    "test_windows.py::test_output_smaller",
    "test_windows.py::test_local_windows",
    "test_windows.py::test_equal_windows_equal_outputs",
    "test_windows.py::test_stride_defaults_to_window",
    "test_windows.py::test_shift_by_stride",
    "test_windows.py::test_window_permutation",
}
"""What is asked beside that of a pooling that sums."""


def asked(tmp_path: Path, subjects: list[str], chosen: str) -> list[dict[str, Any]]:
    """Return the verdicts of the chosen questions, put to subjects of this module."""
    record = tmp_path / "verdicts.jsonl"
    named = [f"--backend=test_toy_layers:{subject}" for subject in subjects]
    command = [sys.executable, "-m", "pytest", "conformance", "-p", "test_toy_layers", *named]
    command += ["--profile=quick", "--in-process", f"--record={record}", "-k", chosen, "-q"]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(  # noqa: S603 - this Python
        command, check=False, cwd=TESTS.parent, env=env, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    lines = map(json.loads, record.read_text("utf-8").splitlines())
    return [line for line in lines if line["record"] == "verdict"]


def test_toys_are_asked_all_questions_and_pass(tmp_path: Path) -> None:
    verdicts = asked(tmp_path, ["Toys"], "-Absolute or -SumPool")
    assert {v["verdict"] for v in verdicts} == {"pass"}
    found = {
        name: {v["question"].partition("[")[0] for v in verdicts if v["layer"] == name}
        for name in ("Absolute", "SumPool")
    }
    assert found == {"Absolute": ELEMENTWISE, "SumPool": ELEMENTWISE | WINDOWED}
    dtypes = [v["dtype"] for v in verdicts if "test_output[Absolute" in v["question"]]
    assert len(dtypes) == 9


def test_a_fault_in_each_is_caught_by_its_question(tmp_path: Path) -> None:
    chosen = [f"(Faulty:{fault}- and ({question}))" for fault, question in FAULTS.items()]
    verdicts = asked(
        tmp_path,
        [f"Faulty:{fault}" for fault in FAULTS],
        f"(-Absolute or -SumPool) and ({' or '.join(chosen)})",
    )
    caught = {(v["subject"].rpartition(":")[2], v["layer"]) for v in verdicts if v["failure"]}
    both = {(fault, toy) for fault in FAULTS for toy in ("Absolute", "SumPool")}
    # a function of each element has no options, and nothing to refuse
    assert caught == both - {("lenient", "Absolute"), ("whole", "Absolute")}


def test_toys_are_layer_types_only_where_they_are_registered() -> None:
    with spec.registered(Absolute, SumPool):
        assert spec.family("sums")[-1] is SumPool
        assert spec.from_json({"type": "Absolute"}) == Absolute()
    with pytest.raises(spec.LayerError, match="unknown"):
        spec.from_json({"type": "Absolute"})
