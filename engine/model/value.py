"""The value model of the rule language: kinds, text form, identity, equality, binary data and bit strings.

A value is `UNDEFINED`, None (JSON null), bool, int, float, str, bytes, `Bits`, list or dict. Binary data that is valid
UTF-8 is always held as text: `from_bytes` converts, so that equal data always compare equal.

Kinds are tested with ``type(value) is``, not `isinstance`: to the latter a bool is an int.
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
"""Bound of a text or binary that a function makes out of less. As much as the default of ``mqtt.max_packet_size``: a
rule needs no value larger than a device may send."""

_KINDS = {
    type(None): "null", bool: "a boolean", int: "an integer", float: "a float", str: "text", bytes: "binary data",
    list: "a list", dict: "a map", Undefined: "undefined",
}  # fmt: skip


_POWERS = [float(10**decimals) for decimals in range(19)]
_WHOLE_FLOATS_MIN = 2.0**53
"""From here on a float has no fraction: its mantissa has 53 bits."""


class Bits:
    """A bit string whose length is not a multiple of eight. ``value`` holds the bits, the first one highest."""

    __slots__ = ("length", "value")
    kind = "a bit string whose length is not a multiple of eight"

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
    """Return the kind of `value` in words, with its article, for error messages."""
    return _KINDS.get(type(value)) or ("a bit string" if isinstance(value, Bits) else type(value).__name__)


def to_text(value: Any) -> str | bytes:
    """Return the text of `value` as ``str``, ``concat`` and placeholders have it; text and binary data unchanged.

    Raise `EvaluationError` for a value without a text: a bit string, an integer of too many digits.
    """
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
    """Return fixed notation with one to ten decimals: ``1.0``, ``3.1415926536``, ``0.0`` for 1e-12."""
    text = repr(value)
    if len(text) <= 12 and -1e5 < value < 1e5 and "e" not in text:
        return text  # at most ten decimals already: further ones would be zeros
    text = fixed(value, 10).rstrip("0")
    return text + "0" if text[-1] == "." else text


def fixed(value: float, decimals: int) -> str:
    """Return `value` with that many decimals, halves rounded away from zero.

    As in Erlang, the half is tested on the scaled float: 0.285 may be rounded up to two decimals, though its exact
    value is slightly less.
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
    except ValueError as error:  # Python's limit of 4,300 digits: writing more takes quadratic time
        raise EvaluationError(
            f"expected an integer that can be written, found one of {value.bit_length()} bits"
        ) from error


def to_json(value: Any) -> str:
    """Return `value` as JSON text. Raise `EvaluationError` for a value without a JSON form."""
    try:
        return encode(value).decode()
    except ValueError as error:
        raise EvaluationError(str(error)) from error


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raise `EvaluationError` where `text` is not one JSON value."""
    try:
        return decode(text)
    except ValueError as error:
        raise EvaluationError(f"expected one JSON value: {error}") from error


def from_bytes(data: bytes) -> str | bytes:
    """Return binary data as a value: text where it is UTF-8, else the bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def as_binary(value: str | bytes) -> bytes:
    """Return the bytes of text or binary data. Raise `EvaluationError` for text with half of a surrogate pair."""
    if type(value) is bytes:
        return value
    try:
        return value.encode()  # type: ignore[union-attr]
    except UnicodeEncodeError as error:
        raise EvaluationError("expected Unicode text, found half of a surrogate pair") from error


def bounded(size: int, name: str) -> None:
    """Raise `EvaluationError` where a result of `size` bytes or characters is too large for function `name`."""
    if size > TEXT_BYTES_MAX:
        raise EvaluationError(f"{name}: expected a result of at most {TEXT_BYTES_MAX} bytes, found {size}")


def same(left: Any, right: Any) -> bool:
    """Return whether two values are equal and of one kind at any depth, as ``IN``, ``CASE x`` and ``contains`` ask.

    The test of kinds comes first, because Python takes 1, 1.0 and True for equal.
    """
    kind = type(left)
    if kind is not type(right):
        return False
    if kind is list:
        return len(left) == len(right) and all(map(same, left, right))
    if kind is dict:
        return len(left) == len(right) and all(k in right and same(item, right[k]) for k, item in left.items())
    return bool(left == right)


def equal(left: Any, right: Any) -> bool:
    """Return whether two values are equal, as ``=`` asks: 1 and 1.0 are, at any depth; nothing else is converted."""
    kind, other = type(left), type(right)
    if kind is other:
        if kind is list:
            return len(left) == len(right) and all(map(equal, left, right))
        if kind is dict:
            return len(left) == len(right) and all(k in right and equal(item, right[k]) for k, item in left.items())
        return bool(left == right)
    return (kind is int or kind is float) and (other is int or other is float) and left == right


def number_of(text: str) -> int | float | None:
    """Return the number that `text` has as decimal text, or None.

    Spaces around it, a sign and an exponent are allowed; ``nan`` and ``inf`` are not numbers.
    """
    if "_" in text or not text.isascii():  # Python takes 1_000 and the digits of other scripts
        return None
    try:
        if "." not in text and "e" not in text and "E" not in text:
            return int(text)
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None
