"""The hooks of the broker: calls to the application for publishes and for client events.

The application sets the attributes of a `Hooks` object that it wants to be called for; an attribute left at None costs
one comparison. Hooks are called on the event loop and must not block. An exception in a hook ends the connection that
caused the call.

Publishes come in batches: all that one read of one connection held. The answer is a `broker.receipt.Receipt`: it may
hold the acknowledgements of the batch back and refuse single publishes; refused publishes are not routed to
subscribers. Events are answered with a receipt as well, or None; the broker itself waits for none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec import Struct

from broker.origin import INTERNAL, Origin
from broker.receipt import Receipt

Properties = Mapping[str, Any]
"""MQTT 5 properties by snake-case specification name; ``user_property`` is a list of (name, value) pairs."""


@dataclass(slots=True, eq=False)
class ClientInfo:
    """A connected client, made once per connection. Times in milliseconds since 1970, intervals in seconds."""

    client_id: str
    username: str | None = None
    origin: Origin = INTERNAL
    protocol_version: int = 5
    """3 (MQTT 3.1), 4 (3.1.1) or 5."""
    keep_alive: int = 0
    clean_start: bool = True
    receive_maximum: int = 65535
    session_expiry_interval: int = 0
    is_bridge: bool = False
    connected_at: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)
    bypasses_acl: bool = False
    """Whether access control is not asked what this client may publish and subscribe to: EMQX's superuser."""
    context: Any = None
    """Belongs to whoever listens to the hooks: what it wants to remember of this connection."""


class PublishView(Protocol):
    """The fields of a publish that its receivers may read."""

    @property
    def message_id(self) -> str | None: ...
    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def qos(self) -> int: ...
    @property
    def retain(self) -> bool: ...
    @property
    def dup(self) -> bool: ...
    @property
    def properties(self) -> Properties | None: ...
    @property
    def is_will(self) -> bool:
        """Whether it is a will: the client it comes from is gone and can't be told of a refusal."""


class IncomingPublish(PublishView, Protocol):
    """A PUBLISH packet as a hook gets it: it may set the ``message_id``, which then stands in all events about it."""

    message_id: str | None


class RoutedMessage(Struct, frozen=True):
    """A message on its way to subscribers, as the delivery events show it: one per publish that anybody gets."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties | None
    publisher: ClientInfo
    received_at: int
    message_id: str | None = None

    def expires_at(self) -> int | None:
        """When it is no longer worth delivering, in milliseconds since 1970; None: never."""
        if self.properties is None:
            return None
        interval = self.properties.get("message_expiry_interval")
        return None if interval is None else self.received_at + int(interval) * 1000


@dataclass(frozen=True, slots=True)
class ClientConnected:
    """``properties`` are those of CONNECT. They may be large, and nothing but this event keeps them."""

    client: ClientInfo
    session_present: bool
    properties: Properties


@dataclass(frozen=True, slots=True)
class ClientDisconnected:
    """``reason`` is one of EMQX's words: normal, keepalive_timeout, tcp_closed, takenover, discarded, kicked, …"""

    client: ClientInfo
    reason: str
    properties: Properties
    disconnected_at: int


@dataclass(frozen=True, slots=True)
class SessionSubscribed:
    client: ClientInfo
    topic_filter: str
    qos: int
    properties: Properties


@dataclass(frozen=True, slots=True)
class SessionUnsubscribed:
    client: ClientInfo
    topic_filter: str
    qos: int
    properties: Properties


@dataclass(frozen=True, slots=True)
class MessageDelivered:
    """``client`` is the receiver; the publisher is in ``message``."""

    client: ClientInfo
    message: RoutedMessage


@dataclass(frozen=True, slots=True)
class MessageAcked:
    """The receiver ``client`` answered PUBACK (QoS 1) or PUBREC (QoS 2)."""

    client: ClientInfo
    message: RoutedMessage
    properties: Properties


@dataclass(frozen=True, slots=True)
class MessageDropped:
    """Dropped on receipt or while routing: no_subscribers, receive_maximum_exceeded, packet_identifier_inuse."""

    message: RoutedMessage
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryDropped:
    """Dropped for one receiver ``client``: queue_full, no_local, expired, qos0_msg, too_large."""

    client: ClientInfo
    message: RoutedMessage
    reason: str


PublishHook = Callable[[ClientInfo, Sequence[IncomingPublish], int], Receipt]
"""Called with the publisher, the publishes of one read in order, and their arrival in milliseconds since 1970."""


@dataclass(slots=True)
class Hooks:
    """Callbacks of the application for each event, or None. It may change them at any time."""

    published: PublishHook | None = None
    client_connected: Callable[[ClientConnected], Receipt | None] | None = None
    client_disconnected: Callable[[ClientDisconnected], Receipt | None] | None = None
    session_subscribed: Callable[[SessionSubscribed], Receipt | None] | None = None
    session_unsubscribed: Callable[[SessionUnsubscribed], Receipt | None] | None = None
    message_delivered: Callable[[MessageDelivered], Receipt | None] | None = None
    message_acked: Callable[[MessageAcked], Receipt | None] | None = None
    message_dropped: Callable[[MessageDropped], Receipt | None] | None = None
    delivery_dropped: Callable[[DeliveryDropped], Receipt | None] | None = None
