"""Date and time: the current time, conversion between Unix time and text, formats, time zones.

Unix time is an integer in one of four units. A zone is 'Z', 'local', an offset (``+0800``, ``+08:00``, ``+08:00:30``,
or seconds as an integer) or a name such as 'Europe/Berlin'. Calendar arithmetic is done in whole nanoseconds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from engine.errors import EvaluationError
from engine.language.functions.argument import MISSING, integer, refuse, text
from engine.language.functions.format import DateFormat, compile_format, offset_text, parse_date
from engine.language.functions.registry import function
from engine.model.jsontext import UNDEFINED

_FORMAT_LENGTH_MAX = 4096
"""Bound of a format, which may come from a message: a megabyte of directives takes seconds."""
_SECOND = 10**9
_UNITS = {"second": _SECOND, "millisecond": 10**6, "microsecond": 10**3, "nanosecond": 1}
"""Nanoseconds of each unit."""
_WITH_FRACTION = {10**6: "%s.%03d%s", 10**3: "%s.%06d%s", 1: "%s.%09d%s"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_SECONDS_MIN, _SECONDS_MAX = -62135596800, 253402300799  # years 1 to 9999
_OUT_OF_YEARS = "expected a time within the years 1 to 9999, found one outside of them"
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)(?::(\d\d))?", re.ASCII)
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)

_now_ns: Callable[[], int] = time.time_ns


def use_clock(now_ns: Callable[[], int]) -> Callable[[], int]:
    """Read the time from `now_ns` (nanoseconds since 1970) from now on. Return the previous clock."""
    global _now_ns
    previous, _now_ns = _now_ns, now_ns
    return previous


@function(("now_timestamp() > 1700000000", True), ("is_int(now_timestamp('nanosecond'))", True), pure=False)
def now_timestamp(unit: str = "second") -> int:
    """Return the current Unix time in `unit`: 'second', 'millisecond', 'microsecond' or 'nanosecond'."""
    return _now_ns() // _unit("now_timestamp", 1, unit)


@function(("strlen(now_rfc3339('millisecond'))", 29), pure=False)
def now_rfc3339(unit: str = "second", zone: Any = "local") -> str:
    """Return the current time as RFC 3339 text with the fraction digits of `unit`, in `zone`.

    'local' is the zone of the server.
    """
    return _rfc3339("now_rfc3339", _now_ns(), _unit("now_rfc3339", 1, unit), zone)


@function(("unix_ts_to_rfc3339(1661326462115, 'millisecond', 'Z')", "2022-08-24T07:34:22.115+00:00"))
def unix_ts_to_rfc3339(timestamp: int, unit: str = "second", zone: Any = "local") -> str:
    """Return a Unix time in `unit` as RFC 3339 text with the fraction digits of `unit`, in `zone`.

    'local' is the zone of the server. Fails for a time outside of the years 1 to 9999.
    """
    name = "unix_ts_to_rfc3339"
    step = _unit(name, 2, unit)
    return _rfc3339(name, integer(name, 1, timestamp) * step, step, zone)


@function(
    ("rfc3339_to_unix_ts('2022-08-24T15:34:22+08:00')", 1661326462),
    ("rfc3339_to_unix_ts('2024-02-23T15:56:30.87Z', 'millisecond')", 1708703790870),
)
def rfc3339_to_unix_ts(written: str, unit: str = "second") -> int:
    """Return the Unix time of an RFC 3339 text in `unit`.

    Seconds are truncated, finer units rounded. Fails for text without an offset.
    """
    step = _unit("rfc3339_to_unix_ts", 2, unit)
    match = _RFC3339.fullmatch(text("rfc3339_to_unix_ts", 1, written))
    if match is None:
        raise EvaluationError(f"rfc3339_to_unix_ts: expected RFC 3339 text with an offset, found {str(written)[:40]!r}")
    year, month, day, hour, minute, second, fraction, sign, offset_hour, offset_minute = match.groups()
    offset = 0 if sign is None else _signed(sign, int(offset_hour), int(offset_minute), 0)
    seconds = _seconds("rfc3339_to_unix_ts", *map(int, (year, month, day, hour, minute, second))) - offset
    if step == _SECOND:
        return seconds
    scaled = int((fraction or "0").ljust(18, "0"))
    return seconds * (_SECOND // step) + (scaled + step * _SECOND // 2) // (step * _SECOND)


@function(
    ("format_date('second', '+0800', '%Y-%m-%d %H:%M:%S%:z', 1653561612)", "2022-05-26 18:40:12+08:00"),
    ("format_date('millisecond', 'Z', '%d %b %y, %H:%M:%S.%3N', 1653561612123)", "26 May 22, 10:40:12.123"),
    ("format_date('second', 'Europe/Berlin', '%H:%M %z', 1653561612)", "12:40 +0200"),
    pure=False,
)
def format_date(unit: str, zone: Any, format: str, timestamp: Any = MISSING) -> str:
    """Return a Unix time in `unit`, or the current time, as text in a format and a zone.

    `%Y` `%m` `%d` `%H` `%M` `%S` are the parts of the date, `%3N` `%6N` `%N` milli-, micro- and nanoseconds, `%z` `%:z`
    `%::z` the offset; further `%y` (two digits), `%j` (day of the year), `%a` `%A` `%b` `%B` (English names), `%I` `%p`
    (twelve hours), `%%`. Fails for a format of more than 4,096 characters.
    """
    step = _unit("format_date", 1, unit)
    nanoseconds = _now_ns() if timestamp is MISSING else integer("format_date", 4, timestamp) * step
    nanoseconds -= nanoseconds % step
    seconds = nanoseconds // _SECOND
    offset = _offset("format_date", 2, zone, seconds)
    moment = _moment("format_date", seconds + offset)
    return _format("format_date", 3, format).render(moment, nanoseconds % _SECOND, offset)


@function(
    ("date_to_unix_ts('second', '%Y-%m-%d %H:%M:%S', '2022-05-26 10:40:12')", 1653561612),
    ("date_to_unix_ts('second', '+08:00', '%Y-%m-%d %H:%M:%S', '2022-05-26 10:40:12')", 1653532812),
    ("date_to_unix_ts('second', '%Y-%m-%d', '2022-05-26')", 1653523200),
)
def date_to_unix_ts(unit: str, zone: Any, format: str, written: Any = MISSING) -> int:
    """Return the Unix time in `unit` of a text in a format (that of `format_date`); without `zone`, in UTC.

    Each directive takes its number of digits; text between directives is skipped, not compared; text after the last one
    is ignored. The format needs year, month and day; parts of the time of day that it lacks are 0. The text may end
    before the fraction or the zone of the format.
    """
    if written is MISSING:
        zone, format, written, place = 0, zone, format, 2
    else:
        place = 3
    step = _unit("date_to_unix_ts", 1, unit)
    found = parse_date(
        "date_to_unix_ts", _format("date_to_unix_ts", place, format), text("date_to_unix_ts", place + 1, written)
    )
    local = _seconds("date_to_unix_ts", found.year, found.month, found.day, found.hour, found.minute, found.second)
    seconds = local - found.offset
    seconds -= _offset("date_to_unix_ts", 2, zone, seconds, is_local=True)
    return (seconds * _SECOND + found.nanosecond) // step


@function(("timezone_to_offset_seconds('+05:30')", 19800), ("timezone_to_offset_seconds('-02:00')", -7200), pure=False)
def timezone_to_offset_seconds(zone: Any) -> int:
    """Return the offset of a zone from UTC in seconds; with daylight saving time, the offset at present.

    The offset of undefined is 0.
    """
    return _current_offset("timezone_to_offset_seconds", zone)


@function(("timezone_to_second('-02:00:00')", -7200), pure=False)
def timezone_to_second(zone: Any) -> int:
    """Return the offset of a zone from UTC in seconds; another name of `timezone_to_offset_seconds`."""
    return _current_offset("timezone_to_second", zone)


def _current_offset(name: str, zone: Any) -> int:
    return 0 if zone is UNDEFINED else _offset(name, 1, zone, _now_ns() // _SECOND)


@function(("mongo_date(1653561612123)", "ISODate(2022-05-26T10:40:12.123Z)"), pure=False)
def mongo_date(timestamp: Any = MISSING, unit: str = "millisecond") -> str:
    """Return a Unix time in `unit` (milliseconds by default), or the current time, as `ISODate(…)` of MongoDB."""
    step = _unit("mongo_date", 2, unit)
    nanoseconds = _now_ns() if timestamp is MISSING else integer("mongo_date", 1, timestamp) * step
    return f"ISODate({_rfc3339('mongo_date', nanoseconds, 10**6, 'Z')[:-6]}Z)"


def _unit(name: str, position: int, unit: Any) -> int:
    step = _UNITS.get(unit) if type(unit) is str else None
    if step is None:
        refuse(name, position, "a unit ('second', 'millisecond', 'microsecond' or 'nanosecond')", unit)
    return step


def _rfc3339(name: str, nanoseconds: int, step: int, zone: Any) -> str:
    seconds, rest = divmod(nanoseconds, _SECOND)
    before, after = _rfc3339_second(name, seconds, zone) if type(zone) is str else _rfc3339_plain(name, seconds, zone)
    if step == _SECOND:
        return before + after
    return _WITH_FRACTION[step] % (before, rest // step, after)


def _rfc3339_plain(name: str, seconds: int, zone: Any) -> tuple[str, str]:
    offset = _offset(name, 3, zone, seconds)
    return _moment(name, seconds + offset).isoformat(), offset_text(offset, ":")


_rfc3339_second = lru_cache(maxsize=64)(_rfc3339_plain)
"""Cache of the text before and after the fraction: many messages share their second."""


def _moment(name: str, seconds: int) -> datetime:
    if not _SECONDS_MIN <= seconds <= _SECONDS_MAX:
        raise EvaluationError(f"{name}: {_OUT_OF_YEARS}")
    return _EPOCH + timedelta(seconds=seconds)


def _seconds(name: str, year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    try:
        days = date(year, month, day).toordinal() - 719163
    except ValueError as error:
        raise EvaluationError(f"{name}: expected a date, found {year:04d}-{month:02d}-{day:02d}") from error
    if hour > 24 or minute > 59 or second > 60:
        raise EvaluationError(f"{name}: expected a time of day, found {hour:02d}:{minute:02d}:{second:02d}")
    return days * 86400 + hour * 3600 + minute * 60 + second


def _offset(name: str, position: int, zone: Any, seconds: int, is_local: bool = False) -> int:
    """Return the offset of a zone at a Unix time, or (`is_local`) at a time of the zone's own clocks."""
    if type(zone) is int:
        return zone
    if type(zone) is not str:
        refuse(name, position, "a time zone", zone)
    found = _zone(name, position, zone)
    if isinstance(found, int):
        return found
    moment = _moment(name, seconds)
    try:
        if not is_local:
            local = moment.replace(tzinfo=UTC).astimezone(found)
        else:
            local = moment.astimezone() if found is None else moment.replace(tzinfo=found)
    except (OverflowError, ValueError) as error:  # the first or last hours of the calendar, in another zone
        raise EvaluationError(f"{name}: {_OUT_OF_YEARS}") from error
    shift = local.utcoffset()
    return 0 if shift is None else shift.days * 86400 + shift.seconds


@lru_cache(maxsize=128)
def _zone(name: str, position: int, zone: str) -> int | tzinfo | None:
    """Return the offset of a zone with a single one, else the zone; None stands for the zone of the server."""
    if zone in ("Z", "z"):
        return 0
    if zone == "local":
        return None
    match = _OFFSET.fullmatch(zone)
    if match is not None:
        sign, hours, minutes, seconds = match[1], int(match[2]), int(match[3]), int(match[4] or 0)
        if hours <= 23 and minutes <= 59 and seconds <= 59:
            return _signed(sign, hours, minutes, seconds)
    try:
        return ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        refuse(name, position, "a time zone", zone)


def _signed(sign: str, hours: int, minutes: int, seconds: int) -> int:
    total = hours * 3600 + minutes * 60 + seconds
    return -total if sign == "-" else total


def _format(name: str, position: int, format: Any) -> DateFormat:
    source = text(name, position, format)
    if len(source) > _FORMAT_LENGTH_MAX:
        raise EvaluationError(
            f"{name}: expected a format of at most {_FORMAT_LENGTH_MAX} characters, found {len(source)}"
        )
    return compile_format(source)
