"""Name resolution: where aliases hide columns, and where columns show through.

- A column is read from the message. ``payload`` with a path is the decoded payload.
- A written alias hides a column of the same name. In a column list, where it is UNDEFINED the column shows through; in
  WHERE, INCASE and for FOREACH's aliases in DO it does not, unless the alias is a path (``AS payload.x``), which
  replaces only a part.
- A column selected without alias hides nothing (``SELECT payload.x`` puts a reduced ``payload`` into the output,
  which EMQX then reads instead of the real one).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engine.language.sql.columns import ColumnSource, MessageColumns, decoded_payload
from engine.language.sql.emit import Atom
from engine.language.sql.nodes import Key
from engine.language.sql.paths import Path

__all__ = ["Alias", "Aliases", "ColumnScope", "ElementScope", "FieldScope", "Scope"]


class Scope(Protocol):
    """Resolves names at one place of a statement."""

    def resolve(self, name: str, path: Path) -> Atom:
        """Write and return the value at the end of `path`, which begins at `name`."""

    def knows(self, name: str) -> bool:
        """Return whether `name` may have a value."""

    def is_publish_column(self, name: str) -> bool:
        """Return whether `name` is certainly the column of a publish, and not an alias."""


_FLAGS = {"retain": "m.retain", "dup": "m.dup"}


class ColumnScope:
    """The columns alone."""

    def __init__(self, columns: ColumnSource) -> None:
        self._columns = columns

    def resolve(self, name: str, path: Path) -> Atom:
        if not path.steps:
            return self._columns.read(path.writer, name)
        if name == "payload":
            return path.walk(decoded_payload(path.writer), is_payload=True)
        first = path.steps[0]
        is_flag = name == "flags" and isinstance(self._columns, MessageColumns) and len(path.steps) == 1
        if is_flag and isinstance(first, Key) and first.name in _FLAGS:
            return path.writer.assign(_FLAGS[first.name], "bool", ("flag", first.name))
        base = self._columns.read(path.writer, name)
        return base if base.kind == "undefined" else path.walk(base)

    def knows(self, name: str) -> bool:
        return self._columns.knows(name)

    def is_publish_column(self, name: str) -> bool:
        return isinstance(self._columns, MessageColumns) and self._columns.knows(name)


@dataclass(frozen=True, slots=True)
class Alias:
    """A written alias, visible to the fields behind the one at ``index``.

    ``whole`` is false where it is only a path into the column of that name.
    """

    index: int
    atom: Atom
    whole: bool


class Aliases:
    """The written aliases of one column list, each from the field on that made it."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[Alias]] = {}

    def add(self, name: str, alias: Alias) -> None:
        """Make `name` visible; fields may be added in any order."""
        self._by_name.setdefault(name, []).append(alias)

    def before(self, name: str, index: int) -> Alias | None:
        """Return the alias `name` as the field at `index` sees it: the last one before that field."""
        found = [alias for alias in self._by_name.get(name, ()) if alias.index < index]
        return max(found, key=lambda alias: alias.index) if found else None


class FieldScope:
    """The aliases of a column list as the field at `index` sees them, over the scope behind them."""

    def __init__(self, behind: Scope, aliases: Aliases, index: int, shows_through: bool) -> None:
        self._behind = behind
        self._aliases = aliases
        self._index = index
        self._shows_through = shows_through

    def resolve(self, name: str, path: Path) -> Atom:
        alias = self._aliases.before(name, self._index)
        if alias is None:
            return self._behind.resolve(name, path)
        found = path.undefined().walk(alias.atom)
        if alias.whole and not self._shows_through:
            return found
        if found.kind == "undefined":
            return self._behind.resolve(name, path)
        if not found.may_be_undefined or not self._behind.knows(name):
            return found
        memo = ("through", alias.atom.text, found.text)
        known = path.writer.known(memo)
        if known is not None:
            return known
        result = path.writer.assign(found.text)
        with path.writer.block(f"if {result.text} is U:"):
            other = self._behind.resolve(name, path.undefined())
            path.writer.line(f"{result.text} = {other.text}")
        return path.writer.remember(memo, result)

    def knows(self, name: str) -> bool:
        return self._aliases.before(name, self._index) is not None or self._behind.knows(name)

    def is_publish_column(self, name: str) -> bool:
        return self._aliases.before(name, self._index) is None and self._behind.is_publish_column(name)


class ElementScope:
    """The current element of FOREACH, over the scope behind it."""

    def __init__(self, behind: Scope, name: str, element: Atom) -> None:
        self._behind = behind
        self._name = name
        self._element = element

    def resolve(self, name: str, path: Path) -> Atom:
        return path.walk(self._element) if name == self._name else self._behind.resolve(name, path)

    def knows(self, name: str) -> bool:
        return name == self._name or self._behind.knows(name)

    def is_publish_column(self, name: str) -> bool:
        return name != self._name and self._behind.is_publish_column(name)
