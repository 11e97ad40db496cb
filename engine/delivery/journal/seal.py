"""What is kept of sinks and rules as text that proves itself: JSON, a space, and eight digits of its checksum.

A position or a counter of which one bit has changed is still a number; believed, it would skip records that wait. The
checksum covers what the row is about as well. In format 1 the JSON stood alone.
"""

from __future__ import annotations

from typing import Any, TypeVar
from zlib import crc32

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

_encode = msgspec.json.Encoder().encode


def seal(value: msgspec.Struct, *about: int | str) -> str:
    """`value` as it is stored in the row that is `about` this."""
    data = _encode(value)
    return f"{data.decode()} {_checksum(data, about):08x}"


def unseal(text: Any, kind: type[S], *about: int | str) -> S:
    """The value that was sealed. Raises `ValueError` where `text` is not what was stored for this row."""
    if not isinstance(text, str):
        raise ValueError("there is no text where a state should be")
    data, _, digits = text.rpartition(" ")
    if text.endswith("}"):
        data = text
    elif digits != f"{_checksum(data.encode(), about):08x}":
        raise ValueError(f"the checksum of what is kept of {about[-1]!r} does not hold")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"what is kept of {about[-1]!r} can't be read: {error}") from error


def _checksum(data: bytes, about: tuple[int | str, ...]) -> int:
    return crc32(repr(about).encode("utf-8", "backslashreplace"), crc32(data))
