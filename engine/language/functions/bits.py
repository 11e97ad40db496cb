"""Bits of integers, and integers, floats and bits of binary data."""

from __future__ import annotations

import struct
from math import isfinite
from typing import Any

from engine.errors import EvaluationError
from engine.language.functions import argument
from engine.language.functions.argument import integer, refuse, word
from engine.language.functions.registry import function
from engine.model.jsontext import UNDEFINED
from engine.model.value import Bits, from_bytes

_SHIFTED_BITS_MAX = 1 << 16
"""Bound of a shifted integer: its text and its arithmetic take time quadratic to its length."""
_FLOATS = {16: "e", 32: "f", 64: "d"}


@function(("bitnot(10)", -11))
def bitnot(value: int) -> int:
    """Return the integer with all bits inverted (two's complement)."""
    return ~integer("bitnot", 1, value)


@function(("bitand(10, 8)", 8))
def bitand(left: int, right: int) -> int:
    """Return the bitwise AND of two integers."""
    return integer("bitand", 1, left) & integer("bitand", 2, right)


@function(("bitor(10, 8)", 10))
def bitor(left: int, right: int) -> int:
    """Return the bitwise OR of two integers."""
    return integer("bitor", 1, left) | integer("bitor", 2, right)


@function(("bitxor(10, 8)", 2))
def bitxor(left: int, right: int) -> int:
    """Return the bitwise exclusive OR of two integers."""
    return integer("bitxor", 1, left) ^ integer("bitxor", 2, right)


@function(("bitsl(1, 4)", 16), ("bitsl(16, -2)", 4))
def bitsl(value: int, count: int) -> int:
    """Return the integer shifted left by `count` bits; a negative `count` shifts right.

    Fails where the result would have more than 65,536 bits.
    """
    return _shifted("bitsl", integer("bitsl", 1, value), integer("bitsl", 2, count))


@function(("bitsr(-16, 2)", -4), ("bitsr(1, -2)", 4))
def bitsr(value: int, count: int) -> int:
    """Return the integer shifted right by `count` bits, its sign kept; a negative `count` shifts left.

    Fails where the result would have more than 65,536 bits.
    """
    return _shifted("bitsr", integer("bitsr", 1, value), -integer("bitsr", 2, count))


def _shifted(name: str, value: int, left: int) -> int:
    if left <= 0:
        return value >> min(-left, value.bit_length() + 1)
    if value.bit_length() + left > _SHIFTED_BITS_MAX:
        raise EvaluationError(
            f"{name}: expected a result of at most {_SHIFTED_BITS_MAX} bits, found {value.bit_length() + left} bits"
        )
    return value << left


@function(("bitsize('ab')", 16))
def bitsize(data: str) -> int:
    """Return the length of text or binary data in bits."""
    if isinstance(data, Bits):
        return data.length
    return len(argument.binary("bitsize", 1, data)) * 8


@function(("bytesize('ab')", 2), ("bytesize([104, 105])", 2))
def bytesize(data: Any) -> int:
    """Return the length of text or binary data in bytes.

    Of a list, return the sum for its elements: text, binary data, lists, and integers from 0 to 255, one byte each.
    """
    if isinstance(data, Bits):
        return (data.length + 7) // 8
    if type(data) is list:
        return sum(map(_list_bytesize, data))
    return len(argument.binary("bytesize", 1, data))


def _list_bytesize(item: Any) -> int:
    if type(item) is int and 0 <= item <= 255:
        return 1
    if type(item) is int:
        refuse("bytesize", 1, "integers from 0 to 255 in the list", item)
    return bytesize(item)


@function(
    ("subbits('abc', 8)", 97),
    ("subbits('abc', 9, 8)", 98),
    ("subbits('abc', 1, 8, 'bits')", "a"),
    ("subbits(hexstr2bin('FF'), 1, 8, 'integer', 'signed')", -1),
    ("subbits(hexstr2bin('0100'), 1, 16, 'integer', 'unsigned', 'little')", 1),
    ("subbits(hexstr2bin('3FC00000'), 1, 32, 'float')", 1.5),
)
def subbits(
    data: str,
    start: int,
    length: int | None = None,
    kind: str = "integer",
    sign: str = "unsigned",
    endian: str = "big",
) -> Any:
    """Return `length` bits of text or binary data, from bit `start` (the first is 1), as a value.

    With two arguments, the second one is `length` and `start` is 1. `kind` is 'integer', 'float' (of 16, 32 or 64 bits)
    or 'bits' (text or binary data), `sign` 'unsigned' or 'signed', `endian` 'big' or 'little'. Where fewer than
    `length` bits are left, those are taken; a `start` outside of the data gives undefined.
    """
    if length is None:
        start, length = 1, start
    source = argument.bits("subbits", 1, data)
    start, length = integer("subbits", 2, start), integer("subbits", 3, length)
    word("subbits", 4, kind, ("integer", "float", "bits"))
    word("subbits", 5, sign, ("unsigned", "signed"))
    word("subbits", 6, endian, ("big", "little"))
    rest = source.length - start + 1
    if start < 1 or rest < 1:
        return UNDEFINED
    if not 0 <= length <= rest or (kind == "float" and length not in _FLOATS):
        length = rest
    cut = (source.value >> (rest - length)) & ((1 << length) - 1)
    if kind == "integer":
        return _integer(cut, length, sign == "signed", endian == "little")
    return _float(cut, length, endian) if kind == "float" else _bit_string(cut, length)


def _integer(bits: int, length: int, is_signed: bool, is_little: bool) -> int:
    if is_little:
        # Whole bytes come lowest first; the bits left over are the highest ones.
        left_over = length % 8
        whole = (bits >> left_over).to_bytes(length // 8, "big")
        bits = int.from_bytes(whole, "little") | (bits & ((1 << left_over) - 1)) << (length - left_over)
    return bits - (1 << length) if is_signed and length and bits >> (length - 1) else bits


def _float(bits: int, length: int, endian: str) -> float:
    if length not in _FLOATS:
        raise EvaluationError(f"subbits: expected 16, 32 or 64 bits for a float, found {length}")
    order = ">" if endian == "big" else "<"
    value: float = struct.unpack(order + _FLOATS[length], bits.to_bytes(length // 8, "big"))[0]
    if not isfinite(value):
        raise EvaluationError(f"subbits: expected the bits of a number, found those of {value}")
    return value


def _bit_string(bits: int, length: int) -> Any:
    return Bits(bits, length) if length % 8 else from_bytes(bits.to_bytes(length // 8, "big"))
