"""The published form of records: the JSON Schema of a line, made from the types of ``record``.

``python -m cnnformance.reports.schema`` writes it to ``schema.json`` beside this file.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from cnnformance.reports import record
from cnnformance.reports.records import LINE, SCHEMA_FILE
from cnnformance.spec import reading


class _Plain(GenerateJsonSchema):
    """Schemas without titles of fields, which repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - of none
        return False


def published() -> JsonSchemaValue:
    """Return the JSON Schema of a line."""
    documented = reading.CLOSED | {"use_attribute_docstrings": True}
    made = TypeAdapter(LINE, config=documented).json_schema(schema_generator=_Plain)
    for name, kind in made["$defs"].items():
        kind.setdefault("additionalProperties", False)  # both as later versions of pydantic tell
        kind.setdefault("description", getattr(record, name).__doc__)
        for told in (kind, *kind["properties"].values()):
            if "description" in told:
                told["description"] = " ".join(told["description"].replace("``", "").split())
        constant = [key for key, field in kind["properties"].items() if "const" in field]
        kind["required"] = [*constant, *kind["required"]]  # by which a reader knows the line
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "One line of verdicts.jsonl",
        "description": "A run is a header, then verdicts and traits in any order, then a footer; "
        "one JSON object a line. Without a footer, with fewer verdicts than planned, or with "
        "shards in its header, the run is partial.",
        **made,
    }


def text() -> str:
    """Return the text of the published file."""
    return json.dumps(published(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(text(), encoding="utf-8")
