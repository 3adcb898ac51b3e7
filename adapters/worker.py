"""The worker: holds one backend and answers requests, in a process of its own or in this one.

Every request is a method of ``Server``, named as the request with an underscore before it.
"""

from __future__ import annotations

import contextlib
import operator
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from cnnformance.adapters import axes, faults, wire
from cnnformance.adapters.backend import Array, Backend, Composed, Layout, Unsupported
from cnnformance.adapters.calls import Told
from cnnformance.adapters.exceptions import AdapterError
from cnnformance.adapters.layout import (
    canonical,
    canonical_shape,
    gives_images,
    native,
    native_shape,
)
from cnnformance.adapters.memory import arranged
from cnnformance.adapters.table import Table
from cnnformance.spec import layers as spec

_CACHED = 64
"""Built layers that are kept, so that later calls meet the state of earlier ones."""
_CACHED_BYTES = 1 << 20
"""Of the weights of a layer that is kept."""
_LONGEST_TEXT = 2000
"""Of what a framework says, and of half of its tracebacks."""

_LONGEST_SCRIPT = 200_000
"""Characters of a reproduction script; its arrays are added by the suite."""
_MOST_AXES = 64
"""As many as NumPy's arrays have."""

Answer = tuple[wire.Header, list[Array]]


def _is_dtype(name: object) -> bool:
    """Whether this names a dtype, in the one spelling that the suite uses."""
    try:
        return name == "bfloat16" or (isinstance(name, str) and np.dtype(name).name == name)
    except TypeError:
        return False


def _sizes(shape: object) -> spec.Shape:
    """Return a shape that a backend states, as integers that JSON holds."""
    if isinstance(shape, Iterable) and not isinstance(shape, str | bytes):
        with contextlib.suppress(TypeError):
            sizes = tuple(map(operator.index, shape))
            if len(sizes) <= _MOST_AXES and all(abs(size) < 2**63 for size in sizes):
                return sizes
    raise AdapterError(f"output_shape returned {_cut(repr(shape))}; it returns integers")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} ..."


class Server:
    """Answers requests about one backend. Holds the layers that it built."""

    def __init__(self, backend: Backend) -> None:
        """Serve this backend."""
        self.backend = backend
        self.axes = axes.WeightAxes(backend.kernel_layout, backend.dense_layout)
        self.built: dict[tuple[object, ...], Callable[[Any], Any]] = {}

    def describe(self) -> wire.Header:
        """Return what the suite needs to know before it asks.

        Raises:
            AdapterError: a class attribute is none that the interface knows.
        """
        backend = self.backend
        if isinstance(backend, Table):
            backend.begin()
        if backend.layout not in get_args(Layout):
            known = " or ".join(map(repr, get_args(Layout)))
            raise AdapterError(f"layout is {backend.layout!r}, and must be {known}")
        if not isinstance(backend.dtypes, tuple | list) or not all(map(_is_dtype, backend.dtypes)):
            said = "must be a tuple of NumPy's names and bfloat16, such as ('float32',)"
            raise AdapterError(f"dtypes is {backend.dtypes!r}, and {said}")
        if said := axes.unknown(backend.kernel_layout, backend.dense_layout):
            raise AdapterError(said)
        return {
            "version": _cut(str(backend.version())),
            "layout": backend.layout,
            "kernel_layout": backend.kernel_layout,
            "dense_layout": backend.dense_layout,
            "dtypes": list(backend.dtypes),
            "deterministic": bool(backend.deterministic),
        }

    def answer(self, request: wire.Header, arrays: list[Array]) -> Answer:
        """Answer one request; an exception of the framework is an answer too.

        ``seconds`` is the time within the framework: of its calls where they are timed, else of
        all that the request took. ``modified`` says that an input or a weight was written to.
        """
        start = time.perf_counter()
        try:
            if "weights" in request:
                arrays = self._placed(request, arrays)
            before = [array.tobytes() for array in arrays]
            header, results = getattr(self, "_" + request["ask"])(request, arrays)
            header.setdefault("seconds", time.perf_counter() - start)
            if [array.tobytes() for array in arrays] != before:
                header["modified"] = True
        except Unsupported as reason:
            return {"status": "unsupported", **told(reason)}, []
        except (SystemExit, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - its answer; a panic of Rust is no Exception
            status = "adapter" if isinstance(error, AdapterError) else "exception"
            return {"status": status, **told(error)}, []
        return {"status": "ok", **header}, results

    def _layers(self, request: wire.Header) -> list[spec.Layer]:
        return [spec.from_json(data, checked=False) for data in request["layers"]]

    def _placed(self, request: wire.Header, arrays: list[Array]) -> list[Array]:
        """Return the arrays with the weights in the backend's order, and in memory as asked."""
        layers, memory = self._layers(request), request.get("weight_memory", "contiguous")
        held = [(each, n) for each, ns in zip(layers, request["weights"], strict=True) for n in ns]
        weights = [
            arranged(self.axes.native(layer, name, array), memory)
            for (layer, name), array in zip(held, arrays, strict=False)
        ]
        return [*weights, *arrays[len(weights) :]]

    def _weights(self, request: wire.Header, arrays: list[Array]) -> list[dict[str, Array]]:
        rest = iter(arrays)
        return [{name: next(rest) for name in names} for names in request["weights"]]

    def _require(self, layer: spec.Layer, request: wire.Header) -> None:
        """Raise ``Unsupported`` for a dtype that the adapter declines, if it is not forced."""
        if not request.get("force") and not self.backend.supports(layer, request["dtype"]):
            raise Unsupported(f"{type(layer).__name__} does not take {request['dtype']}")

    def _ops(
        self, request: wire.Header, layers: list[spec.Layer], arrays: list[Array]
    ) -> list[Callable[[Any], Any]]:
        for layer in layers:
            self._require(layer, request)
        ops = []
        for layer, named in zip(layers, self._weights(request, arrays), strict=True):
            parts = ((w.dtype.name, w.shape, w.tobytes()) for w in named.values())
            key = (repr(layer), request.get("weight_memory"), *parts)
            op = self.built.get(key)
            if op is None:
                op = self.backend.build(layer, named)
                if isinstance(op, Composed) and not isinstance(op.note, str):
                    raise AdapterError(f"the note of Composed is {op.note!r}; it is a string")
                if not callable(op):
                    raise AdapterError(f"build({layer}) returned {type(op).__name__}, no callable")
                if len(self.built) >= _CACHED:
                    self.built.clear()
                if sum(w.nbytes for w in named.values()) <= _CACHED_BYTES:
                    self.built[key] = op
            ops.append(op)
        return ops

    def _native(self, x: Array, *, image: bool) -> Array:
        return native(x, self.backend.layout, image=image)

    def _canonical(self, tensor: Any, *, image: bool) -> Array:
        y = self.backend.to_numpy(tensor)
        if not isinstance(y, np.ndarray):
            raise AdapterError(f"to_numpy returned {type(y).__name__}; it returns numpy.ndarray")
        return canonical(y, self.backend.layout, image=image)

    def _call(
        self,
        request: wire.Header,
        layers: list[spec.Layer],
        ops: Sequence[Callable[[Any], Any]],
        x: Array,
    ) -> tuple[wire.Header, Array, Array]:
        """Run built layers; return the header, the native input and the canonical output."""
        native = self._native(x, image=spec.takes_images(layers))
        x = arranged(native, request.get("memory", "contiguous"))
        before = x.tobytes()
        start = time.perf_counter()
        tensor = self.backend.from_numpy(x)
        for op in ops:
            tensor = op(tensor)
        if fault := request.get("fault"):
            tensor = faults.put(fault, self.backend, tensor)
        y = self._canonical(tensor, image=gives_images(layers))
        seconds = time.perf_counter() - start
        notes = [op.note for op in ops if isinstance(op, Composed | Told)]
        header = {
            "seconds": seconds,
            "composed": "; ".join(map(_cut, filter(None, notes))),
            "modified": x.tobytes() != before,
        }
        return header, x, y

    def _run(self, request: wire.Header, arrays: list[Array]) -> Answer:
        layers = self._layers(request)
        ops = self._ops(request, layers, arrays[:-1])
        header, _, y = self._call(request, layers, ops, arrays[-1])
        return header, [y]

    def _twice(self, request: wire.Header, arrays: list[Array]) -> Answer:
        """Run x, then other, then x again; report aliasing and whether the first result lived.

        The arrays are the weights, then ``other``, then ``x``. The answer's arrays are the first
        result, the same array after the later calls, and the third result.
        """
        other, x = arrays[-2], arrays[-1]
        layers = self._layers(request)
        ops = self._ops(request, layers, arrays[:-2])  # built once: the layer may hold state
        header, native, first = self._call(request, layers, ops, x)
        kept = first.copy()
        _, _, second = self._call(request, layers, ops, other)
        again, _, third = self._call(request, layers, ops, x)
        header["modified"] = header["modified"] or again["modified"]
        header["aliases_input"] = bool(np.shares_memory(native, first))
        header["aliases_output"] = bool(np.shares_memory(first, second))
        return header, [kept, first, third]

    def _parameters(self, request: wire.Header, _: list[Array]) -> Answer:
        counts = [self.backend.parameters(layer) for layer in self._layers(request)]
        for count in counts:
            if isinstance(count, bool) or not isinstance(count, int | np.integer):
                raise AdapterError(f"parameters returned {count!r}; it returns an int")
        return {"count": str(sum(int(count) for count in counts))}, []

    def _supports(self, request: wire.Header, _: list[Array]) -> Answer:
        (layer,) = self._layers(request)
        return {"supports": bool(self.backend.supports(layer, request["dtype"]))}, []

    def _output_shape(self, request: wire.Header, _: list[Array]) -> Answer:
        """Chain the static answers; shapes are canonical on the wire."""
        layers, layout = self._layers(request), self.backend.layout
        image = spec.takes_images(layers)
        shape = native_shape(tuple(request["shape"]), layout, image=image)
        for layer in layers:
            shape = _sizes(self.backend.output_shape(layer, shape))
        shape = canonical_shape(shape, layout, image=gives_images(layers))
        return {"shape": list(shape)}, []

    def _gradients(self, request: wire.Header, arrays: list[Array]) -> Answer:
        (layer,) = self._layers(request)
        self._require(layer, request)
        (weights,) = self._weights(request, arrays)
        x, upstream = arrays[-2], arrays[-1]
        image = spec.takes_images([layer])
        memory = request.get("memory", "contiguous")
        native = arranged(self._native(x, image=image), memory)
        native_upstream = arranged(self._native(upstream, image=image), memory)
        before = native.tobytes(), native_upstream.tobytes()
        found = self.backend.gradients(layer, weights, native, native_upstream)
        modified = (native.tobytes(), native_upstream.tobytes()) != before
        if not isinstance(found, Mapping):
            raise AdapterError(f"gradients returned a {type(found).__name__}; it returns a dict")
        missing = {"input", *weights} - set(found)
        if missing:
            raise AdapterError(f"gradients lacks {sorted(missing)}")
        results = [self._gradient(found["input"], image=image)]
        for name in weights:
            gradient = self._gradient(found[name], image=False)
            results.append(self.axes.canonical(layer, name, gradient))
        header = {"names": ["input", *weights], "modified": modified}
        return header, results

    def _gradient(self, value: Any, *, image: bool) -> Array:
        if not isinstance(value, np.ndarray):
            raise AdapterError(f"gradients holds a {type(value).__name__}; it holds numpy.ndarray")
        return canonical(value, self.backend.layout, image=image)

    def _script(self, request: wire.Header, arrays: list[Array]) -> Answer:
        """Have a script written, for arrays or a shape in the backend's own layout."""
        (layer,) = self._layers(request)
        backend, memory = self.backend, request["memory"]
        laid = [arranged(array, memory) for array in arrays]
        match request["call"]:
            case "parameters":
                source = backend.count_script(layer)
            case "output_shape":
                source = backend.shape_script(layer, tuple(request["shape"]))
            case "gradients":
                source = backend.gradient_script(layer, *laid)
            case _:
                source = backend.script(layer, *laid)
        if not isinstance(source, str):
            raise AdapterError(f"script returned {type(source).__name__}; it returns Python source")
        if len(source) > _LONGEST_SCRIPT:
            raise AdapterError(f"script returned {len(source)} characters of source")
        return {"script": source}, []

    def _seed(self, request: wire.Header, _: list[Array]) -> Answer:
        self.backend.seed(request["seed"])
        return {}, []


def serve(sock: socket.socket, make: Callable[[], Backend]) -> None:
    """Make the backend, say hello, and answer requests until the suite closes the socket."""
    try:
        server = Server(make())
        hello = {"status": "ok", **server.describe()}
    except Exception as error:  # noqa: BLE001 - reported to the suite, which decides
        wire.send(sock, {"status": "failed", **told(error)})
        return
    wire.send(sock, hello)
    while True:
        try:
            request, arrays = wire.receive(sock)
        except wire.Closed:
            return
        number = {"id": request.get("id")}
        header, results = server.answer(request, arrays)
        try:
            wire.send(sock, {**number, **header}, results)
        except MemoryError as error:
            wire.send(sock, {**number, "status": "exception", **told(error)})


def told(error: BaseException) -> wire.Header:
    """Return what an exception says, even if saying it raises."""
    try:
        message, trace = "".join(str(error)), traceback.format_exc()
    except BaseException:  # noqa: BLE001 - its own __str__ is broken
        message, trace = "(the exception has no message: its __str__ raises)", ""
    return {
        "type": _cut(type(error).__name__),
        "message": _cut(message),
        "traceback": trace[-2 * _LONGEST_TEXT :],
    }
