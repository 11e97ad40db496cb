"""The end of a connection frees everything it held at once, without the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import logging
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from broker.access import Accepted, Action, AllowAll, Credentials, Decision, Refused
from broker.client import Client
from broker.codec.packets import (
    Auth,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    Publish,
    Subscribe,
    Subscription,
    Will,
)
from broker.codec.parser import PacketParser
from broker.config import BrokerConfig
from broker.connected import Connected
from broker.connecting import Connecting
from broker.connection import Connection
from broker.held import HeldAcks
from broker.hooks import ClientInfo
from broker.origin import Origin
from broker.receipt import Receipt
from broker.server import Broker
from support.mqtt_world import ListTransport, ManualHold, World

PARTS = (Client, Connected, Connecting, Connection, PacketParser, HeldAcks, Connect, Subscribe)
OTHERS: dict[int, object] = {}
BIG = b"x" * 300_000
"""A password, or a tail of a packet, that would show in the memory of a process that has many such connections."""


class Visitor:
    """A client of which the test keeps nothing but the transport."""

    def __init__(self, broker: Broker) -> None:
        self.client: Client | None = broker.accept(ListTransport(), Origin())

    def send(self, *packets: Packet, tail: bytes = b"") -> None:
        assert self.client is not None
        self.client.data_received(b"".join(packet.encode(5) for packet in packets) + tail)

    def lose(self) -> None:
        client, self.client = self.client, None
        assert client is not None
        client.connection_lost("tcp_closed")


def parts() -> list[object]:
    return [each for each in gc.get_objects() if type(each) in PARTS]


def remaining() -> Counter[str]:
    """Count the parts of connections that exist, beside those of other tests."""
    return Counter(type(each).__name__ for each in parts() if id(each) not in OTHERS)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Nothing is freed but by its last reference."""
    gc.collect()
    gc.disable()
    OTHERS.update((id(each), each) for each in parts())
    try:
        yield
    finally:
        OTHERS.clear()
        gc.enable()


@pytest.fixture
def no_log() -> Iterator[None]:
    """Log records that a test keeps have tracebacks, and these have everything."""
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def connect(**fields: object) -> Connect:
    return Connect("a", protocol_version=5, username="u", password=b"p" * 60_000, **fields)  # type: ignore[arg-type]


def nothing(visitor: Visitor) -> None:
    pass


def half_a_connect(visitor: Visitor) -> None:
    visitor.send(tail=connect().encode(5)[:-1])


def malformed_connect(visitor: Visitor) -> None:
    visitor.send(tail=b"\x10\x0e\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x01a")


def connected(visitor: Visitor) -> None:
    visitor.send(connect(will=Will("t", b"", properties={"will_delay_interval": 1})), PingReq())


def half_a_publish(visitor: Visitor) -> None:
    visitor.send(connect(), tail=Publish("t", BIG).encode(5)[:-1])


def publishes_and_disconnect(visitor: Visitor) -> None:
    visitor.send(connect(), Subscribe(1, [Subscription("#", 2)]), Publish("t", b"x", 2, packet_id=1), Disconnect())


def malformed_packet(visitor: Visitor) -> None:
    visitor.send(connect(), tail=b"\x82\x02\x00\x00")


def ill_formed_filter(visitor: Visitor) -> None:
    visitor.send(connect(), Subscribe(1, [Subscription("a/#/b")]))


def ill_formed_topic(visitor: Visitor) -> None:
    visitor.send(connect(), tail=b"\x30\x05\x00\x01#\x00x")


def protocol_error(visitor: Visitor) -> None:
    visitor.send(connect(), Auth(0x19))


def too_many_publishes(visitor: Visitor) -> None:
    visitor.send(connect(), *[Publish("t", b"", 2, packet_id=number) for number in range(1, 5)])


def second_connect(visitor: Visitor) -> None:
    visitor.send(connect(), connect())


@pytest.mark.parametrize(
    "act",
    [
        nothing, half_a_connect, malformed_connect, connected, half_a_publish, publishes_and_disconnect,
        malformed_packet, ill_formed_filter, ill_formed_topic, protocol_error, too_many_publishes, second_connect,
    ],
)  # fmt: skip
@pytest.mark.parametrize("access", [None, AllowAll()], ids=["default", "own"])
def test_lost_connection_leaves_nothing_behind(act: Callable[[Visitor], None], access: AllowAll | None) -> None:
    """For any packets sent, and for each side that may end it."""
    world = World(BrokerConfig(receive_maximum=3), access=access)
    visitor = Visitor(world.broker)
    act(visitor)
    visitor.lose()
    assert remaining() == {}


def test_connect_is_dropped_as_soon_as_it_was_used() -> None:
    """Its password is not kept in memory while the client is connected."""
    world = World()
    visitor = Visitor(world.broker)
    visitor.send(connect())
    assert remaining() == {"Client": 1, "Connected": 1, "Connection": 1, "PacketParser": 1, "HeldAcks": 1}


def test_client_that_was_taken_over_or_kicked_leaves_nothing_behind() -> None:
    """The socket closes a little later than the client ends."""
    world = World()
    first, second = Visitor(world.broker), Visitor(world.broker)
    first.send(connect())
    second.send(connect())
    first.lose()
    assert remaining()["Client"] == 1
    world.broker.kick("a")
    second.lose()
    assert remaining() == {}


def test_refused_client_leaves_nothing_behind() -> None:
    """An attacker who knows no password sends large ones."""

    class Nobody(AllowAll):
        def authenticate(self, client: ClientInfo, credentials: Credentials) -> Decision:
            return Refused()

    world = World(access=Nobody())
    visitor = Visitor(world.broker)
    visitor.send(connect())
    assert remaining() == {"Client": 1, "Connection": 1, "PacketParser": 1}
    visitor.lose()
    assert remaining() == {}


def test_held_acknowledgements_keep_a_lost_client_until_their_hold_is_done() -> None:
    """The session has to know whether the publishes were accepted; what was received besides goes at once."""
    world = World()
    hold = ManualHold()
    world.hooks.published = lambda *_: Receipt(hold)
    tracemalloc.start()
    try:
        visitor = Visitor(world.broker)
        visitor.send(connect(), Publish("t", b"", 2, packet_id=1), tail=Publish("t", BIG).encode(5)[:-1])
        visitor.lose()
        world.events.clear()
        assert tracemalloc.get_traced_memory()[0] < len(BIG)
    finally:
        tracemalloc.stop()
    assert remaining()["Client"] == 1
    hold.finish(failed=True)
    hold.__init__()  # type: ignore[misc]
    assert remaining() == {}


class Patient(AllowAll):
    """Never answers."""

    def __init__(self, *, authenticates: bool) -> None:
        self._authenticates = authenticates

    def authenticate(self, client: ClientInfo, credentials: Credentials) -> Decision | asyncio.Future[Decision]:
        return asyncio.get_running_loop().create_future() if self._authenticates else Accepted()

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool | None:
        return None

    async def ask(self, client: ClientInfo, action: Action) -> bool:
        await asyncio.Event().wait()
        return True


@pytest.mark.parametrize("authenticates", [True, False])
async def test_client_that_is_waited_for_leaves_nothing_behind(authenticates: bool) -> None:
    """Authentication and permissions are given up with the connection."""
    world = World(access=Patient(authenticates=authenticates))
    visitor = Visitor(world.broker)
    visitor.send(connect(), Publish("t", BIG, 1, packet_id=1))
    await asyncio.sleep(0)
    visitor.send(Publish("t", BIG))
    visitor.lose()
    for _ in range(5):
        await asyncio.sleep(0)
    assert remaining() == {}


@pytest.mark.usefixtures("no_log")
async def test_failed_authentication_leaves_nothing_behind() -> None:
    """The traceback of its exception must not keep the client."""

    class Broken(AllowAll):
        async def _fail(self) -> Decision:
            raise RuntimeError("database gone")

        def authenticate(self, client: ClientInfo, credentials: Credentials) -> Awaitable[Decision]:
            return self._fail()

    world = World(access=Broken())
    visitor = Visitor(world.broker)
    visitor.send(connect())
    for _ in range(5):
        await asyncio.sleep(0)
    visitor.lose()
    assert remaining() == {}


@pytest.mark.usefixtures("no_log")
def test_bug_in_a_hook_leaves_nothing_behind() -> None:
    """Nor must that of ours."""
    world = World()

    def broken(*_: object) -> Receipt:
        raise RuntimeError("bug")

    world.hooks.published = broken
    visitor = Visitor(world.broker)
    visitor.send(connect(), Publish("t", b""))
    visitor.lose()
    assert remaining() == {}
