"""Messages for a client: subscriptions and their options, retained messages, windows, queues, slow readers."""

from __future__ import annotations

from typing import Any

import pytest

from broker.access import Accepted, AllowAll
from broker.codec.packets import (
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
)
from broker.codec.reasons import Reason
from broker.config import BrokerConfig
from broker.errors import InvalidTopic, ProtocolError
from broker.hooks import (
    ClientDisconnected,
    ClientInfo,
    DeliveryDropped,
    MessageAcked,
    MessageDelivered,
    SessionSubscribed,
    SessionUnsubscribed,
)
from broker.receipt import ACCEPTED, Receipt
from support.mqtt_world import Peer, World

versions = pytest.mark.parametrize("version", [4, 5])
APP = ClientInfo("app")
NOBODY = Receipt(codes=bytearray((Reason.NO_MATCHING_SUBSCRIBERS,)))


def publish(world: World, topic: str = "t", payload: bytes = b"x", qos: int = 0, **fields: Any) -> Receipt:
    """The application publishes."""
    properties = fields.pop("properties", None)
    return world.broker.publish(topic, payload, qos, fields.pop("retain", False), properties, APP, world.now_ms())


# Subscriptions


@versions
def test_subscription_is_granted_and_reported(version: int) -> None:
    """[3.8.4-6] One reason code per filter, in order."""
    world = World()
    peer = world.connect("a", version)
    assert peer.subscribe(Subscription("a", 0), Subscription("b/#", 1), Subscription("+", 2)) == [0, 1, 2]
    assert [(e.topic_filter, e.qos) for e in world.events_of(SessionSubscribed)] == [("a", 0), ("b/#", 1), ("+", 2)]
    assert world.broker.subscription_count == 3


@versions
def test_unsubscribe_ends_delivery(version: int) -> None:
    """[3.10.4-1..5] It is answered also without such a subscription; filters are compared character by character."""
    world = World()
    peer = world.connect("a", version)
    peer.subscribe("a/+", "b")
    peer.send(Unsubscribe(3, ["a/+", "a/#"]))
    assert peer.received() == [UnsubAck(3, [0, 0x11] if version == 5 else [])]
    assert [event.topic_filter for event in world.events_of(SessionUnsubscribed)] == ["a/+"]
    assert publish(world, "a/x") == NOBODY
    assert publish(world, "b") == ACCEPTED


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_delivery_has_the_lower_quality_of_both(qos: int, granted: int) -> None:
    """[3.8.4-8]"""
    world = World()
    peer = world.connect()
    peer.subscribe("t", qos=granted)
    publish(world, qos=qos)
    (message,) = peer.publishes()
    assert message.qos == min(qos, granted)
    assert not message.dup


def test_overlapping_subscriptions_deliver_one_copy_with_all_identifiers() -> None:
    """[3.3.4-2, 3.3.4-3] The copy has the highest QoS of them."""
    world = World()
    peer = world.connect()
    peer.subscribe("a/#", qos=0, identifier=7)
    peer.subscribe("a/+", qos=2, identifier=300)
    peer.subscribe("a/b", qos=1)
    publish(world, "a/b", qos=2)
    (message,) = peer.publishes()
    assert message.qos == 2
    assert sorted((message.properties or {})["subscription_identifier"]) == [7, 300]


def test_subscribing_again_replaces_the_subscription() -> None:
    """[3.8.4-3] Options and identifier are those of the last SUBSCRIBE; it is still one subscription."""
    world = World()
    peer = world.connect()
    peer.subscribe("t", qos=2, identifier=1)
    peer.subscribe("t", qos=0, identifier=2)
    publish(world, qos=2)
    assert peer.publishes() == [Publish("t", b"x", properties={"subscription_identifier": [2]})]
    assert world.broker.subscription_count == 1


def test_no_local_subscriber_does_not_receive_its_own_messages() -> None:
    """[3.8.3-3] The client id decides, for the subscription with the option only."""
    world = World()
    peer, other = world.connect("a"), world.connect("b")
    peer.subscribe(Subscription("t", 1, no_local=True), Subscription("u", 1, no_local=True), Subscription("u/#", 0))
    peer.send(Publish("t", b"own"), Publish("u", b"own"))
    other.send(Publish("t", b"foreign"), Publish("u", b"foreign", 1, packet_id=1))
    assert [(p.topic, p.payload, p.qos) for p in peer.publishes()] == [
        ("u", b"own", 0),
        ("t", b"foreign", 0),
        ("u", b"foreign", 1),
    ]
    assert world.reasons(DeliveryDropped) == ["no_local"]


def test_retain_flag_is_kept_only_where_asked_for() -> None:
    """[3.3.1-12, 3.3.1-13]"""
    world = World()
    plain, keeping = world.connect("a"), world.connect("b")
    plain.subscribe("t")
    keeping.subscribe(Subscription("t", retain_as_published=True))
    publish(world, retain=True)
    assert [p.retain for p in plain.publishes()] == [False]
    assert [p.retain for p in keeping.publishes()] == [True]


def test_bridge_receives_retain_flags_and_not_its_own_messages() -> None:
    """Part I section 22: a Mosquitto bridge sets the top bit of the protocol level and expects both."""
    world = World()
    bridge = world.connect("bridge", version=4, is_bridge=True)
    bridge.subscribe("#")
    bridge.send(Publish("t", b"own"))
    publish(world, payload=b"foreign", retain=True)
    assert bridge.publishes() == [Publish("t", b"foreign", retain=True)]


@pytest.mark.parametrize(
    ("topic_filter", "code"),
    [
        ("a/#/b", 0x81),
        ("a#", 0x81),
        ("a/b+", 0x81),
        ("", 0x81),
        ("$share/g/a/#/b", 0x81),
    ],
)
@versions
def test_ill_formed_filter_ends_the_connection(topic_filter: str, code: int, version: int) -> None:
    """[4.7.1-1, 4.7.1-2, 4.7.3-1]"""
    world = World()
    peer = world.connect("a", version)
    peer.send(Subscribe(1, [Subscription(topic_filter)]))
    assert peer.received() == ([Disconnect(code)] if version == 5 else [])
    assert peer.transport.closed
    assert world.broker.subscription_count == 0


class Librarian(AllowAll):
    """Nobody may read `secret`."""

    def authenticate(self, client: ClientInfo, credentials: object) -> Accepted:
        return Accepted()

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool:
        return True

    def may_subscribe(self, client: ClientInfo, topic_filter: str, qos: int) -> bool:
        return not topic_filter.startswith("secret")


@pytest.mark.parametrize(
    ("topic_filter", "config", "code"),
    [
        ("secret/#", {}, 0x87),
        ("$share/g/secret", {}, 0x87),
        ("$share/g", {}, 0x8F),
        ("$share//a", {}, 0x8F),
        ("$share/g/", {}, 0x8F),
        ("$share/+/a", {}, 0x8F),
        ("a/b/c/d", {"max_topic_levels": 3}, 0x8F),
        ("a", {"max_subscriptions": 1}, 0x97),
        ("$share/g/a", {"shared_subscription": False}, 0x9E),
        ("a/#", {"wildcard_subscription": False}, 0xA2),
    ],
)
def test_refused_subscription_has_its_reason_code(topic_filter: str, config: dict[str, Any], code: int) -> None:
    """3.8.4 and Part I section 11; MQTT 3 has one code for all reasons. Other filters of the packet are granted."""
    world = World(BrokerConfig(**config), access=Librarian())
    for version, answer in ((5, code), (4, 0x80)):
        peer = world.connect(f"c{version}", version)
        assert peer.subscribe("fine", topic_filter, qos=1) == [1, answer]
        assert peer.subscribe("fine", qos=1) == [1]  # the same again needs no room


def test_no_local_on_a_shared_subscription_is_a_protocol_error() -> None:
    """[3.8.3-4]"""
    peer = World().connect()
    peer.send(Subscribe(1, [Subscription("$share/g/t", no_local=True)]))
    assert peer.received() == [Disconnect(0x82)]


@pytest.mark.parametrize("topic", ["$SYS/uptime", "$other"])
def test_leading_wildcard_does_not_match_dollar_topics(topic: str) -> None:
    """[4.7.2-1] In shared subscriptions, too."""
    world = World()
    peer = world.connect()
    peer.subscribe("#", "+/uptime", "$share/g/#", "+")
    assert publish(world, topic) == NOBODY
    peer.subscribe(f"{topic.split('/')[0]}/#")
    assert publish(world, topic) == ACCEPTED


def test_publishing_to_an_invalid_topic_raises() -> None:
    """A rule may compute a topic; its author has to learn that it is invalid."""
    with pytest.raises(InvalidTopic, match="wildcard"):
        publish(World(), "a/#")


def test_publishing_with_invalid_properties_raises() -> None:
    """A misspelt property must not be sent as bytes that no client understands."""
    with pytest.raises(ValueError, match="expiry"):
        publish(World(), properties={"expiry": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("message_expiry_interval", 2**32),
        ("payload_format_indicator", 2),
        ("payload_format_indicator", 256),
        ("content_type", "x" * 65_536),
        ("content_type", "a\0b"),
        ("user_property", [("a", "\ud800")]),
        ("response_topic", "a/#"),
    ],
)
def test_publishing_with_a_property_value_that_cannot_be_encoded_raises(name: str, value: Any) -> None:
    """Queued or retained, such a message would end the connection of each receiver, again and again."""
    world = World()
    with pytest.raises((ValueError, ProtocolError)):
        publish(world, retain=True, properties={name: value})
    peer = world.connect()
    peer.subscribe("t")
    assert peer.received() == []
    assert peer.is_alive()


# Shared subscriptions


def test_shared_subscription_delivers_to_its_members_in_turn() -> None:
    """[4.8.2-3] Each message to one member; a member's own subscription gets a copy besides."""
    world = World()
    members = [world.connect(f"m{i}") for i in range(3)]
    for member in members:
        member.subscribe("$share/g/t/#")
    members[0].subscribe("t/#", identifier=9)
    for number in range(6):
        publish(world, "t/x", b"%d" % number)
    shared = [[p.payload for p in member.publishes() if not p.properties] for member in members]
    assert shared == [[b"0", b"3"], [b"1", b"4"], [b"2", b"5"]]


def test_share_groups_differ_by_name_and_by_filter() -> None:
    """[4.8.2] The same name with another filter is another group."""
    world = World()
    peer = world.connect()
    peer.subscribe("$share/g/t", "$share/h/t", "$share/g/+")
    assert publish(world) == ACCEPTED
    assert len(peer.publishes()) == 3


def test_absent_member_is_skipped() -> None:
    """Its session could queue the message, but other members can take it now."""
    world = World()
    away = world.connect("away", version=4, clean_start=False)
    here = world.connect("here")
    for peer in (away, here):
        peer.subscribe("$share/g/t", qos=1)
    away.lose()
    for number in range(3):
        publish(world, payload=b"%d" % number, qos=1)
    assert here.payloads() == [b"0", b"1", b"2"]
    here.disconnect()
    publish(world, payload=b"late", qos=1)
    assert world.connect("away", version=4, clean_start=False).payloads() == [b"late"]


def test_member_with_a_full_window_is_skipped() -> None:
    """Otherwise a worker that hangs would queue its share of the messages, and drop them there."""
    world = World()
    away = world.connect("away", clean_start=False, properties={"session_expiry_interval": 9})
    hung, good = (world.connect(name, properties={"receive_maximum": 2}) for name in ("hung", "good"))
    for member in (away, hung, good):
        member.subscribe("$share/g/t", qos=1)
    away.lose()
    seen = []
    for number in range(10):
        publish(world, payload=b"%d" % number, qos=1)
        for message in good.publishes():
            seen.append(message.payload)
            good.send(PubAck(message.packet_id))
    assert len(seen) == 8
    for number in range(10, 15):
        publish(world, payload=b"%d" % number, qos=1)
    assert [each.queue_length for each in world.broker._core.registry.sessions if each.key == "away"] == [0]
    publish(world, payload=b"qos 0 needs no window", qos=0)
    publish(world, payload=b"qos 0 needs no window", qos=0)
    assert hung.payloads()[2:] == good.payloads()[2:] == [b"qos 0 needs no window"]


def test_shared_subscription_ends_with_its_last_member() -> None:
    """The group is removed from the tree."""
    world = World()
    peer = world.connect()
    peer.subscribe("$share/g/t")
    peer.send(Unsubscribe(1, ["$share/g/t"]))
    assert publish(world) == NOBODY
    assert world.broker.subscription_count == 0


# Retained messages


@versions
def test_retained_message_is_sent_to_a_new_subscriber(version: int) -> None:
    """[3.3.1-5, 3.3.1-8] The last message of the topic, marked as retained, behind SUBACK."""
    world = World()
    publish(world, "a/1", b"old", retain=True)
    publish(world, "a/1", b"new", qos=2, retain=True)
    publish(world, "a/2", b"two", retain=True)
    publish(world, "a/2", b"not retained")
    peer = world.connect("c", version)
    peer.send(Subscribe(1, [Subscription("a/+", 1)]))
    suback, *messages = peer.received()
    assert suback == SubAck(1, [1])
    assert sorted((m.topic, m.payload, m.qos, m.retain) for m in messages) == [  # type: ignore[union-attr]
        ("a/1", b"new", 1, True),
        ("a/2", b"two", 0, True),
    ]
    assert world.broker.retained_count == 2


def test_empty_payload_deletes_the_retained_message() -> None:
    """[3.3.1-6, 3.3.1-7] It is delivered as any other message and not retained itself."""
    world = World()
    listener = world.connect("listener")
    listener.subscribe("t")
    publish(world, retain=True)
    publish(world, payload=b"", retain=True)
    assert listener.payloads() == [b"x", b""]
    assert world.broker.retained_count == 0
    peer = world.connect()
    peer.subscribe("t")
    assert peer.received() == []


@pytest.mark.parametrize(("handling", "first", "second"), [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
def test_retain_handling_decides_when_retained_messages_are_sent(handling: int, first: int, second: int) -> None:
    """[3.3.1-9..11]"""
    world = World()
    publish(world, retain=True)
    peer = world.connect()
    for expected in (first, second):
        peer.subscribe(Subscription("t", retain_handling=handling))
        assert len(peer.publishes()) == expected


def test_retained_messages_are_not_sent_to_shared_subscriptions() -> None:
    """Part I section 15."""
    world = World()
    publish(world, retain=True)
    peer = world.connect()
    peer.subscribe("$share/g/t")
    assert peer.received() == []


def test_retained_message_has_the_subscription_identifier() -> None:
    """[3.3.4-3]"""
    world = World()
    publish(world, retain=True, properties={"content_type": "text"})
    peer = world.connect()
    peer.subscribe("#", identifier=5)
    expected = {"content_type": "text", "subscription_identifier": [5]}
    assert peer.publishes() == [Publish("t", b"x", retain=True, properties=expected)]


def test_retained_message_expires() -> None:
    """[3.3.2-5, 3.3.2-6] It is sent with the rest of its interval, and not at all after it."""
    world = World()
    publish(world, retain=True, properties={"message_expiry_interval": 10})
    world.advance(4)
    peer = world.connect()
    peer.subscribe("t")
    assert [(p.properties or {})["message_expiry_interval"] for p in peer.publishes()] == [6]
    world.advance(6)
    peer.subscribe("t")
    assert peer.received() == []
    assert world.broker.retained_count == 0


def test_expired_retained_messages_make_room_for_others() -> None:
    """Otherwise topics that are used once would fill the store with messages without a subscriber."""
    world = World(BrokerConfig(max_retained_messages=3))
    for number in range(3):
        publish(world, f"once/{number}", retain=True, properties={"message_expiry_interval": 10})
    publish(world, "once/0", b"for good", retain=True)
    world.advance(11)
    for name in "ab":
        publish(world, name, b"new", retain=True)
    assert world.broker.retained_count == 3
    peer = world.connect()
    peer.subscribe("#")
    assert sorted(peer.payloads()) == [b"for good", b"new", b"new"]


def test_many_retained_messages_are_sent_through_a_small_window() -> None:
    """Retained messages with QoS 1 count against Receive Maximum like all others."""
    world = World()
    for number in range(5):
        publish(world, f"t/{number}", b"%d" % number, qos=1, retain=True)
    peer = world.connect(properties={"receive_maximum": 2})
    peer.subscribe("t/#", qos=1)
    seen = []
    while messages := peer.publishes():
        assert len(messages) <= 2
        seen += [message.payload for message in messages]
        peer.send(*[PubAck(message.packet_id) for message in messages])
    assert sorted(seen) == [b"0", b"1", b"2", b"3", b"4"]


def read_all(peer: Peer) -> list[Publish]:
    """The messages that a client gets which acknowledges each before the next."""
    seen = []
    while messages := peer.publishes():
        seen += messages
        peer.send(*[PubAck(message.packet_id) for message in messages if message.qos])
    return seen


def test_retained_message_replaced_while_waiting_is_not_sent_after_its_successor() -> None:
    """A dashboard that shows the last message of a topic would show an old state for good."""
    world = World(BrokerConfig(max_inflight=2))
    for number in range(6):
        publish(world, f"t/{number}", b"old", qos=1, retain=True)
    peer = world.connect()
    peer.subscribe("t/#", qos=1)
    for number in range(5):
        publish(world, f"t/{number}", b"new", qos=1, retain=True)
    publish(world, "t/5", b"", qos=1, retain=True)
    last = {message.topic: message.payload for message in read_all(peer)}
    assert last == {**dict.fromkeys([f"t/{number}" for number in range(5)], b"new"), "t/5": b""}


def test_repeated_subscribing_does_not_multiply_waiting_retained_messages() -> None:
    """One packet has room for 260,000 filters, and a client need not acknowledge what it gets: memory is bounded."""
    world = World(BrokerConfig(max_inflight=2))
    for number in range(10):
        publish(world, f"t/{number}", b"%d" % number, qos=1, retain=True)
    peer = world.connect()
    for _ in range(20):
        peer.send(Subscribe(1, [Subscription("#", 1)] * 10))
    messages = [packet for packet in peer.received() if isinstance(packet, Publish)]
    peer.send(*[PubAck(message.packet_id) for message in messages])
    assert len(messages + read_all(peer)) == 20  # those on their way, and all of them once more


def test_unsubscribing_stops_waiting_retained_messages() -> None:
    """[3.10.4-2]"""
    world = World(BrokerConfig(max_inflight=2))
    for number in range(6):
        publish(world, f"t/{number}", qos=1, retain=True)
    peer = world.connect()
    peer.subscribe("t/#", qos=1)
    (first, second) = peer.publishes()
    peer.send(Unsubscribe(2, ["t/#"]), PubAck(first.packet_id), PubAck(second.packet_id))
    assert peer.received() == [UnsubAck(2, [0])]


@pytest.mark.parametrize("is_bridge", [False, True])
def test_no_local_subscriber_does_not_receive_its_own_retained_messages(is_bridge: bool) -> None:
    """[3.8.3-3] A bridge that has restarted empty gets its own messages back, as from Mosquitto."""
    world = World()
    peer = world.connect("a", is_bridge=is_bridge)
    peer.send(Publish("t", b"mine", retain=True))
    world.connect("b").send(Publish("u", b"theirs", retain=True))
    peer.subscribe(Subscription("#", no_local=True))
    assert sorted(peer.payloads()) == ([b"mine"] if is_bridge else []) + [b"theirs"]


def test_client_whose_session_ends_drops_no_waiting_retained_messages() -> None:
    """They are still retained, and no session waits for them: counting them as dropped would mislead the operator."""
    world = World(BrokerConfig(max_inflight=1, max_mqueue_len=2))
    for number in range(9):
        publish(world, f"t/{number}", qos=1, retain=True)
    peer = world.connect()
    peer.subscribe("#", qos=1)
    peer.lose()
    assert world.reasons(DeliveryDropped) == []


def test_retained_messages_are_bounded() -> None:
    """In number and size. A message that is not kept is delivered nevertheless, and a kept one can be replaced."""
    world = World(BrokerConfig(max_retained_messages=1, max_retained_payload=5))
    listener = world.connect()
    listener.subscribe("#")
    publish(world, "a", b"first", retain=True)
    publish(world, "b", b"more", retain=True)
    publish(world, "a", b"too long", retain=True)
    publish(world, "a", b"again", retain=True)
    assert listener.payloads() == [b"first", b"more", b"too long", b"again"]
    listener.subscribe("#")
    assert listener.payloads() == [b"again"]


# Windows and queues


def test_receive_maximum_of_the_client_is_respected() -> None:
    """[3.3.4-9, 3.3.4-10] QoS 1 and 2 wait for acknowledgements, QoS 0 does not; each QoS keeps its order."""
    world = World()
    peer = world.connect(properties={"receive_maximum": 2})
    peer.subscribe("t", qos=2)
    for number in range(1, 5):
        publish(world, payload=b"%d" % number, qos=1 + number % 2)
    publish(world, payload=b"zero")
    messages = peer.publishes()
    assert [m.payload for m in messages] == [b"1", b"2", b"zero"]
    first, second, _ = messages
    peer.send(PubRec(first.packet_id))
    assert peer.received() == [PubRel(first.packet_id)]  # a QoS 2 flow takes its place until PUBCOMP
    peer.send(PubAck(second.packet_id))
    assert peer.payloads() == [b"3"]
    peer.send(PubComp(first.packet_id))
    assert peer.payloads() == [b"4"]


def test_max_inflight_limits_clients_without_a_receive_maximum() -> None:
    """3.1.1 has no Receive Maximum; `max_inflight` is used in its place."""
    world = World(BrokerConfig(max_inflight=3))
    peer = world.connect(version=4)
    peer.subscribe("t", qos=1)
    for number in range(5):
        publish(world, payload=b"%d" % number, qos=1)
    assert peer.payloads() == [b"0", b"1", b"2"]


def test_full_queue_drops_the_oldest_message() -> None:
    """`max_mqueue_len`: each dropped message is counted and reported with its receiver."""
    world = World(BrokerConfig(max_inflight=1, max_mqueue_len=2))
    peer = world.connect()
    peer.subscribe("t", qos=1)
    for number in range(5):
        publish(world, payload=b"%d" % number, qos=1)
    events = world.events_of(DeliveryDropped)
    assert [(e.client.client_id, e.message.payload, e.reason) for e in events] == [
        ("c", b"1", "queue_full"),
        ("c", b"2", "queue_full"),
    ]
    assert world.broker.stats.deliveries_dropped == {"queue_full": 2}
    for expected in (b"0", b"3", b"4"):
        (message,) = peer.publishes()
        assert message.payload == expected
        peer.send(PubAck(message.packet_id))


@pytest.mark.parametrize("code", [0x80, 0x97])
def test_delivery_refused_by_the_client_is_not_sent_again(code: int) -> None:
    """[4.4.0-2, 4.3.3-9] After PUBACK or PUBREC with 0x80 and up: no PUBREL, and the window has room again."""
    world = World()
    peer = world.connect(properties={"receive_maximum": 1})
    peer.subscribe("t", qos=2)
    for qos in (2, 1, 1):
        publish(world, qos=qos)
    (first,) = peer.publishes()
    peer.send(PubRec(first.packet_id, code))
    (second,) = peer.publishes()
    peer.send(PubAck(second.packet_id, code))
    assert len(peer.publishes()) == 1


def test_acknowledgements_of_unknown_packet_ids_are_ignored() -> None:
    """An unknown PUBREC is answered with PUBREL, in MQTT 5 saying that the id was not found; a refusal ends a flow."""
    world = World()
    for version, code in ((4, 0), (5, 0x92)):
        peer = world.connect(f"c{version}", version)
        peer.send(PubAck(9), PubComp(9), PubRec(9), *[PubRec(8, 0x80)] * (version == 5))
        assert peer.received() == [PubRel(9, code)]
        assert peer.is_alive()


def test_acknowledgement_of_the_wrong_kind_does_not_end_a_flow() -> None:
    """PUBACK for QoS 2 and PUBREC for QoS 1 must not lose a message."""
    world = World()
    peer = world.connect(version=4, clean_start=False)
    peer.subscribe("t", qos=2)
    publish(world, payload=b"1", qos=1)
    publish(world, payload=b"2", qos=2)
    one, two = peer.publishes()
    peer.send(PubAck(two.packet_id), PubRec(one.packet_id), PubComp(one.packet_id), PubComp(two.packet_id))
    peer.lose()
    again = world.connect(version=4, clean_start=False)
    assert again.payloads() == [b"1", b"2"]


def test_packet_ids_wrap_and_skip_those_in_flight() -> None:
    """[2.2.1-4] 65,535 ids, never 0, never one in use."""
    world = World()
    peer = world.connect()
    peer.subscribe("t", qos=1)
    publish(world, payload=b"slow", qos=1)
    (slow,) = peer.publishes()
    assert slow.packet_id == 1
    ids = []
    for _ in range(65_535):
        publish(world, qos=1)
        (message,) = peer.publishes()
        ids.append(message.packet_id)
        peer.send(PubAck(message.packet_id))
    assert ids[:-1] == list(range(2, 65_536))
    assert ids[-1] == 2


def test_message_too_large_for_the_client_is_not_sent() -> None:
    """[3.1.2-24, 3.1.2-25] It counts as delivered, so that it does not block those behind it."""
    world = World()
    peer = world.connect(properties={"maximum_packet_size": 60})
    peer.subscribe("t", qos=1)
    publish(world, payload=b"x" * 60, qos=1)
    publish(world, payload=b"fits", qos=1)
    assert peer.payloads() == [b"fits"]
    assert world.reasons(DeliveryDropped) == ["too_large"]


@pytest.mark.parametrize("qos", [0, 1])
def test_message_as_large_as_the_client_takes_is_sent(qos: int) -> None:
    """A packet id takes two bytes, and QoS 0 has no packet id."""
    world = World()
    size = len(Publish("t", b"x" * 20, qos, packet_id=qos).encode(5))
    peer = world.connect(properties={"maximum_packet_size": size})
    peer.subscribe("t", qos=qos)
    publish(world, payload=b"x" * 20, qos=qos)
    publish(world, payload=b"x" * 21, qos=qos)
    assert peer.payloads() == [b"x" * 20]


def test_delivery_and_acknowledgement_are_reported() -> None:
    """The client of the event is the receiver; the publisher is in the message."""
    world = World()
    peer = world.connect("receiver")
    peer.subscribe("t", qos=2)
    for qos in (0, 1, 2):
        publish(world, qos=qos)
    assert [(e.client.client_id, e.message.qos) for e in world.events_of(MessageDelivered)] == [
        ("receiver", 0),
        ("receiver", 1),
        ("receiver", 2),
    ]
    _, one, two = peer.publishes()
    peer.send(PubAck(one.packet_id, 0, {"reason_string": "ok"}), PubRec(two.packet_id), PubRec(two.packet_id))
    acked = world.events_of(MessageAcked)
    assert [(e.message.qos, dict(e.properties)) for e in acked] == [(1, {"reason_string": "ok"}), (2, {})]
    assert acked[0].message.publisher is APP


def test_properties_reach_mqtt_5_and_not_older_clients() -> None:
    """[3.3.2-4, 3.3.2-15..20] Unaltered, user properties in order."""
    world = World()
    new, old = world.connect("new"), world.connect("old", version=4)
    for peer in (new, old):
        peer.subscribe("t")
    properties = {
        "payload_format_indicator": 1,
        "content_type": "text/plain",
        "response_topic": "r",
        "correlation_data": b"\0\1",
        "user_property": [("z", "1"), ("a", "2"), ("z", "3")],
    }
    world.connect("publisher").send(Publish("t", b"x", properties=dict(properties)))
    assert new.publishes() == [Publish("t", b"x", properties=properties)]
    assert old.publishes() == [Publish("t", b"x")]


def test_same_message_is_encoded_once_for_many() -> None:
    """Fan-out shares bytes; each receiver has its own packet id."""
    world = World()
    peers = [world.connect(f"c{i}", version=4 + i % 2) for i in range(6)]
    for peer in peers:
        peer.subscribe("t", qos=1)
    publish(world, qos=1)
    publish(world, qos=0)
    for peer in peers:
        assert peer.publishes() == [Publish("t", b"x", 1, packet_id=1), Publish("t", b"x")]
        assert peer.transport.writes == 4  # CONNACK, SUBACK, two publishes


# Slow readers


def stall(peer: Peer) -> None:
    peer.transport.unsent = 1_000_000
    peer.client.pause_writing()


def test_client_that_stops_reading_costs_bounded_memory_and_loses_no_qos_1_message() -> None:
    """QoS 0 is dropped and counted, QoS 1 waits in its queue; others are served."""
    world = World()
    slow, other = world.connect("slow"), world.connect("other")
    for peer in (slow, other):
        peer.subscribe("t", qos=1)
    stall(slow)
    for number in range(3):
        publish(world, payload=b"%d" % number, qos=number % 2)
    assert slow.received() == []
    assert other.payloads() == [b"0", b"1", b"2"]
    assert [(e.client.client_id, e.reason) for e in world.events_of(DeliveryDropped)] == [("slow", "queue_full")] * 2
    slow.client.resume_writing()
    assert slow.payloads() == [b"1"]


def test_client_that_stops_reading_is_not_read_from() -> None:
    """Otherwise its unread acknowledgements would pile up."""
    world = World()
    peer = world.connect()
    stall(peer)
    assert not peer.transport.reading
    peer.client.resume_writing()
    assert peer.transport.reading


def test_client_that_never_reads_again_is_closed() -> None:
    """`send_timeout`; one that reads something, however little, is not closed."""
    world = World(BrokerConfig(send_timeout=15))
    stuck, slow = world.connect("stuck"), world.connect("slow")
    stall(stuck)
    stall(slow)
    for _ in range(6):
        world.advance(5)
        slow.transport.unsent -= 1000
    assert stuck.transport.aborted
    assert not slow.transport.closed
    assert world.reasons(ClientDisconnected) == ["etimedout"]


def test_small_messages_are_sent_in_pieces() -> None:
    """Thousands of retained messages whose topics are longer than their payloads: the topics count, too."""
    world = World()
    for number in range(5000):
        publish(world, f"plant/line/{number}/machine/state/of/the/door", b"1", retain=True)
    peer = world.connect()
    peer.subscribe("#")
    assert len(peer.transport.written) > 200_000
    assert peer.transport.writes >= 4


def test_queue_is_sent_in_pieces_so_that_a_full_buffer_is_noticed() -> None:
    """A thousand large messages must not all be written to a stalled socket."""
    world = World(BrokerConfig(max_inflight=1000))
    peer = world.connect(version=4, clean_start=False)
    peer.subscribe("t", qos=1)
    peer.lose()
    for _ in range(50):
        publish(world, payload=b"x" * 20_000, qos=1)

    again = world.peer(4)
    write = again.transport.write

    def stalling_write(data: bytes) -> None:
        write(data)
        if len(again.transport.written) > 200_000:
            again.client.pause_writing()

    again.transport.write = stalling_write  # type: ignore[method-assign]
    again.send(Connect("c", clean_start=False))
    assert 200_000 < len(again.transport.written) < 400_000
    again.transport.write = write  # type: ignore[method-assign]
    again.client.resume_writing()
    assert len(again.received()) == 51
