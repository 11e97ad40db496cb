"""``headgate status``: the state of the rules and sinks of a running project."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engine.cli.process import ApiClient, ApiOption, JsonOption, ProjectOption, TokenOption, find_api
from engine.cli.report import printable, table_console

_COLORS = {"connected": "green", "connecting": "yellow", "degraded": "yellow", "stopped": "dim"}
_ERROR_CHARS_MAX = 160
_RULE_COUNTS = ("received", "filtered", "failed", "emitted", "refused")
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("status")(status)


def status(
    project: Path = ProjectOption,
    as_json: bool = JsonOption,
    watch: bool = typer.Option(False, "--watch", "-w", help="Refresh until Ctrl-C."),
    interval: float = typer.Option(1.0, "--interval", min=0.1, help="Seconds between refreshes."),
    api: str = ApiOption,
    token: str = TokenOption,
) -> None:
    """Show rules, sinks, backlog and last errors.

    Asks the process that runs the project, or the API at a URL. Exits with 3 if it is not running.

    Examples:

      headgate status

      headgate status --watch

      headgate status --json | jq '.sinks[] | {id, status, buffered}'
    """
    client = find_api(project, api, token)
    if as_json:
        print(json.dumps(collect(client), ensure_ascii=False, indent=2))
    elif watch:
        _watch(client, interval)
    else:
        table_console().print(render(collect(client)))


def collect(client: ApiClient) -> dict[str, Any]:
    """Return the whole state as one object."""
    return {
        "process": client.ask("GET", "/api/v5/status"),
        "rules": client.all("/api/v5/rules"),
        "sinks": client.all("/api/v5/sinks"),
        "stats": client.ask("GET", "/api/v5/stats"),
    }


def render(state: dict[str, Any]) -> RenderableType:
    """Return the state as tables."""
    return Group(_process(state["process"]), "", _rules(state["rules"]), "", _sinks(state["sinks"]))


def _watch(client: ApiClient, interval: float) -> None:
    try:
        with Live(render(collect(client)), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(interval)
                live.update(render(collect(client)), refresh=True)
    except KeyboardInterrupt:
        pass


def _process(process: dict[str, Any]) -> RenderableType:
    text = Text()
    text.append(f"Headgate {process['version']}", style="bold")
    text.append(f"  up {duration(process['uptime_s'])}, process {process['pid']}\n")
    text.append(f"project {process['project']}, data in {process['data_dir']}\n")
    listeners = [
        f"{item['type']} {item['host']}:{item['port']} ({item['connections']})" for item in process["listeners"]
    ]
    text.append(f"listeners (connections): {', '.join(listeners)}")
    for problem in process["problems"]:
        text.append(f"\n! {printable(problem)}", style="red")
    return text


def _rules(rules: list[dict[str, Any]]) -> RenderableType:
    table = _table(("rule", "sinks"), _RULE_COUNTS)
    for rule in rules:
        name = Text(rule["id"], style="" if rule["enable"] else "dim")
        if not rule["enable"]:
            name.append(" (off)")
        counts = [_count(rule[key]) for key in _RULE_COUNTS]
        table.add_row(name, ", ".join(rule["sinks"]) or "-", *counts)
    return _with_errors(table, rules)


def _sinks(sinks: list[dict[str, Any]]) -> RenderableType:
    table = _table(("sink", "type", "status"), ("buffered", "oldest", "delivered", "dead", "dropped"))
    for sink in sinks:
        age = sink["oldest_age_s"]
        table.add_row(
            sink["id"],
            sink["type"],
            Text(sink["status"], style=_COLORS.get(sink["status"], "red")),
            _count(sink["buffered"]),
            "-" if age is None else duration(age),
            _count(sink["delivered"]),
            _count(sink["dead_letters"]),
            _count(sink["dropped"]),
        )
    return _with_errors(table, sinks)


def _table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _with_errors(table: Table, entries: list[dict[str, Any]]) -> RenderableType:
    """Return the table, and below it the reasons of entries that are not well and the last error of others."""
    return Group(table, *(line for entry in entries for line in _errors(entry)))


def _errors(entry: dict[str, Any]) -> Iterator[Text]:
    reason, last = entry.get("reason"), entry.get("last_error")
    attempt = entry.get("next_attempt_in_s")
    if reason:
        again = "" if attempt is None else f"; next attempt in {duration(attempt)}"
        yield Text.assemble((f"{entry['id']}: ", "bold"), (_shown(reason) + again, "red"))
    if last and last != reason:
        yield Text.assemble((f"{entry['id']}: ", "bold"), (f"last error: {_shown(last)}", "dim"))


def _shown(error: str) -> str:
    return printable(error)[:_ERROR_CHARS_MAX]


def _count(number: int) -> str:
    return f"{number:,}"


def duration(seconds: float) -> str:
    """Return a duration as ``850ms``, ``12s``, ``3m 20s``, ``5h 2m`` or ``4d 1h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    whole = int(seconds)
    for (unit, size), (smaller, part) in zip(_UNITS, (*_UNITS[1:], ("", 0)), strict=True):
        if whole >= size:
            rest = whole % size // part if part else 0
            return f"{whole // size}{unit}" + (f" {rest}{smaller}" if rest else "")
    return "0s"
