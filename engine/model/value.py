"""What functions, templates and statements share about values: kinds, text form, identity, bytes and bit strings.

A value is `UNDEFINED`, None (JSON null), bool, int, float, str, bytes, `Bits`, list or dict. Binary data that happens
to be UTF-8 *is* text: `from_bytes` makes the one form from the other, so that equal data always compare equal.
"""

from __future__ import annotations

from math import copysign, isfinite
from typing import Any

from engine.errors import EvaluationError
from engine.model.jsontext import UNDEFINED, Undefined, decode, encode

__all__ = [
    "TEXT_BYTES_MAX", "UNDEFINED", "Bits", "Undefined", "as_binary", "bounded", "equal", "fixed", "float_text",
    "from_bytes", "kind_of", "number_of", "parse_json", "same", "to_json", "to_text",
]  # fmt: skip

TEXT_BYTES_MAX = 1 << 20
"""The longest text or binary that a function may make out of less; more is an error of the rule, not of the memory."""

_KINDS = {
    type(None): "null", bool: "a boolean", int: "an integer", float: "a float", str: "text", bytes: "binary data",
    list: "a list", dict: "a map", Undefined: "undefined",
}  # fmt: skip


_POWERS = [float(10**decimals) for decimals in range(19)]
_WHOLE_FLOATS_MIN = 2.0**53
"""From here on a float has no fraction."""


class Bits:
    """A bit string whose length is no multiple of eight: ``value`` holds the bits, the first one highest."""

    __slots__ = ("length", "value")
    kind = "a bit string whose length is no multiple of eight"

    def __init__(self, value: int, length: int) -> None:
        self.value = value
        self.length = length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bits) and (self.value, self.length) == (other.value, other.length)

    def __hash__(self) -> int:
        return hash((self.value, self.length))

    def __repr__(self) -> str:
        return f"Bits({self.value:#0{self.length + 2}b})"


def kind_of(value: Any) -> str:
    """The kind of `value` in words, with its article, for error messages."""
    return _KINDS.get(type(value)) or ("a bit string" if isinstance(value, Bits) else type(value).__name__)


def to_text(value: Any) -> str | bytes:
    """`value` as ``str``, ``concat`` and placeholders show it. Text and binary data are themselves."""
    kind = type(value)
    if kind is str or kind is bytes:
        return value  # type: ignore[no-any-return]
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return _digits(value)
    if kind is float:
        return float_text(value)
    if value is None:
        return "null"
    if value is UNDEFINED:
        return "undefined"
    return to_json(value)


def float_text(value: float) -> str:
    """Fixed notation with at most ten decimals and at least one: ``1.0``, ``3.1415926536``, ``0.0`` for 1e-12."""
    text = repr(value)
    if len(text) <= 12 and -1e5 < value < 1e5 and "e" not in text:
        return text  # its few digits are exact, so that ten decimals would add but zeros
    text = fixed(value, 10).rstrip("0")
    return text + "0" if text[-1] == "." else text


def fixed(value: float, decimals: int) -> str:
    """`value` with that many decimals, halves away from zero.

    A half is what looks like one to a float, as in Erlang: 0.285 to two decimals may go up though it is slightly less.
    """
    size = abs(value)
    if decimals > 18 or not size < _WHOLE_FLOATS_MIN:
        return f"{value:.{decimals}f}"
    whole, power = int(size), _POWERS[decimals]
    scaled = (size - whole) * power
    digits = int(scaled)
    if scaled - digits >= 0.5:
        digits += 1
        if digits == power:
            whole, digits = whole + 1, 0
    sign = "-" if copysign(1, value) < 0 else ""
    return f"{sign}{whole}.{str(digits).zfill(decimals)}" if decimals else f"{sign}{whole}"


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError as error:  # Python refuses to write more than 4300 digits: that takes quadratic time
        raise EvaluationError("an integer is too long to be written") from error


def to_json(value: Any) -> str:
    """`value` as JSON text. Raises `EvaluationError` where it has none."""
    try:
        return encode(value).decode()
    except ValueError as error:
        raise EvaluationError(str(error)) from error


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises `EvaluationError` when it is none."""
    try:
        return decode(text)
    except ValueError as error:
        raise EvaluationError(f"not JSON: {error}") from error


def from_bytes(data: bytes) -> str | bytes:
    """Binary data as a value: text where it is UTF-8, else the bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def as_binary(value: str | bytes) -> bytes:
    """The bytes of text or binary data. Raises `EvaluationError` for text that has none (a lone surrogate)."""
    if type(value) is bytes:
        return value
    try:
        return value.encode()  # type: ignore[union-attr]
    except UnicodeEncodeError as error:
        raise EvaluationError(f"the text is not valid Unicode: {error.reason}") from error


def bounded(size: int, name: str) -> None:
    """Refuse to let function `name` make a result of `size` bytes or characters where that is too much."""
    if size > TEXT_BYTES_MAX:
        raise EvaluationError(f"{name}: the result would be longer than {TEXT_BYTES_MAX} bytes")


def same(left: Any, right: Any) -> bool:
    """Identity as ``IN``, ``CASE x`` and ``contains`` mean it: equal and of the same kind, all the way down."""
    kind = type(left)
    if kind is not type(right):
        return False
    if kind is list:
        return len(left) == len(right) and all(map(same, left, right))
    if kind is dict:
        return len(left) == len(right) and all(k in right and same(item, right[k]) for k, item in left.items())
    return bool(left == right)


def equal(left: Any, right: Any) -> bool:
    """Equality of values where 1 and 1.0 are the same number, at any depth, and nothing else is converted."""
    kind, other = type(left), type(right)
    if kind is other:
        if kind is list:
            return len(left) == len(right) and all(map(equal, left, right))
        if kind is dict:
            return len(left) == len(right) and all(k in right and equal(item, right[k]) for k, item in left.items())
        return bool(left == right)
    return (kind is int or kind is float) and (other is int or other is float) and left == right


def number_of(text: str) -> int | float | None:
    """The number that a text is, or None. Spaces around it, a sign and an exponent are fine; ``nan`` is no number."""
    if "_" in text or not text.isascii():
        return None
    try:
        if "." not in text and "e" not in text and "E" not in text:
            return int(text)
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None
