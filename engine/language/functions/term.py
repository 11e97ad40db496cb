"""Erlang's external term format, for data that EMQX rules encode or decode."""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import isfinite
from typing import Any

from engine.errors import EvaluationError
from engine.language.functions.argument import binary
from engine.language.functions.registry import function
from engine.model.value import UNDEFINED, Bits, as_binary, from_bytes

_VERSION = 131
_DEPTH_MAX = 200
"""Bound of nesting: reading and writing recurse, and Python's stack has 1,000 frames for all that is on it."""
_ATOMS: dict[str, Any] = {"true": True, "false": False, "null": None, "undefined": UNDEFINED}


@function(("term_decode(term_encode([1, 2.5, 'a', true]))", [1, 2.5, "a", True]))
def term_encode(value: Any) -> str | bytes:
    """Return the value in Erlang's external term format. Fails for values nested deeper than 200 levels."""
    result = bytearray([_VERSION])
    _write(value, result, 0)
    return from_bytes(bytes(result))


@function(("bin2hexstr(term_encode(1))", "836101"), ("term_decode(hexstr2bin('836101'))", 1))
def term_decode(data: str) -> Any:
    """Return the value of data in Erlang's external term format. Tuples become lists.

    Fails for terms that rules have no kind for (pids, references, functions), and for maps with keys that are not text.
    """
    reader = _TermReader(binary("term_decode", 1, data))
    try:
        if reader.byte() != _VERSION:
            raise ValueError(f"expected the first byte {_VERSION}, found {reader.data[0]}")
        value = reader.term(0)
        if reader.position != len(reader.data):
            raise ValueError(f"expected the end of the data, found {len(reader.data) - reader.position} more bytes")
    except (ValueError, IndexError, struct.error) as error:
        raise EvaluationError(f"term_decode: argument 1: not a term: {error}") from error
    return value


def _write(value: Any, result: bytearray, depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise EvaluationError(f"term_encode: expected a value of at most {_DEPTH_MAX} levels, found a deeper one")
    if type(value) is int:
        _write_integer(value, result)
    elif type(value) is float:
        result += struct.pack(">Bd", 70, value)
    elif type(value) is str or type(value) is bytes:
        data = as_binary(value)
        result += struct.pack(">BI", 109, len(data)) + data
    elif isinstance(value, Bits):
        padded = (value.value << -value.length % 8).to_bytes((value.length + 7) // 8, "big")
        result += struct.pack(">BIB", 77, len(padded), value.length % 8 or 8) + padded
    elif type(value) is list:
        if value:
            result += struct.pack(">BI", 108, len(value))
        for item in value:
            _write(item, result, depth + 1)
        result.append(106)
    elif type(value) is dict:
        result += struct.pack(">BI", 116, len(value))
        for key, item in sorted(value.items()):
            _write(key, result, depth + 1)
            _write(item, result, depth + 1)
    else:
        name = next((atom for atom, meaning in _ATOMS.items() if meaning is value), None)
        if name is None:
            raise EvaluationError(f"term_encode: expected a value, found {type(value).__name__}")
        result += bytes([119, len(name)]) + name.encode()


def _write_integer(value: int, result: bytearray) -> None:
    if 0 <= value < 256:
        result += bytes([97, value])
    elif -(2**31) <= value < 2**31:
        result += struct.pack(">Bi", 98, value)
    else:
        digits = abs(value).to_bytes((value.bit_length() + 7) // 8, "little")
        head = bytes([110, len(digits)]) if len(digits) < 256 else struct.pack(">BI", 111, len(digits))
        result += head + bytes([value < 0]) + digits


class _TermReader:
    """Reads terms from bytes. Raises `ValueError`, `IndexError` or `struct.error` for data that is not a term."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1]

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.position:
            raise ValueError("expected more data: the term ends too early")
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def term(self, depth: int) -> Any:
        if depth > _DEPTH_MAX:
            raise ValueError(f"expected at most {_DEPTH_MAX} levels, found more")
        tag = self.byte()
        read = _READERS.get(tag)
        if read is None:
            raise ValueError(f"expected a term that has a value in rules, found tag {tag}")
        return read(self, depth)

    def terms(self, count: int, depth: int) -> list[Any]:
        if count > len(self.data) - self.position:  # a term takes a byte at least
            raise ValueError("expected more data: the term ends too early")
        return [self.term(depth + 1) for _ in range(count)]

    def float_(self) -> float:
        value: float = self.number(">d")
        if not isfinite(value):
            raise ValueError(f"expected a number as a float, found {value}")
        return value

    def big(self, size: int) -> int:
        is_negative = self.byte()
        value = int.from_bytes(self.take(size), "little")
        return -value if is_negative else value

    def atom(self, size: int) -> Any:
        name = self.take(size).decode()
        return _ATOMS.get(name, name)

    def list_(self, depth: int) -> list[Any]:
        elements = self.terms(self.number(">I"), depth)
        if self.byte() != 106:
            raise ValueError("expected a proper list, found one with another end than []")
        return elements

    def map_(self, depth: int) -> dict[str, Any]:
        count = self.number(">I")
        terms = self.terms(2 * count, depth)
        if not all(type(key) is str for key in terms[::2]):
            raise ValueError("expected text as the keys of a map, found another kind")
        return dict(zip(terms[::2], terms[1::2], strict=True))

    def bits(self) -> Any:
        size, used = self.number(">I"), self.byte()
        data = self.take(size)
        if not size or not 1 <= used <= 8:
            raise ValueError(f"expected 1 to 8 bits in the last byte of a bit string, found {used} of {size} bytes")
        length = size * 8 - 8 + used
        return from_bytes(data) if used == 8 else Bits(int.from_bytes(data, "big") >> (8 - used), length)


_READERS: dict[int, Callable[[_TermReader, int], Any]] = {
    70: lambda reader, depth: reader.float_(),
    77: lambda reader, depth: reader.bits(),
    97: lambda reader, depth: reader.byte(),
    98: lambda reader, depth: reader.number(">i"),
    100: lambda reader, depth: reader.atom(reader.number(">H")),
    104: lambda reader, depth: reader.terms(reader.byte(), depth),
    105: lambda reader, depth: reader.terms(reader.number(">I"), depth),
    106: lambda reader, depth: [],
    107: lambda reader, depth: list(reader.take(reader.number(">H"))),
    108: lambda reader, depth: reader.list_(depth),
    109: lambda reader, depth: from_bytes(reader.take(reader.number(">I"))),
    110: lambda reader, depth: reader.big(reader.byte()),
    111: lambda reader, depth: reader.big(reader.number(">I")),
    115: lambda reader, depth: reader.atom(reader.byte()),
    116: lambda reader, depth: reader.map_(depth),
    118: lambda reader, depth: reader.atom(reader.number(">H")),
    119: lambda reader, depth: reader.atom(reader.byte()),
}
