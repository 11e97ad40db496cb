"""The incremental parser: bytes in, packets out, wherever the bytes are split.

`PacketParser._parse` runs for every message and is written for speed: the notes there say why it is correct. An error
does not undo the packets in front of it: `PacketParser.feed` returns them and leaves the error in ``error``. Nothing is
parsed after that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from broker.codec.packets import (
    Auth,
    ConnAck,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    check_publish_properties,
    decode_connect,
    decode_protocol,
)
from broker.codec.properties import decode_properties
from broker.codec.wire import VARINT_MAX, FieldReader
from broker.errors import InvalidTopic, MalformedPacket, ProtocolError, WireError
from broker.topics import TopicNames

_Decoder = Callable[[FieldReader, int, int], Any]

_DECODERS: Final[dict[int, tuple[int, _Decoder]]] = {
    2: (0, ConnAck.decode),
    4: (0, PubAck.decode),
    5: (0, PubRec.decode),
    6: (2, PubRel.decode),
    7: (0, PubComp.decode),
    8: (2, Subscribe.decode),
    9: (0, SubAck.decode),
    10: (2, Unsubscribe.decode),
    11: (0, UnsubAck.decode),
    12: (0, PingReq.decode),
    13: (0, PingResp.decode),
    14: (0, Disconnect.decode),
    15: (0, Auth.decode),
}
"""By packet type: the flags that its fixed header must have [MQTT-2.1.3-1], and the decoder of its body."""

_SHORT_ACKS: Final[dict[int, type[PubAck | PubRec | PubRel | PubComp]]] = {
    0x40: PubAck, 0x50: PubRec, 0x62: PubRel, 0x70: PubComp,
}  # fmt: skip
"""By first byte: acknowledgements that have a short form, a packet id alone, which means reason code 0."""


class Parsed(Struct):
    """The packets that one `PacketParser.feed` completed, and the number of bytes they came from."""

    packets: list[Packet]
    size: int
    plain: bool
    """Whether the packets are nothing but new QoS 0 and 1 publishes without properties: the hot path."""


class PacketParser:
    """The parser of one direction of one connection.

    ``version`` is 0 until the CONNECT was parsed, which must be the first packet, unless it is given. Packets of more
    than `packet_size_max` bytes, and a CONNECT of more than `connect_size_max`, are refused from their fixed header.
    """

    __slots__ = ("_names", "_needed", "_packet_size_max", "_size_max", "_tail", "error", "version")

    def __init__(
        self, names: TopicNames, packet_size_max: int = VARINT_MAX, connect_size_max: int = VARINT_MAX, version: int = 0
    ) -> None:
        self.version = version
        self.error: WireError | None = None
        self._names = names
        self._packet_size_max = packet_size_max
        self._size_max = packet_size_max if version else min(connect_size_max, packet_size_max)
        self._tail = bytearray()
        self._needed = 0

    def close(self) -> None:
        """Forget the bytes of an incomplete packet."""
        self._tail = bytearray()

    def feed(self, data: bytes) -> Parsed:
        """Return the packets that are complete with `data`, in order."""
        tail = self._tail
        if tail:
            tail += data
            if len(tail) < self._needed:  # a large packet in many reads is copied once, not once for each read
                return Parsed([], 0, False)
            data = bytes(tail)
            tail.clear()
        packets: list[Packet] = []
        plain = False
        if self.error is None:
            try:
                position, plain = self._parse(data, packets)
            except WireError as error:
                self.error = error.detach()
            except InvalidTopic as error:
                self.error = MalformedPacket(str(error), 0x90)
            else:
                if position < len(data):
                    tail += data[position:] if position else data
        return Parsed(packets, len(data), plain)

    def _parse(self, data: bytes, packets: list[Packet]) -> tuple[int, bool]:
        """Append the packets in `data` to `packets`. Return where the first incomplete one begins, and whether all
        are plain (see `Parsed`).
        """
        end = len(data)
        position = 0
        plain = True
        if self.version == 0 and end:
            position = self._parse_connect(data, packets)
            plain = False
            if position == 0:
                return 0, False
        is_v5 = self.version == 5
        size_max = self._size_max
        known = self._names.known.get
        append = packets.append
        while position + 1 < end:
            header = data[position]
            length = data[position + 1]
            body = position + 2
            if length > 127:
                length, body = self._long_length(data, body)
                if body == 0:
                    self._needed = 0
                    break
            stop = body + length
            if stop > end:
                if stop - position > size_max:
                    raise _too_large("packet", stop - position, size_max)
                self._needed = stop - position
                break
            if stop - position > size_max:
                raise _too_large("packet", stop - position, size_max)
            if 0x30 <= header <= 0x35:
                # A PUBLISH of QoS 0 to 2 without DUP, read field by field here; whatever is unusual about it (topic not
                # cached, properties, packet id 0, fields that do not fit) goes to `_decode_publish`, which judges it.
                # No bound is checked on the way: reading beyond `stop` makes `start` larger than `stop`, and reading
                # beyond `data` raises IndexError.
                try:
                    start = body + 2 + (data[body] << 8 | data[body + 1])
                    topic = known(data[body + 2 : start])
                    packet_id = 0
                    if header >= 0x32:
                        packet_id = data[start] << 8 | data[start + 1]
                        start += 2
                        if header >= 0x34:
                            plain = False
                    if is_v5:
                        if data[start]:  # the property length; one zero byte tells that there are no properties
                            topic = None
                        start += 1
                except IndexError:
                    topic = None
                if topic is not None and start <= stop and (packet_id or header < 0x32):
                    append(Publish(topic, data[start:stop], header >> 1 & 3, header & 1 == 1, False, packet_id, None))
                else:
                    publish = self._decode_publish(FieldReader(data, body, stop), header & 15)
                    if publish.properties:
                        plain = False
                    append(publish)
            else:
                plain = False
                if length == 2 and header in _SHORT_ACKS and (packet_id := data[body] << 8 | data[body + 1]):
                    append(_SHORT_ACKS[header](packet_id))
                else:
                    append(self._decode(FieldReader(data, body, stop), header))
            position = stop
        else:  # the loop has ended without `break`: at most one byte is left, and any more data may complete a header
            self._needed = 0
        return position, plain

    def _long_length(self, data: bytes, position: int) -> tuple[int, int]:
        """Return a remaining length of several bytes, and where the body begins. `position` is behind its first byte.

        (0, 0) while it is incomplete. Forms with more bytes than the value needs are accepted, as by most brokers.
        """
        length = data[position - 1] & 0x7F
        for shift in (7, 14, 21):
            if position >= len(data):
                return 0, 0
            byte = data[position]
            position += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                return length, position
        raise MalformedPacket("a remaining length has more than four bytes")

    def _parse_connect(self, data: bytes, packets: list[Packet]) -> int:
        """Parse the CONNECT at the beginning of `data`. Return where it ends, 0 while it is incomplete."""
        if data[0] != 0x10:
            raise ProtocolError(f"the first packet is not CONNECT: it begins with {data[0]:#04x}")  # [MQTT-3.1.0-1]
        if len(data) < 2:
            return 0
        length, body = (data[1], 2) if data[1] < 128 else self._long_length(data, 2)
        if body == 0:
            return 0
        stop = body + length
        if stop > self._size_max:
            raise _too_large("CONNECT", stop, self._size_max)
        if stop > len(data):
            self._needed = stop
            return 0
        self._needed = 0
        reader = FieldReader(data, body, stop)
        self.version, is_bridge = decode_protocol(reader)
        self._size_max = self._packet_size_max
        packets.append(decode_connect(reader, self.version, is_bridge))
        return stop

    def _decode(self, reader: FieldReader, header: int) -> Packet:
        """Decode any packet but CONNECT, with all checks of the specification."""
        kind = header >> 4
        if kind == 3:
            return self._decode_publish(reader, header & 15)
        if kind == 1:
            raise ProtocolError("a second CONNECT")  # [MQTT-3.1.0-2]
        if kind == 0:
            raise MalformedPacket("packet type 0 is reserved")
        flags, decode = _DECODERS[kind]
        if self.version == 3 and flags:
            header &= ~8  # MQTT 3.1 marks these as duplicates too when they are sent again
        if header & 15 != flags:
            raise MalformedPacket(f"the flags of packet type {kind} are {header & 15:#x}, not {flags:#x}")
        packet: Packet = decode(reader, flags, self.version)
        return packet

    def _decode_publish(self, reader: FieldReader, flags: int) -> Publish:
        """Decode any PUBLISH, with all checks of the specification."""
        qos = flags >> 1 & 3
        dup = flags & 8 != 0
        if qos == 3:
            raise MalformedPacket("PUBLISH has QoS 3")  # [MQTT-3.3.1-4]
        if dup and qos == 0:
            raise MalformedPacket("PUBLISH has QoS 0 and the DUP flag")  # [MQTT-3.3.1-2]
        raw = reader.binary()
        packet_id = reader.packet_id() if qos else 0
        properties = decode_properties(reader, "publish") if self.version == 5 else None
        check_publish_properties(properties)
        topic = ""
        if raw or not (properties and "topic_alias" in properties):
            topic = self._names.known.get(raw) or self._names.decode(raw)
        return Publish(topic, reader.rest(), qos, flags & 1 == 1, dup, packet_id, properties)


def _too_large(kind: str, size: int, size_max: int) -> ProtocolError:
    return ProtocolError(f"a {kind} of {size} bytes, where at most {size_max} are accepted", 0x95)
