"""``headgate check``: all mistakes of a project in one run."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from engine.cli.process import JsonOption, ProjectOption
from engine.cli.report import EXIT_FAILED, count, render, render_json, summary, terminal_style


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("check")(check)


def check(
    project: Path = ProjectOption,
    as_json: bool = JsonOption,
    strict: bool = typer.Option(False, "--strict", help="Exit with 1 for warnings too."),
) -> None:
    """Report all mistakes of a project without starting it.

    Each is shown with file, line and column, a caret below the position, and a remedy. Exits with 1 if there are
    errors.

    Examples:

      headgate check

      headgate check --project plant --json
    """
    from engine.app.project import read_project

    found = read_project(project)
    if as_json:
        print(render_json(found.problems))
    elif found.problems:
        print(render(found.problems, found.texts, terminal_style(sys.stdout)))
        print(f"\n{summary(found.problems)}")
    else:
        print(f"OK: {count(len(found.ruleset.rules), 'rule')}, {count(len(found.sinks), 'sink')}")
    if found.has_errors or (strict and found.problems):
        raise typer.Exit(EXIT_FAILED)
