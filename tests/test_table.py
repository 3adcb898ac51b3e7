"""A table of calls runs what it shows, and the suite moves the axes of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numeric import Numeric, held

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
from cnnformance.adapters.calls import Told
from cnnformance.adapters.exceptions import AdapterError
from cnnformance.adapters.importing import find
from cnnformance.adapters.numpy import NumPy
from cnnformance.adapters.subject import Subject
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
)


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


def test_a_device_that_is_not_listed_is_refused() -> None:
    table = type("OnOne", (Numeric,), {"devices": ("cpu",)})
    assert table().device == "cpu"
    with pytest.raises(Unsupported, match="OnOne is asked on cpu, and not on 'cuda'"):
        table(device="cuda")
