"""The parts of a broker that its clients share, and the interfaces between a client, its transport and the broker."""

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
    """The methods of asyncio's transports that a client calls."""

    def write(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...


class Work(Protocol):
    """A task that waits for a result on behalf of a client."""

    def cancel(self) -> object:
        """Stop waiting; the callback is not called."""


class Peer(Protocol):
    """The methods of a client that `Core` calls."""

    def flush(self) -> None:
        """Hand what is to be sent to the transport."""

    def check(self, now: float) -> None:
        """Check the deadlines of this client, of which one has passed."""

    def fail_inside(self, error: Exception) -> None:
        """Log an unexpected exception and close this connection; others must not notice."""


@dataclass(slots=True, eq=False)
class Core:
    """The shared parts of one broker."""

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
    """Await in a task and call back with the result or the exception, unless cancelled."""
    assign_client_id: Callable[[], str]
    on_change: Callable[[], None]
    """Called when a hold is done or a connection has closed; stopping waits for both."""
    deadlines: Deadlines[Peer] = field(default_factory=Deadlines)
    unsent: list[Peer] = field(default_factory=list)
    """Clients with data to send, flushed at the end of the read that caused it: one write a client and read."""

    def flush(self) -> None:
        """Hand the data of all clients in ``unsent`` to their transports."""
        unsent = self.unsent
        while unsent:
            peer = unsent.pop()
            try:
                peer.flush()
            except Exception as error:
                peer.fail_inside(error)

    def check_deadlines(self) -> None:
        """Check the time-outs of connections, the expiry of sessions and delayed wills."""
        now = self.monotonic()
        for peer in list(self.deadlines.due(now)):
            try:
                peer.check(now)
            except Exception as error:
                peer.fail_inside(error)
        self.registry.check(now)
        self.flush()
