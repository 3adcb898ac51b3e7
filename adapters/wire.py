"""The wire between the suite and a worker: a JSON header and raw array bytes, never pickle.

A message is the header's length (8 bytes, little-endian), the header (UTF-8 JSON, whose key
``arrays`` lists dtype and shape of each array), then the bytes of the arrays in C order.
"""

from __future__ import annotations

import json
import math
import re
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array
from cnnformance.spec.printable import printable

Header = dict[str, Any]

_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 1 << 26
_MOST_AXES = 64
"""NumPy's own limit."""
_NUMBERS = re.compile(r"bool|(u?int|float|complex)[1-9][0-9]{0,2}|bfloat16")


class WireError(Exception):
    """The other side sent what is not a message."""


class Closed(Exception):  # noqa: N818 - named for what happened
    """The other side closed the connection, or is gone."""


def dtype_named(name: str) -> np.dtype[Any]:
    """Return the dtype of a NumPy name or of ``bfloat16`` (which needs ``ml_dtypes``).

    Raises:
        ImportError: ``ml_dtypes`` is needed and not installed.
        TypeError: there is no such dtype.
    """
    if name == "bfloat16":
        import ml_dtypes  # noqa: PLC0415 - a worker needs NumPy alone until it is asked for this

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def encoded(header: Header) -> bytes:
    """Return a header as JSON. What is no Unicode (a lone surrogate) becomes a question mark."""
    return json.dumps(header, ensure_ascii=False).encode(errors="replace")


def decoded(text: bytes) -> Header:
    """Return the header that JSON text holds, each of its texts printable.

    Raises:
        WireError: it holds none.
    """
    try:
        header = _printable(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise WireError(f"its header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise WireError("its header is no JSON object")
    return header


def _printable(value: Any) -> Any:
    match value:
        case str():
            return printable(value)
        case list():
            return [_printable(each) for each in value]
        case dict():
            return {printable(name): _printable(each) for name, each in value.items()}
    return value


def send(sock: socket.socket, header: Header, arrays: Sequence[Array] = ()) -> None:
    """Send a message. Raises ``OSError`` (also on a time-out) when the other side is gone."""
    plain = [np.ascontiguousarray(a) if a.ndim else a.copy() for a in arrays]
    described = [{"dtype": a.dtype.name, "shape": a.shape} for a in plain]
    text = encoded({**header, "arrays": described})
    sock.sendall(_LENGTH.pack(len(text)) + text + b"".join(a.tobytes() for a in plain))


def receive(
    sock: socket.socket, seconds: float | None = None, largest: int = sys.maxsize
) -> tuple[Header, list[Array]]:
    """Return the next message, waiting at most ``seconds`` for all of it.

    Raises:
        Closed: the other side closed the connection.
        WireError: it sent something else, or arrays of more than ``largest`` bytes together.
        TimeoutError: the message did not arrive in time.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    (length,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size, deadline))
    if length > _LONGEST_HEADER:
        raise WireError(f"a header of {length} bytes")
    header = decoded(bytes(_exactly(sock, length, deadline)))
    described = _described(header.pop("arrays", None))
    size = sum(dtype.itemsize * math.prod(shape) for dtype, shape in described)
    if size > largest:
        raise WireError(f"arrays of {size} bytes")
    arrays = []
    for dtype, shape in described:
        data = _exactly(sock, math.prod(shape) * dtype.itemsize, deadline)
        try:
            arrays.append(np.frombuffer(data, dtype=dtype).reshape(shape))
        except ValueError as error:
            raise WireError(f"an array of shape {shape} ({error})") from error
    return header, arrays


def _described(arrays: object) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return the dtype and shape of each array that a header lists.

    Raises:
        WireError: it lists something else.
    """
    if not isinstance(arrays, list):
        raise WireError("its header lists no arrays")
    found = []
    for each in arrays:
        match each:
            case {"dtype": str(name), "shape": list(shape)} if (
                _NUMBERS.fullmatch(name)
                and len(shape) <= _MOST_AXES
                and all(type(size) is int and size >= 0 for size in shape)
            ):
                try:
                    found.append((dtype_named(name), tuple(shape)))
                except (TypeError, ImportError) as error:
                    raise WireError(f"an array of {error}") from error
            case _:
                raise WireError(f"an array described as {str(each)[:200]}")
    return found


def _exactly(sock: socket.socket, count: int, deadline: float | None) -> bytearray:
    try:
        data = bytearray(count)
    except (MemoryError, OverflowError) as error:
        raise WireError(f"{count} bytes, which no memory holds") from error
    view = memoryview(data)
    while view:
        if deadline is None:
            sock.settimeout(None)
        else:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
        try:
            got = sock.recv_into(view)
        except ConnectionError as error:
            raise Closed(f"the connection broke: {error}") from error
        if not got:
            raise Closed("the other side closed the connection")
        view = view[got:]
    return data
