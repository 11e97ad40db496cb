"""JSON text to values and back, exactly: integers of any size, the last of duplicate keys, bytes as text.

msgspec reads, because it keeps integers beyond 64 bits; orjson writes, because it is the faster writer and lets
us decide how bytes appear. What neither writes (integers beyond 64 bits) goes through msgspec.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

_decoder = msgspec.json.Decoder()
_line_encoder = msgspec.json.Encoder()
_big_encoder = msgspec.json.Encoder(enc_hook=lambda value: _plain(value))


class Undefined:
    """What a missing column, field or CASE branch is; `UNDEFINED` is its only instance. JSON shows it as null."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNDEFINED"

    def __bool__(self) -> bool:
        return False


UNDEFINED = Undefined()


def decode(text: bytes | str) -> Any:
    """The value of a JSON text. Raises `ValueError` on anything that is not exactly one JSON value."""
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def encode(value: Any) -> bytes:
    """Compact UTF-8 JSON. Bytes become text where they are UTF-8, else ``{"$base64": …}``; NaN and infinity null.

    Raises `ValueError` for a value that has no JSON form (a lone surrogate, nesting beyond the stack).
    """
    try:
        return orjson.dumps(value, _plain)
    except TypeError:
        try:
            return _big_encoder.encode(_prepared(value))
        except (TypeError, UnicodeEncodeError, RecursionError) as error:
            raise ValueError(f"this value has no JSON form: {error}") from error
        except ValueError as error:  # Python refuses to write more than 4300 digits
            raise ValueError("an integer is too long to be written") from error


def encode_lines(values: Sequence[Any]) -> bytes:
    """JSON lines: each value as `encode` writes it and the end of its line. Raises `ValueError` where `encode` would.

    Many values at once cost a tenth of `encode` for each: orjson finds out whether any of them needs a form of ours,
    and where none does, msgspec writes them all into one buffer.
    """
    special: list[None] = []
    try:
        orjson.dumps(values, lambda _: special.append(None))
    except TypeError:
        special.append(None)
    if special:
        return b"".join([encode(value) + b"\n" for value in values])
    return _line_encoder.encode_lines(values)


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return {"$base64": b64encode(data).decode()}
    if isinstance(value, Undefined):
        return None
    raise TypeError(getattr(value, "kind", type(value).__name__))


def _prepared(value: Any) -> Any:
    """`value` with bytes replaced: msgspec would write them as base64 without asking."""
    if isinstance(value, dict):
        return {str(key): _prepared(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_prepared(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview, Undefined)):
        return _plain(value)
    return value
