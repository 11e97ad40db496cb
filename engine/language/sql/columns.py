"""Code that reads the columns of a message: by attribute for a `Message`, by name for anything else."""

from __future__ import annotations

from typing import Protocol

from engine.language.sql.emit import UNDEFINED_ATOM, Atom, Writer
from engine.model.message import MESSAGE_COLUMNS

__all__ = ["ColumnSource", "EventColumns", "MessageColumns", "decoded_payload"]


class ColumnSource(Protocol):
    """Writes the code that reads a column."""

    def read(self, writer: Writer, name: str) -> Atom:
        """Return the value of a column; its kind is ``undefined`` where there is no such column."""

    def knows(self, name: str) -> bool:
        """Return whether there may be a column of that name."""

    def names(self) -> tuple[str, ...] | None:
        """Return the names of all columns; None where they are known only at run time."""


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
"""Columns of a publish that generated code reads by attribute; tests compare this with `Message.column`."""


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
    """The columns of an `Occurrence`, which differ from event to event."""

    def read(self, writer: Writer, name: str) -> Atom:
        if name == _METADATA:
            return Atom("METADATA", "map")
        return writer.assign(f"m.column({writer.names.literal(name)})", "any", ("column", name))

    def knows(self, name: str) -> bool:
        return True

    def names(self) -> tuple[str, ...] | None:
        return None


def decoded_payload(writer: Writer) -> Atom:
    """Return the decoded JSON payload."""
    return writer.assign("m.json", memo=("json",))
