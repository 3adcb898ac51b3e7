"""A backend in any language: a command that speaks ``protocol``, as an adapter of the suite.

The command holds the framework and answers; this side moves axes, lays memory out and judges
nothing. When the command dies the worker dies in the same way, so that the suite sees a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from cnnformance.adapters import protocol
from cnnformance.adapters.backend import Array, Backend, Unsupported, Weights
from cnnformance.adapters.calls import Told
from cnnformance.adapters.command import Command
from cnnformance.adapters.exceptions import AdapterError
from cnnformance.spec.layers import TYPES, Layer, Shape, to_json


class Foreign(Backend):
    """A backend that is a command. What it has, it says itself; ``command`` is what is run."""

    command: ClassVar[Sequence[str]]

    def __init__(self, mode: str = "", device: str = "cpu") -> None:
        """Start the command, which knows what modes and devices it has.

        Raises:
            AdapterError: it cannot be run, or what it says of itself is nothing that is known.
            Unsupported: it has no such mode or device.
        """
        self.mode = mode
        self.device = device
        self._command = Command(self.command, mode, device)
        self._told = self._command.hello()
        if unknown := ", ".join(self._told.layers.keys() - TYPES.keys()):
            raise AdapterError(f"layers has {unknown}; the types are {', '.join(TYPES)}")
        dtypes = dict.fromkeys(d for each in self._told.layers.values() for d in each)
        claimed = {name: getattr(self._told, name) for name in _CLAIMED}
        vars(self).update(claimed, dtypes=tuple(dtypes))

    def version(self) -> str:
        """Return the version that the command tells."""
        return self._told.version

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Whether the command lists this dtype for this layer type."""
        return dtype in self._told.layers.get(type(layer).__name__, ())

    def build(self, layer: Layer, weights: Weights) -> Callable[[Any], Any]:
        """Return the request to run the layer; its note is what the command made it of."""
        self._require(layer)
        request = protocol.Run(layer=to_json(layer), weights=tuple(weights))

        def run(x: Array) -> tuple[Array, str]:
            answer, (y,) = self._command.ask(request, [*weights.values(), x])
            assert isinstance(answer, protocol.Computed)
            return y, answer.composed

        return Told(run)

    def seed(self, seed: int) -> None:
        """Seed the command's random numbers, if it has any."""
        with suppress(Unsupported):
            self._command.ask(protocol.Seed(seed=seed))

    def parameters(self, layer: Layer) -> int:
        """Return the number of parameters that the command tells."""
        self._require(layer)
        answer, _ = self._command.ask(protocol.Parameters(layer=to_json(layer)))
        assert isinstance(answer, protocol.Counted)
        return answer.count

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """Return the shape that the command tells."""
        self._require(layer)
        request = protocol.OutputShape(layer=to_json(layer), shape=shape)
        answer, _ = self._command.ask(request)
        assert isinstance(answer, protocol.Shaped)
        return tuple(answer.shape)

    def gradients(
        self, layer: Layer, weights: Weights, x: Array, upstream: Array
    ) -> dict[str, Array]:
        """Return the gradients that the command computes."""
        self._require(layer)
        request = protocol.Gradients(layer=to_json(layer), weights=tuple(weights))
        _, found = self._command.ask(request, [*weights.values(), x, upstream])
        return dict(zip(["input", *weights], found, strict=True))

    def script(self, layer: Layer, x: Array) -> str:
        """Return the source that the command writes."""
        return self._script("forward", layer, [x])

    def gradient_script(self, layer: Layer, x: Array, upstream: Array) -> str:
        """Return the source that the command writes."""
        return self._script("gradients", layer, [x, upstream])

    def count_script(self, layer: Layer) -> str:
        """Return the source that the command writes."""
        return self._script("parameters", layer)

    def shape_script(self, layer: Layer, shape: Shape) -> str:
        """Return the source that the command writes."""
        return self._script("output_shape", layer, shape=shape)

    def _script(
        self, call: protocol.Call, layer: Layer, arrays: Sequence[Array] = (), shape: Shape = ()
    ) -> str:
        self._require(layer)
        request = protocol.Script(call=call, layer=to_json(layer), shape=shape)
        answer, _ = self._command.ask(request, arrays)
        assert isinstance(answer, protocol.Written)
        return answer.script

    def _require(self, layer: Layer) -> None:
        """Raise ``Unsupported`` for a layer type that the command does not list."""
        if type(layer).__name__ not in self._told.layers:
            raise Unsupported(f"there is no {type(layer).__name__}")


_CLAIMED = ("layout", "kernel_layout", "dense_layout", "deterministic")
"""What a backend's attributes say, and here the command."""


def of(path: str) -> type[Foreign]:
    """Return the backend class of a file that can be executed."""
    attributes: Mapping[str, Any] = {"command": (path,), "__module__": __name__}
    return type("Command", (Foreign,), dict(attributes))
