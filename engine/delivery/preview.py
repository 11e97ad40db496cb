"""Text of a value that cannot be stored, for people to look at: bounded in size and in time, and it never raises.

`repr` is neither: it raises for an integer of more than 4,300 digits and for deep nesting, calls code of the objects it
meets, and makes 20 MB of text of a row of 20 MB before anything could be cut off.
"""

from __future__ import annotations

from typing import Any

DEPTH_MAX = 20
"""Deeper values are shown as `…`. A person reads three or four levels."""

INTEGER_BITS_MAX = 4096
"""Longer integers are shown as their number of bits. Below Python's own limit for `repr`, which is 4,300 digits (some
14,000 bits)."""


def preview(value: Any, characters_max: int) -> str:
    """Return text like that of `repr` with at most `characters_max` characters."""
    writer = _Writer(characters_max)
    writer.write_value(value, 0)
    return "".join(writer.parts)


class _Writer:
    """Collects text until there is no room for more."""

    def __init__(self, room: int) -> None:
        self.parts: list[str] = []
        self._room = room

    def write_value(self, value: Any, depth: int) -> None:
        kind = type(value)
        if depth > DEPTH_MAX:
            self._write("…")
        elif kind is dict:
            self._write_items("{", "}", value, depth, value)
        elif kind is list:
            self._write_items("[", "]", value, depth)
        elif kind is tuple:
            self._write_items("(", ")", value, depth)
        elif kind is str or kind is bytes:
            self._write(repr(value[: self._room]))
        elif kind is int and value.bit_length() > INTEGER_BITS_MAX:
            self._write(f"<integer of {value.bit_length()} bits>")
        elif kind is int or kind is float or kind is bool or value is None:
            self._write(repr(value))
        else:
            # The `repr` of an unknown type is foreign code: it may raise, hang, or be as long as it likes.
            self._write(f"<{kind.__name__}>")

    def _write_items(self, opening: str, closing: str, items: Any, depth: int, mapping: Any = None) -> None:
        self._write(opening)
        for index, item in enumerate(items):
            if self._room <= 0:
                return
            if index:
                self._write(", ")
            self.write_value(item, depth + 1)
            if mapping is not None:
                self._write(": ")
                self.write_value(mapping[item], depth + 1)
        self._write(closing)

    def _write(self, text: str) -> None:
        text = text[: max(self._room, 0)]
        self._room -= len(text)
        self.parts.append(text)
