"""The admin port of a running application: its state in the shapes of `engine.admin.port`.

`RunningApp` names the parts that are read, so that this module does not import the composition root, which imports it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from broker.server import Broker
from engine.admin.port import ClientView, DeadLetterView, ListenerView, ProcessView, RuleView, SinkView, StatsView
from engine.app.project import Project
from engine.delivery import DeliveryService, Outbox, StoredLetter
from engine.delivery.journal import Journal
from engine.errors import Problem
from engine.intake.intake import Intake
from engine.model.jsontext import decode, encode
from engine.service.clock import Clock
from engine.service.log import redact


class RunningApp(Protocol):
    """The parts of a started `engine.app.runtime.App` that the admin port reads."""

    directory: Path
    version: str
    clock: Clock
    started_ms: int
    project: Project
    texts: dict[str, str]
    last_reload: list[Problem]
    journal: Journal
    delivery: DeliveryService
    broker: Broker
    intake: Intake
    outboxes: dict[str, Outbox]

    async def reload(self) -> list[Problem]:
        """Reload the project. With errors among the returned problems the running project stays."""


class AppAdmin:
    """Implements `engine.admin.port.AdminPort` over a running application: reads, delegates, decides nothing."""

    def __init__(self, app: RunningApp) -> None:
        self._app = app

    def process(self) -> ProcessView:
        app = self._app
        problems = tuple(map(redact, self._problems()))
        return ProcessView(
            version=app.version,
            pid=os.getpid(),
            project=str(app.directory.absolute()),
            data_dir=str(app.project.files.data_dir),
            started_at=app.started_ms,
            uptime_s=(app.clock.now_ms() - app.started_ms) / 1000,
            listeners=tuple(
                ListenerView(item.type, item.host, item.port, len(item.connections)) for item in app.broker.listeners
            ),
            rules=len(app.project.ruleset.rules),
            sinks=len(app.project.sinks),
            healthy=not problems,
            problems=problems,
        )

    def rules(self) -> Sequence[RuleView]:
        return [self._rule(rule_id) for rule_id in self._app.project.ruleset.rules]

    def sinks(self) -> Sequence[SinkView]:
        return [self._sink(sink_id) for sink_id in self._app.project.sinks]

    def stats(self) -> StatsView:
        broker = self._app.broker
        gauges = {
            "connections": broker.connection_count,
            "sessions": broker.session_count,
            "subscriptions": broker.subscription_count,
            "retained_messages": broker.retained_count,
        }
        counters: dict[str, int] = {}
        for name, value in broker.stats.snapshot().items():
            if isinstance(value, dict):
                counters |= {f"{name}_{reason}": count for reason, count in value.items()}
            elif isinstance(value, int):
                counters[name] = value
        return StatsView(gauges={name: float(value) for name, value in gauges.items()}, counters=counters)

    def clients(self, limit: int, offset: int) -> Sequence[ClientView]:
        return [
            ClientView(
                clientid=info.client_id,
                username=info.username,
                ip_address=None if info.origin.peer is None else info.origin.peer.host,
                port=None if info.origin.peer is None else info.origin.peer.port,
                proto_ver=info.protocol_version,
                keepalive=info.keep_alive,
                clean_start=info.clean_start,
                connected_at=info.connected_at,
            )
            for info in sorted(self._app.broker.clients, key=lambda info: info.client_id)[offset : offset + limit]
        ]

    def kick(self, client_id: str) -> None:
        if not self._app.broker.kick(client_id):
            raise KeyError(f"no client {client_id!r} is connected")

    async def dead_letters(self, sink_id: str, limit: int, offset: int) -> Sequence[DeadLetterView]:
        letters = await self._app.delivery.dead_letters(sink_id, limit, offset)
        return [_letter(letter, with_row=False) for letter in letters]

    async def dead_letter(self, sink_id: str, letter_id: int) -> DeadLetterView:
        return _letter(await self._app.delivery.dead_letter(sink_id, letter_id), with_row=True)

    async def retry_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None) -> int:
        if sink_id not in self._app.outboxes:
            raise KeyError(f"sink {sink_id!r} is disabled: it takes nothing until it is enabled again")
        return await self._app.delivery.retry_dead_letters(sink_id, letter_ids)

    async def drop_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None) -> int:
        return await self._app.delivery.drop_dead_letters(sink_id, letter_ids)

    async def reload(self) -> Sequence[Problem]:
        return await self._app.reload()

    def _problems(self) -> Iterator[str]:
        app = self._app
        if app.journal.recovery.is_loss:
            yield app.journal.recovery.message
        failing = app.journal.failing
        if failing is not None:
            yield f"the journal can't be written, so publishes are refused: {failing}"
        for view in self.sinks():
            if view.status == "held":
                yield f"sink {view.id} is held: {view.reason}"
            outbox = app.outboxes.get(view.id)
            if outbox is not None and outbox.refusing and failing is None:
                yield f"sink {view.id} is full: publishes are refused"
        for name, count in app.delivery.unconfigured().items():
            if name not in app.project.sinks:
                yield f"sink {name} is not in connectors.yaml any more, and {count:,} records wait for it"
        errors = [problem for problem in app.last_reload if problem.severity == "error"]
        if errors:
            yield f"the last reload was refused: {_place(errors[0])}{errors[0].message}"

    def _rule(self, rule_id: str) -> RuleView:
        app = self._app
        rule = app.project.ruleset.rules[rule_id]
        active = app.intake.rules[rule_id]
        counters = active.counters
        return RuleView(
            id=rule_id,
            sql=app.texts.get(rule.path, ""),
            description=rule.description,
            enable=rule.enabled,
            sources=rule.topics,
            sinks=tuple(target.name for target in rule.sinks),
            ack=rule.ack,
            received=counters.received,
            filtered=counters.filtered,
            failed=counters.failed,
            emitted=counters.emitted,
            refused=counters.refused,
            records=counters.records,
            last_error=_redacted(active.last_error),
        )

    def _sink(self, sink_id: str) -> SinkView:
        entry = self._app.project.sinks[sink_id]
        outbox = self._app.outboxes.get(sink_id)
        if outbox is None:
            return self._disabled_sink(sink_id)
        status = outbox.status()
        counters = outbox.counters
        now_ms = self._app.clock.now_ms()
        return SinkView(
            id=sink_id,
            type=entry.config.type,
            description=entry.config.description,
            enable=entry.config.enable,
            status=status.state,
            reason=_redacted(status.reason),
            since=status.since_ms,
            emitted=counters.emitted,
            delivered=counters.delivered,
            deduplicated=counters.deduplicated,
            dead_lettered=counters.dead_lettered,
            dropped=counters.dropped,
            retried=counters.retried,
            buffered=counters.buffered,
            buffered_bytes=status.buffered_bytes,
            oldest_age_s=status.oldest_age_s(now_ms),
            dead_letters=status.dead_letters,
            last_error=_redacted(status.last_error),
            next_attempt_in_s=_until(status.next_attempt_ms, now_ms),
        )

    def _disabled_sink(self, sink_id: str) -> SinkView:
        config = self._app.project.sinks[sink_id].config
        counters = self._app.delivery.sink_counters(sink_id)
        return SinkView(
            id=sink_id,
            type=config.type,
            description=config.description,
            enable=False,
            status="stopped",
            reason="disabled",
            emitted=counters.emitted,
            delivered=counters.delivered,
            deduplicated=counters.deduplicated,
            dead_lettered=counters.dead_lettered,
            dropped=counters.dropped,
            retried=counters.retried,
            buffered=counters.buffered,
            dead_letters=counters.dead_lettered,
        )


def _place(problem: Problem) -> str:
    """Return the position of a problem as ``rules/hot_rooms.sql:5: ``, or the part of it that is known."""
    parts = (problem.path, problem.position.line if problem.position else None)
    return "".join(f"{part}:" for part in parts if part is not None) + (" " if problem.path else "")


def _redacted(error: str | None) -> str | None:
    """Redact an error: it can quote options of a sink."""
    return None if error is None else redact(error)


def _until(at_ms: int | None, now_ms: int) -> float | None:
    return None if at_ms is None else max(at_ms - now_ms, 0) / 1000


def _letter(letter: StoredLetter, *, with_row: bool) -> DeadLetterView:
    return DeadLetterView(
        id=letter.id,
        sink=letter.sink_id,
        rule=letter.rule_id,
        client=letter.client_id,
        topic=letter.topic,
        time_ms=letter.time_ms,
        died_ms=letter.died_ms,
        reason=redact(letter.message),
        code=letter.code,
        attempts=letter.attempts,
        row=decode(encode(letter.row)) if with_row else None,
    )
