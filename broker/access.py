"""Who may connect, publish and subscribe: the interface the broker asks, and the default that allows everything.

The application plugs its own in. ``authenticate`` may answer at once or with an awaitable; the connection is not read
from meanwhile. The other two are asked per packet and answer at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from broker.hooks import ClientInfo


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client shows of itself."""

    username: str | None
    password: bytes | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The client may connect.

    With ``bypasses_acl`` it may publish and subscribe to every topic without being checked (EMQX's superuser).
    ``attributes`` go to its `ClientInfo`.
    """

    bypasses_acl: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """The client may not connect; ``reason_code`` is CONNACK's (MQTT 5, translated for older clients)."""

    reason_code: int = 0x87


Decision = Accepted | Refused


class Access(Protocol):
    """Who may do what."""

    def authenticate(self, client: ClientInfo, credentials: Credentials) -> Decision | Awaitable[Decision]:
        """Whether `client` is who it says it is and may connect."""

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool:
        """Whether `client` may publish to the topic name `topic`."""

    def may_subscribe(self, client: ClientInfo, topic_filter: str, qos: int) -> bool:
        """Whether `client` may subscribe to `topic_filter` (without ``$share/name/``)."""


class AllowAll:
    """Everybody may do everything."""

    def authenticate(self, client: ClientInfo, credentials: Credentials) -> Decision:
        return Accepted(bypasses_acl=True)

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool:
        return True

    def may_subscribe(self, client: ClientInfo, topic_filter: str, qos: int) -> bool:
        return True
