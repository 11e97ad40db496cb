"""The acknowledgements of many publishes in one call: PUBACK for QoS 1, PUBREC for QoS 2, nothing for QoS 0."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import Final

from broker.codec.packets import Publish

_SHORT: Final = (0, 0x4002_0000, 0x5002_0000)
"""By QoS, an acknowledgement without a reason code as one integer of four bytes: packet type, remaining length 2, and
room for the packet id. One `pack` then encodes any number of them."""
_LONG: Final = (0, 0x4003_0000, 0x5003_0000)
"""The same with a reason code, which follows as a fifth byte: remaining length 3."""


def encode_acks(publishes: Sequence[Publish], codes: bytes | bytearray, version: int) -> bytes:
    """Return the acknowledgements of `publishes` in order, each with its code of `codes` where the version has them."""
    if version < 5 or codes.count(0) == len(codes):
        short = [_SHORT[publish.qos] | publish.packet_id for publish in publishes if publish.qos]
        return pack(f">{len(short)}I", *short)
    long = [_LONG[publish.qos] | publish.packet_id for publish in publishes if publish.qos]
    count = len(long)
    if count < len(codes):
        codes = bytes(code for publish, code in zip(publishes, codes, strict=True) if publish.qos)
    words = pack(f">{count}I", *long)
    encoded = bytearray(5 * count)
    for offset in range(4):  # five bytes each: column by column, which takes five slices and no loop over publishes
        encoded[offset::5] = words[offset::4]
    encoded[4::5] = codes
    return bytes(encoded)
