"""Train the network of ``conformance/digits.py`` and write ``conformance/digits.npz``.

Needs torch and scikit-learn. The seed is fixed; another version of torch may still give slightly
different weights, which is why the trained ones are kept.

    python benchmarks/train_digits.py [OUTPUT]
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # ships no types
from torch.nn import functional

from cnnformance.conformance.digits import LAYERS, PATH, Digits, save
from cnnformance.spec.layers import (
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    ReLU,
    weight_shapes,
)

HELD_OUT = 200
EPOCHS = 60
BATCH = 64
SEED = 21

Parameters = dict[str, torch.Tensor]


def initial(layer: Layer) -> Parameters:
    """Draw a layer's weights: normal with variance 2 / fan-in (He et al. 2015), zero bias."""
    if not layer.has_weights:
        return {}
    shapes = weight_shapes(layer)
    fan_in = math.prod(shapes["weight"]) / math.prod(shapes["bias"])
    weight = torch.randn(shapes["weight"]) * math.sqrt(2 / fan_in)
    return {"weight": weight.requires_grad_(), "bias": torch.zeros(shapes["bias"]).requires_grad_()}


def apply(layer: Layer, weights: Parameters, x: torch.Tensor) -> torch.Tensor:
    """Compute one layer on images in torch's channels-first order."""
    match layer:
        case Conv():
            kernel = weights["weight"].permute(3, 2, 0, 1)
            return functional.conv2d(x, kernel, weights["bias"], layer.stride)
        case ReLU():
            return functional.relu(x)
        case MaxPool():
            return functional.max_pool2d(x, layer.window, layer.stride)
        case AveragePool():
            return functional.avg_pool2d(x, layer.window, layer.stride)
        case Flatten():
            return x.permute(0, 2, 3, 1).flatten(layer.start)  # the canonical order of features
        case Dense():
            return functional.linear(x, weights["weight"], weights["bias"])
    raise TypeError(layer)


def logits(parameters: list[Parameters], x: torch.Tensor) -> torch.Tensor:
    """Run the whole network."""
    for layer, weights in zip(LAYERS, parameters, strict=True):
        x = apply(layer, weights, x)
    return x


def main(path: Path) -> None:
    """Train, print the accuracy on the held-out images, and write the file."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)  # the order of summation depends on the number of threads
    pixels, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(digits))
    images = (pixels[order].reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    labels = digits[order].astype(np.int64)
    x, y = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)
    train_x, train_y, test_x, test_y = x[HELD_OUT:], y[HELD_OUT:], x[:HELD_OUT], y[:HELD_OUT]

    parameters = [initial(layer) for layer in LAYERS]
    trained = [array for weights in parameters for array in weights.values()]
    optimizer = torch.optim.Adam(trained, lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        shuffled = torch.randperm(len(train_x))
        for start in range(0, len(shuffled), BATCH):
            rows = shuffled[start : start + BATCH]
            optimizer.zero_grad()
            loss = functional.cross_entropy(logits(parameters, train_x[rows]), train_y[rows])
            torch.autograd.backward(loss)
            optimizer.step()
        schedule.step()

    with torch.no_grad():
        correct = (logits(parameters, test_x).argmax(1) == test_y).float().mean().item()
    print(f"accuracy on {HELD_OUT} held-out images: {correct:.1%}")
    weights = tuple({name: a.detach().numpy() for name, a in w.items()} for w in parameters)
    save(Digits(LAYERS, weights, images[:HELD_OUT], labels[:HELD_OUT]), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PATH)
