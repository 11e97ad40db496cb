"""The data types of the wire: integers, strings, binary data. MQTT 5.0 section 1.5."""

from __future__ import annotations

from broker.errors import MalformedPacket

VARINT_MAX = 268_435_455


class Reader:
    """Reads one packet's body, ``data[position:end]``, from front to back. Raises `MalformedPacket` at its end."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        start = self.position
        stop = start + size
        if stop > self.end:
            raise MalformedPacket("a packet ends in the middle of a field")
        self.position = stop
        return self.data[start:stop]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.end - self.position)

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return self.end - self.position

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        """A variable byte integer: seven bits a byte, four bytes at most, in its shortest form [1.5.5-1]."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    raise MalformedPacket("a variable byte integer is longer than needed")
                return value
        raise MalformedPacket("a variable byte integer has more than four bytes")

    def binary(self) -> bytes:
        return self.take(self.u16())

    def string(self) -> str:
        """UTF-8 without surrogates [1.5.4-1] and U+0000 [1.5.4-2]; U+FEFF is an ordinary character [1.5.4-3]."""
        raw = self.binary()
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise MalformedPacket("a string is not UTF-8") from error
        if "\0" in text:
            raise MalformedPacket("a string holds U+0000")
        return text

    def packet_id(self) -> int:
        """A packet identifier, which is never zero [2.2.1-3]."""
        packet_id = self.u16()
        if packet_id == 0:
            raise MalformedPacket("packet identifier 0", 0x82)
        return packet_id

    def expect_end(self) -> None:
        """Raise unless everything was read."""
        if self.position != self.end:
            raise MalformedPacket("a packet goes on behind its last field")


def varint(value: int) -> bytes:
    """`value` as a variable byte integer, in the fewest bytes."""
    if value < 0x80:
        return bytes((value,))
    if value > VARINT_MAX:
        raise ValueError(f"{value} does not fit a variable byte integer")
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
    """`value` with its length in front."""
    return len(value).to_bytes(2, "big") + value


def string(value: str) -> bytes:
    """`value` in UTF-8 with its length in front."""
    return binary(value.encode())
