"""``headgate init``: a new project folder with a sample rule and its test."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import typer

from engine.cli.report import CommandError
from engine.cli.welcome import command_name

_NAMES = {"gitignore": ".gitignore"}
"""Files stored under another name, since their own would have an effect in this repository."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("init")(init)


def init(directory: Path = typer.Argument(Path("."), help="The folder; created if it is missing.")) -> None:
    """Make a project folder with a sample rule and its test.

    Existing files are never overwritten.

    Examples:

      headgate init plant

      headgate init
    """
    made = dict(_skeleton(files("engine.cli") / "skeleton", directory))
    existing = [path for path in made if path.exists()]
    if existing:
        names = ", ".join(str(path.relative_to(directory)) for path in existing)
        raise CommandError(f"{directory} has {names} already", remedy="name another folder, or move these files")
    for path, content in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    print(f"made a project in {directory}:")
    for path in made:
        print(f"  {path.relative_to(directory)}")
    start = directory.resolve()
    enter = "" if start == Path.cwd() else f"cd {shlex.quote(str(directory))} && "
    print(f"\nstart it:  {enter}{command_name(start)} run")


def _skeleton(folder: Traversable, target: Path) -> Iterator[tuple[Path, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = target / _NAMES.get(entry.name, entry.name)
        if entry.is_dir():
            yield from _skeleton(entry, path)
        else:
            yield path, entry.read_bytes()
