"""The experiments that settle what the document compares: on what, and how figures are read off.

Images, noise and kernels are of whole numbers. What a layer computes of them is then a whole
number, the root of one, or one over the cells of a window, and an output within its error bound
of it is nearest to it alone: ``exact`` finds it whatever a correct kernel rounded, and the
figures of two correct kernels are equal (``docs/derivations.md``, section j).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache

import numpy as np

from cnnformance.adapters.backend import Array, Weights
from cnnformance.conformance import digits
from cnnformance.reference import windows
from cnnformance.spec import layers as spec


@dataclass(frozen=True)
class Figure:
    """A figure that was measured, as it is compared and as it is told."""

    value: float | Fraction
    text: str


Figures = Mapping[str, Figure]
"""Figures by their names, ``EXPERIMENT: WHAT``."""

SAYS = {
    "shift": "The whole-number images of digits, and the same moved right by one pixel: of the "
    "outputs that read any ink, before or after, the share that stays as it is. Windows of 2, "
    "kernels of 3 as trained, in eighths.",
    "noise": "The same images with noise: the standard deviation of what it adds to the outputs, "
    "over that of the noise; the level is what it adds on average, likewise.",
    "reads": "A one in each of 9 by 9 cells in turn, through three convolutions of 3 by 3 ones: "
    "the sum of the outputs is how often the cell is read.",
    "predictions": "The trained network on 200 digits, each moved by one pixel to each of four "
    "sides: the share that it takes for the same digit as before.",
    "costs": "Image 28 by 28, convolution to 32 maps, ReLU, pooling, convolution to 64, ReLU, "
    "pooling, flatten, dense to 10; and with a stride of 2 in the convolutions in the place of "
    "poolings, with neither, and with global average pooling in the place of the second pooling "
    "and the flattening. Parameters and shapes are the framework's; cells are of the input and "
    "all outputs, bytes are of cells and parameters in float32, multiplications are by weights.",
}
"""How each experiment measures its figures."""


def share(part: int, whole: int) -> Figure:
    """Return the figure of a share."""
    value = Fraction(part, whole) if whole else Fraction(0)
    return Figure(value, f"{float(value):.1%} ({part:,} of {whole:,})")


def count(value: int) -> Figure:
    """Return the figure of a number of things."""
    return Figure(Fraction(value), f"{value:,}")


def ratio(value: float) -> Figure:
    """Return the figure of a quotient that is no fraction."""
    return Figure(value, f"{value:.3g}")


@dataclass(frozen=True)
class Measurement:
    """A layer, what it is given ``times`` over, and the figures that its exact output tells."""

    layer: spec.Layer
    x: Array
    read: Callable[[Array], Figures]
    weights: Weights = field(default_factory=dict)
    times: int = 1


def exact(layer: spec.Layer, y: Array) -> Array:
    """Return in float64 the output that a layer has of whole numbers, given it as rounded.

    Raises:
        TypeError: the layer is no selection, mean, norm or convolution.
    """
    y = np.array(y, np.float64, order="C")  # sums of it are then those of any other output
    with np.errstate(all="ignore"):  # of a faulty kernel
        match layer:
            case _ if layer.exact:
                return y
            case spec.AveragePool(window=window):
                return np.asarray(np.rint(y * math.prod(window)) / math.prod(window))
            case spec.LpPool(p=2):
                return np.asarray(np.sqrt(np.rint(y * y)))
            case spec.Conv():
                return np.asarray(np.rint(y))
    raise TypeError(f"{layer}: what it has of whole numbers is not known")


EIGHTHS = 8
"""The trained kernels are rounded to whole multiples of one over this."""

_WINDOW = (2, 2)
_NAMES: Mapping[str, spec.Layer] = {
    "max pooling": spec.MaxPool(_WINDOW),
    "average pooling": spec.AveragePool(_WINDOW),
    "min pooling": spec.MinPool(_WINDOW),
    "L2 pooling": spec.LpPool(_WINDOW, p=2),
    "convolution": spec.Conv((3, 3), out_channels=8, bias=False),
    "strided convolution": spec.Conv((3, 3), stride=(2, 2), out_channels=8, bias=False),
    "padded convolution": spec.Conv((3, 3), padding="same", out_channels=8, bias=False),
}
_SHIFTED = (
    "max pooling",
    "average pooling",
    "convolution",
    "strided convolution",
    "padded convolution",
)
_NOISY = ("max pooling", "average pooling", "min pooling", "L2 pooling", "convolution")


@cache
def images() -> Array:
    """Return the digits as whole numbers from 0 to 16, in a frame of one empty pixel."""
    return np.pad(digits.load().images * 16, ((0, 0), (1, 1), (1, 1), (0, 0)))


def _weights(layer: spec.Layer) -> Weights:
    """Return the first kernels of the trained network in eighths, for a convolution."""
    if not isinstance(layer, spec.Conv):
        return {}
    return {"weight": np.rint(digits.load().weights[0]["weight"] * EIGHTHS)}


def _inked(layer: spec.Layer, x: Array) -> Array:
    """Return which windows of a layer have a cell that is not empty."""
    assert isinstance(layer, spec.Windowed)
    return np.asarray(windows(layer, x != 0, fill=False)[0].any(axis=-2))


def shifts() -> list[Measurement]:
    """Return what is measured of images that move by one pixel."""
    before, after = images(), np.roll(images(), 1, axis=2)

    def measurement(name: str, layer: spec.Layer) -> Measurement:
        def read(y: Array) -> Figures:
            old, new = np.split(y, 2)
            told = np.broadcast_to(_inked(layer, before) | _inked(layer, after), old.shape)
            return {f"shift: {name}": share(int((old == new)[told].sum()), int(told.sum()))}

        return Measurement(layer, np.concatenate([before, after]), read, _weights(layer))

    return [measurement(name, _NAMES[name]) for name in _SHIFTED]


def noises() -> list[Measurement]:
    """Return what is measured of images with noise: whole numbers from -4 to 4, all as likely."""
    clean = images()
    noise = np.random.default_rng(4).integers(-4, 5, clean.shape).astype(clean.dtype)
    spread = float(noise.std(dtype=np.float64))

    def measurement(name: str, layer: spec.Layer) -> Measurement:
        scale = EIGHTHS if isinstance(layer, spec.Conv) else 1

        def read(y: Array) -> Figures:
            without, noisy = np.split(y, 2)
            added = (noisy - without) / scale
            return {
                f"noise: {name}": ratio(float(added.std()) / spread),
                f"noise: level of {name}": ratio(float(added.mean()) / spread),
            }

        return Measurement(layer, np.concatenate([clean, clean + noise]), read, _weights(layer))

    return [measurement(name, _NAMES[name]) for name in _NOISY]


def reads() -> list[Measurement]:
    """Return what is measured of single cells that pass through three convolutions."""
    side, kernel = 9, (3, 3)
    cells = np.eye(side**2, dtype=np.float32).reshape(-1, side, side, 1)
    ones = {"weight": np.ones((*kernel, 1, 1), np.float32)}

    def measurement(name: str, layer: spec.Conv) -> Measurement:
        def read(y: Array) -> Figures:
            with np.errstate(all="ignore"):  # of a faulty kernel
                sums = np.nan_to_num(y.reshape(len(y), -1).sum(axis=1)).reshape(side, side)
            told = {"corner": sums[0, 0], "centre": sums[side // 2, side // 2]}
            return {f"reads: {place} {name}": count(int(n)) for place, n in told.items()}

        return Measurement(layer, cells, read, ones, times=3)

    return [
        measurement("without padding", spec.Conv(kernel, bias=False)),
        measurement("with padding", spec.Conv(kernel, padding="same", bias=False)),
    ]


SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0))
"""By how many rows and columns images are moved."""


def moved(x: Array, rows: int, columns: int) -> Array:
    """Return images moved by a pixel at most; what leaves is lost, and what enters is empty."""
    framed = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    _, height, width, _ = x.shape
    return framed[:, 1 - rows : 1 - rows + height, 1 - columns : 1 - columns + width]


def kept(logits: Array, *moved_logits: Array) -> Figures:
    """Return the share of moved images that are taken for the digit of the image as it was."""
    digit = logits.argmax(axis=-1)
    same = np.concatenate([other.argmax(axis=-1) == digit for other in moved_logits])
    return {"predictions: kept": share(int(same.sum()), same.size)}


def _pipeline(stride: int, first: spec.Model, second: spec.Model, features: int) -> spec.Model:
    size, steps = (3, 3), (stride, stride)
    return (
        spec.Conv(size, steps, "same", in_channels=1, out_channels=32),
        spec.ReLU(),
        *first,
        spec.Conv(size, steps, "same", in_channels=32, out_channels=64),
        spec.ReLU(),
        *second,
        spec.Dense(features, 10),
    )


_POOL, _FLAT = spec.MaxPool((2, 2)), spec.Flatten()
IMAGE = (1, 28, 28, 1)
"""The shape of the image that the pipelines take."""
PIPELINES: Mapping[str, spec.Model] = {
    "with pooling": _pipeline(1, (_POOL,), (_POOL, _FLAT), 7 * 7 * 64),
    "with stride": _pipeline(2, (), (_FLAT,), 7 * 7 * 64),
    "without": _pipeline(1, (), (_FLAT,), 28 * 28 * 64),
    "with global average pooling": _pipeline(1, (_POOL,), (spec.GlobalAveragePool(),), 64),
}
"""The document's pipeline, and three without its poolings, by what they have."""


def multiplications(layer: spec.Layer, output: spec.Shape) -> int:
    """Return how many products with a weight an output of a shape takes."""
    match layer:
        case spec.Conv(window=window, in_channels=channels, groups=groups):
            return math.prod(output) * math.prod(window) * channels // groups
        case spec.Dense(in_features=features):
            return math.prod(output) * features
    return 0


def costs(
    name: str,
    model: spec.Model,
    shapes: Sequence[spec.Shape] | None,
    parameters: int | None,
    dense: int | None,
) -> Figures:
    """Return the figures of a pipeline, given the shapes of its outputs and its parameters.

    ``dense`` are the parameters of its dense layer. What is None is in no figure.
    """
    found: dict[str, int] = {}
    if parameters is not None:
        found["parameters"] = parameters
    if dense is not None:
        found["dense parameters"] = dense
    if parameters is not None and dense is not None:
        found["convolution parameters"] = parameters - dense
    if shapes is not None:
        found["cells"] = sum(map(math.prod, (IMAGE, *shapes)))
        each = zip(model, shapes, strict=True)
        found["multiplications"] = sum(itertools.starmap(multiplications, each))
        if parameters is not None:
            found["bytes"] = 4 * (found["cells"] + parameters)
    return {f"costs: {what} {name}": count(n) for what, n in found.items()}
