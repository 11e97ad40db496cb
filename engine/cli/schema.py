"""``headgate schema``: JSON Schemas of the YAML files, for editors."""

from __future__ import annotations

import json
from enum import StrEnum

import typer


class File(StrEnum):
    """The files that have a schema."""

    headgate = "headgate"
    connectors = "connectors"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("schema")(schema)


def schema(file: File = typer.Argument(help="Of headgate.yaml or of connectors.yaml.")) -> None:
    """Print the JSON Schema of a YAML file.

    Editors use it to complete and check the file.

    Examples:

      headgate schema headgate > headgate.schema.json

      headgate schema connectors > connectors.schema.json
    """
    from engine.app.schema import connectors_schema, settings_schema

    print(json.dumps(settings_schema() if file is File.headgate else connectors_schema(), indent=2))
