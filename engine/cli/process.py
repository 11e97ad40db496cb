"""The running process, as other commands reach it: where its API is, and asking it."""

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
    """What ``run.json`` says of a process."""

    pid: int
    listeners: tuple[tuple[str, int], ...]
    api: tuple[str, int] | None


def read_run_file(data_dir: Path) -> RunningProcess | None:
    """The process that works in `data_dir`, or None where no note of one can be read."""
    try:
        note = json.loads((data_dir / "run.json").read_text(encoding="utf-8"))
        api = note.get("api")
        return RunningProcess(
            pid=int(note["pid"]),
            listeners=tuple((_reachable(item["host"]), int(item["port"])) for item in note["listeners"]),
            api=None if not api else (_reachable(api["host"]), int(api["port"])),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _reachable(host: str) -> str:
    """What to connect to for something that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


class ApiClient:
    """Asks the API of a running process. What can't be answered raises `CommandError` with the exit code for it."""

    def __init__(self, url: str, token: str | None) -> None:
        # httpx takes a tenth of a second to import; only commands that ask pay for it.
        import httpx

        if token is not None and not is_token(token):
            message = "the token can't be one: it holds letters, digits and signs of ASCII, no spaces"
            raise CommandError(message, exit_code=EXIT_USAGE)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            is_url = httpx.URL(url).scheme in ("http", "https")
        except httpx.InvalidURL:
            is_url = False
        if not is_url:
            remedy = "write it like http://127.0.0.1:18083"
            raise CommandError(f"{url!r} is no URL of an API", exit_code=EXIT_USAGE, remedy=remedy)
        self._client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self._url = url

    def ask(self, method: str, path: str, **parameters: Any) -> Any:
        """The JSON that `path` answers."""
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
        """Every entry of a list, page by page."""
        entries: list[Any] = []
        page = 1
        while True:
            answer = self.ask("GET", path, page=page, limit=1000)
            entries += answer["data"]
            if not answer["meta"]["hasnext"]:
                return entries
            page += 1


def find_api(project: Path, api: str | None, token: str | None, environ: Mapping[str, str] | None = None) -> ApiClient:
    """The API at the URL `api`, or else that of the process that runs `project`."""
    if api is not None:
        return ApiClient(api if "://" in api or not api else f"http://{api}", token)
    place = locate(project, os.environ if environ is None else environ)
    running = read_run_file(place.data_dir)
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
            remedy="take api: {enable: false} out of headgate.yaml",
        )
    host, port = running.api
    return ApiClient(f"http://{f'[{host}]' if ':' in host else host}:{port}", token or place.token)
