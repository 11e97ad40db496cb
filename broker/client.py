"""One client and what its packets do: the events of its `Connection` meet access, sessions, the exchange and hooks.

Free of I/O: the listener gives it a `Transport` and calls `data_received`, `pause_writing`, `resume_writing` and
`connection_lost`, as asyncio's protocols are called.

When a publish is acknowledged is decided in `_publishes`: after the hook has seen it and it was routed, and then not
before the hold that the hook may have asked for is done.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, Final, Protocol

from msgspec.structs import replace

from broker.access import Accepted, Access, Credentials, Decision, Refused
from broker.codec.packets import (
    ConnAck,
    Connect,
    Disconnect,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    Subscription,
    UnsubAck,
    Unsubscribe,
    Will,
)
from broker.codec.reasons import Reason, reason_word
from broker.config import BrokerConfig
from broker.connection import Connection, Event, Failed, Phase, Publishes
from broker.deadlines import Deadlines
from broker.errors import ProtocolError, WireError
from broker.exchange import Exchange, outgoing_publish
from broker.handshake import check_connect, client_info, connack_properties, packet_size_max
from broker.hooks import (
    ClientConnected,
    ClientDisconnected,
    ClientInfo,
    Hold,
    Hooks,
    MessageAcked,
    Properties,
    SessionSubscribed,
    SessionUnsubscribed,
)
from broker.registry import Registry
from broker.retained import RetainedStore
from broker.router import Router
from broker.session import Delivery, Session, Subscribed
from broker.stats import Stats
from broker.subscribing import check_subscription, wants_retained
from broker.topics import TopicNames

log = logging.getLogger(__name__)

_FLUSH_BYTES = 64 * 1024
"""What is sent from queues goes to the transport in pieces of this size, so that a full buffer is noticed in time."""

_UNREAD, _HELD, _DECIDING = 1, 2, 4
"""Why a client is not read from: it does not read itself, its acknowledgements are held, its CONNECT is decided on."""


class Transport(Protocol):
    """The part of asyncio's transports that a client needs."""

    def write(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...


@dataclass(slots=True, eq=False)
class Core:
    """The parts of a broker that all its clients share."""

    config: BrokerConfig
    hooks: Hooks
    access: Access
    router: Router
    exchange: Exchange
    registry: Registry
    retained: RetainedStore
    stats: Stats
    names: TopicNames
    now_ms: Callable[[], int]
    monotonic: Callable[[], float]
    spawn: Callable[[Awaitable[Any], Callable[[Any], None]], None]
    """Wait for something on behalf of a client and call back with its result, or with its exception."""
    assign_client_id: Callable[[], str]
    on_change: Callable[[], None]
    """Called when a hold was released or a connection has gone, for who waits for calm."""
    deadlines: Deadlines[Client] = field(default_factory=Deadlines)
    unsent: list[Client] = field(default_factory=list)
    """Clients with something to send, until the end of the read that caused it."""

    def flush(self) -> None:
        """Send what has gathered."""
        unsent = self.unsent
        while unsent:
            unsent.pop().flush()


class Client:
    """One connection, from its first byte to its last; connected once its CONNECT was accepted."""

    __slots__ = (
        "__weakref__", "_connect", "_connection", "_core", "_ended", "_last_hold", "_pauses", "_replay", "_resends",
        "_session", "_size", "_stuck_at", "_stuck_bytes", "_transport", "_unflushed", "_will", "info",
    )  # fmt: skip

    def __init__(self, core: Core, transport: Transport, peername: str, sockname: str) -> None:
        now = core.monotonic()
        self._core = core
        self._transport = transport
        self._connection = Connection(core.config, core.names, now, partial(core.unsent.append, self))
        self.info = ClientInfo("", peername=peername, sockname=sockname, protocol_version=0)
        self._connect: Connect | None = None
        self._session: Session | None = None
        self._will: Will | None = None
        self._replay: deque[Delivery] = deque()
        """Retained messages that a subscription brought and that have not been sent yet."""
        self._resends: deque[int] = deque()
        """Packet ids in flight from an earlier connection that have not been sent again yet."""
        self._ended = False
        self._last_hold: Hold | None = None
        self._size = 0
        self._unflushed = 0
        self._pauses = 0
        self._stuck_at: float | None = None
        self._stuck_bytes = 0
        core.deadlines.set(self, now + core.config.idle_timeout)

    # What the listener calls

    def data_received(self, data: bytes) -> None:
        """The peer sent `data`."""
        core = self._core
        core.stats.bytes_received += len(data)
        self._size = len(data)
        try:
            self._handle(self._connection.receive_data(data, core.monotonic()))
        except Exception as error:
            self._fail_inside(error)
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
        self._pump()
        self._core.flush()

    def connection_lost(self, reason: str) -> None:
        """The network connection is gone, for `reason`."""
        self._core.deadlines.cancel(self)
        if not self._ended:
            self._ended = True
            self._connection.phase = Phase.CLOSED
            self._depart(reason, {})
            self._core.flush()
        self._core.on_change()

    def check(self, now: float) -> None:
        """Something may be due: CONNECT, the keep-alive interval, or unread data."""
        if self._ended:
            self._transport.abort()
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

    def abort(self) -> None:
        """Close the network connection at once."""
        self._transport.abort()

    # Leaving

    def leave(self, reason: str, reason_code: int) -> None:
        """Disconnect this client for `reason`; MQTT 5 clients are told the code."""
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
            return
        for delivery in self._replay:
            if delivery.qos:
                core.exchange.keep(session, delivery)
        now_ms = core.now_ms()
        if core.hooks.client_disconnected is not None:
            core.hooks.client_disconnected(ClientDisconnected(self.info, reason, properties, now_ms))
        core.registry.close(self, session, self._will, core.monotonic(), now_ms)

    def _fail(self, error: WireError) -> None:
        log.info("%s (%s): %s", self.info.client_id or "?", self.info.peername, error.message)
        self._connection.fail(error)
        self._end("frame_too_large" if error.reason_code == Reason.PACKET_TOO_LARGE else reason_word(error.reason_code))

    def _fail_inside(self, error: Exception) -> None:
        """A bug of ours must cost one connection, never the others."""
        log.error("internal error while serving %s (%s)", self.info.client_id, self.info.peername, exc_info=error)
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

    def _on_failed(self, event: Failed) -> None:
        self._fail(event.error)

    def _on_connect(self, connect: Connect) -> None:
        core = self._core
        core.stats.connects += 1
        client_id = connect.client_id or core.assign_client_id()
        expiry_interval = core.registry.expiry_interval(connect)
        peername, sockname = self.info.peername or "", self.info.sockname or ""
        self.info = client_info(connect, client_id, expiry_interval, peername, sockname, core.now_ms())
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
            self._resume_reading(_DECIDING)
        except Exception as error:
            self._fail_inside(error)
        self._core.flush()

    def _decided(self, decision: Decision) -> None:
        if isinstance(decision, Refused):
            self._core.stats.connects_refused += 1
            self._connection.refuse(decision.reason_code)
            self._end(reason_word(decision.reason_code))
            return
        self.info.attributes = decision.attributes
        self.info.superuser = decision.superuser
        self._accept()

    def _accept(self) -> None:
        """Open the session, say so, send again what was in flight, then go on with what the client has sent since."""
        core, connect, connection, info = self._core, self._connect, self._connection, self.info
        assert connect is not None
        session, present = core.registry.open(self, connect.clean_start, core.now_ms())
        self._session = session
        self._will = connect.will
        keep_alive = connect.keep_alive if core.config.server_keep_alive is None else core.config.server_keep_alive
        acknowledgement = ConnAck(present, 0, connack_properties(connect, info, core.config))
        events = connection.accept(session, acknowledgement, keep_alive, packet_size_max(connect))
        session.window = min(info.receive_maximum, core.config.max_inflight)
        session.outlet = connection
        core.deadlines.cancel(self)
        self._set_deadline()
        if core.hooks.client_connected is not None:
            core.hooks.client_connected(ClientConnected(info, present))
        self._resends.extend(session.in_flight)
        self._pump()
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
            session.expiry_interval = min(interval, self._core.config.max_session_expiry_interval)
        if packet.reason_code == Reason.SUCCESS:
            self._will = None  # [3.14.4-3]
        self._connection.phase = Phase.CLOSED
        self._end(reason_word(packet.reason_code) if packet.reason_code else "normal", properties)

    # Publishes of this client

    def _on_publishes(self, batch: Publishes) -> None:
        core = self._core
        now_ms = core.now_ms()
        fresh = batch.fresh
        core.stats.messages_received += len(fresh)
        if not self.info.superuser:
            hold, codes = self._publish_some(fresh, now_ms)
        else:
            hook = core.hooks.published
            verdict = hook(self.info, fresh, now_ms) if hook is not None and fresh else None
            if verdict is None:
                hold, codes = None, core.exchange.publish(fresh, self.info, now_ms)
            elif not verdict.refused:
                hold, codes = verdict.hold, core.exchange.publish(fresh, self.info, now_ms)
            else:
                codes = bytearray(len(fresh))
                hold = verdict.hold
                self._route_accepted(fresh, range(len(fresh)), codes, verdict.refused, now_ms)
        self._connection.acknowledge(batch, codes, hold, self._size)
        if hold is not None and hold is not self._last_hold and not hold.done:
            self._last_hold = hold
            hold.add_done_callback(self._released)
        self._after_acknowledging()

    def _publish_some(self, fresh: list[Publish], now_ms: int) -> tuple[Hold | None, bytearray]:
        """Publish what this client is allowed to. What it is not counts as done in MQTT 3, which cannot say no."""
        core, info = self._core, self.info
        codes = bytearray(len(fresh))
        allowed = []
        for index, publish in enumerate(fresh):
            if core.access.may_publish(info, publish.topic, publish.qos, publish.retain):
                allowed.append(index)
            else:
                core.stats.messages_refused += 1
                codes[index] = Reason.NOT_AUTHORIZED if info.protocol_version == 5 else 0
        hook = core.hooks.published
        verdict = hook(info, [fresh[index] for index in allowed], now_ms) if hook is not None and allowed else None
        refused = (verdict.refused if verdict else None) or {}
        self._route_accepted(fresh, allowed, codes, refused, now_ms)
        return verdict.hold if verdict else None, codes

    def _route_accepted(
        self, fresh: list[Publish], offered: Sequence[int], codes: bytearray, refused: Mapping[int, int], now_ms: int
    ) -> None:
        """Route what the hook was offered and did not refuse, and note the reason codes of all of it.

        MQTT 3 clients send everything from a refused publish on again, so none of that is routed now.
        """
        accepted = []
        sent_again = False
        for position, index in enumerate(offered):
            code = refused.get(position)
            if code is not None:
                self._core.stats.messages_refused += 1
                codes[index] = code
                sent_again |= self.info.protocol_version < 5 and fresh[index].qos > 0
            elif not (sent_again and fresh[index].qos):
                accepted.append(index)
        routed = self._core.exchange.publish([fresh[index] for index in accepted], self.info, now_ms)
        for index, code in zip(accepted, routed, strict=True):
            codes[index] = code

    def _released(self) -> None:
        """A hold is done."""
        self._last_hold = None
        self._connection.release()
        if not self._ended:
            self._after_acknowledging()
            self._core.flush()
        self._core.on_change()

    def _after_acknowledging(self) -> None:
        connection, config = self._connection, self._core.config
        if connection.refusal is not None:
            self._end(reason_word(connection.refusal))
        elif connection.held_count >= config.receive_maximum or connection.held_bytes >= config.max_held_bytes:
            self._pause_reading(_HELD)
        elif self._pauses & _HELD and connection.held_count <= config.receive_maximum // 2:
            self._resume_reading(_HELD)

    # Messages for this client

    def _on_puback(self, packet: PubAck) -> None:
        assert self._session is not None
        delivery = self._session.acknowledge(packet.packet_id)
        if delivery is not None:
            self._acked(delivery, packet.properties)
            self._pump()

    def _on_pubrec(self, packet: PubRec) -> None:
        assert self._session is not None
        refused = packet.reason_code >= 0x80
        known, delivery = self._session.receive(packet.packet_id, refused=refused)
        if delivery is not None:
            self._acked(delivery, packet.properties)
        if not known:
            self._connection.send(PubRel(packet.packet_id, Reason.PACKET_IDENTIFIER_NOT_FOUND))
        elif refused:
            self._pump()
        else:
            self._connection.send(PubRel(packet.packet_id))

    def _on_pubcomp(self, packet: PubComp) -> None:
        assert self._session is not None
        if self._session.complete(packet.packet_id):
            self._pump()

    def _acked(self, delivery: Delivery, properties: Properties | None) -> None:
        core = self._core
        core.stats.messages_acked += 1
        if core.hooks.message_acked is not None:
            core.hooks.message_acked(MessageAcked(self.info, delivery.message, properties or {}))

    def _pump(self) -> None:
        """Send what waits, as far as window and send buffer allow: first what was in flight, then the queues."""
        session = self._session
        if session is None:
            return
        if self._resends:
            self._resend(session)
        core = self._core
        while self._connection.writable:
            delivery = session.next_delivery() or self._next_replay(session)
            if delivery is None:
                return
            now_ms = core.now_ms()
            expires_at = delivery.message.expires_at()
            if expires_at is not None and expires_at <= now_ms:
                core.exchange.drop(session, delivery, "expired")
                continue
            core.exchange.send_waiting(session, delivery, now_ms)
            self._unflushed += len(delivery.message.payload)
            if self._unflushed > _FLUSH_BYTES:
                self._unflushed = 0
                self.flush()

    def _next_replay(self, session: Session) -> Delivery | None:
        replay = self._replay
        if not replay or (replay[0].qos and len(session.in_flight) >= session.window):
            return None
        return replay.popleft()

    def _resend(self, session: Session) -> None:
        """Send again, in the original order, what is in flight [4.4.0-1], no more than the window allows."""
        resends, in_flight = self._resends, session.in_flight
        now_ms = self._core.now_ms()
        while resends and len(in_flight) - len(resends) < session.window:
            packet_id = resends.popleft()
            delivery = in_flight.get(packet_id)
            if delivery is not None:
                outgoing = outgoing_publish(delivery.message, now_ms)
                self._connection.resend_publish(outgoing, delivery, packet_id)
            elif packet_id in in_flight:
                self._connection.send(PubRel(packet_id))

    # Subscriptions

    def _on_subscribe(self, packet: Subscribe) -> None:
        assert self._session is not None
        identifiers = (packet.properties or {}).get("subscription_identifier")
        identifier = identifiers[0] if identifiers else None
        codes = []
        replays: list[Subscribed] = []
        for subscription in packet.subscriptions:
            try:
                codes.append(self._subscribe(self._session, subscription, identifier, packet, replays))
            except WireError as error:
                self._fail(error)
                return
        self._connection.send(SubAck(packet.packet_id, codes))
        for subscribed in replays:
            self._replay_retained(subscribed)
        self._pump()

    def _subscribe(
        self, session: Session, subscription: Subscription, identifier: int | None, packet: Subscribe,
        replays: list[Subscribed],
    ) -> int:  # fmt: skip
        """Take one subscription; returns its reason code. Its retained messages are left in `replays` to be sent."""
        core, info = self._core, self.info
        refusal = check_subscription(subscription, session, info, core.config, core.access)
        if refusal is not None:
            return refusal
        if info.is_bridge:
            subscription = replace(subscription, no_local=True, retain_as_published=True)
        subscribed = Subscribed(subscription, identifier)
        is_new = core.router.subscribe(session, subscribed)
        if core.hooks.session_subscribed is not None:
            properties = packet.properties or {}
            core.hooks.session_subscribed(
                SessionSubscribed(info, subscription.topic_filter, subscription.qos, properties)
            )
        if wants_retained(subscription, is_new):
            replays.append(subscribed)
        return subscription.qos

    def _replay_retained(self, subscribed: Subscribed) -> None:
        subscription = subscribed.subscription
        identifiers = () if subscribed.identifier is None else (subscribed.identifier,)
        for message in self._core.retained.match(subscription.topic_filter, self._core.now_ms()):
            self._replay.append(Delivery(message, min(message.qos, subscription.qos), True, identifiers))

    def _on_unsubscribe(self, packet: Unsubscribe) -> None:
        session, core = self._session, self._core
        assert session is not None
        codes = []
        for topic_filter in packet.topic_filters:
            subscribed = session.subscriptions.get(topic_filter)
            if subscribed is None:
                codes.append(Reason.NO_SUBSCRIPTION_EXISTED)
                continue
            core.router.unsubscribe(session, topic_filter)
            codes.append(Reason.SUCCESS)
            if core.hooks.session_unsubscribed is not None:
                qos = subscribed.subscription.qos
                properties = packet.properties or {}
                core.hooks.session_unsubscribed(SessionUnsubscribed(self.info, topic_filter, qos, properties))
        self._connection.send(UnsubAck(packet.packet_id, [int(code) for code in codes]))


_HANDLERS: Final[dict[type, Callable[[Client, Any], None]]] = {
    Publishes: Client._on_publishes,
    PubAck: Client._on_puback,
    PubRec: Client._on_pubrec,
    PubComp: Client._on_pubcomp,
    Subscribe: Client._on_subscribe,
    Unsubscribe: Client._on_unsubscribe,
    Connect: Client._on_connect,
    Disconnect: Client._on_disconnect,
    Failed: Client._on_failed,
}
