"""The composition root: builds the application from a project, names every concrete class, starts and stops in order.

Start: lock the data directory, open the journal, open the sinks' outboxes, activate the rules, and only then accept
clients. Stop: the reverse order, so that a message is in the journal before its acknowledgement is sent, and an
acknowledged message is on disk before the process ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random

import structlog

from broker.hooks import Hooks
from broker.server import Broker
from connectors import forget_identity
from engine.admin.server import ApiServer
from engine.app.admin import AppAdmin
from engine.app.datadir import DataDirectory
from engine.app.project import Project, ProjectError, read_project
from engine.bridge import Bridge
from engine.config.connectors import SinkEntry
from engine.config.project import SETTINGS_FILE
from engine.config.settings import Settings
from engine.connector import Publication, Sink
from engine.delivery import DeliveryService, Outbox
from engine.delivery.journal import Journal
from engine.errors import DeliveryError, Problem
from engine.intake.active import ActiveRule
from engine.intake.intake import Intake
from engine.language.ruleloader import RuleLoader
from engine.language.ruleset import Ruleset
from engine.service.clock import Clock, SystemClock

log = structlog.get_logger()

JOURNAL_FILE = "journal.sqlite"


class App:
    """A running Headgate: the project with its journal, sinks, rules, broker and API."""

    def __init__(
        self, directory: Path, *, environ: Mapping[str, str] | None = None, clock: Clock | None = None
    ) -> None:
        """Make the application. `start` reads and opens its files."""
        self.directory = directory
        self.clock = clock or SystemClock()
        self.version = version("headgate")
        self.started_ms = 0
        self.api: ApiServer | None = None
        self.last_reload: list[Problem] = []
        self._environ = environ
        self._reloading = asyncio.Lock()
        self._rule_loader = RuleLoader()
        self._undo: list[tuple[str, Callable[[float], Awaitable[None]]]] = []

    async def start(self) -> None:
        """Start all parts. If one fails, those started before it are stopped again.

        Raises `ProjectError`, `engine.app.datadir.DataDirectoryInUseError`, `JournalError` for a journal of a newer
        version, and `OSError` for a port that is in use.
        """
        project = read_project(self.directory, self._environ, self._rule_loader)
        if project.has_errors:
            raise ProjectError(project.problems, project.texts)
        try:
            await self._start(project)
        except BaseException:
            await self._unwind(deadline_s=1.0)
            raise

    async def stop(self, deadline_s: float) -> None:
        """Stop in order, within about `deadline_s`: accept no clients, acknowledge durable messages, flush, close."""
        if self._undo:
            log.info("stopping", deadline_s=deadline_s)
        await self._unwind(deadline_s)

    async def _unwind(self, deadline_s: float) -> None:
        """Stop the started parts in reverse order."""
        until = self.clock.monotonic() + deadline_s
        while self._undo:
            name, undo = self._undo.pop()
            try:
                await undo(max(until - self.clock.monotonic(), 0.1))
            except Exception:
                log.exception("stopping failed", part=name)

    async def reload(self) -> list[Problem]:
        """Read the project again and apply it. With errors among the returned problems, the running project stays."""
        async with self._reloading:
            project = await asyncio.to_thread(read_project, self.directory, self._environ, self._rule_loader)
            running = self.project.files.settings
            problems = [*project.problems, *_needs_restart(running, project.files.settings)]
            self.last_reload = problems
            if project.has_errors:
                log.warning("reload refused", mistakes=sum(p.severity == "error" for p in problems))
                return problems
            self.texts = project.texts
            await self._swap(project.within(running))
            rules = len(project.ruleset.rules)
            log.info("reloaded", rules=rules, compiled=project.compiled, sinks=len(project.sinks))
            return problems

    async def _start(self, project: Project) -> None:
        settings = project.files.settings
        self.project = project
        self.texts = project.texts
        self.started_ms = self.clock.now_ms()

        data = DataDirectory(project.files.data_dir)
        data.open()
        self._on_stop("data directory", lambda _: _now(data.close))

        self.journal = Journal(
            data.path / JOURNAL_FILE, clock=self.clock, on_renumbered=lambda: forget_identity(data.path)
        )
        await self.journal.start()
        self._on_stop("journal", lambda _: self.journal.stop())

        self.delivery = DeliveryService(self.journal, clock=self.clock, random=Random())
        await self.delivery.start()
        self._on_stop("delivery", self.delivery.stop)

        hooks = Hooks()
        self.broker = Broker(settings.broker_config(), hooks, now_ms=self.clock.now_ms, monotonic=self.clock.monotonic)
        self.intake = Intake(self.delivery.hold, self.delivery.pressure)
        self.bridge = Bridge(hooks, self.intake, self.clock)
        self.outboxes: dict[str, Outbox] = {}
        await self._open_sinks(project, project.active_sinks.values())
        self._activate(project.ruleset)

        if settings.api.enable:
            self.api = ApiServer(AppAdmin(self), settings.api)
            await self.api.start()
            self._on_stop("API", self._stop_api)

        await self.broker.start()
        self._on_stop("broker", self._stop_broker)
        data.announce(self._announcement())

    def _on_stop(self, name: str, undo: Callable[[float], Awaitable[None]]) -> None:
        self._undo.append((name, undo))

    async def _stop_broker(self, deadline_s: float) -> None:
        await self.broker.stop_accepting()
        await self.broker.stop(deadline_s)

    async def _stop_api(self, _: float) -> None:
        if self.api is not None:
            await self.api.stop()

    def _announcement(self) -> dict[str, object]:
        listeners = [{"type": item.type, "host": item.host, "port": item.port} for item in self.broker.listeners]
        api = None if self.api is None else {"host": self.api.address.host, "port": self.api.address.port}
        return {"pid": os.getpid(), "version": self.version, "listeners": listeners, "api": api}

    async def _open_sinks(self, project: Project, entries: Iterable[SinkEntry[type[Sink]]]) -> None:
        for entry in entries:
            sink = project.make_sink(entry, self._publish, self.clock)
            self.outboxes[entry.sink_id] = await self.delivery.open(entry.sink_id, sink, entry.config)

    async def _swap(self, project: Project) -> None:
        """Replace the running project by `project`. A changed sink keeps its outbox, and with it the backlog.

        Rules change at once. A sink that is writing is replaced when the write has ended.
        """
        old, new = self.project.active_sinks, project.active_sinks
        fresh = [entry for sink_id, entry in new.items() if sink_id not in old]
        changed = [entry for sink_id, entry in new.items() if sink_id in old and _differs(entry, old[sink_id])]
        gone = [sink_id for sink_id in old if sink_id not in new]
        sinks = [(entry, project.make_sink(entry, self._publish, self.clock)) for entry in changed]
        await self._open_sinks(project, fresh)
        self.project = project
        for sink_id in gone:
            del self.outboxes[sink_id]
        self._activate(project.ruleset, same_outboxes=not (fresh or gone))
        await asyncio.gather(
            *(self.delivery.replace(entry.sink_id, sink, entry.config) for entry, sink in sinks),
            *(self.delivery.close(sink_id) for sink_id in gone),
        )

    def _activate(self, ruleset: Ruleset, same_outboxes: bool = False) -> None:
        """Serve `ruleset`. With `same_outboxes`, rules that are the same objects as before stay in service as they are:
        setting up 1,000 anew would hold the event loop for milliseconds at every edit of one."""
        running = self.intake.rules if same_outboxes else {}
        active: dict[str, ActiveRule] = {}
        for rule in ruleset.rules.values():
            before = running.get(rule.id)
            if before is None or before.rule is not rule:
                before = ActiveRule(rule, self.outboxes, self.delivery.rule_counters(rule.id))
            active[rule.id] = before
        self.intake.swap(ruleset, active)
        self.bridge.listen()

    async def _publish(self, publications: Sequence[Publication]) -> Mapping[int, DeliveryError]:
        return await self.bridge.publish(self.broker, publications)


async def _now(action: Callable[[], None]) -> None:
    action()


def _differs(new: SinkEntry[type[Sink]], old: SinkEntry[type[Sink]]) -> bool:
    return new.kind_class is not old.kind_class or new.config != old.config


def _needs_restart(running: Settings, written: Settings) -> list[Problem]:
    """Return warnings for changed settings that only a restart applies."""
    return [
        Problem(
            f"{name} changed; it takes effect at the next start", SETTINGS_FILE, remedy="restart", severity="warning"
        )
        for name in Settings.model_fields
        if name != "rules" and getattr(running, name) != getattr(written, name)
    ]
