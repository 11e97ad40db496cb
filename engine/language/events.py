"""The catalogue of events that a rule can select from besides publishes: topics, columns and their meanings.

An event has one topic (``$events/client/connected``) and mostly an older spelling of it (``$events/client_connected``)
that works as well, also in filters: ``$events/client/+`` and ``$events/+`` match events by either. The reference in
engine/README.md is generated from this catalogue, and the code that emits an event is tested against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from broker.topics import topic_matches

__all__ = [
    "EVENTS", "PUBLISH", "SOURCE_PREFIXES", "Event", "columns_of", "event_topic", "events_of", "is_event_filter",
    "nearest_topic", "selects_event", "topics_of",
]  # fmt: skip

SOURCE_PREFIXES = ("$sources/", "$bridges/")
"""Prefixes by which FROM names a source, which is neither a publish nor an event; the second is EMQX's older one."""

_PREFIX = "$events/"

_TO_COME = frozenset({
    "client.connack", "client.ping", "client.check_authn_complete", "client.check_authz_complete",
    "schema.validation_failed", "message.transformation_failed", "alarm.activated", "alarm.deactivated",
})  # fmt: skip
"""Events whose names and columns are defined but that this version does not emit."""


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of event: its topics, and the columns that a rule can read."""

    name: str
    """The `event` column."""
    doc: str
    columns: Mapping[str, str]
    """Every column with its meaning, including those that all events have."""
    example: Mapping[str, Any]
    """A sample value for each column."""
    topic: str = ""
    """Its name in FROM; empty for a publish, which a topic filter selects."""
    old_topic: str | None = None
    type: str = field(init=False)
    """Its name as one word: `client_connected`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", self.name.replace(".", "_"))

    @property
    def happens(self) -> bool:
        """Whether this version emits it."""
        return self.name not in _TO_COME


_MEANINGS: dict[str, tuple[str, Any]] = {
    "action": ("`publish` or `subscribe`", "publish"),
    "activated_at": ("when the alarm was raised, in microseconds since 1970", 1722945600120000),
    "authz_source": ("the source that decided: `file`, `default`, `cache` …", "file"),
    "clean_start": ("whether the client asked for a new session", True),
    "client_attrs": ("attributes of the client", {"group": "g1"}),
    "clientid": ("id of the client", "dev-17"),
    "conn_props": ("properties of CONNECT by name", {"Session-Expiry-Interval": 3600, "User-Property": {}}),
    "connected_at": ("when the client connected, in milliseconds since 1970", 1722945590000),
    "deactivated_at": ("when the alarm was cleared, in microseconds since 1970", 1722945660120000),
    "details": ("more about the alarm", {"usage": "91%"}),
    "disconn_props": ("properties of DISCONNECT by name", {"User-Property": {}}),
    "disconnected_at": ("when the connection ended, in milliseconds since 1970", 1722945700000),
    "event": ("name of the event", ""),
    "expiry_interval": ("time that the session outlives the connection, in seconds", 3600),
    "flags": ("the flags `retain` and `dup`", {"retain": False, "dup": False}),
    "from_clientid": ("id of the client that published", "dev-17"),
    "from_username": ("user name of the client that published", "u-17"),
    "id": ("id of the message, 32 hexadecimal digits", "0006226DF9E9E2B1F4420000089C0001"),
    "is_anonymous": ("whether the client was let in without credentials", False),
    "is_bridge": ("whether the client declared itself a bridge", False),
    "is_superuser": ("whether the client may do everything", False),
    "keepalive": ("keep-alive in seconds", 60),
    "message": ("text of the alarm", "91% cpu usage"),
    "mountpoint": ("prefix of the client's topics", None),
    "name": ("name of the alarm", "high_cpu_usage"),
    "node": ("node of the broker", "headgate@127.0.0.1"),
    "payload": ("the payload: text, or bytes where it is not UTF-8", '{"t":21.5}'),
    "peerhost": ("IP address of the client", "10.0.0.7"),
    "peername": ("IP address and port of the client", "10.0.0.7:52918"),
    "proto_name": ("`MQTT`, or `MQIsdp` for MQTT 3.1", "MQTT"),
    "proto_ver": ("3, 4 (MQTT 3.1.1) or 5", 5),
    "pub_props": ("properties of PUBLISH by name", {"Content-Type": "json", "User-Property": {}}),
    "puback_props": ("properties of the acknowledgement by name", {"User-Property": {}}),
    "publish_received_at": ("when the broker got the message, in milliseconds since 1970", 1722945600120),
    "qos": ("quality of service: 0, 1 or 2", 1),
    "reason": ("the reason", "normal"),
    "reason_code": ("name of the MQTT 5 reason code, such as `success`", "success"),
    "receive_maximum": ("maximum number of unacknowledged messages that the client accepts at once", 32),
    "result": ("`allow` or `deny`", "allow"),
    "session_present": ("whether the session existed before", False),
    "sockname": ("IP address and port of the listener", "10.0.0.1:1883"),
    "sub_props": ("properties of SUBSCRIBE by name", {"User-Property": {}}),
    "timestamp": ("when it happened, in milliseconds since 1970", 1722945600123),
    "topic": ("topic of the message", "plant/1/t"),
    "transformation": ("name of the transformation that failed", "add-site"),
    "unsub_props": ("properties of UNSUBSCRIBE by name", {"User-Property": {}}),
    "username": ("user name of the client", "u-17"),
    "validation": ("name of the validation that failed", "temperature"),
}
"""The meaning of every column and a sample value; an event may replace both by more precise ones."""

_COMMON = "event timestamp node"
_MESSAGE = "id payload topic qos flags pub_props publish_received_at"
_PEER = "clientid username peerhost peername"
_SOCKET = "clientid username peername sockname proto_name proto_ver"
_DELIVERY = f"{_MESSAGE} {_PEER} from_clientid from_username"
_RECEIVER = {
    "clientid": ("id of the client that receives", "app-1"),
    "username": ("user name of the client that receives", "u-app"),
    "peerhost": ("IP address of the client that receives", "10.0.0.9"),
    "peername": ("IP address and port of the client that receives", "10.0.0.9:40112"),
}
_FILTER = {"topic": ("the topic filter, with `$share/<group>/` where it is shared", "$share/g1/plant/#")}
_MILLISECONDS = {"expiry_interval": ("time that the session outlives the connection, in milliseconds", 3600000)}


def _event(
    name: str,
    doc: str,
    columns: str,
    topic: str = "",
    old_topic: str | None = None,
    special: Mapping[str, tuple[str, Any]] = MappingProxyType({}),
) -> Event:
    described = {column: special.get(column) or _MEANINGS[column] for column in f"{columns} {_COMMON}".split()}
    example = {column: sample for column, (_, sample) in described.items()} | {"event": name}
    meanings = {column: meaning for column, (meaning, _) in described.items()}
    return Event(
        name, doc, meanings, example, _PREFIX + topic if topic else "", _PREFIX + old_topic if old_topic else None
    )


PUBLISH = _event("message.publish", "A client published a message.", f"{_MESSAGE} {_PEER} client_attrs")
"""A publish: no event topic, but a topic filter in FROM selects it."""

EVENTS: dict[str, Event] = {
    event.name: event
    for event in (
        _event(
            "client.connected",
            "A client connected and its session is ready.",
            f"{_SOCKET} mountpoint keepalive clean_start receive_maximum expiry_interval is_bridge conn_props"
            " connected_at session_present client_attrs",
            "client/connected",
            "client_connected",
        ),
        _event(
            "client.disconnected",
            "The connection of a client ended.",
            f"{_SOCKET} reason disconn_props disconnected_at connected_at client_attrs",
            "client/disconnected",
            "client_disconnected",
            special={
                "reason": (
                    "`normal`, `keepalive_timeout`, `tcp_closed`, `takenover` or `discarded` (the same id came again),"
                    " `kicked`, `not_authorized`, or the name of the MQTT 5 reason code that was given",
                    "keepalive_timeout",
                )
            },
        ),
        _event(
            "client.connack",
            "A CONNECT was answered, with success or failure.",
            f"{_SOCKET} reason_code clean_start keepalive expiry_interval connected_at conn_props",
            "client/connack",
            "client_connack",
            special=_MILLISECONDS,
        ),
        _event(
            "client.ping",
            "A client sent PINGREQ.",
            f"{_SOCKET} clean_start keepalive expiry_interval conn_props",
            "client/ping",
            special=_MILLISECONDS,
        ),
        _event(
            "client.check_authn_complete",
            "The authentication of a client was decided.",
            "clientid username peername reason_code is_anonymous is_superuser client_attrs",
            "auth/check_authn_complete",
            "client_check_authn_complete",
        ),
        _event(
            "client.check_authz_complete",
            "The authorization of a publish or subscription was decided.",
            f"{_PEER} topic action authz_source result client_attrs",
            "auth/check_authz_complete",
            "client_check_authz_complete",
            special={"topic": ("the topic or topic filter that the client asked for", "plant/1/t")},
        ),
        _event(
            "session.subscribed",
            "A client subscribed.",
            f"{_PEER} topic qos sub_props client_attrs",
            "session/subscribed",
            "session_subscribed",
            special={"qos": ("the granted quality of service", 1), **_FILTER},
        ),
        _event(
            "session.unsubscribed",
            "A subscription ended.",
            f"{_PEER} topic qos unsub_props client_attrs",
            "session/unsubscribed",
            "session_unsubscribed",
            special={"qos": ("the quality of service that was granted", 1), **_FILTER},
        ),
        _event(
            "message.delivered",
            "A message was handed to a subscriber's connection.",
            _DELIVERY,
            "message/delivered",
            "message_delivered",
            special=_RECEIVER,
        ),
        _event(
            "message.acked",
            "A subscriber acknowledged a message (PUBACK, or PUBREC for QoS 2).",
            f"{_DELIVERY} puback_props",
            "message/acked",
            "message_acked",
            special=_RECEIVER,
        ),
        _event(
            "message.dropped",
            "A message was dropped before it reached any subscriber.",
            f"{_MESSAGE} {_PEER} reason",
            "message/dropped",
            "message_dropped",
            special={
                "reason": (
                    "`no_subscribers`, `receive_maximum_exceeded` or `packet_identifier_inuse`",
                    "no_subscribers",
                )
            },
        ),
        _event(
            "delivery.dropped",
            "A message was dropped for one subscriber.",
            f"{_DELIVERY} reason",
            "message/delivery_dropped",
            "delivery_dropped",
            special={
                "reason": ("`queue_full`, `no_local`, `expired`, `qos0_msg` or `too_large`", "queue_full"),
                **_RECEIVER,
            },
        ),
        _event(
            "schema.validation_failed",
            "A published message failed a validation.",
            f"{_MESSAGE} {_PEER} validation",
            "schema_validation/failed",
            "schema_validation_failed",
        ),
        _event(
            "message.transformation_failed",
            "A published message could not be transformed.",
            f"{_MESSAGE} clientid username peername transformation",
            "message_transformation/failed",
            "message_transformation_failed",
        ),
        _event(
            "alarm.activated",
            "The broker raised an alarm.",
            "name details message activated_at",
            "sys/alarm_activated",
        ),
        _event(
            "alarm.deactivated",
            "An alarm of the broker was cleared.",
            "name details message activated_at deactivated_at",
            "sys/alarm_deactivated",
        ),
    )
}
"""Every event by its name."""

_BY_TOPIC = {event.topic: event for event in EVENTS.values()}
_BY_OLD_TOPIC = {event.old_topic: event for event in EVENTS.values() if event.old_topic}
_BY_TYPE = {event.type: event for event in EVENTS.values()}


def is_event_filter(topic_filter: str) -> bool:
    """Return whether an item of FROM selects events, not publishes."""
    return topic_filter.startswith(_PREFIX)


def topics_of(event_topic: str) -> tuple[str, ...]:
    """Return both spellings of an event's topic, given either; the topic itself where it is not that of an event."""
    event = _BY_TOPIC.get(event_topic) or _BY_OLD_TOPIC.get(event_topic)
    if event is None:
        return (event_topic,)
    return (event.topic,) if event.old_topic is None else (event.topic, event.old_topic)


def selects_event(topic_filter: str, event_topic: str) -> bool:
    """Return whether an item of FROM selects an event, by either spelling of its topic, wildcards included."""
    return any(topic_matches(topic_filter, topic) for topic in topics_of(event_topic))


def events_of(topic_filter: str) -> tuple[Event, ...]:
    """Return the events that an item of FROM selects; an empty tuple where it matches no known event."""
    return tuple(event for event in EVENTS.values() if selects_event(topic_filter, event.topic))


def nearest_topic(topic_filter: str) -> str | None:
    """Return the event topic whose spelling is close to `topic_filter`."""
    near = get_close_matches(topic_filter, [*_BY_TOPIC, *_BY_OLD_TOPIC], n=1)
    return near[0] if near else None


def event_topic(event_type: str) -> str:
    """Return the topic of an event by its type (`client_connected`) or name. Raises `ValueError` for an unknown one."""
    event = _BY_TYPE.get(event_type) or EVENTS.get(event_type)
    if event is None:
        near = get_close_matches(event_type, _BY_TYPE, n=1)
        raise ValueError(f"there is no event {event_type!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return event.topic


def columns_of(event: str) -> Mapping[str, str]:
    """Return the columns of an event with their meanings, by its name, type or topic; those of a publish otherwise."""
    found = EVENTS.get(event) or _BY_TYPE.get(event) or _BY_TOPIC.get(event) or _BY_OLD_TOPIC.get(event)
    return (found or PUBLISH).columns
