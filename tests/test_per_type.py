"""Functions and tables by layer type: the nearest base class decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from cnnformance.conformance.per_type import PerType, of_type
from cnnformance.reference import bounds
from cnnformance.reference.forward import compute
from cnnformance.reference.gradient_bounds import gradient_bounds
from cnnformance.reference.gradients import Gradients, differentiate
from cnnformance.reference.propagation import propagated
from cnnformance.spec import layers as spec


@PerType
def named(layer_type: type[Any], prefix: str, *, end: str = "") -> str:
    """Return what the default says of a type."""
    return f"{prefix}any {layer_type.__name__}{end}"


@named.register(spec.Pool, spec.Global)
def _pool(layer_type: type[spec.Layer], prefix: str, *, end: str = "") -> str:
    return f"{prefix}pool {layer_type.__name__}{end}"


@named.register(spec.LpPool)
def _norm(layer_type: type[spec.LpPool], prefix: str, *, end: str = "") -> str:
    return f"{prefix}norm {layer_type.__name__}{end}"


@pytest.mark.parametrize(
    ("layer_type", "said"),
    [
        (spec.MaxPool, "a pool MaxPool!"),
        (spec.GlobalMaxPool, "a pool GlobalMaxPool!"),
        (spec.LpPool, "a norm LpPool!"),
        (spec.Conv, "a any Conv!"),
        (spec.Layer, "a any Layer!"),
    ],
)
def test_the_nearest_base_class_has_the_say(layer_type: type[spec.Layer], said: str) -> None:
    assert named(layer_type, "a ", end="!") == said


def test_a_table_is_read_by_the_nearest_base_class() -> None:
    table: dict[type[spec.Layer], str] = {spec.Windowed: "windows", spec.LpPool: "norms"}
    assert of_type(table, spec.LpPool) == "norms"
    assert of_type(table, spec.Conv) == "windows"
    with pytest.raises(KeyError, match="Dense"):
        of_type(table, spec.Dense)


@dataclass(frozen=True)
class Square(spec.Layer):
    """``x**2``: it rounds, is not linear, and has no bound of its own."""

    elementwise: ClassVar[bool] = True


@compute.register
def square(_layer: Square, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return ``x**2``."""
    return x**2


@differentiate.register
def square_gradients(
    _layer: Square, x: np.ndarray[Any, Any], upstream: np.ndarray[Any, Any]
) -> Gradients:
    """Return ``2 * x * upstream``."""
    return {"input": 2 * x * upstream}


def test_a_layer_without_a_bound_is_told_and_blames_nobody() -> None:
    x = np.ones((1, 3), np.float32)
    with pytest.raises(NotImplementedError, match="Square has no bound of its rounding"):
        bounds.bound(Square(), x, {})
    with pytest.raises(NotImplementedError, match="Square has no bound of its gradient"):
        gradient_bounds(Square(), x, {}, x)
    with pytest.raises(TypeError, match="no rule carries an error"):
        propagated(Square(), {}, x)
