"""Doubles of the interfaces between the broker and what may be slow, elsewhere or on disk.

A remote subscriber, a session store that answers at the test's call, and a record of sessions that is made of their
notifications alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

from broker.codec.outgoing import OutgoingPublish
from broker.codec.packets import Will
from broker.config import BrokerConfig
from broker.hooks import ClientInfo, RoutedMessage
from broker.receipt import Hold
from broker.retained import MemoryRetained
from broker.session import Session
from broker.store import MemorySessions
from broker.subscriber import Availability, Delivery, OfferOutcome, Subscribed
from support.mqtt_world import ManualHold

Result = TypeVar("Result")


class RemoteSubscriber:
    """A subscriber in another process: what it is offered is confirmed later, or fails, as the test says."""

    def __init__(self, name: str = "node-2") -> None:
        self.key = f"\0\0{name}"
        self.info = ClientInfo(name)
        self.offered: list[Delivery] = []
        self.holds: list[ManualHold] = []
        self.available = Availability.READY

    def offer(self, delivery: Delivery, outgoing: OutgoingPublish) -> OfferOutcome:
        self.offered.append(delivery)
        self.holds.append(ManualHold())
        return OfferOutcome(hold=self.holds[-1])

    def availability(self, qos: int) -> Availability:
        return self.available

    def confirm(self, *, failed: bool = False) -> None:
        """Finish the oldest hold."""
        self.holds.pop(0).finish(failed=failed)


class HeldRetained:
    """Retained messages that are stored when the test finishes their holds."""

    def __init__(self) -> None:
        self._memory = MemoryRetained(count_max=100)
        self.holds: list[ManualHold] = []

    def __len__(self) -> int:
        return len(self._memory)

    def match(self, topic_filter: str, now_ms: int) -> Iterable[RoutedMessage]:
        return self._memory.match(topic_filter, now_ms)

    def put(self, message: RoutedMessage) -> Hold | bool:
        return self._memory.put(message) and self._hold()

    def remove(self, topic: str) -> Hold | None:
        self._memory.remove(topic)
        return self._hold()

    def _hold(self) -> ManualHold:
        self.holds.append(ManualHold())
        return self.holds[-1]


class SlowSessions:
    """Sessions in memory behind a store that answers at the test's call.

    The methods named in ``slow`` (load, flush, remove) answer with an awaitable, those in ``broken`` raise.
    """

    def __init__(self, config: BrokerConfig | None = None, slow: str = "load") -> None:
        self._memory = MemorySessions(config or BrokerConfig())
        self.slow = set(slow.split())
        self.broken: set[str] = set()
        self.owed: list[tuple[str, str, asyncio.Future[None]]] = []
        """Answers not yet given: method, client id, and the future that gives it."""

    def __len__(self) -> int:
        return len(self._memory)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._memory)

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._memory

    def get(self, client_id: str) -> Session | None:
        return self._memory.get(client_id)

    def create(self, info: ClientInfo) -> Session:
        return self._memory.create(info)

    def load(self, client_id: str) -> Session | Awaitable[Session | None] | None:
        return self._answer("load", client_id, lambda: self._memory.load(client_id))

    def remove(self, client_id: str) -> Awaitable[None] | None:
        self._memory.remove(client_id)
        return self._answer("remove", client_id, lambda: None)

    def flush(self, session: Session) -> Awaitable[None] | None:
        return self._answer("flush", session.key, lambda: None)

    async def answer(self, *, error: Exception | None = None) -> tuple[str, str]:
        """Give the oldest answer that is owed, or fail with `error`; return method and client id."""
        method, client_id, future = self.owed.pop(0)
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
        await turn()
        return method, client_id

    def _answer(self, method: str, client_id: str, result: Callable[[], Result]) -> Result | Awaitable[Result]:
        if method in self.broken:
            raise OSError(f"{method} is broken")
        if method not in self.slow:
            return result()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.owed.append((method, client_id, future))

        async def later() -> Result:
            await future
            return result()

        return later()


async def turn() -> None:
    """Let the tasks of the broker go on: one turn to begin to wait, one for the answer, one to pass it on."""
    for _ in range(4):
        await asyncio.sleep(0)


class SessionRecord:
    """The state of a session, rebuilt from its notifications alone. `hold` is the answer to those that may have one."""

    def __init__(self, info: ClientInfo, hold: Hold | None = None) -> None:
        self.info = info
        self.hold = hold
        self.expiry_interval = info.session_expiry_interval
        self.disconnected_at: int | None = None
        self.will: Will | None = None
        self.subscriptions: dict[str, Subscribed] = {}
        self.queue: deque[Delivery] = deque()
        self.in_flight: dict[int, Delivery | None] = {}
        self.received_ids: set[int] = set()

    def attached(self, info: ClientInfo) -> None:
        self.info, self.expiry_interval = info, info.session_expiry_interval
        self.disconnected_at = self.will = None

    def detached(self, will: Will | None, disconnected_at: int) -> None:
        self.will, self.disconnected_at = will, disconnected_at

    def expiry_changed(self, expiry_interval: int) -> None:
        self.expiry_interval = expiry_interval

    def will_taken(self) -> None:
        assert self.will is not None
        self.will = None

    def subscribed(self, subscribed: Subscribed) -> None:
        self.subscriptions[subscribed.subscription.topic_filter] = subscribed

    def unsubscribed(self, topic_filter: str) -> None:
        del self.subscriptions[topic_filter]

    def enqueued(self, delivery: Delivery) -> Hold | None:
        self.queue.append(delivery)
        return self.hold

    def dequeued(self) -> None:
        self.queue.popleft()

    def sent(self, packet_id: int, delivery: Delivery) -> Hold | None:
        assert packet_id not in self.in_flight
        self.in_flight[packet_id] = delivery
        return self.hold

    def acknowledged(self, packet_id: int) -> None:
        delivery = self.in_flight.pop(packet_id)
        assert delivery is not None
        assert delivery.qos == 1

    def received(self, packet_id: int) -> None:
        self.in_flight[packet_id] = None

    def completed(self, packet_id: int) -> None:
        del self.in_flight[packet_id]

    def qos2_received(self, packet_id: int) -> Hold | None:
        self.received_ids.add(packet_id)
        return self.hold

    def qos2_released(self, packet_id: int) -> None:
        self.received_ids.remove(packet_id)

    def check(self, session: Session) -> None:
        """Compare with the session itself."""
        assert self.info is session.info
        assert self.expiry_interval == session.expiry_interval
        assert self.will is session._will
        assert self.subscriptions == session.subscriptions
        assert list(self.queue) == list(session._queue)  # type: ignore[call-overload]  # a deque here
        assert list(self.in_flight.items()) == list(session.in_flight.items())
        assert self.received_ids == set(session.received._holds)


class RecordedSessions(MemorySessions):
    """Sessions in memory with a record of each. `hold` is a hold that their changes wait for."""

    def __init__(self, config: BrokerConfig | None = None, hold: Hold | None = None) -> None:
        super().__init__(config or BrokerConfig())
        self.hold = hold
        self.records: dict[str, SessionRecord] = {}

    def create(self, info: ClientInfo) -> Session:
        record = self.records[info.client_id] = SessionRecord(info, self.hold)
        session = self._sessions[info.client_id] = Session(
            info, queue_max=self._config.max_mqueue_len, store_qos0=self._config.mqueue_store_qos0, observer=record
        )
        return session

    def remove(self, client_id: str) -> None:
        super().remove(client_id)
        self.records.pop(client_id, None)

    def check(self) -> None:
        """Compare every record with its session."""
        assert self.records.keys() == self._sessions.keys()
        for client_id, record in self.records.items():
            record.check(self._sessions[client_id])
