"""The one room that speaks both vocabularies: broker hooks to messages and events, republished messages back.

Hooks of the broker are set only where a rule selects from their event, so that an event nobody asks for costs the
broker one comparison.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from broker.errors import BrokerError
from broker.hooks import (
    ClientConnected,
    ClientDisconnected,
    ClientInfo,
    DeliveryDropped,
    Hooks,
    IncomingPublish,
    MessageAcked,
    MessageDelivered,
    MessageDropped,
    RoutedMessage,
    SessionSubscribed,
    SessionUnsubscribed,
)
from broker.receipt import ACCEPTED, Hold, Receipt, join_all, refusing
from broker.server import Broker
from engine.connector import Publication
from engine.errors import DeliveryError, RejectError, RetryableError
from engine.intake.dispatch import Dispatcher, Outcome
from engine.model.message import NODE, UNDEFINED, ClientIdentity, Occurrence, new_message_id, property_columns
from engine.service.clock import Clock

REPUBLISH_TIMEOUT_S = 30.0
"""Longest wait for a republished message to stand in the journals of the rules it meets."""

Columns = dict[str, Any]


class Bridge:
    """Sits between a broker and a dispatcher."""

    def __init__(self, hooks: Hooks, dispatcher: Dispatcher, clock: Clock) -> None:
        self._hooks = hooks
        self._dispatcher = dispatcher
        self._clock = clock
        self._publishers: dict[str, tuple[ClientInfo, ClientIdentity]] = {}
        self._now_ms = clock.now_ms
        self._names_messages = False
        self._publishes = dispatcher.publishes

    def listen(self) -> None:
        """Set the hooks that the rules in service ask for; called again after every swap."""
        hooks, wanted = self._hooks, self._dispatcher.listens_to
        hooks.published = self.on_published
        hooks.client_connected = self.on_connected if wanted(CONNECTED) else None
        hooks.client_disconnected = self.on_disconnected if wanted(DISCONNECTED) else None
        hooks.session_subscribed = self.on_subscribed if wanted(SUBSCRIBED) else None
        hooks.session_unsubscribed = self.on_unsubscribed if wanted(UNSUBSCRIBED) else None
        hooks.message_delivered = self.on_delivered if wanted(DELIVERED) else None
        hooks.message_acked = self.on_acked if wanted(ACKED) else None
        hooks.message_dropped = self.on_dropped if wanted(DROPPED) else None
        hooks.delivery_dropped = self.on_delivery_dropped if wanted(DELIVERY_DROPPED) else None
        # Messages need a name from the start where a later event may speak of them.
        self._names_messages = any(map(wanted, (DELIVERED, ACKED, DROPPED, DELIVERY_DROPPED)))

    def on_published(self, info: ClientInfo, publishes: Sequence[IncomingPublish], now_ms: int) -> Receipt:
        """The publishes of one read: run the rules, and say what their acknowledgements wait for."""
        if self._names_messages:
            for publish in publishes:
                publish.message_id = new_message_id(now_ms)
        outcome = self._publishes(
            info.context or client_of(info), publishes, now_ms, sends_again=info.protocol_version < 5
        )
        if outcome is None:
            return ACCEPTED
        return refusing(len(publishes), outcome.refused, outcome.ticket) if outcome.refused else Receipt(outcome.ticket)

    async def publish(self, broker: Broker, publications: Sequence[Publication]) -> Mapping[int, DeliveryError]:
        """Publish what rules made; returns once all of it is as safe as an acknowledged publish.

        Answers, by index, which publications the broker or a full sink refused; no rule sees those. Raises
        `RetryableError` when the journal can't be written: then nothing of it counts as published.
        """
        now_ms = self._now_ms()
        refused: dict[int, DeliveryError] = {}
        holds: list[Hold] = []
        start = 0
        for (rule_id, trail), group in groupby(publications, key=lambda item: (item.rule_id, item.trail)):
            run: dict[int, Publication] = {}
            for index, item in enumerate(group, start):
                start = index + 1
                try:
                    broker.check(item.topic, item.properties)
                except (BrokerError, ValueError) as error:
                    refused[index] = RejectError(f"the broker does not take it: {error}")
                else:
                    run[index] = item
            info, client = self._publisher(rule_id)
            outcome = self._publishes(client, list(run.values()), now_ms, trail) or Outcome()
            if outcome.ticket is not None:
                holds.append(outcome.ticket)
            for position, (index, item) in enumerate(run.items()):
                if outcome.refused and position in outcome.refused:
                    refused[index] = RetryableError(f"a sink that takes {item.topic} is full", code="queue_full")
                else:
                    receipt = broker.publish(
                        item.topic, item.payload, item.qos, item.retain, item.properties, info, now_ms
                    )
                    if receipt.hold is not None:
                        holds.append(receipt.hold)
        hold = join_all(holds)
        if hold is not None:
            await _committed(hold)
        return refused

    def on_connected(self, event: ClientConnected) -> None:
        info = event.client
        columns = {
            **_session_columns(info),
            "mountpoint": UNDEFINED,
            "proto_name": "MQIsdp" if info.protocol_version == 3 else "MQTT",
            "proto_ver": info.protocol_version,
            "keepalive": info.keep_alive,
            "clean_start": info.clean_start,
            "receive_maximum": info.receive_maximum,
            "expiry_interval": info.session_expiry_interval,
            "is_bridge": info.is_bridge,
            "conn_props": property_columns(event.properties),
            "connected_at": info.connected_at,
            "session_present": event.session_present,
        }
        self._occur(CONNECTED, "client.connected", columns, info)

    def on_disconnected(self, event: ClientDisconnected) -> None:
        info = event.client
        columns = {
            **_session_columns(info),
            "reason": event.reason,
            "proto_name": "MQIsdp" if info.protocol_version == 3 else "MQTT",
            "proto_ver": info.protocol_version,
            "disconn_props": property_columns(event.properties),
            "disconnected_at": event.disconnected_at,
            "connected_at": info.connected_at,
        }
        self._occur(DISCONNECTED, "client.disconnected", columns, info)

    def on_subscribed(self, event: SessionSubscribed) -> None:
        columns = {**_peer_columns(event.client), "topic": event.topic_filter, "qos": event.qos}
        columns["sub_props"] = property_columns(event.properties)
        self._occur(SUBSCRIBED, "session.subscribed", columns, event.client)

    def on_unsubscribed(self, event: SessionUnsubscribed) -> None:
        columns = {**_peer_columns(event.client), "topic": event.topic_filter, "qos": event.qos}
        columns["unsub_props"] = property_columns(event.properties)
        self._occur(UNSUBSCRIBED, "session.unsubscribed", columns, event.client)

    def on_delivered(self, event: MessageDelivered) -> None:
        self._occur(DELIVERED, "message.delivered", _delivery_columns(event.client, event.message), event.client)

    def on_acked(self, event: MessageAcked) -> None:
        columns = _delivery_columns(event.client, event.message)
        columns["puback_props"] = property_columns(event.properties)
        self._occur(ACKED, "message.acked", columns, event.client)

    def on_dropped(self, event: MessageDropped) -> None:
        publisher = event.message.publisher
        columns = {**_peer_columns(publisher), **_message_columns(event.message), "reason": event.reason}
        del columns["client_attrs"]
        self._occur(DROPPED, "message.dropped", columns, publisher)

    def on_delivery_dropped(self, event: DeliveryDropped) -> None:
        columns = _delivery_columns(event.client, event.message)
        columns["reason"] = event.reason
        self._occur(DELIVERY_DROPPED, "delivery.dropped", columns, event.client)

    def _occur(self, topic: str, event: str, columns: Columns, info: ClientInfo) -> None:
        now_ms = self._now_ms()
        columns.update(event=event, timestamp=now_ms, node=NODE)
        self._dispatcher.occurrence(Occurrence(topic, columns, info.context or client_of(info), now_ms))

    def _publisher(self, rule_id: str) -> tuple[ClientInfo, ClientIdentity]:
        """Who a republished message comes from: a client named like the rule."""
        pair = self._publishers.get(rule_id)
        if pair is None:
            pair = self._publishers[rule_id] = (ClientInfo(rule_id), ClientIdentity(rule_id))
        return pair


CONNECTED = "$events/client/connected"
DISCONNECTED = "$events/client/disconnected"
SUBSCRIBED = "$events/session/subscribed"
UNSUBSCRIBED = "$events/session/unsubscribed"
DELIVERED = "$events/message/delivered"
ACKED = "$events/message/acked"
DROPPED = "$events/message/dropped"
DELIVERY_DROPPED = "$events/message/delivery_dropped"


async def _committed(hold: Hold) -> None:
    if not hold.done:
        done = asyncio.Event()
        hold.add_done_callback(done.set)
        async with asyncio.timeout(REPUBLISH_TIMEOUT_S):
            await done.wait()
    if hold.failed:
        raise RetryableError("the journal could not be written", code="journal")


def client_of(info: ClientInfo) -> ClientIdentity:
    """The engine's view of a connected client; made once per connection."""
    client = info.context = ClientIdentity(info.client_id, info.username, info.origin.peername, info.attributes)
    return client


def _session_columns(info: ClientInfo) -> Columns:
    client = info.context or client_of(info)
    return {
        "clientid": client.clientid,
        "username": client.username,
        "peername": client.peername,
        "sockname": UNDEFINED if info.origin.sockname is None else info.origin.sockname,
        "client_attrs": client.attributes,
    }


def _peer_columns(info: ClientInfo) -> Columns:
    client = info.context or client_of(info)
    return {
        "clientid": client.clientid,
        "username": client.username,
        "peerhost": client.peerhost,
        "peername": client.peername,
        "client_attrs": client.attributes,
    }


def _message_columns(message: RoutedMessage) -> Columns:
    return {
        "id": message.message_id or new_message_id(message.received_at),
        "payload": _text(message.payload),
        "topic": message.topic,
        "qos": message.qos,
        "flags": {"retain": message.retain, "dup": False},
        "pub_props": property_columns(message.properties),
        "publish_received_at": message.received_at,
    }


def _delivery_columns(receiver: ClientInfo, message: RoutedMessage) -> Columns:
    publisher = message.publisher.context or client_of(message.publisher)
    columns = {**_peer_columns(receiver), **_message_columns(message)}
    del columns["client_attrs"]
    columns.update(from_clientid=publisher.clientid, from_username=publisher.username)
    return columns


def _text(payload: bytes) -> str | bytes:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload
