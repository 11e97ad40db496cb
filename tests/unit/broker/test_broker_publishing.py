"""Publishes of a client: hook, hold, refusal, acknowledgements and their order, QoS 2, aliases, quotas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from broker.access import Accepted, AllowAll
from broker.codec.packets import (
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    Subscription,
    Will,
)
from broker.config import BrokerConfig
from broker.hooks import ClientDisconnected, ClientInfo, MessageDropped
from broker.receipt import ACCEPTED, Hold, Receipt, refusing
from support.mqtt_world import ManualHold, Peer, World

versions = pytest.mark.parametrize("version", [4, 5])


class Application:
    """An application behind the hook: remembers each call and answers with the next receipt."""

    def __init__(self, world: World, *answers: Receipt | Callable[[int], Receipt]) -> None:
        self.calls: list[list[Any]] = []
        self.answers = list(answers)
        world.hooks.published = self.published

    def published(self, client: ClientInfo, publishes: Sequence[Any], now_ms: int) -> Receipt:
        self.calls.append(list(publishes))
        answer = self.answers.pop(0) if self.answers else ACCEPTED
        return answer if isinstance(answer, Receipt) else answer(len(publishes))

    @property
    def payloads(self) -> list[bytes]:
        return [publish.payload for call in self.calls for publish in call]


def refuse(refused: dict[int, int], hold: Hold | None = None) -> Callable[[int], Receipt]:
    """An answer that refuses these publishes of a read, by index."""
    return lambda count: refusing(count, refused, hold)


def qos1(packet_id: int, topic: str = "t", **fields: Any) -> Publish:
    return Publish(topic, b"%d" % packet_id, 1, packet_id=packet_id, **fields)


def qos2(packet_id: int, topic: str = "t", **fields: Any) -> Publish:
    return Publish(topic, b"%d" % packet_id, 2, packet_id=packet_id, **fields)


def listen(world: World, qos: int = 2) -> Peer:
    """A subscriber to all topics."""
    listener = world.connect("listener", version=4)
    listener.subscribe("#", qos=qos)
    return listener


@versions
def test_hook_sees_all_publishes_of_a_read_at_once(version: int) -> None:
    """Work is done per read, so that a group of messages costs one journal entry."""
    world = World()
    application = Application(world)
    peer = world.connect("a", version)
    peer.send(Publish("t", b"0"), qos1(1), qos2(2), PingReq(), Publish("t", b"3", retain=True))
    assert [[publish.payload for publish in call] for call in application.calls] == [[b"0", b"1", b"2", b"3"]]
    last = application.calls[0][3]
    assert (last.topic, last.qos, last.retain, last.dup, last.properties) == ("t", 0, True, False, None)
    assert peer.transport.writes == 2  # CONNACK, and everything else together


def test_hook_sees_properties_without_those_of_the_connection() -> None:
    """[3.3.2-15..20] Aliases are resolved; user properties keep their order."""
    world = World()
    application = Application(world)
    properties = {"topic_alias": 1, "user_property": [("b", "1"), ("a", "2")], "content_type": "text"}
    world.connect().send(Publish("t", b"", properties=properties), Publish("", b"", properties={"topic_alias": 1}))
    first, second = application.calls[0]
    assert first.properties == {"user_property": [("b", "1"), ("a", "2")], "content_type": "text"}
    assert second.topic == "t"
    assert second.properties is None


@versions
def test_publishes_are_acknowledged_in_order(version: int) -> None:
    """[4.6.0-2, 4.6.0-3]"""
    world = World()
    listen(world)
    peer = world.connect("a", version)
    peer.send(qos1(5), qos2(4), Publish("t", b""), qos1(3), qos2(9))
    assert peer.received() == [PubAck(5), PubRec(4), PubAck(3), PubRec(9)]


def test_publish_without_subscribers_is_acknowledged_with_0x10() -> None:
    """EMQX and Mosquitto answer with the same code. A publish with a subscriber gets 0."""
    world = World()
    world.connect("b").subscribe("heard")
    peer = world.connect("a")
    peer.send(qos1(1, "unheard"), qos1(2, "heard"), qos2(3, "unheard"))
    assert peer.received() == [PubAck(1, 0x10), PubAck(2), PubRec(3, 0x10)]
    assert world.reasons(MessageDropped) == ["no_subscribers"] * 2
    assert world.broker.stats.messages_dropped == {"no_subscribers": 2}


@versions
def test_held_acknowledgements_wait_and_leave_in_one_write(version: int) -> None:
    """Promise 1 of the design: a PUBACK means safe. Other answers need not wait."""
    world = World()
    hold = ManualHold()
    Application(world, Receipt(hold), Receipt(hold))
    listener = listen(world)
    peer = world.connect("a", version)
    peer.send(qos1(1), qos2(2), PingReq())
    peer.send(qos1(3))
    assert peer.received() == [PingResp()]
    assert listener.payloads() == [b"1", b"2", b"3"]  # subscribers do not wait
    writes = peer.transport.writes
    hold.finish()
    assert peer.received() == [PubAck(1), PubRec(2), PubAck(3)]
    assert peer.transport.writes == writes + 1


def test_acknowledgement_does_not_overtake_a_held_one() -> None:
    """[4.6.0-2] What was received later and is ready first waits for its turn."""
    world = World()
    first, second = ManualHold(), ManualHold()
    Application(world, Receipt(first), Receipt(second), ACCEPTED)
    listen(world)
    peer = world.connect("a")
    for packet_id in (1, 2, 3):
        peer.send(qos1(packet_id))
    second.finish()
    assert peer.received() == []
    first.finish()
    assert peer.received() == [PubAck(1), PubAck(2), PubAck(3)]


def test_hold_that_is_done_already_holds_nothing() -> None:
    """A journal may be as fast as the call."""
    world = World()
    hold = ManualHold()
    hold.finish()
    Application(world, Receipt(hold))
    listen(world)
    peer = world.connect("a")
    peer.send(qos1(1))
    assert peer.received() == [PubAck(1)]


def test_failed_hold_is_said_in_mqtt_5() -> None:
    """0x83: the publish was valid, and the broker is not able to take it. QoS 2 ids are free again [4.3.3-9]."""
    world = World()
    hold = ManualHold()
    application = Application(world, Receipt(hold))
    peer = world.connect("a")
    peer.send(qos1(1), qos2(2), Publish("t", b""))
    hold.finish(failed=True)
    assert peer.received() == [PubAck(1, 0x83), PubRec(2, 0x83)]
    peer.send(qos2(2))
    assert peer.received() == [PubRec(2, 0x10)]
    assert application.payloads == [b"1", b"2", b"", b"2"]


def test_failed_hold_closes_a_client_of_3_1_1_without_an_acknowledgement() -> None:
    """It has no other way to learn that it must send again."""
    world = World()
    good, bad = ManualHold(), ManualHold()
    Application(world, Receipt(good), Receipt(bad))
    peer = world.connect("a", version=4)
    peer.send(qos1(1))
    peer.send(qos1(2))
    bad.finish(failed=True)
    good.finish()
    assert peer.received() == [PubAck(1)]
    assert peer.transport.closed
    assert world.reasons(ClientDisconnected) == ["implementation_specific_error"]


def test_hold_may_outlive_its_connection() -> None:
    """The journal finishes for somebody who is gone."""
    world = World()
    hold = ManualHold()
    Application(world, Receipt(hold))
    peer = world.connect("a")
    peer.send(qos1(1))
    peer.lose()
    hold.finish()
    assert peer.received() == []


def test_refused_publish_is_answered_in_mqtt_5_and_not_routed() -> None:
    """When a buffer is full: 0x97 for that message, and the others go on."""
    world = World()
    Application(world, refuse({1: 0x97, 2: 0x97}))
    listener = listen(world)
    peer = world.connect("a")
    peer.send(qos1(1), qos1(2), qos2(3), qos1(4))
    assert peer.received() == [PubAck(1), PubAck(2, 0x97), PubRec(3, 0x97), PubAck(4)]
    assert listener.payloads() == [b"1", b"4"]
    assert world.broker.stats.messages_refused == 2
    assert peer.is_alive()


def test_refused_publish_closes_a_client_of_3_1_1() -> None:
    """Nothing from it on is acknowledged or routed, because all of that comes again; QoS 0 does not."""
    world = World()
    application = Application(world, refuse({1: 0x97}))
    listener = listen(world)
    peer = world.connect("a", version=4, clean_start=False)
    peer.send(qos1(1), qos2(2), qos2(3), Publish("t", b"zero"), qos1(4))
    assert peer.received() == [PubAck(1)]
    assert peer.transport.closed
    assert listener.payloads() == [b"1", b"zero"]
    assert world.reasons(ClientDisconnected) == ["quota_exceeded"]
    again = world.connect("a", version=4, clean_start=False)
    again.send(qos2(2, dup=True), qos2(3, dup=True))
    assert again.received() == [PubRec(2), PubRec(3)]
    assert application.payloads[-2:] == [b"2", b"3"]  # they are no duplicates: they never were taken


def test_publishes_behind_a_refused_one_are_new_when_sent_again_after_a_duplicate() -> None:
    """The same in a read that repeats a QoS 2 message; an id taken for known would lose its message."""
    world = World()
    Application(world, ACCEPTED, refuse({0: 0x97}))
    listener = listen(world)
    world.connect("a", version=4, clean_start=False).send(qos2(1))
    peer = world.connect("a", version=4, clean_start=False)
    peer.send(qos2(1, dup=True), qos2(2), qos2(3), qos2(1, dup=True))
    assert peer.received() == [PubRec(1)]
    assert peer.transport.closed
    again = world.connect("a", version=4, clean_start=False)
    again.send(qos2(1, dup=True), qos2(2, dup=True), qos2(3, dup=True))
    assert again.received() == [PubRec(1), PubRec(2), PubRec(3)]
    assert listener.payloads() == [b"1", b"2", b"3"]


@versions
def test_refused_publish_is_new_when_it_comes_again_before_it_was_answered(version: int) -> None:
    """Its answer waits for what is in front of it; taken for known meanwhile, it would be acknowledged and lost."""
    world = World()
    hold = ManualHold()
    application = Application(world, refuse({1: 0x97}, hold))
    listener = listen(world)
    fields: dict[str, Any] = {"properties": {"session_expiry_interval": 9}} if version == 5 else {}
    peer = world.connect("a", version, clean_start=False, **fields)
    peer.send(qos1(1), qos2(2))
    again = world.connect("a", version, clean_start=False, **fields)
    again.send(qos2(2, dup=True))
    hold.finish()
    assert again.received() == [PubRec(2)]
    assert listener.payloads() == [b"1", b"2"]
    assert application.payloads == [b"1", b"2", b"2"]


def test_nothing_is_taken_from_a_client_of_3_1_1_between_a_refusal_and_its_end() -> None:
    """Everything behind the refused publish comes again: taken now it would be doubled, and out of order."""
    world = World()
    hold = ManualHold()
    application = Application(world, refuse({1: 0x97}, hold))
    listen(world)
    peer = world.connect("a", version=4, clean_start=False)
    peer.send(qos1(1), qos1(2), Subscribe(7, [Subscription("x")]), qos2(3))
    assert not peer.transport.reading
    hold.finish()
    assert peer.received() == [SubAck(7, [0]), PubAck(1)]
    assert peer.transport.closed
    world.connect("a", version=4, clean_start=False).send(qos1(2), qos2(3, dup=True))
    assert application.payloads == [b"1", b"2", b"2", b"3"]


def test_a_disconnect_behind_a_refusal_is_processed() -> None:
    """[3: 3.14.4-3] The client has left in order, so its will is not published."""
    world = World()
    application = Application(world, refuse({1: 0x97}, ManualHold()))
    listener = listen(world)
    peer = world.connect("a", version=4, will=Will("left", b"gone"))
    peer.send(qos1(1), qos1(2), Disconnect())
    assert peer.transport.closed
    assert world.reasons(ClientDisconnected)[-1:] == ["normal"]
    assert application.payloads == [b"1", b"2"]
    assert listener.payloads() == [b"1"]


def test_refused_publish_counts_against_receive_maximum_until_it_is_answered() -> None:
    """[4.9.0-1] The client has no answer yet."""
    world = World(BrokerConfig(receive_maximum=2))
    hold = ManualHold()
    Application(world, refuse({0: 0x97, 1: 0x97}, hold))
    peer = world.connect("a")
    peer.send(qos2(1), qos2(2))
    peer.send(qos2(3))
    assert peer.received() == [Disconnect(0x93)]


@pytest.mark.parametrize("broken", ["filter", "hook"])
def test_publish_behind_an_error_of_the_same_read_is_new_when_it_comes_again(broken: str) -> None:
    """It was not handed on, so its packet id must not be remembered."""
    world = World()
    listener = listen(world)
    peer = world.connect("a", version=4, clean_start=False)
    if broken == "hook":
        world.hooks.published = lambda *_: 1 / 0  # type: ignore[assignment]
    peer.send(Subscribe(1, [Subscription("a#" if broken == "filter" else "a")]), qos2(2))
    world.hooks.published = None
    assert peer.transport.closed
    again = world.connect("a", version=4, clean_start=False)
    again.send(qos2(2, dup=True))
    assert again.received() == [PubRec(2)]
    assert listener.payloads() == [b"2"]


def test_refused_qos_0_of_3_1_1_is_only_dropped() -> None:
    """Nobody waits for an answer to it."""
    world = World()
    Application(world, refuse({0: 0x97}))
    listener = listen(world)
    peer = world.connect("a", version=4)
    peer.send(Publish("t", b"zero"), qos1(1))
    assert peer.received() == [PubAck(1)]
    assert listener.payloads() == [b"1"]


def test_refusal_keeps_its_reason_under_a_failed_hold() -> None:
    """Both can happen to one read."""
    world = World()
    hold = ManualHold()
    Application(world, refuse({0: 0x97}, hold))
    peer = world.connect("a")
    peer.send(qos1(1), qos1(2))
    hold.finish(failed=True)
    assert peer.received() == [PubAck(1, 0x97), PubAck(2, 0x83)]


class Guard(AllowAll):
    """Nobody may publish to `secret`."""

    def authenticate(self, client: ClientInfo, credentials: object) -> Accepted:
        return Accepted(bypasses_acl=client.client_id == "root")

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool:
        return topic != "secret"

    def may_subscribe(self, client: ClientInfo, topic_filter: str, qos: int) -> bool:
        return True


@pytest.mark.parametrize(("version", "code"), [(5, 0x87), (4, 0)])
def test_forbidden_publish_is_not_routed(version: int, code: int) -> None:
    """[3: 3.3.5-2] MQTT 3 has no way to say no, so it is acknowledged and dropped."""
    world = World(access=Guard())
    application = Application(world)
    listener = listen(world)
    peer = world.connect("a", version)
    peer.send(qos1(1, "secret"), qos1(2), Publish("secret", b""))
    assert peer.received() == [PubAck(1, code), PubAck(2)]
    assert application.payloads == [b"2"]
    assert listener.payloads() == [b"2"]
    assert world.broker.stats.messages_refused == 2


def test_client_that_bypasses_the_acl_is_not_asked_about() -> None:
    """Authentication has said already that it may do everything."""
    world = World(access=Guard())
    application = Application(world)
    world.connect("root").send(qos1(1, "secret"))
    assert application.payloads == [b"1"]


@versions
def test_qos_2_message_is_taken_once(version: int) -> None:
    """[4.3.3-8, 4.3.3-10] Sent again before its release it is only answered; after its release the id is new."""
    world = World()
    application = Application(world)
    listen(world)
    peer = world.connect("a", version)
    peer.send(qos2(1))
    peer.send(qos2(1, dup=True))
    assert peer.received() == [PubRec(1), PubRec(1)]
    peer.send(PubRel(1))
    peer.send(qos2(1))
    assert peer.received() == [PubComp(1), PubRec(1)]
    assert len(application.payloads) == 2


def test_qos_2_duplicate_is_answered_in_its_place() -> None:
    """[4.6.0-3] PUBRECs come in the order of the publishes, duplicates among them."""
    world = World()
    listen(world)
    peer = world.connect("a")
    peer.send(qos2(1))
    peer.received()
    peer.send(qos2(2), qos2(1, dup=True), qos2(3))
    assert peer.received() == [PubRec(2), PubRec(1), PubRec(3)]


def test_qos_2_duplicate_waits_for_the_first_arrival() -> None:
    """A PUBREC sent on another connection must mean safe as well."""
    world = World()
    hold = ManualHold()
    application = Application(world, Receipt(hold))
    listen(world)
    first = world.connect("a", clean_start=False, properties={"session_expiry_interval": 60})
    first.send(qos2(1))
    first.lose()
    second = world.connect("a", clean_start=False, properties={"session_expiry_interval": 60})
    second.send(qos2(1, dup=True))
    assert second.received() == []
    hold.finish()
    assert second.received() == [PubRec(1)]
    assert application.payloads == [b"1"]


def test_qos_2_message_whose_hold_failed_is_new_when_it_comes_again() -> None:
    """It was never taken."""
    world = World()
    hold = ManualHold()
    application = Application(world, Receipt(hold))
    listen(world)
    first = world.connect("a", clean_start=False, properties={"session_expiry_interval": 60})
    first.send(qos2(1))
    first.lose()
    hold.finish(failed=True)
    second = world.connect("a", clean_start=False, properties={"session_expiry_interval": 60})
    second.send(qos2(1, dup=True))
    assert second.received() == [PubRec(1)]
    assert application.payloads == [b"1", b"1"]


def test_qos_2_message_whose_hold_failed_is_new_while_another_hold_is_waited_for() -> None:
    """Its PUBREC has not had its turn on the old connection, and never will."""
    world = World()
    slow, bad = ManualHold(), ManualHold()
    application = Application(world, Receipt(slow), Receipt(bad))
    listen(world)
    first = world.connect("a", clean_start=False, properties={"session_expiry_interval": 60})
    first.send(qos2(1))
    first.send(qos2(2))
    first.lose()
    bad.finish(failed=True)
    second = world.connect("a", clean_start=False, properties={"session_expiry_interval": 60})
    second.send(qos2(2, dup=True))
    assert second.received() == [PubRec(2)]
    assert application.payloads == [b"1", b"2", b"2"]


def test_qos_2_message_whose_hold_failed_counts_once_against_receive_maximum_when_it_comes_again() -> None:
    """A client that sends again what it had under way must not be closed for it."""
    world = World(BrokerConfig(receive_maximum=2))
    slow, bad = ManualHold(), ManualHold()
    Application(world, Receipt(slow), Receipt(bad))
    listen(world)
    first = world.connect("a", clean_start=False, properties={"session_expiry_interval": 60})
    first.send(qos2(1))
    first.send(qos2(2))
    first.lose()
    bad.finish(failed=True)
    second = world.connect("a", clean_start=False, properties={"session_expiry_interval": 60})
    second.send(qos2(1, dup=True), qos2(2, dup=True))
    slow.finish()
    assert second.received() == [PubRec(1), PubRec(2)]


def test_failed_hold_does_not_forget_a_message_that_has_come_again_since() -> None:
    """The old connection learns of it late, because something in front of it waited."""
    world = World()
    first, second = ManualHold(), ManualHold()
    application = Application(world, Receipt(first), Receipt(second))
    fields: dict[str, Any] = {"clean_start": False, "properties": {"session_expiry_interval": 9}}
    peer = world.connect("a", **fields)
    peer.send(qos1(1))
    peer.send(qos2(2))
    second.finish(failed=True)
    again = world.connect("a", **fields)
    again.send(qos2(2, dup=True))
    first.finish()
    again.send(PubRel(2))
    assert again.received() == [PubRec(2, 0x10), PubComp(2)]
    assert application.payloads == [b"1", b"2", b"2"]


@versions
def test_release_of_an_unknown_id_is_completed(version: int) -> None:
    """MQTT 5 says that it did not know it."""
    peer = World().connect("a", version)
    peer.send(PubRel(9))
    assert peer.received() == [PubComp(9, 0x92 if version == 5 else 0)]


def test_qos_1_sent_again_while_held_is_taken_once() -> None:
    """A client of 3.1.1 that is impatient; its id is answered once, since it may use it anew after that."""
    world = World()
    hold = ManualHold()
    application = Application(world, Receipt(hold))
    listen(world)
    peer = world.connect("a", version=4)
    peer.send(qos1(1))
    peer.send(qos1(1, dup=True))
    hold.finish()
    assert peer.received() == [PubAck(1)]
    assert application.payloads == [b"1"]


def test_qos_1_duplicate_of_something_acknowledged_is_a_message() -> None:
    """[4.3.2-5] The broker cannot know better."""
    world = World()
    application = Application(world)
    peer = world.connect("a")
    peer.send(qos1(1))
    peer.send(qos1(1, dup=True))
    assert application.payloads == [b"1", b"1"]


@pytest.mark.parametrize("make", [qos1, qos2])
def test_more_publishes_than_receive_maximum_end_the_connection(make: Any) -> None:
    """[3.3.4-7] 0x93; what came in time counts."""
    world = World(BrokerConfig(receive_maximum=3))
    application = Application(world, Receipt(ManualHold()))
    peer = world.connect("a")
    peer.send(make(1), make(2), Publish("t", b"free"), make(3), make(4), make(5))
    assert peer.received() == [Disconnect(0x93)]
    assert application.payloads == [b"1", b"2", b"free", b"3"]
    assert world.reasons(MessageDropped)[-1] == "receive_maximum_exceeded"
    assert world.reasons(ClientDisconnected) == ["receive_maximum_exceeded"]


@pytest.mark.parametrize("make", [qos1, qos2])
def test_client_of_3_1_1_is_not_closed_for_a_quota_it_never_heard_of(make: Any) -> None:
    """It may have all 65,535 packet ids under way, in one read or in many."""
    world = World(BrokerConfig(receive_maximum=3))
    application = Application(world)
    peer = world.connect("a", version=4)
    peer.send(*[make(packet_id) for packet_id in range(1, 10)])
    peer.send(*[make(packet_id) for packet_id in range(10, 20)])
    assert [ack.packet_id for ack in peer.received()] == list(range(1, 20))  # type: ignore[union-attr]
    assert application.payloads == [b"%d" % packet_id for packet_id in range(1, 20)]
    assert peer.is_alive()


def test_acknowledged_publishes_do_not_count_against_receive_maximum() -> None:
    """Any number may follow each other."""
    peer = World(BrokerConfig(receive_maximum=3)).connect("a")
    for packet_id in range(1, 20):
        peer.send(qos1(packet_id))
    assert len(peer.received()) == 19
    for packet_id in (1, 2, 3):
        peer.send(qos2(packet_id))
    peer.send(PubRel(1), qos2(4))
    assert peer.is_alive()


def test_client_with_much_held_back_is_not_read_from() -> None:
    """MQTT 3 knows no quota: memory is bounded by not reading, and the connection stays open."""
    world = World(BrokerConfig(receive_maximum=4))
    holds = [ManualHold(), ManualHold()]
    Application(world, *[Receipt(hold) for hold in holds])
    peer = world.connect("a", version=4)
    peer.send(qos1(1), Publish("t", b""), Publish("t", b""))
    assert peer.transport.reading
    peer.send(Publish("t", b""))
    assert not peer.transport.reading
    holds[1].finish()
    assert not peer.transport.reading
    holds[0].finish()
    assert peer.transport.reading


def test_client_with_large_messages_held_back_is_not_read_from() -> None:
    """The same bound in bytes."""
    world = World(BrokerConfig(max_held_bytes=1000))
    hold = ManualHold()
    Application(world, Receipt(hold))
    peer = world.connect("a")
    peer.send(Publish("t", b"x" * 1000, 1, packet_id=1))
    assert not peer.transport.reading
    hold.finish()
    assert peer.transport.reading


def test_message_that_came_in_pieces_counts_in_full_while_it_is_held() -> None:
    """Large ones always do: counting the last piece alone, thousands of them would be let in."""
    world = World(BrokerConfig(max_held_bytes=1000))
    Application(world, Receipt(ManualHold()))
    peer = world.connect("a")
    data = Publish("t", b"x" * 1000, 1, packet_id=1).encode(5)
    for start in range(0, len(data), 100):
        peer.send_bytes(data[start : start + 100])
    assert not peer.transport.reading


def test_keep_alive_does_not_run_while_reading_is_paused() -> None:
    """A client must not be closed for what it may have sent and we did not look at."""
    world = World(BrokerConfig(receive_maximum=1))
    hold = ManualHold()
    Application(world, Receipt(hold))
    peer = world.connect("a", version=4, keep_alive=10)
    peer.send(qos1(1))
    world.advance(100)
    assert not peer.transport.closed
    hold.finish()
    world.advance(14)
    assert not peer.transport.closed
    world.advance(2)
    assert peer.transport.closed


@pytest.mark.parametrize(
    ("publishes", "code"),
    [
        ([Publish("t", b"", properties={"topic_alias": 4})], 0x94),
        ([Publish("", b"", properties={"topic_alias": 2})], 0x82),
        ([Publish("t", b"", properties={"subscription_identifier": [1]})], 0x82),
    ],
    ids=["alias above the maximum [3.2.2-17]", "alias that was never set", "subscription identifier [3.3.4-6]"],
)
def test_wrong_publish_properties_end_the_connection(publishes: list[Publish], code: int) -> None:
    """Each with the code that the specification has for it."""
    peer = World(BrokerConfig(max_topic_alias=3)).connect()
    peer.send(*publishes)
    assert peer.received() == [Disconnect(code)]
    assert peer.transport.closed


def test_topic_alias_can_be_set_anew() -> None:
    """[3.3.2-7] It belongs to the connection and means what it was given last."""
    world = World()
    application = Application(world)
    world.connect().send(
        Publish("one", b"", properties={"topic_alias": 1}),
        Publish("two", b"", properties={"topic_alias": 1}),
        Publish("", b"", properties={"topic_alias": 1}),
    )
    assert [publish.topic for publish in application.calls[0]] == ["one", "two", "two"]


def test_retained_publish_is_refused_where_nothing_is_retained() -> None:
    """[3.2.2-14]"""
    peer = World(BrokerConfig(retain_available=False)).connect()
    peer.send(Publish("t", b"", retain=True))
    assert peer.received() == [Disconnect(0x9A)]


def test_packet_above_the_maximum_size_ends_the_connection() -> None:
    """0x95"""
    world = World(BrokerConfig(max_packet_size=100))
    peer = world.connect()
    peer.send(Publish("t", b"x" * 100))
    assert peer.received() == [Disconnect(0x95)]
    assert world.reasons(ClientDisconnected) == ["frame_too_large"]


def test_topic_with_too_many_levels_ends_the_connection() -> None:
    """0x90"""
    peer = World(BrokerConfig(max_topic_levels=3)).connect()
    peer.send(Publish("a/b/c", b""))
    assert peer.is_alive()
    peer.send(Publish("a/b/c/d", b""))
    assert peer.received() == [Disconnect(0x90)]


def test_publish_before_a_subscribe_of_the_same_read_is_not_heard() -> None:
    """Packets of one client act in their order, however many came together."""
    world = World()
    peer = world.connect("a", version=4)
    peer.send(Publish("t", b"before"), Subscribe(1, [Subscription("t")]), Publish("t", b"after"))
    assert peer.received() == [SubAck(1, [0]), Publish("t", b"after")]


def test_message_id_of_the_hook_stands_in_later_events() -> None:
    """An application finds its own name for a message again when it is delivered or dropped."""
    world = World()

    def name(client: ClientInfo, publishes: Sequence[Any], now_ms: int) -> Receipt:
        for publish in publishes:
            publish.message_id = "its name"
        return ACCEPTED

    world.hooks.published = name
    world.connect("a").send(Publish("t", b""))
    assert world.events_of(MessageDropped)[0].message.message_id == "its name"
