"""Published networks as data: layers, and the shapes and parameter counts of their authors.

``networks.toml`` beside this file holds the figures, each network with its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field, InstanceOf, StrictInt, TypeAdapter

from cnnformance.spec import reading
from cnnformance.spec.layers import Layer, from_json
from cnnformance.spec.reading import DataError, Text

PATH = Path(__file__).with_name("networks.toml")

Size = Annotated[StrictInt, Field(ge=1)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Step:
    """One layer of a network, and what its source says of it.

    Attributes:
        layer: the layer.
        name: its name in the source; empty for a layer of which only the type is given.
        shape: the shape of its output, without the batch; None where ``name`` is empty.
        parameters: the number of its learnable parameters; 0 for a layer without weights.
    """

    layer: InstanceOf[Layer]
    name: Text = ""
    shape: Sizes | None = None
    parameters: Size = 0


def _parted(row: object) -> object:
    """Part the row of a step into the layer, whose fields stand among its own, and the rest.

    Raises:
        ValueError: there is no such layer.
        DataError: what is said of it is too little, or too much.
    """
    if not isinstance(row, dict):
        return row
    own: dict[str, Any] = {k: row[k] for k in ("name", "shape", "parameters") if k in row}
    layer = from_json({key: value for key, value in row.items() if key not in own})
    for key, due in (
        ("shape", "name" in own),
        ("name", layer.has_weights or "shape" in own),
        ("parameters", layer.has_weights),
    ):
        if (key in own) != due:
            raise DataError(key, "is missing" if due else "has no place here")
    return {"layer": layer, **own}


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

    __pydantic_config__: ClassVar[ConfigDict] = reading.CLOSED
    name: str
    source: Text
    input: Sizes
    steps: Annotated[
        tuple[Annotated[Step, BeforeValidator(_parted)], ...], Field(alias="layers", min_length=1)
    ]
    parameters: Size

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers alone: the model."""
        return tuple(step.layer for step in self.steps)


_NETWORK: TypeAdapter[Network] = reading.adapter(Network)


def load(path: Path = PATH) -> Mapping[str, Network]:
    """Read the networks, by name, in the order of the file.

    Raises:
        DataError: the file is not TOML, or a key is unknown, missing or of a wrong kind.
    """
    file = str(path)
    tables = reading.toml(reading.text(path, file), file)
    return {
        name: reading.typed(_NETWORK, table, key=name, file=file, added={"name": name})
        for name, table in tables.items()
    }
