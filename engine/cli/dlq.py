"""``headgate dlq``: the dead letters of a sink."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import typer

from engine.cli.process import ApiClient, ApiOption, JsonOption, ProjectOption, TokenOption, find_api
from engine.cli.report import EXIT_USAGE, CommandError, printable, table_console


class Action(StrEnum):
    """The actions on dead letters."""

    list = "list"
    show = "show"
    retry = "retry"
    drop = "drop"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("dlq")(dlq)


def dlq(
    sink: str = typer.Argument(help="The sink."),
    action: Action = typer.Argument(Action.list, help="The action."),
    ids: list[int] = typer.Argument(None, help="Dead letters by id."),
    every: bool = typer.Option(False, "--all", help="Retry or drop all dead letters of the sink."),
    limit: int = typer.Option(100, "--limit", min=1, max=10_000, help="Maximum number to list."),
    project: Path = ProjectOption,
    as_json: bool = JsonOption,
    api: str = ApiOption,
    token: str = TokenOption,
) -> None:
    """List, show, retry or drop dead letters of a sink.

    A dead letter is a record that the sink could not store, with the reason. A retried record is sent to the sink
    again, and becomes a dead letter again if it fails again.

    Examples:

      headgate dlq readings

      headgate dlq readings show 17

      headgate dlq readings retry 17 18

      headgate dlq readings retry --all

      headgate dlq readings drop 17
    """
    path = f"/api/v5/sinks/{quote(sink, safe='')}/dead_letters"
    chosen = _chosen(action, ids or [], every)
    client = find_api(project, api, token)
    _ACTIONS[action](client, path, chosen, limit, as_json)


def _chosen(action: Action, ids: list[int], every: bool) -> list[int]:
    if action is Action.list and (ids or every):
        raise CommandError("list takes no ids", exit_code=EXIT_USAGE)
    if action is Action.show and not ids:
        raise CommandError("show needs an id: headgate dlq SINK show ID", exit_code=EXIT_USAGE)
    if action in (Action.retry, Action.drop) and bool(ids) == every:
        raise CommandError(f"{action} needs ids, or --all", exit_code=EXIT_USAGE)
    return ids


def _list(client: ApiClient, path: str, ids: list[int], limit: int, as_json: bool) -> None:
    answer = client.ask("GET", path, limit=limit)
    letters = answer["data"]
    if as_json:
        print(json.dumps(letters, ensure_ascii=False, indent=2))
    elif not letters:
        print("no dead letters")
    else:
        _print_table(letters)
        if answer["meta"]["hasnext"]:
            print(f"more than {limit}: --limit lists more")


def _show(client: ApiClient, path: str, ids: list[int], limit: int, as_json: bool) -> None:
    letters = [client.ask("GET", f"{path}/{letter_id}") for letter_id in ids]
    if as_json:
        print(json.dumps(letters, ensure_ascii=False, indent=2))
        return
    for letter in letters:
        print(f"dead letter {letter['id']} of {letter['sink']}")
        for name in ("reason", "code", "attempts", "rule", "client", "topic"):
            print(f"  {name:9} {printable(str(letter[name])) if letter[name] is not None else '-'}")
        print(f"  {'received':9} {_time(letter['time_ms'])}\n  {'given up':9} {_time(letter['died_ms'])}")
        print(f"  {'row':9} {json.dumps(letter['row'], ensure_ascii=False)}")


def _retry(client: ApiClient, path: str, ids: list[int], limit: int, as_json: bool) -> None:
    _done("retried", client.ask("POST", f"{path}/retry", **_selection(ids)), ids, as_json)


def _drop(client: ApiClient, path: str, ids: list[int], limit: int, as_json: bool) -> None:
    _done("dropped", client.ask("DELETE", path, **_selection(ids)), ids, as_json)


_ACTIONS: dict[Action, Callable[[ApiClient, str, list[int], int, bool], None]] = {
    Action.list: _list, Action.show: _show, Action.retry: _retry, Action.drop: _drop,
}  # fmt: skip


def _selection(ids: list[int]) -> dict[str, Any]:
    return {"id": ids} if ids else {}


def _done(word: str, answer: dict[str, int], ids: list[int], as_json: bool) -> None:
    done = answer["count"]
    print(json.dumps({word: done}) if as_json else f"{word} {done:,}")
    missing = len(set(ids)) - done
    if missing > 0:
        why = "not among the dead letters" + (", or without a row to send" if word == "retried" else "")
        raise CommandError(f"{why}: {missing} of the {len(set(ids))} ids")


def _print_table(letters: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("id", "given up", "rule", "client", "reason"):
        table.add_column(name, justify="right" if name == "id" else "left", overflow="fold")
    for letter in letters:
        # Client ids and reasons hold text of clients: no markup, and no escape sequences for the terminal.
        texts = (str(letter["id"]), _time(letter["died_ms"]), letter["rule"], letter["client"], letter["reason"])
        table.add_row(*(Text(printable(text)) for text in texts))
    table_console().print(table)


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
