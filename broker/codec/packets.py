"""The control packets of MQTT, a class each, with decoder and encoder.

``decode(reader, flags, version)`` reads a body whose fixed header the parser has removed; ``encode(version)`` returns
the whole packet. `version` is 3 (MQTT 3.1), 4 (3.1.1) or 5.
The classes are msgspec structures because one is made for every packet received: they cost a third of a class with
slots, and those with ``gc=False`` are not tracked by the garbage collector (they can be part of no cycle).
"""

from __future__ import annotations

import reprlib
from typing import Any, ClassVar

from msgspec import Struct

from broker.codec.properties import PropertyDict, decode_properties, encode_properties
from broker.codec.reasons import CLIENT_DISCONNECT_REASONS, PUBACK_REASONS, PUBREL_REASONS, connack_code_v3
from broker.codec.wire import FieldReader, binary, string, u16, varint
from broker.errors import MalformedPacket, ProtocolError


def _frame(first: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((first,)) + varint(len(body)) + body


def _properties(properties: PropertyDict | None, version: int) -> bytes:
    return encode_properties(properties) if version == 5 else b""


class Will(Struct):
    """The message that the broker publishes for a client that leaves without DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: PropertyDict | None = None


class Connect(Struct):
    """The first packet of a client. ``protocol_version`` is 3, 4 or 5; Mosquitto's bridges add a bit, ``is_bridge``."""

    client_id: str
    clean_start: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: PropertyDict | None = None
    protocol_version: int = 4
    is_bridge: bool = False

    def encode(self, version: int) -> bytes:
        flags = self.clean_start << 1 | (self.username is not None) << 7 | (self.password is not None) << 6
        parts = [_properties(self.properties, version), string(self.client_id)]
        if self.will:
            flags |= 4 | self.will.qos << 3 | self.will.retain << 5
            parts += [_properties(self.will.properties, version), string(self.will.topic), binary(self.will.payload)]
        if self.username is not None:
            parts.append(string(self.username))
        if self.password is not None:
            parts.append(binary(self.password))
        level = version | self.is_bridge << 7
        head = string("MQIsdp" if version == 3 else "MQTT") + bytes((level, flags)) + u16(self.keep_alive)
        return _frame(0x10, head, *parts)


def decode_protocol(reader: FieldReader) -> tuple[int, bool]:
    """Read protocol name and level, the first two fields of a CONNECT. Return the version, and whether it is a bridge.

    Raises `ProtocolError` (0x84) for another version, `MalformedPacket` for another protocol.
    """
    name = reader.binary()
    level = reader.u8()
    version = level & 0x7F
    if name == b"MQTT" and version in (4, 5):
        return version, level != version
    if name == b"MQIsdp" and version == 3:
        return version, level != version
    if name in (b"MQTT", b"MQIsdp"):
        raise ProtocolError(f"protocol level {level} is not 3, 4 or 5", 0x84)
    raise MalformedPacket(f"the protocol name is {reprlib.repr(name)}, not MQTT")


def decode_connect(reader: FieldReader, version: int, is_bridge: bool) -> Connect:
    """Read the rest of a CONNECT, behind its protocol name and level."""
    flags = reader.u8()
    if flags & 1:
        raise MalformedPacket("the reserved flag of CONNECT is set")  # [MQTT-3.1.2-3]
    keep_alive = reader.u16()
    properties = decode_properties(reader, "connect") if version == 5 else None
    if properties and "authentication_data" in properties and "authentication_method" not in properties:
        raise ProtocolError("CONNECT has authentication data without a method")
    client_id = reader.string()
    will = _decode_will(reader, flags, version)
    has_username, has_password = flags & 0x80, flags & 0x40
    if has_password and not has_username and version < 5:
        raise MalformedPacket("CONNECT has a password without a user name")  # [3.1.1: MQTT-3.1.2-22]
    username = reader.string() if has_username else None
    password = reader.binary() if has_password else None
    reader.expect_end()
    clean_start = bool(flags & 2)
    return Connect(client_id, clean_start, keep_alive, username, password, will, properties, version, is_bridge)


def _decode_will(reader: FieldReader, flags: int, version: int) -> Will | None:
    qos = flags >> 3 & 3
    if not flags & 4:
        if flags & 0x38:
            raise MalformedPacket("CONNECT has will options without a will")  # [MQTT-3.1.2-11, MQTT-3.1.2-13]
        return None
    if qos == 3:
        raise MalformedPacket("CONNECT has will QoS 3")  # [MQTT-3.1.2-12]
    properties = decode_properties(reader, "will") if version == 5 else None
    _check_response_topic(properties)
    topic = reader.string()
    payload = reader.binary()
    return Will(topic, payload, qos, bool(flags & 0x20), properties)


class ConnAck(Struct):
    """The answer to CONNECT. ``reason_code`` is one of MQTT 5; the encoder translates it for MQTT 3."""

    session_present: bool = False
    reason_code: int = 0
    properties: PropertyDict | None = None

    @classmethod
    def decode(cls, reader: FieldReader, flags: int, version: int) -> ConnAck:
        acknowledge = reader.u8()
        if acknowledge > 1:
            raise MalformedPacket("a reserved flag of CONNACK is set")
        code = reader.u8()
        properties = decode_properties(reader, "connack") if version == 5 else None
        reader.expect_end()
        return cls(bool(acknowledge), code, properties)

    def encode(self, version: int) -> bytes:
        code = self.reason_code if version == 5 else connack_code_v3(self.reason_code)
        present = self.session_present and version > 3  # MQTT 3.1 has a reserved byte here
        return _frame(0x20, bytes((present, code)), _properties(self.properties, version))


class Publish(Struct, gc=False):
    """An application message. ``packet_id`` is 0 for QoS 0; ``message_id`` is not sent, see `broker.hooks`."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: PropertyDict | None = None
    message_id: str | None = None
    is_will: ClassVar[bool] = False

    def encode(self, version: int) -> bytes:
        flags = self.dup << 3 | self.qos << 1 | self.retain
        packet_id = u16(self.packet_id) if self.qos else b""
        return _frame(0x30 | flags, string(self.topic), packet_id, _properties(self.properties, version), self.payload)


class WillPublish(Publish, gc=False):
    """A will that is published: no client waits for its acknowledgement."""

    is_will: ClassVar[bool] = True


def check_publish_properties(properties: PropertyDict | None) -> None:
    """Raise `ProtocolError` for property values that no PUBLISH may have."""
    _check_response_topic(properties)


def _check_response_topic(properties: PropertyDict | None) -> None:
    if properties:
        topic = properties.get("response_topic")
        if topic is not None and ("+" in topic or "#" in topic or not topic):
            raise ProtocolError(f"{reprlib.repr(topic)} is no topic name for a response")  # [MQTT-3.3.2-14]


class _Ack(Struct, gc=False):
    """PUBACK, PUBREC, PUBREL and PUBCOMP: a packet identifier and, in MQTT 5, a reason code and properties."""

    packet_id: int
    reason_code: int = 0
    properties: PropertyDict | None = None

    FIRST: ClassVar[int] = 0
    NAME: ClassVar[str] = ""
    REASONS: ClassVar[frozenset[int]] = frozenset()

    @classmethod
    def decode(cls, reader: FieldReader, flags: int, version: int) -> Any:
        packet_id = reader.packet_id()
        if version < 5 or reader.left == 0:
            reader.expect_end()
            return cls(packet_id)
        code = reader.u8()
        if code not in cls.REASONS:
            raise ProtocolError(f"{cls.NAME.upper()} has the reason code {code:#04x}")
        properties = decode_properties(reader, cls.NAME) if reader.left else None
        reader.expect_end()
        return cls(packet_id, code, properties)

    def encode(self, version: int) -> bytes:
        if version < 5 or not (self.reason_code or self.properties):
            return bytes((self.FIRST, 2)) + u16(self.packet_id)
        code = bytes((self.reason_code,))
        if not self.properties:
            return bytes((self.FIRST, 3)) + u16(self.packet_id) + code
        return _frame(self.FIRST, u16(self.packet_id), code, encode_properties(self.properties))


class PubAck(_Ack, gc=False):
    FIRST: ClassVar[int] = 0x40
    NAME: ClassVar[str] = "puback"
    REASONS: ClassVar[frozenset[int]] = PUBACK_REASONS


class PubRec(_Ack, gc=False):
    FIRST: ClassVar[int] = 0x50
    NAME: ClassVar[str] = "pubrec"
    REASONS: ClassVar[frozenset[int]] = PUBACK_REASONS


class PubRel(_Ack, gc=False):
    FIRST: ClassVar[int] = 0x62
    NAME: ClassVar[str] = "pubrel"
    REASONS: ClassVar[frozenset[int]] = PUBREL_REASONS


class PubComp(_Ack, gc=False):
    FIRST: ClassVar[int] = 0x70
    NAME: ClassVar[str] = "pubcomp"
    REASONS: ClassVar[frozenset[int]] = PUBREL_REASONS


class Subscription(Struct, frozen=True):
    """One topic filter of a SUBSCRIBE with its options."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0

    @property
    def options(self) -> int:
        """The options as their byte on the wire."""
        return self.qos | self.no_local << 2 | self.retain_as_published << 3 | self.retain_handling << 4


class Subscribe(Struct):
    packet_id: int
    subscriptions: list[Subscription]
    properties: PropertyDict | None = None

    @classmethod
    def decode(cls, reader: FieldReader, flags: int, version: int) -> Subscribe:
        packet_id = reader.packet_id()
        properties = decode_properties(reader, "subscribe") if version == 5 else None
        if properties and len(properties.get("subscription_identifier", ())) > 1:
            raise ProtocolError("SUBSCRIBE has subscription_identifier more than once")
        subscriptions = []
        while reader.left:
            subscriptions.append(_decode_subscription(reader, version))
        if not subscriptions:
            raise ProtocolError("SUBSCRIBE has no topic filter")  # [MQTT-3.8.3-2]
        return cls(packet_id, subscriptions, properties)

    def encode(self, version: int) -> bytes:
        parts = [u16(self.packet_id), _properties(self.properties, version)]
        for subscription in self.subscriptions:
            parts += [string(subscription.topic_filter), bytes((subscription.options,))]
        return _frame(0x82, *parts)


def _decode_subscription(reader: FieldReader, version: int) -> Subscription:
    topic_filter = reader.string()
    options = reader.u8()
    qos = options & 3
    reserved = options & 0xC0 if version == 5 else options & 0xFC
    if qos == 3 or reserved:
        raise MalformedPacket(f"the subscription options {options:#04x} have QoS 3 or a reserved bit")  # [MQTT-3.8.3-5]
    retain_handling = options >> 4
    if retain_handling == 3:
        raise ProtocolError("the subscription options have retain handling 3")
    return Subscription(topic_filter, qos, bool(options & 4), bool(options & 8), retain_handling)


class SubAck(Struct):
    packet_id: int
    reason_codes: list[int]
    properties: PropertyDict | None = None

    @classmethod
    def decode(cls, reader: FieldReader, flags: int, version: int) -> SubAck:
        packet_id = reader.packet_id()
        properties = decode_properties(reader, "suback") if version == 5 else None
        return cls(packet_id, list(reader.rest()), properties)

    def encode(self, version: int) -> bytes:
        codes = self.reason_codes if version == 5 else [min(code, 0x80) for code in self.reason_codes]
        return _frame(0x90, u16(self.packet_id), _properties(self.properties, version), bytes(codes))


class Unsubscribe(Struct):
    packet_id: int
    topic_filters: list[str]
    properties: PropertyDict | None = None

    @classmethod
    def decode(cls, reader: FieldReader, flags: int, version: int) -> Unsubscribe:
        packet_id = reader.packet_id()
        properties = decode_properties(reader, "unsubscribe") if version == 5 else None
        topic_filters = []
        while reader.left:
            topic_filters.append(reader.string())
        if not topic_filters:
            raise ProtocolError("UNSUBSCRIBE has no topic filter")  # [MQTT-3.10.3-2]
        if "" in topic_filters:
            raise MalformedPacket("UNSUBSCRIBE has an empty topic filter")  # [MQTT-4.7.3-1]
        return cls(packet_id, topic_filters, properties)

    def encode(self, version: int) -> bytes:
        filters = [string(topic_filter) for topic_filter in self.topic_filters]
        return _frame(0xA2, u16(self.packet_id), _properties(self.properties, version), *filters)


class UnsubAck(Struct):
    """The answer to UNSUBSCRIBE. In MQTT 3 it has no reason codes."""

    packet_id: int
    reason_codes: list[int]
    properties: PropertyDict | None = None

    @classmethod
    def decode(cls, reader: FieldReader, flags: int, version: int) -> UnsubAck:
        packet_id = reader.packet_id()
        properties = decode_properties(reader, "unsuback") if version == 5 else None
        codes = list(reader.rest()) if version == 5 else []
        reader.expect_end()
        return cls(packet_id, codes, properties)

    def encode(self, version: int) -> bytes:
        if version < 5:
            return b"\xb0\x02" + u16(self.packet_id)
        return _frame(0xB0, u16(self.packet_id), encode_properties(self.properties), bytes(self.reason_codes))


class PingReq(Struct):
    @classmethod
    def decode(cls, reader: FieldReader, flags: int, version: int) -> PingReq:
        reader.expect_end()
        return cls()

    def encode(self, version: int) -> bytes:
        return b"\xc0\x00"


class PingResp(Struct):
    @classmethod
    def decode(cls, reader: FieldReader, flags: int, version: int) -> PingResp:
        reader.expect_end()
        return cls()

    def encode(self, version: int) -> bytes:
        return b"\xd0\x00"


class Disconnect(Struct):
    """The last packet of a connection, in MQTT 5 from either side and with a reason."""

    reason_code: int = 0
    properties: PropertyDict | None = None

    @classmethod
    def decode(cls, reader: FieldReader, flags: int, version: int) -> Disconnect:
        if version < 5 or reader.left == 0:
            reader.expect_end()
            return cls()
        code = reader.u8()
        properties = decode_properties(reader, "disconnect") if reader.left else None
        reader.expect_end()
        return cls(code, properties)

    def encode(self, version: int) -> bytes:
        if version < 5 or not (self.reason_code or self.properties):
            return b"\xe0\x00"
        if not self.properties:
            return bytes((0xE0, 1, self.reason_code))
        return _frame(0xE0, bytes((self.reason_code,)), encode_properties(self.properties))


def check_client_disconnect(packet: Disconnect) -> None:
    """Raise `ProtocolError` for a reason or property that only a server may send."""
    if packet.reason_code not in CLIENT_DISCONNECT_REASONS:
        raise ProtocolError(f"the DISCONNECT of a client has the reason code {packet.reason_code:#04x}")
    if packet.properties and "server_reference" in packet.properties:
        raise ProtocolError("the DISCONNECT of a client has server_reference")


class Auth(Struct):
    """A step of enhanced authentication, MQTT 5 only."""

    reason_code: int = 0
    properties: PropertyDict | None = None

    @classmethod
    def decode(cls, reader: FieldReader, flags: int, version: int) -> Auth:
        if version < 5:
            raise MalformedPacket("packet type 15 (AUTH) is for MQTT 5 only")
        if reader.left == 0:
            return cls()
        code = reader.u8()
        if code not in (0x00, 0x18, 0x19):
            raise ProtocolError(f"AUTH has the reason code {code:#04x}")
        properties = decode_properties(reader, "auth") if reader.left else None
        reader.expect_end()
        return cls(code, properties)

    def encode(self, version: int) -> bytes:
        if not (self.reason_code or self.properties):
            return b"\xf0\x00"
        return _frame(0xF0, bytes((self.reason_code,)), encode_properties(self.properties))


Packet = (
    Connect | ConnAck | Publish | PubAck | PubRec | PubRel | PubComp | Subscribe | SubAck | Unsubscribe | UnsubAck
    | PingReq | PingResp | Disconnect | Auth
)  # fmt: skip
