"""Checksummed JSON for the states of sinks and the counters of rules: the JSON, a space, and eight digits of CRC-32.

A position or a counter of which one bit has changed is still a number. Believed, it would skip records that wait. The
checksum covers the keys of the row as well, so that the text of one row is not taken for that of another. In format 1
the JSON stood alone, and is still read.
"""

from __future__ import annotations

from typing import Any, TypeVar
from zlib import crc32

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

_encode = msgspec.json.Encoder().encode


def dump_checksummed(value: msgspec.Struct, *keys: int | str) -> str:
    """Return `value` as it is stored in the row with these keys."""
    data = _encode(value)
    return f"{data.decode()} {_checksum(data, keys):08x}"


def load_checksummed(text: Any, kind: type[S], *keys: int | str) -> S:
    """Return the value that was stored in the row with these keys. Raise `ValueError` where `text` does not match."""
    if not isinstance(text, str):
        raise ValueError(f"the state of {keys[-1]!r} should be text, and is {type(text).__name__}")
    data, _, digits = text.rpartition(" ")
    if text.endswith("}"):
        data = text
    elif digits != f"{_checksum(data.encode(), keys):08x}":
        raise ValueError(f"the state of {keys[-1]!r} does not match its checksum")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the state of {keys[-1]!r} cannot be decoded: {error}") from error


def _checksum(data: bytes, keys: tuple[int | str, ...]) -> int:
    return crc32(repr(keys).encode("utf-8", "backslashreplace"), crc32(data))
