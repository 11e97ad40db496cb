"""The store of sessions: the interface, and the default that keeps them in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Protocol

from broker.config import BrokerConfig
from broker.hooks import ClientInfo
from broker.session import Session


class SessionStore(Protocol):
    """Creates, finds and removes sessions, and stores their changes, which it learns from their observers.

    Three methods may answer with an awaitable, whose failure refuses the CONNECT that waits for it (0x88). The registry
    starts no other opening of the same client id before the awaitable has ended.
    """

    def __len__(self) -> int:
        """Return the number of sessions, those of absent clients included."""

    def __iter__(self) -> Iterator[Session]: ...

    def __contains__(self, client_id: object) -> bool:
        """Return whether there is a session of `client_id`."""

    def get(self, client_id: str) -> Session | None:
        """Return the session of `client_id` if it is in this process and in memory."""

    def load(self, client_id: str) -> Session | Awaitable[Session | None] | None:
        """Return the session of `client_id`, wherever it is: on disk, or in another process, which gives it up.

        The session itself does not change: the client it is loaded for may leave before it is there.
        """

    def create(self, info: ClientInfo) -> Session:
        """Return a new session for this client."""

    def remove(self, client_id: str) -> Awaitable[None] | None:
        """Remove the session of `client_id`, which has ended."""

    def flush(self, session: Session) -> Awaitable[None] | None:
        """Return None if all changes of `session` are stored as safely as they have to be, else an awaitable of that.

        Called when a session was opened, where CONNACK waits for it, and when its client has left.
        """


class MemorySessions:
    """Sessions in memory: every answer is there at once."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._sessions

    def get(self, client_id: str) -> Session | None:
        return self._sessions.get(client_id)

    def load(self, client_id: str) -> Session | None:
        return self._sessions.get(client_id)

    def create(self, info: ClientInfo) -> Session:
        config = self._config
        session = Session(info, queue_max=config.max_mqueue_len, store_qos0=config.mqueue_store_qos0)
        self._sessions[session.key] = session
        return session

    def remove(self, client_id: str) -> None:
        self._sessions.pop(client_id, None)

    def flush(self, session: Session) -> None:
        """Nothing is written."""
