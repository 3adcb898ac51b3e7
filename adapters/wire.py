"""The wire between the suite and a worker: a JSON header and raw array bytes, never pickle.

A message is the header's length (8 bytes, little-endian), the header (UTF-8 JSON, whose key
``arrays`` lists dtype and shape of each array), then the bytes of the arrays in C order.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnformance.adapters.backend import Array

Header = dict[str, Any]

_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 1 << 26


class WireError(Exception):
    """The other side closed, or sent what is not a message."""


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


def send(sock: socket.socket, header: Header, arrays: Sequence[Array] = ()) -> None:
    """Send a message. Raises ``OSError`` (also on a time-out) when the other side is gone."""
    plain = [np.ascontiguousarray(a) if a.ndim else a.copy() for a in arrays]
    described = [{"dtype": a.dtype.name, "shape": a.shape} for a in plain]
    text = encoded({**header, "arrays": described})
    sock.sendall(_LENGTH.pack(len(text)) + text + b"".join(a.tobytes() for a in plain))


def receive(sock: socket.socket, seconds: float | None = None) -> tuple[Header, list[Array]]:
    """Return the next message, waiting at most ``seconds`` for all of it.

    Raises:
        WireError: the other side closed or sent something else.
        TimeoutError: the message did not arrive in time.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    (length,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size, deadline))
    if length > _LONGEST_HEADER:
        raise WireError(f"a header of {length} bytes is not a message")
    try:
        header = json.loads(bytes(_exactly(sock, length, deadline)))
        described = [(dtype_named(a["dtype"]), tuple(a["shape"])) for a in header.pop("arrays")]
    except (ValueError, KeyError, TypeError) as error:
        raise WireError(f"the header is not a message: {error}") from error
    arrays = []
    for dtype, shape in described:
        try:
            data = _exactly(sock, math.prod(shape) * dtype.itemsize, deadline)
            arrays.append(np.frombuffer(data, dtype=dtype).reshape(shape))
        except (ValueError, TypeError) as error:
            raise WireError(f"the header is not a message: {error}") from error
    return header, arrays


def _exactly(sock: socket.socket, count: int, deadline: float | None) -> bytearray:
    data = bytearray(count)
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
            raise WireError(f"the connection broke: {error}") from error
        if not got:
            raise WireError("the other side closed the connection")
        view = view[got:]
    return data
