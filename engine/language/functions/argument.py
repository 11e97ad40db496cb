"""Checks and conversions of function arguments, with one form of error (expected, found).

Text functions accept numbers and booleans as their text, functions of binary data do not. Null and undefined are never
converted.
"""

from __future__ import annotations

from typing import Any, NoReturn

from engine.errors import EvaluationError
from engine.model.jsontext import UNDEFINED, Undefined, decode
from engine.model.value import Bits, as_binary, kind_of, to_text

Text = str | bytes
"""Text, or binary data that is not UTF-8."""

MISSING: Any = Undefined()
"""Default of an optional argument, tested by identity: not `UNDEFINED`, which may be given as an argument."""


def refuse(name: str, position: int, wanted: str, value: Any) -> NoReturn:
    """Raise `EvaluationError`: argument `position` of function `name` is not of the wanted kind."""
    raise EvaluationError(f"{name}: argument {position}: expected {wanted}, found {shown(value)}")


def shown(value: Any) -> str:
    """Return a value for an error message: itself where it is short, else its kind."""
    if isinstance(value, str) and len(value) <= 40:
        return f"{value!r}"
    return f"{value}" if type(value) is int and abs(value) < 10**12 else kind_of(value)


def text(name: str, position: int, value: Any) -> str:
    """Return the characters of a text, number or boolean."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is bool or kind is int or kind is float:
        return to_text(value)  # type: ignore[return-value]
    if kind is bytes:
        raise EvaluationError(f"{name}: argument {position}: expected text, found bytes that are not UTF-8")
    refuse(name, position, "text", value)


def octets(name: str, position: int, value: Any) -> bytes:
    """Return the bytes of a text, binary data, number or boolean."""
    return value if type(value) is bytes else as_binary(text(name, position, value))


def binary(name: str, position: int, value: Any) -> bytes:
    """Return the bytes of a text or binary data. A number is refused: its bytes are not defined."""
    if type(value) is bytes:
        return value
    if type(value) is str:
        return as_binary(value)
    refuse(name, position, "text or binary data", value)


def alike(name: str, *values: Any) -> list[Any]:
    """Return the arguments as text, or all of them as bytes where one is binary data.

    Text and bytes have the same methods, so that one algorithm serves both.
    """
    if bytes in map(type, values):
        return [octets(name, position, value) for position, value in enumerate(values, 1)]
    return [text(name, position, value) for position, value in enumerate(values, 1)]


def bits(name: str, position: int, value: Any) -> Bits:
    """Return text, binary data or a bit string as bits."""
    if isinstance(value, Bits):
        return value
    data = binary(name, position, value)
    return Bits(int.from_bytes(data, "big"), len(data) * 8)


def number(name: str, position: int, value: Any) -> int | float:
    """Return an integer or a float."""
    kind = type(value)
    if kind is int or kind is float:
        return value  # type: ignore[no-any-return]
    refuse(name, position, "a number", value)


def integer(name: str, position: int, value: Any) -> int:
    """Return an integer."""
    if type(value) is int:
        return value
    refuse(name, position, "an integer", value)


def count(name: str, position: int, value: Any) -> int:
    """Return an integer of 0 or more."""
    if type(value) is int and value >= 0:
        return value
    refuse(name, position, "an integer of 0 or more", value)


def items(name: str, position: int, value: Any) -> list[Any]:
    """Return a list."""
    if type(value) is list:
        return value
    refuse(name, position, "a list", value)


def mapping(name: str, position: int, value: Any) -> dict[str, Any]:
    """Return the map of a map, of JSON text of a map, or of a list of [key, value] pairs.

    An empty list is an empty map.
    """
    found = opened(value)
    if found is not UNDEFINED:
        return found  # type: ignore[no-any-return]
    if type(value) is list and all(type(pair) is list and len(pair) == 2 for pair in value):
        return {text(name, position, key): item for key, item in value}
    refuse(name, position, "a map, JSON text of a map, or a list of [key, value] pairs", value)


def opened(value: Any) -> Any:
    """Return the map that `value` is, or is JSON text of, else `UNDEFINED`."""
    if type(value) is str:
        try:
            value = decode(value)
        except ValueError:
            return UNDEFINED
    return value if type(value) is dict else UNDEFINED


def word(name: str, position: int, value: Any, allowed: tuple[str, ...]) -> str:
    """Return one of a few words."""
    if type(value) is str and value in allowed:
        return value
    refuse(name, position, "one of " + ", ".join(f"'{choice}'" for choice in allowed), value)
