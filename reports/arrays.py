"""Arrays in records: small ones as readable lists, large ones compressed."""

from __future__ import annotations

import base64
import math
import warnings
import zlib
from typing import Any

import ml_dtypes
import numpy as np

from cnnformance.reports.records import Array, encode

LISTED = 256
"""The most elements that are written as a nested list."""

NDArray = np.ndarray[Any, np.dtype[Any]]


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)


def pack(array: NDArray) -> Array:
    """Return an array as a record. Every value survives; the payload of a NaN in a list does not.

    Above ``LISTED`` elements the data is the base64 of the zlib-compressed little-endian bytes
    in C order.
    """
    name, shape = array.dtype.name, tuple(array.shape)
    if array.size <= LISTED:
        return Array(name, shape, encode(array))
    little = array.astype(array.dtype.newbyteorder("<")) if array.dtype.byteorder == ">" else array
    return Array(name, shape, base64.b64encode(zlib.compress(little.tobytes())).decode())


def unpack(array: Array) -> NDArray:
    """Return the array that a record holds, in its dtype and shape."""
    dtype = _dtype(array.dtype)
    if isinstance(array.data, str) and array.shape:
        size = math.prod(array.shape) * dtype.itemsize
        data = zlib.decompressobj().decompress(base64.b64decode(array.data), size + 1)
        flat = np.frombuffer(data, dtype)
        return flat.reshape(array.shape)
    exact = np.float64 if dtype.kind == "V" or dtype.name == "bfloat16" else dtype
    return np.array(array.data, exact).astype(dtype).reshape(array.shape)


def text(array: Array, most: int = LISTED) -> str:
    """Return dtype, shape and values; the middle of an array of over ``most`` values is left out.

    A record that cannot be unpacked is shown as it stands.
    """
    head = f"{array.dtype}{list(array.shape)}"
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            values = unpack(array)
    except (ValueError, TypeError, ArithmeticError, SyntaxError, MemoryError, zlib.error) as error:
        return f"{head}: unreadable ({error})"
    shown = np.array2string(values, separator=", ", floatmode="unique", threshold=most)
    return f"{head} =\n{shown}"
