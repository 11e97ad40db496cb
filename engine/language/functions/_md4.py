"""MD4 (RFC 1320): OpenSSL 3, and hashlib with it, no longer has it."""

from __future__ import annotations

import struct

_MASK = 0xFFFFFFFF
_ORDERS = (
    range(16),
    (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
    (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15),
)
_SHIFTS = ((3, 7, 11, 19), (3, 5, 9, 13), (3, 9, 11, 15))
_CONSTANTS = (0, 0x5A827999, 0x6ED9EBA1)


def md4(data: bytes) -> str:
    """Return the MD4 hash of `data` in lower-case hexadecimal."""
    padded = data + b"\x80" + bytes((55 - len(data)) % 64) + struct.pack("<Q", len(data) * 8 & (1 << 64) - 1)
    state = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
    for offset in range(0, len(padded), 64):
        after = _rounds(state, struct.unpack_from("<16I", padded, offset))
        state = tuple((old + new) & _MASK for old, new in zip(state, after, strict=True))  # type: ignore[assignment]
    return struct.pack("<4I", *state).hex()


def _rounds(state: tuple[int, int, int, int], words: tuple[int, ...]) -> tuple[int, int, int, int]:
    a, b, c, d = state
    for number, (order, shifts, constant) in enumerate(zip(_ORDERS, _SHIFTS, _CONSTANTS, strict=True)):
        for step, index in enumerate(order):
            total = (a + _mixed(number, b, c, d) + words[index] + constant) & _MASK
            shift = shifts[step % 4]
            a, b, c, d = d, (total << shift | total >> (32 - shift)) & _MASK, b, c
    return a, b, c, d


def _mixed(number: int, b: int, c: int, d: int) -> int:
    if number == 0:
        return (b & c) | (~b & d)
    if number == 1:
        return (b & c) | (b & d) | (c & d)
    return b ^ c ^ d
