"""A PUBLISH to be sent, encoded once for all receivers that get the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from broker.codec.properties import encode_properties
from broker.codec.wire import string, varint

DUP: Final = 8
"""The bit of the fixed header that marks a PUBLISH sent again."""


class OutgoingPublish:
    """Encodes a message in two parts, before and after the packet identifier, and keeps them for each variant.

    A variant is a protocol (5 or older), a QoS and a retain flag. Copies with Subscription Identifiers are encoded
    each time.
    """

    __slots__ = ("_payload", "_properties", "_topic", "_variants")

    def __init__(self, topic: str, payload: bytes, properties: Mapping[str, Any] | None) -> None:
        self._topic = topic
        self._payload = payload
        self._properties = properties
        self._variants: dict[int, tuple[bytes, bytes]] = {}

    def renamed(self, rename: Callable[[str], str]) -> OutgoingPublish:
        """Return the same message under the topic that `rename` gives it."""
        topic = rename(self._topic)
        return self if topic == self._topic else OutgoingPublish(topic, self._payload, self._properties)

    def parts(self, version: int, qos: int, retain: bool, identifiers: tuple[int, ...] = ()) -> tuple[bytes, bytes]:
        """Return head and tail of the packet. Between them belongs the packet identifier of QoS 1 and 2."""
        flags = qos << 1 | retain
        if identifiers and version == 5:
            return self._encode(flags, self._property_bytes(identifiers))
        variant = flags if version < 5 else flags | 16  # a bit that no flag of PUBLISH has
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
    """Return `head` with its DUP flag set."""
    return bytes((head[0] | DUP,)) + head[1:]
