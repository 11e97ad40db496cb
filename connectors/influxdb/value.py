"""Text of the elements of a line: keys, tag values, field values and timestamps, escaped as line protocol asks for.

A measurement, tag or key has no form for line breaks and tabs: they become ``\\n``, ``\\r`` and ``\\t``, as in the
client libraries of InfluxDB. A text field keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Literal

from connectors._shared.isolation import shown
from engine.errors import EvaluationError, RejectError
from engine.model.value import kind_of, to_text

Precision = Literal["ns", "us", "ms", "s"]

UNITS_NS: dict[str, int] = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
"""Nanoseconds of a unit of each precision."""

TIME_NS_MIN, TIME_NS_MAX = -9223372036854775806, 9223372036854775806
"""The times that InfluxDB can store (models/time.go): 64 bits, less some values with a meaning of their own."""

INT64_MIN, INT64_MAX, UINT64_MAX = -(2**63), 2**63 - 1, 2**64 - 1
EXACT_FLOAT_MAX = 2**53
"""Up to here a float holds every integer."""

_SPECIAL = re.compile(r"[,= \n\r\t]")
_SPECIAL_MEASUREMENT = re.compile(r"[, \n\r\t]")
_ESCAPES = {",": "\\,", "=": "\\=", " ": "\\ ", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INTEGER = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?\s?(Z|z|[+-]\d\d:?\d\d)", re.ASCII
)  # RFC 3339, 5.6; digits beyond nanoseconds are cut


def escaped(text: str, part: str) -> str:
    """Return the text of a tag value or a key; `part` names it in the reason of a rejection."""
    if text.isalnum():  # most are: three times as fast as the search
        return text
    if text.endswith("\\"):
        raise RejectError(f"{part} ends with a backslash, which line protocol has no form for", code="backslash")
    return _SPECIAL.sub(_escape, text)


def escaped_measurement(text: str) -> str:
    """Return the text of a measurement, in which an equals sign has no meaning."""
    if not text:
        raise RejectError("the measurement is empty", code="measurement")
    if text.isalnum():
        return text
    if text.endswith("\\"):
        raise RejectError(
            "the measurement ends with a backslash, which line protocol has no form for", code="backslash"
        )
    if text.startswith("#"):
        raise RejectError("the measurement begins with #, which begins a comment in line protocol", code="measurement")
    return _SPECIAL_MEASUREMENT.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return _ESCAPES[match[0]]


def text_of(value: Any, part: str) -> str:
    """Return the text of a value; maps and lists as JSON. Bytes must be UTF-8."""
    if type(value) is str:
        return value
    try:
        text = to_text(value)
        return text if type(text) is str else text.decode()  # type: ignore[union-attr]
    except UnicodeDecodeError:
        raise RejectError(
            f"{part} is binary data that is not UTF-8; encode it in the rule, as with base64_encode()", code="binary"
        ) from None
    except EvaluationError as error:
        raise RejectError(f"{part}: {error.message}", code="value") from error


def string_field(value: Any, part: str) -> str:
    """Return a text field, in quotes."""
    text = text_of(value, part)
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if '"' in text:
        text = text.replace('"', '\\"')
    return f'"{text}"'


def float_field(value: float, part: str) -> str:
    """Return a float field of a float or an integer that a float holds exactly."""
    if type(value) is float:
        if not isfinite(value):
            raise RejectError(f"{part} is {value}, which InfluxDB can't store", code="not_finite")
        return repr(value)
    if type(value) is int and not -EXACT_FLOAT_MAX <= value <= EXACT_FLOAT_MAX and not _is_exact(value):
        raise RejectError(
            f"{part} is {shown(value)}, which a float can't hold exactly; write it as an integer, with the suffix i",
            code="inexact",
        )
    return str(value)


def _is_exact(value: int) -> bool:
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def integer_field(value: Any, part: str) -> str:
    """Return an integer field of an integer, a whole float or the text of an integer."""
    return f"{_integer(value, part, INT64_MIN, INT64_MAX, 'a signed integer of 64 bits')}i"


def unsigned_field(value: Any, part: str) -> str:
    """Return an unsigned integer field."""
    return f"{_integer(value, part, 0, UINT64_MAX, 'an unsigned integer of 64 bits')}u"


def _integer(value: Any, part: str, lowest: int, highest: int, wanted: str) -> int:
    number = value
    if (type(value) is float and value.is_integer()) or (type(value) is str and _INTEGER.fullmatch(value)):
        number = int(value)
    if type(number) is not int:
        raise RejectError(f"{part} is {shown(value)}, {kind_of(value)}; expected {wanted}", code="not_integer")
    if not lowest <= number <= highest:
        raise RejectError(f"{part} is {shown(value)}, which exceeds {wanted}", code="out_of_range")
    return number


def value_field(value: Any, part: str) -> str:
    """Return a field of the value's own type: boolean, text, and float for every number."""
    kind = type(value)
    if kind is str:
        return string_field(value, part)
    if kind is float or kind is int:
        return float_field(value, part)
    if kind is bool:
        return "true" if value else "false"
    return string_field(value, part)


def exact_value_field(value: Any, part: str) -> str:
    """Return a field of the value's own type, with integers as integers."""
    return integer_field(value, part) if type(value) is int else value_field(value, part)


def timestamp_reader(precision: Precision) -> Callable[[Any], str]:
    """Return a function that returns a timestamp in units of `precision`.

    Numbers are taken as such units, texts as RFC 3339 or as a number. Parts of a unit are cut.
    """
    unit = UNITS_NS[precision]
    lowest, highest = -(-TIME_NS_MIN // unit), TIME_NS_MAX // unit

    def read(value: Any) -> str:
        kind = type(value)
        if kind is int:
            number = value
        elif (kind is float and isfinite(value)) or (kind is str and _INTEGER.fullmatch(value)):
            number = int(value)
        elif kind is str and (match := _TIME.fullmatch(value.strip())):
            number = _nanoseconds(match) // unit
        else:
            raise RejectError(
                f"the timestamp is {shown(value)}; expected a number of {precision} or a time like "
                "2026-01-31T14:00:00.5Z",
                code="timestamp",
            )
        if not lowest <= number <= highest:
            raise RejectError(
                f"the timestamp {shown(value)} is not between the years 1677 and 2262 in {precision}; "
                "check `precision`",
                code="timestamp",
            )
        return str(number)

    return read


def _nanoseconds(match: re.Match[str]) -> int:
    date, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in "Zz" else zone
    try:
        at = datetime.fromisoformat(f"{date}T{clock}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise RejectError(f"the timestamp {shown(match[0])} is not a time of the calendar", code="timestamp") from None
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def message_time(precision: Precision) -> Callable[[int, int], str]:
    """Return a function that returns the timestamp of a point without its own: the time of its message.

    Below the millisecond stands the sequence number of the record, so that points of one series in one millisecond
    don't overwrite each other. It is the same when the record is sent again.
    """
    if precision == "s":
        return lambda time_ms, seq: str(time_ms // 1000)
    parts = UNITS_NS["ms"] // UNITS_NS[precision]
    return lambda time_ms, seq: str(time_ms * parts + seq % parts)
