"""A subject: the requests that can be put to a backend under test, and their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnformance.adapters.backend import Array, Weights
from cnnformance.adapters.supervision import Supervised
from cnnformance.spec.layers import Layer, Shape


@dataclass(frozen=True)
class Result:
    """What a backend computed, and how.

    ``y`` is canonical (channels-last). ``modified`` says that the input or a weight was changed,
    ``composed`` is the adapter's note on a layer made of several calls (empty: native).
    """

    y: Array
    composed: str = ""
    modified: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Gradients:
    """The gradients of a layer by name, canonical, and whether an operand was written to."""

    arrays: Mapping[str, Array]
    modified: bool


@dataclass(frozen=True)
class Twice:
    """Three calls in a row: the first result, the same array later, and the third result."""

    first: Array
    later: Array
    again: Array
    modified: bool
    aliases_input: bool
    aliases_output: bool


class Subject(Supervised):
    """A backend under test: one method for each request.

    Each may raise ``Unsupported`` and the exceptions of ``exceptions``. Arrays and shapes are
    canonical (channels-last) unless a method says otherwise.
    """

    def run(
        self,
        layers: Sequence[Layer],
        weights: Sequence[Weights],
        x: Array,
        memory: str = "contiguous",
        weight_memory: str = "contiguous",
        *,
        force: bool = False,
        fault: str = "",
    ) -> Result:
        """Run a model of one or more layers on ``x``, whose memory is laid out as ``memory``.

        ``weight_memory`` is that of the weights, as ``memory.arranged`` names both. With ``force``
        the framework is asked although the adapter's ``supports`` declines the dtype; ``fault``
        names one of ``faults.FAULTS``, or a dtype, that is put on the framework's result.
        """
        answer, (y,) = self._ask(
            "run",
            layers,
            [*_flat(weights), x],
            x.ndim,
            weights=[list(w) for w in weights],
            dtype=x.dtype.name,
            memory=memory,
            weight_memory=weight_memory,
            force=force,
            fault=fault,
        )
        return Result(y, answer["composed"], answer["modified"], answer["seconds"])

    def run_twice(self, layer: Layer, weights: Weights, x: Array, other: Array) -> Twice:
        """Run ``x``, ``other`` and ``x`` again, and say what was aliased or changed."""
        answer, (first, later, again) = self._ask(
            "twice",
            [layer],
            [*weights.values(), other, x],
            x.ndim,
            weights=[list(weights)],
            dtype=x.dtype.name,
        )
        flags = (answer["modified"], answer["aliases_input"], answer["aliases_output"])
        return Twice(first, later, again, *flags)

    def gradients(
        self,
        layer: Layer,
        weights: Weights,
        x: Array,
        upstream: Array,
        memory: str = "contiguous",
        *,
        force: bool = False,
    ) -> Gradients:
        """Return the gradients of ``sum(layer(x) * upstream)``.

        All arrays are laid out as ``memory``; ``force`` is that of ``run``.
        """
        answer, results = self._ask(
            "gradients",
            [layer],
            [*weights.values(), x, upstream],
            x.ndim,
            weights=[list(weights)],
            dtype=x.dtype.name,
            memory=memory,
            weight_memory=memory,
            force=force,
        )
        return Gradients(dict(zip(answer["names"], results, strict=True)), answer["modified"])

    def parameters(self, layers: Sequence[Layer]) -> int:
        """Return how many parameters the framework says that the layers hold."""
        return int(self._ask("parameters", layers)[0]["count"])

    def supports(self, layer: Layer, dtype: str) -> bool:
        """Return whether the adapter says that the framework takes this dtype in this layer."""
        return bool(self._ask("supports", [layer], dtype=dtype)[0]["supports"])

    def output_shape(self, layers: Sequence[Layer], shape: Shape) -> Shape:
        """Return the framework's static answer (canonical). No dtype: there is none to force."""
        return tuple(self._ask("output_shape", layers, axes=len(shape), shape=shape)[0]["shape"])

    def script(
        self,
        layer: Layer,
        arrays: Sequence[Array] = (),
        call: str = "forward",
        memory: str = "contiguous",
        shape: Shape = (),
    ) -> str:
        """Return source in the framework's own calls for what ``call`` asks of the layer.

        ``arrays`` are the input, and of ``gradients`` the upstream gradient too; they, and the
        ``shape`` that ``output_shape`` is asked for, are in the backend's layout.
        """
        more: dict[str, Any] = {"call": call, "memory": memory, "shape": list(shape)}
        return str(self._ask("script", [layer], arrays, **more)[0]["script"])

    def seed(self, seed: int) -> None:
        """Seed the framework's random numbers."""
        self._ask("seed", [], seed=seed)


def _flat(weights: Sequence[Weights]) -> list[Array]:
    return [array for each in weights for array in each.values()]
