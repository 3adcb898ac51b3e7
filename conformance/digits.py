"""A small trained network: the document's pipeline on real images.

Image, convolution, ReLU, pooling, convolution, pooling, flatten, dense, output: every layer type
of the pipeline once, with weights that a training has found rather than a random generator.
``benchmarks/train_digits.py`` made the file beside this one.

Images and labels: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI
Machine Learning Repository, 1998, doi:10.24432/C50P49, licence CC BY 4.0; taken from
scikit-learn's copy (``sklearn.datasets.load_digits``) and divided by 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnformance.spec.layers import AveragePool, Conv, Dense, Flatten, Layer, MaxPool, ReLU

Array = np.ndarray[Any, np.dtype[Any]]

PATH = Path(__file__).with_name("digits.npz")

# The windows of the first pooling overlap, and the second leaves 2x2 cells, so that the order
# in which Flatten joins cells and channels matters to the dense layer.
LAYERS: tuple[Layer, ...] = (
    Conv((3, 3), in_channels=1, out_channels=8),
    ReLU(),
    MaxPool((2, 2), stride=(1, 1)),
    Conv((2, 2), in_channels=8, out_channels=16),
    AveragePool((2, 2)),
    Flatten(),
    Dense(2 * 2 * 16, 10),
)


@dataclass(frozen=True)
class Digits:
    """The trained network and images that its training did not see.

    Attributes:
        layers: the model.
        weights: for each layer its float32 arrays, of the shapes and names that
            ``spec.layers.weight_shapes`` gives; empty for a layer without weights.
        images: float32 of shape ``(n, 8, 8, 1)``: multiples of 1/16 from 0 to 1, white on black.
        labels: int64 of shape ``(n,)``: the digit that each image shows.
    """

    layers: tuple[Layer, ...]
    weights: tuple[Mapping[str, Array], ...]
    images: Array
    labels: Array


def save(digits: Digits, path: Path = PATH) -> None:
    """Write weights, images and labels; equal contents give an equal file."""
    weights = {
        f"{index}.{name}": array
        for index, arrays in enumerate(digits.weights)
        for name, array in arrays.items()
    }
    # savez's own parameters stand before **kwds, so that a checker sees them as targets
    arrays: dict[str, Any] = {"images": digits.images, "labels": digits.labels, **weights}
    np.savez_compressed(path, **arrays)


def load(path: Path = PATH) -> Digits:
    """Read the network, its weights, and the held-out images with their labels."""
    with np.load(path, allow_pickle=False) as file:
        weights: list[dict[str, Array]] = [{} for _ in LAYERS]
        for key in file.files:
            index, _, name = key.partition(".")
            if name:
                weights[int(index)][name] = file[key]
        return Digits(LAYERS, tuple(weights), file["images"], file["labels"])
