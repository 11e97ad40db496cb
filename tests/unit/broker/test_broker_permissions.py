"""Permissions that have to be asked elsewhere: the client waits, everything stays in order, and failures deny."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from broker.access import Accepted, Action, AllowAll, Credentials, Verb
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
    UnsubAck,
    Unsubscribe,
    Will,
)
from broker.config import BrokerConfig
from broker.hooks import ClientDisconnected, ClientInfo, IncomingPublish
from broker.receipt import Receipt
from support.mqtt_world import ManualHold, Peer, World

versions = pytest.mark.parametrize("version", [3, 4, 5])
FINE_CODE = {3: 0, 4: 0, 5: 0x10}
"""The reason code of a publish without subscribers."""


class SlowAccess(AllowAll):
    """An access control with an empty cache: every permission is asked, and a test gives the answer."""

    def __init__(self) -> None:
        self.questions: dict[tuple[str, Action], asyncio.Future[bool]] = {}
        self.asked: list[Action] = []
        self.cache: dict[str, bool] = {}

    def authenticate(self, client: ClientInfo, credentials: Credentials) -> Accepted:
        return Accepted(bypasses_acl=client.client_id == "listener")

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool | None:
        return self.cache.get(topic)

    def may_subscribe(self, client: ClientInfo, topic_filter: str, qos: int) -> bool | None:
        return self.cache.get(topic_filter)

    async def ask(self, client: ClientInfo, action: Action) -> bool:
        self.asked.append(action)
        question: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.questions[client.client_id, action] = question
        return await question

    async def answer(self, answer: object = True, topic: str = "") -> None:
        """Answer the open questions (about `topic`) and let the broker go on."""
        await settle()
        for (_, action), question in list(self.questions.items()):
            if not question.done() and topic in ("", action.topic):
                if isinstance(answer, Exception):
                    question.set_exception(answer)
                else:
                    question.set_result(answer)  # type: ignore[arg-type]
        await settle()


async def settle() -> None:
    """Let everything run that does not wait for a test."""
    for _ in range(8):
        await asyncio.sleep(0)


def slow_world(config: BrokerConfig | None = None) -> tuple[World, SlowAccess]:
    access = SlowAccess()
    return World(config or BrokerConfig(), access=access), access


def listening(world: World) -> Peer:
    peer = world.connect("listener")
    peer.subscribe("#", qos=2)
    return peer


def qos1(packet_id: int, topic: str = "t") -> Publish:
    return Publish(topic, b"%d" % packet_id, 1, packet_id=packet_id)


def qos2(packet_id: int, topic: str = "t") -> Publish:
    return Publish(topic, b"%d" % packet_id, 2, packet_id=packet_id)


@versions
async def test_publishes_of_every_qos_wait_for_their_permission(version: int) -> None:
    """The client is not read from meanwhile, and acknowledgements and order are those of a quick answer."""
    world, access = slow_world()
    listener = listening(world)
    peer = world.connect("a", version)
    peer.send(Publish("t", b"0"), qos1(1), qos2(2), PingReq())
    assert (peer.received(), listener.payloads()) == ([], [])
    assert not peer.transport.reading

    await access.answer()

    assert peer.received() == [PubAck(1), PubRec(2), PingResp()]
    assert listener.payloads() == [b"0", b"1", b"2"]
    assert peer.transport.reading
    peer.send(PubRel(2))
    assert peer.received() == [PubComp(2)]


async def test_every_action_of_a_read_is_asked_once() -> None:
    """A read can hold a thousand publishes to one topic."""
    world, access = slow_world()
    peer = world.connect("a")
    peer.send(*[qos1(number, f"t/{number % 2}") for number in range(1, 101)])

    await access.answer()

    assert access.asked == [Action(Verb.PUBLISH, "t/1", 1), Action(Verb.PUBLISH, "t/0", 1)]
    assert peer.received() == [PubAck(number, 0x10) for number in range(1, 101)]


async def test_questions_of_one_client_are_asked_a_few_at_a_time() -> None:
    """A client that publishes to ten thousand topics must not flood the backend of the access control."""
    world, access = slow_world()
    peer = world.connect("a")
    peer.send(*[qos1(number, f"t/{number}") for number in range(1, 101)])
    await settle()
    assert len(access.asked) == 32
    for _ in range(4):
        await access.answer()
    assert peer.received() == [PubAck(number, 0x10) for number in range(1, 101)]


@pytest.mark.parametrize(("version", "code"), [(5, 0x87), (4, 0)])
async def test_publish_that_is_denied_later_is_not_routed(version: int, code: int) -> None:
    """A denial has the same consequence as one from the cache; what is allowed beside it is routed."""
    world, access = slow_world()
    access.cache["known"] = True
    listener = listening(world)
    peer = world.connect("a", version)
    peer.send(qos1(1, "known"), qos1(2, "secret"), qos2(3, "secret"), qos1(4, "known"))

    await access.answer(False)

    assert peer.received() == [PubAck(1), PubAck(2, code), PubRec(3, code), PubAck(4)]
    assert listener.payloads() == [b"1", b"4"]
    assert world.broker.stats.messages_refused == 2
    assert world.broker.stats.authorizations_failed == 0


async def test_refused_qos_2_message_is_new_when_it_comes_again() -> None:
    """[MQTT-4.3.3-9] A message that was denied was never received."""
    world, access = slow_world()
    listener = listening(world)
    peer = world.connect("a")
    peer.send(qos2(1))
    await access.answer(False)
    peer.send(qos2(1))
    await access.answer(True)
    assert peer.received() == [PubRec(1, 0x87), PubRec(1)]
    assert listener.payloads() == [b"1"]


@versions
async def test_packets_behind_a_question_wait_their_turn(version: int) -> None:
    """In one read or in several: SUBSCRIBE, PUBACK, PINGREQ and further publishes are served in order."""
    world, access = slow_world()
    access.cache.update({"own": True, "now": True})
    peer = world.connect("a", version)
    peer.send(qos1(1), PingReq(), Subscribe(2, [Subscription("own")]))
    peer.send(Publish("own", b"x"), qos1(3, "now"))
    peer.send(Unsubscribe(4, ["own"]), PingReq())
    assert peer.received() == []

    await access.answer()

    assert peer.received() == [
        PubAck(1, FINE_CODE[version]),
        PingResp(),
        SubAck(2, [0]),
        Publish("own", b"x"),
        PubAck(3, FINE_CODE[version]),
        UnsubAck(4, [0] if version == 5 else []),
        PingResp(),
    ]


async def test_question_behind_a_question_is_asked_in_its_turn() -> None:
    """Its publish is not handed on before those in front of it."""
    world, access = slow_world()
    listener = listening(world)
    peer = world.connect("a")
    peer.send(qos1(1, "first"), Subscribe(2, [Subscription("own")]), qos1(3, "second"))
    peer.send(qos1(4, "third"), PingReq())
    await settle()
    assert [action.topic for action in access.asked] == ["first"]
    for topic in ("first", "own", "second", "third"):
        assert not peer.transport.reading
        await access.answer(topic=topic)
    assert [action.topic for action in access.asked] == ["first", "own", "second", "third"]
    assert peer.received() == [PubAck(1), SubAck(2, [0]), PubAck(3), PubAck(4), PingResp()]
    assert listener.payloads() == [b"1", b"3", b"4"]
    assert peer.transport.reading


async def test_bytes_received_meanwhile_are_processed_in_order() -> None:
    """A duplicate behind a question is one of the message that waits, and half a packet waits for its other half."""
    world, access = slow_world()
    listener = listening(world)
    peer = world.connect("a")
    peer.send(qos2(1))
    peer.send(Publish("t", b"1", 2, dup=True, packet_id=1))
    ping = PingReq().encode(5)
    peer.send_bytes(ping[:1])
    await access.answer()
    peer.send_bytes(ping[1:])
    assert peer.received() == [PubRec(1), PubRec(1), PingResp()]
    assert listener.payloads() == [b"1"]


async def test_clients_wait_each_for_itself() -> None:
    """One client's question does not hold up the others."""
    world, access = slow_world()
    one, two = world.connect("one"), world.connect("two")
    one.send(qos1(1, "one"))
    two.send(qos1(1, "two"))
    await access.answer(topic="two")
    assert (one.received(), two.received()) == ([], [PubAck(1, 0x10)])
    await access.answer()
    assert one.received() == [PubAck(1, 0x10)]


@pytest.mark.parametrize(("version", "code"), [(5, 0x87), (4, 0x80)])
async def test_subscriptions_wait_for_their_permission(version: int, code: int) -> None:
    """Those of one SUBSCRIBE are asked together, without the share name; ill-formed ones are not asked."""
    world, access = slow_world()
    access.cache["known"] = True
    peer = world.connect("a", version)
    filters = ["known", "$share/g/fine", "secret", "fine", "$share/g"]
    peer.send(Subscribe(1, [Subscription(each, 1) for each in filters]))
    assert peer.received() == []

    await settle()
    assert access.asked == [Action(Verb.SUBSCRIBE, "fine", 1), Action(Verb.SUBSCRIBE, "secret", 1)]
    await access.answer(topic="fine")
    await access.answer(False)

    assert peer.received() == [SubAck(1, [1, 1, code, 1, 0x8F if version == 5 else 0x80])]
    assert world.broker.subscription_count == 3


@pytest.mark.parametrize("answer", [RuntimeError("database gone"), "yes", None, 1])
async def test_asking_that_fails_denies_and_is_counted(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    """A backend that is down, or gives an invalid answer, denies every action."""
    world, access = slow_world()
    listener = listening(world)
    peer = world.connect("a")
    peer.send(qos1(1, "a"), qos1(2, "b"), Subscribe(3, [Subscription("c")]))
    with caplog.at_level(logging.WARNING):
        await access.answer(answer)
        await access.answer(answer)
    assert peer.received() == [PubAck(1, 0x87), PubAck(2, 0x87), SubAck(3, [0x87])]
    assert listener.payloads() == []
    failures = 3 if isinstance(answer, Exception) else 0
    assert world.broker.stats.authorizations_failed == failures
    assert len(caplog.records) == (2 if failures else 0)  # one for each question
    assert all("RuntimeError: database gone" in record.message for record in caplog.records)


async def test_answer_that_does_not_come_in_time_is_a_denial() -> None:
    """The client must not wait for ever for a backend that hangs."""
    world, _ = slow_world(BrokerConfig(authorization_timeout=0.01))
    peer = world.connect("a")
    peer.send(qos1(1), PingReq())
    async with asyncio.timeout(10):
        while not peer.transport.reading:
            await asyncio.sleep(0.005)
    assert peer.received() == [PubAck(1, 0x87), PingResp()]
    assert world.broker.stats.authorizations_failed == 1


async def test_acknowledgements_keep_their_order_around_a_hold() -> None:
    """A publish that waited for a permission is held by the application like any other."""
    world, access = slow_world()
    access.cache["known"] = True
    holds = [ManualHold(), ManualHold()]
    answers = iter(holds)
    world.hooks.published = lambda *_: Receipt(next(answers))
    peer = world.connect("a")
    peer.send(qos1(1, "known"))
    peer.send(qos1(2, "asked"), PingReq())
    await access.answer()
    assert peer.received() == [PingResp()]
    holds[1].finish()
    assert peer.received() == []
    holds[0].finish()
    assert peer.received() == [PubAck(1, 0x10), PubAck(2, 0x10)]


async def test_publishes_of_a_lost_connection_are_forgotten() -> None:
    """They were not acknowledged: the client sends them again, the QoS 2 message under an id that is new."""
    world, access = slow_world()
    listener = listening(world)
    properties = {"session_expiry_interval": 60}
    first = world.connect("a", clean_start=False, properties=properties)
    first.send(Publish("t", b"0"), qos1(1), qos2(2))
    await settle()
    first.lose()
    await settle()
    assert all(question.cancelled() for question in access.questions.values())
    assert listener.payloads() == []

    access.cache["t"] = True
    second = world.connect("a", clean_start=False, properties=properties)
    second.send(Publish("t", b"1", 1, dup=True, packet_id=1), Publish("t", b"2", 2, dup=True, packet_id=2))
    assert second.received() == [PubAck(1), PubRec(2)]
    assert listener.payloads() == [b"1", b"2"]


def leave_by_takeover(world: World, peer: Peer) -> None:
    world.connect("a", clean_start=False)


def leave_by_kick(world: World, peer: Peer) -> None:
    world.broker.kick("a")


@pytest.mark.parametrize("leave", [leave_by_takeover, leave_by_kick])
async def test_publishes_of_a_client_that_was_cut_are_forgotten(leave: Callable[[World, Peer], None]) -> None:
    """Nothing comes from a connection that ended, whatever the answer would have been."""
    world, access = slow_world()
    listener = listening(world)
    peer = world.connect("a", clean_start=False)
    peer.send(qos1(1), Disconnect())
    await settle()
    leave(world, peer)
    await access.answer()
    assert listener.payloads() == []
    assert len(world.events_of(ClientDisconnected)) == 1


@pytest.mark.parametrize("in_one_read", [True, False])
async def test_publishes_in_front_of_a_disconnect_count(in_one_read: bool) -> None:
    """A device that publishes, says DISCONNECT and closes its socket has done everything right."""
    world, access = slow_world()
    listener = listening(world)
    peer = world.connect("a", will=Will("t", b"will"), properties={"session_expiry_interval": 60})
    if in_one_read:
        peer.send(Publish("t", b"0"), qos2(1), Disconnect())
    else:
        peer.send(Publish("t", b"0"), qos2(1))
        peer.send(Disconnect())
    await settle()
    peer.lose()
    assert world.events_of(ClientDisconnected) == []

    await access.answer()

    assert listener.payloads() == [b"0", b"1"]
    assert world.reasons(ClientDisconnected) == ["normal"]
    assert world.broker.stats.disconnects == {"normal": 1}
    again = world.connect("a", clean_start=False)
    again.send(Publish("t", b"1", 2, dup=True, packet_id=1))
    assert again.received() == [PubRec(1)]  # it was received: its PUBREC was lost with the connection
    assert listener.payloads() == []


@pytest.mark.parametrize(("answer", "payloads"), [(True, [b"gone"]), (False, []), (RuntimeError("down"), [])])
async def test_will_is_published_once_its_permission_is_known(answer: object, payloads: list[bytes]) -> None:
    """Its client has gone and does not wait for it; a failure denies it as well."""
    world, access = slow_world()
    seen: list[bool] = []

    def published(client: ClientInfo, publishes: list[IncomingPublish], now_ms: int) -> Receipt:
        seen.extend(publish.is_will for publish in publishes)
        return Receipt()

    world.hooks.published = published  # type: ignore[assignment]
    listener = listening(world)
    peer = world.connect("a", will=Will("t", b"gone", 1))
    peer.lose()
    assert listener.payloads() == []
    await access.answer(answer)
    assert listener.payloads() == payloads
    assert seen == [True] * len(payloads)
    assert access.asked == [Action(Verb.PUBLISH, "t", 1)]
    assert world.broker.stats.messages_refused == (0 if payloads else 1)


async def test_stopping_waits_for_permissions() -> None:
    """Publishes received before the stop are routed and acknowledged, wills included, within the deadline."""
    world, access = slow_world()
    listener = listening(world)
    peer, leaver = world.connect("a", version=4), world.connect("b", will=Will("t", b"will"))
    peer.send(qos1(1))
    leaver.lose()
    stopping = asyncio.ensure_future(world.broker.stop(10))
    await settle()
    assert not stopping.done()
    await access.answer()
    peer.lose()
    listener.lose()
    await stopping
    assert peer.received() == [PubAck(1)]
    assert b"will" in listener.transport.written
    assert b"1" in listener.transport.written


async def test_client_that_is_asked_about_is_not_silent() -> None:
    """Its PINGREQs wait unread, so that its keep-alive interval does not run."""
    world, access = slow_world()
    peer = world.connect("a", keep_alive=10)
    peer.send(qos1(1))
    world.advance(100)
    await access.answer()
    assert peer.received() == [PubAck(1, 0x10)]
    world.advance(14)
    assert not peer.transport.closed
    world.advance(2)
    assert peer.transport.closed


async def test_bug_behind_an_answer_costs_one_connection() -> None:
    """The hook raises when the publishes are handed on at last."""
    world, access = slow_world()

    def broken(*_: object) -> Receipt:
        raise RuntimeError("bug")

    world.hooks.published = broken
    victim, other = world.connect("a"), world.connect("b")
    victim.send(qos1(1))
    await access.answer()
    assert victim.received() == [Disconnect(0x80)]
    assert other.is_alive()


async def test_cached_answers_ask_no_backend() -> None:
    """A cached answer costs neither a task nor a turn of the event loop."""
    world, access = slow_world()
    access.cache["t"] = True
    peer = world.connect("a")
    peer.send(qos1(1), Subscribe(2, [Subscription("t")]))
    assert peer.received() == [PubAck(1, 0x10), SubAck(2, [0])]
    assert access.asked == []
