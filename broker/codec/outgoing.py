"""A PUBLISH on its way out, encoded once for all receivers that get the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.codec.properties import encode_properties
from broker.codec.wire import string, varint

DUP = 8


class OutgoingPublish:
    """Gives the bytes in front of and behind the packet identifier, made once per variant and remembered.

    A variant is a protocol (5 or older), a QoS and a retain flag; Subscription Identifiers make bytes of their own.
    """

    __slots__ = ("_payload", "_properties", "_topic", "_variants")

    def __init__(self, topic: str, payload: bytes, properties: Mapping[str, Any] | None) -> None:
        self._topic = topic
        self._payload = payload
        self._properties = properties
        self._variants: dict[int, tuple[bytes, bytes]] = {}

    def parts(self, version: int, qos: int, retain: bool, identifiers: tuple[int, ...] = ()) -> tuple[bytes, bytes]:
        """Head and tail of the packet; between them goes the packet identifier of QoS 1 and 2."""
        flags = qos << 1 | retain
        if identifiers and version == 5:
            return self._encode(flags, self._property_bytes(identifiers))
        variant = flags if version < 5 else flags | 16
        parts = self._variants.get(variant)
        if parts is None:
            parts = self._encode(flags, b"" if version < 5 else self._property_bytes(()))
            self._variants[variant] = parts
        return parts

    def _property_bytes(self, identifiers: tuple[int, ...]) -> bytes:
        if not identifiers:
            return encode_properties(self._properties)
        return encode_properties({**(self._properties or {}), "subscription_identifier": list(identifiers)})

    def _encode(self, flags: int, properties: bytes) -> tuple[bytes, bytes]:
        topic = string(self._topic)
        tail = properties + self._payload
        length = len(topic) + len(tail) + (2 if flags & 6 else 0)
        return bytes((0x30 | flags,)) + varint(length) + topic, tail


def mark_duplicate(head: bytes) -> bytes:
    """`head` with its DUP flag set."""
    return bytes((head[0] | DUP,)) + head[1:]
