"""Arrays as Python source: short where they can be, bit for bit (NaN payloads apart)."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.adapters.memory import arranged
from cnnformance.spec.layers import Shape

LISTED = 200
"""The most elements that are written out as a list."""
_APART = 12
"""The most elements of an array of one value that are another."""
_LONGEST = 4000
"""The most characters of an array that is written as bytes."""

RECIPES: Mapping[str, Callable[[Shape], Array]] = {
    "np.ones({shape})": np.ones,
    "(np.arange({size}) % 7 - 3).reshape({shape})": lambda shape: (
        np.arange(np.prod(shape, dtype=int)) % 7 - 3
    ).reshape(shape),
    "np.random.default_rng(0).integers(-4, 5, {shape})": lambda shape: np.random.default_rng(
        0
    ).integers(-4, 5, shape),
}
"""Large arrays that a line makes, the plainest first, by their source."""

ARRANGED: Mapping[str, str] = {
    "contiguous": "",
    "fortran": "{name} = np.asfortranarray({name})",
    "strided": "{name} = np.repeat({name}, 2, axis=-1)[..., ::2]",
    "reversed": "{name} = np.ascontiguousarray(np.flip({name}))[{flip}]",
    "sliced": "{name} = np.repeat({name}, 2, axis=0)[::2]",
    "narrowed": "{name} = np.pad({name}, {last}, constant_values=1)[..., :-1]",
    "cropped": "{name} = np.pad({name}, {inner}, constant_values=1)[{crop}]",
    "broadcast": "{name} = np.broadcast_to({name}[{ones}], {name}.shape)",
    "offset": "{name} = np.append({name}.ravel()[:1], {name}.ravel())[1:].reshape({name}.shape)",
    "readonly": "{name}.setflags(write=False)",
}
"""Source that lays an array out in memory as ``memory.arranged`` does."""


class TooLarge(Exception):  # noqa: N818 - an answer
    """An array has no source that is short enough."""


def _dtype(array: Array) -> str:
    return "ml_dtypes.bfloat16" if array.dtype.name == "bfloat16" else f"np.{array.dtype.name}"


def _bits(array: Array) -> bytes:
    """Return what must be equal for two arrays to be: all NaNs of one sign are alike."""
    if array.dtype.kind in "iub":
        return array.tobytes()
    nan = np.isnan(array)
    signs = (nan & np.signbit(array)).tobytes()
    return np.where(nan, np.zeros((), array.dtype), array).tobytes() + nan.tobytes() + signs


def _listed(array: Array) -> str:
    """Return the elements as Python shows them, exactly."""
    exact = array if array.dtype.kind in "iub" else array.astype(np.float64)
    return repr(exact.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")


def written(name: str, array: Array) -> list[str]:
    """Return lines that set a name to the array, in C order.

    They need ``np``, of bfloat16 ``ml_dtypes``, and may import more.

    Raises:
        TooLarge: there are none below a few thousand characters.
    """
    dtype, shape = _dtype(array), array.shape
    signed = array.dtype.kind not in "iub" and bool((np.isnan(array) & np.signbit(array)).any())
    if array.size == 0:
        return [f"{name} = np.empty({shape}, {dtype})"]
    first = array.ravel()[:1]
    apart = np.argwhere(_apart(array, first))
    if array.size > 8 and len(apart) <= _APART and not signed:
        lines = [f"{name} = np.full({shape}, {_listed(first[0])}, {dtype})"]
        return lines + [f"{name}[{_at(i)}] = {_listed(array[tuple(i)])}" for i in apart]
    if array.size <= LISTED and not signed:
        return [f"{name} = np.array({_listed(array)}, {dtype})"]
    rows = array.reshape(len(array), -1)
    if array.ndim > 1 and not _apart(rows, rows[:, :1]).any():
        axes = (-1, *[1] * (array.ndim - 1))
        spread = f"{name} = np.broadcast_to(each.reshape({axes}), {shape}).copy()"
        return [*written("each", rows[:, 0]), spread]
    for source, make in RECIPES.items():
        if _bits(make(shape).astype(array.dtype)) == _bits(array):
            made = source.format(shape=shape, size=array.size)
            return [f"{name} = {made}.astype({dtype})"]
    packed = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
    if len(packed) > _LONGEST:
        raise TooLarge(f"{name} has {array.size} elements")
    return [
        "import base64, zlib",
        f'{name} = np.frombuffer(zlib.decompress(base64.b64decode("{packed}")), {dtype})',
        f"{name} = {name}.reshape({shape}).copy()",
    ]


def _apart(array: Array, value: Array) -> Array:
    """Return which elements are not this value."""
    same = array == value
    if array.dtype.kind not in "iub":
        same = (same & (np.signbit(array) == np.signbit(value))) | (
            np.isnan(array) & np.isnan(value)
        )
    return np.asarray(~same)


def _at(index: Array) -> str:
    return ", ".join(str(int(i)) for i in index)


def laid_out(name: str, array: Array, memory: str) -> list[str]:
    """Return lines that lay the array of a name out in memory, as ``memory.arranged`` does."""
    if memory == "contiguous" or array.ndim == 0:
        return []
    lain = arranged(array, memory)
    flip = ", ".join(["::-1"] * array.ndim)
    inner = [(0, int(0 < axis < array.ndim - 1)) for axis in range(array.ndim)]
    crop = ", ".join(":-1" if after else ":" for _, after in inner)
    last = [(0, int(axis == array.ndim - 1)) for axis in range(array.ndim)]
    ones = ", ".join(":1" if step == 0 else ":" for step in lain.strides)
    words = {"flip": flip, "inner": inner, "crop": crop, "last": last, "ones": ones}
    return [f"{ARRANGED[memory].format(name=name, **words)}  # as it lay in memory"]
