"""The protocol state of one network connection, without I/O: bytes and times in, events and bytes out.

    CONNECTING ── CONNECT ──> DECIDING ── accept() ──> CONNECTED ── DISCONNECT, disconnect(), an error ──> CLOSED
         └──────── an error, refuse() ────────┴─────────────────────────────────────────────────────────────^

Received packets become events in order; `broker.received` sorts them. Packets behind a CONNECT wait until it was
decided on. Acknowledgements of the client's publishes are kept in order by `broker.held`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from broker.codec.outgoing import OutgoingPublish, mark_duplicate
from broker.codec.packets import ConnAck, Connect, Disconnect, Packet
from broker.codec.parser import PacketParser
from broker.codec.reasons import Reason
from broker.codec.wire import VARINT_MAX
from broker.config import BrokerConfig
from broker.errors import WireError
from broker.held import HeldAcks
from broker.qos2 import ReceivedIds
from broker.received import Event, Failed, Publishes, Read
from broker.subscriber import Delivery
from broker.topics import TopicNames


class Phase(Enum):
    """State of a connection."""

    CONNECTING = auto()
    DECIDING = auto()
    CONNECTED = auto()
    CLOSED = auto()


class Connection:
    """One network connection.

    `wake` is called when there is something to send and was nothing before, `released` when a hold is done that
    acknowledgements waited for: then `release` has something to do.
    """

    __slots__ = (
        "_aliases", "_config", "_early", "_out", "_parser", "_quota", "_received", "_released", "_wake",
        "held", "keep_alive", "last_received", "packet_size_max", "phase", "rename", "version", "writable",
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
        self._out: list[bytes] = []
        self._early: list[Packet] = []
        self.held: HeldAcks | None = None
        """The acknowledgements of the peer's publishes; None until its CONNECT was accepted."""
        self._aliases: dict[int, str] = {}
        self._quota = config.receive_maximum
        self.phase = Phase.CONNECTING
        self.version = 4
        self._received: ReceivedIds | None = None
        self.packet_size_max = VARINT_MAX + 5
        self.keep_alive = 0
        self.last_received = now
        self.writable = True
        self.rename: Callable[[str], str] | None = None
        """The topic stage of this client's deliveries."""

    # Receiving

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """The events of the next bytes of the peer, which came at `now`."""
        self.last_received = now
        parsed = self._parser.feed(data)
        packets = parsed.packets
        if self.phase is Phase.CONNECTED:
            if parsed.plain and packets and len(packets) <= self._room() and self._config.retain_available:
                # The hot path: one list serves as both, and nothing has to be sorted.
                return [Publishes(packets, packets, None, parsed.size)]  # type: ignore[arg-type]
            return self._events(packets)
        if self.phase is Phase.CONNECTING:
            return self._first_events(packets)
        if self.phase is Phase.DECIDING:
            self._early += packets
        return []

    def accept(
        self, received: ReceivedIds, acknowledgement: ConnAck, keep_alive: int, packet_size_max: int
    ) -> list[Event]:
        """Accept the CONNECT; returns the events of what came together with it."""
        self.phase = Phase.CONNECTED
        self._received = received
        self.held = HeldAcks(self._config, received, self.version, self._put, self._released)
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
        """Close after `error`; the peer is told its reason code where version and phase allow."""
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

    def detach(self) -> None:
        """Drop what refers back to the client, and what was received: the client has ended and its peer is gone.

        The client and its connection are a cycle; broken here, both are freed at once. Acknowledgements that still wait
        for a hold keep them until it is done, when the session has to know.
        """
        self._parser.close()
        self._wake = self._released = _ignore
        if self.held is not None:
            self.held.detach()

    def close(self) -> None:
        """Nothing more is received or sent."""
        self.phase = Phase.CLOSED
        self._early.clear()

    def _room(self) -> int:
        """Return how many QoS 1 and 2 publishes more the peer may have under way."""
        assert self._received is not None
        assert self.held is not None
        return self._quota - self.held.quota - len(self._received)

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
        assert self._received is not None
        assert self.held is not None
        read = Read(self._config, self._received, self._aliases, self._quota - self.held.quota, self.held)
        error: WireError | None = None
        try:
            read.sort(packets)
            error = self._parser.error
        except WireError as raised:
            error = raised.detach()
        if error is not None:
            read.events.append(Failed(error))
        return read.events

    # Sending

    def send_publish(self, outgoing: OutgoingPublish, delivery: Delivery, packet_id: int) -> bool:
        """Send a copy of a message; False when it is larger than the peer accepts [3.1.2-24]."""
        if self.rename is not None:
            outgoing = outgoing.renamed(self.rename)
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
        if self.rename is not None:
            outgoing = outgoing.renamed(self.rename)
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


def _ignore() -> None:
    """Stand in for the callbacks of a client that has ended."""
