"""The topic stage, with a mountpoint as its kind: topics change between a client and everything else, both ways."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from broker.access import Accepted, AllowAll, Credentials
from broker.codec.packets import PubAck, Publish, PubRec, SubAck, Subscribe, Subscription, UnsubAck, Unsubscribe, Will
from broker.config import BrokerConfig
from broker.hooks import ClientInfo, IncomingPublish, SessionSubscribed, SessionUnsubscribed
from broker.receipt import ACCEPTED, Receipt
from broker.topicstage import Taken
from support.mqtt_world import ManualHold, World

versions = pytest.mark.parametrize("version", [3, 4, 5])


class Mountpoint:
    """Puts the clients of a user below ``user/``, keeps what is delayed, and guards ``$SYS``.

    Clients without a user name see everything as it is.
    """

    def __init__(self) -> None:
        self.hold: ManualHold | None = None
        self.taken: list[str] = []

    def publish(self, client: ClientInfo, publish: IncomingPublish) -> str | int | Taken:
        if publish.topic.startswith("$SYS/"):
            return 0x87
        if publish.topic.startswith("$delayed/"):
            self.taken.append(publish.topic)
            return Taken(self.hold)
        return self._prefix(client) + publish.topic

    def subscription(self, client: ClientInfo, topic_filter: str) -> str | int:
        if topic_filter.startswith("$SYS/"):
            return 0x87
        return self._prefix(client) + topic_filter

    def delivery(self, client: ClientInfo, topic: str) -> str:
        return topic.removeprefix(self._prefix(client))

    def _prefix(self, client: ClientInfo) -> str:
        return "" if client.username is None else f"{client.username}/"


class Application:
    """The publishes that the application is shown."""

    def __init__(self, world: World) -> None:
        self.seen: list[tuple[str, bytes]] = []
        world.hooks.published = self

    def __call__(self, client: ClientInfo, publishes: Sequence[IncomingPublish], now_ms: int) -> Receipt:
        self.seen += [(publish.topic, publish.payload) for publish in publishes]
        return ACCEPTED


def mounted_world(config: BrokerConfig | None = None) -> tuple[World, Mountpoint]:
    stage = Mountpoint()
    return World(config or BrokerConfig(), topic_stage=stage), stage


@versions
def test_topics_change_on_the_way_in_and_back_on_the_way_out(version: int) -> None:
    """A client names its own topics; rules and other clients have them below the mountpoint."""
    world, _ = mounted_world()
    application = Application(world)
    outside = world.connect("outside")
    outside.subscribe("#")
    peer = world.connect("a", version, username="blue")
    assert peer.subscribe("t/+", qos=1) == [1]
    peer.send(Publish("t/1", b"x", 1, packet_id=1))
    assert peer.received() == [Publish("t/1", b"x", 1, packet_id=1), PubAck(1)]
    assert outside.publishes() == [Publish("blue/t/1", b"x")]
    assert application.seen == [("blue/t/1", b"x")]
    outside.send(Publish("blue/t/2", b"y"), Publish("t/3", b"z"))
    assert peer.publishes() == [Publish("t/2", b"y")]


def test_users_do_not_see_each_other() -> None:
    """A mountpoint separates the clients of each prefix."""
    world, _ = mounted_world()
    blue, red = world.connect("a", username="blue"), world.connect("b", username="red")
    blue.subscribe("#")
    red.subscribe("#")
    red.send(Publish("t", b"x"))
    assert (blue.payloads(), red.publishes()) == ([], [Publish("t", b"x")])


def test_subscriptions_are_kept_and_ended_under_the_changed_filter() -> None:
    """UNSUBSCRIBE is changed like SUBSCRIBE, and share names stay."""
    world, _ = mounted_world(BrokerConfig(max_subscriptions=2))
    peer = world.connect("a", username="blue")
    assert peer.subscribe("t", "$share/g/t") == [0, 0]
    assert peer.subscribe("t") == [0]  # the same again needs no room
    assert [event.topic_filter for event in world.events_of(SessionSubscribed)] == [
        "blue/t", "$share/g/blue/t", "blue/t",
    ]  # fmt: skip
    peer.send(Unsubscribe(1, ["t", "$share/g/t", "other", "$share/g"]))
    assert peer.received() == [UnsubAck(1, [0, 0, 0x11, 0x11])]
    assert [event.topic_filter for event in world.events_of(SessionUnsubscribed)] == ["blue/t", "$share/g/blue/t"]


def test_retained_messages_and_repeated_ones_are_changed_back() -> None:
    """Everything that is sent passes the stage: from the retained messages, the queue, and a second time."""
    world, _ = mounted_world()
    outside = world.connect("outside")
    outside.send(Publish("blue/t", b"kept", 1, retain=True, packet_id=1))
    properties = {"session_expiry_interval": 60}
    peer = world.connect("a", username="blue", clean_start=False, properties=properties)
    peer.subscribe("#", qos=1)
    assert peer.publishes() == [Publish("t", b"kept", 1, retain=True, packet_id=1)]
    peer.lose()
    outside.send(Publish("blue/u", b"queued", 1, packet_id=2))
    again = world.connect("a", username="blue", clean_start=False, properties=properties)
    assert again.publishes() == [
        Publish("t", b"kept", 1, retain=True, dup=True, packet_id=1),
        Publish("u", b"queued", 1, packet_id=2),
    ]


def test_will_is_changed_like_a_publish() -> None:
    """Its client published it, if later."""
    world, _ = mounted_world()
    outside = world.connect("outside")
    outside.subscribe("#")
    world.connect("a", username="blue", will=Will("t", b"gone")).lose()
    world.connect("b", username="blue", will=Will("$SYS/t", b"refused")).lose()
    assert outside.publishes() == [Publish("blue/t", b"gone")]


@pytest.mark.parametrize(("version", "code"), [(5, 0x87), (4, 0)])
def test_stage_refuses_publishes(version: int, code: int) -> None:
    """As access control does: before MQTT 5 it is acknowledged and dropped."""
    world, _ = mounted_world()
    application = Application(world)
    peer = world.connect("a", version)
    peer.send(Publish("$SYS/x", b"1", 1, packet_id=1), Publish("t", b"2", 1, packet_id=2))
    peer.send(Publish("$SYS/x", b"3", 2, packet_id=3))
    fine = 0x10 if version == 5 else 0
    assert peer.received() == [PubAck(1, code), PubAck(2, fine), PubRec(3, code)]
    assert application.seen == [("t", b"2")]
    assert world.broker.stats.messages_refused == 2


@pytest.mark.parametrize(("version", "code"), [(5, 0x87), (4, 0x80)])
def test_stage_refuses_subscriptions(version: int, code: int) -> None:
    """With its reason code in SUBACK, beside others that are granted."""
    world, _ = mounted_world()
    peer = world.connect("a", version)
    peer.send(Subscribe(1, [Subscription("t"), Subscription("$SYS/#"), Subscription("$share/g/$SYS/#")]))
    assert peer.received() == [SubAck(1, [0, code, code])]
    assert world.broker.subscription_count == 1


@versions
def test_stage_keeps_publishes_and_says_when_they_are_safe(version: int) -> None:
    """A delayed publish is acknowledged, in order, once it is stored, and is not routed yet."""
    world, stage = mounted_world()
    stage.hold = ManualHold()
    application = Application(world)
    outside = world.connect("outside")
    outside.subscribe("#")
    peer = world.connect("a", version)
    peer.send(Publish("t", b"1", 1, packet_id=1), Publish("$delayed/5/t", b"2", 1, packet_id=2))
    assert (peer.received(), outside.payloads()) == ([], [b"1"])
    stage.hold.finish()
    assert peer.received() == [PubAck(1), PubAck(2)]
    assert stage.taken == ["$delayed/5/t"]
    assert application.seen == [("t", b"1")]


class OwnTopics(AllowAll):
    """Everybody may use ``own/…`` and nothing else."""

    def authenticate(self, client: ClientInfo, credentials: Credentials) -> Accepted:
        return Accepted()

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool | None:
        return topic.startswith("own/")

    def may_subscribe(self, client: ClientInfo, topic_filter: str, qos: int) -> bool | None:
        return topic_filter.startswith("own/")


def test_permissions_are_about_the_topics_that_clients_name() -> None:
    """An ACL is written for what devices send, wherever that is mounted."""
    world = World(access=OwnTopics(), topic_stage=Mountpoint())
    application = Application(world)
    peer = world.connect("a", username="blue")
    assert peer.subscribe("own/#", "#", "$SYS/#") == [0, 0x87, 0x87]
    peer.send(Publish("own/t", b"1"), Publish("t", b"2", 1, packet_id=1))
    assert application.seen == [("blue/own/t", b"1")]
    assert peer.received() == [Publish("own/t", b"1"), PubAck(1, 0x87)]
