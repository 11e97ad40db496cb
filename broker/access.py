"""Access control: the interface that the broker asks, and the default that allows everything.

The application brings its own. ``authenticate`` answers at once or with an awaitable. ``may_publish`` and
``may_subscribe`` are called for every packet and answer at once: yes, no, or None where the answer is not known yet.
Then ``ask`` finds it out, for a file, a database or a service over HTTP, while the client is not read from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple, Protocol

from broker.hooks import ClientInfo


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user name and password of a CONNECT."""

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


class Verb(Enum):
    """The operations that need a permission."""

    PUBLISH = auto()
    SUBSCRIBE = auto()


class Action(NamedTuple):
    """An operation on a topic name (PUBLISH), or on a topic filter without ``$share/name/`` (SUBSCRIBE)."""

    verb: Verb
    topic: str
    qos: int
    retain: bool = False


class Access(Protocol):
    """Authentication and authorization.

    ``may_publish`` and ``may_subscribe`` are on the way of every message: they look into a cache and nowhere else.
    """

    def authenticate(self, client: ClientInfo, credentials: Credentials) -> Decision | Awaitable[Decision]:
        """Decide whether `client` is who it says it is and may connect."""

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool | None:
        """Return whether `client` may publish to the topic name `topic`; None to be asked by ``ask``."""

    def may_subscribe(self, client: ClientInfo, topic_filter: str, qos: int) -> bool | None:
        """Return whether `client` may subscribe to `topic_filter`, given without ``$share/name/``; None for ``ask``."""

    async def ask(self, client: ClientInfo, action: Action) -> bool:
        """Find out whether `client` may do `action`, which its cache did not know, and remember the answer.

        Anything but True denies, an exception included, and so does ``authorization_timeout``. It is cancelled when the
        client has gone. Several actions of one client, and the same one for several clients, may be asked at a time.
        """


class AllowAll:
    """Everybody may do everything."""

    def authenticate(self, client: ClientInfo, credentials: Credentials) -> Decision | Awaitable[Decision]:
        return Accepted(bypasses_acl=True)

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool | None:
        return True

    def may_subscribe(self, client: ClientInfo, topic_filter: str, qos: int) -> bool | None:
        return True

    async def ask(self, client: ClientInfo, action: Action) -> bool:
        return True
