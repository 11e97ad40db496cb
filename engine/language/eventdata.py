"""Conversion of events given as JSON objects to what a rule evaluates: a `Message` or an `Occurrence`."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any

from engine.language.events import EVENTS, SOURCE_PREFIXES, event_topic
from engine.model.message import NODE, ClientIdentity, Message, Occurrence, new_message_id, property_columns
from engine.service.clock import Clock

__all__ = ["PUBLISH_TYPE", "bytes_of", "occurrence_of"]

PUBLISH_TYPE = "message_publish"
"""The `event_type` of a publish, which is also the default."""


def occurrence_of(event: Any, clock: Clock) -> Message | Occurrence:
    """Return what a rule evaluates for an event given as a JSON object. Raises `ValueError` where it is malformed.

    A publish that has only columns of publishes becomes a `Message`, as in service; anything else becomes an
    `Occurrence` with exactly the given columns and those that the broker itself would fill in.
    """
    if not isinstance(event, dict):
        raise ValueError("the event is not a JSON object")
    columns = dict(event)
    kind = columns.pop("event_type", PUBLISH_TYPE)
    if not isinstance(kind, str):
        raise ValueError("event_type is not text")
    if "payload_b64" in columns:
        columns["payload"] = bytes_of(columns.pop("payload_b64"))
    now_ms = clock.now_ms()
    if kind == PUBLISH_TYPE:
        return _message(columns, now_ms) or _publish(columns, now_ms)
    topic = kind if kind.startswith(SOURCE_PREFIXES) else event_topic(kind)
    return Occurrence(topic, _filled(topic, columns, now_ms), _client(columns), now_ms)


_MESSAGE_KINDS: Mapping[str, type] = {
    "topic": str, "payload": str, "qos": int, "clientid": str, "username": str, "timestamp": int, "client_attrs": dict,
}  # fmt: skip


def _message(columns: dict[str, Any], now_ms: int) -> Message | None:
    """Return the publish as the broker would make it; None where a column is missing, unknown or of another type."""
    if not {"topic", "payload", "clientid"} <= columns.keys() <= _MESSAGE_KINDS.keys():
        return None
    payload = columns["payload"]
    if not all(type(value) is _MESSAGE_KINDS[name] for name, value in columns.items() if name != "payload"):
        return None
    octets = payload.encode() if isinstance(payload, str) else payload
    if not isinstance(octets, bytes):
        return None
    time_ms = columns.get("timestamp", now_ms)
    return Message(columns["topic"], octets, columns.get("qos", 0), False, False, _client(columns), time_ms)


def _publish(columns: dict[str, Any], now_ms: int) -> Occurrence:
    """Return a publish with exactly these columns and those that every publish has."""
    filled = {
        "event": "message.publish", "id": new_message_id(now_ms), "qos": 0, "flags": {"retain": False, "dup": False},
        "pub_props": property_columns(None), "publish_received_at": now_ms, "client_attrs": {}, "timestamp": now_ms,
        "node": NODE, **columns,
    }  # fmt: skip
    payload = filled.get("payload")
    if isinstance(payload, bytes):
        filled["payload"] = _text_of(payload)
    topic = filled.get("topic")
    return Occurrence(topic if isinstance(topic, str) else "", filled, _client(columns), now_ms)


def _filled(topic: str, columns: dict[str, Any], now_ms: int) -> dict[str, Any]:
    name = next((event.name for event in EVENTS.values() if event.topic == topic), topic)
    if isinstance(columns.get("payload"), bytes):
        columns["payload"] = _text_of(columns["payload"])
    return {"event": name, "timestamp": now_ms, "node": NODE, **columns}


def _client(columns: Mapping[str, Any]) -> ClientIdentity:
    clientid, username, attributes = columns.get("clientid"), columns.get("username"), columns.get("client_attrs")
    return ClientIdentity(
        clientid if isinstance(clientid, str) else "",
        username if isinstance(username, str) else None,
        attributes=attributes if isinstance(attributes, dict) else None,
    )


def bytes_of(text: Any) -> bytes:
    """Decode base64. Raises `ValueError` for anything else."""
    if not isinstance(text, str):
        raise ValueError("base64 is not given as text")
    try:
        return b64decode(text, validate=True)
    except Base64Error as error:
        raise ValueError(f"not base64: {error}") from error


def _text_of(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
