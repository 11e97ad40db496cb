"""The properties of MQTT 5: one table, and what reads and writes a property section by it. MQTT 5.0 section 2.2.2.

In Python a property section is a dict by snake-case specification name, None when it is empty. Properties that may
occur several times are lists: ``user_property`` of pairs, ``subscription_identifier`` of integers.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from broker.codec.wire import Reader, binary, string, u16, u32, varint
from broker.errors import MalformedPacket, ProtocolError, WireError

PropertyDict = dict[str, Any]


class _Kind(NamedTuple):
    decode: Callable[[Reader], Any]
    encode: Callable[[Any], bytes]


def _decode_flag(reader: Reader) -> int:
    value = reader.u8()
    if value > 1:
        raise ProtocolError("a property that is 0 or 1 has another value")
    return value


def _decode_positive(decode: Callable[[Reader], int], reason_code: int = 0x82) -> Callable[[Reader], int]:
    def positive(reader: Reader) -> int:
        value = decode(reader)
        if value == 0:
            raise ProtocolError("a property that must not be 0 is 0", reason_code)
        return value

    return positive


def _decode_pair(reader: Reader) -> tuple[str, str]:
    return reader.string(), reader.string()


def _encode_pair(pair: tuple[str, str]) -> bytes:
    return string(pair[0]) + string(pair[1])


def _encode_u8(value: int) -> bytes:
    return bytes((value,))


_FLAG = _Kind(_decode_flag, _encode_u8)
_U16 = _Kind(Reader.u16, u16)
_U16_POSITIVE = _Kind(_decode_positive(Reader.u16), u16)
_ALIAS = _Kind(_decode_positive(Reader.u16, 0x94), u16)
_U32 = _Kind(Reader.u32, u32)
_U32_POSITIVE = _Kind(_decode_positive(Reader.u32), u32)
_VARINT_POSITIVE = _Kind(_decode_positive(Reader.varint), varint)
_STRING = _Kind(Reader.string, string)
_BINARY = _Kind(Reader.binary, binary)
_PAIR = _Kind(_decode_pair, _encode_pair)


class Property(NamedTuple):
    """A line of the table: its identifier, name, kind, and the packets that may carry it."""

    identifier: int
    name: str
    kind: _Kind
    packets: frozenset[str]
    repeatable: bool = False


_ACKS = "connack puback pubrec pubrel pubcomp suback unsuback disconnect auth"
_ALL = f"connect will publish subscribe unsubscribe {_ACKS}"


def _property(identifier: int, name: str, kind: _Kind, packets: str, repeatable: bool = False) -> Property:
    return Property(identifier, name, kind, frozenset(packets.split()), repeatable)


PROPERTIES: Final = (
    _property(0x01, "payload_format_indicator", _FLAG, "publish will"),
    _property(0x02, "message_expiry_interval", _U32, "publish will"),
    _property(0x03, "content_type", _STRING, "publish will"),
    _property(0x08, "response_topic", _STRING, "publish will"),
    _property(0x09, "correlation_data", _BINARY, "publish will"),
    _property(0x0B, "subscription_identifier", _VARINT_POSITIVE, "publish subscribe", repeatable=True),
    _property(0x11, "session_expiry_interval", _U32, "connect connack disconnect"),
    _property(0x12, "assigned_client_identifier", _STRING, "connack"),
    _property(0x13, "server_keep_alive", _U16, "connack"),
    _property(0x15, "authentication_method", _STRING, "connect connack auth"),
    _property(0x16, "authentication_data", _BINARY, "connect connack auth"),
    _property(0x17, "request_problem_information", _FLAG, "connect"),
    _property(0x18, "will_delay_interval", _U32, "will"),
    _property(0x19, "request_response_information", _FLAG, "connect"),
    _property(0x1A, "response_information", _STRING, "connack"),
    _property(0x1C, "server_reference", _STRING, "connack disconnect"),
    _property(0x1F, "reason_string", _STRING, _ACKS),
    _property(0x21, "receive_maximum", _U16_POSITIVE, "connect connack"),
    _property(0x22, "topic_alias_maximum", _U16, "connect connack"),
    _property(0x23, "topic_alias", _ALIAS, "publish"),
    _property(0x24, "maximum_qos", _FLAG, "connack"),
    _property(0x25, "retain_available", _FLAG, "connack"),
    _property(0x26, "user_property", _PAIR, _ALL, repeatable=True),
    _property(0x27, "maximum_packet_size", _U32_POSITIVE, "connect connack"),
    _property(0x28, "wildcard_subscription_available", _FLAG, "connack"),
    _property(0x29, "subscription_identifier_available", _FLAG, "connack"),
    _property(0x2A, "shared_subscription_available", _FLAG, "connack"),
)

_BY_IDENTIFIER: Final = {entry.identifier: entry for entry in PROPERTIES}
_BY_NAME: Final = {entry.name: entry for entry in PROPERTIES}
_ENCODERS: Final = {entry.name: (bytes((entry.identifier,)), entry.kind.encode) for entry in PROPERTIES}


def decode_properties(reader: Reader, packet: str) -> PropertyDict | None:
    """The property section that begins at the reader's position, as `packet` may have it."""
    size = reader.varint()
    if size == 0:
        return None
    end = reader.position + size
    if end > reader.end:
        raise MalformedPacket("a property section is longer than its packet")
    section = Reader(reader.data, reader.position, end)
    found: PropertyDict = {}
    while section.position < end:
        _decode_property(section, packet, found)
    reader.position = end
    return found


def _decode_property(section: Reader, packet: str, found: PropertyDict) -> None:
    identifier = section.varint()
    entry = _BY_IDENTIFIER.get(identifier)
    if entry is None:
        raise MalformedPacket(f"unknown property {identifier:#04x}")
    if packet not in entry.packets:
        raise ProtocolError(f"{entry.name} in {packet.upper()}")
    value = entry.kind.decode(section)
    if entry.repeatable:
        found.setdefault(entry.name, []).append(value)
    elif entry.name in found:
        raise ProtocolError(f"{entry.name} twice")
    else:
        found[entry.name] = value


def encode_properties(properties: Mapping[str, Any] | None) -> bytes:
    """The property section of `properties`, its length in front."""
    if not properties:
        return b"\x00"
    parts: list[bytes] = []
    for name, value in properties.items():
        prefix, encode = _ENCODERS[name]
        if isinstance(value, list):
            parts.extend(prefix + encode(item) for item in value)
        else:
            parts.append(prefix + encode(value))
    body = b"".join(parts)
    return varint(len(body)) + body


def check_properties(properties: Mapping[str, Any], packet: str) -> None:
    """Raise `ValueError` unless `properties` may stand in `packet`: for what an application wants to send."""
    for name, value in properties.items():
        entry = _BY_NAME.get(name)
        if entry is None or packet not in entry.packets:
            raise ValueError(f"{name} is not a property of {packet.upper()}")
        try:
            section = encode_properties({name: value})
            decode_properties(Reader(section, 0, len(section)), packet)
        except (ValueError, OverflowError, WireError) as error:
            raise ValueError(f"{name} can't be {reprlib.repr(value)}") from error
