"""The protocol state of one network connection, without I/O: bytes and times in, events and bytes out.

    CONNECTING ── CONNECT ──> DECIDING ── accept() ──> CONNECTED ── DISCONNECT, disconnect(), an error ──> CLOSED
         └──────── an error, refuse() ────────┴─────────────────────────────────────────────────────────────^

What a peer sends becomes events in order: packets that somebody has to decide about are events themselves, the
publishes of one read are put together in `Publishes`, what needs no decision (PINGREQ, the release of a QoS 2 message)
comes with its answer as a `Reply`, and an error is the last event, `Failed`. Packets behind a CONNECT wait until it was
decided on.

Acknowledgements leave in the order of the publishes they belong to [4.6.0-2, 4.6.0-3], those that wait for a `Hold`
in front of those that came later and need not wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from broker.codec.acks import encode_acks
from broker.codec.outgoing import OutgoingPublish, mark_duplicate
from broker.codec.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    Unsubscribe,
    check_client_disconnect,
)
from broker.codec.parser import PacketParser
from broker.codec.reasons import Reason
from broker.codec.wire import VARINT_MAX
from broker.config import BrokerConfig
from broker.errors import ProtocolError, ReceiveMaximumExceeded, WireError
from broker.hooks import Hold
from broker.session import Delivery, Session
from broker.topics import TopicNames

HOLD_FAILED: Final = Reason.IMPLEMENTATION_SPECIFIC_ERROR
"""What MQTT 5 clients are told of a publish whose hold failed: it was valid, and we are not able to accept it."""


class Phase(Enum):
    """How far a connection has come."""

    CONNECTING = auto()
    DECIDING = auto()
    CONNECTED = auto()
    CLOSED = auto()


class Publishes(Struct):
    """Publishes of one read: ``fresh`` are to be handed on, ``answers`` acknowledged.

    They are the same list but for QoS 2 duplicates, which are only answered. ``plain``: none of them has QoS 2.
    """

    fresh: list[Publish]
    answers: list[Publish]
    plain: bool


class Failed(Struct):
    """The peer broke the protocol; nothing more comes from it."""

    error: WireError


class Reply(Struct):
    """An answer that needs no decision, to be sent in its turn."""

    packet: PingResp | PubComp


Event = Reply | Connect | Publishes | PubAck | PubRec | PubComp | Subscribe | Unsubscribe | Disconnect | Failed


class _Held(Struct):
    """Acknowledgements that wait, for a hold or for those in front of them; ``quota`` is the QoS 1 among them."""

    hold: Hold | None
    publishes: Sequence[Publish]
    codes: bytes | bytearray
    acks: bytes
    quota: int
    size: int


class Connection:
    """One network connection.

    `wake` is called when there is something to send and was nothing before, `released` when a hold is done that
    acknowledgements waited for: then `release` has something to do.
    """

    __slots__ = (
        "_aliases", "_config", "_early", "_held", "_held_ids", "_held_quota", "_last_hold", "_out", "_parser", "_quota",
        "_released", "_under_way", "_wake", "held_bytes", "held_count", "is_refusing", "keep_alive", "last_received",
        "packet_size_max", "phase", "refusal", "session", "version", "writable",
    )  # fmt: skip

    def __init__(
        self,
        config: BrokerConfig,
        names: TopicNames,
        now: float,
        wake: Callable[[], None],
        released: Callable[[], None],
    ) -> None:
        self._config = config
        self._parser = PacketParser(names, config.max_packet_size, config.max_connect_packet_size)
        self._wake = wake
        self._released = released
        self._last_hold: Hold | None = None
        self._out: list[bytes] = []
        self._early: list[Packet] = []
        self._held: deque[_Held] = deque()
        self._aliases: dict[int, str] = {}
        self._quota = config.receive_maximum
        self._held_quota = 0
        self._held_ids: set[int] | None = None
        self._under_way = 0
        self.held_count = 0
        """Publishes that wait to be acknowledged, QoS 0 included where they came under a hold."""
        self.held_bytes = 0
        self.is_refusing = False
        """Before MQTT 5: a publish was refused, and the connection ends once all in front of it is acknowledged."""
        self.refusal: int | None = None
        """The reason code that ended a connection before MQTT 5, which has no way to say it."""
        self.phase = Phase.CONNECTING
        self.version = 4
        self.session: Session | None = None
        self.packet_size_max = VARINT_MAX + 5
        self.keep_alive = 0
        self.last_received = now
        self.writable = True

    # Receiving

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """The events of the next bytes of the peer, which came at `now`."""
        self.last_received = now
        parser = self._parser
        packets = parser.feed(data)
        if self.phase is Phase.CONNECTED:
            if parser.plain and packets and len(packets) <= self._room() and self._config.retain_available:
                return [Publishes(packets, packets, True)]  # type: ignore[arg-type]
            return self._events(packets)
        if self.phase is Phase.CONNECTING:
            return self._first_events(packets)
        if self.phase is Phase.DECIDING:
            self._early += packets
        return []

    def accept(self, session: Session, acknowledgement: ConnAck, keep_alive: int, packet_size_max: int) -> list[Event]:
        """Accept the CONNECT; returns the events of what came together with it."""
        self.phase = Phase.CONNECTED
        self.session = session
        if self.version < 5:
            self._quota = VARINT_MAX  # no Receive Maximum: who sends too much is not read from
        self.keep_alive = keep_alive
        self.packet_size_max = packet_size_max
        self.send(acknowledgement)
        early, self._early = self._early, []
        return self._events(early)

    def refuse(self, reason_code: int) -> None:
        """Refuse the CONNECT and forget whatever came behind it [3.1.4-6]."""
        self.send(ConnAck(False, reason_code))
        self.close()

    def fail(self, error: WireError) -> None:
        """Say goodbye to a peer that broke the protocol, as far as its version and phase allow."""
        if self.phase is Phase.CONNECTED:
            self.disconnect(error.reason_code)
        elif self._parser.version == 5 or error.reason_code == Reason.UNSUPPORTED_PROTOCOL_VERSION:
            self.version = self._parser.version or 4
            self.refuse(error.reason_code)
        self.close()

    def disconnect(self, reason_code: int) -> None:
        """Close from our side; MQTT 5 clients are told why."""
        if self.phase is Phase.CONNECTED and self.version == 5:
            self.send(Disconnect(reason_code))
        self.close()

    def lose(self) -> None:
        """The network connection is gone, and what was to be sent with it."""
        self._out.clear()
        self.close()

    def close(self) -> None:
        """Nothing more is received or sent."""
        self.phase = Phase.CLOSED
        self._early.clear()

    def _room(self) -> int:
        """How many QoS 1 and 2 publishes more the peer may have under way."""
        assert self.session is not None
        return self._quota - self._held_quota - len(self.session.awaiting_release)

    def _first_events(self, packets: list[Packet]) -> list[Event]:
        if not packets:
            error = self._parser.error
            return [Failed(error)] if error else []
        connect, *self._early = packets
        assert isinstance(connect, Connect)  # the parser begins with nothing else
        self.version = connect.protocol_version
        self.phase = Phase.DECIDING
        return [connect]

    def _events(self, packets: list[Packet]) -> list[Event]:
        events: list[Event] = []
        error: WireError | None = None
        self._under_way = 0
        try:
            self._sort(packets, events)
            error = self._parser.error
        except WireError as raised:
            error = raised
        self._held_ids = None
        if error is not None:
            events.append(Failed(error))
        return events

    def _sort(self, packets: list[Packet], events: list[Event]) -> None:
        """Turn packets into events. A SUBSCRIBE or UNSUBSCRIBE separates the publishes before and behind it."""
        run: Publishes | None = None
        for packet in packets:
            kind = type(packet)
            if kind is Publish:
                if run is None:
                    run = Publishes([], [], True)
                    events.append(run)
                self._take_publish(packet, run)  # type: ignore[arg-type]
            elif kind is PubAck or kind is PubRec or kind is PubComp:
                events.append(packet)  # type: ignore[arg-type]
            elif kind is PubRel:
                events.append(Reply(self._complete(packet.packet_id)))  # type: ignore[union-attr]
            elif kind is PingReq:
                events.append(Reply(PingResp()))
            elif kind is Subscribe or kind is Unsubscribe:
                run = None
                events.append(packet)  # type: ignore[arg-type]
            elif kind is Disconnect:
                check_client_disconnect(packet)  # type: ignore[arg-type]
                events.append(packet)  # type: ignore[arg-type]
                return
            else:
                raise _unexpected(packet)

    def _take_publish(self, publish: Publish, run: Publishes) -> None:
        if publish.properties:
            self._take_properties(publish)
        if publish.retain and not self._config.retain_available:
            raise ProtocolError("retained messages are not available", Reason.RETAIN_NOT_SUPPORTED)
        if publish.qos == 2:
            run.plain = False
            if not self._is_new(publish.packet_id):
                run.answers.append(publish)
                return
        elif publish.qos == 1:
            if publish.dup and self._is_held(publish.packet_id):
                return  # its acknowledgement is on the way: handing it on again would only make a duplicate
            self._under_way += 1
        if publish.qos and self._under_way > self._room():
            if publish.qos == 2:
                del self.session.awaiting_release[publish.packet_id]  # type: ignore[union-attr]
            raise ReceiveMaximumExceeded(publish)  # [3.3.4-7]
        run.fresh.append(publish)
        run.answers.append(publish)

    def _is_new(self, packet_id: int) -> bool:
        """Whether a QoS 2 publish came for the first time; remembers its id until it is released."""
        assert self.session is not None
        if self.session.is_duplicate(packet_id):
            return False
        self.session.awaiting_release[packet_id] = None
        return True

    def _is_held(self, packet_id: int) -> bool:
        if self._held_ids is None:
            publishes = (publish for entry in self._held for publish in entry.publishes)
            self._held_ids = {publish.packet_id for publish in publishes if publish.qos == 1}
        return packet_id in self._held_ids

    def _take_properties(self, publish: Publish) -> None:
        properties = publish.properties
        assert properties is not None
        if "subscription_identifier" in properties:
            raise ProtocolError("a client's PUBLISH with a subscription identifier")  # [3.3.4-6]
        alias = properties.pop("topic_alias", None)
        if alias is not None:
            self._resolve_alias(publish, alias)
            publish.properties = properties or None

    def _resolve_alias(self, publish: Publish, alias: int) -> None:
        if alias > self._config.topic_alias_maximum:
            raise ProtocolError(f"topic alias {alias} is above the maximum", Reason.TOPIC_ALIAS_INVALID)
        if publish.topic:
            self._aliases[alias] = publish.topic
            return
        topic = self._aliases.get(alias)
        if topic is None:
            raise ProtocolError(f"topic alias {alias} is not known")
        publish.topic = topic

    def _complete(self, packet_id: int) -> PubComp:
        """The peer is done with a QoS 2 id: from now on it stands for a new message."""
        assert self.session is not None
        known = self.session.awaiting_release
        if packet_id not in known:
            return PubComp(packet_id, Reason.PACKET_IDENTIFIER_NOT_FOUND)
        del known[packet_id]
        return PubComp(packet_id)

    # Acknowledging

    def acknowledge(self, batch: Publishes, codes: bytes | bytearray, hold: Hold | None) -> None:
        """Acknowledge `batch`, now or when `hold` is done: a reason code for each fresh publish.

        For clients before MQTT 5 a code of 0x80 and up ends the connection (``refusal``), after what is in front of it
        was acknowledged.
        """
        size = self._parser.size
        if not codes.isascii():  # some code is 0x80 or more
            self._free_refused(batch.fresh, codes)
        if batch.answers is not batch.fresh and len(batch.answers) > len(batch.fresh):
            self._acknowledge_duplicates(batch, codes, hold, size)
        else:
            self._acknowledge(batch.fresh, codes, hold, size, batch.plain)

    def held_share(self) -> float:
        """How much is held back of what may be: 1 and more is too much, and the peer should not be read from."""
        if not self.held_count:
            return 0.0
        config = self._config
        return max(self.held_count / config.receive_maximum, self.held_bytes / config.max_held_bytes)

    def give_back(self, events: Sequence[Event]) -> None:
        """These events were not acted upon: what they brought is new when it comes again."""
        waiting = {} if self.session is None else self.session.awaiting_release
        for event in events:
            for publish in event.fresh if isinstance(event, Publishes) else ():
                if publish.qos == 2:
                    waiting.pop(publish.packet_id, None)

    def release(self) -> None:
        """Send all acknowledgements that need not wait any more."""
        held = self._held
        while held:
            hold = held[0].hold
            if hold is not None and not hold.done:
                return
            entry = held.popleft()
            self.held_count -= len(entry.publishes)
            self.held_bytes -= entry.size
            self._held_quota -= entry.quota
            failed = hold is not None and hold.failed
            if failed:
                self._free_failed(entry.publishes, hold)
            if failed or not entry.codes.isascii():
                self._answer_refused(entry.publishes, _failed(entry.codes) if failed else entry.codes)
            elif entry.acks and self.phase is Phase.CONNECTED:
                self._put(entry.acks)

    def _acknowledge(
        self, publishes: Sequence[Publish], codes: bytes | bytearray, hold: Hold | None, size: int, plain: bool
    ) -> None:
        refused = not codes.isascii()
        if hold is None and not self._held:
            if refused:
                self._answer_refused(publishes, codes)
            else:
                self._put(encode_acks(publishes, codes, self.version))
            return
        if not plain:
            self._note_hold(publishes, hold)
        acks = b"" if refused else encode_acks(publishes, codes, self.version)
        quota = _count(acks) if plain and acks else _quota(publishes, codes)
        self._held.append(_Held(hold, publishes, codes, acks, quota, size))
        self._held_quota += quota
        self.held_count += len(publishes)
        self.held_bytes += size
        self.release()
        if hold is not None and hold is not self._last_hold and not hold.done:
            self._last_hold = hold
            hold.add_done_callback(self._released)

    def _acknowledge_duplicates(self, batch: Publishes, codes: bytes | bytearray, hold: Hold | None, size: int) -> None:
        """Acknowledge one by one, a QoS 2 duplicate under the hold of its first arrival."""
        assert self.session is not None
        index = 0
        for publish in batch.answers:
            if index < len(batch.fresh) and batch.fresh[index] is publish:
                self._acknowledge([publish], codes[index : index + 1], hold, size // len(batch.answers), False)
                index += 1
            else:
                self._acknowledge([publish], b"\0", self.session.awaiting_release.get(publish.packet_id), 0, False)

    def _note_hold(self, publishes: Sequence[Publish], hold: Hold | None) -> None:
        """Let later arrivals of the same QoS 2 messages know what their first one waits for."""
        assert self.session is not None
        waiting = self.session.awaiting_release
        for publish in publishes:
            if publish.qos == 2 and publish.packet_id in waiting:
                waiting[publish.packet_id] = hold

    def _free_refused(self, publishes: Sequence[Publish], codes: bytes | bytearray) -> None:
        """The packet ids of refused publishes are free again [4.3.3-9], before their answer is due: who comes back
        meanwhile sends them again, and before MQTT 5 everything behind the first of them as well.
        """
        assert self.session is not None
        waiting = self.session.awaiting_release
        for publish, code in zip(publishes, codes, strict=True):
            self.is_refusing |= self.version < 5 and publish.qos > 0 and code >= 0x80
            if publish.qos == 2 and (code >= 0x80 or self.is_refusing):
                waiting.pop(publish.packet_id, None)

    def _free_failed(self, publishes: Sequence[Publish], hold: Hold | None) -> None:
        """So are those whose hold failed, unless they have come again and wait for another one."""
        assert self.session is not None
        waiting = self.session.awaiting_release
        for publish in publishes:
            if publish.qos == 2 and waiting.get(publish.packet_id) is hold:
                waiting.pop(publish.packet_id, None)

    def _answer_refused(self, publishes: Sequence[Publish], codes: bytes | bytearray) -> None:
        """Acknowledge publishes of which some were refused, before MQTT 5 only those in front of the first of them."""
        count = len(publishes)
        if self.version < 5:
            for index, (publish, code) in enumerate(zip(publishes, codes, strict=True)):
                if publish.qos and code >= 0x80:
                    self.refusal = code
                    count = index
                    break
        if self.phase is Phase.CONNECTED:
            self._put(encode_acks(publishes[:count], codes[:count], self.version))
            if self.refusal is not None:
                self._held.clear()
                self.close()

    # Sending

    def send_publish(self, outgoing: OutgoingPublish, delivery: Delivery, packet_id: int) -> bool:
        """Send a copy of a message; False when it is larger than the peer accepts [3.1.2-24]."""
        head, tail = outgoing.parts(self.version, delivery.qos, delivery.retain, delivery.identifiers)
        if len(head) + len(tail) + (2 if packet_id else 0) > self.packet_size_max:
            return False
        out = self._out
        if not out:
            self._wake()
        out.append(head)
        if packet_id:
            out.append(packet_id.to_bytes(2, "big"))
        out.append(tail)
        return True

    def resend_publish(self, outgoing: OutgoingPublish, delivery: Delivery, packet_id: int) -> bool:
        """Send a copy again on a new connection, marked as a duplicate [4.4.0-1]; False when it is too large for it."""
        head, tail = outgoing.parts(self.version, delivery.qos, delivery.retain, delivery.identifiers)
        if len(head) + len(tail) + 2 > self.packet_size_max:
            return False
        self._put(mark_duplicate(head) + packet_id.to_bytes(2, "big") + tail)
        return True

    def send(self, packet: Packet) -> bool:
        """Send `packet`; False when it is larger than the peer accepts [3.1.2-24]."""
        data = packet.encode(self.version)
        if len(data) > self.packet_size_max:
            return False
        self._put(data)
        return True

    def data_to_send(self) -> bytes:
        """Everything to be sent, once."""
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def _put(self, data: bytes) -> None:
        if not data or self.phase is Phase.CLOSED:
            return
        if not self._out:
            self._wake()
        self._out.append(data)


def _count(acks: bytes) -> int:
    """How many acknowledgements `acks` holds: all have the length that the second byte says."""
    return len(acks) // (2 + acks[1])


def _quota(publishes: Sequence[Publish], codes: bytes | bytearray) -> int:
    """How much of the peer's quota waits with these acknowledgements; a QoS 2 id that was taken counts by itself."""
    return sum(
        publish.qos == 1 or (publish.qos == 2 and code >= 0x80) for publish, code in zip(publishes, codes, strict=True)
    )


def _failed(codes: bytes | bytearray) -> bytes:
    """What is said of publishes whose hold failed; what had been refused anyway keeps its reason."""
    return bytes(code if code >= 0x80 else HOLD_FAILED for code in codes)


def _unexpected(packet: Packet) -> ProtocolError:
    if isinstance(packet, Auth):
        return ProtocolError("AUTH without an authentication method")  # [4.12.0-6]
    return ProtocolError(f"{type(packet).__name__.upper()} from a client")
