"""One client, from the first byte of its connection to the last: bytes become packets, and each is served in its turn.

Free of I/O: the listener gives it a `Transport` and calls `data_received`, `pause_writing`, `resume_writing` and
`connection_lost`, as asyncio's protocols are called.

`broker.connecting` decides on the CONNECT, `broker.connected` serves the packets behind it. A packet that needs a
permission which has to be asked elsewhere pauses the client: everything behind it waits (`_Paused`), bytes that are not
parsed yet included, since what they mean depends on what is in front of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import inf

from msgspec import Struct

from broker.access import Decision, Refused
from broker.asking import Answers, ask_all
from broker.codec.packets import Connect, Disconnect
from broker.codec.reasons import Reason, reason_word
from broker.connected import HANDLERS, Connected, Departure, Question
from broker.connecting import Connecting
from broker.connection import Connection
from broker.containment import log_internal_error, take_all_steps
from broker.core import Core, Transport, Work
from broker.errors import ReceiveMaximumExceeded, WireError
from broker.exchange import routed_message
from broker.hooks import ClientConnected, ClientDisconnected, ClientInfo, MessageDropped, Properties
from broker.liveness import Liveness
from broker.origin import Origin
from broker.readgate import ASKING, DECIDING, STOPPING, UNREAD, ReadGate
from broker.received import Event, Failed
from broker.session import Session

log = logging.getLogger(__name__)


class _Paused(Struct):
    """The input that waits behind a question: events of the same read, and data that was received later."""

    question: Question
    events: list[Event]
    data: list[bytes]

    def says_disconnect(self, connection: Connection) -> bool:
        """Return whether a DISCONNECT is in it."""
        while self.data:
            self.events += connection.receive_data(self.data.pop(0), connection.last_received)
        return any(isinstance(event, Disconnect) for event in self.events)


class Client:
    """One network connection and the client behind it. `info` is complete once its CONNECT was received."""

    __slots__ = (
        "__weakref__", "_connected", "_connection", "_core", "_ended", "_gate", "_is_lost", "_liveness",
        "_opening", "_paused", "_transport", "_work", "info",
    )  # fmt: skip

    def __init__(self, core: Core, transport: Transport, origin: Origin) -> None:
        now = core.monotonic()
        self._core = core
        self._transport = transport
        wake = partial(core.unsent.append, self)
        self._connection = Connection(core.config, core.names, now, wake, self._released)
        self._gate = ReadGate(transport)
        self._liveness = Liveness(core.config, self._connection, self._gate, transport)
        self.info = ClientInfo("", origin=origin, protocol_version=0)
        self._opening: Connecting | None = None
        """The accepted CONNECT, while its session is being opened."""
        self._connected: Connected | None = None
        self._paused: _Paused | None = None
        self._work: Work | None = None
        """The task of an authentication or of a question."""
        self._ended = False
        self._is_lost = False
        core.deadlines.set(self, now + core.config.idle_timeout)

    # What the listener calls

    def data_received(self, data: bytes) -> None:
        """Serve the packets in `data`, or keep it while a question is open."""
        core = self._core
        core.stats.bytes_received += len(data)
        try:
            if self._paused is None:
                self._serve(self._connection.receive_data(data, core.monotonic()))
            else:
                self._paused.data.append(data)
        except Exception as error:
            self.fail_inside(error)
        core.flush()

    def pause_writing(self) -> None:
        """Stop sending and reading: the send buffer is full."""
        self._connection.writable = False
        self._liveness.stall(self._core.monotonic())
        self._gate.pause(UNREAD)
        if not self._ended:
            self._set_deadline()

    def resume_writing(self) -> None:
        """Send and read again: the peer has read most of the send buffer."""
        self._connection.writable = True
        self._liveness.unstall()
        if self._ended:
            return
        try:
            self._gate.resume(UNREAD, self._core.monotonic())
            if self._connected is not None:
                self._connected.outgoing.pump()
        except Exception as error:
            self.fail_inside(error)
        self._core.flush()

    def connection_lost(self, reason: str) -> None:
        """End the client after its network connection was closed, for `reason`.

        Packets that wait for a permission are served if a DISCONNECT is behind them, and discarded otherwise.
        """
        self._is_lost = True
        self._gate.close()
        self._core.deadlines.cancel(self)
        try:
            if self._paused is None or not self._paused.says_disconnect(self._connection):
                self._connection.lose()
                self._end(reason)
        except Exception as error:
            self.fail_inside(error)
        if self._ended:
            self._connection.detach()
        self._core.flush()
        self._core.on_change()

    def check(self, now: float) -> None:
        """Check the time-outs: CONNECT, opening the session, keep-alive, and a send buffer that is not read."""
        if self._ended:
            self._transport.abort()
        elif self._opening is not None:
            self.leave("server_unavailable", Reason.SERVER_UNAVAILABLE)
        elif self._connected is None:
            self.leave("idle_timeout", Reason.KEEPALIVE_TIMEOUT)
        elif self._liveness.has_stopped_reading(now):
            self.leave("etimedout", Reason.UNSPECIFIED_ERROR)
            self._transport.abort()
        elif self._liveness.is_silent(now):
            self.leave("keepalive_timeout", Reason.KEEPALIVE_TIMEOUT)
        else:
            self._set_deadline()
        self._core.flush()

    def flush(self) -> None:
        """Hand what is to be sent to the transport."""
        data = self._connection.data_to_send()
        if data and not self._is_lost:
            self._core.stats.bytes_sent += len(data)
            self._transport.write(data)

    @property
    def held_count(self) -> int:
        """The number of publishes that wait for their acknowledgement or for a permission."""
        if self._ended:
            return 0
        waiting = 0 if self._paused is None else self._paused.question.waiting_count
        held = self._connection.held
        return waiting if held is None else held.count + waiting

    def stop_reading(self) -> None:
        """Stop reading from the peer because the broker stops."""
        self._gate.pause(STOPPING)

    def abort(self) -> None:
        """Close the network connection at once."""
        self._transport.abort()

    # Leaving

    def leave(self, reason: str, reason_code: int) -> None:
        """Disconnect this client for `reason`; MQTT 5 clients are told the code.

        One that still waits for its CONNACK gets none of the codes of DISCONNECT [MQTT-3.14.0-1, MQTT-3.2.2-8]: the
        server is unavailable to it.
        """
        if self._opening is not None:
            self._core.stats.connects_refused += 1
            self._connection.refuse(Reason.SERVER_UNAVAILABLE)
        else:
            self._connection.disconnect(reason_code)
        self._end(reason)

    def fail_inside(self, error: BaseException) -> None:
        """Log an unexpected exception and close this connection; others must not notice."""
        log_internal_error(self.info, error)
        self.leave("internal_error", Reason.UNSPECIFIED_ERROR)

    def _fail(self, error: WireError) -> None:
        hook = self._core.hooks.message_dropped
        if isinstance(error, ReceiveMaximumExceeded) and hook is not None:
            message = routed_message(error.publish, self.info, self._core.now_ms())
            hook(MessageDropped(message, "receive_maximum_exceeded"))
        log.info("%s (%s): %s", self.info.client_id or "?", self.info.origin.peername, error.message)
        self._connection.fail(error)
        self._end("frame_too_large" if error.reason_code == Reason.PACKET_TOO_LARGE else reason_word(error.reason_code))

    def _end(self, reason: str, properties: Properties | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        core = self._core
        core.stats.disconnects[reason] += 1
        steps: list[Callable[[], object]] = [self.flush, self._gate.close]
        if not self._is_lost:
            steps.append(self._transport.close)
            steps.append(lambda: core.deadlines.set(self, core.monotonic() + core.config.send_timeout))
        take_all_steps(self.info, *steps, lambda: self._depart(reason, properties or {}))
        if self._is_lost:
            self._connection.detach()

    def _depart(self, reason: str, properties: Properties) -> None:
        """Report the end and return the session to the registry. Packets that wait for a permission are discarded.

        Each step is taken even if one before it fails: nobody else would return the session.
        """
        core = self._core
        work, opening, connected = self._work, self._opening, self._connected
        self._paused = self._work = self._opening = self._connected = None

        def report() -> None:
            if core.hooks.client_disconnected is not None:
                core.hooks.client_disconnected(ClientDisconnected(self.info, reason, properties, core.now_ms()))

        steps: list[Callable[[], object]] = [] if work is None else [work.cancel]
        if opening is not None:
            steps.append(lambda: core.registry.withdraw(self, core.monotonic(), core.now_ms()))
        elif connected is not None:
            session, will = connected.session, connected.will
            steps += [connected.outgoing.close, report]
            steps.append(lambda: core.registry.close(self, session, will, core.monotonic(), core.now_ms()))
        take_all_steps(self.info, *steps)

    # Packets

    def _serve(self, events: Sequence[Event]) -> None:
        """Serve packets in order until the client ends or a question has to be asked."""
        rest = iter(events)  # so that the events behind a question need no index, which would cost on every read
        for event in rest:
            connected = self._connected
            if connected is not None:
                outcome = HANDLERS[type(event)](connected, event)
                if outcome is not None:
                    self._end_or_ask(outcome, rest)
                    return
            elif isinstance(event, Connect):
                self._on_connect(event)
            elif isinstance(event, Failed) and not self._ended:
                self._fail(event.error)
            else:
                return  # the client has left

    def _end_or_ask(self, outcome: Departure | Question | Failed, rest: Iterator[Event]) -> None:
        """End the client, or ask a question; the packets behind it, `rest`, wait for the answer."""
        if isinstance(outcome, Departure):
            self._end(outcome.reason, outcome.properties)
        elif isinstance(outcome, Failed):
            self._fail(outcome.error)
        elif not self._ended:
            self._ask(outcome, list(rest))

    def _released(self) -> None:
        """Send the acknowledgements of a hold that is done. Must not raise: the owner of the hold calls it."""
        try:
            held = self._connection.held
            assert held is not None  # it called
            held.release()
            if self._connected is not None:
                departure = self._connected.after_acknowledging()
                if departure is not None:
                    self._end(departure.reason, departure.properties)
        except Exception as error:
            self.fail_inside(error)
        if not self._ended:
            self._core.flush()
        self._core.on_change()

    def _set_deadline(self) -> None:
        due = self._liveness.next_deadline(self._core.monotonic())
        if due < inf:
            self._core.deadlines.set(self, due)

    # CONNECT

    def _on_connect(self, connect: Connect) -> None:
        core = self._core
        core.stats.connects += 1
        connecting = Connecting(core, connect, self.info.origin)
        self.info = connecting.info
        try:
            decision = connecting.decide()
        except WireError as error:
            self._fail(error)
            return
        if isinstance(decision, Decision):
            self._decided(connecting, decision)
        else:
            self._gate.pause(DECIDING)
            self._work = core.spawn(decision, partial(self._decided, connecting))

    def _decided(self, connecting: Connecting, decision: Decision | BaseException) -> None:
        """Ask the registry for the session of an accepted client, or refuse it. Packets received meanwhile wait."""
        core = self._core
        self._work = None
        try:
            if isinstance(decision, BaseException):
                log.error("authentication of %s failed", self.info.client_id, exc_info=decision)
                decision = Refused(Reason.SERVER_UNAVAILABLE)
            refusal = decision if isinstance(decision, Refused) else connecting.accept(decision)
            if refusal is None:
                self._opening = connecting
                core.registry.open(self, connecting.clean_start)
                if self._opening is not None:  # the store, or a session that is being closed, takes its time
                    self._gate.pause(DECIDING)
                    core.deadlines.set(self, core.monotonic() + core.config.idle_timeout)
            else:
                core.stats.connects_refused += 1
                self._connection.packet_size_max = connecting.packet_size_max
                self._connection.refuse(refusal.reason_code)
                self._end(reason_word(refusal.reason_code))
        except Exception as error:
            self.fail_inside(error)
        core.flush()

    def opened(self, session: Session, present: bool) -> None:
        """Send CONNACK and serve the packets received since CONNECT: the session is open."""
        core, connection, info = self._core, self._connection, self.info
        opening = self._opening
        assert opening is not None
        try:
            # First of all, so that leaving gives the session back, whatever fails behind this line.
            connected = Connected(core, connection, self._gate, session, info, opening.will, self.flush)
            self._connected, self._opening = connected, None
            if core.topic_stage is not None:
                connection.rename = partial(core.topic_stage.delivery, info)
            connack = opening.connack(present=present)
            events = connection.accept(session.received, connack, info.keep_alive, opening.packet_size_max)
            session.start_sending(connection, min(info.receive_maximum, core.config.max_inflight))
            core.deadlines.cancel(self)
            self._set_deadline()
            if core.hooks.client_connected is not None:
                core.hooks.client_connected(ClientConnected(info, present, opening.connect_properties))
            connected.outgoing.pump()
            self._serve(events)
            self._gate.resume(DECIDING, core.monotonic())
        except Exception as error:
            self.fail_inside(error)
        core.flush()

    def open_failed(self, error: BaseException) -> None:
        """Refuse the client: its session could not be opened."""
        log.error("session of %s could not be opened", self.info.client_id, exc_info=error)
        self.leave("server_unavailable", Reason.SERVER_UNAVAILABLE)
        self._core.flush()

    # Permissions that have to be asked

    def _ask(self, question: Question, rest: list[Event]) -> None:
        core = self._core
        self._gate.pause(ASKING)
        self._paused = _Paused(question, rest, [])
        asking = ask_all(core.access, self.info, question.actions, core.config.authorization_timeout)
        self._work = core.spawn(asking, self._answered)

    def _answered(self, answers: Answers | BaseException) -> None:
        """Serve the packet that needed the answers, then those that wait behind it."""
        paused, self._paused, self._work = self._paused, None, None
        assert paused is not None
        core = self._core
        try:
            if isinstance(answers, BaseException):
                # Not raised again: its traceback and this frame would refer to each other, and keep the client.
                self.fail_inside(answers)
            else:
                core.stats.authorizations_failed += answers.failures
                outcome = paused.question.resume(answers)
                if outcome is not None:
                    self._end_or_ask(outcome, iter(()))
            self._serve(paused.events)
            while paused.data and self._paused is None and not self._ended:
                self._serve(self._connection.receive_data(paused.data.pop(0), self._connection.last_received))
            if self._paused is not None:
                self._paused.data += paused.data
        except Exception as error:
            self.fail_inside(error)
        if self._paused is None:
            self._gate.resume(ASKING, core.monotonic())
        core.flush()
        core.on_change()
