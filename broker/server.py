"""The broker as a service: its parts, listeners, tasks and timer, and the API for the application."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from broker.access import Access, AllowAll
from broker.client import Client
from broker.codec.packets import Publish, Will, check_publish_properties
from broker.codec.properties import check_properties
from broker.codec.reasons import Reason
from broker.config import BrokerConfig
from broker.core import Core, Transport, Work
from broker.exchange import Exchange
from broker.hooks import ClientInfo, Hooks
from broker.incoming import publish_will
from broker.listeners import Listener, load_listener
from broker.origin import Origin
from broker.receipt import Receipt
from broker.registry import Registry
from broker.retained import MemoryRetained, RetainedStore
from broker.router import Router
from broker.stats import Stats
from broker.store import MemorySessions, SessionStore
from broker.topics import TopicNames, check_topic_name
from broker.topicstage import TopicStage

log = logging.getLogger(__name__)

_SWEEP_S = 0.5
"""The interval between checks of all deadlines."""
_CLOSE_S = 0.25
"""The longest wait for connections to send DISCONNECT and close when the broker stops."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Broker:
    """An MQTT broker. ``hooks`` may be changed while it runs; everything else is fixed when it is made."""

    def __init__(
        self,
        config: BrokerConfig,
        hooks: Hooks,
        *,
        access: Access | None = None,
        topic_stage: TopicStage | None = None,
        sessions: SessionStore | None = None,
        retained: RetainedStore | None = None,
        now_ms: Callable[[], int] = _now_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        router = Router(config.topic_cache_size)
        stats = Stats()
        retained = MemoryRetained(config.max_retained_messages) if retained is None else retained
        sessions = MemorySessions(config) if sessions is None else sessions
        self._core = Core(
            config=config,
            hooks=hooks,
            access=AllowAll() if access is None else access,
            topic_stage=topic_stage,
            router=router,
            exchange=Exchange(config, hooks, router, retained, stats),
            registry=Registry(config, router, sessions, self._publish_will, self._spawn, self._on_change),
            retained=retained,
            stats=stats,
            names=TopicNames(config.max_topic_levels, config.topic_cache_size),
            now_ms=now_ms,
            monotonic=monotonic,
            spawn=self._spawn,
            assign_client_id=_assign_client_id,
            on_change=self._on_change,
        )
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self.hooks = hooks
        self.stats = stats
        self.listeners: list[Listener] = [load_listener(each.type)(each, self._core) for each in config.listeners]

    # Starting and stopping

    async def start(self) -> None:
        """Bind all listeners. Raises `OSError` naming the address when one cannot be bound; then none is left bound."""
        started: list[Listener] = []
        try:
            for listener in self.listeners:
                await listener.start()
                started.append(listener)
        except OSError:
            for listener in started:
                await listener.stop_accepting()
            raise
        self._sweep()

    async def stop_accepting(self) -> None:
        """Accept no new connections; open ones stay."""
        for listener in self.listeners:
            await listener.stop_accepting()

    async def stop(self, deadline_s: float) -> None:
        """Wait at most `deadline_s` for held acknowledgements, then disconnect all clients and close everything."""
        await self.stop_accepting()
        for client in self._clients():
            client.stop_reading()
        until = self._core.monotonic() + deadline_s
        await self._wait_until(lambda: not self._held_count(), until)
        for client in self._clients():
            client.leave("shutdown", Reason.SERVER_SHUTTING_DOWN)
        self._core.flush()
        await self._wait_until(lambda: not self.connection_count, self._core.monotonic() + _CLOSE_S)
        for client in self._clients():
            client.abort()
        await self._wait_until(lambda: not self.connection_count, self._core.monotonic() + _CLOSE_S)
        # The store finishes what it was given, and wills wait for a permission that has to be asked.
        await self._wait_until(lambda: self._core.registry.is_settled and not self._tasks, until)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        while self._tasks:  # clients that are told of it may have their sessions written
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # The API of the application

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        properties: Mapping[str, Any] | None,
        publisher: ClientInfo,
        received_at: int,
    ) -> Receipt:
        """Route a message of the application's own. The receipt has code 0x10 where nobody subscribes to it.

        ``hooks.published`` is not called. Raises what `check` raises.
        """
        self.check(topic, properties)
        publish = Publish(topic, payload, qos, retain, False, 0, dict(properties) if properties else None)
        receipt = self._core.exchange.publish([publish], publisher, received_at)
        self._core.flush()
        return receipt

    def check(self, topic: str, properties: Mapping[str, Any] | None) -> None:
        """Raise `InvalidTopic`, `ProtocolError` or `ValueError` for a topic or properties that no PUBLISH may have."""
        check_topic_name(topic, self._core.config.max_topic_levels)
        if properties:
            check_properties(properties, "publish")
            check_publish_properties(dict(properties))

    def kick(self, client_id: str) -> bool:
        """Disconnect a client (0x98) and end its session. Return False when there is neither."""
        registry = self._core.registry
        has_left = registry.disconnect(client_id, "kicked", Reason.ADMINISTRATIVE_ACTION)
        session = registry.sessions.get(client_id)
        if session is not None:
            registry.end(session)
        self._core.flush()
        return has_left or session is not None

    @property
    def clients(self) -> list[ClientInfo]:
        """The information of all connected clients."""
        return [client.info for client in self._core.registry.clients.values()]

    @property
    def connection_count(self) -> int:
        """The number of network connections, including those without a CONNECT."""
        return sum(len(listener.connections) for listener in self.listeners)

    @property
    def session_count(self) -> int:
        """The number of sessions of connected and absent clients."""
        return len(self._core.registry.sessions)

    @property
    def subscription_count(self) -> int:
        """The number of subscriptions of all sessions."""
        return self._core.router.subscription_count

    @property
    def retained_count(self) -> int:
        """The number of retained messages."""
        return len(self._core.retained)

    def accept(self, transport: Transport, origin: Origin) -> Client:
        """Return the client of a new connection, for transports that the application brings itself."""
        return Client(self._core, transport, origin)

    def check_deadlines(self) -> None:
        """Check keep-alive, session expiry and wills. A broker that was started calls this at intervals."""
        self._core.check_deadlines()

    # Internals

    def _clients(self) -> list[Client]:
        return [
            connection.client
            for listener in self.listeners
            for connection in list(listener.connections)
            if connection.client is not None
        ]

    def _held_count(self) -> int:
        return sum(client.held_count for client in self._clients())

    async def _wait_until(self, done: Callable[[], bool], until: float) -> None:
        """Wait until `done` returns true, which only a change can cause, at most until the time `until`."""
        while not done():
            left = until - self._core.monotonic()
            if left <= 0:
                return
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    def _sweep(self) -> None:
        """Check all deadlines now, and again after the interval."""
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        self.check_deadlines()

    def _on_change(self) -> None:
        self._changed.set()

    def _publish_will(self, will: Will, info: ClientInfo) -> None:
        publish_will(self._core, will, info)

    def _spawn(self, work: Awaitable[Any], done: Callable[[Any], None]) -> Work:
        waiting = _Waiting(work, done)
        self._tasks.add(waiting.task)
        waiting.task.add_done_callback(self._finished)
        return waiting

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._on_change()


class _Waiting:
    """A task that waits for `work` and gives its result, or its exception, to `done`.

    No frame of it has a name for an exception, and `cancel` drops the callback: frames and the exceptions that passed
    through them refer to each other, and would keep the client behind the callback until a garbage collection.
    """

    __slots__ = ("_done", "task")

    def __init__(self, work: Awaitable[Any], done: Callable[[Any], None]) -> None:
        self._done: Callable[[Any], None] | None = done
        self.task = asyncio.get_running_loop().create_task(self._run(work), name="broker:wait")
        self.task.add_done_callback(partial(self._ended, work))

    def cancel(self) -> None:
        self._done = None
        self.task.cancel()

    async def _run(self, work: Awaitable[Any]) -> None:
        try:
            result = await work
        except Exception as error:
            self._call(error)
        else:
            self._call(result)

    def _ended(self, work: Awaitable[Any], task: asyncio.Task[None]) -> None:
        """Report a cancellation that was not asked for by `cancel` as a failure: nobody must wait for ever."""
        if not task.cancelled():
            return
        if asyncio.iscoroutine(work):
            work.close()  # it may not have begun, and Python warns of coroutines that never do
        self._call(asyncio.CancelledError())

    def _call(self, result: Any) -> None:
        done, self._done = self._done, None
        try:
            if done is not None:
                done(result)
        except Exception:  # a bug of ours that no caller could handle
            log.exception("internal error behind an answer")


def _assign_client_id() -> str:
    return f"auto-{secrets.token_hex(8)}"
