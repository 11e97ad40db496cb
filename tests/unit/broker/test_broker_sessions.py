"""State that outlives a connection: sessions, expiry, takeover, redelivery, wills. MQTT 5.0 sections 3.1.2 and 4.4."""

from __future__ import annotations

from typing import Any

import pytest

from broker.codec.packets import (
    Disconnect,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscription,
    Will,
)
from broker.codec.reasons import Reason
from broker.config import BrokerConfig
from broker.hooks import ClientConnected, ClientDisconnected, ClientInfo, DeliveryDropped
from broker.receipt import ACCEPTED, Receipt, refusing
from support.mqtt_world import Peer, World

versions = pytest.mark.parametrize("version", [4, 5])
APP = ClientInfo("app")
NOBODY = Receipt(codes=bytearray((Reason.NO_MATCHING_SUBSCRIBERS,)))


def publish(world: World, payload: bytes, qos: int = 1, **properties: Any) -> Receipt:
    return world.broker.publish("t", payload, qos, False, properties or None, APP, world.now_ms())


def keep(version: int, seconds: int = 100) -> dict[str, Any]:
    """The fields of a CONNECT whose session is kept."""
    properties = {"session_expiry_interval": seconds} if version == 5 else None
    return {"version": version, "clean_start": False, "properties": properties}


def session_present(peer: Peer) -> bool:
    return bool(peer.connack.session_present)  # type: ignore[attr-defined]


@versions
def test_session_is_resumed(version: int) -> None:
    """[3.2.2-2, 3.1.2-5] With its subscriptions and all QoS 1 and 2 messages published meanwhile, in order."""
    world = World()
    peer = world.connect("a", **keep(version))
    assert not session_present(peer)
    peer.subscribe("t", qos=2)
    peer.lose()
    for number in range(3):
        publish(world, b"%d" % number, qos=1 + number % 2)
    again = world.connect("a", **keep(version))
    assert session_present(again)
    assert [(m.payload, m.qos, m.dup) for m in again.publishes()] == [
        (b"0", 1, False),
        (b"1", 2, False),
        (b"2", 1, False),
    ]
    publish(world, b"live")
    assert again.payloads() == [b"live"]


def test_session_of_3_1_is_resumed_without_session_present() -> None:
    """MQTT 3.1 has no session present: the byte is reserved in its CONNACK."""
    world = World()
    world.connect("a", **keep(3)).subscribe("t", qos=1)
    again = world.connect("a", **keep(3))
    assert not session_present(again)
    publish(world, b"x")
    assert again.payloads() == [b"x"]


@versions
def test_session_without_subscriptions_is_kept(version: int) -> None:
    """Part I section 3: session present is 1 the second time."""
    world = World()
    world.connect("a", **keep(version)).disconnect()
    assert session_present(world.connect("a", **keep(version)))


@versions
def test_clean_start_discards_the_session(version: int) -> None:
    """[3.1.2-4]"""
    world = World()
    peer = world.connect("a", **keep(version))
    peer.subscribe("t", qos=1)
    peer.lose()
    publish(world, b"lost")
    fresh = world.connect("a", version=version)
    assert not session_present(fresh)
    assert publish(world, b"x") == NOBODY
    assert fresh.received() == []


@versions
def test_session_of_a_clean_client_ends_with_its_connection(version: int) -> None:
    """[4.1.0-2] Its subscriptions are removed, too."""
    world = World()
    peer = world.connect("a", version)
    peer.subscribe("t")
    peer.lose()
    assert world.broker.session_count == 0
    assert world.broker.subscription_count == 0


def test_session_expires() -> None:
    """[3.1.2-23] Its interval starts when the connection ends."""
    world = World()
    peer = world.connect("a", **keep(5, seconds=10))
    peer.subscribe("t")
    world.advance(100)
    peer.lose()
    world.advance(9)
    assert world.broker.session_count == 1
    world.advance(1.5)
    assert world.broker.session_count == 0
    assert world.broker.subscription_count == 0
    assert not session_present(world.connect("a", **keep(5)))


def test_reconnecting_cancels_the_expiry_and_sets_a_new_interval() -> None:
    """Part I section 4.5"""
    world = World()
    world.connect("a", **keep(5, seconds=10)).lose()
    world.advance(8)
    back = world.connect("a", **keep(5, seconds=50))
    world.advance(100)
    assert back.is_alive()
    back.lose()
    world.advance(45)
    assert session_present(world.connect("a", **keep(5)))


def test_session_without_expiry_is_kept() -> None:
    """0xFFFFFFFF means never."""
    world = World()
    world.connect("a", **keep(5, seconds=0xFFFFFFFF)).lose()
    world.advance(100_000)
    assert world.broker.session_count == 1


def test_session_of_3_1_1_is_kept_as_long_as_configured() -> None:
    """EMQX's `session_expiry_interval`."""
    world = World(BrokerConfig(session_expiry_interval=60))
    world.connect("a", **keep(4)).lose()
    world.advance(59)
    assert world.broker.session_count == 1
    world.advance(2)
    assert world.broker.session_count == 0


def test_expiry_interval_above_the_maximum_is_lowered_and_announced() -> None:
    """[3.2.2.3.2] The client learns the interval that applies."""
    world = World(BrokerConfig(max_session_expiry_interval=50))
    peer = world.connect("a", **keep(5, seconds=1000))
    assert peer.connack.properties["session_expiry_interval"] == 50  # type: ignore[attr-defined]


def test_disconnect_may_change_the_interval() -> None:
    """Part I section 4.4: setting it to 0 ends the session at once."""
    world = World()
    world.connect("a", **keep(5, seconds=10)).disconnect(Disconnect(0, {"session_expiry_interval": 0}))
    assert world.broker.session_count == 0
    world.connect("b", **keep(5, seconds=10)).disconnect(Disconnect(0, {"session_expiry_interval": 100}))
    world.advance(50)
    assert world.broker.session_count == 1


def test_disconnect_may_not_prolong_a_session_that_was_to_end() -> None:
    """[3.14.2-2] and 3.14.2.2.2: a protocol error; the will is published."""
    world = World()
    listener = world.connect("listener")
    listener.subscribe("will")
    peer = world.connect("a", will=Will("will", b"gone"))
    peer.disconnect(Disconnect(0, {"session_expiry_interval": 5}))
    assert peer.received() == [Disconnect(0x82)]
    assert listener.payloads() == [b"gone"]


# Redelivery


@versions
def test_unacknowledged_messages_are_sent_again_in_order(version: int) -> None:
    """[4.4.0-1, 4.6.0-1] With their ids and DUP, PUBREL after a PUBREC, and then the queue."""
    world = World(BrokerConfig(max_inflight=4))
    peer = world.connect("a", **keep(version))
    peer.subscribe("t", qos=2)
    for number, qos in enumerate((1, 2, 2, 1, 1)):
        publish(world, b"%d" % number, qos=qos)
    messages = peer.publishes()
    ids = [message.packet_id for message in messages]
    peer.send(PubRec(ids[1]))
    peer.received()
    peer.lose()
    again = world.connect("a", **keep(version))
    assert again.received() == [
        Publish("t", b"0", 1, dup=True, packet_id=ids[0]),
        PubRel(ids[1]),
        Publish("t", b"2", 2, dup=True, packet_id=ids[2]),
        Publish("t", b"3", 1, dup=True, packet_id=ids[3]),
    ]
    again.send(PubComp(ids[1]), PubAck(ids[0]))
    assert again.payloads() == [b"4"]


def test_redelivery_keeps_to_a_window_that_has_become_smaller() -> None:
    """Part I section 9.4"""
    world = World()
    peer = world.connect("a", **keep(5))
    peer.subscribe("t", qos=1)
    for number in range(5):
        publish(world, b"%d" % number)
    peer.lose()
    fields = keep(5)
    fields["properties"] |= {"receive_maximum": 2}
    again = world.connect("a", **fields)
    publish(world, b"5")
    seen = []
    while messages := again.publishes():
        assert len(messages) <= 2
        seen += [(m.payload, m.dup) for m in messages]
        again.send(PubAck(messages[0].packet_id))
    assert seen == [(b"%d" % number, number < 5) for number in range(6)]


def test_redelivery_of_a_message_now_too_large_does_not_block_the_window() -> None:
    """[3.1.2-25] The client accepts less than before: it would never acknowledge what it cannot be sent."""
    world = World()
    peer = world.connect("a", **keep(5))
    peer.subscribe("t", qos=2)
    publish(world, b"x" * 100, qos=1)
    publish(world, b"x" * 100, qos=2)
    peer.lose()
    fields = keep(5)
    fields["properties"] |= {"receive_maximum": 1, "maximum_packet_size": 50}
    again = world.connect("a", **fields)
    publish(world, b"fits")
    assert again.payloads() == [b"fits"]
    assert world.reasons(DeliveryDropped) == ["too_large"] * 2


@versions
def test_queued_messages_expire_and_those_in_flight_do_not(version: int) -> None:
    """[3.3.2-5, 3.3.2-6, 4.3.3-7] A message that was sent once must be sent again, expired or not."""
    world = World(BrokerConfig(max_inflight=1))
    peer = world.connect("a", **keep(version))
    peer.subscribe("t", qos=1)
    publish(world, b"sent", message_expiry_interval=10)
    publish(world, b"short", message_expiry_interval=10)
    publish(world, b"long", message_expiry_interval=100)
    peer.lose()
    world.advance(20.5)
    again = world.connect("a", **keep(version))
    (sent,) = again.publishes()
    assert (sent.payload, sent.dup) == (b"sent", True)
    again.send(PubAck(sent.packet_id))
    (long,) = again.publishes()
    assert long.payload == b"long"
    if version == 5:
        assert (sent.properties or {})["message_expiry_interval"] == 0
        assert (long.properties or {})["message_expiry_interval"] == 80
    assert world.reasons(DeliveryDropped) == ["expired"]


@pytest.mark.parametrize(("store", "expected"), [(True, [b"0", b"1"]), (False, [b"1"])])
def test_qos_0_is_queued_for_absent_clients_if_configured(store: bool, expected: list[bytes]) -> None:
    """`mqueue_store_qos0` decides."""
    world = World(BrokerConfig(mqueue_store_qos0=store))
    peer = world.connect("a", **keep(4))
    peer.subscribe("t", qos=1)
    peer.lose()
    publish(world, b"0", qos=0)
    publish(world, b"1", qos=1)
    assert world.connect("a", **keep(4)).payloads() == expected
    assert world.reasons(DeliveryDropped) == ([] if store else ["qos0_msg"])


def test_queue_of_an_absent_client_is_bounded() -> None:
    """`max_mqueue_len` limits it."""
    world = World(BrokerConfig(max_mqueue_len=3))
    peer = world.connect("a", **keep(4))
    peer.subscribe("t", qos=1)
    peer.lose()
    for number in range(10):
        publish(world, b"%d" % number)
    assert world.connect("a", **keep(4)).payloads() == [b"7", b"8", b"9"]
    assert world.reasons(DeliveryDropped) == ["queue_full"] * 7


def test_waiting_retained_messages_are_queued_when_the_client_leaves() -> None:
    """Their subscription is kept, so no new SUBSCRIBE will make them be sent."""
    world = World(BrokerConfig(max_inflight=1))
    for number in range(3):
        world.broker.publish(f"r/{number}", b"%d" % number, 1, True, None, APP, world.now_ms())
    peer = world.connect("a", **keep(4))
    peer.subscribe("r/#", qos=1)
    peer.lose()
    again = world.connect("a", **keep(4))
    seen = []
    while messages := again.publishes():
        seen += [m.payload for m in messages]
        again.send(PubAck(messages[0].packet_id))
    assert sorted(seen) == [b"0", b"1", b"2"]


def test_received_qos_2_ids_are_kept_with_the_session() -> None:
    """[4.3.3-10] A publish sent again on the next connection is the same message."""
    world = World()
    calls: list[Any] = []

    def published(client: ClientInfo, publishes: Any, now_ms: int) -> Receipt:
        calls.extend(publishes)
        return ACCEPTED

    world.hooks.published = published
    peer = world.connect("a", **keep(4))
    peer.send(Publish("t", b"x", 2, packet_id=3))
    peer.lose()
    again = world.connect("a", **keep(4))
    again.send(Publish("t", b"x", 2, dup=True, packet_id=3), PubRel(3))
    assert again.received() == [PubRec(3), PubComp(3)]
    assert len(calls) == 1


# Takeover


@versions
def test_second_connection_takes_over(version: int) -> None:
    """[3.1.4-3] The first client is disconnected, the session continues, each message is delivered once."""
    world = World()
    first = world.connect("a", **keep(version))
    first.subscribe("t", qos=1)
    publish(world, b"before")
    (before,) = first.publishes()
    first.send(PubAck(before.packet_id))
    second = world.connect("a", **keep(version))
    assert first.received() == ([Disconnect(0x8E)] if version == 5 else [])
    assert first.transport.closed
    assert session_present(second)
    publish(world, b"after")
    assert second.payloads() == [b"after"]
    assert world.reasons(ClientDisconnected) == ["takenover"]
    kinds = [type(event) for event in world.events if type(event) in (ClientConnected, ClientDisconnected)]
    assert kinds == [ClientConnected, ClientDisconnected, ClientConnected]
    first.lose()
    assert second.is_alive()
    assert len(world.broker.clients) == 1


def test_takeover_with_clean_start_discards_the_session() -> None:
    """The reason of the event is EMQX's word for it."""
    world = World()
    world.connect("a", **keep(5))
    assert not session_present(world.connect("a"))
    assert world.reasons(ClientDisconnected) == ["discarded"]


def test_takeover_of_a_session_that_ends_with_its_connection_is_a_new_one() -> None:
    """Expiry interval 0: the session has ended with the old connection."""
    world = World()
    world.connect("a", clean_start=False)
    assert not session_present(world.connect("a", clean_start=False))


# Wills


def will_listener(world: World) -> Peer:
    listener = world.connect("listener")
    listener.subscribe(Subscription("will", 2, retain_as_published=True))
    return listener


def end_badly(world: World, peer: Peer, how: str) -> None:
    if how == "lost":
        peer.lose("econnreset")
    elif how == "keep-alive":
        world.advance(16)
    elif how == "protocol error":
        peer.send_bytes(b"\x00\x00")
    elif how == "kicked":
        world.broker.kick(peer.client.info.client_id)
    elif how == "taken over":
        world.connect(peer.client.info.client_id, version=peer.version)


@versions
@pytest.mark.parametrize("how", ["lost", "keep-alive", "protocol error", "kicked", "taken over"])
def test_will_is_published_when_a_client_leaves_without_disconnect(version: int, how: str) -> None:
    """[3.1.2-8]"""
    world = World()
    listener = will_listener(world)
    end_badly(world, world.connect("a", version, keep_alive=10, will=Will("will", b"gone", 1)), how)
    assert [(m.payload, m.qos, m.retain) for m in listener.publishes()] == [(b"gone", 1, False)]


@versions
def test_disconnect_discards_the_will(version: int) -> None:
    """[3.14.4-3]"""
    world = World()
    listener = will_listener(world)
    world.connect("a", version, will=Will("will", b"gone")).disconnect()
    assert listener.received() == []


@pytest.mark.parametrize("code", [0x04, 0x80, 0x98])
def test_disconnect_with_a_reason_publishes_the_will(code: int) -> None:
    """Part I section 20.1"""
    world = World()
    listener = will_listener(world)
    world.connect("a", will=Will("will", b"gone")).disconnect(Disconnect(code))
    assert listener.payloads() == [b"gone"]


def test_will_is_published_with_its_properties_and_retained() -> None:
    """[3.1.2-14, 3.1.2-15] Without the delay interval, which is no property of PUBLISH."""
    world = World()
    listener = will_listener(world)
    properties = {"content_type": "text", "message_expiry_interval": 5, "user_property": [("k", "v")]}
    will = Will("will", b"gone", 1, True, {"will_delay_interval": 0, **properties})
    world.connect("a", will=will).lose()
    (message,) = listener.publishes()
    assert message.retain
    assert message.properties == properties
    assert world.broker.retained_count == 1


def test_will_is_offered_to_the_application() -> None:
    """It is a publish like any other, and may be refused."""
    world = World()
    listener = will_listener(world)
    seen: list[tuple[str, bytes, bool]] = []

    def published(client: ClientInfo, publishes: Any, now_ms: int) -> Receipt:
        seen.extend((client.client_id, each.payload, each.is_will) for each in publishes)
        return refusing(len(publishes), {0: 0x97})

    world.hooks.published = published
    world.connect("a", will=Will("will", b"gone")).lose()
    assert seen == [("a", b"gone", True)]
    assert listener.received() == []


def test_will_is_published_after_its_delay() -> None:
    """[3.1.2-8, 3.1.3-9] A client that reconnects before cancels it."""
    world = World()
    listener = will_listener(world)
    will = Will("will", b"gone", properties={"will_delay_interval": 10})
    world.connect("a", **keep(5), will=will).lose()
    world.advance(9)
    assert listener.received() == []
    world.advance(1.5)
    assert listener.payloads() == [b"gone"]
    world.connect("b", **keep(5), will=will).lose()
    world.advance(5)
    world.connect("b", **keep(5))
    world.advance(20)
    assert listener.received() == []


@pytest.mark.parametrize("seconds", [0, 5])
def test_will_is_published_at_the_end_of_the_session_at_the_latest(seconds: int) -> None:
    """Part I section 5.2"""
    world = World()
    listener = will_listener(world)
    will = Will("will", b"gone", properties={"will_delay_interval": 100})
    world.connect("a", **keep(5, seconds=seconds), will=will).lose()
    world.advance(seconds + 0.5)
    assert listener.payloads() == [b"gone"]
    world.advance(200)
    assert listener.received() == []


def test_exception_in_a_hook_does_not_stop_other_sessions_from_expiring() -> None:
    """Sessions due at the same moment would otherwise never end."""
    world = World()
    world.hooks.published = lambda *_: 1 / 0  # type: ignore[assignment]
    will = Will("will", b"gone", properties={"will_delay_interval": 100})
    for client_id in "abc":
        world.connect(client_id, **keep(5, seconds=10), will=will).lose()
    world.seconds += 11
    world.broker.check_deadlines()
    assert world.broker.session_count == 0


def test_clean_start_publishes_a_delayed_will_at_once() -> None:
    """[3.1.3-9] The session that it belonged to has ended."""
    world = World()
    listener = will_listener(world)
    will = Will("will", b"gone", properties={"will_delay_interval": 100})
    world.connect("a", **keep(5), will=will).lose()
    world.connect("a")
    assert listener.payloads() == [b"gone"]


def test_takeover_with_a_delay_publishes_no_will() -> None:
    """Part I section 4.6: the session continues before the delay has passed."""
    world = World()
    listener = will_listener(world)
    will = Will("will", b"gone", properties={"will_delay_interval": 5})
    world.connect("a", **keep(5), will=will)
    world.connect("a", **keep(5))
    world.advance(20)
    assert listener.received() == []
