"""A table of NumPy's own functions, which tests ask and break."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnformance.adapters.backend import Unsupported, Weights
from cnnformance.adapters.calls import Call, Tensor, call
from cnnformance.adapters.table import BIAS, WEIGHT, Definition, Table
from cnnformance.spec.layers import (
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    ReLU,
    weight_shapes,
)


def negated_max(table: Table, layer: Any, x: Tensor) -> Call:
    """Make a least value of a largest."""
    fields = GlobalMaxPool.unchecked(**vars(layer))
    return call("np.negative", table.native(fields, x.after(call("np.negative", x))))


class Numeric(Table):
    """NumPy's own functions, as a table."""

    dense_layout = "io"
    dtypes = ("float32", "float64", "bfloat16")
    imports = "import math"
    printed = 'print("NumPy", np.__version__)'
    compositions = {GlobalAveragePool: negated_max}  # noqa: RUF012 - a table of a test

    def native(self, layer: Layer, x: Tensor) -> Call:
        match layer:
            case ReLU():
                return call("np.maximum", x, 0)
            case Flatten(start):
                return call("np.reshape", x, x.joined(start))
            case GlobalMaxPool(rank):
                return call("np.max", x, tuple(range(1, rank + 1)))
            case Dense():
                y = call("np.matmul", x, WEIGHT)
                return call("np.add", y, BIAS) if layer.bias else y
        raise Unsupported(f"there is no {type(layer).__name__}")

    def counted(self, layer: Layer, made: Definition) -> list[str]:  # noqa: ARG002 - the interface's
        sizes = list(self.axes.native_shapes(layer).values())
        return [f"count = sum(math.prod(size) for size in {sizes})"]

    def backward(
        self,
        layer: Layer,
        made: Definition,
        x: str,
        upstream: str,
        dtype: str,  # noqa: ARG002 - likewise
    ) -> list[str]:
        if not isinstance(layer, Dense):
            raise Unsupported("only of dense layers")
        return [f"y = {made.call(x)}", f"gradients = {{'input': {upstream} @ weight.T}}"]


def held(layer: Layer) -> Weights:
    """Return canonical weights of distinct numbers."""
    sizes = weight_shapes(layer).items()
    return {n: np.arange(np.prod(s), dtype=np.float32).reshape(s) for n, s in sizes}
