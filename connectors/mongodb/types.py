"""Conversion of a row's values to types of BSON that JSON does not have. A value that does not fit raises `ValueError`.

A number is seconds, milliseconds, microseconds or nanoseconds since 1970 by its size: up to 10^11 seconds (the year
5138), then each unit a thousand times more. Text is RFC 3339, `ISODate("…")` around it, or such a number; a time
without a zone is UTC. BSON dates have milliseconds: what is finer is cut off.
"""

from __future__ import annotations

import binascii
import math
import re
import uuid
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException
from typing import Any, Literal

from bson import Binary, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import create_decimal128_context
from bson.errors import InvalidId

TypeName = Literal["date", "decimal", "object_id", "binary", "uuid", "long", "double"]

_INT64 = range(-(2**63), 2**63)
_SECONDS_MAX = 10**11
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?")
_ISO_DATE = re.compile(r"""ISODate\(["']?([^"']*)["']?\)""")
_DECIMAL_DIGITS_MAX = 34
_DECIMAL_CHARACTERS_MAX = 7000
"""Longest text of a decimal: its exponent goes to 6,144. Python takes quadratic time for longer numbers."""
_DECIMAL_CONTEXT = create_decimal128_context()


def date(value: Any) -> DatetimeMS:
    """Return a date."""
    kind = type(value)
    if kind is str:
        match = _ISO_DATE.fullmatch(value.strip())
        text = match[1] if match else value.strip()
        if _NUMBER.fullmatch(text):
            return _from_number(Decimal(text))
        return _from_text(text)
    if kind is int or (kind is float and math.isfinite(value)):
        return _from_number(value)
    raise ValueError("expected a time in RFC 3339, or a number since 1970")


def _from_text(text: str) -> DatetimeMS:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("expected a time in RFC 3339, or a number since 1970") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return DatetimeMS((moment - _EPOCH) // _MILLISECOND)


def _from_number(value: int | float | Decimal) -> DatetimeMS:
    number = Decimal(value)
    size = abs(number)
    if size < _SECONDS_MAX:
        return DatetimeMS(math.floor(number * 1000))
    for unit in (1, 1000, 1_000_000):
        if size < _SECONDS_MAX * 1000 * unit:
            return DatetimeMS(math.floor(number / unit))
    raise ValueError("expected a time since 1970 in seconds to nanoseconds, found a larger number")


def decimal(value: Any) -> Decimal128:
    """Return a decimal of at most 34 digits, never rounded."""
    if type(value) not in (int, float, str):
        raise ValueError("expected a number, or text with one")
    if type(value) is int and abs(value) >= 10**_DECIMAL_DIGITS_MAX:
        number = _reduced(value)
    else:
        text = repr(value) if type(value) is not str else value.strip()
        if len(text) > _DECIMAL_CHARACTERS_MAX:
            raise ValueError(f"expected a number of at most {_DECIMAL_DIGITS_MAX} digits")
        try:
            number = Decimal(text)
        except DecimalException:
            raise ValueError("expected a number, or text with one") from None
    try:
        # The context traps inexact results, so that nothing is rounded in silence.
        found = _DECIMAL_CONTEXT.create_decimal(number)
    except DecimalException:
        raise ValueError(f"expected a number of at most {_DECIMAL_DIGITS_MAX} digits") from None
    if number.is_finite() and found != number:
        raise ValueError(f"expected a number of at most {_DECIMAL_DIGITS_MAX} digits")
    return Decimal128(found)


def _reduced(value: int) -> Decimal:
    """Return a large integer as a decimal; its last digits may be zeros, which need no place."""
    if value.bit_length() > 20_500:  # 10^6144 has 20,410 bits
        raise ValueError(f"expected an integer of at most {_DECIMAL_DIGITS_MAX} digits")
    return Decimal(value)


def object_id(value: Any) -> ObjectId:
    """Return an object id, from its 24 hexadecimal digits."""
    try:
        return ObjectId(value) if type(value) is str else ObjectId(bytes(value) if type(value) is bytes else "")
    except InvalidId:
        raise ValueError("expected an object id of 24 hexadecimal digits") from None


def binary(value: Any) -> bytes:
    """Return bytes as they are, or from base64."""
    if type(value) is bytes:
        return value
    if type(value) is str:
        try:
            return b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise ValueError("expected bytes, or base64")


def as_uuid(value: Any) -> Binary:
    """Return a UUID (binary of subtype 4), from its text."""
    try:
        return Binary.from_uuid(uuid.UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise ValueError("expected a UUID") from None


def long(value: Any) -> Int64:
    """Return a 64-bit integer, from an integer, digits, or a float without a fraction."""
    if type(value) is str and _NUMBER.fullmatch(value.strip()):
        value = Decimal(value.strip())
    if type(value) in (int, float, Decimal) and math.isfinite(value) and value == int(value) and int(value) in _INT64:
        return Int64(int(value))
    raise ValueError("expected an integer of 64 bits")


def double(value: Any) -> float:
    """Return a float, from a number or text with one."""
    if type(value) in (int, float) or (type(value) is str and _NUMBER.fullmatch(value.strip())):
        return float(value)
    raise ValueError("expected a number")


CONVERSIONS: Mapping[TypeName, Callable[[Any], Any]] = {
    "date": date, "decimal": decimal, "object_id": object_id, "binary": binary, "uuid": as_uuid, "long": long,
    "double": double,
}  # fmt: skip
