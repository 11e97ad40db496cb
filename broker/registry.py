"""Connected clients and sessions by client id: opening, takeover, closing, expiry and wills. MQTT 5.0 section 4.1.

The opening of a session, from the decision to accept its client to CONNACK:

    open() ── takeover ──> waiting ──> loading ──> opened ──> flushing ──> the client is told
                              │           │                      │
                              └───────────┴──────────────────────┴──> the client leaves, or is taken over: forgotten

Each step that the store answers at once takes no time: with sessions in memory `open` does all of them before it
returns, without a task. Invariants:

- For each client id there is at most one opening, that of the newest client; an older one is refused (0x88).
- An opening waits while the store works for its client id (load, flush, remove), so these never overlap a later load.
- Nothing of a session changes before it is loaded and its client is still there. A client that leaves after that has
  left an opened session, without a will, since its CONNECT was never acknowledged.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from broker.codec.packets import Connect, Will
from broker.codec.reasons import Reason
from broker.config import BrokerConfig
from broker.containment import take_all_steps
from broker.expiry import SessionDeadlines
from broker.hooks import ClientInfo
from broker.router import Router
from broker.session import Session
from broker.store import SessionStore

log = logging.getLogger(__name__)

Spawn = Callable[[Awaitable[Any], Callable[[Any], None]], object]
"""Starts waiting for something; calls back with its result, or with its exception."""


class Occupant(Protocol):
    """A client that has, or waits for, the session of its client id."""

    info: ClientInfo

    def opened(self, session: Session, present: bool) -> None:
        """The session is open; `present`: it was there before. Called before `Registry.open` returns, or later."""

    def open_failed(self, error: BaseException) -> None:
        """The store failed; the client has no session and has to be refused."""

    def leave(self, reason: str, reason_code: int) -> None:
        """Disconnect now, for `reason`; the client has called `Registry.close` or `withdraw` when this returns."""


class _Opening:
    __slots__ = ("clean_start", "is_waiting", "occupant", "present", "session")

    def __init__(self, occupant: Occupant, clean_start: bool) -> None:
        self.occupant = occupant
        self.clean_start = clean_start
        self.is_waiting = True
        self.session: Session | None = None
        self.present = False


class Registry:
    """Connected clients and all sessions. `publish_will` publishes a will that is due, for the client it is of."""

    def __init__(
        self,
        config: BrokerConfig,
        router: Router,
        sessions: SessionStore,
        publish_will: Callable[[Will, ClientInfo], None],
        spawn: Spawn,
        on_change: Callable[[], None],
    ) -> None:
        self._config = config
        self._router = router
        self._publish_will = publish_will
        self._spawn = spawn
        self._on_change = on_change
        self._deadlines = SessionDeadlines()
        self._openings: dict[str, _Opening] = {}
        self._store_work: dict[str, int] = {}
        """Answers that the store owes, by client id."""
        self.sessions = sessions
        self.clients: dict[str, Occupant] = {}

    @property
    def is_settled(self) -> bool:
        """Whether the store owes no answer."""
        return not self._store_work

    def expiry_interval(self, connect: Connect) -> int:
        """Return how long the session of this CONNECT is kept after its client has left, in seconds."""
        if connect.protocol_version < 5:
            return 0 if connect.clean_start else self._config.session_expiry_interval
        asked = int((connect.properties or {}).get("session_expiry_interval", 0))
        return min(asked, self._config.max_session_expiry_interval)

    def has_room_for(self, client_id: str) -> bool:
        """Return whether `client_id` may have a session: it has one already, or there is room for another."""
        count = len(self.sessions) + len(self._openings)  # an opening may become a session that is not there yet
        return count < self._config.max_sessions or client_id in self.sessions

    def open(self, occupant: Occupant, clean_start: bool) -> None:
        """Open the session of a client that was accepted; `occupant` is told the outcome, now or later.

        A client that is connected, or waits, with the same client id has to leave first [MQTT-3.1.4-3].
        """
        client_id = occupant.info.client_id
        self.disconnect(client_id, "discarded" if clean_start else "takenover", Reason.SESSION_TAKEN_OVER)
        opening = self._openings[client_id] = _Opening(occupant, clean_start)
        if client_id not in self._store_work:
            self._load(opening)

    def withdraw(self, occupant: Occupant, now: float, now_ms: int) -> None:
        """Forget the opening of a client that has left before it was told the outcome."""
        client_id = occupant.info.client_id
        opening = self._openings.get(client_id)
        if opening is not None and opening.occupant is occupant:
            del self._openings[client_id]
            session = opening.session
        else:  # it was told, and has failed at the first step
            session = self.sessions.get(client_id) if self.clients.get(client_id) is occupant else None
        if session is not None:
            self.close(occupant, session, None, now, now_ms)

    def disconnect(self, client_id: str, reason: str, reason_code: int) -> bool:
        """Make the client leave that is connected, or waits for its session; return False when there is none."""
        opening = self._openings.get(client_id)
        occupant = self.clients.get(client_id) if opening is None else opening.occupant
        if occupant is None:
            return False
        occupant.leave(reason, reason_code)
        return True

    def close(self, occupant: Occupant, session: Session, will: Will | None, now: float, now_ms: int) -> None:
        """Take back the session of a client that has left; `will` is set unless it has disconnected in order."""
        client_id = session.key
        if self.clients.get(client_id) is occupant:
            del self.clients[client_id]
        take_all_steps(
            session.info,
            lambda: session.detach(will, now_ms),
            lambda: self.end(session) if session.expiry_interval == 0 else self._keep(session, will, now),
        )

    def _keep(self, session: Session, will: Will | None, now: float) -> None:
        """Keep the session of a client that has left, until it expires."""
        delay = int((will.properties or {}).get("will_delay_interval", 0)) if will else 0
        self._deadlines.start(session.key, now, session.expiry_interval, delay)
        if will and delay == 0:
            self._fire_will(session)
        self._write("write", session.key, partial(self.sessions.flush, session))

    def end(self, session: Session) -> None:
        """End a session: remove its subscriptions, and publish a will that is still pending [MQTT-3.1.2-8]."""
        client_id = session.key
        take_all_steps(
            session.info,
            lambda: self._deadlines.cancel(client_id),
            lambda: self._router.unsubscribe_all(session, list(session.subscriptions)),
            lambda: self._write("remove", client_id, partial(self.sessions.remove, client_id)),
            lambda: self._fire_will(session),
        )

    def check(self, now: float) -> None:
        """End the sessions and publish the wills that are due."""
        for client_id, has_ended in self._deadlines.due(now):
            session = self.sessions.get(client_id)
            if session is None:
                continue
            if has_ended:
                self.end(session)
            else:
                self._fire_will(session)

    # Opening, step by step

    def _load(self, opening: _Opening) -> None:
        opening.is_waiting = False
        client_id = opening.occupant.info.client_id
        try:
            loaded = self.sessions.load(client_id)
            if loaded is None or isinstance(loaded, Session):
                self._enter(opening, loaded)
            else:
                self._wait_for(client_id, loaded, partial(self._loaded, opening))
        except Exception as error:
            self._fail(opening, error)

    def _loaded(self, opening: _Opening, result: Session | BaseException | None) -> None:
        if isinstance(result, BaseException):
            self._fail(opening, result)
        elif self._is_current(opening):
            try:
                self._enter(opening, result)
            except Exception as error:
                self._fail(opening, error)

    def _enter(self, opening: _Opening, session: Session | None) -> None:
        """Give the client the session that was loaded, or a new one."""
        info = opening.occupant.info
        if session is not None and opening.clean_start:
            self.end(session)
            session = None
        opening.present = session is not None
        if session is None:
            session = self.sessions.create(info)
        self._deadlines.cancel(session.key)
        session.attach(info)
        opening.session = session
        flushing = self.sessions.flush(session)
        if flushing is None:
            self._finish(opening, session)
        else:
            self._wait_for(session.key, flushing, partial(self._flushed, opening, session))

    def _flushed(self, opening: _Opening, session: Session, result: BaseException | None) -> None:
        if isinstance(result, BaseException):
            self._fail(opening, result)
        elif self._is_current(opening):
            self._finish(opening, session)

    def _finish(self, opening: _Opening, session: Session) -> None:
        del self._openings[session.key]
        self.clients[session.key] = opening.occupant
        opening.occupant.opened(session, opening.present)

    def _fail(self, opening: _Opening, error: BaseException) -> None:
        if self._is_current(opening):
            opening.occupant.open_failed(error)
        else:
            _log_failure("open", opening.occupant.info.client_id, error)

    def _is_current(self, opening: _Opening) -> bool:
        """Whether the client of `opening` is still there and was not taken over."""
        return self._openings.get(opening.occupant.info.client_id) is opening

    # Answers of the store

    def _write(self, verb: str, client_id: str, write: Callable[[], Awaitable[None] | None]) -> None:
        """Have the store write or remove a session that no client waits for; a failure is logged."""
        try:
            work = write()
        except Exception as error:
            _log_failure(verb, client_id, error)
            return
        if work is not None:
            self._wait_for(client_id, work, partial(_log_failure, verb, client_id))

    def _wait_for(self, client_id: str, work: Awaitable[Any], done: Callable[[Any], None]) -> None:
        self._store_work[client_id] = self._store_work.get(client_id, 0) + 1
        self._spawn(work, partial(self._answered, client_id, done))

    def _answered(self, client_id: str, done: Callable[[Any], None], result: Any) -> None:
        self._store_work[client_id] -= 1
        if not self._store_work[client_id]:
            del self._store_work[client_id]
        done(result)
        opening = self._openings.get(client_id)
        if opening is not None and opening.is_waiting and client_id not in self._store_work:
            self._load(opening)
        self._on_change()

    def _fire_will(self, session: Session) -> None:
        """Publish the pending will. Its client has gone: a failure must not reach whoever comes next."""
        will = session.take_will()
        if will is not None:
            take_all_steps(session.info, lambda: self._publish_will(will, session.info))


def _log_failure(verb: str, client_id: str, result: BaseException | None) -> None:
    """Log that the store could not `verb` a session, if `result` is an exception."""
    if isinstance(result, BaseException):
        log.error("session store failed to %s the session of %s", verb, client_id, exc_info=result)
