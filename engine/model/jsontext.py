"""JSON encoding and decoding without loss: integers of any size, bytes as text, `UNDEFINED` as null.

msgspec decodes, because it keeps integers beyond 64 bits and takes the last of duplicate keys. orjson encodes, because
it is the faster encoder and asks a hook how bytes are written. Values that orjson refuses (integers beyond 64 bits,
more than 254 levels) are encoded by msgspec.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

_decoder = msgspec.json.Decoder()
_line_encoder = msgspec.json.Encoder()
_slow_encoder = msgspec.json.Encoder(enc_hook=lambda value: _plain(value))
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class Undefined:
    """Type of `UNDEFINED`, the value of a missing column, field or CASE branch. JSON has it as null."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNDEFINED"

    def __bool__(self) -> bool:
        return False


UNDEFINED = Undefined()
"""The only instance: tests are by identity."""


def decode(text: bytes | str) -> Any:
    """Return the value of a JSON text. Raise `ValueError` unless `text` is exactly one JSON value."""
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise ValueError(_decode_reason(text, error)) from error


def encode(value: Any) -> bytes:
    """Return `value` as compact UTF-8 JSON.

    Bytes become text where they are UTF-8, else ``{"$base64": …}``; NaN and infinity become null. Raise `ValueError`
    for a value without a JSON form: half of a surrogate pair, a key that is not text, nesting beyond the stack, an
    integer of more digits than Python writes.
    """
    try:
        return orjson.dumps(value, _plain)
    except TypeError:
        return _encode_slowly(value)


def encode_lines(values: Sequence[Any]) -> bytes:
    """Return JSON lines: each value as `encode` returns it, and a line feed. Raise `ValueError` where `encode` does.

    Many values at once cost a tenth of as many calls of `encode`. orjson's result is thrown away: its hook only finds
    out whether a value needs a form of ours. If no value does, msgspec writes all of them into one buffer.
    """
    special: list[None] = []
    try:
        orjson.dumps(values, lambda _: special.append(None))
    except TypeError:
        special.append(None)
    if special:
        return b"".join([encode(value) + b"\n" for value in values])
    return _line_encoder.encode_lines(values)


def _encode_slowly(value: Any) -> bytes:
    try:
        return _slow_encoder.encode(_prepared(value))
    except MemoryError:
        raise
    except Exception as error:  # objects of foreign types run code of their own while they are encoded
        raise ValueError(f"this value has no JSON form: {_encode_reason(error)}") from error


def _plain(value: Any) -> Any:
    """Return the replacement of a value that JSON lacks. Raise `TypeError` with the kind of any other value."""
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
    """Return `value` with bytes replaced, because msgspec writes bytes as base64 without asking its hook."""
    if isinstance(value, dict):
        return {_prepared_key(key): _prepared(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_prepared(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview, Undefined)):
        return _plain(value)
    return value


def _prepared_key(key: Any) -> str:
    if isinstance(key, str):
        return key
    raise TypeError(f"expected text as the key of a map, found {type(key).__name__}")


def _encode_reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        return "a text holds half of a surrogate pair"
    if type(error) is ValueError:  # Python's limit of 4,300 digits: writing more takes quadratic time
        return "an integer has too many digits to be written"
    return str(error) if type(error) is TypeError else type(error).__name__


def _decode_reason(text: bytes | str, error: Exception) -> str:
    """Return the reason why `text` is not JSON, in terms of JSON rather than of the library."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        return "the text holds half of a surrogate pair"
    if not text.strip():
        return "expected a value, found an empty text"
    reason = str(error)
    # msgspec says "Input data was truncated" of half a surrogate pair, too.
    if "truncated" in reason and _SURROGATE_ESCAPE.search(text if isinstance(text, str) else text.decode("latin-1")):
        return "the text ends too early, or an escape is half of a surrogate pair"
    return reason
