"""What travels through the engine: the client a message came from, the message, and the columns a rule sees.

A `Message` stands for one publish, an `Occurrence` for anything else a rule can select from (client events, other
sources). Both answer the same two questions, and generated rule code asks nothing else:

- ``column(name)``: the value of one column, or `UNDEFINED`;
- ``columns()``: all of them as a new dict, for ``SELECT *``.

A `Message` moreover has attributes for what rules read most, so that generated code can skip the look-up; see
`engine.language.sql.codegen`. Everything costly (payload text, decoded JSON, id, properties) is made when first asked
for and shared by all rules of the message.
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
"""The `node` column until there are several nodes."""

_PROCESS_BITS = int.from_bytes(os.urandom(6), "big") << 16
_serial = count()


def new_message_id(now_ms: int) -> str:
    """32 hexadecimal digits: time, process and a serial number, as EMQX's message ids are made."""
    return f"{now_ms * 1000:016X}{(_PROCESS_BITS + next(_serial)) % (1 << 64):016X}"


class ClientIdentity:
    """The client behind a message, made once per connection and shared by all its messages."""

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
        self.lane_hash = crc32(clientid.encode("utf-8", "surrogatepass"))
        self.memory: Any = None
        """What rules remember of this connection (`proc_dict_put`); made by whoever writes to it first."""


_UNSET: Final = object()
"""What has not been asked for yet."""


class _NoJson:
    """Why a payload is not JSON. The words, not the exception: its traceback would lead back to the message, which the
    garbage collector does not follow, and neither would ever be freed."""

    __slots__ = ("reason",)

    def __init__(self, error: ValueError) -> None:
        self.reason = f"the payload is not JSON: {error}"


class Message(Struct, gc=False, eq=False):
    """One publish. ``timestamp`` is its arrival in milliseconds since 1970, ``properties`` MQTT 5's in snake case.

    ``trail`` names the rules whose republishing led here, oldest first; it is how loops are found. A msgspec structure,
    because one is made for every message that a rule selects: a third of the cost of a class with slots.
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
        """Names this message in all events about it."""
        if self._id is None:
            self._id = new_message_id(self.timestamp)
        return self._id

    @property
    def payload(self) -> str | bytes:
        """The payload as text where it is UTF-8, else the bytes themselves."""
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
        """The decoded payload, decoded once. Raises `EvaluationError` when it is not JSON."""
        value = self._json
        if value is _UNSET:
            try:
                value = decode(self.payload_bytes)
            except ValueError as error:
                value = _NoJson(error)
            self._json = value
        if type(value) is _NoJson:
            raise EvaluationError(value.reason)
        return value

    def column(self, name: str) -> Any:
        """The value of one column by its name in a rule, or `UNDEFINED`."""
        read = _COLUMNS.get(name)
        return UNDEFINED if read is None else read(self)

    def columns(self) -> dict[str, Any]:
        """All columns, as ``SELECT *`` shows them."""
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
"""The columns of a publish, in the order of ``SELECT *``."""


class Occurrence:
    """Anything else a rule selects from: a client event, a source's message, or an event given as data.

    ``topic`` is what FROM is matched against (``$events/client/connected``, or the name of a publish topic).
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
        """The decoded payload column, decoded once. Raises `EvaluationError` when it is not JSON."""
        value = self._json
        if value is _UNSET:
            payload = self._columns.get("payload", UNDEFINED)
            if isinstance(payload, (str, bytes)):
                try:
                    value = decode(payload)
                except ValueError as error:
                    value = _NoJson(error)
            else:
                value = payload
            self._json = value
        if type(value) is _NoJson:
            raise EvaluationError(value.reason)
        return value

    def column(self, name: str) -> Any:
        """The value of one column by its name in a rule, or `UNDEFINED`."""
        return self._columns.get(name, UNDEFINED)

    def columns(self) -> dict[str, Any]:
        """All columns, as ``SELECT *`` shows them."""
        return dict(self._columns)


def property_columns(properties: Mapping[str, Any] | None) -> dict[str, Any]:
    """MQTT 5 properties as a rule sees them: specification names, user properties as a map and as ordered pairs."""
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
