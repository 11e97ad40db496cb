"""The text that `headgate run` prints after its start: listeners, rules, sinks, and commands to try."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from engine.admin.port import ProcessView, RuleView
from engine.cli.report import Style
from engine.service.log import redact

NAMES_SHOWN_MAX = 6
SINKS_SHOWN_MAX = 12

_TARGET_OPTIONS = ("path", "url", "dsn", "brokers", "table", "topic")
"""The options of sinks that name their target, of all kinds."""

Target = tuple[str, str, str]
"""Id, type and target of a sink."""


def welcome(
    process: ProcessView, rules: Sequence[RuleView], sinks: Sequence[Target], api: str | None, style: Style
) -> str:
    """Return the text."""
    project = Path(process.project)
    lines = [f"{style.bold(f'Headgate {process.version}')} runs the project in {project}", ""]
    lines += [_row("devices", f"{item.type} {_address(item.host, item.port)}", style) for item in process.listeners]
    lines.append(_row("rules", _names([rule.id for rule in rules if rule.enable]), style))
    lines += [_row("sinks" if index == 0 else "", line, style) for index, line in enumerate(_sinks(sinks))]
    lines.append(_row("journal", process.data_dir, style))
    if api is not None:
        lines.append(_row("API", api, style))
    lines += ["", f"Try in a second terminal, in {Path.cwd()}:", *_suggestions(process, project)]
    return redact("\n".join(lines))


def target_of(config: Any) -> str:
    """Return the target of a sink, without users, passwords and URL queries, which can be credentials."""
    values = [getattr(config, name, None) for name in _TARGET_OPTIONS]
    return " ".join(filter(None, (_place(value) for value in values if value)))


def _place(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_place, value))
    is_secret = isinstance(value, SecretStr)
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    scheme, mark, rest = text.partition("://")
    if not mark:
        return "" if is_secret else text
    # A password can hold any character, also those that end a host: the host begins at the last @.
    place = rest.rpartition("@")[2] if is_secret else rest
    return f"{scheme}://{place.partition('?')[0]}"


def command_name(start: Path) -> str:
    """Return the command that starts Headgate from the folder `start`: its name if that is on the PATH."""
    if shutil.which("headgate") is not None:
        return "headgate"
    path = Path(sys.argv[0])
    if path.name != "headgate":
        return f"{shlex.quote(sys.executable)} -m engine"
    path = path.parent.resolve() / path.name
    return shlex.quote(str(path.relative_to(start) if path.is_relative_to(start) else path))


def _suggestions(process: ProcessView, project: Path) -> Iterator[str]:
    command = command_name(Path.cwd())
    listener = next((item for item in process.listeners if item.type == "tcp"), None)
    if listener is not None:
        port = "" if listener.port == 1883 else f" -p {listener.port}"
        yield f"""  {command} pub{port} -t sensors/kitchen/climate -i kitchen -m '{{"temp": 31.5, "humidity": 48}}'"""
    yield f"  {command} status{'' if project == Path.cwd() else f' --project {shlex.quote(str(project))}'}"


def _sinks(sinks: Sequence[Target]) -> Iterator[str]:
    if not sinks:
        yield "none"
    for name, kind, target in sinks[:SINKS_SHOWN_MAX]:
        yield f"{name} ({kind}{': ' + target if target else ''})"
    if len(sinks) > SINKS_SHOWN_MAX:
        yield f"and {len(sinks) - SINKS_SHOWN_MAX} more"


def _names(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN_MAX
    return ", ".join(names[:NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "") or "none"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _row(name: str, text: str, style: Style) -> str:
    return f"  {style.faint(name.ljust(8))} {text}"
