"""The trained network is what it claims to be, and classifies images it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnformance.conformance.digits import PATH, load, save
from cnnformance.reference import forward_model
from cnnformance.spec.layers import weight_shapes

DIGITS = load()
LOGITS = forward_model(DIGITS.layers, list(DIGITS.weights), DIGITS.images)


def test_the_layers_are_the_pipeline_of_the_document() -> None:
    names = [type(layer).__name__ for layer in DIGITS.layers]
    assert names == ["Conv", "ReLU", "MaxPool", "Conv", "AveragePool", "Flatten", "Dense"]


def test_the_weights_have_the_canonical_shapes() -> None:
    for layer, weights in zip(DIGITS.layers, DIGITS.weights, strict=True):
        assert {name: array.shape for name, array in weights.items()} == weight_shapes(layer)
        assert all(array.dtype == np.float32 for array in weights.values())
        assert all(np.isfinite(array).all() for array in weights.values())


def test_the_images_are_exact_sixteenths() -> None:
    images = DIGITS.images
    assert images.dtype == np.float32
    assert images.shape == (len(DIGITS.labels), 8, 8, 1)
    assert np.array_equal(images * 16, np.clip(np.rint(images * 16), 0, 16))
    assert set(DIGITS.labels) == set(range(10))


def test_the_images_are_those_of_the_data_set() -> None:
    data = pytest.importorskip("sklearn.datasets").load_digits()
    known = {image.tobytes(): label for image, label in zip(data.images, data.target, strict=True)}
    sixteenths = (DIGITS.images[..., 0] * 16).astype(np.float64)
    assert [known[image.tobytes()] for image in sixteenths] == list(DIGITS.labels)


def test_at_least_95_percent_of_the_images_are_recognised() -> None:
    assert LOGITS.shape == (len(DIGITS.labels), 10)
    assert np.mean(LOGITS.argmax(axis=1) == DIGITS.labels) >= 0.95


def test_no_two_best_logits_are_so_close_that_rounding_could_swap_them() -> None:
    ordered = np.sort(LOGITS, axis=1)
    assert np.min(ordered[:, -1] - ordered[:, -2]) > 1e-3


def test_saving_what_was_read_gives_the_same_file(tmp_path: Path) -> None:
    save(DIGITS, tmp_path / "digits.npz")
    assert (tmp_path / "digits.npz").read_bytes() == PATH.read_bytes()
    assert PATH.stat().st_size < 120_000
