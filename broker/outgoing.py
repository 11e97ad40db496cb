"""Sending what waits for one connected client: messages in flight to repeat, the session's queue, retained messages.

Everything is sent as far as the client's window and its send buffer allow; the rest follows when it acknowledges or
reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from broker.codec.packets import PubAck, PubComp, PubRec, PubRel
from broker.codec.reasons import Reason
from broker.connection import Connection
from broker.core import Core
from broker.exchange import outgoing_publish
from broker.hooks import MessageAcked, Properties
from broker.retained import RetainedStore
from broker.session import Session
from broker.subscriber import Delivery

_FLUSH_BYTES: Final = 64 * 1024
"""Bytes handed to the transport at a time, so that a full send buffer is noticed before much more is encoded.

64 KiB is the high-water mark of asyncio's write buffers, so one piece is what a client that does not read costs.
"""


class Outgoing:
    """The sending half of a connected client. `flush` hands encoded packets to the transport."""

    __slots__ = ("_connection", "_core", "_flush", "_replay", "_resends", "_session", "_unflushed")

    def __init__(self, core: Core, connection: Connection, session: Session, flush: Callable[[], None]) -> None:
        self._core = core
        self._connection = connection
        self._session = session
        self._flush = flush
        self._replay: _Replay | None = None
        self._resends: deque[int] | None = deque(session.in_flight) if session.in_flight else None
        """Packet ids in flight from an earlier connection that have not been sent again yet."""
        self._unflushed = 0

    def pump(self) -> None:
        """Send as much as possible: what was in flight first, then the queue, then retained messages."""
        session = self._session
        if self._resends:
            self._resend(self._resends)
        while self._connection.writable:
            delivery = session.next_delivery() or self._next_retained()
            if delivery is None:
                return
            self._send(delivery)

    def replay(self, topic_filters: Iterable[str]) -> None:
        """Send the retained messages that match these subscriptions, at most with the QoS that was granted."""
        if self._replay is None:
            self._replay = _Replay(self._session, self._core.retained)
        self._replay.add(topic_filters)
        self.pump()

    def close(self) -> None:
        """Queue the unsent QoS 1 and 2 retained messages for the client's return, as far as the queue has room."""
        replay, self._replay = self._replay, None
        session, now_ms = self._session, self._core.now_ms()
        if replay is None or not session.expiry_interval:
            return
        while not session.is_full and (delivery := replay.next(now_ms, has_room=True)):
            if delivery.qos:
                self._core.exchange.report(session, delivery, session.enqueue(delivery))

    def acknowledge(self, packet: PubAck) -> None:
        """Process PUBACK: a QoS 1 message has arrived."""
        delivery = self._session.acknowledge(packet.packet_id)
        if delivery is not None:
            self._acked(delivery, packet.properties)
            self.pump()

    def receive(self, packet: PubRec) -> None:
        """Process PUBREC: a QoS 2 message has arrived, or was refused. Either way it is not sent again."""
        refused = packet.reason_code >= 0x80
        known, delivery = self._session.receive(packet.packet_id, refused=refused)
        if delivery is not None:
            self._acked(delivery, packet.properties)
        if refused:
            self.pump()
        elif known:
            self._connection.send(PubRel(packet.packet_id))
        else:
            self._connection.send(PubRel(packet.packet_id, Reason.PACKET_IDENTIFIER_NOT_FOUND))

    def complete(self, packet: PubComp) -> None:
        """Process PUBCOMP: the flow of a QoS 2 message has ended."""
        if self._session.complete(packet.packet_id):
            self.pump()

    def _acked(self, delivery: Delivery, properties: Properties | None) -> None:
        core = self._core
        core.stats.messages_acked += 1
        if core.hooks.message_acked is not None:
            core.hooks.message_acked(MessageAcked(self._session.info, delivery.message, properties or {}))

    def _send(self, delivery: Delivery) -> None:
        """Send a message that has waited, its expiry interval counted down, unless it has expired."""
        exchange, session, now_ms = self._core.exchange, self._session, self._core.now_ms()
        message = delivery.message
        expires_at = message.expires_at()
        if expires_at is not None and expires_at <= now_ms:
            exchange.drop(session, delivery, "expired")
            return
        exchange.report(session, delivery, session.send(delivery, outgoing_publish(message, now_ms)))
        self._unflushed += len(message.topic) + len(message.payload)
        if self._unflushed > _FLUSH_BYTES:
            self._unflushed = 0
            self._flush()

    def _next_retained(self) -> Delivery | None:
        if self._replay is None:
            return None
        delivery = self._replay.next(self._core.now_ms(), has_room=self._session.window_left() > 0)
        if self._replay.is_done:
            self._replay = None
        return delivery

    def _resend(self, resends: deque[int]) -> None:
        """Send again, in the original order, what is in flight [MQTT-4.4.0-1], no more than the window allows."""
        session = self._session
        in_flight = session.in_flight
        now_ms = self._core.now_ms()
        while resends and session.window_left(len(resends)) > 0:
            packet_id = resends.popleft()
            delivery = in_flight.get(packet_id)
            if delivery is not None:
                outgoing = outgoing_publish(delivery.message, now_ms)
                if not self._connection.resend_publish(outgoing, delivery, packet_id):
                    session.abandon(packet_id)  # too large for this connection: it counts as delivered [MQTT-3.1.2-25]
                    self._core.exchange.drop(session, delivery, "too_large")
            elif packet_id in in_flight:
                self._connection.send(PubRel(packet_id))


class _Replay:
    """The retained messages that new subscriptions of one session ask for, one after the other.

    Only topics are remembered, and each message is read when it is sent: one that was replaced meanwhile must not
    arrive behind its successor. However often a client subscribes, the topics of one filter at most are remembered.
    """

    __slots__ = ("_filter", "_filters", "_retained", "_session", "_topics", "_waiting")

    def __init__(self, session: Session, retained: RetainedStore) -> None:
        self._session = session
        self._retained = retained
        self._waiting: dict[str, None] = {}
        """Filters to replay once ``_filters`` is empty: a dict, so that each is there once, in order."""
        self._filters: deque[str] = deque()
        self._filter = ""
        self._topics: deque[str] = deque()

    @property
    def is_done(self) -> bool:
        return not (self._topics or self._filters or self._waiting)

    def add(self, topic_filters: Iterable[str]) -> None:
        """Replay these subscriptions as well; one that still waits for its turn is replayed once."""
        self._waiting.update(dict.fromkeys(topic_filters))

    def next(self, now_ms: int, *, has_room: bool) -> Delivery | None:
        """Take out the next message, one with QoS 1 or 2 only if there is room for it in the window."""
        while self._topics or self._start(now_ms):
            delivery = self._delivery(self._topics[0], now_ms)
            if delivery is not None and delivery.qos and not has_room:
                return None
            self._topics.popleft()
            if delivery is not None:
                return delivery
        return None

    def _start(self, now_ms: int) -> bool:
        """Go on to the next subscription that matches any retained message; return False if there is no more."""
        while not self._topics:
            if not self._filters:
                if not self._waiting:
                    return False
                self._filters, self._waiting = deque(self._waiting), {}
            self._filter = self._filters.popleft()
            if self._filter in self._session.subscriptions:
                self._topics.extend(message.topic for message in self._retained.match(self._filter, now_ms))
        return True

    def _delivery(self, topic: str, now_ms: int) -> Delivery | None:
        """Return the present message of `topic`, for the present subscription; None where either is gone."""
        subscribed = self._session.subscriptions.get(self._filter)
        message = next(iter(self._retained.match(topic, now_ms)), None)
        if subscribed is None or message is None:
            return None
        subscription, identifier, info = subscribed.subscription, subscribed.identifier, self._session.info
        if subscription.no_local and message.publisher.client_id == info.client_id and not info.is_bridge:
            return (
                None  # [MQTT-3.8.3-3]; a bridge may have restarted empty, and Mosquitto returns its own messages to it
            )
        identifiers = () if identifier is None else (identifier,)
        return Delivery(message, min(message.qos, subscription.qos), True, identifiers)
