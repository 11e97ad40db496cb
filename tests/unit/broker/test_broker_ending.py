"""The end of a client while a call on the way fails: its session is given back, other clients are not affected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from broker.access import Accepted, AllowAll, Credentials, Decision
from broker.codec.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    Subscription,
    Will,
)
from broker.codec.reasons import Reason
from broker.config import BrokerConfig
from broker.hooks import ClientInfo
from broker.receipt import refusing
from support.broker_doubles import SlowSessions, turn
from support.mqtt_world import Peer, World


def broken(*_: Any) -> Any:
    raise RuntimeError("bug")


def keep(seconds: int = 100, **fields: Any) -> dict[str, Any]:
    return {"clean_start": False, "properties": {"session_expiry_interval": seconds}, **fields}


def lose(world: World, peer: Peer) -> None:
    peer.lose()


def disconnect(world: World, peer: Peer) -> None:
    peer.disconnect(Disconnect(0x04))


def break_protocol(world: World, peer: Peer) -> None:
    peer.send_bytes(b"\x00\x00")


def kick(world: World, peer: Peer) -> None:
    world.broker.kick("other")
    peer.client.leave("kicked", Reason.ADMINISTRATIVE_ACTION)


def be_silent(world: World, peer: Peer) -> None:
    world.advance(2)


ENDS = [lose, disconnect, break_protocol, kick, be_silent]


def break_hook(world: World, peer: Peer) -> None:
    world.hooks.client_disconnected = broken


def break_write(world: World, peer: Peer) -> None:
    def write(data: bytes) -> None:
        raise OSError("write")

    peer.client._connection._put(b"x")
    peer.transport.write = write  # type: ignore[method-assign]


def break_will(world: World, peer: Peer) -> None:
    world.hooks.published = broken


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("fault", [break_hook, break_write, break_will])
def test_failure_while_a_client_ends_does_not_keep_its_session(
    fault: Callable[[World, Peer], None], end: Callable[[World, Peer], None]
) -> None:
    """Else it would count as connected for ever: never expire, and swallow what is sent to it."""
    world = World()
    peer = world.connect("a", keep_alive=1, will=Will("w", b""), **keep())
    peer.subscribe("t", qos=1)
    fault(world, peer)
    end(world, peer)
    assert peer.transport.closed
    assert world.broker.clients == []
    world.hooks.client_disconnected = world.hooks.published = None
    world.broker.publish("t", b"later", 1, False, None, ClientInfo("app"), world.now_ms())
    again = world.connect("a", **keep())
    assert again.connack.session_present  # type: ignore[attr-defined]
    assert again.payloads() == [b"later"]
    again.lose()
    world.advance(101)
    assert world.broker.session_count == 0
    assert sum(world.broker.stats.disconnects.values()) == 2


@pytest.mark.parametrize("broken_method", ["flush", "remove"])
async def test_store_that_raises_while_a_client_ends_keeps_nobody_out(broken_method: str) -> None:
    """A store may raise as well as answer with an awaitable that fails."""
    sessions = SlowSessions(slow="")
    world = World(sessions=sessions)
    peer = world.connect("a", **keep(100 if broken_method == "flush" else 0))
    sessions.broken = {broken_method}
    peer.lose()
    assert world.broker.clients == []
    sessions.broken.clear()
    world.connect("a", **keep())
    assert world.broker.session_count == 1


def test_failure_while_a_client_is_taken_over_does_not_reach_the_new_client() -> None:
    """It is a failure of the old one."""
    world = World()
    old = world.connect("a", **keep())
    world.hooks.client_disconnected = broken
    new = world.connect("a", **keep())
    assert old.transport.closed
    assert new.is_alive()
    assert len(world.broker.clients) == 1


def test_failure_while_the_queue_is_sent_ends_the_connection() -> None:
    """Part of what was taken from the queue was not sent: it must not go on as if it was."""
    world = World()
    peer = world.connect("a", **keep())
    peer.subscribe("t", qos=1)
    peer.client.pause_writing()
    world.broker.publish("t", b"x", 1, False, None, ClientInfo("app"), world.now_ms())
    world.hooks.message_delivered = broken
    peer.client.resume_writing()
    assert peer.transport.closed
    assert world.broker.clients == []


class Cancelled(AllowAll):
    """Authentication whose own task was cancelled, as a library that times out may do it."""

    def authenticate(self, client: ClientInfo, credentials: Credentials) -> asyncio.Future[Decision]:
        future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        future.cancel()
        return future


async def test_cancelled_authentication_refuses_the_client_at_once() -> None:
    """It is a failure like any other, and not a reason to wait for ever."""
    world = World(access=Cancelled())
    peer = world.peer()
    peer.send(Connect("a", protocol_version=5))
    await turn()
    assert peer.receive() == ConnAck(False, Reason.SERVER_UNAVAILABLE)
    assert peer.transport.closed


async def test_cancelled_answer_of_the_store_does_not_lock_its_client_id() -> None:
    """The next client with this id would wait for an answer that never comes."""
    sessions = SlowSessions(slow="load")
    world = World(sessions=sessions)
    first = world.peer()
    first.send(Connect("a", protocol_version=5))
    await turn()
    sessions.owed.pop(0)[2].cancel()
    await turn()
    assert first.receive() == ConnAck(False, Reason.SERVER_UNAVAILABLE)
    sessions.slow.clear()
    assert world.connect("a").is_alive()


async def test_authentication_under_way_does_not_let_in_more_clients_than_have_room() -> None:
    """All of them were asked about while there was room for one."""
    decisions: list[asyncio.Future[Decision]] = []

    class Slow(AllowAll):
        def authenticate(self, client: ClientInfo, credentials: Credentials) -> asyncio.Future[Decision]:
            decisions.append(asyncio.get_running_loop().create_future())
            return decisions[-1]

    world = World(BrokerConfig(max_sessions=1), access=Slow())
    peers = [world.peer() for _ in range(3)]
    for index, peer in enumerate(peers):
        peer.send(Connect(f"c{index}", protocol_version=5))
    await turn()
    for decision in decisions:
        decision.set_result(Accepted())
    await turn()
    codes = [packet.reason_code for peer in peers for packet in peer.received() if isinstance(packet, ConnAck)]
    assert codes == [0, Reason.QUOTA_EXCEEDED, Reason.QUOTA_EXCEEDED]
    assert world.broker.session_count == 1


@pytest.mark.parametrize("separated", [False, True])
def test_qos_2_duplicate_of_a_refused_publish_is_not_accepted(separated: bool) -> None:
    """It was not handed on, so the client has to keep it."""
    world = World()
    world.hooks.published = lambda _, publishes, __: refusing(len(publishes), {0: 0x97})
    peer = world.connect("a")
    first, second = Publish("t", b"x", 2, packet_id=1), Publish("t", b"x", 2, dup=True, packet_id=1)
    if separated:
        peer.send(first, Subscribe(9, [Subscription("x")]), second)
    else:
        peer.send(first, second)
    acks = [packet for packet in peer.received() if isinstance(packet, PubRec)]
    assert [ack.reason_code for ack in acks] == [0x97, 0x97]
    peer.send(PubRel(1))
    assert world.broker.stats.messages_received == 1
