"""``headgate run``: one running project, until a signal ends it.

SIGTERM and SIGINT stop in order; a second one ends the process at once, which loses nothing that was acknowledged.
SIGHUP, or a change of a file, reloads the project.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import typer

from broker.origin import Address
from engine.cli.process import ProjectOption
from engine.cli.report import EXIT_USAGE, CommandError, render, summary, terminal_style, write_line
from engine.cli.welcome import Target, target_of, welcome
from engine.config.project import load_settings
from engine.errors import Problem
from engine.service.log import configure
from engine.service.tasks import Tasks

if TYPE_CHECKING:
    from engine.admin.port import AdminPort
    from engine.app.runtime import App

log = structlog.get_logger()

STOP_DEADLINE_S = 10.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("run")(run)


def run(
    project: Path = ProjectOption,
    demo: bool = typer.Option(False, "--demo", help="Start ten simulated devices that publish."),
    watch: bool = typer.Option(True, "--watch/--no-watch", help="Reload when a file changes."),
) -> None:
    """Start the broker, rules and sinks of a project.

    Rules and connectors are reloaded when a file changes; if the new files have errors, these are shown and the
    running project stays. Ctrl-C stops in order. A second Ctrl-C stops at once; acknowledged messages are never lost.

    Examples:

      headgate run

      headgate run --project plant

      headgate run --demo
    """
    import uvloop

    settings = load_settings(project, os.environ)
    if demo and not settings.listeners:
        remedy = "write one under listeners: in headgate.yaml"
        raise CommandError("--demo needs a listener", exit_code=EXIT_USAGE, remedy=remedy)
    configure(settings.log.format, settings.log.level)
    code = uvloop.run(Running(project.absolute(), demo=demo, watch=watch).run())
    if code:
        raise typer.Exit(code)


class Running:
    """The process from start to stop: starts, waits for a signal, stops."""

    def __init__(self, directory: Path, *, demo: bool, watch: bool) -> None:
        self._directory = directory
        self._demo = demo
        self._watch = watch
        self._tasks = Tasks("run")
        self._started = asyncio.Event()
        self._stop_asked = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal and return the exit code. Raises the error that keeps the application from starting."""
        from engine.app.runtime import App

        app = App(self._directory)
        self._listen_to_signals(app)
        starting = self._tasks.spawn(_failure_of(app.start()), "start")
        asked = self._tasks.spawn(self._stop_asked.wait(), "signal")
        await asyncio.wait([starting, asked], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
            return 0
        failure = starting.result()
        if failure is not None:
            raise failure
        self._started.set()
        # Modules and rules live as long as the process. A full collection that visits them stops all threads for 0.1 s
        # with 1,000 rules, also where a reload in another thread sets it off.
        gc.collect()
        gc.freeze()
        services = await self._start_around(app)
        await asked
        for stop in reversed(services):
            await stop()
        await app.stop(STOP_DEADLINE_S)
        return 0

    async def _start_around(self, app: App) -> list[Callable[[], Awaitable[None]]]:
        """Start the services of the command itself and return the functions that stop them."""
        from engine.app.admin import AppAdmin

        port = AppAdmin(app)
        process = port.process()
        if app.project.problems:
            write_line(f"{render(app.project.problems, app.project.texts, terminal_style(sys.stderr))}\n", sys.stderr)
        write_line(_welcome(app, port), sys.stdout)
        services: list[Callable[[], Awaitable[None]]] = [self._tasks.cancel]
        if self._watch:
            from engine.cli.watch import FileWatcher

            watcher = FileWatcher(self._directory, lambda: app.project.files.rules_dir, lambda: self._reload(app))
            await watcher.start()
            services.append(watcher.stop)
        if self._demo:
            from engine.cli.demo import Demonstration

            listener = process.listeners[0]
            demonstration = Demonstration(port, Address(listener.host, listener.port))
            await demonstration.start()
            services.append(demonstration.stop)
        return services

    def _listen_to_signals(self, app: App) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._tasks.spawn(self._reload(app), "reload"))

    def _on_stop_signal(self, number: int) -> None:
        if self._stop_asked.is_set():
            # Only messages on disk have been acknowledged, so that nothing is left to save.
            os._exit(128 + number)
        self._stop_asked.set()

    async def _reload(self, app: App) -> None:
        await self._started.wait()
        problems = await app.reload()
        if problems:
            write_line(reload_report(problems, self._directory), sys.stderr)


async def _failure_of(work: Awaitable[None]) -> Exception | None:
    """Return the exception of `work` as a value, so that it is not reported as the failure of a task."""
    try:
        await work
    except Exception as error:
        return error
    return None


def reload_report(problems: Sequence[Problem], directory: Path) -> str:
    """Return the report of a reload: its problems, and whether the running project stays."""
    paths = {problem.path for problem in problems if problem.path is not None}
    texts = {
        path: (directory / path).read_text("utf-8-sig", "replace") for path in paths if (directory / path).is_file()
    }
    report = render(problems, texts, terminal_style(sys.stderr))
    if any(problem.severity == "error" for problem in problems):
        return f"{report}\n\n{summary(problems)}: the running project stays unchanged"
    return report


def _welcome(app: App, port: AdminPort) -> str:
    targets: list[Target] = [
        (entry.sink_id, entry.config.type, target_of(entry.config)) for entry in app.project.sinks.values()
    ]
    # With a token a browser can't open the pages: it can't send one.
    pages = "/api-docs" if app.project.files.settings.api.token is None else ", with its token"
    api = None if app.api is None else f"http://{app.api.address}{pages}"
    return welcome(port.process(), port.rules(), targets, api, terminal_style(sys.stdout))
