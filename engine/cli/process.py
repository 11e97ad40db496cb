"""Access to the running process from other commands, by its API."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from engine.cli.report import EXIT_UNREACHABLE, EXIT_USAGE, CommandError
from engine.config.project import locate
from engine.config.settings import is_token

TIMEOUT_S = 10.0

ProjectOption = typer.Option(Path("."), "--project", "-C", help="The project's folder.", show_default="here")
JsonOption = typer.Option(False, "--json", help="As JSON, for programs.")
ApiOption = typer.Option(None, "--api", help="URL of the API, instead of the project's own process.", metavar="URL")
TokenOption = typer.Option(None, "--token", help="The API's token.", envvar="HEADGATE_TOKEN", metavar="TOKEN")


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """The content of ``run.json``, which a process writes into its data directory."""

    pid: int
    listeners: tuple[tuple[str, int], ...]
    api: tuple[str, int] | None


def read_run_file(data_dir: Path) -> RunningProcess | None:
    """Return the process that uses `data_dir`, or None if its ``run.json`` is missing or unreadable."""
    try:
        content = json.loads((data_dir / "run.json").read_text(encoding="utf-8"))
        api = content.get("api")
        return RunningProcess(
            pid=int(content["pid"]),
            listeners=tuple((_reachable(item["host"]), int(item["port"])) for item in content["listeners"]),
            api=None if not api else (_reachable(api["host"]), int(api["port"])),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _reachable(host: str) -> str:
    """Return the address to connect to for a listener on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


class ApiClient:
    """Client of the API of a running process. Failures raise `CommandError` with their exit code."""

    def __init__(self, url: str, token: str | None) -> None:
        # Importing httpx takes a tenth of a second, which only commands that use it should pay.
        import httpx

        if token is not None and not is_token(token):
            message = "invalid token: expected ASCII letters, digits and signs, without spaces"
            raise CommandError(message, exit_code=EXIT_USAGE)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            is_url = httpx.URL(url).scheme in ("http", "https")
        except httpx.InvalidURL:
            is_url = False
        if not is_url:
            remedy = "write it like http://127.0.0.1:18083"
            raise CommandError(f"{url!r} is not a URL of an API", exit_code=EXIT_USAGE, remedy=remedy)
        self._client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self._url = url

    def ask(self, method: str, path: str, **parameters: Any) -> Any:
        """Send a request and return the JSON of its answer."""
        import httpx

        try:
            response = self._client.request(method, path, params=parameters)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise CommandError(
                f"Headgate does not answer on {self._url}: {reason}",
                exit_code=EXIT_UNREACHABLE,
                remedy="start it with headgate run, or name another API with --api",
            ) from error
        if response.is_success:
            return response.json() if response.content else None
        try:
            message = str(response.json()["message"])
        except (ValueError, KeyError, TypeError):
            message = f"HTTP {response.status_code}"
        remedy = "give it with --token or HEADGATE_TOKEN" if response.status_code == 401 else None
        raise CommandError(message, remedy=remedy)

    def all(self, path: str) -> list[Any]:
        """Return all entries of a list, reading it page by page."""
        entries: list[Any] = []
        page = 1
        while True:
            answer = self.ask("GET", path, page=page, limit=1000)
            entries += answer["data"]
            if not answer["meta"]["hasnext"]:
                return entries
            page += 1


def find_api(project: Path, api: str | None, token: str | None, environ: Mapping[str, str] | None = None) -> ApiClient:
    """Return the API at the URL `api`, or else that of the process that runs `project`."""
    if api is not None:
        return ApiClient(api if "://" in api or not api else f"http://{api}", token)
    location = locate(project, os.environ if environ is None else environ)
    running = read_run_file(location.data_dir)
    if running is None:
        raise CommandError(
            f"Headgate is not running for the project in {project.resolve()}",
            exit_code=EXIT_UNREACHABLE,
            remedy="start it with headgate run, name another folder with --project, or the API with --api",
        )
    if running.api is None:
        raise CommandError(
            f"process {running.pid} runs the project without its API",
            exit_code=EXIT_UNREACHABLE,
            remedy="remove api: {enable: false} from headgate.yaml",
        )
    host, port = running.api
    return ApiClient(f"http://{f'[{host}]' if ':' in host else host}:{port}", token or location.token)
