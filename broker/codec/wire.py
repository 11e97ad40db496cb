"""The data types of MQTT packets: integers, strings, binary data. MQTT 5.0 section 1.5."""

from __future__ import annotations

from typing import Final

from broker.errors import MalformedPacket

VARINT_MAX: Final = 268_435_455
"""The largest variable byte integer: four bytes of seven bits."""


class FieldReader:
    """Reads the fields of one packet's body, ``data[position:end]``, in order.

    Raises `MalformedPacket` for a field that is not as the specification says, or goes beyond the end of the body.
    """

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        start = self.position
        stop = start + size
        if stop > self.end:
            raise MalformedPacket(f"the packet ends inside a field: {size} bytes needed, {self.end - start} left")
        self.position = stop
        return self.data[start:stop]

    def rest(self) -> bytes:
        """Return all remaining bytes."""
        return self.take(self.end - self.position)

    @property
    def left(self) -> int:
        """The number of remaining bytes."""
        return self.end - self.position

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        """Read a variable byte integer: seven bits a byte, four bytes at most, in its shortest form [MQTT-1.5.5-1]."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    raise MalformedPacket("a variable byte integer has more bytes than its value needs")
                return value
        raise MalformedPacket("a variable byte integer has more than four bytes")

    def binary(self) -> bytes:
        return self.take(self.u16())

    def string(self) -> str:
        """Read UTF-8 without surrogates [MQTT-1.5.4-1] and U+0000 [MQTT-1.5.4-2]. U+FEFF is kept [MQTT-1.5.4-3]."""
        raw = self.binary()
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise MalformedPacket("a string is not valid UTF-8") from error
        if "\0" in text:
            raise MalformedPacket("a string contains U+0000")
        return text

    def packet_id(self) -> int:
        """Read a packet identifier, which is never zero [MQTT-2.2.1-3]."""
        packet_id = self.u16()
        if packet_id == 0:
            raise MalformedPacket("the packet identifier is 0", 0x82)
        return packet_id

    def expect_end(self) -> None:
        """Raise `MalformedPacket` unless everything was read."""
        if self.position != self.end:
            raise MalformedPacket(f"{self.left} bytes follow the last field of the packet")


def varint(value: int) -> bytes:
    """Return `value` as a variable byte integer, in the fewest bytes. Raises `ValueError` above `VARINT_MAX`."""
    if value < 0x80:
        return bytes((value,))
    if value > VARINT_MAX:
        raise ValueError(f"{value} does not fit a variable byte integer, which is at most {VARINT_MAX}")
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def binary(value: bytes) -> bytes:
    """Return `value` behind its length."""
    return len(value).to_bytes(2, "big") + value


def string(value: str) -> bytes:
    """Return `value` in UTF-8 behind its length."""
    return binary(value.encode())
