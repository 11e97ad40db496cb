"""Who is here: connected clients and sessions by client id; takeover, session expiry, wills. MQTT 5.0 section 4.1.

A session ends when its expiry interval has passed since its client left; its will is published when the will delay
has, or when the session ends, whichever comes first [3.1.2-8]. Both are deadlines here, one per client id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from broker.codec.packets import Connect, Will
from broker.config import BrokerConfig
from broker.deadlines import Deadlines
from broker.hooks import ClientInfo
from broker.router import Router
from broker.session import NEVER, Session


class Occupant(Protocol):
    """A connected client, as the registry sees it."""

    info: ClientInfo

    def leave(self, reason: str, reason_code: int) -> None:
        """Disconnect now, for `reason`; the session is detached when this returns."""


class SessionStore(Protocol):
    """Where sessions live. The embedded default is memory."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Session]: ...

    def get(self, client_id: str) -> Session | None:
        """The session of `client_id`."""

    def create(self, client_id: str, info: ClientInfo, now_ms: int) -> Session:
        """A new session for `client_id`."""

    def remove(self, client_id: str) -> None:
        """Forget the session of `client_id`."""


class MemorySessions:
    """Sessions in memory."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def get(self, client_id: str) -> Session | None:
        return self._sessions.get(client_id)

    def create(self, client_id: str, info: ClientInfo, now_ms: int) -> Session:
        config = self._config
        session = Session(
            client_id, info, queue_max=config.max_mqueue_len, store_qos0=config.mqueue_store_qos0, created_at=now_ms
        )
        self._sessions[client_id] = session
        return session

    def remove(self, client_id: str) -> None:
        self._sessions.pop(client_id, None)


class Registry:
    """Connected clients and all sessions. `publish_will` is called with a will that is due and whose it is."""

    def __init__(
        self,
        config: BrokerConfig,
        router: Router,
        sessions: SessionStore,
        publish_will: Callable[[Will, ClientInfo], None],
    ) -> None:
        self._config = config
        self._router = router
        self._publish_will = publish_will
        self._deadlines: Deadlines[str] = Deadlines()
        self._ends_at: dict[str, float] = {}
        self.sessions = sessions
        self.clients: dict[str, Occupant] = {}

    def expiry_interval(self, connect: Connect) -> int:
        """How long the session of this CONNECT is kept after its client left, in seconds."""
        if connect.protocol_version < 5:
            return 0 if connect.clean_start else self._config.session_expiry_interval
        asked = int((connect.properties or {}).get("session_expiry_interval", 0))
        return min(asked, self._config.max_session_expiry_interval)

    def has_room_for(self, client_id: str) -> bool:
        """Whether `client_id` may have a session: it has one already, or there is room for another."""
        return len(self.sessions) < self._config.max_sessions or self.sessions.get(client_id) is not None

    def open(self, occupant: Occupant, clean_start: bool, now_ms: int) -> tuple[Session, bool]:
        """The session for a client that was accepted, and whether it was there before.

        Whoever is connected with the same client id has to leave first [3.1.4-3].
        """
        info = occupant.info
        client_id = info.client_id
        before = self.clients.get(client_id)
        if before is not None:
            before.leave("discarded" if clean_start else "takenover", 0x8E)
        session = self.sessions.get(client_id)
        if session is not None and clean_start:
            self.end(session)
            session = None
        present = session is not None
        if session is None:
            session = self.sessions.create(client_id, info, now_ms)
        self._reopen(session)
        session.info = info
        session.disconnected_at = None
        session.expiry_interval = info.session_expiry_interval
        self.clients[client_id] = occupant
        return session, present

    def close(self, occupant: Occupant, session: Session, will: Will | None, now: float, now_ms: int) -> None:
        """The client of `session` has left, leaving `will` to be published if it left in disorder."""
        client_id = session.client_id
        if self.clients.get(client_id) is occupant:
            del self.clients[client_id]
        session.outlet = None
        session.disconnected_at = now_ms
        session.will = will
        if session.expiry_interval == 0:
            self.end(session)
            return
        delay = int((will.properties or {}).get("will_delay_interval", 0)) if will else 0
        if session.expiry_interval != NEVER:
            self._ends_at[client_id] = now + session.expiry_interval
        if will and delay == 0:
            self._fire_will(session)
        self._set_deadline(session, now + delay if will and delay else None)

    def end(self, session: Session) -> None:
        """The session is over: its subscriptions go, and a will that was still to come comes now."""
        client_id = session.client_id
        self._deadlines.cancel(client_id)
        self._ends_at.pop(client_id, None)
        self._router.remove_session(session)
        self.sessions.remove(client_id)
        self._fire_will(session)

    def check(self, now: float) -> None:
        """End the sessions and publish the wills that are due."""
        for client_id in self._deadlines.due(now):  # one by one: what raises must not take the others' deadlines along
            session = self.sessions.get(client_id)
            if session is None or session.outlet is not None:
                continue
            if self._ends_at.get(client_id, now + 1) <= now:
                self.end(session)
            else:
                self._fire_will(session)
                self._set_deadline(session, None)

    def _reopen(self, session: Session) -> None:
        """The client is back in time: no expiry, no will [3.1.3-9]."""
        self._deadlines.cancel(session.client_id)
        self._ends_at.pop(session.client_id, None)
        session.will = None

    def _set_deadline(self, session: Session, will_at: float | None) -> None:
        ends_at = self._ends_at.get(session.client_id)
        times = [when for when in (ends_at, will_at) if when is not None]
        if times:
            self._deadlines.set(session.client_id, min(times))

    def _fire_will(self, session: Session) -> None:
        will, session.will = session.will, None
        if will is not None:
            self._publish_will(will, session.info)
