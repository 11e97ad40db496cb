"""What the admin API asks of the application, and the shapes it answers in.

The shapes are frozen dataclasses: FastAPI makes the schema of the API from them, and the command line reads them.
Counters of a rule obey ``received = filtered + failed + emitted`` (a refused message was not received, it comes again);
those of a sink ``emitted = delivered + buffered + dead_lettered + dropped`` (``deduplicated`` is a part of
``delivered``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.errors import Problem


@dataclass(frozen=True, slots=True)
class ListenerView:
    """Where devices connect."""

    type: str
    host: str
    port: int
    connections: int = 0


@dataclass(frozen=True, slots=True)
class ProcessView:
    """The running process."""

    version: str
    pid: int
    project: str
    data_dir: str
    started_at: int
    """Milliseconds since 1970."""
    uptime_s: float
    listeners: tuple[ListenerView, ...]
    rules: int
    sinks: int
    healthy: bool = True
    """Whether everything is acknowledged and delivered as promised: the journal writes, no sink is held."""
    problems: tuple[str, ...] = ()
    """What keeps it from being healthy, and what went wrong with the last reload."""


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule in service and what it has counted since its first message."""

    id: str
    sql: str
    description: str
    enable: bool
    sources: tuple[str, ...]
    sinks: tuple[str, ...]
    ack: str
    received: int = 0
    filtered: int = 0
    failed: int = 0
    emitted: int = 0
    refused: int = 0
    records: int = 0
    """What `emitted` came to in sinks: rows times sinks."""
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class SinkView:
    """A sink, how it is, and what it has counted since its first record."""

    id: str
    type: str
    description: str
    enable: bool
    status: str
    """connecting, connected, degraded, held, disconnected or stopped."""
    reason: str | None = None
    """Why, where it is not connected."""
    since: int | None = None
    """Since when, in milliseconds since 1970."""
    emitted: int = 0
    delivered: int = 0
    deduplicated: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    retried: int = 0
    buffered: int = 0
    buffered_bytes: int = 0
    oldest_age_s: float | None = None
    dead_letters: int = 0
    """How many are kept now."""
    last_error: str | None = None
    next_attempt_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterView:
    """A record that could not be stored, with the reason. ``row`` is missing in lists, and holds what JSON can."""

    id: int
    sink: str
    rule: str
    client: str
    topic: str
    time_ms: int
    """When the message came."""
    died_ms: int
    """When it was given up."""
    reason: str
    code: str | None = None
    attempts: int = 1
    row: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ClientView:
    """A connected client."""

    clientid: str
    username: str | None
    ip_address: str | None
    port: int | None
    proto_ver: int
    keepalive: int
    clean_start: bool
    connected_at: int


@dataclass(frozen=True, slots=True)
class StatsView:
    """Figures of the moment and of the process's life, by name; `metrics` shows the same to Prometheus."""

    gauges: dict[str, float] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


class AdminPort(Protocol):
    """What the application offers. A `KeyError` holds the sentence that says what is not there; `DeliveryError` and
    `JournalError` say what failed."""

    def process(self) -> ProcessView: ...

    def rules(self) -> Sequence[RuleView]: ...

    def sinks(self) -> Sequence[SinkView]: ...

    def stats(self) -> StatsView: ...

    def clients(self, limit: int, offset: int) -> Sequence[ClientView]:
        """Connected clients, by client id."""

    def kick(self, client_id: str) -> None:
        """Close the connection of a client."""

    async def dead_letters(self, sink_id: str, limit: int, offset: int) -> Sequence[DeadLetterView]:
        """What is kept of a sink, oldest first, without rows."""

    async def dead_letter(self, sink_id: str, letter_id: int) -> DeadLetterView:
        """One of them, with its row."""

    async def retry_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None) -> int:
        """Hand them (None: all) to the sink again; answers how many."""

    async def drop_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None) -> int:
        """Forget them (None: all) for good; answers how many."""

    async def reload(self) -> Sequence[Problem]:
        """Read the project again; with errors among the problems the running set stays."""
