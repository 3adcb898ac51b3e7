"""Published networks as data: layers, and the shapes and parameter counts of their authors.

``networks.toml`` beside this file holds the figures, each network with its source.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from cnnformance.spec.layers import Layer, LayerError, Shape, from_json
from cnnformance.spec.limits import outsized

PATH = Path(__file__).with_name("networks.toml")

_NETWORK_KEYS = {"source", "input", "parameters", "layers"}
_STEP_KEYS = ("name", "shape", "parameters")


class NetworkError(ValueError):
    """A file of networks that cannot be read; the message names file, key and reason."""


@dataclass(frozen=True)
class Step:
    """One layer of a network, and what its source says of it.

    Attributes:
        layer: the layer.
        name: its name in the source; empty for a layer of which only the type is given.
        shape: the shape of its output, without the batch; None where ``name`` is empty.
        parameters: the number of its learnable parameters; 0 for a layer without weights.
    """

    layer: Layer
    name: str
    shape: Shape | None
    parameters: int


@dataclass(frozen=True)
class Network:
    """A published sequence of layers.

    Attributes:
        name: the key in the file.
        source: paper and table.
        input: the shape of one sample, channels last, without the batch.
        steps: the layers in order, with their expected shapes and counts.
        parameters: the number of learnable parameters of the whole network.
    """

    name: str
    source: str
    input: Shape
    steps: tuple[Step, ...]
    parameters: int

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers alone: the model."""
        return tuple(step.layer for step in self.steps)


@dataclass(frozen=True)
class _Place:
    """Where in which file a value stands, for messages."""

    path: Path
    key: str

    def at(self, key: str) -> _Place:
        return _Place(self.path, f"{self.key}.{key}")

    def fail(self, reason: str) -> NoReturn:
        raise NetworkError(f"{self.path}: {self.key}: {reason}")


def _table(value: Any, place: _Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        place.fail("needs a table")
    return value


def _text(value: Any, place: _Place) -> str:
    if not isinstance(value, str) or not value:
        place.fail("needs a text")
    return value


def _count(value: Any, place: _Place) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        place.fail("needs a positive integer")
    return value


def _shape(value: Any, place: _Place) -> Shape:
    if not isinstance(value, list) or not value:
        place.fail("needs a list of sizes")
    return tuple(_count(size, place) for size in value)


def _step(value: Any, place: _Place) -> Step:
    data = _table(value, place)
    try:
        layer = from_json({key: field for key, field in data.items() if key not in _STEP_KEYS})
    except LayerError as error:
        place.fail(str(error))
    for key, due in (
        ("shape", "name" in data),
        ("name", layer.has_weights or "shape" in data),
        ("parameters", layer.has_weights),
    ):
        if (key in data) != due:
            place.at(key).fail("is missing" if due else "has no place here")
    return Step(
        layer,
        _text(data["name"], place.at("name")) if "name" in data else "",
        _shape(data["shape"], place.at("shape")) if "shape" in data else None,
        _count(data["parameters"], place.at("parameters")) if layer.has_weights else 0,
    )


def _network(name: str, value: Any, place: _Place) -> Network:
    data = _table(value, place)
    for key in sorted(data.keys() ^ _NETWORK_KEYS):
        place.at(key).fail("is missing" if key in _NETWORK_KEYS else "is unknown")
    if not isinstance(data["layers"], list) or not data["layers"]:
        place.at("layers").fail("needs a list of layers")
    return Network(
        name,
        _text(data["source"], place.at("source")),
        _shape(data["input"], place.at("input")),
        tuple(_step(row, place.at(f"layers[{i}]")) for i, row in enumerate(data["layers"])),
        _count(data["parameters"], place.at("parameters")),
    )


def load(path: Path = PATH) -> Mapping[str, Network]:
    """Read the networks, by name, in the order of the file.

    Raises:
        NetworkError: the file is not TOML, or a key is unknown, missing or of a wrong kind.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # of the decoding or of the syntax
        raise NetworkError(f"{path}: {error}") from error
    if found := outsized(data):
        raise NetworkError(f"{path}: {': '.join(found)}")
    return {name: _network(name, value, _Place(path, name)) for name, value in data.items()}
