"""Publishes go in, the receivers' sessions get them: retaining, routing, copying, dropping, counting.

A copy for a connected client is sent at once where its window and its send buffer have room, else it waits in the
session's queue. QoS 0 does not wait for a client that is connected and does not read: it is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.codec.outgoing import OutgoingPublish
from broker.config import BrokerConfig
from broker.hooks import (
    ClientInfo,
    DeliveryDropped,
    Hooks,
    IncomingPublish,
    MessageDelivered,
    MessageDropped,
    RoutedMessage,
)
from broker.receipt import Receipt
from broker.retained import RetainedStore
from broker.router import NOWHERE, Receiver, Route, Router
from broker.session import Delivery, Session
from broker.stats import Stats

_NO_MATCHING_SUBSCRIBERS = 0x10


class Exchange:
    """Where messages change hands."""

    def __init__(
        self, config: BrokerConfig, hooks: Hooks, router: Router, retained: RetainedStore, stats: Stats
    ) -> None:
        self._config = config
        self._hooks = hooks
        self._router = router
        self._retained = retained
        self._stats = stats

    def publish(self, publishes: Sequence[IncomingPublish], publisher: ClientInfo, now_ms: int) -> Receipt:
        """Route `publishes` in order. The receipt has code 0x10 for those that nobody subscribes to."""
        codes = bytearray(len(publishes))
        routes = self._router.routes
        for index, publish in enumerate(publishes):
            route = routes.get(publish.topic)
            if route is None:
                route = self._router.route(publish.topic)
            if (route is NOWHERE and not publish.retain) or not self._pass_on(publish, route, publisher, now_ms):
                codes[index] = _NO_MATCHING_SUBSCRIBERS
        unheard = codes.count(_NO_MATCHING_SUBSCRIBERS)
        if unheard:
            self._stats.messages_dropped["no_subscribers"] += unheard
            if self._hooks.message_dropped is not None:
                self._report_unheard(publishes, codes, publisher, now_ms)
        return Receipt(None, codes)

    def publish_one(self, publish: IncomingPublish, publisher: ClientInfo, now_ms: int) -> int:
        """Route a message of the broker's own making; returns how many sessions get it."""
        route = self._router.route(publish.topic)
        count = self._pass_on(publish, route, publisher, now_ms)
        if not count:
            self._stats.messages_dropped["no_subscribers"] += 1
            if self._hooks.message_dropped is not None:
                self._report_unheard([publish], bytearray((_NO_MATCHING_SUBSCRIBERS,)), publisher, now_ms)
        return count

    def send_or_queue(self, session: Session, delivery: Delivery, outgoing: OutgoingPublish) -> bool:
        """Give one copy to `session`; False when it was dropped."""
        outlet = session.outlet
        if outlet is None:
            if not delivery.qos and not session.store_qos0:
                self.drop(session, delivery, "qos0_msg")
                return False
        elif not delivery.qos:
            if not outlet.writable:
                self.drop(session, delivery, "queue_full")
                return False
            return self._send(session, delivery, outgoing, 0)
        elif outlet.writable and session.has_room:
            return self._send(session, delivery, outgoing, session.start_flight(delivery))
        self.keep(session, delivery)
        return True

    def keep(self, session: Session, delivery: Delivery) -> None:
        """Let a copy wait in the queue of `session`."""
        dropped = session.enqueue(delivery)
        if dropped is not None:
            self.drop(session, dropped, "queue_full")

    def send_waiting(self, session: Session, delivery: Delivery, now_ms: int, packet_id: int = 0) -> bool:
        """Send a copy that has waited, its expiry counted down; with `packet_id` again, else for the first time."""
        outgoing = outgoing_publish(delivery.message, now_ms)
        if delivery.qos and not packet_id:
            packet_id = session.start_flight(delivery)
        return self._send(session, delivery, outgoing, packet_id)

    def drop(self, session: Session, delivery: Delivery, reason: str) -> None:
        """Count and report that `session` does not get a message."""
        self._stats.deliveries_dropped[reason] += 1
        hook = self._hooks.delivery_dropped
        if hook is not None:
            hook(DeliveryDropped(session.info, delivery.message, reason))

    def _pass_on(self, publish: IncomingPublish, route: Route, publisher: ClientInfo, now_ms: int) -> int:
        message = routed_message(publish, publisher, now_ms)
        if publish.retain:
            self._retain(message)
            if route is NOWHERE:
                return 0
        outgoing = OutgoingPublish(message.topic, message.payload, message.properties)
        count = 0
        for receiver in route.receivers:
            count += self._copy(message, receiver, publisher, outgoing)
        for group in route.groups:
            member = group.pick(message)
            if member is not None:
                count += self._copy(message, member, publisher, outgoing)
        return count

    def _copy(
        self, message: RoutedMessage, receiver: Receiver, publisher: ClientInfo, outgoing: OutgoingPublish
    ) -> bool:
        session = receiver.session
        qos = message.qos if message.qos < receiver.qos else receiver.qos
        if receiver.no_local and session.client_id == publisher.client_id:
            if receiver.own is None:
                self.drop(session, Delivery(message, qos, False), "no_local")
                return False
            receiver = receiver.own
            qos = min(message.qos, receiver.qos)
        retain = message.retain and receiver.retain_as_published
        self.send_or_queue(session, Delivery(message, qos, retain, receiver.identifiers), outgoing)
        return True

    def _send(self, session: Session, delivery: Delivery, outgoing: OutgoingPublish, packet_id: int) -> bool:
        outlet = session.outlet
        assert outlet is not None
        if not outlet.send_publish(outgoing, delivery, packet_id):
            session.in_flight.pop(packet_id, None)
            self.drop(session, delivery, "too_large")
            return False
        self._stats.messages_sent += 1
        hook = self._hooks.message_delivered
        if hook is not None:
            hook(MessageDelivered(session.info, delivery.message))
        return True

    def _retain(self, message: RoutedMessage) -> None:
        if not message.payload:
            self._retained.remove(message.topic)
        elif len(message.payload) > self._config.max_retained_payload or not self._retained.put(message):
            self._stats.messages_dropped["retained_full"] += 1

    def _report_unheard(
        self, publishes: Sequence[IncomingPublish], codes: bytearray, publisher: ClientInfo, now_ms: int
    ) -> None:
        hook = self._hooks.message_dropped
        assert hook is not None
        for publish, code in zip(publishes, codes, strict=True):
            if code == _NO_MATCHING_SUBSCRIBERS:
                hook(MessageDropped(routed_message(publish, publisher, now_ms), "no_subscribers"))


def routed_message(publish: IncomingPublish, publisher: ClientInfo, now_ms: int) -> RoutedMessage:
    """`publish` as it is routed, received now."""
    return RoutedMessage(
        publish.topic, publish.payload, publish.qos, publish.retain, publish.properties, publisher, now_ms,
        publish.message_id,
    )  # fmt: skip


def outgoing_publish(message: RoutedMessage, now_ms: int) -> OutgoingPublish:
    """`message` as it is sent now: its expiry interval less the whole seconds it has waited [3.3.2-6]."""
    properties: Any = message.properties
    if properties and "message_expiry_interval" in properties:
        waited = max(0, now_ms - message.received_at) // 1000
        left = max(0, properties["message_expiry_interval"] - waited)
        properties = {**properties, "message_expiry_interval": left}
    return OutgoingPublish(message.topic, message.payload, properties)
