"""CONNECT, CONNACK, and how a connection ends. Numbers in brackets are statements of MQTT 5.0, ``3:`` of 3.1.1."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest

from broker.access import Accepted, AllowAll, Credentials, Decision, Refused
from broker.codec.packets import (
    Auth,
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
from broker.config import BrokerConfig
from broker.hooks import ClientConnected, ClientDisconnected, ClientInfo
from support.mqtt_world import World

versions = pytest.mark.parametrize("version", [3, 4, 5])


@versions
def test_connect_is_answered_and_reported(version: int) -> None:
    """The beginning of everything, and what an application learns of it."""
    world = World()
    peer = world.connect("dev", version, username="u", password=b"p", keep_alive=30)
    assert peer.is_alive()
    (event,) = world.events_of(ClientConnected)
    assert event.session_present is False
    info = event.client
    assert (info.client_id, info.username, info.protocol_version, info.keep_alive) == ("dev", "u", version, 30)
    assert info.origin.peername == "192.0.2.1:40000"
    assert info.origin.sockname == "192.0.2.9:1883"
    assert info.connected_at == world.now_ms()


def test_connack_of_mqtt_5_has_the_limits() -> None:
    """[3.2.2-9..21] A client needs the limits that differ from the defaults, and no others."""
    peer = World(BrokerConfig(receive_maximum=10, max_packet_size=1000, max_topic_alias=3)).connect()
    assert peer.connack.properties == {  # type: ignore[attr-defined]
        "receive_maximum": 10,
        "maximum_packet_size": 1000,
        "topic_alias_maximum": 3,
    }


def test_connack_lists_unavailable_features() -> None:
    """[3.2.2-13] and its neighbours: features that are switched off."""
    config = BrokerConfig(
        retain_available=False, wildcard_subscription=False, shared_subscription=False, server_keep_alive=20
    )
    properties = World(config).connect().connack.properties  # type: ignore[attr-defined]
    assert properties["retain_available"] == 0
    assert properties["wildcard_subscription_available"] == 0
    assert properties["shared_subscription_available"] == 0
    assert properties["server_keep_alive"] == 20


@pytest.mark.parametrize(("size", "answer"), [(15, [ConnAck(False, 0x95)]), (4, [])])
def test_client_that_accepts_no_connack_is_not_served(size: int, answer: list[ConnAck]) -> None:
    """[3.2.0-1, 3.1.2-24] Without CONNACK nothing else may be sent, and waiting for it would have no end."""
    world = World()
    before = world.connect("a")
    peer = world.peer()
    peer.send(Connect("a", protocol_version=5, properties={"maximum_packet_size": size}))
    assert peer.received() == answer
    assert peer.transport.closed
    assert before.is_alive()


def test_response_information_is_given_only_on_request() -> None:
    """[3.1.2-28]"""
    world = World(BrokerConfig(response_information="replies/"))
    assert "response_information" not in world.connect("a").connack.properties  # type: ignore[attr-defined]
    asking = world.connect("b", properties={"request_response_information": 1})
    assert asking.connack.properties["response_information"] == "replies/"  # type: ignore[attr-defined]


def test_client_of_mqtt_5_without_id_gets_the_assigned_one() -> None:
    """[3.1.3-6, 3.2.2-16] Else it could not come back to its session."""
    world = World()
    first, second = world.connect(""), world.connect("")
    names = [peer.connack.properties["assigned_client_identifier"] for peer in (first, second)]  # type: ignore[attr-defined]
    assert len(set(names)) == 2
    assert [info.client_id for info in world.broker.clients] == names


def test_nameless_client_of_3_1_1_needs_a_clean_session() -> None:
    """[3: 3.1.3-8] A session that cannot be resumed is refused with code 2."""
    world = World()
    assert world.connect("", version=4).is_alive()
    peer = world.peer(4)
    peer.send(Connect("", clean_start=False))
    assert bytes(peer.transport.written) == b"\x20\x02\x00\x02"
    assert peer.transport.closed


def test_nameless_client_of_3_1_is_refused() -> None:
    """MQTT 3.1 has no such thing."""
    peer = World().peer(3)
    peer.send(Connect("", protocol_version=3))
    assert bytes(peer.transport.written) == b"\x20\x02\x00\x02"


def test_unknown_level_is_answered_in_the_form_of_3_1_1() -> None:
    """[3: 3.1.2-2] A client that may fall back to an older version must be able to read the answer."""
    peer = World().peer(4)
    peer.send_bytes(bytes.fromhex("10 0d 00 04 4d 51 54 54 07 02 00 3c 00 01 61"))
    assert bytes(peer.transport.written) == b"\x20\x02\x00\x01"
    assert peer.transport.closed


def test_malformed_connect_of_mqtt_5_gets_a_connack() -> None:
    """[3.1.4-2] Before a CONNACK there is no DISCONNECT [3.14.0-1]."""
    peer = World().peer(5)
    peer.send_bytes(bytes.fromhex("10 0e 00 04 4d 51 54 54 05 03 00 3c 00 00 01 61"))
    assert peer.received() == [ConnAck(False, 0x81)]
    assert peer.transport.closed


def test_malformed_connect_of_3_1_1_is_closed_without_a_word() -> None:
    """[3: 3.1.4-1]"""
    peer = World().peer(4)
    peer.send_bytes(bytes.fromhex("10 0d 00 04 4d 51 54 54 04 03 00 3c 00 01 61"))
    assert not peer.transport.written
    assert peer.transport.closed


@pytest.mark.parametrize("data", ["c0 00", "16 03 01 02 00", "47 45 54 20 2f 20 48 54 54 50"])
def test_whatever_is_not_mqtt_is_closed_without_a_word(data: str) -> None:
    """[3.1.0-1] A TLS handshake, an HTTP request, a ping before CONNECT."""
    peer = World().peer()
    peer.send_bytes(bytes.fromhex(data))
    assert not peer.transport.written
    assert peer.transport.closed


@versions
def test_second_connect_ends_the_connection(version: int) -> None:
    """[3.1.0-2]"""
    world = World()
    peer = world.connect("a", version)
    peer.send(Connect("a", protocol_version=version))
    assert peer.received() == ([Disconnect(0x82)] if version == 5 else [])
    assert peer.transport.closed
    assert world.reasons(ClientDisconnected) == ["protocol_error"]


def test_packets_behind_connect_are_served_after_it() -> None:
    """[3.1.4-5] Clients need not wait for CONNACK."""
    world = World()
    peer = world.peer()
    peer.send(Connect("a", protocol_version=5), Subscribe(1, [Subscription("t")]), Publish("t", b"x"), PingReq())
    connack, suback, publish, pong = peer.received()
    assert isinstance(connack, ConnAck)
    assert suback == SubAck(1, [0])
    assert publish == Publish("t", b"x")
    assert pong == PingResp()


class Gate(AllowAll):
    """An access control that answers later, or with what a test wants."""

    def __init__(self, answer: Decision) -> None:
        self.answer = answer
        self.asked: list[tuple[ClientInfo, Credentials]] = []
        self.forbidden = "secret"

    def authenticate(self, client: ClientInfo, credentials: Credentials) -> Decision:
        self.asked.append((client, credentials))
        return self.answer

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool:
        return self.forbidden not in topic

    def may_subscribe(self, client: ClientInfo, topic_filter: str, qos: int) -> bool:
        return self.forbidden not in topic_filter


@pytest.mark.parametrize(("code", "old_code"), [(0x86, 4), (0x87, 5), (0x8A, 5), (0x88, 3), (0x85, 2)])
def test_refused_client_learns_why_and_nothing_behind_is_served(code: int, old_code: int) -> None:
    """[3.1.4-6, 3.2.2-7] MQTT 3 has a word of its own for it."""
    gate = Gate(Refused(code))
    world = World(access=gate)
    for version, answer in ((5, code), (4, old_code)):
        peer = world.peer(version)
        connect = Connect("a", username="u", password=b"p", protocol_version=version)
        peer.send(connect, Publish("t", b"x", 1, packet_id=1))
        assert peer.received() == [ConnAck(False, answer)]
        assert peer.transport.closed
    assert gate.asked[0][1] == Credentials("u", b"p")
    assert world.broker.session_count == 0
    assert world.events == []


def test_attributes_of_an_accepted_client_are_kept() -> None:
    """Rules and access control can read the attributes that authentication found."""
    world = World(access=Gate(Accepted(attributes={"tenant": "blue"})))
    world.connect("a")
    assert world.broker.clients[0].attributes == {"tenant": "blue"}


async def test_authentication_may_take_its_time() -> None:
    """While a database is asked, received packets are kept, and the peer is not read from."""
    answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
    world = World(access=Gate(answer))  # type: ignore[arg-type]
    peer = world.peer()
    peer.send(Connect("a", protocol_version=5), PingReq())
    await asyncio.sleep(0)
    assert peer.received() == []
    assert not peer.transport.reading
    peer.send(Publish("t", b"x", 1, packet_id=7))  # was on its way already
    answer.set_result(Accepted())
    for _ in range(3):
        await asyncio.sleep(0)
    connack, pong, puback = peer.received()
    assert isinstance(connack, ConnAck)
    assert pong == PingResp()
    assert puback == PubAck(7, 0x10)
    assert peer.transport.reading


async def test_client_that_leaves_while_it_is_decided_on_leaves_nothing() -> None:
    """The question to the backend is cancelled, and no session is opened."""
    answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
    world = World(access=Gate(answer))  # type: ignore[arg-type]
    peer = world.peer()
    peer.send(Connect("a", protocol_version=5))
    await asyncio.sleep(0)
    peer.lose()
    for _ in range(3):
        await asyncio.sleep(0)
    assert answer.cancelled()
    assert world.broker.session_count == 0
    assert world.events == []


async def test_authentication_that_breaks_refuses() -> None:
    """While the backend is down no client is accepted, and the code does not blame the client."""
    answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
    world = World(access=Gate(answer))  # type: ignore[arg-type]
    peer = world.peer()
    peer.send(Connect("a", protocol_version=5))
    answer.set_exception(RuntimeError("database gone"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert peer.received() == [ConnAck(False, 0x88)]


def test_enhanced_authentication_is_not_known_yet() -> None:
    """[4.12.0-1]"""
    peer = World().peer()
    peer.send(Connect("a", protocol_version=5, properties={"authentication_method": "SCRAM-SHA-256"}))
    assert peer.received() == [ConnAck(False, 0x8C)]


def test_auth_without_a_method_is_a_protocol_error() -> None:
    """[4.12.0-6]"""
    peer = World().connect()
    peer.send(Auth(0x19))
    assert peer.received() == [Disconnect(0x82)]


@versions
def test_server_packets_from_a_client_end_the_connection(version: int) -> None:
    """CONNACK, SUBACK, UNSUBACK and PINGRESP are the broker's to send."""
    for packet in (ConnAck(), SubAck(1, [0]), PingResp()):
        peer = World().connect("a", version)
        peer.send(packet)
        assert peer.transport.closed


def test_will_to_a_wildcard_is_refused() -> None:
    """It could never be published, so CONNECT is refused."""
    peer = World().peer()
    peer.send(Connect("a", protocol_version=5, will=Will("a/#", b"")))
    assert peer.received() == [ConnAck(False, 0x90)]


def test_retained_will_is_refused_where_nothing_is_retained() -> None:
    """[3.2.2-13]"""
    peer = World(BrokerConfig(retain_available=False)).peer()
    peer.send(Connect("a", protocol_version=5, will=Will("a", b"", retain=True)))
    assert peer.received() == [ConnAck(False, 0x9A)]


def test_sessions_have_a_bound() -> None:
    """A client with a session may resume it; one that needs a new session is refused."""
    world = World(BrokerConfig(max_sessions=1))
    world.connect("a")
    peer = world.peer()
    peer.send(Connect("b", protocol_version=5))
    assert peer.received() == [ConnAck(False, 0x97)]
    assert world.connect("a").is_alive()


def test_long_client_ids_have_a_bound() -> None:
    """[3.1.3-5] lets a server refuse them."""
    peer = World(BrokerConfig(max_clientid_len=10)).peer()
    peer.send(Connect("a" * 11, protocol_version=5))
    assert peer.received() == [ConnAck(False, 0x85)]


def test_connection_without_connect_is_closed() -> None:
    """A socket that is opened and left costs nothing after `idle_timeout`."""
    world = World(BrokerConfig(idle_timeout=15))
    peer = world.peer()
    peer.send_bytes(b"\x10")
    world.advance(14.5)
    assert not peer.transport.closed
    world.advance(1)
    assert peer.transport.closed
    assert not peer.transport.written
    assert world.broker.stats.disconnects == {"idle_timeout": 1}


@versions
def test_silence_beyond_keep_alive_ends_the_connection(version: int) -> None:
    """[3.1.2-22] One and a half times the interval, whatever is sent to the client meanwhile."""
    world = World()
    peer = world.connect("a", version, keep_alive=10)
    peer.subscribe("t")
    for _ in range(14):
        world.advance(1)
        world.broker.publish("t", b"", 0, False, None, ClientInfo("app"), world.now_ms())
    peer.received()
    assert not peer.transport.closed
    world.advance(1.5)
    assert peer.received() == ([Disconnect(0x8D)] if version == 5 else [])
    assert peer.transport.closed
    assert world.reasons(ClientDisconnected) == ["keepalive_timeout"]


def test_any_packet_keeps_a_connection_alive() -> None:
    """Not only pings."""
    world = World()
    peer = world.connect("a", keep_alive=10)
    for _ in range(5):
        world.advance(14)
        peer.send(Publish("t", b""))
    assert not peer.transport.closed


def test_keep_alive_zero_is_off() -> None:
    """A connection that never has to say anything."""
    world = World()
    peer = world.connect("a", keep_alive=0)
    world.advance(100_000)
    assert peer.is_alive()


def test_server_keep_alive_replaces_the_clients() -> None:
    """[3.1.2-21]"""
    world = World(BrokerConfig(server_keep_alive=4))
    peer = world.connect("a", keep_alive=1000)
    assert world.broker.clients[0].keep_alive == 4
    world.advance(7)
    assert peer.transport.closed


@versions
def test_ping_is_answered(version: int) -> None:
    """[3.12.4-1]"""
    peer = World().connect("a", version)
    peer.send(PingReq(), PingReq())
    assert peer.received() == [PingResp(), PingResp()]


@versions
def test_disconnect_ends_quietly(version: int) -> None:
    """[3.14.4-1, 3.14.4-2] Nothing is sent or served behind it."""
    world = World()
    peer = world.connect("a", version)
    peer.send(Disconnect(), PingReq())
    assert peer.received() == []
    assert peer.transport.closed
    assert world.reasons(ClientDisconnected) == ["normal"]
    assert world.broker.session_count == 0


def test_disconnect_with_a_servers_reason_is_a_protocol_error() -> None:
    """0x8B is not a client's to say."""
    peer = World().connect()
    peer.send(Disconnect(0x8B))
    assert peer.received() == [Disconnect(0x82)]


def test_disconnect_properties_reach_the_event() -> None:
    """An application may want to know what the client said at last."""
    world = World()
    world.connect().disconnect(Disconnect(0x98, {"reason_string": "enough", "user_property": [("k", "v")]}))
    (event,) = world.events_of(ClientDisconnected)
    assert event.reason == "administrative_action"
    assert event.properties == {"reason_string": "enough", "user_property": [("k", "v")]}


@pytest.mark.parametrize("reason", ["tcp_closed", "econnreset"])
def test_lost_connection_is_reported_with_its_reason(reason: str) -> None:
    """Operators count them by word."""
    world = World()
    world.connect().lose(reason)
    assert world.reasons(ClientDisconnected) == [reason]
    assert world.broker.stats.disconnects == {reason: 1}
    assert world.broker.clients == []


def test_kicked_client_gets_the_reason_and_loses_its_session() -> None:
    """An operator's command; for an unknown client it returns False."""
    world = World()
    peer = world.connect("a", properties={"session_expiry_interval": 100})
    assert world.broker.kick("a")
    assert peer.received() == [Disconnect(0x98)]
    assert world.reasons(ClientDisconnected) == ["kicked"]
    assert world.broker.session_count == 0
    assert not world.broker.kick("a")


def test_socket_that_does_not_close_is_aborted() -> None:
    """A DISCONNECT that is never read must not keep a socket open for ever."""
    world = World(BrokerConfig(send_timeout=15))
    peer = world.connect()
    world.broker.kick("c")
    assert not peer.transport.aborted
    world.advance(16)
    assert peer.transport.aborted


def test_bug_in_a_hook_costs_one_connection() -> None:
    """I.20.4: one client's trouble never touches the others."""
    world = World()
    victim, other = world.connect("a"), world.connect("b")

    def broken(*_: object) -> NoReturn:
        raise RuntimeError("bug")

    world.hooks.published = broken
    victim.send(Publish("t", b"", 1, packet_id=1))
    assert victim.received() == [Disconnect(0x80)]
    assert victim.transport.closed
    assert other.is_alive()
    assert world.reasons(ClientDisconnected) == ["internal_error"]
