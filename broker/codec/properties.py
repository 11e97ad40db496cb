"""The properties of MQTT 5: one table, and the decoder and encoder of property sections. MQTT 5.0 section 2.2.2.

A property section is a dict by snake-case specification name, None when it is empty. Properties that may occur several
times are lists: ``user_property`` of pairs, ``subscription_identifier`` of integers.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from broker.codec.wire import FieldReader, binary, string, u16, u32, varint
from broker.errors import MalformedPacket, ProtocolError, WireError

PropertyDict = dict[str, Any]


class _DataType(NamedTuple):
    decode: Callable[[FieldReader], Any]
    encode: Callable[[Any], bytes]


def _decode_flag(reader: FieldReader) -> int:
    value = reader.u8()
    if value > 1:
        raise ProtocolError(f"a property that is 0 or 1 has the value {value}")
    return value


def _decode_positive(decode: Callable[[FieldReader], int], reason_code: int = 0x82) -> Callable[[FieldReader], int]:
    def positive(reader: FieldReader) -> int:
        value = decode(reader)
        if value == 0:
            raise ProtocolError("a property has the value 0, which it must not have", reason_code)
        return value

    return positive


def _decode_pair(reader: FieldReader) -> tuple[str, str]:
    return reader.string(), reader.string()


def _encode_pair(pair: tuple[str, str]) -> bytes:
    return string(pair[0]) + string(pair[1])


def _encode_u8(value: int) -> bytes:
    return bytes((value,))


_FLAG = _DataType(_decode_flag, _encode_u8)
_U16 = _DataType(FieldReader.u16, u16)
_U16_POSITIVE = _DataType(_decode_positive(FieldReader.u16), u16)
_ALIAS = _DataType(_decode_positive(FieldReader.u16, 0x94), u16)
_U32 = _DataType(FieldReader.u32, u32)
_U32_POSITIVE = _DataType(_decode_positive(FieldReader.u32), u32)
_VARINT_POSITIVE = _DataType(_decode_positive(FieldReader.varint), varint)
_STRING = _DataType(FieldReader.string, string)
_BINARY = _DataType(FieldReader.binary, binary)
_PAIR = _DataType(_decode_pair, _encode_pair)


class Property(NamedTuple):
    """A line of the table: identifier, name, data type, and the packets that may have it."""

    identifier: int
    name: str
    data_type: _DataType
    packets: frozenset[str]
    repeatable: bool = False


_ACKS = "connack puback pubrec pubrel pubcomp suback unsuback disconnect auth"
_ALL = f"connect will publish subscribe unsubscribe {_ACKS}"


def _property(identifier: int, name: str, data_type: _DataType, packets: str, repeatable: bool = False) -> Property:
    return Property(identifier, name, data_type, frozenset(packets.split()), repeatable)


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
_ENCODERS: Final = {entry.name: (bytes((entry.identifier,)), entry.data_type.encode) for entry in PROPERTIES}


def decode_properties(reader: FieldReader, packet: str) -> PropertyDict | None:
    """Read the property section at the position of `reader`, as `packet` may have it. Return None if it is empty.

    Raises `WireError` for a property that is unknown, misplaced, repeated or malformed.
    """
    size = reader.varint()
    if size == 0:
        return None
    end = reader.position + size
    if end > reader.end:
        raise MalformedPacket(f"a property section of {size} bytes, where the packet has {reader.left} left")
    section = FieldReader(reader.data, reader.position, end)
    found: PropertyDict = {}
    while section.position < end:
        _decode_property(section, packet, found)
    reader.position = end
    return found


def _decode_property(section: FieldReader, packet: str, found: PropertyDict) -> None:
    identifier = section.varint()
    entry = _BY_IDENTIFIER.get(identifier)
    if entry is None:
        raise MalformedPacket(f"property {identifier:#04x} is not known")
    if packet not in entry.packets:
        raise ProtocolError(f"{packet.upper()} must not have {entry.name}")
    value = entry.data_type.decode(section)
    if entry.repeatable:
        found.setdefault(entry.name, []).append(value)
    elif entry.name in found:
        raise ProtocolError(f"{packet.upper()} has {entry.name} more than once")
    else:
        found[entry.name] = value


def encode_properties(properties: Mapping[str, Any] | None) -> bytes:
    """Return the property section of `properties` behind its length."""
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
    """Raise `ValueError` unless `packet` may have these properties, which an application wants to send."""
    for name, value in properties.items():
        entry = _BY_NAME.get(name)
        if entry is None or packet not in entry.packets:
            raise ValueError(f"{packet.upper()} has no property {name}")
        try:
            section = encode_properties({name: value})
            decode_properties(FieldReader(section, 0, len(section)), packet)
        except (ValueError, OverflowError, WireError) as error:
            raise ValueError(f"{reprlib.repr(value)} is not a value of the property {name}") from error
