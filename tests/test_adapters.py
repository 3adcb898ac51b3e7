"""Every adapter against the NumPy one, and against its own word: scripts, counts, shapes, dtypes.

Small inputs whose exact results need few bits: what is compared here is the meaning of a layer's
fields, and not a framework's arithmetic, which is the suite's own business.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from cnnformance.adapters.axes import WeightAxes
from cnnformance.adapters.backend import Array, Backend, Unsupported, Weights
from cnnformance.adapters.numpy import NumPy
from cnnformance.adapters.numpy_layers import FORWARD
from cnnformance.spec.layers import (
    TYPES,
    Adaptive,
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Global,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    LayerError,
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
    Shape,
    StochasticPool,
    Windowed,
    weight_shapes,
)

ADAPTERS = {
    "numpy": "NumPy",
    "torch": "Torch",
    "tensorflow": "TensorFlow",
    "jax": "Jax",
    "onnxruntime": "OnnxRuntime",
}
"""The class of each adapter, by the module of ``adapters`` and of the framework."""

pytestmark = [
    pytest.mark.trials,
    pytest.mark.filterwarnings("default"),  # a framework may warn as it likes
]

ONE, TWO, THREE = (2, 11, 4), (2, 7, 6, 4), (2, 4, 5, 6, 4)
UNEVEN = ((1, 0), (0, 1))

CASES: tuple[tuple[Layer, Shape], ...] = (
    *((kind((2,)), ONE) for kind in (MaxPool, MinPool, AveragePool, LpPool, StochasticPool)),
    *((kind((2, 3)), TWO) for kind in (MaxPool, MinPool, AveragePool, LpPool, StochasticPool)),
    *((kind((2, 1, 3)), THREE) for kind in (MaxPool, MinPool, AveragePool, LpPool)),
    *((kind((3, 2), stride=(1, 2)), TWO) for kind in (MaxPool, AveragePool, LpPool)),
    *((kind((2, 2), stride=(3, 4)), TWO) for kind in (MaxPool, AveragePool, StochasticPool)),
    *((kind((3, 2), padding="same"), TWO) for kind in (MaxPool, MinPool, AveragePool, LpPool)),
    *((kind((2, 4), padding="same_lower"), TWO) for kind in (MaxPool, AveragePool)),
    *((kind((2, 2), padding=((1, 1), (0, 0))), TWO) for kind in (MaxPool, AveragePool, LpPool)),
    *((kind((2, 2), padding=UNEVEN), TWO) for kind in (MaxPool, MinPool, AveragePool)),
    *((kind((3, 2), (2, 4), ceil_mode=True), TWO) for kind in (MaxPool, MinPool, AveragePool)),
    *((kind((2, 2), dilation=(2, 3), stride=(1, 1)), TWO) for kind in (MaxPool, MinPool)),
    (MaxPool((2, 3), dilation=(3, 1), stride=(2, 2), padding=((1, 1), (1, 1))), TWO),
    (MaxPool((3, 3), stride=(2, 2), padding=((2, 2), (2, 2))), TWO),
    (AveragePool((2, 2), padding=((1, 1), (1, 1)), count_include_pad=True), TWO),
    (AveragePool((2, 2), padding=UNEVEN, count_include_pad=True), TWO),
    (AveragePool((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), True, True), TWO),
    (AveragePool((2,), padding="same", stride=(1,)), ONE),
    (AveragePool((2, 3, 2), padding=((0, 1), (1, 1), (1, 0))), THREE),
    (LpPool((2, 2), p=1), TWO),
    (LpPool((3, 2), p=4), TWO),
    *(
        (kind(rank), shape)
        for kind in (GlobalAveragePool, GlobalMaxPool)
        for rank, shape in ((1, ONE), (2, TWO), (3, THREE))
    ),
    *((kind((3, 4)), TWO) for kind in (AdaptiveAveragePool, AdaptiveMaxPool)),
    (AdaptiveMaxPool((2, 1, 4)), THREE),
    (Conv((3,), in_channels=4, out_channels=3), ONE),
    (Conv((3, 2), in_channels=4, out_channels=3), TWO),
    (Conv((2, 2, 3), in_channels=4, out_channels=3), THREE),
    (Conv((3, 3), in_channels=4, out_channels=6, groups=2, bias=False), TWO),
    (Conv((2, 3), in_channels=4, out_channels=4, groups=4, stride=(2, 1)), TWO),
    (Conv((3, 2), in_channels=4, out_channels=2, padding="same"), TWO),
    (Conv((3, 3), in_channels=4, out_channels=2, padding="same", stride=(2, 3)), TWO),
    (Conv((2, 4), in_channels=4, out_channels=2, padding="same_lower"), TWO),
    (Conv((2, 2), in_channels=4, out_channels=2, padding=((2, 2), (1, 1))), TWO),
    (Conv((2, 2), in_channels=4, out_channels=2, padding=UNEVEN, dilation=(2, 1)), TWO),
    (ReLU(), TWO),
    (Flatten(), TWO),
    (Flatten(2), THREE),
    (Dense(4, 3), (5, 4)),
    (Dense(4, 3, bias=False), TWO),
    (Dense(0, 3), (2, 0)),
)

PLAIN: tuple[tuple[Layer, Shape], ...] = (
    *((kind((2, 2)), TWO) for kind in (MaxPool, MinPool, AveragePool, LpPool)),
    (GlobalAveragePool(), TWO),
    (GlobalMaxPool(), TWO),
    (Conv((2, 2), in_channels=4, out_channels=3), TWO),
    (ReLU(), TWO),
    (Flatten(), TWO),
    (Dense(4, 3), (5, 4)),
)
"""What every framework has, and so no adapter may refuse."""

Case = tuple[Layer, Shape]


def named(case: Any) -> str:
    """Return a readable name for a case: the layer's type and the fields that tell it apart."""
    layer, shape = case
    fields = {name: value for name, value in vars(layer).items() if value is not False}
    return f"{type(layer).__name__}{list(fields.values())}-{len(shape) - 2}".replace(" ", "")


@pytest.fixture(scope="module", params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> type[Backend]:
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    module = importlib.import_module(f"cnnformance.adapters.{request.param}")
    found: type[Backend] = getattr(module, ADAPTERS[request.param])
    return found


@pytest.fixture
def backend(adapter: type[Backend]) -> Backend:
    return adapter()


def values(shape: Shape, dtype: Any = "float32", seed: int = 0) -> Array:
    """Return an array without ties or zeros, positive and negative, of small eighths."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    steps: Array = rng.permutation(size) + 1.0
    return (rng.choice([-1, 1], size) * steps / 8).reshape(shape).astype(dtype)


def arguments(layer: Layer, shape: Shape, dtype: Any = "float32") -> tuple[Weights, Array]:
    """Return weights and an input for a layer."""
    weights = {n: values(s, dtype, 1) for n, s in weight_shapes(layer).items()}
    x = values(shape, dtype)
    # Odd powers keep the sign in PyTorch's own module, for the suite to report.
    positive = isinstance(layer, StochasticPool) or (isinstance(layer, LpPool) and layer.p % 2)
    return weights, abs(x) if positive else x


def swaps(backend: Backend, layer: Layer) -> bool:
    """Whether the backend wants the channels of the layer's input first."""
    images = isinstance(layer, Windowed | Global | Adaptive)
    return images and backend.layout == "channels_first"


def native(backend: Backend, layer: Layer, x: Array) -> Array:
    """Return a canonical array in the backend's layout."""
    return np.moveaxis(x, -1, 1) if swaps(backend, layer) and x.ndim > 2 else x


def canonical(backend: Backend, layer: Layer, y: Array) -> Array:
    """Return an array of the backend in the canonical layout."""
    return np.moveaxis(y, 1, -1) if swaps(backend, layer) and y.ndim > 2 else y


def axes(backend: Backend) -> WeightAxes:
    """Return the order in which the backend wants the axes of weights."""
    return WeightAxes(backend.kernel_layout, backend.dense_layout)


def held(backend: Backend, layer: Layer, weights: Weights) -> Weights:
    """Return canonical weights in the backend's order."""
    native = axes(backend).native
    return {n: np.ascontiguousarray(native(layer, n, array)) for n, array in weights.items()}


def run(backend: Backend, layer: Layer, weights: Weights, x: Array) -> Array:
    """Return the backend's answer, canonical; skip the test where it has none."""
    try:
        call = backend.build(layer, held(backend, layer, weights))
        y = call(backend.from_numpy(native(backend, layer, x)))
    except Unsupported as reason:
        pytest.skip(str(reason))
    return canonical(backend, layer, backend.to_numpy(y))


def script(backend: Backend, layer: Layer, weights: Weights, x: Array) -> Array:
    """Return what the backend's script computes, in a namespace with nothing else."""
    namespace: dict[str, Any] = {
        "np": np,
        "x": native(backend, layer, x),
        "weights": held(backend, layer, weights),
    }
    try:
        source = backend.script(layer, namespace["x"])
    except Unsupported as reason:
        pytest.skip(str(reason))
    exec(source, namespace)  # noqa: S102 - that it runs is the claim
    return canonical(backend, layer, namespace["y"])


@pytest.fixture(params=CASES, ids=named)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def test_layer_means_what_numpy_says(backend: Backend, case: Case) -> None:
    layer, shape = case
    weights, x = arguments(layer, shape)
    y = run(backend, layer, weights, x)
    expected = NumPy().build(layer, weights)(x)
    assert y.dtype == x.dtype
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-5)


def test_script_gives_the_same_bits(backend: Backend, case: Case) -> None:
    layer, shape = case
    weights, x = arguments(layer, shape)
    y = run(backend, layer, weights, x)
    again = script(backend, layer, weights, x)
    assert again.dtype == y.dtype
    np.testing.assert_array_equal(again, y)


def test_static_shape_is_the_shape(backend: Backend, case: Case) -> None:
    layer, shape = case
    weights, x = arguments(layer, shape)
    y = native(backend, layer, run(backend, layer, weights, x))
    try:
        static = backend.output_shape(layer, native(backend, layer, x).shape)
    except Unsupported as reason:
        pytest.skip(str(reason))
    assert tuple(static) == y.shape


def test_parameters_are_the_sizes_of_the_weights(backend: Backend, case: Case) -> None:
    layer, _ = case
    try:
        count = backend.parameters(layer)
    except Unsupported as reason:
        pytest.skip(str(reason))
    assert count == sum(np.zeros(shape).size for shape in weight_shapes(layer).values())


def test_gradients_are_those_of_numpy(backend: Backend, case: Case) -> None:
    layer, shape = case
    weights, x = arguments(layer, shape)
    upstream = values(NumPy().output_shape(layer, shape), seed=2)
    inner = native(backend, layer, x), native(backend, layer, upstream)
    try:
        found = backend.gradients(layer, held(backend, layer, weights), *inner)
    except (Unsupported, NotImplementedError) as reason:  # the latter by the framework itself
        pytest.skip(str(reason))
    expected = NumPy().gradients(layer, weights, x, upstream)
    assert set(found) == {"input", *weights}
    for name, gradient in found.items():
        if name == "input":
            given = canonical(backend, layer, gradient)
        else:
            given = axes(backend).canonical(layer, name, gradient)
        np.testing.assert_allclose(given, expected[name], rtol=1e-5, atol=1e-4)


def test_script_gives_the_same_gradients(backend: Backend, case: Case) -> None:
    layer, shape = case
    weights, x = arguments(layer, shape)
    upstream = values(NumPy().output_shape(layer, shape), seed=2)
    inner = native(backend, layer, x), native(backend, layer, upstream)
    try:
        source = backend.gradient_script(layer, *inner)
        expected = backend.gradients(layer, held(backend, layer, weights), *inner)
    except (Unsupported, NotImplementedError) as reason:  # the latter by the framework itself
        pytest.skip(str(reason))
    namespace: dict[str, Any] = {"np": np, "x": inner[0], "upstream": inner[1]}
    namespace["weights"] = held(backend, layer, weights)
    exec(source, namespace)  # noqa: S102 - that it runs is the claim
    found = namespace["gradients"]
    assert list(found) == ["input", *weights]
    for name, gradient in found.items():
        np.testing.assert_array_equal(gradient, expected[name])


def test_plain_layers_are_all_there(backend: Backend) -> None:
    for layer, shape in PLAIN:
        weights, x = arguments(layer, shape)
        assert backend.supports(layer, "float32")
        call = backend.build(layer, held(backend, layer, weights))
        call(backend.from_numpy(native(backend, layer, x)))  # and raises no ``Unsupported``


@pytest.mark.parametrize("case", PLAIN, ids=named)
def test_supported_dtypes_are_taken_and_returned(backend: Backend, case: Case) -> None:
    layer, shape = case
    pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    taken = [dtype for dtype in backend.dtypes if backend.supports(layer, dtype)]
    assert "float32" in taken
    for dtype in taken:
        weights, x = arguments(layer, shape, "float32")
        kind = "uint8" if dtype == "uint8" else "int8" if "int" in dtype else dtype
        x = x.astype(np.int64).astype(kind).astype(dtype)  # integers fit, wrapped, into each
        weights = {name: array.astype(dtype) for name, array in weights.items()}
        y = run(backend, layer, weights, x)
        assert y.dtype == x.dtype
        if "int" in dtype:
            np.testing.assert_array_equal(y, NumPy().build(layer, weights)(x))


@pytest.mark.parametrize("shape", [(2, 12), TWO])
def test_tensors_come_back_as_they_were(backend: Backend, shape: Shape) -> None:
    pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    for dtype in backend.dtypes:
        x = values(shape, "int8" if "int" in dtype else "float32").astype(dtype)
        readonly = x.copy()
        readonly.setflags(write=False)
        for form in (x, x[::-1], x[..., ::2], np.asfortranarray(x), readonly):
            back = backend.to_numpy(backend.from_numpy(form))
            assert back.dtype == form.dtype
            np.testing.assert_array_equal(back, form)


def modes(adapter: type[Backend]) -> list[str]:
    """Return the modes whose packages are here: the development environment has no onnxscript."""
    there = find_spec("onnxscript") is not None
    return [
        mode for mode in adapter.modes if there or (adapter.__name__, mode) != ("Torch", "onnx")
    ]


@pytest.mark.parametrize("case", [PLAIN[0], PLAIN[6]], ids=named)
def test_modes_agree_with_the_plain_run(adapter: type[Backend], case: Case) -> None:
    layer, shape = case
    weights, x = arguments(layer, shape)
    plain = run(adapter(), layer, weights, x)
    for mode in modes(adapter):
        backend = adapter(mode)
        y = run(backend, layer, weights, x)
        np.testing.assert_allclose(y, plain, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(script(backend, layer, weights, x), y)


def test_unknown_mode_and_device_are_refused(adapter: type[Backend]) -> None:
    with pytest.raises(Unsupported):
        adapter("no-such-mode")
    with pytest.raises(Unsupported):
        adapter(device="no-such-device")


def test_draws_are_cells_of_their_windows(backend: Backend) -> None:
    layer = StochasticPool((2, 2), training=True)
    x = abs(values((64, 4, 4, 2)))
    x[0] = 0
    backend.seed(3)
    y = run(backend, layer, {}, x)
    cells = x.reshape(64, 2, 2, 2, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(64, 2, 2, 2, 4)
    drawn = y[..., None] == cells
    assert drawn.any(-1).all()
    assert not y[0].any()
    shares = cells[1:] / cells[1:].sum(-1, keepdims=True)
    spread = np.sqrt((shares * (1 - shares)).sum(axis=(0, 1, 2, 3)))
    off = drawn[1:].sum(axis=(0, 1, 2, 3)) - shares.sum(axis=(0, 1, 2, 3))
    assert (abs(off) < 5 * spread).all()


def test_equal_seeds_draw_equally(backend: Backend) -> None:
    layer, x = StochasticPool((2, 2), training=True), abs(values((64, 4, 4, 2)))
    runs = []
    for seed in (1, 1, 2):
        backend.seed(seed)
        runs.append(run(backend, layer, {}, x))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_a_built_layer_draws_by_the_seed_in_each_mode(adapter: type[Backend]) -> None:
    layer, x = StochasticPool((2, 2), training=True), abs(values((64, 4, 4, 2)))
    for mode in ("", *modes(adapter)):
        backend = adapter(mode)
        given = native(backend, layer, x)
        try:
            call = backend.build(layer, {})
            call(backend.from_numpy(given))
        except Unsupported:
            continue
        runs = []
        for seed in (1, 2):
            backend.seed(seed)
            runs.append(backend.to_numpy(call(backend.from_numpy(given))))
        assert (runs[0] != runs[1]).any(), mode


def test_min_pooling_of_a_framework_without_it_is_called_composed() -> None:
    torch = pytest.importorskip("cnnformance.adapters.torch", reason="torch is not installed")
    backend = torch.Torch()
    for layer, composed in ((MinPool((2, 2)), True), (MaxPool((2, 2)), False)):
        made = backend.build(layer, {})
        made(backend.from_numpy(np.zeros((1, 1, 3, 3), np.float32)))
        assert bool(made.note) == composed


def large() -> Iterator[tuple[Layer, int]]:
    """Yield layers with more parameters than 32 bits count, or any memory holds."""
    yield Dense(1 << 20, 1 << 20), (1 << 40) + (1 << 20)
    yield Conv((3, 3), in_channels=1 << 16, out_channels=1 << 17), 9 * (1 << 33) + (1 << 17)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_counting_needs_no_memory(name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    module = importlib.import_module(f"cnnformance.adapters.{name}")
    backend = getattr(module, ADAPTERS[name])()
    for layer, count in large():
        assert backend.parameters(layer) == count


@pytest.mark.parametrize("name", ["jax", "onnxruntime"])
def test_what_holds_no_parameters_does_not_count_those_that_it_is_given(name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    module = importlib.import_module(f"cnnformance.adapters.{name}")
    with pytest.raises(Unsupported, match="does not count parameters"):
        getattr(module, ADAPTERS[name])().parameters(Dense(2, 3))


def test_numpy_has_a_function_for_every_layer_type() -> None:
    assert set(FORWARD) == set(TYPES.values())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (MaxPool.unchecked(window=(0, 2)), TWO),
        (MaxPool.unchecked(window=(2, 2), stride=(0, 1)), TWO),
        (MaxPool.unchecked(window=(2, 2), padding=((-1, 0), (0, 0))), TWO),
        (AveragePool.unchecked(window=(2, 2), padding=((2, 2), (0, 0))), TWO),
        (MaxPool((2, 2)), ONE),
        (MaxPool((9, 2), stride=(1, 2)), TWO),
        (GlobalMaxPool(2), ONE),
        (AdaptiveMaxPool((2, 2)), ONE),
        (Conv((2, 2), in_channels=3, out_channels=2), TWO),
        (Dense(3, 2), (2, 4)),
        (Flatten(3), (2, 4)),
    ],
)
def test_numpy_refuses_what_has_no_meaning(layer: Layer, shape: Shape) -> None:
    weights = {name: np.ones(size) for name, size in weight_shapes(layer).items()}
    with pytest.raises(ValueError, match=r"."):
        NumPy().build(layer, weights)(values(shape))


def test_numpy_refuses_weights_of_other_shapes() -> None:
    layer = Dense(4, 3)
    good = {"weight": np.ones((3, 4)), "bias": np.ones(3)}
    NumPy().build(layer, good)
    for bad in ({"weight": np.ones((4, 3))}, {"bias": np.ones(4)}, {"weight": np.ones(12)}):
        with pytest.raises(ValueError, match="needs weights"):
            NumPy().build(layer, good | bad)


def test_numpy_window_one_step_too_large_gives_an_empty_output() -> None:
    assert NumPy().build(MaxPool((3, 3)), {})(values((1, 2, 6, 1))).shape == (1, 0, 2, 1)


def test_numpy_refuses_integers_in_sums() -> None:
    assert not NumPy().supports(AveragePool((2, 2)), "int32")
    with pytest.raises(ValueError, match="int32"):
        NumPy().build(AveragePool((2, 2)), {})(values(TWO, "int32"))


@pytest.mark.parametrize("kind", [MaxPool, MinPool])
@pytest.mark.parametrize("place", range(4))
def test_numpy_selections_propagate_nan(kind: type[MaxPool | MinPool], place: int) -> None:
    x = np.ones((1, 4, 1))
    x[0, place] = np.nan
    assert np.isnan(NumPy().build(kind((4,)), {})(x)).all()


def test_numpy_holds_half_precision_sums_in_float32() -> None:
    ones = np.ones((1, 64, 64, 1), np.float16)
    (mean,) = NumPy().build(GlobalAveragePool(), {})(ones).ravel()
    assert mean == 1
    assert NumPy().build(AveragePool((64, 64)), {})(ones).ravel() == [1]


def test_layers_made_unchecked_still_have_their_defaults() -> None:
    layer = MaxPool.unchecked(window=(0, 2))
    assert layer.stride == (0, 2)
    assert layer.padding == ((0, 0), (0, 0))
    with pytest.raises(LayerError, match="window"):
        layer.replace()
