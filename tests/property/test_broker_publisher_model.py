"""A publisher against a simple model of one: any order of publishing, holding, refusing, failing and coming back.

The model knows nothing of batches, quotas or holds in order. It says what a publisher may rely on: what was
acknowledged was passed on and is safe, acknowledgements come in the order of the publishes, a QoS 2 message is passed
on again only where its hold failed, and in the end nothing is held, paused or remembered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from broker.codec.packets import Packet, PubAck, PubComp, Publish, PubRec, PubRel
from broker.config import BrokerConfig
from broker.hooks import ClientInfo
from broker.receipt import Receipt, refusing
from support.mqtt_world import ManualHold, Peer, World

RECEIVE_MAXIMUM = 12
IDS = range(1, RECEIVE_MAXIMUM + 1)


class PublisherMachine(RuleBasedStateMachine):
    """A publisher with a persistent session that sends everything again that was not acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(BrokerConfig(receive_maximum=RECEIVE_MAXIMUM))
        self.world.hooks.published = self.published
        self.listener = self.world.connect("listener", version=4)
        self.listener.subscribe("#")
        self.offers: dict[bytes, list[ManualHold | None]] = {}
        """The holds with which the hook accepted each message, by payload; None where it waits for nothing."""
        self.holds: list[ManualHold] = []
        self.is_holding, self.refused = False, frozenset[int]()
        self.routed: Counter[bytes] = Counter()
        self.acked: list[tuple[int, bytes]] = []
        self.count = 0
        self.unacked: dict[int, Publish] = {}
        self.unreleased: dict[int, None] = {}
        self.expected: list[Publish] = []
        self.unsent: list[bytes] = []

    @initialize(version=st.sampled_from([4, 5]))
    def begin(self, version: int) -> None:
        self.version = version
        self.connect()

    # The application

    def published(self, client: ClientInfo, publishes: Sequence[Any], now_ms: int) -> Receipt:
        hold = ManualHold() if self.is_holding else None
        self.holds += [hold] if hold else []
        for index, publish in enumerate(publishes):
            if index not in self.refused:
                self.offers.setdefault(publish.payload, []).append(hold)
        return refusing(len(publishes), dict.fromkeys(self.refused & set(range(len(publishes))), 0x97), hold)

    @rule(is_holding=st.booleans(), refused=st.frozensets(st.integers(0, 4), max_size=2))
    def decide(self, is_holding: bool, refused: frozenset[int]) -> None:
        """The outcome of the next publishes."""
        self.is_holding, self.refused = is_holding, refused

    @precondition(lambda self: any(not hold.done for hold in self.holds))
    @rule(data=st.data(), failed=st.booleans())
    def finish(self, data: st.DataObject, failed: bool) -> None:
        """The journal has written something, in any order, or could not."""
        data.draw(st.sampled_from([hold for hold in self.holds if not hold.done])).finish(failed=failed)

    # The publisher

    @rule(qualities=st.lists(st.integers(0, 2), min_size=1, max_size=5), cut=st.integers(0, 60))
    def publish(self, qualities: list[int], cut: int) -> None:
        packets: list[Packet] = []
        for qos in qualities:
            free = [packet_id for packet_id in IDS if packet_id not in self.unacked | self.unreleased]
            if qos and not free:
                break
            self.count += 1
            publish = Publish("t", b"%d" % self.count, qos, packet_id=free[0] if qos else 0)
            packets.append(publish)
            if qos:
                self.unacked[publish.packet_id] = publish
                self.expected.append(publish)
        self.send(packets, cut)

    @rule(politely=st.booleans())
    def come_back(self, politely: bool) -> None:
        """The network failed, whether or not the broker has noticed."""
        if politely and not self.peer.transport.closed:
            self.peer.lose()
        self.connect()

    @rule()
    def handle(self) -> None:
        """Read what the broker sent."""
        self.routed.update(self.listener.payloads())
        for packet in self.peer.received():
            if isinstance(packet, PubComp):
                self.unreleased.pop(packet.packet_id)
                continue
            assert isinstance(packet, PubAck | PubRec), packet
            qos = 1 if isinstance(packet, PubAck) else 2
            first = next(publish for publish in self.expected if publish.qos == qos)
            assert packet.packet_id == first.packet_id
            self.expected.remove(first)
            del self.unacked[packet.packet_id]
            if packet.reason_code < 0x80:
                offers = self.offers[first.payload]
                assert any(hold is None or (hold.done and not hold.failed) for hold in offers)
                assert self.routed[first.payload]
                self.acked.append((qos, first.payload))
                if qos == 2:
                    self.unreleased[packet.packet_id] = None
                    self.send([PubRel(packet.packet_id)], 0)
        if self.peer.transport.closed:
            self.connect()
        self.send([], 0)

    def connect(self) -> None:
        fields: dict[str, Any] = {"properties": {"session_expiry_interval": 1000}} if self.version == 5 else {}
        self.peer: Peer = self.world.connect("a", self.version, clean_start=False, **fields)
        self.unsent = []
        self.expected = list(self.unacked.values())
        again: list[Packet] = [PubRel(packet_id) for packet_id in self.unreleased]
        again += [Publish("t", each.payload, each.qos, dup=True, packet_id=each.packet_id) for each in self.expected]
        self.send(again, 0)

    def send(self, packets: Sequence[Packet], cut: int) -> None:
        """Send `packets` in two pieces, as far as they are read."""
        data = b"".join(packet.encode(self.version) for packet in packets)
        self.unsent += [piece for piece in (data[:cut], data[cut:]) if piece]
        while self.unsent and self.peer.transport.reading and not self.peer.transport.closed:
            self.peer.send_bytes(self.unsent.pop(0))

    def teardown(self) -> None:
        """In the end, with a broker that takes everything, everything is acknowledged and nothing is left over."""
        if not hasattr(self, "version"):
            return
        self.decide(False, frozenset())
        for _ in range(10):
            for hold in self.holds:
                if not hold.done:
                    hold.finish()
            self.handle()
        assert not self.unacked
        assert not self.unreleased
        for qos, payload in self.acked:
            in_vain = sum(hold is not None and hold.failed for hold in self.offers[payload])
            assert self.routed[payload] >= 1
            assert qos == 1 or self.routed[payload] <= 1 + in_vain
        session = next(each for each in self.world.broker._core.registry.sessions if each.key == "a")
        assert not len(session.received)
        held = self.peer.client._connection.held
        assert held is not None
        assert (held.count, held.size, held.quota) == (0, 0, 0)
        assert self.peer.is_alive()


TestPublisher = PublisherMachine.TestCase
TestPublisher.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
