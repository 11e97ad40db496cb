"""The interface between admin API and application, and the shapes of its answers.

The shapes are frozen dataclasses, from which FastAPI makes the schema of the API. Counters of a rule obey ``received =
filtered + failed + emitted``; a refused message is not counted as received, since its client sends it again. Counters
of a sink obey ``emitted = delivered + buffered + dead_lettered + dropped``; ``deduplicated`` is a part of
``delivered``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.errors import Problem


@dataclass(frozen=True, slots=True)
class ListenerView:
    """An address that devices connect to."""

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
    """Whether there are no `problems`."""
    problems: tuple[str, ...] = ()
    """A journal that can't be written, sinks that are held or full, a refused reload, and lost or orphaned records."""


@dataclass(frozen=True, slots=True)
class RuleView:
    """An active rule with its counters since its first message."""

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
    """Rows passed to sinks: rows times sinks."""
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class SinkView:
    """A sink with its status, and its counters since its first record."""

    id: str
    type: str
    description: str
    enable: bool
    status: str
    """connecting, connected, degraded, held, disconnected or stopped."""
    reason: str | None = None
    """The reason for a status other than connected."""
    since: int | None = None
    """Time of the last change of status, in milliseconds since 1970."""
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
    """Number of dead letters in store."""
    last_error: str | None = None
    next_attempt_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterView:
    """A record that could not be stored, with the reason. ``row`` has JSON's types, and is absent in lists."""

    id: int
    sink: str
    rule: str
    client: str
    topic: str
    time_ms: int
    """Time of receipt of the message, in milliseconds since 1970."""
    died_ms: int
    """Time of its failure, in milliseconds since 1970."""
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
    """Gauges, and counters since the start of the process, by name; `metrics` has the same for Prometheus."""

    gauges: dict[str, float] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


class AdminPort(Protocol):
    """The operations of a running application.

    Raises `KeyError`, with a sentence as its argument, for what does not exist, and `DeliveryError` or `JournalError`
    for an operation that fails.
    """

    def process(self) -> ProcessView: ...

    def rules(self) -> Sequence[RuleView]: ...

    def sinks(self) -> Sequence[SinkView]: ...

    def stats(self) -> StatsView: ...

    def clients(self, limit: int, offset: int) -> Sequence[ClientView]:
        """Return connected clients, sorted by client id."""

    def kick(self, client_id: str) -> None:
        """Close the connection of a client."""

    async def dead_letters(self, sink_id: str, limit: int, offset: int) -> Sequence[DeadLetterView]:
        """Return dead letters of a sink, oldest first, without rows."""

    async def dead_letter(self, sink_id: str, letter_id: int) -> DeadLetterView:
        """Return a dead letter with its row."""

    async def retry_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None) -> int:
        """Send dead letters (None: all) to the sink again and return their number."""

    async def drop_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None) -> int:
        """Delete dead letters (None: all) and return their number."""

    async def reload(self) -> Sequence[Problem]:
        """Reload the project. With errors among the returned problems the running project stays."""
