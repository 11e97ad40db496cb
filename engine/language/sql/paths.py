"""Code for paths: the keys and indexes that follow a name or an expression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.language.sql.emit import UNDEFINED_ATOM, Atom, Writer
from engine.language.sql.nodes import Index, IndexBy, Key, Step

__all__ = ["Path"]

_DIRECT_INDEX_MAX = 1_000_000
"""The largest index that is written as Python's own, with a test of the length before it."""


@dataclass(frozen=True, slots=True)
class Path:
    """The steps of one path of a statement; empty for a name alone.

    ``index_value`` writes the value of an index that is an expression: names in it mean what they mean where the
    whole path stands, and with an atom as second argument the fields of that payload first. With ``null`` a missing
    value may be None, as it leaves the rule.
    """

    writer: Writer
    steps: tuple[Step, ...] = ()
    index_value: Callable[[IndexBy, Atom | None], Atom] | None = None
    null: bool = False

    def undefined(self) -> Path:
        """Return the path with a missing value as UNDEFINED."""
        return replace(self, null=False) if self.null else self

    def walk(self, base: Atom, is_payload: bool = False) -> Atom:
        """Write the steps from `base`, which with `is_payload` is the decoded payload; return the value at the end."""
        payload = base if is_payload else None
        for number, step in enumerate(self.steps, 1):
            self.writer.at = step.at
            if isinstance(step, Key):
                base = _key(self.writer, base, step.name, self.null and number == len(self.steps))
            elif isinstance(step, Index):
                base = _index(self.writer, base, step.number)
            else:
                assert self.index_value is not None
                place = self.index_value(step, payload)
                memo = ("index", base.text, place.text)
                base = self.writer.assign(f"index({base.text}, {place.text})", "any", memo)
        return base


def _key(writer: Writer, base: Atom, name: str, null: bool) -> Atom:
    known = writer.known(("key", base.text, name))
    if known is not None:
        return known
    if base.kind not in ("any", "defined", "map", "str"):
        return UNDEFINED_ATOM
    literal = writer.names.literal(name)
    if null:
        fast, slow, kind = f"{base.text}.get({literal})", f"key_or_none({base.text}, {literal})", "defined"
    else:
        fast, slow, kind = f"{base.text}.get({literal}, U)", f"key({base.text}, {literal})", "any"
    text = {"map": fast, "str": slow}.get(base.kind, f"{fast} if type({base.text}) is dict else {slow}")
    return writer.assign(text, kind, ("key", base.text, name, null) if null else ("key", base.text, name))


def _index(writer: Writer, base: Atom, number: int) -> Atom:
    if number == 0 or base.kind not in ("any", "defined", "list", "str"):
        return UNDEFINED_ATOM
    text = writer.names.literal(number)
    if abs(number) > _DIRECT_INDEX_MAX or base.kind == "str":
        return writer.assign(f"index({base.text}, {text})")
    place, least = (number - 1, number) if number > 0 else (number, -number)
    fast = f"{base.text}[{place}] if type({base.text}) is list and len({base.text}) >= {least}"
    return writer.assign(f"{fast} else index({base.text}, {text})", "any", ("index", base.text, number))
