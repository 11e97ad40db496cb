"""Reconstruction of a session from its notifications alone, under any order of operations.

A store on disk will write what an observer receives. The record knows nothing of the session but these
notifications, and equals it after each step.
"""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.codec.outgoing import OutgoingPublish
from broker.codec.packets import Subscription, Will
from broker.exchange import outgoing_publish
from broker.hooks import ClientInfo, RoutedMessage
from broker.session import Session
from broker.subscriber import QUEUED, SENT, Delivery, Subscribed
from support.broker_doubles import SessionRecord

qos = st.integers(0, 2)
filters = st.sampled_from(["a", "b/+", "#", "$share/g/a"])
LARGE = b"x" * 10


class Outlet:
    """A client that accepts payloads of up to nine bytes."""

    def __init__(self) -> None:
        self.writable = True

    def send_publish(self, outgoing: OutgoingPublish, delivery: Delivery, packet_id: int) -> bool:
        assert (packet_id > 0) == (delivery.qos > 0)
        return delivery.message.payload != LARGE


class SessionMachine(RuleBasedStateMachine):
    """A session, its record, and a client that comes, goes and acknowledges whatever it likes."""

    def __init__(self) -> None:
        super().__init__()
        info = ClientInfo("c", session_expiry_interval=10)
        self.record = SessionRecord(info)
        self.session = Session(info, queue_max=3, observer=self.record)
        self.outlet: Outlet | None = None
        self.count = 0

    def ids(self) -> Iterable[int]:
        return [0, 1, 65535, *self.session.in_flight]

    @precondition(lambda self: self.outlet is None)
    @rule(window=st.integers(1, 4), expiry=st.integers(0, 100))
    def connect(self, window: int, expiry: int) -> None:
        self.outlet = Outlet()
        self.session.attach(ClientInfo("c", session_expiry_interval=expiry))
        self.session.start_sending(self.outlet, window)

    @precondition(lambda self: self.outlet is not None)
    @rule(with_will=st.booleans(), now_ms=st.integers(0, 1000))
    def leave(self, with_will: bool, now_ms: int) -> None:
        self.outlet = None
        self.session.detach(Will("w", b"") if with_will else None, now_ms)
        assert self.record.disconnected_at == now_ms

    @precondition(lambda self: self.outlet is None)
    @rule()
    def publish_will(self) -> None:
        self.session.take_will()

    @rule(expiry=st.integers(0, 100))
    def change_expiry(self, expiry: int) -> None:
        self.session.change_expiry(expiry)

    @rule(topic_filter=filters, qos=qos, identifier=st.none() | st.integers(1, 9))
    def subscribe(self, topic_filter: str, qos: int, identifier: int | None) -> None:
        self.session.subscribe(Subscribed(Subscription(topic_filter, qos), identifier))

    @rule(topic_filter=filters)
    def unsubscribe(self, topic_filter: str) -> None:
        self.session.unsubscribe(topic_filter)

    @rule(qos=qos, is_large=st.booleans())
    def offer(self, qos: int, is_large: bool) -> None:
        delivery = self.delivery(qos, is_large)
        outcome = self.session.offer(delivery, outgoing_publish(delivery.message, 0))
        assert outcome in (SENT, QUEUED) or outcome.dropped is not None

    def delivery(self, qos: int, is_large: bool) -> Delivery:
        self.count += 1
        payload = LARGE if is_large else b"%d" % self.count
        return Delivery(RoutedMessage("a", payload, qos, False, None, ClientInfo("app"), 0), qos, False)

    @precondition(lambda self: self.outlet is not None)
    @rule()
    def pump(self) -> None:
        while (delivery := self.session.next_delivery()) is not None:
            self.session.send(delivery, outgoing_publish(delivery.message, 0))

    @precondition(lambda self: self.outlet is not None)
    @rule(writable=st.booleans())
    def fill_buffer(self, writable: bool) -> None:
        assert self.outlet is not None
        self.outlet.writable = writable

    @rule(data=st.data(), answer=st.sampled_from(["puback", "pubrec", "refused", "pubcomp"]))
    def acknowledge(self, data: st.DataObject, answer: str) -> None:
        packet_id = data.draw(st.sampled_from(list(self.ids())))
        if answer == "puback":
            self.session.acknowledge(packet_id)
        elif answer == "pubcomp":
            self.session.complete(packet_id)
        else:
            self.session.receive(packet_id, refused=answer == "refused")

    @precondition(lambda self: bool(self.session.in_flight))
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        self.session.abandon(data.draw(st.sampled_from(list(self.session.in_flight))))

    @rule(ids=st.sets(st.integers(1, 4), min_size=1))
    def receive_publishes(self, ids: set[int]) -> None:
        self.session.received.remember(ids, None)

    @rule(packet_id=st.integers(1, 4))
    def release(self, packet_id: int) -> None:
        self.session.received.release(packet_id)

    @invariant()
    def record_equals_session(self) -> None:
        self.record.check(self.session)

    @invariant()
    def queue_is_bounded(self) -> None:
        assert self.session.queue_length <= 3


TestSessionRecord = SessionMachine.TestCase
TestSessionRecord.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
