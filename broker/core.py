"""The parts of a broker that its clients share, and what a client needs of its transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from broker.access import Access
from broker.config import BrokerConfig
from broker.deadlines import Deadlines
from broker.exchange import Exchange
from broker.hooks import Hooks
from broker.registry import Registry
from broker.retained import RetainedStore
from broker.router import Router
from broker.stats import Stats
from broker.topics import TopicNames
from broker.topicstage import TopicStage


class Transport(Protocol):
    """The part of asyncio's transports that a client needs."""

    def write(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...


class Work(Protocol):
    """Something that is waited for on behalf of a client."""

    def cancel(self) -> object:
        """Wait no longer."""


class Peer(Protocol):
    """A client, as those see it who look after all of them."""

    def flush(self) -> None:
        """Hand what is to be sent to the transport."""

    def check(self, now: float) -> None:
        """A deadline has come."""

    def fail_inside(self, error: Exception) -> None:
        """A bug of ours must cost one connection, never the others."""


@dataclass(slots=True, eq=False)
class Core:
    """What the clients of one broker share."""

    config: BrokerConfig
    hooks: Hooks
    access: Access
    topic_stage: TopicStage | None
    router: Router
    exchange: Exchange
    registry: Registry
    retained: RetainedStore
    stats: Stats
    names: TopicNames
    now_ms: Callable[[], int]
    monotonic: Callable[[], float]
    spawn: Callable[[Awaitable[Any], Callable[[Any], None]], Work]
    """Wait for something and call back with its result, or with its exception; not once it was cancelled."""
    assign_client_id: Callable[[], str]
    on_change: Callable[[], None]
    """Called when a hold was released or a connection has gone, for who waits for calm."""
    deadlines: Deadlines[Peer] = field(default_factory=Deadlines)
    unsent: list[Peer] = field(default_factory=list)
    """Clients with something to send, until the end of the read that caused it."""

    def flush(self) -> None:
        """Send what has gathered."""
        unsent = self.unsent
        while unsent:
            peer = unsent.pop()
            try:
                peer.flush()
            except Exception as error:
                peer.fail_inside(error)

    def check_deadlines(self) -> None:
        """Do what is due: time-outs of connections, ends of sessions, wills."""
        now = self.monotonic()
        for peer in list(self.deadlines.due(now)):
            try:
                peer.check(now)
            except Exception as error:
                peer.fail_inside(error)
        self.registry.check(now)
        self.flush()
