"""Cases by design, of samples and weights that are not finite."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from cnnformance.adapters.wire import dtype_named
from cnnformance.conformance.cases import Case, given
from cnnformance.conformance.parametrize import FLOATS
from cnnformance.spec import layers as spec


def spoilt_samples() -> Iterator[Case]:
    """Yield dense layers of many samples, some of which begin or end on what is not finite.

    Kernels that round the number of features up read on into the next sample, or weight.
    """
    for dtype, features in itertools.product(FLOATS, (3, 15, 31, 33, 65)):
        x = np.ones((36, features), dtype_named(dtype))
        x[[5, 20], 0] = np.inf, np.nan
        x[[11, 30], -1] = np.nan, -np.inf
        layer = spec.Dense(features, 2, bias=False)
        yield given(layer, x, weight=np.ones((2, features), x.dtype))


def infinite_biases(layer_type: type[spec.Layer]) -> Iterator[Case]:
    """Yield samples with a NaN, with an infinity of either sign and with neither.

    The biases are infinite too, of either sign, or zero: opposite infinities make a NaN, and no
    infinity hides one.
    """
    is_dense = issubclass(layer_type, spec.Dense)
    channels = {"in_channels": 3, "out_channels": 3}
    layer = layer_type(3, 3) if is_dense else layer_type(window=(1,), **channels)  # type: ignore[call-arg] # the two types with weights
    shape = (4, 3) if is_dense else (4, 2, 3)
    for dtype in map(dtype_named, FLOATS):
        x = np.ones(shape, dtype)
        x[:3, ..., 0] = np.array([np.nan, np.inf, -np.inf], dtype).reshape(3, *(1,) * (x.ndim - 2))
        held = {n: np.ones(size, dtype) for n, size in spec.weight_shapes(layer).items()}
        yield given(layer, x, **{**held, "bias": np.array([np.inf, -np.inf, 0], dtype)})
