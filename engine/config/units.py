"""Sizes and durations with units (``1GiB``, ``20ms``, ``2h``). In models they are bytes and seconds."""

from __future__ import annotations

import re
from math import ceil
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_SIZES = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b)", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_size(text: str | int) -> int:
    """Return the bytes of ``1GiB``, ``900KiB``, ``10MB`` or a plain number. Raises `ValueError` with valid forms."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    if isinstance(text, str):
        if text.isascii() and text.isdecimal():
            return int(text)
        match = _SIZE.fullmatch(text.strip())
        if match:
            return round(float(match[1]) * _SIZES[match[2].lower()])
    raise ValueError(f"{text!r} is not a size; write bytes, or a number with KiB, MiB, GiB, KB, MB or GB, like 1GiB")


def parse_duration(text: str | int | float) -> float:
    """Return the seconds of ``20ms``, ``1.5s``, ``1h30m`` or a plain number. Raises `ValueError` with valid forms."""
    if isinstance(text, (int, float)) and not isinstance(text, bool) and text >= 0:
        return float(text)
    if isinstance(text, str):
        stripped = text.strip()
        parts = _DURATION.findall(stripped)
        if parts and _DURATION.sub("", stripped).strip() == "":
            return sum(float(number) * _DURATIONS[unit] for number, unit in parts)
    raise ValueError(f"{text!r} is not a duration; write a number with ms, s, m, h or d, like 20ms or 1h30m")


def _whole_seconds(value: Any) -> int:
    return ceil(parse_duration(value))


def _size(value: Any) -> int:
    return parse_size(value)


def _duration(value: Any) -> float:
    return parse_duration(value)


Size = Annotated[int, BeforeValidator(_size), WithJsonSchema({"type": ["string", "integer"], "examples": ["1GiB"]})]
Duration = Annotated[
    float, BeforeValidator(_duration), WithJsonSchema({"type": ["string", "number"], "examples": ["20ms"]})
]
WholeSeconds = Annotated[
    int, BeforeValidator(_whole_seconds), WithJsonSchema({"type": ["string", "number"], "examples": ["2h"]})
]
"""A duration that MQTT counts in whole seconds; parts of a second are rounded up, so that no limit becomes 0."""
