"""What waits to be sent to one connected client: flights to repeat, the session's queue, retained messages.

Everything goes out as far as the client's window and its send buffer allow, and goes on when it acknowledges or reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from broker.codec.packets import PubAck, PubComp, PubRec, PubRel
from broker.codec.reasons import Reason
from broker.connection import Connection
from broker.core import Core
from broker.exchange import outgoing_publish
from broker.hooks import MessageAcked, Properties
from broker.session import Delivery, Session, Subscribed

_FLUSH_BYTES = 64 * 1024
"""What has waited goes to the transport in pieces of this size, so that a full send buffer is noticed in time."""


class Outgoing:
    """The sending half of a connected client. `flush` hands what was sent to the transport."""

    __slots__ = ("_connection", "_core", "_flush", "_resends", "_retained", "_session", "_unflushed")

    def __init__(self, core: Core, connection: Connection, session: Session, flush: Callable[[], None]) -> None:
        self._core = core
        self._connection = connection
        self._session = session
        self._flush = flush
        self._retained: deque[Delivery] | None = None
        """Retained messages that subscriptions brought and that have not been sent yet."""
        self._resends: deque[int] | None = deque(session.in_flight) if session.in_flight else None
        """Packet ids in flight from an earlier connection that have not been sent again yet."""
        self._unflushed = 0

    def pump(self) -> None:
        """Send what waits, as far as possible: what was in flight first, then the queue, then retained messages."""
        session = self._session
        if self._resends:
            self._resend(self._resends)
        while self._connection.writable:
            delivery = session.next_delivery() or self._next_retained()
            if delivery is None:
                return
            self._send(delivery)

    def replay(self, subscriptions: Iterable[Subscribed]) -> None:
        """Send the retained messages that match `subscriptions`, at most with the QoS they were granted."""
        now_ms = self._core.now_ms()
        waiting = self._retained or deque()
        for subscribed in subscriptions:
            subscription = subscribed.subscription
            identifiers = () if subscribed.identifier is None else (subscribed.identifier,)
            for message in self._core.retained.match(subscription.topic_filter, now_ms):
                waiting.append(Delivery(message, min(message.qos, subscription.qos), True, identifiers))
        self._retained = waiting or None
        self.pump()

    def close(self) -> None:
        """The client leaves: retained messages under way to it with QoS 1 and 2 wait for its return."""
        for delivery in self._retained or ():
            if delivery.qos:
                self._core.exchange.keep(self._session, delivery)
        self._retained = None

    def acknowledge(self, packet: PubAck) -> None:
        """A QoS 1 message has arrived."""
        delivery = self._session.acknowledge(packet.packet_id)
        if delivery is not None:
            self._acked(delivery, packet.properties)
            self.pump()

    def receive(self, packet: PubRec) -> None:
        """A QoS 2 message has arrived, or was refused; both end its being sent again."""
        refused = packet.reason_code >= 0x80
        known, delivery = self._session.receive(packet.packet_id, refused=refused)
        if delivery is not None:
            self._acked(delivery, packet.properties)
        if not known:
            self._connection.send(PubRel(packet.packet_id, Reason.PACKET_IDENTIFIER_NOT_FOUND))
        elif refused:
            self.pump()
        else:
            self._connection.send(PubRel(packet.packet_id))

    def complete(self, packet: PubComp) -> None:
        """A QoS 2 message is done with."""
        if self._session.complete(packet.packet_id):
            self.pump()

    def _acked(self, delivery: Delivery, properties: Properties | None) -> None:
        core = self._core
        core.stats.messages_acked += 1
        if core.hooks.message_acked is not None:
            core.hooks.message_acked(MessageAcked(self._session.info, delivery.message, properties or {}))

    def _send(self, delivery: Delivery) -> None:
        core = self._core
        now_ms = core.now_ms()
        expires_at = delivery.message.expires_at()
        if expires_at is not None and expires_at <= now_ms:
            core.exchange.drop(self._session, delivery, "expired")
            return
        core.exchange.send_waiting(self._session, delivery, now_ms)
        self._unflushed += len(delivery.message.payload)
        if self._unflushed > _FLUSH_BYTES:
            self._unflushed = 0
            self._flush()

    def _next_retained(self) -> Delivery | None:
        waiting = self._retained
        if not waiting or (waiting[0].qos and len(self._session.in_flight) >= self._session.window):
            return None
        return waiting.popleft()

    def _resend(self, resends: deque[int]) -> None:
        """Send again, in the original order, what is in flight [4.4.0-1], no more than the window allows."""
        session = self._session
        in_flight = session.in_flight
        now_ms = self._core.now_ms()
        while resends and len(in_flight) - len(resends) < session.window:
            packet_id = resends.popleft()
            delivery = in_flight.get(packet_id)
            if delivery is not None:
                outgoing = outgoing_publish(delivery.message, now_ms)
                if not self._connection.resend_publish(outgoing, delivery, packet_id):
                    del in_flight[packet_id]  # it counts as delivered [3.1.2-25]
                    self._core.exchange.drop(session, delivery, "too_large")
            elif packet_id in in_flight:
                self._connection.send(PubRel(packet_id))
