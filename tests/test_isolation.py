"""What a subject's process does to itself stays its own: nothing reaches the next request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnnformance.adapters.backend import Array, Backend, Unsupported, Weights
from cnnformance.adapters.memory import arranged
from cnnformance.adapters.registry import Target
from cnnformance.adapters.subject import Subject
from cnnformance.adapters.worker import Server
from cnnformance.spec.layers import Dense, Layer, ReLU, to_json

MEMORY = (
    "contiguous", "fortran", "strided", "sliced", "narrowed", "cropped", "broadcast", "reversed",
    "offset", "readonly",
)  # fmt: skip


class Keeps(Backend):
    """Keeps the arrays that it was given; takes float32 alone, it says, and yet any."""

    dtypes = ("float32",)
    seen: Array

    def build(self, layer: Layer, weights: Weights) -> Any:
        """Return a dense layer, or what returns its input."""
        if not isinstance(layer, Dense):
            return lambda x: x.copy()
        self.seen = weights["weight"]
        if self.seen.shape != (layer.out_features, layer.in_features):
            raise ValueError("these weights do not fit")
        return lambda x: x @ self.seen.T

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Return arrays of the right shapes, and keep the upstream gradient."""
        self.seen = upstream
        return {"input": x.copy(), **weights} if layer else {}


def asked(server: Server, ask: str, layer: Layer, arrays: list[Array], **more: Any) -> Any:
    """Return the status of a request for one layer, and the arrays of its answer."""
    names = [["weight"] if isinstance(layer, Dense) else []]
    request = {"ask": ask, "layers": [to_json(layer)], "weights": names, **more}
    header, results = server.answer({"dtype": arrays[-1].dtype.name, **request}, arrays)
    return header, results


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (4, 1, 5, 2)])
def test_arranged_memory_holds_the_same_bits(memory: str, shape: tuple[int, ...]) -> None:
    x = np.asarray(np.random.default_rng(0).standard_normal(shape), np.float32)
    for array in (x, np.full_like(x, np.nan), np.zeros_like(x)):
        found = arranged(array, memory)
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        assert found.tobytes() == array.tobytes()


def test_broadcast_memory_steps_over_no_byte_where_all_bits_are_equal() -> None:
    assert arranged(np.ones((3, 2), np.float32), "broadcast").strides == (0, 0)
    assert arranged(np.array([[1.0, 2.0]] * 3), "broadcast").strides == (0, 8)
    signed = np.array([0.0, -0.0])
    assert arranged(signed, "broadcast").tobytes() == signed.tobytes()


def test_weights_and_upstream_gradients_come_in_other_memory() -> None:
    backend = Keeps()
    server = Server(backend)
    weight, x = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)
    header, (y,) = asked(server, "run", Dense(3, 2), [weight, x], weight_memory="fortran")
    assert header["status"] == "ok"
    assert backend.seen.strides == (4, 8)
    assert (y == 3).all()
    upstream = np.ones((4, 2), np.float32)
    more = {"memory": "broadcast", "weight_memory": "broadcast"}
    header, _ = asked(server, "gradients", Dense(3, 2), [weight, x, upstream], **more)
    assert header["status"] == "ok"
    assert backend.seen.strides == (0, 0)


class Scribbles(Keeps):
    """Writes to its weights."""

    def build(self, layer: Layer, weights: Weights) -> Any:
        """Double the weights in their place."""
        np.multiply(weights["weight"], 2, out=weights["weight"])
        return super().build(layer, weights)


@pytest.mark.parametrize("memory", ["contiguous", "fortran", "strided", "reversed"])
def test_a_write_to_weights_in_any_memory_is_seen(memory: str) -> None:
    arrays = [np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)]
    header, _ = asked(Server(Scribbles()), "run", Dense(3, 2), arrays, weight_memory=memory)
    assert header["modified"]


def test_what_supports_declines_is_put_to_the_framework_when_forced() -> None:
    server = Server(Keeps())
    x = np.ones((2, 3), np.int32)
    assert asked(server, "run", ReLU(), [x])[0]["status"] == "unsupported"
    assert asked(server, "run", ReLU(), [x], force=True)[0]["status"] == "ok"
    assert asked(server, "gradients", ReLU(), [x, x])[0]["status"] == "unsupported"
    assert asked(server, "gradients", ReLU(), [x, x], force=True)[0]["status"] == "ok"


def test_weights_of_equal_bytes_and_another_shape_are_another_layer() -> None:
    server = Server(Keeps())
    x = np.ones((4, 3), np.float32)
    fits, turned = np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)
    assert asked(server, "run", Dense(3, 2), [fits, x])[0]["status"] == "ok"
    header, _ = asked(server, "run", Dense(3, 2), [turned, x])
    assert header["message"] == "these weights do not fit"


@pytest.fixture(params=[False, True], ids=["worker", "in-process"])
def keeps(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A subject of ``Keeps``, in a process of its own and in this one."""
    found = Subject(Target("keeps", f"{__file__}:Keeps"), in_process=request.param)
    yield found
    found.close()


def test_a_subject_passes_memory_and_force_on(keeps: Subject) -> None:
    weights, x = {"weight": np.ones((2, 3), np.float32)}, np.ones((4, 3), np.float32)
    assert (keeps.run([Dense(3, 2)], [weights], x, "strided", "reversed").y == 3).all()
    upstream = np.ones((4, 2), np.float32)
    assert not keeps.gradients(Dense(3, 2), weights, x, upstream, "readonly").modified
    with pytest.raises(Unsupported):
        keeps.run([ReLU()], [{}], np.ones(3, np.int8))
    assert keeps.run([ReLU()], [{}], np.ones(3, np.int8), force=True).y.dtype == np.int8
