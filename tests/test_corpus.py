"""The corpora themselves: honest kernels agree, and each fault shows under its witness."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from corpus.correct import CORRECT, ChannelsFirst, HalfSum, NaNIgnored, NoEmptyBatch
from corpus.fault import Fault, distance, weights_of, whole
from corpus.faults_precision import LONG
from corpus.faulty import FAULTS
from corpus.hostile import HOSTILE
from corpus.kernels import FLOATS, INTEGERS, SELECTING, Honest
from corpus.winograd import Matrix, transforms

from cnnformance.adapters.backend import Array, Unsupported
from cnnformance.spec import layers as spec
from cnnformance.spec.layers import Layer

UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
TERMS = 1000
"""More than the magnitudes that any sum below adds, relative to its result."""


def layers(rank: int) -> list[Layer]:
    window = ((5,), (3, 2), (2, 3, 2))[rank - 1]
    stride, pads = (2,) * rank, ((1, 0),) * rank
    found: list[Layer] = [
        spec.GlobalAveragePool(rank),
        spec.GlobalMaxPool(rank),
        spec.AdaptiveAveragePool((3,) * rank),
        spec.AdaptiveMaxPool((3,) * rank),
        spec.StochasticPool(window),
        spec.LpPool(window, p=3),
        spec.AveragePool(window, stride, pads, ceil_mode=True, count_include_pad=True),
        spec.AveragePool(window, stride, "same_lower"),
        spec.ReLU(),
        spec.Flatten(),
        spec.Dense(4, 3),
    ]
    for kind in (spec.MaxPool, spec.MinPool, spec.AveragePool, spec.LpPool):
        found += [kind(window), kind(window, stride, pads, (2,) * rank, ceil_mode=True)]
        found += [kind(window, stride, "same")]
    for groups in (1, 2):
        channels: dict[str, Any] = {"in_channels": 4, "out_channels": 6, "groups": groups}
        found += [spec.Conv(window, **channels), spec.Conv(window, stride, pads, **channels)]
    return [*found, spec.Conv((3,) * rank, padding="same", in_channels=4, out_channels=2)]


LAYERS = [(layer, rank) for rank in (1, 2, 3) for layer in layers(rank)]


def image(rank: int, dtype: str) -> Array:
    spatial = ((17,), (9, 8), (5, 6, 4))[rank - 1]
    return np.random.default_rng(rank).random((2, *spatial, 4)).astype(dtype)


def asked(backend: Honest, layer: Layer, x: Array) -> Array:
    """Ask in the backend's layout."""
    moves = isinstance(backend, ChannelsFirst) and backend._image(layer)
    y: Array = backend.build(layer, weights_of(layer, x.dtype.name))(
        np.moveaxis(x, -1, 1) if moves else x
    )
    return np.moveaxis(y, 1, -1) if moves and y.ndim > 2 else y


@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_backend_agrees_with_the_honest_one(name: str) -> None:
    backend, honest, agreed = CORRECT[name](), Honest(), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for layer, rank in LAYERS:
            for dtype, unit in UNITS.items():
                x = image(rank, dtype)
                for special in (x, x[:0], x * 0, np.where(x > 0.9, x.dtype.type(math.inf), x)):
                    if not backend.supports(layer, dtype):
                        continue
                    if isinstance(backend, NoEmptyBatch) and len(special) == 0:
                        with pytest.raises(ValueError, match="an empty batch"):
                            asked(backend, layer, special)
                        continue
                    try:
                        found = asked(backend, layer, special)
                    except Unsupported:
                        continue
                    expected = asked(honest, layer, special)
                    own = 120 * unit if isinstance(backend, HalfSum) else 0
                    allowed = 4 * unit + TERMS * min(unit, UNITS["float32"]) + own
                    assert distance(found, expected) < allowed, (layer, dtype)
                    agreed += 1
    assert agreed > 100


@pytest.mark.parametrize("name", CORRECT)
def test_static_shapes_are_those_of_outputs(name: str) -> None:
    backend, honest = CORRECT[name](), Honest()
    for layer, rank in LAYERS:
        x = image(rank, "float32")
        moves = isinstance(backend, ChannelsFirst) and backend._image(layer)
        shape = np.moveaxis(x, -1, 1).shape if moves else x.shape
        try:
            found = backend.output_shape(layer, shape)
        except Unsupported:
            continue
        if moves and len(found) > 2:
            found = (found[0], *found[2:], found[1])
        assert found == asked(honest, layer, x).shape


@pytest.mark.parametrize(("layer", "rank"), LAYERS, ids=repr)
def test_honest_gradients_are_differences(layer: Layer, rank: int) -> None:
    x, step = image(rank, "float64")[:1], 1e-6
    weights = weights_of(layer, "float64")
    call = Honest().build(layer, weights)
    upstream = whole(*call(x).shape, dtype="float64")
    found = Honest().gradients(layer, weights, x, upstream)
    direction = np.random.default_rng(0).normal(size=x.shape)
    risen, fallen = call(x + step * direction), call(x - step * direction)
    slope = ((risen - fallen) * upstream).sum() / (2 * step)
    assert (found["input"] * direction).sum() == pytest.approx(slope, rel=1e-5, abs=1e-6)
    for name, weight in weights.items():
        bump = np.random.default_rng(1).normal(size=weight.shape)
        moved = [{**weights, name: weight + sign * bump} for sign in (1, -1)]
        risen, fallen = (Honest().build(layer, held)(x) for held in moved)
        slope = ((risen - fallen) * upstream).sum() / 2
        assert (found[name] * bump).sum() == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_honest_selection_takes_integers(dtype: str) -> None:
    for layer, rank in LAYERS:
        if isinstance(layer, SELECTING):
            high = 100 if dtype == "uint8" else -1
            x = whole(*image(rank, "float32").shape, dtype=dtype, low=high - 20, high=high)
            wide = asked(Honest(), layer, x.astype(np.float64))
            found = asked(Honest(), layer, x)
            assert found.dtype == dtype
            cells = np.isfinite(wide)  # a window that lies in the padding gives the limit
            assert np.array_equal(found[cells], wide[cells])


@pytest.mark.parametrize(("outputs", "cells"), [(2, 3), (4, 3), (6, 3), (2, 5), (4, 5), (1, 1)])
def test_winograd_is_exact_in_fractions(outputs: int, cells: int) -> None:
    image, kernel, result = transforms(outputs, cells)
    rng = np.random.default_rng(outputs)
    x = [Fraction(int(n)) for n in rng.integers(-99, 99, outputs + cells - 1)]
    w = [Fraction(int(n)) for n in rng.integers(-99, 99, cells)]

    products = [a * b for a, b in zip(times(image, x), times(kernel, w), strict=True)]
    direct = [sum(w[k] * x[i + k] for k in range(cells)) for i in range(outputs)]

    assert times(result, products) == direct


def times(matrix: Matrix, vector: list[Fraction]) -> list[Fraction]:
    return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction()) for row in matrix]


FAST = {
    "Winograd": (1e-7, 1e-5),
    "Winograd4": (1e-7, 1e-4),
    "Winograd6": (1e-7, 1e-3),
    "FFTSingle": (1e-7, 1e-5),
}
"""How far each may be off, and is, in a sum of 144 products of normal numbers."""


@pytest.mark.parametrize("name", FAST)
def test_a_fast_convolution_is_used_and_off_by_little(name: str) -> None:
    layer = spec.Conv((3, 3), in_channels=16, out_channels=2)
    x = np.random.default_rng(0).standard_normal((2, 14, 15, 16)).astype(np.float32)
    weights = {n: a / 9 for n, a in weights_of(layer).items()}
    plain, fast = (CORRECT[n]().build(layer, weights)(x) for n in ("Native", name))
    honest = Honest().build(layer, weights)(x)
    least, most = FAST[name]

    assert not np.array_equal(fast, plain)
    assert least < distance(fast, honest) < most


@pytest.mark.parametrize("name", ["Winograd", "Winograd4", "Winograd6"])
def test_a_winograd_convolution_is_for_plain_windows(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((1, 9, 9, 2)).astype(np.float32)
    layer = spec.Conv((3, 3), in_channels=2, out_channels=2)
    others = (
        layer.replace(stride=(2, 2)),
        layer.replace(dilation=(2, 2)),
        layer.replace(window=(1, 1)),
        layer.replace(groups=2),
    )
    for other in others:
        weights = weights_of(other)
        fast, plain = (CORRECT[n]().build(other, weights)(x) for n in (name, "Native"))
        assert np.array_equal(fast, plain)


def test_strassen_multiplies_by_seven_products() -> None:
    layer = spec.Dense(7, 5)
    x = np.random.default_rng(0).standard_normal((9, 7)).astype(np.float32)
    plain, fast = (
        CORRECT[name]().build(layer, weights_of(layer)) for name in ("Native", "Strassen")
    )

    assert np.array_equal(fast(np.rint(9 * x)), plain(np.rint(9 * x)))
    assert 0 < distance(fast(x), plain(x)) < 1e-5


@pytest.mark.parametrize("dtype", FLOATS[:2])
def test_sums_of_halves_in_halves_round_more_and_keep_whole_numbers(dtype: str) -> None:
    layer = spec.Dense(20, 3)
    x = np.random.default_rng(0).standard_normal((9, 20)).astype(dtype)
    weights = {name: w.astype(dtype) for name, w in weights_of(layer).items()}
    for name in ("PairwiseHalfSum", "ShortHalfSum"):
        plain, narrow = (CORRECT[n]().build(layer, weights) for n in ("Native", name))

        assert distance(narrow(x), plain(x)) > UNITS[dtype]
        assert np.array_equal(narrow(np.sign(x)), plain(np.sign(x)))


NORMS = ("QuotientNormGradient", "PowerNormGradient", "ChainedNormGradient", "InverseRootNorm")


@pytest.mark.parametrize("name", NORMS)
def test_gradients_of_norms_agree_by_any_formula(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 9, 3)).astype(np.float32)
    x[0] = 0
    for p in (1, 2, 3, 5):
        layer, upstream = spec.LpPool((3,), (2,), p=p), np.ones((2, 4, 3), np.float32)
        found, honest = (
            backend.gradients(layer, {}, x, upstream) for backend in (CORRECT[name](), Honest())
        )

        assert distance(found, honest) < 16 * UNITS["float32"]


VARIANTS = ("SequentialSum", "ReversedSum", "LanesSum", "PrescaledMean", "NormFromMean", "Native")


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_shows_under_its_witness(fault: Fault) -> None:
    honest = fault.witness(Honest())
    try:
        shown = distance(fault.witness(fault.make()()), honest)
    except Exception:  # noqa: BLE001 - an exception where the honest backend answers shows it
        shown = math.inf
    for name in VARIANTS:
        assert distance(fault.witness(CORRECT[name]()), honest) < shown, name
    assert shown > 0


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_lies_in_its_layer_alone(fault: Fault) -> None:
    faulty, honest = fault.make()(), Honest()
    for layer, rank in LAYERS:
        if type(layer).__name__ != fault.layer:
            x = image(rank, "float32")[:1]
            assert np.array_equal(asked(faulty, layer, x), asked(honest, layer, x)), layer


def test_the_corpora_are_large_and_varied() -> None:
    assert len(CORRECT) >= 50
    assert len(FAULTS) >= 600
    assert len(HOSTILE) >= 50
    names = [fault.make().__name__ for fault in FAULTS.values()]
    assert len(set(names)) == len(names)
    assert {fault.layer for fault in FAULTS.values()} == set(spec.TYPES)
    precise = Counter(f.layer for f in FAULTS.values() if f.fault_class == "precision")
    assert precise.total() >= 200
    assert min(precise[kind.__name__] for kind in LONG) >= 10


def test_nan_is_ignored_but_where_there_is_nothing_else() -> None:
    x = np.array([math.nan, 1, math.nan, math.nan]).reshape(1, 4, 1)
    y = NaNIgnored().build(spec.MaxPool((2,)), {})(x).ravel()
    assert y[0] == 1
    assert math.isnan(y[1])


def test_all_dtypes_are_known_to_numpy() -> None:
    assert all(np.dtype(name).name == name for name in (*FLOATS, *INTEGERS))
