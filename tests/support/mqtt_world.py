"""A broker without sockets: clients on transports made of lists, and a clock that only the test advances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from broker.access import Access
from broker.client import Client
from broker.codec.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
)
from broker.codec.parser import PacketParser
from broker.config import BrokerConfig
from broker.hooks import Hooks
from broker.origin import Address, Origin
from broker.retained import RetainedStore
from broker.server import Broker
from broker.store import SessionStore
from broker.topics import TopicNames
from broker.topicstage import TopicStage


class ListTransport:
    """A transport that records its writes and calls. A `stalled` one sends nothing from its buffer."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.writes = 0
        self.closed = False
        self.aborted = False
        self.reading = True
        self.unsent = 0

    def write(self, data: bytes) -> None:
        assert not self.closed, "written to after it was closed"
        self.written += data
        self.writes += 1

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent


class ManualHold:
    """A hold that a test finishes."""

    def __init__(self) -> None:
        self.done = False
        self.failed = False
        self._callbacks: list[Callable[[], None]] = []

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        if self.done:
            callback()
        else:
            self._callbacks.append(callback)

    @property
    def has_callbacks(self) -> bool:
        """Whether anybody waits."""
        return bool(self._callbacks)

    def finish(self, *, failed: bool = False) -> None:
        self.done, self.failed = True, failed
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class Peer:
    """The other end of one connection."""

    def __init__(self, broker: Broker, version: int, port: int) -> None:
        self.version = version
        self.transport = ListTransport()
        self.client: Client = broker.accept(
            self.transport, Origin("test:192.0.2.9:1883", Address("192.0.2.1", port), Address("192.0.2.9", 1883))
        )
        self._parser = PacketParser(TopicNames(), version=version)

    def send(self, *packets: Packet) -> None:
        """Send all `packets` in one piece."""
        self.send_bytes(b"".join(packet.encode(self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        self.client.data_received(data)

    def received(self) -> list[Packet]:
        """Return the packets received since the last call."""
        data = bytes(self.transport.written)
        self.transport.written.clear()
        packets = self._parser.feed(data).packets
        assert self._parser.error is None
        return packets

    def receive(self) -> Packet:
        """The only packet that came since the last call."""
        packets = self.received()
        assert len(packets) == 1, packets
        return packets[0]

    def publishes(self) -> list[Publish]:
        """The publishes that came since the last call; there must be nothing else."""
        packets = self.received()
        assert all(isinstance(packet, Publish) for packet in packets), packets
        return packets  # type: ignore[return-value]

    def payloads(self) -> list[bytes]:
        return [publish.payload for publish in self.publishes()]

    def subscribe(self, *filters: str | Subscription, qos: int = 0, identifier: int | None = None) -> list[int]:
        """Subscribe; returns the reason codes. Other packets than SUBACK stay to be received."""
        subscriptions = [each if isinstance(each, Subscription) else Subscription(each, qos) for each in filters]
        properties = {"subscription_identifier": [identifier]} if identifier else None
        self.send(Subscribe(77, subscriptions, properties))
        packets = self.received()
        acks = [packet for packet in packets if isinstance(packet, SubAck)]
        assert len(acks) == 1, packets
        assert acks[0].packet_id == 77
        self.transport.written += b"".join(p.encode(self.version) for p in packets if not isinstance(p, SubAck))
        return acks[0].reason_codes

    def lose(self, reason: str = "tcp_closed") -> None:
        """The network fails."""
        self.transport.closed = True
        self.client.connection_lost(reason)

    def disconnect(self, packet: Disconnect | None = None) -> None:
        self.send(packet or Disconnect())

    def is_alive(self) -> bool:
        """Whether a ping is answered."""
        if self.transport.closed:
            return False
        self.send(PingReq())
        return PingResp() in self.received()


@dataclass
class World:
    """A broker, its clock, and all events it has reported."""

    config: BrokerConfig = field(default_factory=BrokerConfig)
    access: Access | None = None
    topic_stage: TopicStage | None = None
    sessions: SessionStore | None = None
    retained: RetainedStore | None = None

    def __post_init__(self) -> None:
        self.seconds = 1000.0
        self.events: list[Any] = []
        self.hooks = Hooks()
        for name in (
            "client_connected", "client_disconnected", "session_subscribed", "session_unsubscribed",
            "message_delivered", "message_acked", "message_dropped", "delivery_dropped",
        ):  # fmt: skip
            setattr(self.hooks, name, self.events.append)
        self.broker = Broker(
            self.config, self.hooks, access=self.access, topic_stage=self.topic_stage, sessions=self.sessions,
            retained=self.retained,
            now_ms=self.now_ms, monotonic=lambda: self.seconds,
        )  # fmt: skip
        self._ports = iter(range(40000, 65535))

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def peer(self, version: int = 5) -> Peer:
        """A connection that has not sent anything."""
        return Peer(self.broker, version, next(self._ports))

    def connect(self, client_id: str = "c", version: int = 5, **fields: Any) -> Peer:
        """A connected client; CONNACK is taken off and kept as its ``connack``."""
        peer = self.peer(version)
        peer.send(Connect(client_id, protocol_version=version, **fields))
        packets = peer.received()
        assert isinstance(packets[0], ConnAck), packets
        assert packets[0].reason_code == 0
        peer.connack = packets[0]  # type: ignore[attr-defined]
        peer.transport.written += b"".join(packet.encode(version) for packet in packets[1:])
        return peer

    def advance(self, seconds: float) -> None:
        """Let time pass, half a second at a time, as the broker's own sweep does."""
        until = self.seconds + seconds
        while self.seconds < until:
            self.seconds = min(self.seconds + 0.5, until)
            self.broker.check_deadlines()

    def events_of(self, kind: type) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    def reasons(self, kind: type) -> list[str]:
        return [event.reason for event in self.events_of(kind)]
