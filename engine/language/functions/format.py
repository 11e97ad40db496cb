"""Date formats such as ``%Y-%m-%d %H:%M:%S.%3N%:z``: compiled once, used to write and to parse times."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from engine.errors import EvaluationError
from engine.language.functions.memo import remembered

_DIRECTIVE = re.compile(r"%(?:3N|6N|N|::z|:z|z|[YymdHMSjaAbBIp%])")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


@dataclass(slots=True)
class DateParts:
    """The parts of a date as `parse_date` found them."""

    year: int = 0
    month: int = 1
    day: int = 1
    hour: int = 0
    minute: int = 0
    second: int = 0
    nanosecond: int = 0
    offset: int = 0


class DateFormat:
    """A date format, split into directives and the text between them."""

    __slots__ = ("_write", "pieces")

    def __init__(self, source: str) -> None:
        self.pieces: list[tuple[str, bool]] = []
        """The pieces of the format, each with whether it is a directive."""
        self._write = lru_cache(maxsize=64)(self._written)
        position = 0
        for match in _DIRECTIVE.finditer(source):
            self.pieces += ((source[position : match.start()], False), (match[0], True))
            position = match.end()
        self.pieces.append((source[position:], False))

    def render(self, moment: datetime, nanosecond: int, offset: int) -> str:
        """Return the local time `moment` in this format. Parts that all messages of a second share are cached."""
        parts = self._write(moment, offset)
        if len(parts) == 1:
            return parts[0]
        written = [part if index % 2 == 0 else _FRACTIONS[part](nanosecond) for index, part in enumerate(parts)]
        return "".join(written)

    def _written(self, moment: datetime, offset: int) -> tuple[str, ...]:
        """Return texts, with the directive of a fraction between any two of them."""
        parts = [""]
        for piece, is_directive in self.pieces:
            if not is_directive:
                parts[-1] += piece
            elif piece in _FRACTIONS:
                parts += (piece, "")
            else:
                parts[-1] += _WRITERS[piece](moment, offset)
        return tuple(parts)


@remembered
def compile_format(source: str) -> DateFormat:
    """Return the compiled format of a source text."""
    return DateFormat(source)


def offset_text(offset: int, separator: str) -> str:
    """Return an offset in seconds as ``+hh:mm``, with `separator` in place of the colon."""
    hours, minutes = divmod(abs(offset) // 60, 60)
    return f"{'-' if offset < 0 else '+'}{hours:02d}{separator}{minutes:02d}"


_WRITERS: dict[str, Callable[[datetime, int], str]] = {
    "%Y": lambda moment, offset: f"{moment.year:04d}",
    "%y": lambda moment, offset: f"{moment.year % 100:02d}",
    "%m": lambda moment, offset: f"{moment.month:02d}",
    "%d": lambda moment, offset: f"{moment.day:02d}",
    "%H": lambda moment, offset: f"{moment.hour:02d}",
    "%I": lambda moment, offset: f"{moment.hour % 12 or 12:02d}",
    "%M": lambda moment, offset: f"{moment.minute:02d}",
    "%S": lambda moment, offset: f"{moment.second:02d}",
    "%p": lambda moment, offset: "AM" if moment.hour < 12 else "PM",
    "%j": lambda moment, offset: f"{moment.timetuple().tm_yday:03d}",
    "%a": lambda moment, offset: _DAYS[moment.weekday()][:3],
    "%A": lambda moment, offset: _DAYS[moment.weekday()],
    "%b": lambda moment, offset: _MONTHS[moment.month - 1][:3],
    "%B": lambda moment, offset: _MONTHS[moment.month - 1],
    "%z": lambda moment, offset: offset_text(offset, ""),
    "%:z": lambda moment, offset: offset_text(offset, ":"),
    "%::z": lambda moment, offset: f"{offset_text(offset, ':')}:{abs(offset) % 60:02d}",
    "%%": lambda moment, offset: "%",
}

_FRACTIONS: dict[str, Callable[[int], str]] = {
    "%3N": lambda nanosecond: f"{nanosecond // 1_000_000:03d}",
    "%6N": lambda nanosecond: f"{nanosecond // 1_000:06d}",
    "%N": lambda nanosecond: f"{nanosecond:09d}",
}

_NUMBERS = {
    "%Y": ("year", 4), "%m": ("month", 2), "%d": ("day", 2), "%H": ("hour", 2), "%M": ("minute", 2),
    "%S": ("second", 2), "%3N": ("nanosecond", 3), "%6N": ("nanosecond", 6), "%N": ("nanosecond", 9),
}  # fmt: skip
_ZONES = {
    "%z": re.compile(r"Z|[+-]\d{4}|[+-]\d\d:\d\d", re.ASCII),
    "%:z": re.compile(r"Z|[+-]\d\d:\d\d|[+-]\d{4}", re.ASCII),
    "%::z": re.compile(r"Z|[+-]\d\d:\d\d:\d\d", re.ASCII),
}


def parse_date(name: str, format: DateFormat, written: str) -> DateParts:
    """Return the parts of the date `written` in a format; it may end before a fraction or a zone.

    Raise `EvaluationError` where the text does not fit the format or the format lacks year, month or day.
    """
    parts = DateParts()
    position, seen = 0, set()
    for piece, is_directive in format.pieces:
        if not is_directive:
            position += len(piece)
        elif position >= len(written) and (piece in _FRACTIONS or piece in _ZONES):
            continue
        elif piece in _ZONES:
            position = _parse_zone(name, piece, written, position, parts)
        elif piece in _NUMBERS:
            position = _parse_number(name, piece, written, position, parts)
        elif piece == "%%":
            position += 1
        else:
            raise EvaluationError(f"{name}: expected directives that can be parsed, found {piece}")
        seen.add(piece)
    lacking = [part for part in ("%Y", "%m", "%d") if part not in seen]
    if lacking:
        raise EvaluationError(f"{name}: expected %Y, %m and %d in the format, found no {' and no '.join(lacking)}")
    return parts


def _parse_number(name: str, piece: str, written: str, position: int, parts: DateParts) -> int:
    field, width = _NUMBERS[piece]
    digits = written[position : position + width]
    if len(digits) != width or not (digits.isascii() and digits.isdigit()):
        raise EvaluationError(f"{name}: expected {piece} at character {position + 1}, found {digits!r}")
    value: Any = int(digits)
    setattr(parts, field, value * 10 ** (9 - width) if field == "nanosecond" else value)
    return position + width


def _parse_zone(name: str, piece: str, written: str, position: int, parts: DateParts) -> int:
    match = _ZONES[piece].match(written, position)
    if match is None:
        raise EvaluationError(
            f"{name}: expected {piece} at character {position + 1}, found {written[position : position + 9]!r}"
        )
    if match[0] != "Z":
        digits = match[0][1:].replace(":", "").ljust(6, "0")
        seconds = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:])
        parts.offset = -seconds if match[0][0] == "-" else seconds
    return match.end()
