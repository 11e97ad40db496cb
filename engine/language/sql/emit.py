"""Generation of Python source: lines with their positions in the statement, variables, bound constants.

Of a rule only literals with a safe repr become source text; every other constant is bound to a name in the function's
globals.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any

from engine.errors import Position
from engine.model.jsontext import UNDEFINED

__all__ = ["UNDEFINED_ATOM", "Atom", "Names", "Writer", "literal_atom"]

_NUMBERS = ("int", "float", "number")

_KIND_OF_CONSTANT = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "map"}


@dataclass(frozen=True, slots=True)
class Atom:
    """A value in generated code: the text that reads it, and its kind as far as known.

    The kinds are ``any``, ``defined`` (anything but UNDEFINED), ``number`` (int or float), ``undefined`` and the names
    of the types. ``text`` costs nothing to repeat: a variable or a literal.
    """

    text: str
    kind: str = "any"

    @property
    def may_be_undefined(self) -> bool:
        return self.kind in ("any", "undefined")

    @property
    def may_be_number(self) -> bool:
        return self.kind in ("any", "defined", *_NUMBERS)

    @property
    def is_number(self) -> bool:
        return self.kind in _NUMBERS

    @property
    def is_text_literal(self) -> bool:
        return self.kind == "str" and self.text[:1] in "'\""

    def output(self) -> str:
        """Return the text of the value as it leaves the rule, with None for UNDEFINED."""
        if self.kind == "undefined":
            return "None"
        return f"None if {self.text} is U else {self.text}" if self.kind == "any" else self.text


UNDEFINED_ATOM = Atom("U", "undefined")


class Names:
    """The globals of generated code: the runtime, and constants without a safe literal."""

    def __init__(self, runtime: dict[str, Any]) -> None:
        self.namespace: dict[str, Any] = dict(runtime)
        self._bound: dict[tuple[type, Any], str] = {}

    def bind(self, value: Any, name: str | None = None) -> str:
        """Bind `value` to a name and return it."""
        if name is None:
            name = f"K{len(self.namespace)}"
        self.namespace[name] = value
        return name

    def literal(self, value: Any) -> str:
        """Return the text of a constant: its repr where that is safe, else the name it is bound to."""
        if value is UNDEFINED:
            return "U"
        if _has_safe_repr(value):
            return repr(value)
        if isinstance(value, (str, bytes, int)):
            place = (type(value), value)
            if place not in self._bound:
                self._bound[place] = self.bind(value)
            return self._bound[place]
        return self.bind(value)


def literal_atom(names: Names, value: Any) -> Atom:
    """Return the atom of a constant."""
    if value is UNDEFINED:
        return UNDEFINED_ATOM
    return Atom(names.literal(value), _KIND_OF_CONSTANT.get(type(value), "defined"))


def _has_safe_repr(value: Any) -> bool:
    kind = type(value)
    if kind is bool or value is None:
        return True
    if kind is int:
        return -(2**63) <= int(value) < 2**63
    if kind is float:
        return isfinite(value)
    return kind is str and len(value) <= 64 and value.isascii() and value.isprintable()


class Writer:
    """Collects the lines of one function. ``at`` is the position in the statement of the lines written next."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.at: Position | None = None
        self.lines: list[str] = []
        self.places: list[Position | None] = []
        self._indent = 0
        self._count = 0
        self._memo: dict[Hashable, Atom] = {}

    def line(self, text: str) -> None:
        """Add a line."""
        self.lines.append("    " * self._indent + text)
        self.places.append(self.at)

    def fresh(self, prefix: str = "v") -> str:
        """Return an unused variable name."""
        self._count += 1
        return f"{prefix}{self._count}"

    def assign(self, text: str, kind: str = "any", memo: Hashable = None) -> Atom:
        """Assign `text` to a new variable; with `memo`, return the variable that was assigned for an equal one."""
        if memo is not None and memo in self._memo:
            return self._memo[memo]
        atom = Atom(self.fresh(), kind)
        self.line(f"{atom.text} = {text}")
        if memo is not None:
            self._memo[memo] = atom
        return atom

    def known(self, memo: Hashable) -> Atom | None:
        """Return the variable that was assigned for `memo` on every path to the next line."""
        return self._memo.get(memo)

    def remember(self, memo: Hashable, atom: Atom) -> Atom:
        """Make `known` return `atom` for `memo`."""
        self._memo[memo] = atom
        return atom

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """Indent the lines written within under `header`. Values assigned there are forgotten behind it."""
        self.line(header)
        memo = dict(self._memo)
        self._indent += 1
        try:
            yield
        finally:
            self._indent -= 1
            self._memo = memo

    def apart(self, write: Callable[[], str]) -> tuple[str, list[tuple[str, Position | None]]]:
        """Return the result of `write` and the lines it wrote, which are removed again. `replay` adds them."""
        start, memo = len(self.lines), dict(self._memo)
        result = write()
        written = list(zip(self.lines[start:], self.places[start:], strict=True))
        del self.lines[start:], self.places[start:]
        self._memo = memo
        return result, written

    def replay(self, written: list[tuple[str, Position | None]], extra_indent: int = 0) -> None:
        """Add lines that `apart` removed."""
        for text, place in written:
            self.lines.append("    " * extra_indent + text)
            self.places.append(place)
