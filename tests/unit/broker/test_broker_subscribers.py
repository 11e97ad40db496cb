"""Subscribers of any kind behind the real broker: remote and slow ones, and what a publisher waits for."""

from __future__ import annotations

from typing import Any

import pytest

from broker.codec.packets import ConnAck, Connect, PubAck, Publish, PubRec, Subscription
from broker.codec.reasons import Reason
from broker.hooks import ClientInfo, DeliveryDropped, MessageDelivered
from broker.receipt import ACCEPTED, Receipt, join_all
from broker.subscriber import QUEUED, Availability, OfferOutcome, Subscribed
from support.broker_doubles import HeldRetained, RecordedSessions, RemoteSubscriber
from support.mqtt_world import ManualHold, Peer, World

APP = ClientInfo("app")


def with_remote(topic_filter: str = "far/#", qos: int = 2, **fields: Any) -> tuple[World, RemoteSubscriber]:
    """A broker with a remote subscriber."""
    world = World(**fields)
    remote = RemoteSubscriber()
    subscribe(world, remote, topic_filter, qos)
    return world, remote


def subscribe(world: World, remote: RemoteSubscriber, topic_filter: str, qos: int = 2) -> None:
    world.broker._core.router.subscribe(remote, Subscribed(Subscription(topic_filter, qos)))


def publish(peer: Peer, topic: str, packet_id: int, qos: int = 1) -> None:
    peer.send(Publish(topic, b"x", qos, packet_id=packet_id))


@pytest.mark.parametrize("first", ["rules", "remote"])
@pytest.mark.parametrize("version", [4, 5])
def test_puback_waits_for_the_rules_and_for_the_remote_subscriber(version: int, first: str) -> None:
    """Neither of the two alone makes a message safe."""
    world, remote = with_remote()
    rules = ManualHold()
    world.hooks.published = lambda *_: Receipt(rules)
    peer = world.connect(version=version)
    publish(peer, "far/t", 1)
    finish = {"rules": rules.finish, "remote": remote.confirm}
    finish.pop(first)()
    assert peer.received() == []
    finish.popitem()[1]()
    assert peer.receive() == PubAck(1)
    assert [delivery.message.topic for delivery in remote.offered] == ["far/t"]


def test_pubrec_waits_for_the_remote_subscriber_and_a_duplicate_is_not_offered_again() -> None:
    """QoS 2 is delivered on PUBLISH, so its PUBREC is the acknowledgement that must wait."""
    world, remote = with_remote()
    peer = world.connect()
    publish(peer, "far/t", 1, qos=2)
    publish(peer, "far/t", 1, qos=2)
    assert peer.received() == []
    remote.confirm()
    assert peer.received() == [PubRec(1), PubRec(1)]
    assert len(remote.offered) == 1


def test_acknowledgements_keep_their_order_behind_a_remote_subscriber() -> None:
    """[MQTT-4.6.0-2] A publish without remote subscribers does not overtake one that is not confirmed yet."""
    world, remote = with_remote()
    world.connect("near").subscribe("#", qos=1)
    peer = world.connect()
    publish(peer, "far/1", 1)
    publish(peer, "near", 2)
    publish(peer, "far/2", 3)
    assert peer.received() == []
    remote.holds[1].finish()
    assert peer.received() == []
    remote.confirm()
    assert peer.received() == [PubAck(1), PubAck(2), PubAck(3)]


def test_a_remote_subscriber_delays_no_other_client() -> None:
    """Local subscribers get their copy at once, and other publishers their acknowledgement."""
    world, remote = with_remote()
    near = world.connect("near")
    near.subscribe("#", qos=1)
    slow, other = world.connect("slow"), world.connect("other")
    publish(slow, "far/t", 1)
    assert [each.topic for each in near.publishes()] == ["far/t"]
    publish(other, "elsewhere", 1)
    assert other.receive() == PubAck(1)
    assert slow.received() == []
    remote.confirm()
    assert slow.receive() == PubAck(1)


def test_failed_hold_of_a_remote_subscriber_is_an_error_in_mqtt_5() -> None:
    """The publisher gets the failure, and sends the message again or gives up."""
    world, remote = with_remote()
    peer = world.connect()
    publish(peer, "far/1", 1)
    publish(peer, "far/2", 2)
    remote.confirm(failed=True)
    remote.confirm()
    assert peer.received() == [PubAck(1, Reason.IMPLEMENTATION_SPECIFIC_ERROR), PubAck(2)]


def test_failed_hold_of_a_remote_subscriber_closes_a_client_of_3_1_1() -> None:
    """It has no negative acknowledgement: the connection ends without one, and the client sends again."""
    world, remote = with_remote()
    peer, other = world.connect(version=4), world.connect("other", version=4)
    publish(peer, "far/1", 1)
    publish(other, "far/2", 1)
    remote.confirm(failed=True)
    assert peer.transport.closed
    assert peer.received() == []
    remote.confirm()
    assert other.receive() == PubAck(1)


def test_failure_of_one_hold_is_known_once_all_are_done() -> None:
    """Two remote subscribers: the answer comes when the outcome of both is known, and it is the failure."""
    world, remote = with_remote()
    second = RemoteSubscriber("node-3")
    subscribe(world, second, "#")
    peer = world.connect()
    publish(peer, "far/t", 1)
    remote.confirm(failed=True)
    assert peer.received() == []
    second.confirm()
    assert peer.receive() == PubAck(1, Reason.IMPLEMENTATION_SPECIFIC_ERROR)


def test_receipt_of_the_applications_own_message_has_the_hold() -> None:
    """A republished message is as safe as one of a client before its sink gets the success."""
    world, remote = with_remote()
    receipt = world.broker.publish("far/t", b"x", 1, False, None, APP, 0)
    assert receipt.codes is None
    assert receipt.hold is remote.holds[0]
    assert world.broker.publish("elsewhere", b"x", 1, False, None, APP, 0).hold is None


def test_qos_and_retain_flag_of_a_remote_copy_are_those_of_its_subscription() -> None:
    """A remote subscriber takes the place of all subscribers there are behind it."""
    world, remote = with_remote(qos=1)
    publish(world.connect(), "far/t", 1, qos=2)
    assert [(each.qos, each.retain) for each in remote.offered] == [(1, False)]


def test_outcome_of_a_remote_subscriber_is_counted_and_reported() -> None:
    """Sent, queued and dropped mean the same of every subscriber."""
    world, remote = with_remote()
    answers = iter([OfferOutcome(sent=True), QUEUED, None])

    def offer(delivery: Any, outgoing: Any) -> OfferOutcome:
        return next(answers) or OfferOutcome(dropped=delivery, reason="queue_full")

    remote.offer = offer  # type: ignore[method-assign]
    for number in range(3):
        assert world.broker.publish("far/t", b"%d" % number, 1, False, None, APP, 0) == ACCEPTED
    assert [(each.client, each.message.payload) for each in world.events_of(MessageDelivered)] == [(remote.info, b"0")]
    assert [(each.message.payload, each.reason) for each in world.events_of(DeliveryDropped)] == [(b"2", "queue_full")]
    assert world.broker.stats.messages_sent == 1
    assert world.broker.stats.deliveries_dropped == {"queue_full": 1}


@pytest.mark.parametrize(
    ("availability", "local_is_there", "taker"),
    [
        (Availability.READY, True, "both"),
        (Availability.READY, False, "remote"),
        (Availability.FULL, True, "local"),
        (Availability.FULL, False, "remote"),
        (Availability.AWAY, True, "local"),
    ],
)
def test_share_group_asks_its_members_whether_they_can_take_a_message(
    availability: Availability, local_is_there: bool, taker: str
) -> None:
    """Ready members take turns; a full one is better than one that is away."""
    world, remote = with_remote("$share/g/t")
    remote.available = availability
    local = world.connect("local", clean_start=False, properties={"session_expiry_interval": 100})
    local.subscribe("$share/g/t", qos=1)
    if not local_is_there:
        local.lose()
    for _ in range(4):
        world.broker.publish("t", b"x", 1, False, None, APP, 0)
    taken = {"remote": len(remote.offered), "local": len(local.publishes())}
    assert taken == {"remote": {"both": 2, "remote": 4, "local": 0}[taker], "local": 4 - taken["remote"]}


@pytest.mark.parametrize("payload", [b"x", b""])
def test_puback_of_a_retained_message_waits_until_it_is_stored(payload: bytes) -> None:
    """A change of a retained message survives a crash once it is acknowledged; without subscribers too."""
    retained = HeldRetained()
    world = World(retained=retained)
    peer = world.connect()
    peer.send(Publish("t", payload, 1, retain=True, packet_id=1))
    assert peer.received() == []
    retained.holds[0].finish()
    assert peer.receive() == PubAck(1, Reason.NO_MATCHING_SUBSCRIBERS)


@pytest.mark.parametrize("away", [False, True])
def test_puback_waits_until_a_delivery_is_stored_for_a_session(away: bool) -> None:
    """Whether it is queued for an absent client or sent to a connected one that has not acknowledged it."""
    stored = ManualHold()
    world = World(sessions=RecordedSessions(hold=stored))
    receiver = world.connect("receiver", clean_start=False, properties={"session_expiry_interval": 100})
    receiver.subscribe("t", qos=1)
    if away:
        receiver.lose()
    peer = world.connect()
    publish(peer, "t", 1)
    assert len(receiver.publishes()) == (0 if away else 1)
    assert peer.received() == []
    stored.finish()
    assert peer.receive() == PubAck(1)


def test_pubrec_waits_until_the_packet_id_is_stored() -> None:
    """Without it a restarted broker would take the duplicate for a new message [MQTT-4.3.3-10]."""
    stored = ManualHold()
    world = World(sessions=RecordedSessions(hold=stored))
    peer = world.connect()
    publish(peer, "t", 1, qos=2)
    publish(peer, "t", 1, qos=2)
    assert peer.received() == []
    stored.finish()
    assert peer.received() == [PubRec(1, Reason.NO_MATCHING_SUBSCRIBERS), PubRec(1)]


def test_message_that_makes_another_one_be_dropped_has_its_own_hold() -> None:
    """Of one outcome both are reported: the dropped delivery and the hold of the new one."""
    stored = ManualHold()
    world = World(sessions=RecordedSessions(hold=stored))
    receiver = world.connect("receiver", clean_start=False, properties={"session_expiry_interval": 100})
    receiver.subscribe("t", qos=1)
    receiver.lose()
    for number in range(1001):
        receipt = world.broker.publish("t", b"%d" % number, 1, False, None, APP, 0)
    assert receipt == Receipt(stored)
    assert [each.message.payload for each in world.events_of(DeliveryDropped)] == [b"0"]


def test_hold_of_many_is_one_hold() -> None:
    """A thousand distinct holds are joined without a thousand nested calls, and equal ones are waited for once."""
    holds = [ManualHold() for _ in range(2000)]
    joined = join_all([*holds, *holds])
    assert joined is not None
    called: list[bool] = []
    joined.add_done_callback(lambda: called.append(joined.done))
    for hold in reversed(holds):
        assert not called
        hold.finish(failed=hold is holds[7])
    assert called == [True]
    assert joined.failed
    assert join_all([]) is None
    assert join_all([holds[0], holds[0]]) is holds[0]


def test_remote_subscriber_is_gone_when_it_has_unsubscribed() -> None:
    """It is routed to like any other: by its key."""
    world, remote = with_remote()
    world.broker._core.router.unsubscribe(remote, "far/#")
    peer = world.peer()
    peer.send(Connect("c", protocol_version=5), Publish("far/t", b"x", 1, packet_id=1))
    assert [type(packet) for packet in peer.received()] == [ConnAck, PubAck]
    assert remote.offered == []
