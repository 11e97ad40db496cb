"""Opening and closing sessions with a store that takes its time, fails, or is overtaken by events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.codec.packets import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    Subscription,
    Will,
)
from broker.codec.reasons import Reason
from broker.config import BrokerConfig
from broker.hooks import ClientConnected, ClientDisconnected, ClientInfo
from support.broker_doubles import SlowSessions, turn
from support.mqtt_world import Peer, World

APP = ClientInfo("app")


def begin(world: World, client_id: str = "c", version: int = 5, expiry: int = 100, **fields: Any) -> Peer:
    """A client that has sent its CONNECT."""
    peer = world.peer(version)
    properties = {"session_expiry_interval": expiry} if version == 5 else None
    fields.setdefault("clean_start", False)
    peer.send(Connect(client_id, protocol_version=version, properties=properties, **fields))
    return peer


def slow_world(slow: str = "load", **options: Any) -> tuple[World, SlowSessions]:
    config = BrokerConfig(**options)
    sessions = SlowSessions(config, slow)
    return World(config, sessions=sessions), sessions


async def stored_session(world: World, sessions: SlowSessions) -> None:
    """Leave a session of client `c` behind that subscribes to `t`."""
    slow, sessions.slow = sessions.slow, set()
    peer = begin(world)
    peer.received()
    peer.subscribe("t", qos=1)
    peer.lose()
    sessions.slow = slow


def connack(peer: Peer) -> ConnAck:
    packet = peer.received()[0]
    assert isinstance(packet, ConnAck)
    return packet


def test_sessions_in_memory_open_within_the_call() -> None:
    """No event loop, no task and no extra turn: CONNACK is there when the CONNECT has been read."""
    world = World()
    peer = begin(world)
    assert connack(peer).reason_code == 0
    assert not world.broker._tasks


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_connack_waits_for_the_session(version: int) -> None:
    """A session may be on disk or with another node; until it is loaded the client has no session."""
    world, sessions = slow_world()
    peer = begin(world, version=version)
    await turn()
    assert peer.received() == []
    assert world.broker.clients == []
    assert await sessions.answer() == ("load", "c")
    assert connack(peer).reason_code == 0
    assert [info.client_id for info in world.broker.clients] == ["c"]
    assert peer.is_alive()


async def test_loaded_session_is_resumed() -> None:
    """Subscriptions and queue are those of the session that was loaded."""
    world, sessions = slow_world()
    await stored_session(world, sessions)
    world.broker.publish("t", b"1", 1, False, None, APP, 0)
    peer = begin(world)
    world.broker.publish("t", b"2", 1, False, None, APP, 0)  # while it is loaded
    await sessions.answer()
    packets = peer.received()
    assert packets[0] == ConnAck(True, 0, packets[0].properties)  # type: ignore[union-attr]
    assert [packet.payload for packet in packets[1:]] == [b"1", b"2"]  # type: ignore[union-attr]


@pytest.mark.parametrize("slow", ["load", "flush"])
async def test_packets_sent_meanwhile_wait_in_order(slow: str) -> None:
    """[MQTT-3.1.4-5] Clients need not wait for CONNACK; the connection is not read from, so that little has to wait."""
    world, sessions = slow_world(slow)
    peer = begin(world)
    assert not peer.transport.reading
    peer.send(Subscribe(1, [Subscription("t", 1)]))
    peer.send(Publish("t", b"x", 1, packet_id=2), PingReq())
    await turn()
    assert peer.received() == []
    await sessions.answer()
    assert [type(packet) for packet in peer.received()] == [ConnAck, SubAck, Publish, PubAck, PingResp]
    assert peer.transport.reading


async def test_client_that_leaves_while_its_session_is_loaded_changes_nothing() -> None:
    """The session it would have had expires when it would have expired."""
    world, sessions = slow_world()
    await stored_session(world, sessions)
    world.advance(60)
    peer = begin(world, expiry=1000)
    peer.lose()
    await sessions.answer()
    assert world.broker.clients == []
    world.advance(39)
    assert world.broker.session_count == 1
    world.advance(1)
    assert world.broker.session_count == 0
    assert world.reasons(ClientDisconnected) == ["tcp_closed"]


async def test_new_client_that_leaves_while_its_session_is_loaded_leaves_no_session() -> None:
    """Nothing was created yet."""
    world, sessions = slow_world()
    begin(world).lose()
    await sessions.answer()
    assert world.broker.session_count == 0
    assert world.events == []


@pytest.mark.parametrize(("expiry", "left"), [(100, 1), (0, 0)])
async def test_client_that_leaves_before_its_session_is_stored_has_left_a_session(expiry: int, left: int) -> None:
    """The session is open, and its CONNECT never acknowledged: no will, and the expiry interval as asked for."""
    world, sessions = slow_world("flush")
    begin(world, expiry=expiry, will=Will("w", b"")).lose()
    assert world.broker.session_count == left
    while sessions.owed:
        await sessions.answer()
    assert world.broker.clients == []
    assert world.broker.stats.messages_dropped == {}
    world.advance(100)
    assert world.broker.session_count == 0


@pytest.mark.parametrize("slow", ["load", "flush"])
@pytest.mark.parametrize(("version", "code"), [(4, 3), (5, Reason.SERVER_UNAVAILABLE)])
async def test_newer_client_takes_over_an_opening(version: int, code: int, slow: str) -> None:
    """[MQTT-3.1.4-3] The older one never gets a session; the newer one's opening waits until the store has answered."""
    world, sessions = slow_world(slow)
    older = begin(world, version=version)
    newer = begin(world)
    assert connack(older).reason_code == code
    assert older.transport.closed
    await turn()
    assert newer.received() == []
    while sessions.owed:
        assert (await sessions.answer())[1] == "c"
    assert connack(newer).reason_code == 0
    assert len(world.events_of(ClientConnected)) == 1
    older.client.connection_lost("tcp_closed")
    assert newer.is_alive()


async def test_openings_of_one_client_id_come_one_after_the_other() -> None:
    """The store is asked again only when it has answered, and only for the newest client."""
    world, sessions = slow_world()
    peers = [begin(world) for _ in range(4)]
    assert [method for method, _, _ in sessions.owed] == ["load"]
    await sessions.answer()
    assert [method for method, _, _ in sessions.owed] == ["load"]
    await sessions.answer()
    assert [connack(peer).reason_code for peer in peers] == [0x88, 0x88, 0x88, 0]


async def test_openings_of_different_clients_do_not_wait_for_each_other() -> None:
    """One client whose session loads slowly does not delay others."""
    world, sessions = slow_world()
    begin(world, "far")
    near = begin(world, "near")
    _, second = sessions.owed
    second[2].set_result(None)
    await turn()
    assert connack(near).reason_code == 0


@pytest.mark.parametrize("method", ["load", "flush"])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("version", "code"), [(4, 3), (5, Reason.SERVER_UNAVAILABLE)])
async def test_store_that_fails_refuses_the_client(version: int, code: int, at_once: bool, method: str) -> None:
    """0x88: the client may try again later, and succeeds once the store works again."""
    world, sessions = slow_world(method)
    if at_once:
        sessions.broken = {method}
    peer = begin(world, version=version)
    while sessions.owed:
        await sessions.answer(error=OSError("the store is gone"))
    assert connack(peer).reason_code == code
    assert peer.transport.closed
    assert world.broker.stats.connects_refused == 1
    assert world.events_of(ClientConnected) == []
    sessions.slow, sessions.broken = set(), set()
    assert connack(begin(world)).reason_code == 0


async def test_failure_of_an_abandoned_opening_affects_no_client() -> None:
    """Its client has left; the next one asks the store anew."""
    world, sessions = slow_world()
    older, newer = begin(world), begin(world)
    assert connack(older).reason_code == Reason.SERVER_UNAVAILABLE
    await sessions.answer(error=OSError("the store is gone"))
    await sessions.answer()
    assert connack(newer).reason_code == 0


async def test_opening_has_a_deadline() -> None:
    """A store that never answers does not keep connections for ever; an answer that comes too late is ignored."""
    world, sessions = slow_world(idle_timeout=10)
    peer = begin(world)
    world.advance(9.5)
    assert peer.received() == []
    world.advance(0.5)
    assert connack(peer).reason_code == Reason.SERVER_UNAVAILABLE
    assert peer.transport.closed
    second = begin(world)
    assert len(sessions.owed) == 1
    await sessions.answer()
    assert world.broker.clients == []
    await sessions.answer()
    assert connack(second).reason_code == 0


async def test_opening_waits_until_the_session_of_the_last_client_is_closed() -> None:
    """Its last changes are still being written when the client is back."""
    world, sessions = slow_world("")
    first = begin(world)
    first.received()
    sessions.slow = {"flush"}
    first.disconnect()
    second = begin(world)
    await turn()
    assert second.received() == []
    await sessions.answer()
    assert second.received() == []
    await sessions.answer()
    assert connack(second).session_present


async def test_takeover_waits_until_the_session_of_the_older_client_is_closed() -> None:
    """[MQTT-3.1.4-3] The older client is disconnected at once, the newer one is accepted when the session is free."""
    world, sessions = slow_world("")
    older = begin(world)
    older.received()
    sessions.slow = {"flush"}
    newer = begin(world)
    assert older.receive() == Disconnect(Reason.SESSION_TAKEN_OVER)
    assert newer.received() == []
    await sessions.answer()
    await sessions.answer()
    assert connack(newer).session_present
    assert world.reasons(ClientDisconnected) == ["takenover"]


async def test_clean_start_waits_until_the_old_session_is_removed() -> None:
    """An opening of the same client id must not find it again."""
    world, sessions = slow_world("remove")
    await stored_session(world, sessions)
    peer = begin(world, clean_start=True)
    assert not connack(peer).session_present
    peer.lose()
    second = begin(world)
    await turn()
    assert second.received() == []
    await sessions.answer()
    assert connack(second).session_present


async def test_failure_to_store_the_session_of_a_client_that_left_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """There is no client to inform, and the session continues in memory."""
    world, sessions = slow_world("")
    peer = begin(world)
    sessions.slow = {"flush"}
    peer.lose()
    await sessions.answer(error=OSError("the disk is full"))
    assert "session store failed to write the session of c" in caplog.text
    sessions.slow = set()
    assert connack(begin(world)).session_present


@pytest.mark.parametrize("slow", ["load", "flush"])
async def test_client_can_be_kicked_while_its_session_is_opened(slow: str) -> None:
    """It is disconnected like any other, and its session ends."""
    world, sessions = slow_world(slow)
    peer = begin(world)
    assert world.broker.kick("c")
    assert connack(peer).reason_code == Reason.SERVER_UNAVAILABLE
    while sessions.owed:
        await sessions.answer()
    assert world.broker.session_count == 0
    assert world.broker.clients == []


async def test_openings_count_as_sessions() -> None:
    """`max_sessions` holds also while the store is slow."""
    world, sessions = slow_world(max_sessions=2)
    first, second, third = begin(world, "1"), begin(world, "2"), begin(world, "3")
    assert connack(third).reason_code == Reason.QUOTA_EXCEEDED
    await sessions.answer()
    await sessions.answer()
    assert [connack(peer).reason_code for peer in (first, second)] == [0, 0]


async def test_stop_waits_until_sessions_are_stored() -> None:
    """Sessions and wills at a shutdown are written before the process ends."""
    world, sessions = slow_world("")
    peer = begin(world)
    sessions.slow = {"flush"}
    peer.lose()
    stopping = asyncio.ensure_future(world.broker.stop(60))
    await turn()
    assert not stopping.done()
    await sessions.answer()
    await stopping
