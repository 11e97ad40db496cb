"""``headgate version``: prints the version."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer import Typer


def register(app: Typer) -> None:
    """Add the command to `app`."""
    import typer

    @app.command()
    def version(as_json: bool = typer.Option(False, "--json", help="As one JSON object.")) -> None:
        """Print the version.

        Examples:

          headgate version

          headgate version --json
        """
        print_version(as_json)


def print_version(as_json: bool) -> None:
    """Print the version; as JSON with that of Python."""
    number = installed_version("headgate")
    print(json.dumps({"version": number, "python": platform.python_version()}) if as_json else f"headgate {number}")
