"""Conversion between kinds: text, numbers, booleans, maps."""

from __future__ import annotations

import math
from typing import Any

from engine.errors import EvaluationError
from engine.language.functions.argument import MISSING, mapping, number, refuse
from engine.language.functions.registry import function
from engine.model.value import fixed, from_bytes, number_of, to_text

_DECIMALS_MAX = 253
"""Bound of decimals in EMQX: that of Erlang's ``float_to_binary``."""


@function(("str(1.50)", "1.5"), ("str(3.14159265359)", "3.1415926536"), ("str(json_decode('{\"a\":1}'))", '{"a":1}'))
def str_(value: Any) -> str | bytes:
    """Return the value as text.

    Floats have one to ten decimals, lists and maps are written as JSON, null and undefined as `null` and `undefined`.
    Text and binary data are returned unchanged. Fails for a bit string.
    """
    return value if type(value) is str else to_text(value)


@function(("str_utf8(1)", "1"))
def str_utf8(value: Any) -> str:
    """Return the value as text, as `str` does, with bytes that are not UTF-8 replaced by U+FFFD."""
    rendered = to_text(value)
    return rendered if isinstance(rendered, str) else rendered.decode(errors="replace")


@function(("bin2hexstr(str_utf16_le('ab'))", "61006200"))
def str_utf16_le(value: Any) -> str | bytes:
    """Return the text of the value in UTF-16 little-endian, the encoding of NVARCHAR in SQL Server."""
    try:
        return from_bytes(str_utf8(value).encode("utf-16-le"))
    except UnicodeEncodeError as error:
        raise EvaluationError("str_utf16_le: expected Unicode text, found half of a surrogate pair") from error


@function(("bool('true')", True), ("bool(0)", False))
def bool_(value: Any) -> bool:
    """Return the boolean of a boolean, of 'true' or 'false', or of 1 or 0.

    Fails for any other value.
    """
    if type(value) is bool:
        return value
    if type(value) is int or type(value) is float:
        if value == 1 or value == 0:
            return value == 1
    elif value == "true" or value == "false":
        return bool(value == "true")
    refuse("bool", 1, "true, false, 1 or 0", value)


@function(("int('-12.9')", -13), ("int(3.7)", 3), ("int(' 1e3 ')", 1000), ("int(true)", 1))
def int_(value: Any) -> int:
    """Return the largest integer not above the value: a number, text of a number, or a boolean (1 or 0).

    Fails for any other value.
    """
    kind = type(value)
    if kind is int:
        return value  # type: ignore[no-any-return]
    if kind is str:
        parsed = number_of(value)
        if parsed is not None:
            return math.floor(parsed)
    elif kind is float:
        return math.floor(value)  # type: ignore[no-any-return]
    elif kind is bool:
        return 1 if value else 0
    refuse("int", 1, "a number, text of a number, or a boolean", value)


@function(("float('3')", 3.0), ("float('3.1415926', 3)", 3.142))
def float_(value: Any, decimals: Any = MISSING) -> float:
    """Return a number, or text of a number, as a float, rounded to `decimals` (1 to 253) where given.

    Fails for any other value, and for an integer beyond the range of floats.
    """
    kind = type(value)
    parsed = number_of(value) if kind is str else value if kind is float or kind is int else None
    if parsed is None:
        refuse("float", 1, "a number or text of a number", value)
    try:
        result = float(parsed)
    except OverflowError as error:
        raise EvaluationError(
            "float: argument 1: expected a number in the range of floats, found a larger integer"
        ) from error
    if decimals is MISSING:
        return result
    return float(fixed(result, _decimals("float", decimals, 1)))


@function(("float2str(0.1, 20)", "0.10000000000000000555"), ("float2str(1.50, 4)", "1.5"), ("float2str(1.0, 0)", "1"))
def float2str(value: float, decimals: int) -> str:
    """Return the number in fixed notation with at most `decimals` (0 to 253) digits after the point.

    Trailing zeros are removed, but for the first digit after the point.
    """
    places = _decimals("float2str", decimals, 0)
    try:
        written = fixed(float(number("float2str", 1, value)), places)
    except OverflowError as error:
        raise EvaluationError(
            "float2str: argument 1: expected a number in the range of floats, found a larger integer"
        ) from error
    if not places:
        return written
    written = written.rstrip("0")
    return written + "0" if written[-1] == "." else written


def _decimals(name: str, value: Any, least: int) -> int:
    if type(value) is int and least <= value <= _DECIMALS_MAX:
        return value
    refuse(name, 2, f"an integer from {least} to {_DECIMALS_MAX}", value)


@function(("map('{\"a\":1}')", {"a": 1}), ("map([])", {}))
def map_(value: Any) -> dict[str, Any]:
    """Return the map of a map, of JSON text of a map, or of a list of [key, value] pairs.

    Fails for any other value.
    """
    return mapping("map", 1, value)
