"""The bridge between broker and engine: hook calls become runs of messages, republished messages become publishes.

Hooks of the broker are set only where a rule selects from their event, so that an event without rules costs the broker
one comparison.
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
from broker.receipt import Hold, Receipt, join_all
from broker.server import Broker
from engine.connector import Publication
from engine.errors import DeliveryError, RejectError, RetryableError
from engine.intake.intake import Intake, Run
from engine.model.message import NODE, UNDEFINED, ClientIdentity, Occurrence, new_message_id, property_columns
from engine.service.clock import Clock

REPUBLISH_TIMEOUT_S = 30.0
"""Longest wait for a republished message to stand in the journals of the rules it meets."""

Columns = dict[str, Any]


class Bridge:
    """Listens to the hooks of a broker on behalf of an intake, and publishes for rules."""

    def __init__(self, hooks: Hooks, intake: Intake, clock: Clock) -> None:
        self._hooks = hooks
        self._intake = intake
        self._clock = clock
        self._publishers: dict[str, tuple[ClientInfo, ClientIdentity]] = {}
        self._now_ms = clock.now_ms
        self._names_messages = False
        self._take = intake.take

    def listen(self) -> None:
        """Set the hooks that the rules in service ask for; called again after every swap."""
        hooks, wanted = self._hooks, self._intake.listens_to
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
        """Take over the publishes of one read."""
        if self._names_messages:
            for publish in publishes:
                publish.message_id = new_message_id(now_ms)
        return self._take(Run(publishes, info.context or client_of(info), now_ms, (), info.protocol_version < 5))

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
            taken = self._take(Run(list(run.values()), client, now_ms, trail))
            if taken.hold is not None:
                holds.append(taken.hold)
            for position, (index, item) in enumerate(run.items()):
                if taken.codes is not None and taken.codes[position] >= 0x80:
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

    def on_connected(self, event: ClientConnected) -> Receipt:
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
        return self._occur(CONNECTED, "client.connected", columns, info)

    def on_disconnected(self, event: ClientDisconnected) -> Receipt:
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
        return self._occur(DISCONNECTED, "client.disconnected", columns, info)

    def on_subscribed(self, event: SessionSubscribed) -> Receipt:
        columns = {**_peer_columns(event.client), "topic": event.topic_filter, "qos": event.qos}
        columns["sub_props"] = property_columns(event.properties)
        return self._occur(SUBSCRIBED, "session.subscribed", columns, event.client)

    def on_unsubscribed(self, event: SessionUnsubscribed) -> Receipt:
        columns = {**_peer_columns(event.client), "topic": event.topic_filter, "qos": event.qos}
        columns["unsub_props"] = property_columns(event.properties)
        return self._occur(UNSUBSCRIBED, "session.unsubscribed", columns, event.client)

    def on_delivered(self, event: MessageDelivered) -> Receipt:
        return self._occur(DELIVERED, "message.delivered", _delivery_columns(event.client, event.message), event.client)

    def on_acked(self, event: MessageAcked) -> Receipt:
        columns = _delivery_columns(event.client, event.message)
        columns["puback_props"] = property_columns(event.properties)
        return self._occur(ACKED, "message.acked", columns, event.client)

    def on_dropped(self, event: MessageDropped) -> Receipt:
        publisher = event.message.publisher
        columns = {**_peer_columns(publisher), **_message_columns(event.message), "reason": event.reason}
        del columns["client_attrs"]
        return self._occur(DROPPED, "message.dropped", columns, publisher)

    def on_delivery_dropped(self, event: DeliveryDropped) -> Receipt:
        columns = _delivery_columns(event.client, event.message)
        columns["reason"] = event.reason
        return self._occur(DELIVERY_DROPPED, "delivery.dropped", columns, event.client)

    def _occur(self, topic: str, event: str, columns: Columns, info: ClientInfo) -> Receipt:
        now_ms = self._now_ms()
        columns.update(event=event, timestamp=now_ms, node=NODE)
        client = info.context or client_of(info)
        return self._take(Run([Occurrence(topic, columns, client, now_ms)], client, now_ms, is_event=True))

    def _publisher(self, rule_id: str) -> tuple[ClientInfo, ClientIdentity]:
        """The publisher of a republished message: a client with the rule's name."""
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
