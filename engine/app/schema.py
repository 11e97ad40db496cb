"""JSON Schemas of ``headgate.yaml`` and ``connectors.yaml``, for editors."""

from __future__ import annotations

from typing import Any

from connectors import KINDS, load_kind
from engine.config.settings import Settings
from engine.errors import ConfigError

SCHEMA_URL = "https://json-schema.org/draft/2020-12/schema"


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``headgate.yaml``."""
    return {"$schema": SCHEMA_URL, **Settings.model_json_schema(), "title": "headgate.yaml"}


def connectors_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``connectors.yaml``. The options of a sink with a connection are not checked."""
    definitions: dict[str, Any] = {}
    choices: list[dict[str, Any]] = []
    for kind in KINDS:
        try:
            config = load_kind(kind).Config
        except ConfigError:
            # Its client library is not installed: the schema then has the name of the kind, without its options.
            choices.append({"type": "object", "properties": {"type": {"const": kind}}, "required": ["type"]})
            continue
        model = config.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= model.pop("$defs", {})
        model["properties"]["type"] = {"const": kind, "description": "The kind of sink."}
        model["required"] = sorted({*model.get("required", []), "type"})
        definitions[f"sink.{kind}"] = model
        choices.append({"$ref": f"#/$defs/sink.{kind}"})
    shared = {"type": "object", "required": ["connection"], "properties": {"connection": {"type": "string"}}}
    properties = {
        "connections": {
            "type": "object",
            "description": "Options that several sinks share.",
            "additionalProperties": {
                "type": "object",
                "required": ["type"],
                "properties": {"type": {"enum": list(KINDS)}},
            },
        },
        "sinks": {
            "type": "object",
            "description": "Destinations of records, by the names that rules use.",
            "additionalProperties": {"anyOf": [*choices, shared]},
        },
        "sources": {"type": "object", "description": "Not available in this version.", "maxProperties": 0},
    }
    head = {"$schema": SCHEMA_URL, "title": "connectors.yaml", "type": "object", "additionalProperties": False}
    return {**head, "properties": properties, "$defs": definitions}
