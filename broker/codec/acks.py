"""The acknowledgements of many publishes in one piece: PUBACK for QoS 1, PUBREC for QoS 2, nothing for QoS 0."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import Final

from broker.codec.packets import Publish

_SHORT: Final = (0, 0x4002_0000, 0x5002_0000)
"""By QoS: the first two bytes of an acknowledgement without a reason code, the packet id to be added."""
_LONG: Final = (0, 0x4003_0000, 0x5003_0000)


def encode_acks(publishes: Sequence[Publish], codes: bytes | bytearray, version: int) -> bytes:
    """Acknowledge `publishes` in order, with a reason code each where the version has them."""
    if version < 5 or codes.count(0) == len(codes):
        short = [_SHORT[publish.qos] | publish.packet_id for publish in publishes if publish.qos]
        return pack(f">{len(short)}I", *short)
    long = [_LONG[publish.qos] | publish.packet_id for publish in publishes if publish.qos]
    count = len(long)
    if count < len(codes):
        codes = bytes(code for publish, code in zip(publishes, codes, strict=True) if publish.qos)
    words = pack(f">{count}I", *long)
    encoded = bytearray(5 * count)
    for offset in range(4):
        encoded[offset::5] = words[offset::4]
    encoded[4::5] = codes
    return bytes(encoded)
