"""One client and what its packets do: the events of its `Connection` meet access, sessions, the exchange and hooks.

Free of I/O: the listener gives it a `Transport` and calls `data_received`, `pause_writing`, `resume_writing` and
`connection_lost`, as asyncio's protocols are called.

When a publish is acknowledged is decided in `_publishes`: after the hook has seen it and it was routed, and then not
before the hold that the hook may have asked for is done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any, Final

from broker.access import Accepted, Credentials, Decision, Refused
from broker.codec.packets import (
    ConnAck,
    Connect,
    Disconnect,
    PubAck,
    PubComp,
    PubRec,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    Will,
)
from broker.codec.reasons import Reason, reason_word
from broker.connection import Connection
from broker.core import Core, Transport
from broker.errors import ProtocolError, ReceiveMaximumExceeded, WireError
from broker.exchange import routed_message
from broker.handshake import check_connect, client_info, connack_properties, packet_size_max
from broker.hooks import ClientConnected, ClientDisconnected, ClientInfo, MessageDropped, Properties
from broker.incoming import take_in
from broker.origin import Origin
from broker.outgoing import Outgoing
from broker.received import Event, Failed, Publishes, Reply
from broker.session import Session
from broker.subscribing import subscribe, unsubscribe

log = logging.getLogger(__name__)

_UNREAD, _HELD, _DECIDING, _STOPPING, _REFUSING = 1, 2, 4, 8, 16
"""Why a client is not read from: it does not read itself, its acknowledgements are held, its CONNECT is decided on,
the broker stops, it is about to be closed for a publish that was refused."""


class Client:
    """One connection, from its first byte to its last; connected once its CONNECT was accepted."""

    __slots__ = (
        "__weakref__", "_connect", "_connection", "_core", "_ended", "_is_opening", "_outgoing", "_pauses", "_session",
        "_stuck_at", "_stuck_bytes", "_transport", "_will", "info",
    )  # fmt: skip

    def __init__(self, core: Core, transport: Transport, origin: Origin) -> None:
        now = core.monotonic()
        self._core = core
        self._transport = transport
        wake = partial(core.unsent.append, self)
        self._connection = Connection(core.config, core.names, now, wake, self._released)
        self.info = ClientInfo("", origin=origin, protocol_version=0)
        self._connect: Connect | None = None
        self._session: Session | None = None
        self._outgoing: Outgoing | None = None
        self._will: Will | None = None
        self._ended = False
        self._is_opening = False
        """Accepted, and waiting for the session."""
        self._pauses = 0
        self._stuck_at: float | None = None
        self._stuck_bytes = 0
        core.deadlines.set(self, now + core.config.idle_timeout)

    # What the listener calls

    def data_received(self, data: bytes) -> None:
        """The peer sent `data`."""
        core = self._core
        core.stats.bytes_received += len(data)
        try:
            self._handle(self._connection.receive_data(data, core.monotonic()))
        except Exception as error:
            self.fail_inside(error)
        core.flush()

    def pause_writing(self) -> None:
        """The peer does not read as fast as it is sent to."""
        core = self._core
        self._connection.writable = False
        self._stuck_at = core.monotonic()
        self._stuck_bytes = self._transport.get_write_buffer_size()
        self._pause_reading(_UNREAD)
        if not self._ended:
            self._set_deadline()

    def resume_writing(self) -> None:
        """The peer has read what it was sent."""
        self._connection.writable = True
        self._stuck_at = None
        if self._ended:
            return
        self._resume_reading(_UNREAD)
        if self._outgoing is not None:
            self._outgoing.pump()
        self._core.flush()

    def connection_lost(self, reason: str) -> None:
        """The network connection is gone, for `reason`."""
        self._core.deadlines.cancel(self)
        if not self._ended:
            self._ended = True
            self._connection.lose()
            self._depart(reason, {})
            self._core.flush()
        self._core.on_change()

    def check(self, now: float) -> None:
        """Something may be due: CONNECT, the keep-alive interval, or unread data."""
        if self._ended:
            self._transport.abort()
        elif self._is_opening:
            self.leave("server_unavailable", Reason.SERVER_UNAVAILABLE)
        elif self._session is None:
            self.leave("idle_timeout", Reason.KEEPALIVE_TIMEOUT)
        elif self._is_stuck(now):
            self.leave("etimedout", Reason.UNSPECIFIED_ERROR)
            self._transport.abort()
        elif self._keep_alive_ends(now) <= now:
            self.leave("keepalive_timeout", Reason.KEEPALIVE_TIMEOUT)
        else:
            self._set_deadline()
        self._core.flush()

    def flush(self) -> None:
        """Hand what is to be sent to the transport."""
        data = self._connection.data_to_send()
        if data:
            self._core.stats.bytes_sent += len(data)
            self._transport.write(data)

    @property
    def held_count(self) -> int:
        """Publishes of this client that wait to be acknowledged."""
        return 0 if self._ended else self._connection.held_count

    def stop_reading(self) -> None:
        """Take nothing more from the peer: the broker is about to stop."""
        self._pause_reading(_STOPPING)

    def abort(self) -> None:
        """Close the network connection at once."""
        self._transport.abort()

    # Leaving

    def leave(self, reason: str, reason_code: int) -> None:
        """Disconnect this client for `reason`; MQTT 5 clients are told the code, all are where it answers CONNECT."""
        if self._is_opening:
            self._connection.refuse(reason_code)  # no DISCONNECT before CONNACK [MQTT-3.14.0-1]
        else:
            self._connection.disconnect(reason_code)
        self._end(reason)

    def _end(self, reason: str, properties: Properties | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        self.flush()
        self._transport.close()
        self._core.deadlines.set(self, self._core.monotonic() + self._core.config.send_timeout)
        self._depart(reason, properties or {})

    def _depart(self, reason: str, properties: Properties) -> None:
        """Tell the world and give the session back."""
        core = self._core
        core.stats.disconnects[reason] += 1
        session, self._session = self._session, None
        if session is None:
            if self._is_opening:
                self._is_opening = False
                core.registry.withdraw(self, core.monotonic(), core.now_ms())
            return
        if self._outgoing is not None:
            self._outgoing.close()
            self._outgoing = None
        now_ms = core.now_ms()
        if core.hooks.client_disconnected is not None:
            core.hooks.client_disconnected(ClientDisconnected(self.info, reason, properties, now_ms))
        core.registry.close(self, session, self._will, core.monotonic(), now_ms)

    def _fail(self, error: WireError) -> None:
        hook = self._core.hooks.message_dropped
        if isinstance(error, ReceiveMaximumExceeded) and hook is not None:
            hook(
                MessageDropped(
                    routed_message(error.publish, self.info, self._core.now_ms()), "receive_maximum_exceeded"
                )
            )
        log.info("%s (%s): %s", self.info.client_id or "?", self.info.origin.peername, error.message)
        self._connection.fail(error)
        self._end("frame_too_large" if error.reason_code == Reason.PACKET_TOO_LARGE else reason_word(error.reason_code))

    def fail_inside(self, error: Exception) -> None:
        """A bug of ours must cost one connection, never the others."""
        log.error(
            "internal error while serving %s (%s)", self.info.client_id, self.info.origin.peername, exc_info=error
        )
        self.leave("internal_error", Reason.UNSPECIFIED_ERROR)

    # Deadlines and pauses

    def _set_deadline(self) -> None:
        due = min(self._keep_alive_ends(self._core.monotonic()), self._stuck_ends())
        if due < inf:
            self._core.deadlines.set(self, due)

    def _keep_alive_ends(self, now: float) -> float:
        """When the peer must have sent something; while we do not read from it, that is not yet known."""
        connection = self._connection
        if not connection.keep_alive:
            return inf
        last = now if self._pauses else connection.last_received
        return last + connection.keep_alive * self._core.config.keepalive_multiplier

    def _stuck_ends(self) -> float:
        return inf if self._stuck_at is None else self._stuck_at + self._core.config.send_timeout

    def _is_stuck(self, now: float) -> bool:
        """Whether the peer has read nothing at all for as long as it may."""
        if self._stuck_ends() > now:
            return False
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._stuck_bytes:
            self._stuck_at, self._stuck_bytes = now, unsent
            return False
        return True

    def _pause_reading(self, why: int) -> None:
        if not self._pauses and not self._ended:
            self._transport.pause_reading()
        self._pauses |= why

    def _resume_reading(self, why: int) -> None:
        if not self._pauses:
            return
        self._pauses &= ~why
        if not self._pauses and not self._ended:
            self._connection.last_received = self._core.monotonic()
            self._transport.resume_reading()

    # Events

    def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._ended:
                return
            _HANDLERS[type(event)](self, event)

    def _on_reply(self, event: Reply) -> None:
        self._connection.send(event.packet)

    def _on_failed(self, event: Failed) -> None:
        self._fail(event.error)

    def _on_connect(self, connect: Connect) -> None:
        core = self._core
        core.stats.connects += 1
        client_id = connect.client_id or core.assign_client_id()
        expiry_interval = core.registry.expiry_interval(connect)
        self.info = client_info(
            connect,
            client_id,
            expiry_interval,
            core.config.server_keep_alive,
            self.info.origin,
            core.now_ms(),
        )
        self._connect = connect
        try:
            refusal = check_connect(connect, core.config)
        except WireError as error:
            self._fail(error)
            return
        if refusal is None and not core.registry.has_room_for(client_id):
            refusal = Reason.QUOTA_EXCEEDED
        if refusal is not None:
            self._decided(Refused(refusal))
            return
        decision = core.access.authenticate(self.info, Credentials(connect.username, connect.password))
        if isinstance(decision, (Accepted, Refused)):
            self._decided(decision)
        else:
            self._pause_reading(_DECIDING)
            core.spawn(decision, self._decided_later)

    def _decided_later(self, decision: Decision | BaseException) -> None:
        """Authentication took its time; the client may have left meanwhile."""
        if self._ended:
            return
        try:
            if isinstance(decision, BaseException):
                log.error("authentication of %s failed", self.info.client_id, exc_info=decision)
                decision = Refused(Reason.SERVER_UNAVAILABLE)
            self._decided(decision)
            if not self._is_opening:
                self._resume_reading(_DECIDING)
        except Exception as error:
            self.fail_inside(error)
        self._core.flush()

    def _decided(self, decision: Decision) -> None:
        if isinstance(decision, Refused):
            self._core.stats.connects_refused += 1
            self._connection.refuse(decision.reason_code)
            self._end(reason_word(decision.reason_code))
            return
        self.info.attributes = decision.attributes
        self.info.bypasses_acl = decision.bypasses_acl
        self._accept()

    def _accept(self) -> None:
        """Have the session opened; what the client sends meanwhile waits."""
        core, connect, connection, info = self._core, self._connect, self._connection, self.info
        assert connect is not None
        properties, size_max = connack_properties(connect, info, core.config), packet_size_max(connect)
        if len(ConnAck(False, 0, properties).encode(info.protocol_version)) > size_max:
            connection.packet_size_max = size_max
            self._decided(Refused(Reason.PACKET_TOO_LARGE))  # nothing may be sent before CONNACK [3.2.0-1]
            return
        self._is_opening = True
        core.registry.open(self, connect.clean_start)
        if self._is_opening:  # the store, or a session that is being closed, takes its time
            self._pause_reading(_DECIDING)
            core.deadlines.set(self, core.monotonic() + core.config.idle_timeout)

    def opened(self, session: Session, present: bool) -> None:
        """The session is there, at once or after a while."""
        try:
            self._is_opening = False
            self._enter(session, present)
            self._resume_reading(_DECIDING)
        except Exception as error:
            self.fail_inside(error)
        self._core.flush()

    def open_failed(self, error: BaseException) -> None:
        """The session could not be opened."""
        log.error("session of %s could not be opened", self.info.client_id, exc_info=error)
        self._decided(Refused(Reason.SERVER_UNAVAILABLE))
        self._core.flush()

    def _enter(self, session: Session, present: bool) -> None:
        """Send CONNACK, then what was in flight, then go on with what the client has sent since its CONNECT."""
        core, connect, connection, info = self._core, self._connect, self._connection, self.info
        assert connect is not None
        self._session = session
        self._will = connect.will
        acknowledgement = ConnAck(present, 0, connack_properties(connect, info, core.config))
        events = connection.accept(session.received, acknowledgement, info.keep_alive, packet_size_max(connect))
        session.start_sending(connection, min(info.receive_maximum, core.config.max_inflight))
        core.deadlines.cancel(self)
        self._set_deadline()
        if core.hooks.client_connected is not None:
            core.hooks.client_connected(ClientConnected(info, present, connect.properties or {}))
        self._outgoing = Outgoing(core, connection, session, self.flush)
        self._outgoing.pump()
        self._handle(events)

    def _on_disconnect(self, packet: Disconnect) -> None:
        session = self._session
        assert session is not None
        properties = packet.properties or {}
        interval = properties.get("session_expiry_interval")
        if interval is not None:
            if session.expiry_interval == 0 and interval:
                self._fail(ProtocolError("a session that ends with its connection cannot be prolonged"))
                return
            session.change_expiry(min(interval, self._core.config.max_session_expiry_interval))
        if packet.reason_code == Reason.SUCCESS:
            self._will = None  # [3.14.4-3]
        self._connection.close()
        self._end(reason_word(packet.reason_code) if packet.reason_code else "normal", properties)

    # Publishes of this client

    def _on_publishes(self, batch: Publishes) -> None:
        core = self._core
        if self._connection.is_refusing:
            return  # what follows a refused publish comes again, behind it
        receipt = take_in(core, self.info, batch.fresh, core.now_ms())
        self._connection.acknowledge(batch, receipt)
        self._after_acknowledging()

    def _released(self) -> None:
        """A hold is done: called by its owner, who must not be troubled with our failures."""
        try:
            self._connection.release()
            if not self._ended:
                self._after_acknowledging()
        except Exception as error:
            self.fail_inside(error)
        if not self._ended:
            self._core.flush()
        self._core.on_change()

    def _after_acknowledging(self) -> None:
        connection = self._connection
        if connection.refusal is not None:
            self._end(reason_word(connection.refusal))
        elif connection.is_refusing:
            self._pause_reading(_REFUSING)
        elif connection.held_share() >= 1:
            self._pause_reading(_HELD)
        elif self._pauses & _HELD and connection.held_share() <= 0.5:
            self._resume_reading(_HELD)

    # Messages for this client

    def _on_puback(self, packet: PubAck) -> None:
        assert self._outgoing is not None
        self._outgoing.acknowledge(packet)

    def _on_pubrec(self, packet: PubRec) -> None:
        assert self._outgoing is not None
        self._outgoing.receive(packet)

    def _on_pubcomp(self, packet: PubComp) -> None:
        assert self._outgoing is not None
        self._outgoing.complete(packet)

    # Subscriptions

    def _on_subscribe(self, packet: Subscribe) -> None:
        assert self._session is not None
        assert self._outgoing is not None
        try:
            codes, with_retained = subscribe(self._core, self._session, packet)
        except WireError as error:
            self._fail(error)
            return
        self._connection.send(SubAck(packet.packet_id, codes))
        if with_retained:
            self._outgoing.replay(with_retained)

    def _on_unsubscribe(self, packet: Unsubscribe) -> None:
        assert self._session is not None
        self._connection.send(UnsubAck(packet.packet_id, unsubscribe(self._core, self._session, packet)))


_HANDLERS: Final[dict[type, Callable[[Client, Any], None]]] = {
    Publishes: Client._on_publishes,
    Reply: Client._on_reply,
    PubAck: Client._on_puback,
    PubRec: Client._on_pubrec,
    PubComp: Client._on_pubcomp,
    Subscribe: Client._on_subscribe,
    Unsubscribe: Client._on_unsubscribe,
    Connect: Client._on_connect,
    Disconnect: Client._on_disconnect,
    Failed: Client._on_failed,
}
