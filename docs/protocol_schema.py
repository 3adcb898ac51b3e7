"""The JSON Schema of what the suite and a command say to each other, made of its types.

``python docs/protocol_schema.py`` writes it to ``protocol.json`` beside this file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from cnnformance.adapters import protocol

FILE = Path(__file__).with_name("protocol.json")


class _Plain(GenerateJsonSchema):
    """Schemas without titles of fields, which repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - of none
        return False


def published() -> JsonSchemaValue:
    """Return the JSON Schema of a header."""
    # what the suite sends always has every field; of an answer, those with a default may be absent
    requests = TypeAdapter(protocol.AnyRequest).json_schema(
        schema_generator=_Plain, mode="serialization"
    )
    answers = TypeAdapter(protocol.AnyAnswer).json_schema(schema_generator=_Plain)
    defined = {**requests["$defs"], **answers["$defs"]}
    for name, kind in defined.items():
        kind["additionalProperties"] = False
        words = getattr(protocol, name).__doc__.replace("``", "").split()
        kind["description"] = " ".join(words)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "The header of a message between the suite and a command",
        "anyOf": [*requests["anyOf"], *answers["anyOf"]],
        "$defs": dict(sorted(defined.items())),
    }


def text() -> str:
    """Return the text of the published file."""
    return json.dumps(published(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
