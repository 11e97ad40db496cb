"""The broker over real TCP: with independent clients, and with raw sockets that violate the protocol."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

import aiomqtt
import paho.mqtt.client as paho
import psutil
import pytest
from gmqtt import Client as GmqttClient
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker.client import Client
from broker.codec.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    Subscribe,
    Subscription,
    Will,
)
from broker.codec.parser import PacketParser
from broker.codec.wire import varint
from broker.config import BrokerConfig
from broker.connection import Connection
from broker.hooks import ClientDisconnected, ClientInfo, Hooks
from broker.listeners.tcp import TcpConfig, TcpConnection
from broker.origin import Address
from broker.receipt import Receipt
from broker.server import Broker
from broker.topics import TopicNames
from support.limits import need_open_files
from support.mqtt_world import ManualHold

APP = ClientInfo("app")
FREE = TcpConfig(bind=Address("127.0.0.1", 0))
"""A free port of the loopback."""


@asynccontextmanager
async def running(hooks: Hooks | None = None, **options: Any) -> AsyncIterator[Broker]:
    """A broker on a free port of the loopback."""
    broker = Broker(BrokerConfig(listeners=(FREE,), **options), hooks or Hooks())
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop(1.0)
        await RawClient.close_all()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.005)


class RawClient:
    """A socket and a parser."""

    opened: ClassVar[list[RawClient]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int) -> None:
        self.reader, self.writer, self.version = reader, writer, version
        self._parser = PacketParser(TopicNames(), version=version)
        self._packets: list[Packet] = []

    @classmethod
    async def open(cls, broker: Broker, version: int = 5) -> RawClient:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.listeners[0].port)
        client = cls(reader, writer, version)
        cls.opened.append(client)
        return client

    @classmethod
    async def close_all(cls) -> None:
        """Nobody's socket is left open behind a test."""
        while cls.opened:
            client = cls.opened.pop()
            client.writer.close()
            with suppress(OSError):
                await client.writer.wait_closed()

    @classmethod
    async def connect(cls, broker: Broker, client_id: str = "raw", version: int = 5, **fields: Any) -> RawClient:
        client = await cls.open(broker, version)
        client.send(Connect(client_id, protocol_version=version, **fields))
        assert isinstance(await client.receive(), ConnAck)
        return client

    def send(self, *packets: Packet) -> None:
        self.writer.write(b"".join(packet.encode(self.version) for packet in packets))

    async def receive(self) -> Packet:
        while not self._packets:
            data = await asyncio.wait_for(self.reader.read(65536), 10)
            assert data, "closed by the broker"
            self._packets += self._parser.feed(data).packets
        return self._packets.pop(0)

    async def closed(self) -> bytes:
        """Wait until the broker closes; returns what it said before."""
        return await asyncio.wait_for(self.reader.read(), 10)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


# Clients nobody here wrote


def paho_round_trip(port: int, version: MQTTProtocolVersion, count: int, qos: int) -> list[tuple[str, bytes, int]]:
    """One paho client that publishes `count` messages to itself; runs in a thread of its own."""
    got: list[tuple[str, bytes, int]] = []
    arrived, subscribed = threading.Event(), threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, f"paho-{version}", protocol=version)
    client.max_inflight_messages_set(100)

    def on_message(_client: Any, _user: Any, message: paho.MQTTMessage) -> None:
        got.append((message.topic, bytes(message.payload), message.qos))
        if len(got) == count:
            arrived.set()

    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_connect = lambda c, *_: c.subscribe("paho/#", qos)
    client.connect("127.0.0.1", port, keepalive=30)
    client.loop_start()
    try:
        assert subscribed.wait(10)
        for number in range(count):
            client.publish(f"paho/{number % 7}", b"%d" % number, qos)
        assert arrived.wait(30), f"{len(got)} of {count}"
    finally:
        client.disconnect()
        client.loop_stop()
    return got


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("version", MQTTProtocolVersion)
async def test_paho_gets_back_what_it_publishes(version: MQTTProtocolVersion, qos: int) -> None:
    """In order and exactly once, in every version and quality."""
    async with running(max_inflight=100, max_mqueue_len=10_000) as broker:
        got = await asyncio.to_thread(paho_round_trip, broker.listeners[0].port, version, 500, qos)
        assert got == [(f"paho/{n % 7}", b"%d" % n, qos) for n in range(500)]
        await until(lambda: broker.session_count == 0)
        # Which word it is depends on whether paho's thread sends DISCONNECT before loop_stop() ends it.
        assert broker.stats.disconnects.total() == 1


async def test_paho_uses_the_features_of_mqtt_5() -> None:
    """Properties, subscription identifiers, reason codes and a delayed will, as another implementation reads them."""

    def talk(port: int) -> tuple[Any, Any, Any]:
        connected, answered = threading.Event(), threading.Event()
        seen: dict[str, Any] = {}
        client = paho.Client(CallbackAPIVersion.VERSION2, "", protocol=MQTTProtocolVersion.MQTTv5)
        connect_properties = Properties(PacketTypes.CONNECT)
        connect_properties.SessionExpiryInterval = 60

        def on_connect(_c: Any, _u: Any, _f: Any, code: Any, properties: Any) -> None:
            seen["connack"] = properties
            connected.set()

        def on_message(_c: Any, _u: Any, message: Any) -> None:
            seen["message"] = message
            answered.set()

        client.on_connect, client.on_message = on_connect, on_message
        client.on_publish = lambda _c, _u, _m, code, _p: seen.setdefault("puback", code)
        client.connect("127.0.0.1", port, properties=connect_properties)
        client.loop_start()
        try:
            assert connected.wait(10)
            subscribe_properties = Properties(PacketTypes.SUBSCRIBE)
            subscribe_properties.SubscriptionIdentifier = 42
            client.publish("nobody", b"", 1).wait_for_publish(10)
            client.subscribe("t", 1, properties=subscribe_properties)
            publish_properties = Properties(PacketTypes.PUBLISH)
            publish_properties.UserProperty = [("b", "1"), ("a", "2")]
            publish_properties.ContentType = "text/plain"
            publish_properties.CorrelationData = b"\0\xff"
            client.publish("t", b"x", 1, properties=publish_properties)
            assert answered.wait(10)
        finally:
            client.disconnect()
            client.loop_stop()
        return seen["connack"], seen["puback"], seen["message"]

    async with running() as broker:
        connack, puback, message = await asyncio.to_thread(talk, broker.listeners[0].port)
    assert connack.AssignedClientIdentifier
    assert connack.ReceiveMaximum == 8192
    assert puback.value == 0x10
    assert message.properties.SubscriptionIdentifier == [42]
    assert message.properties.UserProperty == [("b", "1"), ("a", "2")]
    assert message.properties.ContentType == "text/plain"
    assert message.properties.CorrelationData == b"\0\xff"


async def test_aiomqtt_publishes_and_subscribes() -> None:
    """Two clients and a retained message between them."""
    async with running() as broker:
        port = broker.listeners[0].port
        async with aiomqtt.Client("127.0.0.1", port, identifier="one") as one:
            await one.publish("state", b"on", qos=1, retain=True)
            async with aiomqtt.Client("127.0.0.1", port, identifier="two", protocol=aiomqtt.ProtocolVersion.V5) as two:
                await two.subscribe("#", qos=2)
                await one.publish("live", b"x" * 100_000, qos=2)
                messages = [await asyncio.wait_for(anext(two.messages), 10) for _ in range(2)]
    assert [(str(m.topic), len(m.payload), m.qos, m.retain) for m in messages] == [
        ("state", 2, 1, True),
        ("live", 100_000, 2, False),
    ]


async def test_gmqtt_talks_mqtt_5() -> None:
    """A third implementation of the protocol, which has its own ideas of properties."""
    got: asyncio.Queue[tuple[str, bytes, int, Any]] = asyncio.Queue()
    subscribed = asyncio.Event()

    async def on_message(_client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        await got.put((topic, payload, qos, properties))
        return 0

    async with running() as broker:
        client = GmqttClient("gmqtt", session_expiry_interval=10)
        client.on_message = on_message
        client.on_subscribe = lambda *_: subscribed.set()
        await client.connect("127.0.0.1", broker.listeners[0].port)
        client.subscribe("g/+", qos=2)
        await asyncio.wait_for(subscribed.wait(), 10)
        client.publish("g/1", b"hello", qos=2, user_property=("k", "v"), content_type="text")
        topic, payload, qos, properties = await asyncio.wait_for(got.get(), 10)
        await client.disconnect()
    assert (topic, payload, qos) == ("g/1", b"hello", 2)
    assert properties["user_property"] == [("k", "v")]
    assert properties["content_type"] == ["text"]


async def test_persistent_session_of_paho_survives_a_broken_network() -> None:
    """Messages published meanwhile arrive when it is back, each once."""
    async with running(max_mqueue_len=10_000) as broker:
        port = broker.listeners[0].port
        got: list[bytes] = []
        connected = threading.Event()
        client = paho.Client(
            CallbackAPIVersion.VERSION2, "away", protocol=MQTTProtocolVersion.MQTTv311, clean_session=False
        )
        client.on_message = lambda _c, _u, message: got.append(bytes(message.payload))
        client.on_subscribe = lambda *_: connected.set()
        client.on_connect = lambda c, *_: c.subscribe("t", 2)
        client.reconnect_delay_set(1, 1)
        client.connect("127.0.0.1", port)
        client.loop_start()
        try:
            await until(connected.is_set)
            sock = client.socket()
            assert isinstance(sock, socket.socket)
            sock.shutdown(socket.SHUT_RDWR)
            await until(lambda: not broker.clients)
            for number in range(500):
                broker.publish("t", b"%d" % number, 1 + number % 2, False, None, APP, 0)
            await until(lambda: len(got) == 500, 20)
        finally:
            client.disconnect()
            client.loop_stop()
    for odd in (0, 1):  # paho shows a QoS 2 message when it is released, so only those of one QoS have an order
        assert [payload for payload in got if int(payload) % 2 == odd] == [b"%d" % n for n in range(odd, 500, 2)]


# Sockets that behave badly


async def test_broker_listens_where_it_says() -> None:
    """Port 0 asks for a free port, and the actual port is reported."""
    async with running() as broker:
        (listener,) = broker.listeners
        assert (listener.type, listener.host) == ("tcp", "127.0.0.1")
        assert listener.port > 0
        client = await RawClient.connect(broker)
        address = f"127.0.0.1:{listener.port}"
        origin = broker.clients[0].origin
        assert origin.peername == "{}:{}".format(*client.writer.get_extra_info("sockname"))
        assert (origin.sockname, origin.listener) == (address, f"tcp:{address}")
        await client.close()


async def test_port_in_use_is_named() -> None:
    """The most common mistake at start; nothing stays bound behind it."""
    async with running() as broker:
        taken = broker.listeners[0].port
        other = Broker(
            BrokerConfig(listeners=(FREE, TcpConfig(bind=Address("127.0.0.1", taken)))),
            Hooks(),
        )
        with pytest.raises(OSError, match=f"127.0.0.1:{taken} is in use"):
            await other.start()
        with pytest.raises(OSError):  # noqa: PT011
            await asyncio.open_connection("127.0.0.1", other.listeners[0].port)
        await other.stop(0)


async def test_packets_sent_byte_by_byte_are_understood() -> None:
    """A slow link."""
    async with running() as broker:
        client = await RawClient.open(broker)
        publish = Publish("t", b"x", 1, packet_id=1)
        for byte in Connect("slow", protocol_version=5).encode(5) + publish.encode(5) + PingReq().encode(5):
            client.writer.write(bytes((byte,)))
            await client.writer.drain()
        assert isinstance(await client.receive(), ConnAck)
        assert await client.receive() == PubAck(1, 0x10)
        assert await client.receive() == PingResp()
        await client.close()


async def test_many_packets_in_one_piece_are_answered_in_one_piece() -> None:
    """Batched writes are a condition of the speed; counted at the socket."""
    async with running() as broker:
        client = await RawClient.connect(broker, version=4)
        client.send(*[Publish("t", b"x" * 80, 1, packet_id=number) for number in range(1, 1001)])
        assert [await client.receive() for _ in range(1000)] == [PubAck(number) for number in range(1, 1001)]
        await client.close()


async def test_large_packets_go_through() -> None:
    """Near the limit, in both directions, in pieces as TCP cuts them."""
    async with running() as broker:
        client = await RawClient.connect(broker, properties={"maximum_packet_size": 2_000_000})
        client.send(Subscribe(1, [Subscription("t")]))
        await client.receive()
        payload = bytes(1_000_000)
        for _ in range(5):
            client.send(Publish("t", payload))
            assert await client.receive() == Publish("t", payload)
        await client.close()


@pytest.mark.parametrize(
    "data",
    [b"\x10" + varint(100_000_000) + bytes(1000), b"\x16\x03\x01" + bytes(100), b"GET / HTTP/1.1\r\n\r\n", b"\xc0\x00"],
    ids=["a CONNECT of 100 MB", "TLS", "HTTP", "PINGREQ"],
)
async def test_first_packet_other_than_connect_closes_at_once(data: bytes) -> None:
    """Without an answer, and without waiting for the rest."""
    async with running() as broker:
        client = await RawClient.open(broker)
        client.writer.write(data)
        assert await client.closed() == b""
        await client.close()


async def test_half_a_connect_is_closed_in_time() -> None:
    """Nothing, or half a packet, costs a connection for no longer than `idle_timeout`."""
    async with running(idle_timeout=0.2) as broker:
        silent, half = await RawClient.open(broker), await RawClient.open(broker)
        half.writer.write(b"\x10\x20\x00\x04MQ")
        assert await silent.closed() == b""
        assert await half.closed() == b""
        assert broker.stats.disconnects == {"idle_timeout": 2}
        await silent.close()
        await half.close()


async def test_reset_connection_is_noticed_and_publishes_the_will() -> None:
    """A device whose power fails behind a router that sends RST."""
    events: list[ClientDisconnected] = []
    hooks = Hooks(client_disconnected=events.append)
    async with running(hooks) as broker:
        listener = await RawClient.connect(broker, "listener")
        listener.send(Subscribe(1, [Subscription("will")]))
        await listener.receive()
        victim = await RawClient.connect(broker, "victim", will=Will("will", b"gone"))
        sock = victim.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        victim.writer.transport.abort()
        assert await listener.receive() == Publish("will", b"gone")
        assert [(e.client.client_id, e.reason) for e in events] == [("victim", "econnreset")]
        await listener.close()


async def test_client_that_never_reads_is_bounded_and_closed() -> None:
    """Design promise: memory stays bounded, others are served, and after `send_timeout` it is gone."""
    events: list[ClientDisconnected] = []
    hooks = Hooks(client_disconnected=events.append)
    async with running(hooks, send_timeout=1.0, send_buffer_max=100_000, max_mqueue_len=20) as broker:
        deaf = await RawClient.connect(broker, "deaf", version=4)
        deaf.send(Subscribe(1, [Subscription("t", 1)]))
        await deaf.receive()
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        good = await RawClient.connect(broker, "good", version=4)
        good.send(Subscribe(1, [Subscription("t", 0)]))
        await good.receive()
        before = psutil.Process().memory_info().rss
        payload = bytes(20_000)
        for number in range(2000):
            broker.publish("t", payload, number % 2, False, None, APP, 0)
            assert isinstance(await good.receive(), Publish)
        assert psutil.Process().memory_info().rss - before < 30_000_000  # 40 MB were sent to it
        assert broker.stats.deliveries_dropped["queue_full"] > 500
        await until(lambda: bool(events))
        assert [(e.client.client_id, e.reason) for e in events] == [("deaf", "etimedout")]
        good.send(PingReq())
        assert await good.receive() == PingResp()
        await good.close()
        deaf.writer.transport.abort()


async def test_publisher_that_never_reads_is_not_read_from() -> None:
    """Its acknowledgements fill its own send buffer, not our memory."""
    async with running(send_buffer_max=10_000, send_timeout=30.0) as broker:
        client = await RawClient.connect(broker, "deaf", version=4)
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        burst = Publish("t", b"", 1, packet_id=1).encode(4) * 1000
        sent = 0
        while sent < 20_000_000:
            client.writer.write(burst)
            sent += 1000
            try:
                await asyncio.wait_for(client.writer.drain(), 1.0)
            except TimeoutError:
                break
        assert sent < 20_000_000
        client.writer.transport.abort()


async def test_more_connections_than_allowed_are_closed() -> None:
    """`max_connections` of a listener; a place that is given back is free again."""
    broker = Broker(BrokerConfig(listeners=(TcpConfig(bind=Address("127.0.0.1", 0), max_connections=1),)), Hooks())
    await broker.start()
    try:
        first = await RawClient.connect(broker, "first")
        second = await RawClient.open(broker)
        with suppress(ConnectionResetError):
            assert await second.closed() == b""
        await first.close()
        await until(lambda: broker.connection_count == 0)
        third = await RawClient.connect(broker, "third")
        await third.close()
    finally:
        await broker.stop(1)
        await RawClient.close_all()


async def test_thousand_connections_at_once_are_served() -> None:
    """A restart of the network brings all devices back in the same second."""
    need_open_files(2500)  # both ends of each connection are in this process
    async with running() as broker:
        async with asyncio.TaskGroup() as group:  # unlike gather, it leaves no connection behind when one fails
            tasks = [group.create_task(RawClient.connect(broker, f"c{number}", 4)) for number in range(1000)]
        clients = [task.result() for task in tasks]
        assert broker.session_count == 1000
        for client in clients:
            client.send(PingReq())
        assert await asyncio.gather(*[client.receive() for client in clients]) == [PingResp()] * 1000
        for client in clients:
            client.writer.transport.abort()
        await until(lambda: broker.connection_count == 0)


async def test_closed_connections_free_their_memory_without_the_garbage_collector() -> None:
    """Four hundred clients that each send 390 KB and go must not fill the memory until a collection comes."""
    async with running() as broker:
        gc.collect()
        gc.disable()
        try:
            for number in (1, 2, 3):
                half = await RawClient.open(broker)
                half.writer.write(Connect("h", protocol_version=5, password=b"x" * 60_000).encode(5)[:-1])
                client = await RawClient.connect(broker, f"c{number}", password=b"x" * 60_000)
                client.writer.write(Publish("t", b"x" * 300_000).encode(5)[:-1])
                async with asyncio.timeout(10):
                    while broker.stats.bytes_received < 400_000 * number:
                        await asyncio.sleep(0.005)
                half.writer.transport.abort()
                client.writer.transport.abort()
                await until(lambda: broker.connection_count == 0)
            await asyncio.sleep(0)
            assert [each for each in gc.get_objects() if type(each) in (Client, Connection, TcpConnection)] == []
        finally:
            gc.enable()


# Stopping


async def test_stopping_sends_disconnect_and_closes() -> None:
    """0x8B to those who understand it; stopping twice, or before starting, is fine."""
    events: list[ClientDisconnected] = []
    broker = Broker(BrokerConfig(listeners=(FREE,)), Hooks(client_disconnected=events.append))
    await broker.stop(1)
    await broker.start()
    new, old = await RawClient.connect(broker, "new"), await RawClient.connect(broker, "old", version=4)
    await broker.stop(1)
    await broker.stop(1)
    assert await new.closed() == Disconnect(0x8B).encode(5)
    assert await old.closed() == b""
    assert [event.reason for event in events] == ["shutdown"] * 2
    assert broker.connection_count == 0
    await RawClient.close_all()
    with pytest.raises(OSError):  # noqa: PT011
        await asyncio.open_connection("127.0.0.1", broker.listeners[0].port)


async def test_stopping_waits_for_held_acknowledgements() -> None:
    """A publish that is stored before the deadline is acknowledged before the connection closes."""
    hold = ManualHold()
    hooks = Hooks(published=lambda *_: Receipt(hold))
    async with running(hooks) as broker:
        client = await RawClient.connect(broker, version=4)
        client.send(Publish("t", b"", 1, packet_id=5))
        await until(lambda: broker.stats.messages_received == 1)
        stopping = asyncio.ensure_future(broker.stop(10))
        await asyncio.sleep(0.05)
        assert not stopping.done()
        hold.finish()
        await asyncio.wait_for(stopping, 5)
        assert await client.closed() == PubAck(5).encode(4)


async def test_stopping_does_not_wait_longer_than_its_deadline() -> None:
    """A journal that hangs must not keep the process."""
    hooks = Hooks(published=lambda *_: Receipt(ManualHold()))
    async with running(hooks) as broker:
        client = await RawClient.connect(broker, version=4)
        client.send(Publish("t", b"", 1, packet_id=5))
        await until(lambda: broker.stats.messages_received == 1)
        before = time.monotonic()
        await broker.stop(0.2)
        assert 0.15 < time.monotonic() - before < 2
        assert await client.closed() == b""


async def test_stop_accepting_leaves_connections_alone() -> None:
    """The first step of an orderly stop."""
    async with running() as broker:
        client = await RawClient.connect(broker)
        await broker.stop_accepting()
        client.send(PingReq())
        assert await client.receive() == PingResp()
        with pytest.raises(OSError):  # noqa: PT011
            await asyncio.open_connection("127.0.0.1", broker.listeners[0].port)
        await client.close()
