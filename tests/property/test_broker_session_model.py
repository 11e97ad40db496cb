"""A session against a simple model: any order of publishing, acknowledging, leaving and reconnecting.

The model knows nothing of packet ids, windows or queues. It says what a subscriber must have seen: every QoS 1 message
at least once, every QoS 2 message exactly once, each QoS in order, and no message that was not published.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.codec.packets import PubAck, PubComp, Publish, PubRec, PubRel
from broker.config import BrokerConfig
from broker.hooks import ClientInfo
from support.broker_doubles import RecordedSessions
from support.mqtt_world import Peer, World

APP = ClientInfo("app")


class SubscriberMachine(RuleBasedStateMachine):
    """A subscriber with a persistent session that acknowledges, delays or loses the messages it is sent."""

    def __init__(self) -> None:
        super().__init__()
        config = BrokerConfig(max_inflight=4, max_mqueue_len=0)
        self.sessions = RecordedSessions(config)
        self.world = World(config, sessions=self.sessions)
        self.peer: Peer | None = None
        self.published: list[tuple[int, bytes]] = []
        self.seen: list[tuple[int, bytes]] = []
        self.inbox: list[Any] = []
        self.received_ids: set[int] = set()
        """QoS 2 ids received and not released, which a real client keeps with its session."""
        self.window = 4
        self.connect(4)
        assert self.peer is not None
        self.peer.subscribe("t", qos=2)

    def connect(self, window: int) -> None:
        self.window = window
        self.peer = self.world.connect(
            "a", clean_start=False, properties={"session_expiry_interval": 1000, "receive_maximum": window}
        )
        self.inbox = []

    @rule(qos=st.integers(1, 2))
    def publish(self, qos: int) -> None:
        payload = b"%d" % len(self.published)
        self.published.append((qos, payload))
        self.world.broker.publish("t", payload, qos, False, None, APP, self.world.now_ms())

    @precondition(lambda self: self.peer is None)
    @rule(window=st.integers(1, 6))
    def reconnect(self, window: int) -> None:
        self.connect(window)

    @precondition(lambda self: self.peer is not None)
    @rule()
    def leave(self) -> None:
        """The network fails; packets on the way are lost."""
        assert self.peer is not None
        self.peer.lose()
        self.peer = None
        self.inbox = []

    @precondition(lambda self: self.peer is not None)
    @rule(count=st.integers(1, 4))
    def handle(self, count: int) -> None:
        """The client answers some of the packets it has received."""
        assert self.peer is not None
        self.inbox += self.peer.received()
        for _ in range(min(count, len(self.inbox))):
            self._answer(self.inbox.pop(0))

    def _answer(self, packet: Any) -> None:
        assert self.peer is not None
        if isinstance(packet, PubRel):
            self.received_ids.discard(packet.packet_id)
            self.peer.send(PubComp(packet.packet_id))
            return
        assert isinstance(packet, Publish)
        if packet.qos == 1:
            self.seen.append((1, packet.payload))
            self.peer.send(PubAck(packet.packet_id))
            return
        if packet.packet_id not in self.received_ids:
            self.received_ids.add(packet.packet_id)
            self.seen.append((2, packet.payload))
        self.peer.send(PubRec(packet.packet_id))

    @invariant()
    def window_is_kept(self) -> None:
        """[3.3.4-9] The client is sent no more than its Receive Maximum."""
        if self.peer is not None:
            self.inbox += self.peer.received()
            assert sum(isinstance(packet, Publish) for packet in self.inbox) <= min(self.window, 4)

    @invariant()
    def sessions_are_recorded(self) -> None:
        """The record made of the notifications equals the session."""
        self.sessions.check()

    @invariant()
    def no_message_is_invented_or_qos_2_repeated(self) -> None:
        exactly_once = [payload for qos, payload in self.seen if qos == 2]
        assert len(exactly_once) == len(set(exactly_once))
        assert set(self.seen) <= set(self.published)

    @invariant()
    def first_arrivals_are_in_order(self) -> None:
        """[4.6.0-6] In the order of publishing, for each QoS."""
        for qos in (1, 2):
            numbers = [int(payload) for each, payload in self.seen if each == qos]
            firsts = list(dict.fromkeys(numbers))
            assert firsts == sorted(firsts)

    def teardown(self) -> None:
        """A client that stays and answers has seen all messages in the end, and the session is empty."""
        if self.peer is None:
            self.connect(3)
        assert self.peer is not None
        while packets := self.inbox + self.peer.received():
            self.inbox = []
            for packet in packets:
                self._answer(packet)
        assert set(self.seen) == set(self.published)
        assert not self.received_ids
        (session,) = list(self.sessions)
        assert not session.in_flight
        assert not session.queue_length


TestSubscriber = SubscriberMachine.TestCase
TestSubscriber.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
