"""What a name means: where aliases hide columns, and where they let them show through.

- A column is read from the message. ``payload`` with a path is the decoded payload.
- An alias that was written hides a column of the same name. In a column list, where it is UNDEFINED the column shows
  through; in WHERE, INCASE and for FOREACH's aliases in DO it does not, unless the alias is a path (``AS payload.x``),
  which replaces only a part.
- A column selected without alias hides nothing (``SELECT payload.x`` puts a reduced ``payload`` into the output,
  which EMQX then reads instead of the real one).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.language.sql.emit import UNDEFINED_ATOM, Atom, Writer
from engine.language.sql.nodes import Key, Step
from engine.model.message import MESSAGE_COLUMNS

if TYPE_CHECKING:
    from engine.language.sql.expressions import Expressions
    from engine.language.sql.fields import Fields

__all__ = ["ColumnScope", "Columns", "ElementScope", "EventColumns", "FieldScope", "MessageColumns", "Scope"]


class Scope(Protocol):
    """Resolves names at one place of a statement."""

    def resolve(self, code: Expressions, name: str, steps: tuple[Step, ...], null: bool, outer: Scope) -> Atom:
        """The value of a reference. With `null` a missing one may be None, as it leaves the rule.

        Names in the indexes of the path are those of `outer`, where the whole expression stands.
        """

    def knows(self, name: str) -> bool:
        """Whether `name` may have a value."""

    def is_publish_column(self, name: str) -> bool:
        """Whether `name` is certainly the column of a publish, and no alias."""


class Columns(Protocol):
    """How generated code reads a column."""

    def read(self, writer: Writer, name: str) -> Atom:
        """The value of a column; its kind is ``undefined`` where there is no such column."""

    def knows(self, name: str) -> bool:
        """Whether there may be a column of that name."""

    def names(self) -> tuple[str, ...] | None:
        """The names of all columns; None where only the message knows them."""


_METADATA = "metadata"

_DIRECT = {
    "event": ("'message.publish'", "str"),
    "id": ("m.id", "str"),
    "clientid": ("m.client.clientid", "str"),
    "username": ("m.client.username", "any"),
    "payload": ("m.payload", "defined"),
    "peerhost": ("m.client.peerhost", "any"),
    "peername": ("m.client.peername", "any"),
    "topic": ("m.topic", "str"),
    "qos": ("m.qos", "int"),
    "flags": ("{'retain': m.retain, 'dup': m.dup}", "map"),
    "publish_received_at": ("m.timestamp", "int"),
    "client_attrs": ("m.client.attributes", "map"),
    "timestamp": ("m.timestamp", "int"),
}
"""Columns of a publish that generated code reads by attribute; tests hold this against `Message.column`."""

_FLAGS = {"retain": "m.retain", "dup": "m.dup"}


class MessageColumns:
    """The columns of a `Message`."""

    def read(self, writer: Writer, name: str) -> Atom:
        if name == _METADATA:
            return Atom("METADATA", "map")
        if name in _DIRECT:
            text, kind = _DIRECT[name]
            return writer.assign(text, kind, ("column", name))
        if name in MESSAGE_COLUMNS:
            return writer.assign(f"m.column({name!r})", "defined", ("column", name))
        return UNDEFINED_ATOM

    def knows(self, name: str) -> bool:
        return name == _METADATA or name in MESSAGE_COLUMNS

    def names(self) -> tuple[str, ...] | None:
        return (*MESSAGE_COLUMNS, _METADATA)


class EventColumns:
    """The columns of an `Occurrence`, known when it comes."""

    def read(self, writer: Writer, name: str) -> Atom:
        if name == _METADATA:
            return Atom("METADATA", "map")
        return writer.assign(f"m.column({writer.names.literal(name)})", "any", ("column", name))

    def knows(self, name: str) -> bool:
        return True

    def names(self) -> tuple[str, ...] | None:
        return None


class ColumnScope:
    """The columns alone."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def resolve(self, code: Expressions, name: str, steps: tuple[Step, ...], null: bool, outer: Scope) -> Atom:
        if not steps:
            return self._columns.read(code.writer, name)
        if name == "payload":
            return code.walk(code.decoded_payload(), steps, outer, null, inside_payload=True)
        first = steps[0]
        is_flag = name == "flags" and isinstance(self._columns, MessageColumns) and len(steps) == 1
        if is_flag and isinstance(first, Key) and first.name in _FLAGS:
            return code.writer.assign(_FLAGS[first.name], "bool", ("flag", first.name))
        base = self._columns.read(code.writer, name)
        return base if base.kind == "undefined" else code.walk(base, steps, outer, null)

    def knows(self, name: str) -> bool:
        return self._columns.knows(name)

    def is_publish_column(self, name: str) -> bool:
        return isinstance(self._columns, MessageColumns) and self._columns.knows(name)


class FieldScope:
    """The aliases of a column list, up to the field at `index`, over what is behind them."""

    def __init__(self, behind: Scope, fields: Fields, index: int, shows_through: bool) -> None:
        self._behind = behind
        self._fields = fields
        self._index = index
        self._shows_through = shows_through

    def resolve(self, code: Expressions, name: str, steps: tuple[Step, ...], null: bool, outer: Scope) -> Atom:
        alias = self._fields.visible(name, self._index)
        if alias is None:
            return self._behind.resolve(code, name, steps, null, outer)
        found = code.walk(alias.atom, steps, outer, False)
        if alias.whole and not self._shows_through:
            return found
        if found.kind == "undefined":
            return self._behind.resolve(code, name, steps, null, outer)
        if not found.may_be_undefined or not self._behind.knows(name):
            return found
        memo = ("through", alias.atom.text, found.text)
        known = code.writer.known(memo)
        if known is not None:
            return known
        result = code.writer.assign(found.text)
        with code.writer.block(f"if {result.text} is U:"):
            other = self._behind.resolve(code, name, steps, False, outer)
            code.writer.line(f"{result.text} = {other.text}")
        return code.writer.remember(memo, result)

    def knows(self, name: str) -> bool:
        return self._fields.visible(name, self._index) is not None or self._behind.knows(name)

    def is_publish_column(self, name: str) -> bool:
        return self._fields.visible(name, self._index) is None and self._behind.is_publish_column(name)


class ElementScope:
    """The element FOREACH is at, over the rest."""

    def __init__(self, behind: Scope, name: str, element: Atom) -> None:
        self._behind = behind
        self._name = name
        self._element = element

    def resolve(self, code: Expressions, name: str, steps: tuple[Step, ...], null: bool, outer: Scope) -> Atom:
        if name == self._name:
            return code.walk(self._element, steps, outer, null)
        return self._behind.resolve(code, name, steps, null, outer)

    def knows(self, name: str) -> bool:
        return name == self._name or self._behind.knows(name)

    def is_publish_column(self, name: str) -> bool:
        return name != self._name and self._behind.is_publish_column(name)
