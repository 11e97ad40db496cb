"""``headgate eval``: run a statement over events from standard input, without a broker."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import typer

from engine.cli.report import EXIT_FAILED, EXIT_USAGE, CommandError, Style, count, render, terminal_style
from engine.errors import Problem
from engine.model.jsontext import decode, encode

_NAME = "statement"
"""The name, in reports, of a statement given on the command line."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("eval")(evaluate)


def evaluate(
    sql: str = typer.Argument(None, help="The statement."),
    file: Path = typer.Option(None, "--file", "-f", help="The file of a rule, instead of SQL."),
    jsonl: bool = typer.Option(False, "--jsonl", help="Read statements with their events as JSON lines."),
) -> None:
    """Run a statement over events from standard input.

    Events are JSON lines, and rows are printed as JSON lines. An event is an object of columns; event_type names an
    event other than a publish. Exits with 1 if the statement is invalid or an event can't be evaluated.

    With --jsonl each line is an object with id, sql and event, and is answered by an object with id and kind: outputs
    (with the rows as value), no_match, error or invalid. Without event the statement is only compiled, and the answer
    is valid, with the topics of FROM as from, or invalid.

    Examples:

    \b
      echo '{"topic": "t/1", "payload": "{\\"temp\\": 31}"}' |
        headgate eval 'SELECT payload.temp AS temp FROM "t/#"'

      headgate eval -f rules/hot_rooms.sql < events.jsonl

      echo '{"id": 1, "sql": "SELECT * FROM \\"t/#\\""}' | headgate eval --jsonl
    """
    if sum((sql is not None, file is not None, jsonl)) != 1:
        raise CommandError("give a statement, a file with -f, or --jsonl", exit_code=EXIT_USAGE)
    if jsonl:
        _answer_lines()
    elif not _run(sql if file is None else _text_of(file), str(file or _NAME), sys.stdin.buffer):
        raise typer.Exit(EXIT_FAILED)


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise CommandError(f"{file} is not UTF-8", remedy="save it as UTF-8 in your editor") from None


def _answer_lines() -> None:
    from engine.language.eval import main_stream

    main_stream(sys.stdin.buffer, _write)


def _run(sql: str, name: str, lines: Iterable[bytes]) -> bool:
    """Evaluate every event. Return whether all succeeded."""
    from engine.language.eval import evaluate_event
    from engine.language.sql import check_rule

    problems = [Problem(p.message, name, p.position, p.remedy, p.severity) for p in check_rule(sql)]
    if problems:
        print(render(problems, {name: sql}, terminal_style(sys.stderr)), file=sys.stderr)
    if any(problem.severity == "error" for problem in problems):
        return False
    if sys.stdin.isatty():
        print("events as JSON, one a line; Ctrl-D ends", file=sys.stderr)
    is_well, event_count, row_count = True, 0, 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        event_count += 1
        try:
            answer = evaluate_event(sql, decode(line))
            for row in answer.get("value", ()):
                _write(encode(row).decode() + "\n")
                row_count += 1
        except ValueError as error:
            answer = {"kind": "error", "message": f"not an event: {error}"}
        if answer["kind"] == "error":
            is_well = False
            style: Style = terminal_style(sys.stderr)
            print(f"line {number}: {style.error('error:')} {answer['message']}", file=sys.stderr)
    if is_well and event_count and not row_count:
        print(f"no row came of {count(event_count, 'event')}: see FROM and WHERE", file=sys.stderr)
    return is_well


def _write(text: str) -> None:
    """Write a line and flush: a program may wait for it before it sends the next event."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
