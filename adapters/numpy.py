"""NumPy as a backend, complete, and independent of the reference: each layer is a function."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from math import prod
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array, Backend, Weights
from cnnformance.adapters.numpy_gradients import gradients
from cnnformance.adapters.numpy_layers import (
    FORWARD,
    SELECTIONS,
    geometry,
    sources,
    widen,
    window_of,
)
from cnnformance.spec.layers import (
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    Shape,
    StochasticPool,
    Windowed,
    weight_shapes,
)

HALVES = ("float16", "bfloat16") if find_spec("ml_dtypes") else ("float16",)
FLOATS = ("float32", "float64", *HALVES)
INTEGERS = ("int8", "int16", "int32", "int64", "uint8")


class NumPy(Backend):
    """The layers of ``numpy_layers``."""

    dtypes = (*FLOATS, *INTEGERS)
    devices = ("cpu",)

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Raise ``Unsupported`` for a mode, or a device other than the CPU."""
        super().__init__(mode, device)
        self.generator = np.random.default_rng()

    def version(self) -> str:
        """Return NumPy's version."""
        return np.__version__

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Integers are selected and moved, and never summed."""
        return dtype in FLOATS or (dtype in INTEGERS and isinstance(layer, SELECTIONS))

    def build(self, layer: Layer, weights: Weights) -> Callable[[Array], Array]:
        """Return the layer's function with its fields. Raises ``ValueError`` for an invalid one."""
        layer = layer.replace()
        shapes = {name: array.shape for name, array in weights.items()}
        if shapes != weight_shapes(layer):
            raise ValueError(f"{layer} needs weights {weight_shapes(layer)}, and not {shapes}")
        arguments: dict[str, Any] = {"weights": weights} if layer.has_weights else {}

        def call(x: Array) -> Array:
            if isinstance(layer, StochasticPool):
                arguments["generator"] = self.generator
            with np.errstate(all="ignore"):
                return FORWARD[type(layer)](x, **arguments, **vars(layer))

        return call

    def seed(self, seed: int) -> None:
        """Seed the draws of stochastic pooling."""
        self.generator = np.random.default_rng(seed)

    def parameters(self, layer: Layer) -> int:
        """Return the sizes of arrays of the weights' shapes, which take no memory."""
        return sum(np.broadcast_to(0, shape).size for shape in weight_shapes(layer).values())

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """Return the shape of the output."""
        layer = layer.replace()
        match layer:
            case Windowed():
                window = window_of(layer)
                channels = layer.out_channels if isinstance(layer, Conv) else shape[-1]
                return (shape[0], *geometry(shape[1:-1], **window)[1], channels)
            case GlobalMaxPool() | GlobalAveragePool():
                return (shape[0], shape[-1])
            case AdaptiveMaxPool() | AdaptiveAveragePool():
                return (shape[0], *layer.output, shape[-1])
            case Flatten():
                if len(shape) < layer.start:
                    raise ValueError(f"an input of {len(shape)} axes has no axis {layer.start}")
                return (*shape[: layer.start], prod(shape[layer.start :]))
            case Dense():
                return (*shape[:-1], layer.out_features)
            case _:
                return shape

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Return the gradients of ``sum(layer(x) * upstream)``, for a deterministic layer."""
        layer = layer.replace()
        wide = {name: widen(array) for name, array in weights.items()}
        with np.errstate(all="ignore"):
            found = gradients(layer, wide, widen(x), widen(upstream))
        return {name: gradient.astype(x.dtype) for name, gradient in found.items()}

    def script(self, layer: Layer, x: Array) -> str:
        """Return the functions that the layer needs, and their call."""
        del x
        function = FORWARD[type(layer)]
        arguments = ["x", *(["weights"] if layer.has_weights else [])]
        arguments += [f"{name}={value!r}" for name, value in vars(layer).items()]
        head = """from __future__ import annotations

from functools import reduce
from importlib.util import find_spec
from math import prod

import numpy as np

print("NumPy", np.__version__)
"""
        call = f"""with np.errstate(all="ignore"):
    y = {function.__name__}({", ".join(arguments)})
"""
        return "\n\n".join([head, *sources(function, {}).values(), call])
