"""Conversion between kinds: text, numbers, booleans, maps."""

from __future__ import annotations

import math
from typing import Any

from engine.errors import EvaluationError
from engine.language.functions.argument import MISSING, mapping, number, refuse
from engine.language.functions.registry import function
from engine.model.value import fixed, from_bytes, number_of, to_text

_DECIMALS_MAX = 253


@function(("str(1.50)", "1.5"), ("str(3.14159265359)", "3.1415926536"), ("str(json_decode('{\"a\":1}'))", '{"a":1}'))
def str_(value: Any) -> str | bytes:
    """The value as text: numbers with at most ten decimals, lists and maps as JSON, undefined as `undefined`."""
    return value if type(value) is str else to_text(value)


@function(("str_utf8(1)", "1"))
def str_utf8(value: Any) -> str:
    """The value as text; bytes that are no UTF-8 become replacement characters."""
    rendered = to_text(value)
    return rendered if isinstance(rendered, str) else rendered.decode(errors="replace")


@function(("bin2hexstr(str_utf16_le('ab'))", "61006200"))
def str_utf16_le(value: Any) -> str | bytes:
    """The bytes of the value's text in UTF-16, lowest byte first, as SQL Server stores it."""
    try:
        return from_bytes(str_utf8(value).encode("utf-16-le"))
    except UnicodeEncodeError as error:
        raise EvaluationError(f"str_utf16_le: {error.reason}") from error


@function(("bool('true')", True), ("bool(0)", False))
def bool_(value: Any) -> bool:
    """A boolean of a boolean, of 'true' or 'false', or of 1 or 0."""
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
    """The integer that is not greater: of a number, of the text of one, or of a boolean (1 or 0)."""
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
    refuse("int", 1, "a number or the text of one", value)


@function(("float('3')", 3.0), ("float('3.1415926', 3)", 3.142))
def float_(value: Any, decimals: Any = MISSING) -> float:
    """A number, or the text of one, as a float; rounded where `decimals` (1 to 253) is given."""
    kind = type(value)
    parsed = number_of(value) if kind is str else value if kind is float or kind is int else None
    if parsed is None:
        refuse("float", 1, "a number or the text of one", value)
    try:
        result = float(parsed)
    except OverflowError as error:
        raise EvaluationError("float: the integer is too large") from error
    if decimals is MISSING:
        return result
    return float(fixed(result, _decimals("float", decimals, 1)))


@function(("float2str(0.1, 20)", "0.10000000000000000555"), ("float2str(1.50, 4)", "1.5"), ("float2str(1.0, 0)", "1"))
def float2str(value: float, decimals: int) -> str:
    """The number in fixed notation with at most `decimals` (0 to 253) digits after the point, zeros cut."""
    places = _decimals("float2str", decimals, 0)
    try:
        written = fixed(float(number("float2str", 1, value)), places)
    except OverflowError as error:
        raise EvaluationError("float2str: the integer is too large") from error
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
    """A map of a map, of the JSON text of one, or of a list of [key, value] pairs."""
    return mapping("map", 1, value)
