"""A connected client: the effect of each of its packets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from broker.access import Action
from broker.asking import Answers
from broker.codec.packets import Disconnect, PubAck, PubComp, PubRec, SubAck, Subscribe, UnsubAck, Unsubscribe, Will
from broker.codec.reasons import Reason, reason_word
from broker.connection import Connection
from broker.core import Core
from broker.errors import ProtocolError, WireError
from broker.hooks import ClientInfo, Properties
from broker.incoming import Unanswered, take_in, take_in_answered
from broker.outgoing import Outgoing
from broker.readgate import HELD, REFUSING, ReadGate
from broker.received import Event, Failed, Publishes, Reply
from broker.session import Session
from broker.subscribing import action_of, permits_of, subscribe, unsubscribe


class Departure(Struct):
    """The end of the connection, with a reason in EMQX's words."""

    reason: str
    properties: Properties = {}


class Question(Struct):
    """Permissions to ask before the next packet is served; ``resume`` continues with the answers."""

    actions: Sequence[Action]
    waiting_count: int
    """Publishes that wait for the answers."""
    resume: Callable[[Answers], EventResult]


EventResult = None | Departure | Question | Failed
"""The result of serving a packet: None to go on with the next one."""


class Connected:
    """A client whose CONNECT was accepted, and its session."""

    __slots__ = ("_connection", "_core", "_gate", "_info", "outgoing", "session", "will")

    def __init__(
        self, core: Core, connection: Connection, gate: ReadGate, session: Session, info: ClientInfo, will: Will | None,
        flush: Callable[[], None],
    ) -> None:  # fmt: skip
        self._core = core
        self._connection = connection
        self._gate = gate
        self._info = info
        self.session = session
        self.will = will
        """Published when the client leaves, unless it says DISCONNECT first."""
        self.outgoing = Outgoing(core, connection, session, flush)

    # Publishes

    def on_publishes(self, batch: Publishes) -> EventResult:
        core, held = self._core, self._connection.held
        assert held is not None
        if held.is_refusing:
            return None  # what follows a refused publish comes again, behind it
        receipt = take_in(core, self._info, batch.fresh, core.now_ms())
        if isinstance(receipt, Unanswered):
            return self._ask_for_publishes(batch, receipt)
        held.add(batch, receipt)
        return self.after_acknowledging()

    def _ask_for_publishes(self, batch: Publishes, unanswered: Unanswered) -> Question:
        def resume(answers: Answers) -> EventResult:
            core = self._core
            receipt = take_in_answered(core, self._info, batch.fresh, unanswered, answers, core.now_ms())
            held = self._connection.held
            assert held is not None
            held.add(batch, receipt)
            return self.after_acknowledging()

        return Question(unanswered.actions, len(batch.answers), resume)

    def after_acknowledging(self) -> Departure | None:
        """Pause or resume reading according to the number of held acknowledgements.

        Called after each change of that number. Returns a departure where a refusal ends the connection (MQTT 3).
        """
        held, gate = self._connection.held, self._gate
        assert held is not None
        if held.refusal is not None:
            self._connection.close()
            return Departure(reason_word(held.refusal))
        if held.is_refusing:
            gate.pause(REFUSING)
        elif held.count >= held.count_max or held.size >= held.size_max:
            gate.pause(HELD)
        elif gate.reasons & HELD and held.count <= held.count_max // 2 and held.size <= held.size_max // 2:
            gate.resume(HELD, self._core.monotonic())
        return None

    def on_reply(self, event: Reply) -> EventResult:
        self._connection.send(event.packet)
        return None

    # Messages for this client

    def on_puback(self, packet: PubAck) -> EventResult:
        self.outgoing.acknowledge(packet)
        return None

    def on_pubrec(self, packet: PubRec) -> EventResult:
        self.outgoing.receive(packet)
        return None

    def on_pubcomp(self, packet: PubComp) -> EventResult:
        self.outgoing.complete(packet)
        return None

    # Subscriptions

    def on_subscribe(self, packet: Subscribe) -> EventResult:
        permits = permits_of(self._core, self._info, packet)
        if None not in permits:
            return self._subscribe(packet, permits)

        def resume(answers: Answers) -> EventResult:
            return self._subscribe(
                packet,
                [
                    permit if permit is not None else action_of(subscription) in answers.allowed
                    for permit, subscription in zip(permits, packet.subscriptions, strict=True)
                ],
            )

        asked = zip(permits, packet.subscriptions, strict=True)
        missing = [action_of(subscription) for permit, subscription in asked if permit is None]
        return Question(list(dict.fromkeys(missing)), 0, resume)

    def _subscribe(self, packet: Subscribe, permits: Sequence[bool | None]) -> EventResult:
        try:
            codes, with_retained = subscribe(self._core, self.session, packet, permits)
        except WireError as error:
            return Failed(error.detach())
        self._connection.send(SubAck(packet.packet_id, codes))
        if with_retained:
            self.outgoing.replay(with_retained)
        return None

    def on_unsubscribe(self, packet: Unsubscribe) -> EventResult:
        self._connection.send(UnsubAck(packet.packet_id, unsubscribe(self._core, self.session, packet)))
        return None

    # Leaving

    def on_disconnect(self, packet: Disconnect) -> EventResult:
        session = self.session
        properties = packet.properties or {}
        interval = properties.get("session_expiry_interval")
        if interval is not None:
            if session.expiry_interval == 0 and interval:
                return Failed(ProtocolError("a session that ends with its connection cannot be prolonged"))
            session.change_expiry(min(interval, self._core.config.max_session_expiry_interval))
        if packet.reason_code == Reason.SUCCESS:
            self.will = None  # [MQTT-3.14.4-3]
        self._connection.close()
        return Departure(reason_word(packet.reason_code) if packet.reason_code else "normal", properties)

    def on_failed(self, event: Failed) -> EventResult:
        return event


HANDLERS: Final[dict[type[Event], Callable[[Connected, Any], EventResult]]] = {
    Publishes: Connected.on_publishes,
    Reply: Connected.on_reply,
    PubAck: Connected.on_puback,
    PubRec: Connected.on_pubrec,
    PubComp: Connected.on_pubcomp,
    Subscribe: Connected.on_subscribe,
    Unsubscribe: Connected.on_unsubscribe,
    Disconnect: Connected.on_disconnect,
    Failed: Connected.on_failed,
}
