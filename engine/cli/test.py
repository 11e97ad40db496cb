"""``headgate test``: runs the test cases of a project's rules, without a broker."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import typer

from engine.cli.process import JsonOption, ProjectOption
from engine.cli.report import EXIT_FAILED, CommandError, count, render, terminal_style


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("test")(run_tests)


def run_tests(
    rules: list[str] = typer.Argument(None, help="Only the cases of these rules.", show_default=False),
    project: Path = ProjectOption,
    as_json: bool = JsonOption,
) -> None:
    """Run the cases of rules/*.test.yaml: an event in, the rows out.

    The cases of hot_rooms.sql are in hot_rooms.test.yaml; headgate init makes a sample of both. A failure is shown at
    its position in the file. Exits with 1 if a case fails or no case is found.

    Examples:

      headgate test

      headgate test hot_rooms --project plant
    """
    from engine.config.project import load_settings
    from engine.language.cases import run_cases

    directory = project.absolute()
    folder = directory / load_settings(directory, os.environ).rules.dir
    report = run_cases(folder, directory, rules or ())
    if not report.results and not report.problems:
        raise CommandError(
            f"there are no cases in {folder}", remedy="cases of a rule are in a file named RULE.test.yaml beside it"
        )
    problems = [*report.problems, *(problem for result in report.failed for problem in result.problems)]
    if as_json:
        entries = [
            {
                "path": result.path,
                "line": result.position.line,
                "name": result.name,
                "ok": not result.problems,
                "problems": [problem.message for problem in result.problems],
            }
            for result in report.results
        ]
        others = [problem.message for problem in report.problems]
        print(json.dumps({"ok": not problems, "cases": entries, "problems": others}, ensure_ascii=False, indent=2))
    else:
        style = terminal_style(sys.stdout)
        if report.problems:
            print(render(report.problems, report.texts, style), end="\n\n")
        for result in report.failed:
            print(f"{style.error('failed:')} {result.name}\n{render(result.problems, report.texts, style)}\n")
        cases = count(len(report.results), "case")
        print(f"{cases}, {len(report.failed)} failed" if problems else f"OK: {cases}")
    if problems:
        raise typer.Exit(EXIT_FAILED)
