"""Conversion of a row's values to the types of PostgreSQL columns. Pure; asyncpg does the encoding.

A `Converter` converts a column of a batch at once: if the driver accepts all values as they are, which is the usual
case, nothing is done for each of them. A value that can't be converted raises `ValueError` with the reason in words.

Timestamps are encoded as microseconds since 2000, the form of the wire (`TUPLE_CODEC_TYPES`), which is three times as
fast as datetime objects. A number is seconds, milliseconds, microseconds or nanoseconds since 1970 by its size: up to
10^11 seconds (the year 5138), then each unit a thousand times more. Text is RFC 3339, or such a number. A time
without a zone is UTC.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from engine.model import jsontext

TUPLE_CODEC_TYPES = ("timestamptz", "timestamp")
"""Types that asyncpg must be told to take in its ``tuple`` format: a tuple of one integer."""

_NONE = type(None)
_PG_EPOCH_US = 946_684_800_000_000
_SECONDS_MAX = 10**11
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INFINITY_US = 2**63 - 1
_NUMERIC_DIGITS_MAX = 131_072
"""Digits of a numeric before its point (PostgreSQL's manual, 8.1.2). The driver would store 0 for a longer one."""
_PLAIN_INTEGER_MAX = 10**1000
"""Integers up to this certainly have fewer digits; larger ones are converted one by one."""
_DIMENSIONS_MAX = 6
_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")

Bulk = Callable[[Sequence[Any], set[type]], Sequence[Any] | None]


@dataclass(frozen=True, slots=True)
class Converter:
    """Conversion to one type. `one` converts and checks a value; values of the types in `passes` need neither."""

    one: Callable[[Any], Any]
    passes: frozenset[type] = frozenset()
    bulk: Bulk | None = None
    """Converts a column of certain types at once, or returns None if it can't."""

    def column(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return `values` converted; the same object if none needs conversion. Raise `ValueError`."""
        kinds = set(map(type, values))
        kinds.discard(_NONE)
        if self.bulk is not None:
            done = self.bulk(values, kinds)
            if done is not None:
                return done
        elif kinds <= self.passes:
            return values
        return [None if value is None else self.one(value) for value in values]


@cache
def converter(type_name: str) -> Converter | None:
    """Return the converter of a type by asyncpg's name for it, ``text[]`` for an array of text.

    None for ``inet``, ``interval`` and types of extensions, which the server converts from text.
    """
    if not type_name.endswith("[]"):
        return _CONVERTERS.get(type_name)
    element = _CONVERTERS.get(type_name[:-2])
    # A tuple inside an array would be taken for an array itself.
    return None if element is None or type_name[:-2] in TUPLE_CODEC_TYPES else _array(element)


@cache
def text_converter(type_name: str) -> Converter:
    """Return a converter to the text form of a type, for types without a converter of their own."""
    if not type_name.endswith("[]"):
        return TEXT
    return _array_text(_time_text if type_name[:-2] in TUPLE_CODEC_TYPES else text_form)


def text_form(value: Any) -> str:
    """Return a value as text: text as it is, structures and booleans as JSON, numbers in their shortest exact form."""
    kind = type(value)
    if kind is str:
        _check_text(value)
        return str(value)
    if kind is bytes:
        try:
            return text_form(value.decode())
        except UnicodeDecodeError:
            raise ValueError(
                "these bytes are not UTF-8 text; use a bytea column, or base64_encode() in the rule"
            ) from None
    if kind is int or kind is float:
        return repr(value)
    return jsontext.encode(value).decode()


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("PostgreSQL stores no text with a zero byte in it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text holds a lone surrogate (half of a UTF-16 pair), which UTF-8 can't encode") from error


def _integer(bits: int) -> Converter:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    accepted = frozenset({int})

    def one(value: Any) -> int:
        number = _whole(value)
        if not low <= number <= high:
            raise ValueError(f"out of range: {bits // 8} bytes hold {low} to {high}")
        return number

    def bulk(values: Sequence[Any], kinds: set[type]) -> Sequence[Any] | None:
        if not kinds <= accepted:
            return None
        present = [value for value in values if value is not None] if None in values else values
        return values if not present or (min(present) >= low and max(present) <= high) else None

    return Converter(one, accepted, bulk)


def _whole(value: Any) -> int:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    raise ValueError("not an integer")


def _float(largest: float) -> Converter:
    def one(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError("not a number") from None
        except OverflowError:
            raise ValueError("out of range") from None
        if math.isfinite(number) and abs(number) > largest:
            raise ValueError("out of range: 4 bytes hold up to 3.4e38")
        return number

    return Converter(one, frozenset({int, float}))


def _numeric_one(value: Any) -> Decimal:
    if isinstance(value, float):
        # By its shortest text, so that 0.1 is stored as 0.1 and not as the binary value next to it.
        value = repr(value)
    try:
        number = Decimal(value) if isinstance(value, (int, str)) else None
    except InvalidOperation:
        number = None
    if number is None:
        raise ValueError("not a number")
    if number.is_infinite():
        raise ValueError("numeric columns hold no infinity")
    if number and number.adjusted() >= _NUMERIC_DIGITS_MAX:
        raise ValueError(f"out of range: there is room for {_NUMERIC_DIGITS_MAX} digits")
    return number


def _numeric_bulk(values: Sequence[Any], kinds: set[type]) -> Sequence[Any] | None:
    if not kinds <= {int}:
        return None
    present = [value for value in values if value is not None] if None in values else values
    is_plain = not present or (min(present) > -_PLAIN_INTEGER_MAX and max(present) < _PLAIN_INTEGER_MAX)
    return values if is_plain else None


_BOOLEANS = {
    "true": True, "t": True, "yes": True, "y": True, "on": True, "1": True,
    "false": False, "f": False, "no": False, "n": False, "off": False, "0": False,
}  # fmt: skip


def _boolean(value: Any) -> bool:
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    raise ValueError("neither true nor false")


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else text_form(value).encode()


def _uuid(value: Any) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise ValueError("not a UUID") from None


def _json(value: Any) -> str:
    """Return JSON text. Text that is a JSON object or array is taken as such, other text becomes a JSON string."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            jsontext.decode(value)
        except ValueError:
            pass
        else:
            return value
    return jsontext.encode(value).decode()


def _microseconds(value: Any) -> int:
    """Microseconds since 1970."""
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            return _parsed(text)
        value = float(text) if "." in text else int(text)
    if type(value) is not int and not (type(value) is float and math.isfinite(value)):
        raise ValueError("not a time: give RFC 3339 text, or seconds or milliseconds since 1970")
    size = abs(value)
    for unit_us in (1_000_000, 1_000, 1):
        if size < _SECONDS_MAX * (1_000_000 // unit_us):
            return round(value * unit_us)
    if size < _SECONDS_MAX * 10**9:
        return int(value) // 1000
    raise ValueError("out of range for a time")


def _parsed(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError("not a time: give RFC 3339 text, or seconds or milliseconds since 1970") from None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


_INFINITIES = ("infinity", "-infinity")


def _timestamp(value: Any) -> tuple[int]:
    if isinstance(value, str) and value.strip().lower() in _INFINITIES:
        return (-_INFINITY_US - 1 if value.strip().startswith("-") else _INFINITY_US,)
    return (_microseconds(value) - _PG_EPOCH_US,)


_MS_MAX = _SECONDS_MAX * 1000
_PG_EPOCH_MS = _PG_EPOCH_US // 1000


def _timestamp_bulk(values: Sequence[Any], kinds: set[type]) -> Sequence[Any] | None:
    """Convert the usual column at once: integers that all are milliseconds."""
    if kinds != {int} or None in values or min(values) < _SECONDS_MAX or max(values) >= _MS_MAX:
        return None
    return [((value - _PG_EPOCH_MS) * 1000,) for value in values]


def _date(value: Any) -> date:
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        try:
            return datetime.fromisoformat(value.strip().upper()).date()
        except ValueError:
            raise ValueError("not a date: give YYYY-MM-DD, RFC 3339, or a time since 1970") from None
    try:
        return (_EPOCH + _microseconds(value) * _MICROSECOND).date()
    except OverflowError:
        raise ValueError("out of range for a date") from None


def _time(value: Any) -> time:
    try:
        moment = time.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("not a time of day like 14:30:00") from None
    return moment.replace(tzinfo=None)


def _array(element: Converter) -> Converter:
    def one(value: Any) -> list[Any]:
        items = _list(value)
        if items is None:
            raise ValueError("not a list")
        _shape(items)
        return converted(items)

    def converted(items: list[Any]) -> list[Any]:
        return [
            None if item is None else converted(item) if isinstance(item, list) else element.one(item) for item in items
        ]

    return Converter(one)


def _shape(items: list[Any], dimension: int = 1) -> tuple[int, ...]:
    """Return the lengths of nested lists by dimension. Raise `ValueError` where they differ within one."""
    if dimension > _DIMENSIONS_MAX:
        raise ValueError(f"an array has at most {_DIMENSIONS_MAX} dimensions")
    inner = {_shape(item, dimension + 1) if isinstance(item, list) else () for item in items}
    if len(inner) > 1:
        raise ValueError("an array has no lists of different lengths, nor lists beside values")
    return (len(items), *(inner.pop() if inner else ()))


def _list(value: Any) -> list[Any] | None:
    """Return a list, given as such or as JSON text; None for any other value."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = jsontext.decode(value)
    return value if isinstance(value, list) else None


def _array_text(element_text: Callable[[Any], str]) -> Converter:
    """Return a converter of lists to the server's text form, ``{"a",NULL}``. Other values are passed on as text."""

    def literal(items: list[Any]) -> str:
        return "{" + ",".join(map(part, items)) + "}"

    def part(item: Any) -> str:
        if item is None:
            return "NULL"
        if isinstance(item, list):
            return literal(item)
        text = element_text(item).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'

    def one(value: Any) -> str:
        items = _list(value)
        if items is None:
            return text_form(value)
        _shape(items)
        return literal(items)

    return Converter(one)


def _time_text(value: Any) -> str:
    """Return a time as text that the server reads with the same result as `_timestamp`."""
    if isinstance(value, str) and value.strip().lower() in _INFINITIES:
        return value
    try:
        return (_EPOCH + _microseconds(value) * _MICROSECOND).isoformat()
    except OverflowError:
        raise ValueError("out of range for a time") from None


TEXT = Converter(text_form, frozenset({str}))
"""For text, and for types that the server converts from text."""

_TIMESTAMP = Converter(_timestamp, bulk=_timestamp_bulk)
_JSON = Converter(_json)

_CONVERTERS: dict[str, Converter] = {
    "text": TEXT, "varchar": TEXT, "bpchar": TEXT, "name": TEXT,
    "int2": _integer(16), "int4": _integer(32), "int8": _integer(64),
    "float4": _float(3.4028235e38), "float8": _float(math.inf),
    "numeric": Converter(_numeric_one, frozenset({int}), _numeric_bulk),
    "bool": Converter(_boolean, frozenset({bool})),
    "bytea": Converter(_bytes, frozenset({bytes})),
    "uuid": Converter(_uuid, frozenset({str})),
    "json": _JSON, "jsonb": _JSON,
    "timestamptz": _TIMESTAMP, "timestamp": _TIMESTAMP,
    "date": Converter(_date), "time": Converter(_time),
}  # fmt: skip
