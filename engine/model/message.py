"""Inputs of rules: messages and events, their columns, the identity of their client.

A `Message` is one publish, an `Occurrence` anything else that a rule selects from (client events, messages of sources).
Both have the interface that generated rule code uses:

- ``column(name)``: the value of one column, or `UNDEFINED`;
- ``columns()``: all columns as a new dict, for ``SELECT *``.

A `Message` also has attributes for the columns that rules read most, so that generated code can skip the look-up; see
`engine.language.sql.codegen`. Costly values (payload text, decoded JSON, id) are made by the first read and shared by
all rules of the message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, Final
from zlib import crc32

from msgspec import Struct

from engine.errors import EvaluationError
from engine.model.jsontext import UNDEFINED, Undefined, decode
from engine.model.value import from_bytes

__all__ = [
    "MESSAGE_COLUMNS", "NODE", "UNDEFINED", "ClientIdentity", "Message", "Occurrence", "Undefined", "new_message_id",
    "property_columns",
]  # fmt: skip

NODE = "headgate@127.0.0.1"
"""Value of the column ``node``: there is one node, and EMQX's rules expect a name of this form."""

_PROCESS_BITS = int.from_bytes(os.urandom(6), "big") << 16
"""Start of the serial numbers of this process: 48 random bits, so that numbers of two processes do not meet."""
_serial = count()


def new_message_id(now_ms: int) -> str:
    """Return an id of EMQX's form: 32 hexadecimal digits of the time, the process and a serial number."""
    return f"{now_ms * 1000:016X}{(_PROCESS_BITS + next(_serial)) % (1 << 64):016X}"


class ClientIdentity:
    """The client that sent a message: one object for each connection, shared by all its messages."""

    __slots__ = ("attributes", "clientid", "lane_hash", "memory", "peerhost", "peername", "username")

    def __init__(
        self,
        clientid: str,
        username: str | None = None,
        peername: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.clientid = clientid
        self.username: str | Undefined = UNDEFINED if username is None else username
        self.peername: str | Undefined = UNDEFINED if peername is None else peername
        self.peerhost: str | Undefined = UNDEFINED if peername is None else peername.rpartition(":")[0].strip("[]")
        self.attributes = dict(attributes or {})
        # Not Python's hash, which differs from process to process: lanes must be the same after a restart.
        self.lane_hash = crc32(clientid.encode("utf-8", "surrogatepass"))
        self.memory: Any = None
        """Key-value store of the connection (`proc_dict_put`), created by the first write."""


_UNSET: Final = object()
"""Marks a cached value that was not read yet; None is the value of JSON null. Tested by identity."""


class _NotJson:
    """The reason why a payload is not JSON, cached in place of its value.

    Its text, not the exception: the traceback refers to the frame, and the frame to the message. The garbage collector
    does not follow messages (``gc=False``), so that it would never free this cycle.
    """

    __slots__ = ("reason",)

    def __init__(self, error: ValueError) -> None:
        self.reason = f"the payload is not JSON: {error}"


class Message(Struct, gc=False, eq=False):
    """One publish. ``timestamp`` is its arrival in milliseconds since 1970; names of properties are in snake case.

    ``trail`` has the ids of the rules whose republishing led here, oldest first: loops are found by it.

    A msgspec structure, because one is made for each message that a rule selects: it costs a third of a class with
    slots. ``gc=False`` keeps the garbage collector from visiting each of them; therefore no attribute may refer to the
    message. ``eq=False`` leaves equality and hash to identity.
    """

    topic: str
    payload_bytes: bytes
    qos: int
    retain: bool
    dup: bool
    client: ClientIdentity
    timestamp: int
    properties: Mapping[str, Any] | None = None
    trail: tuple[str, ...] = ()
    _id: str | None = None
    _json: Any = _UNSET
    _text: Any = _UNSET

    @property
    def id(self) -> str:
        """The message id, the same in all events of this message."""
        if self._id is None:
            self._id = new_message_id(self.timestamp)
        return self._id

    @property
    def payload(self) -> str | bytes:
        """The payload as text where it is UTF-8, else as bytes."""
        text = self._text
        if text is _UNSET:
            try:
                text = self.payload_bytes.decode()
            except UnicodeDecodeError:
                text = self.payload_bytes
            self._text = text
        return text  # type: ignore[no-any-return]

    @property
    def json(self) -> Any:
        """The value of the payload, decoded once. Raises `EvaluationError` where it is not JSON."""
        value = self._json
        if value is _UNSET:
            try:
                value = decode(self.payload_bytes)
            except ValueError as error:
                value = _NotJson(error)
            self._json = value
        if type(value) is _NotJson:
            raise EvaluationError(value.reason)
        return value

    def column(self, name: str) -> Any:
        """Return the value of one column, or `UNDEFINED`."""
        read = _COLUMNS.get(name)
        return UNDEFINED if read is None else read(self)

    def columns(self) -> dict[str, Any]:
        """Return all columns as a new dict, in the order of ``SELECT *``."""
        return {name: read(self) for name, read in _COLUMNS.items()}


_COLUMNS: dict[str, Callable[[Message], Any]] = {
    "event": lambda m: "message.publish",
    "id": lambda m: m.id,
    "clientid": lambda m: m.client.clientid,
    "username": lambda m: m.client.username,
    "payload": lambda m: m.payload,
    "peerhost": lambda m: m.client.peerhost,
    "peername": lambda m: m.client.peername,
    "topic": lambda m: m.topic,
    "qos": lambda m: m.qos,
    "flags": lambda m: {"retain": m.retain, "dup": m.dup},
    "pub_props": lambda m: property_columns(m.properties),
    "publish_received_at": lambda m: m.timestamp,
    "client_attrs": lambda m: m.client.attributes,
    "timestamp": lambda m: m.timestamp,
    "node": lambda m: NODE,
}

MESSAGE_COLUMNS = tuple(_COLUMNS)
"""The columns of a publish in the order of ``SELECT *``."""


class Occurrence:
    """Any other input of a rule: a client event, a message of a source, or an event given as data.

    FROM is matched against ``topic``: ``$events/client/connected``, or the topic name of a publish.
    """

    __slots__ = ("_columns", "_json", "client", "timestamp", "topic", "trail")

    def __init__(
        self, topic: str, columns: dict[str, Any], client: ClientIdentity, timestamp: int, trail: tuple[str, ...] = ()
    ) -> None:
        self.topic = topic
        self.client = client
        self.timestamp = timestamp
        self.trail = trail
        self._columns = columns
        self._json: Any = _UNSET

    @property
    def json(self) -> Any:
        """The value of the column ``payload``, decoded once. Raises `EvaluationError` where it is not JSON."""
        value = self._json
        if value is _UNSET:
            payload = self._columns.get("payload", UNDEFINED)
            if isinstance(payload, (str, bytes)):
                try:
                    value = decode(payload)
                except ValueError as error:
                    value = _NotJson(error)
            else:
                value = payload
            self._json = value
        if type(value) is _NotJson:
            raise EvaluationError(value.reason)
        return value

    def column(self, name: str) -> Any:
        """Return the value of one column, or `UNDEFINED`."""
        return self._columns.get(name, UNDEFINED)

    def columns(self) -> dict[str, Any]:
        """Return all columns as a new dict, in the order of ``SELECT *``."""
        return dict(self._columns)


def property_columns(properties: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the column ``pub_props``: properties by the specification's names, user properties as map and as pairs."""
    return dict(_property_items(properties)) if properties else {"User-Property": {}}


def _property_items(properties: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    pairs = properties.get("user_property") or []
    yield "User-Property", dict(pairs)
    if pairs:
        yield "User-Property-Pairs", [{"key": key, "value": value} for key, value in pairs]
    for name, value in properties.items():
        if name != "user_property":
            shown = from_bytes(value) if type(value) is bytes else value
            yield "-".join(part.capitalize() for part in name.split("_")), shown
