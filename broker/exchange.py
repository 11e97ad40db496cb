"""Publishes in, deliveries out: retaining, routing, offering each receiver its copy, counting and reporting.

A receiver is a `broker.subscriber.Subscriber`. The exchange acts on the outcome of its offer and knows no more of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

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
from broker.receipt import ACCEPTED, Hold, Receipt, join_all
from broker.retained import RetainedStore
from broker.router import NOWHERE, Receiver, Route, Router
from broker.stats import Stats
from broker.subscriber import QUEUED, SENT, Delivery, OfferOutcome, Subscriber

_NO_MATCHING_SUBSCRIBERS: Final = 0x10


class Exchange:
    """Routes messages from publishers to subscribers and to the retained messages."""

    def __init__(
        self, config: BrokerConfig, hooks: Hooks, router: Router, retained: RetainedStore, stats: Stats
    ) -> None:
        self._config = config
        self._hooks = hooks
        self._router = router
        self._retained = retained
        self._stats = stats

    def publish(self, publishes: Sequence[IncomingPublish], publisher: ClientInfo, now_ms: int) -> Receipt:
        """Route `publishes` in order.

        The receipt has code 0x10 for those without a subscriber, and a hold where some delivery or retained message
        has to be stored or confirmed elsewhere first.
        """
        codes = bytearray(len(publishes))
        holds: list[Hold] = []
        routes = self._router.routes
        for index, publish in enumerate(publishes):
            route = routes.get(publish.topic)  # reading the cache here saves a call for each message
            if route is None:
                route = self._router.route(publish.topic)
            if (route is NOWHERE and not publish.retain) or not self._pass_on(publish, route, publisher, now_ms, holds):
                codes[index] = _NO_MATCHING_SUBSCRIBERS
        unheard = codes.count(_NO_MATCHING_SUBSCRIBERS)
        if unheard:
            self._stats.messages_dropped["no_subscribers"] += unheard
            if self._hooks.message_dropped is not None:
                self._report_unheard(publishes, codes, publisher, now_ms)
        elif not holds:
            return ACCEPTED
        return Receipt(join_all(holds) if holds else None, codes if unheard else None)

    def report(self, subscriber: Subscriber, delivery: Delivery, outcome: OfferOutcome) -> None:
        """Count and report the outcome of a delivery."""
        if outcome.sent:
            self._stats.messages_sent += 1
            hook = self._hooks.message_delivered
            if hook is not None:
                hook(MessageDelivered(subscriber.info, delivery.message))
        if outcome.dropped is not None:
            self.drop(subscriber, outcome.dropped, outcome.reason)

    def drop(self, subscriber: Subscriber, delivery: Delivery, reason: str) -> None:
        """Count and report that `subscriber` does not get a message."""
        self._stats.deliveries_dropped[reason] += 1
        hook = self._hooks.delivery_dropped
        if hook is not None:
            hook(DeliveryDropped(subscriber.info, delivery.message, reason))

    def _pass_on(
        self, publish: IncomingPublish, route: Route, publisher: ClientInfo, now_ms: int, holds: list[Hold]
    ) -> int:
        """Retain and offer one message; return the number of its receivers and append what it waits for to `holds`."""
        message = routed_message(publish, publisher, now_ms)
        if publish.retain:
            hold = self._retain(message)
            if hold is not None:
                holds.append(hold)
            if route is NOWHERE:
                return 0
        outgoing = OutgoingPublish(message.topic, message.payload, message.properties)
        count = 0
        for receiver in route.receivers:
            count += self._offer(message, receiver, outgoing, holds)
        for group in route.groups:
            member = group.pick(message.qos)
            if member is not None:
                count += self._offer(message, member, outgoing, holds)
        return count

    def _offer(self, message: RoutedMessage, receiver: Receiver, outgoing: OutgoingPublish, holds: list[Hold]) -> bool:
        """Offer one copy; return False where the receiver does not want it because it is its own message."""
        subscriber = receiver.subscriber
        qos = message.qos if message.qos < receiver.qos else receiver.qos
        if receiver.no_local and subscriber.key == message.publisher.client_id:
            if receiver.own is None:
                self.drop(subscriber, Delivery(message, qos, False), "no_local")
                return False
            receiver = receiver.own
            qos = min(message.qos, receiver.qos)
        delivery = Delivery(message, qos, message.retain and receiver.retain_as_published, receiver.identifiers)
        outcome = subscriber.offer(delivery, outgoing)
        if outcome is SENT:  # `report` in line, for the outcome of almost every copy
            self._stats.messages_sent += 1
            hook = self._hooks.message_delivered
            if hook is not None:
                hook(MessageDelivered(subscriber.info, message))
        elif outcome is not QUEUED:
            self.report(subscriber, delivery, outcome)
            if outcome.hold is not None:
                holds.append(outcome.hold)
        return True

    def _retain(self, message: RoutedMessage) -> Hold | None:
        if not message.payload:
            return self._retained.remove(message.topic)
        if len(message.payload) <= self._config.max_retained_payload:
            kept = self._retained.put(message)
            if kept:
                return None if kept is True else kept
        self._stats.messages_dropped["retained_full"] += 1
        return None

    def _report_unheard(
        self, publishes: Sequence[IncomingPublish], codes: bytearray, publisher: ClientInfo, now_ms: int
    ) -> None:
        hook = self._hooks.message_dropped
        assert hook is not None
        for publish, code in zip(publishes, codes, strict=True):
            if code == _NO_MATCHING_SUBSCRIBERS:
                hook(MessageDropped(routed_message(publish, publisher, now_ms), "no_subscribers"))


def routed_message(publish: IncomingPublish, publisher: ClientInfo, now_ms: int) -> RoutedMessage:
    """Return `publish` as it is routed, received now."""
    return RoutedMessage(
        publish.topic, publish.payload, publish.qos, publish.retain, publish.properties, publisher, now_ms,
        publish.message_id,
    )  # fmt: skip


def outgoing_publish(message: RoutedMessage, now_ms: int) -> OutgoingPublish:
    """Return `message` as it is sent now: its expiry interval less the whole seconds it has waited [MQTT-3.3.2-6]."""
    properties: Any = message.properties
    if properties and "message_expiry_interval" in properties:
        waited = max(0, now_ms - message.received_at) // 1000
        left = max(0, properties["message_expiry_interval"] - waited)
        properties = {**properties, "message_expiry_interval": left}
    return OutgoingPublish(message.topic, message.payload, properties)
