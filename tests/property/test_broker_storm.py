"""Everything that may be late, wrong or missing at once, through the real broker, from a seed.

Devices of all versions publish with each QoS, repeat, release, subscribe, leave and break the protocol. Meanwhile
permissions are answered late, wrongly or never, sessions are opened slowly, taken over and fail, receipts are held,
fail or refuse, and the topic stage renames, refuses and keeps publishes. After each step:

- what is acknowledged was handed on and its hold is done, or its client may not be told otherwise (before MQTT 5);
- acknowledgements of one connection are in the order of its publishes;
- a QoS 2 publish is handed on once, unless its hold failed;
- a peer gets one CONNACK at most, and nothing behind a DISCONNECT.

At the end all answers are given: then every client that is there is read from and owed nothing, or the broker is
stopped. When all have left, the counters of connections and events agree and nothing of clients and sessions is left.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pytest

from broker.access import Accepted, Action, Credentials, Decision, Refused
from broker.client import Client
from broker.codec.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from broker.codec.parser import PacketParser
from broker.config import BrokerConfig
from broker.hooks import ClientConnected, ClientDisconnected, ClientInfo, IncomingPublish
from broker.origin import Origin
from broker.receipt import Hold, Receipt
from broker.topics import TopicNames
from broker.topicstage import Taken
from support.broker_doubles import SlowSessions, turn
from support.mqtt_world import ListTransport, ManualHold, World

STEPS = 120
KINDS = ["ok", "ok", "ok", "deny", "ask", "ask", "renamed", "stopped", "kept"]
"""The first level of a topic decides what access control and topic stage do; the second is unique."""
GARBAGE = [b"\x00\x00", b"\x60\x02\x00\x01", b"\xff" * 6, b"\x82\x02\x00\x00", b"\x30\x03\x00\x01#"]


class EagerHold:
    """A hold that is done, or fails, inside the call that waits for it."""

    def __init__(self, *, failed: bool) -> None:
        self.done = False
        self.failed = failed

    def add_done_callback(self, callback: Callable[[], None], /) -> None:
        self.done = True
        callback()


class Storm:
    """The broker, its access control, topic stage and application, and the record of the publishes handed on."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        config = BrokerConfig(
            receive_maximum=chance.choice([3, 12]), max_held_bytes=chance.choice([60, 100_000]), max_sessions=4,
            authorization_timeout=10_000, idle_timeout=30, max_mqueue_len=3,
        )  # fmt: skip
        self.sessions = SlowSessions(config, slow="")
        self.world = World(config, access=self, topic_stage=self, sessions=self.sessions)
        self.world.hooks.published = self.published
        self.world.broker.listeners.append(self)  # type: ignore[arg-type]
        self.connections: set[Peer] = set()
        self.holds: list[ManualHold] = []
        self.asked: list[asyncio.Future[Any]] = []
        self.accepted: dict[bytes, list[Hold | None]] = {}
        """Payloads that somebody took over, with the hold of each time."""
        self.denied: set[str] = set()
        """Topics that were refused with a code that a client before MQTT 5 is not told."""
        self.peers = 0
        self.clients: list[weakref.ref[Client]] = []

    # Listener

    async def stop_accepting(self) -> None:
        pass

    # Access control

    def authenticate(self, client: ClientInfo, credentials: Credentials) -> Any:
        decision = self.chance.choice([Accepted(), Accepted(), Accepted(), Refused()])
        return decision if self.chance.random() < 0.7 else self._later(Decision)

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool | None:
        if topic.startswith("deny"):
            self.denied.add(topic)
            return False
        return None if topic.startswith("ask") else True

    def may_subscribe(self, client: ClientInfo, topic_filter: str, qos: int) -> bool | None:
        return self.chance.choice([True, False, None])

    async def ask(self, client: ClientInfo, action: Action) -> bool:
        self.denied.add(action.topic)  # it may be: the answer is chosen later
        answer: bool = await self._later(bool)
        if answer is True:
            self.denied.discard(action.topic)
        return answer

    def _later(self, kind: object) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.kind = kind  # type: ignore[attr-defined]
        self.asked.append(future)
        return future

    # Topic stage

    def publish(self, client: ClientInfo, publish: IncomingPublish) -> str | int | Taken:
        if publish.topic.startswith("renamed"):
            return f"new/{publish.topic}"
        if publish.topic.startswith("stopped"):
            self.denied.add(publish.topic)
            return 0x90
        if publish.topic.startswith("kept"):
            hold = self.choose_hold(may_fail=False)
            self.accepted.setdefault(publish.payload, []).append(hold)
            return Taken(hold)
        return publish.topic

    def subscription(self, client: ClientInfo, topic_filter: str) -> str | int:
        return 0x87 if topic_filter == "stopped/#" else topic_filter

    def delivery(self, client: ClientInfo, topic: str) -> str:
        return topic.removeprefix("new/")

    # Application

    def published(self, info: ClientInfo, publishes: Sequence[IncomingPublish], now_ms: int) -> Receipt:
        codes = bytearray(len(publishes))
        hold = self.choose_hold(may_fail=True)
        comes_again = False
        for index, publish in enumerate(publishes):
            if publish.qos and (comes_again or self.chance.random() < 0.05):
                codes[index] = 0x97
                comes_again = info.protocol_version < 5
            else:
                self.accepted.setdefault(publish.payload, []).append(hold)
        return Receipt(hold, codes if any(codes) or self.chance.random() < 0.2 else None)

    def choose_hold(self, *, may_fail: bool) -> Hold | None:
        choice = self.chance.random()
        if choice < 0.3:
            return None
        if choice < 0.4:
            return EagerHold(failed=may_fail and self.chance.random() < 0.3)
        if choice < 0.6 and may_fail and self.holds:
            return self.holds[-1]
        hold = ManualHold()
        hold.may_fail = may_fail  # type: ignore[attr-defined]
        self.holds.append(hold)
        return hold

    # Answers

    def finish_hold(self) -> None:
        if self.holds:
            hold = self.holds.pop(self.chance.randrange(len(self.holds)))
            hold.finish(failed=hold.may_fail and self.chance.random() < 0.2)  # type: ignore[attr-defined]

    def answer(self) -> None:
        if self.asked:
            future = self.asked.pop(self.chance.randrange(len(self.asked)))
            if future.done():  # its client has left
                return
            choice = self.chance.random()
            if choice < 0.1:
                future.cancel()
            elif choice < 0.2:
                future.set_exception(OSError("backend gone"))
            elif choice < 0.3:
                future.set_result("yes")
            else:
                good = Accepted() if future.kind is Decision else True  # type: ignore[attr-defined]
                bad = Refused() if future.kind is Decision else False  # type: ignore[attr-defined]
                future.set_result(good if choice < 0.8 else bad)

    async def answer_store(self) -> None:
        while self.sessions.owed and self.sessions.owed[0][2].done():
            self.sessions.owed.pop(0)
        if self.sessions.owed:
            choice = self.chance.random()
            if choice < 0.1:
                self.sessions.owed.pop(0)[2].cancel()
                await turn()
            else:
                await self.sessions.answer(error=OSError("disk") if choice < 0.2 else None)

    async def settle(self) -> None:
        """Give all answers, and the answers to what they lead to."""
        while self.holds or self.asked or self.sessions.owed:
            while self.holds:
                self.finish_hold()
            while self.asked:
                self.answer()
            await self.answer_store()
            await turn()


class Transport(ListTransport):
    """A transport that reports its end to its client, a little later, as sockets do."""

    def __init__(self) -> None:
        super().__init__()
        self.client: Client | None = None
        self.lost: Callable[[], None] = lambda: None

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self._report)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def _report(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            client.connection_lost("tcp_closed")
            self.lost()


class Peer:
    """One connection of a device."""

    def __init__(self, storm: Storm, device: Device) -> None:
        self.storm = storm
        self.device = device
        self.transport = Transport()
        self.transport.client = storm.world.broker.accept(self.transport, Origin())
        storm.clients.append(weakref.ref(self.transport.client))
        storm.connections.add(self)
        storm.peers += 1
        self.transport.lost = lambda: storm.connections.discard(self)
        self.parser = PacketParser(TopicNames(), version=device.version)
        self.sent: dict[int, int] = {}
        """The place of the first publish with each packet id."""
        self.acked: set[int] = set()
        self.last_acked = -1
        self.connacks = 0
        self.was_told = False
        self.is_ready = False
        self.unread: list[bytes] = []

    @property
    def client(self) -> Client | None:
        return self.transport.client

    def send(self, data: bytes) -> None:
        """Send, as far as the broker reads."""
        self.unread.append(data)
        self.deliver()

    def deliver(self) -> None:
        while self.unread and self.transport.reading and not self.transport.closed:
            client = self.transport.client
            if client is None:
                return
            client.data_received(self.unread.pop(0))
        self.take()

    def lose(self) -> None:
        self.transport.closed = True
        self.transport._report()

    def take(self) -> None:
        data = bytes(self.transport.written)
        self.transport.written.clear()
        for packet in self.parser.feed(data).packets:
            assert not self.was_told, f"{packet} behind DISCONNECT"
            self.on_packet(packet)
        assert self.parser.error is None

    def on_packet(self, packet: Packet) -> None:
        device = self.device
        if isinstance(packet, ConnAck):
            self.connacks += 1
            assert self.connacks == 1
            if packet.reason_code == 0:
                self.is_ready = True
                device.connected(self, present=packet.session_present)
            return
        assert self.is_ready, f"{packet} in front of CONNACK"
        if isinstance(packet, Disconnect):
            self.was_told = True
        elif isinstance(packet, (PubAck, PubRec)):
            self.on_ack(packet.packet_id, packet.reason_code)
            if isinstance(packet, PubRec) and packet.reason_code < 0x80:
                device.to_release.add(packet.packet_id)
        elif isinstance(packet, PubComp):
            device.to_release.discard(packet.packet_id)
        elif isinstance(packet, Publish) and packet.qos:
            answer = PubAck(packet.packet_id) if packet.qos == 1 else PubRec(packet.packet_id)
            device.answers.append(answer)
        elif isinstance(packet, PubRel):
            device.answers.append(PubComp(packet.packet_id))

    def on_ack(self, packet_id: int, code: int) -> None:
        device, storm = self.device, self.storm
        publish = device.published[packet_id]
        assert packet_id in self.sent, f"{publish} was not sent on this connection"
        if packet_id not in self.acked:
            assert self.sent[packet_id] > self.last_acked, f"{publish} acknowledged out of order"
            self.last_acked = self.sent[packet_id]
            self.acked.add(packet_id)
        device.unacked.pop(packet_id, None)
        if code < 0x80:
            is_safe = any(
                hold is None or (hold.done and not hold.failed) for hold in storm.accepted.get(publish.payload, ())
            )
            assert is_safe or (device.version < 5 and publish.topic in storm.denied), f"{publish} acknowledged"


class Device:
    """A client id with the publishes it has to get rid of. It behaves, but for what it does on purpose."""

    def __init__(self, storm: Storm, client_id: str, version: int) -> None:
        self.storm = storm
        self.client_id = client_id
        self.version = version
        self.published: dict[int, Publish] = {}
        self.unacked: dict[int, Publish] = {}
        self.to_release: set[int] = set()
        self.answers: list[Packet] = []
        self.peer: Peer | None = None

    def connect(self) -> None:
        chance = self.storm.chance
        clean = chance.random() < 0.2
        properties = {"session_expiry_interval": chance.choice([0, 50])} if self.version == 5 else None
        will = Will("w", b"will", 1) if chance.random() < 0.3 else None
        connect = Connect(
            self.client_id, protocol_version=self.version, clean_start=clean, properties=properties, will=will
        )
        self.peer = Peer(self.storm, self)
        tail = b"" if chance.random() < 0.7 else PingReq().encode(self.version)
        data = connect.encode(self.version) + tail
        cut = chance.randrange(len(data))
        self.peer.send(data[:cut])
        if self.peer is not None:
            self.peer.send(data[cut:])

    def connected(self, peer: Peer, *, present: bool) -> None:
        self.answers.clear()
        if peer is not self.peer:
            return
        if not present:
            self.unacked.clear()
            self.to_release.clear()
            return
        again = [Publish(p.topic, p.payload, p.qos, dup=True, packet_id=p.packet_id) for p in self.unacked.values()]
        self.note(peer, again)
        releases: list[Packet] = [PubRel(packet_id) for packet_id in self.to_release]
        peer.unread.insert(0, b"".join(packet.encode(self.version) for packet in [*again, *releases]))
        if not peer.unread[0]:
            peer.unread.pop(0)

    def note(self, peer: Peer, publishes: list[Publish]) -> None:
        for publish in publishes:
            peer.sent.setdefault(publish.packet_id, len(peer.sent))

    def act(self) -> None:
        """Send a read or two of anything."""
        peer, chance = self.peer, self.storm.chance
        if peer is None or not peer.is_ready or peer.transport.closed:
            self.connect()
            return
        packets: list[Packet] = [*self.answers]
        self.answers.clear()
        for _ in range(chance.randrange(6)):
            choice = chance.random()
            if choice < 0.55:
                packets.append(self.new_publish(peer))
            elif choice < 0.65 and self.unacked:
                old = chance.choice(list(self.unacked.values()))
                if self.version < 5 and old.packet_id in peer.sent:  # MQTT 5 repeats on new connections only
                    packets.append(Publish(old.topic, old.payload, old.qos, dup=True, packet_id=old.packet_id))
            elif choice < 0.75:
                packets.append(
                    Subscribe(9, [Subscription(chance.choice(["#", "ok/#", "w", "stopped/#"]), chance.randrange(3))])
                )
            elif choice < 0.8:
                packets.append(Unsubscribe(9, ["#"]))
            elif choice < 0.9:
                packets.append(PingReq())
        packets += [PubRel(packet_id) for packet_id in sorted(self.to_release)]
        data = b"".join(packet.encode(self.version) for packet in packets)
        if chance.random() < 0.04:
            data += chance.choice(GARBAGE)
        elif chance.random() < 0.04:
            data += Disconnect(chance.choice([0, 4]) if self.version == 5 else 0).encode(self.version)
        cut = chance.randrange(len(data)) if data else 0
        for part in (data[:cut], data[cut:]):
            if part:
                peer.send(part)

    def new_publish(self, peer: Peer) -> Publish:
        chance, number = self.storm.chance, len(self.published) + 1
        qos = chance.randrange(3)
        topic = f"{chance.choice(KINDS)}/{self.client_id}/{number}"
        publish = Publish(topic, topic.encode(), qos, chance.random() < 0.1, packet_id=number if qos else 0)
        self.published[number] = publish
        if qos:
            self.unacked[number] = publish
            self.note(peer, [publish])
        return publish


def check_handed_on_once(storm: Storm, devices: Collection[Device]) -> None:
    for device in devices:
        for publish in device.published.values():
            if publish.qos == 2 and not publish.topic.startswith("kept"):
                holds = storm.accepted.get(publish.payload, [])
                assert sum(hold is None or not hold.failed for hold in holds) <= 1, f"{publish} handed on again"


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Nothing is freed but by its last reference; log records are not kept, since their tracebacks have everything."""
    gc.collect()
    gc.disable()
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        gc.enable()


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_is_late_or_wrong_no_promise_is_broken(seed: int) -> None:
    """Each of these was tested alone; clients meet them together."""
    chance = random.Random(seed)
    storm = Storm(chance)
    devices = [Device(storm, f"d{version}{number}", version) for version in (3, 4, 5) for number in range(2)]
    for _ in range(STEPS):
        await step(storm, devices)
        for device in devices:
            if device.peer is not None:
                device.peer.deliver()
        check_handed_on_once(storm, devices)
    if chance.random() < 0.5:
        await asyncio.wait_for(storm.world.broker.stop(0), 5)
        assert not storm.connections
        assert not storm.world.broker._tasks
    storm.sessions.slow.clear()
    storm.sessions.broken.clear()
    await calm(storm, devices)
    for peer in list(storm.connections):
        check_served(peer)
    await leave_all(storm, devices)
    check_nothing_left(storm)


async def step(storm: Storm, devices: list[Device]) -> None:
    chance, broker = storm.chance, storm.world.broker
    device = chance.choice(devices)
    peer = device.peer
    choice = chance.random()
    if choice < 0.45:
        device.act()
    elif choice < 0.6:
        storm.finish_hold()
    elif choice < 0.72:
        storm.answer()
    elif choice < 0.8:
        await storm.answer_store()
    elif choice < 0.83:
        device.connect()
    elif choice < 0.86 and peer is not None and peer.client is not None:
        peer.lose()
    elif choice < 0.88:
        broker.kick(device.client_id)
    elif choice < 0.92 and peer is not None and peer.client is not None and not peer.transport.closed:
        client = peer.client
        if client._connection.writable:
            client.pause_writing()
        else:
            client.resume_writing()
    elif choice < 0.94:
        storm.world.advance(chance.choice([0.5, 20]))
    elif choice < 0.96:
        storm.sessions.slow = set(chance.sample(["load", "flush", "remove"], chance.randrange(4)))
    elif choice < 0.97:
        storm.sessions.broken = set(chance.sample(["load", "flush", "remove"], chance.randrange(2)))
    if chance.random() < 0.7:
        await turn()


async def calm(storm: Storm, devices: list[Device]) -> None:
    """Give all answers, and let everything be read that was sent."""
    for _ in range(50):
        await storm.settle()
        for device in devices:
            peer = device.peer
            if peer is not None:
                if peer.client is not None and not peer.client._connection.writable:
                    peer.client.resume_writing()
                peer.deliver()
        await turn()


def check_served(peer: Peer) -> None:
    """A client that is there is read from and owed nothing."""
    client = peer.client
    assert client is not None
    if peer.device.peer is peer and peer.is_ready:
        assert client._gate.reasons == 0
        assert peer.transport.reading
        assert client.held_count == 0
        assert not peer.unread
        assert set(peer.sent) == peer.acked


async def leave_all(storm: Storm, devices: list[Device]) -> None:
    for peer in list(storm.connections):
        peer.lose()
    for device in devices:
        device.peer = None
    await storm.settle()
    storm.world.advance(100 + storm.world.config.session_expiry_interval)
    await storm.settle()
    await turn()


def check_nothing_left(storm: Storm) -> None:
    broker, world = storm.world.broker, storm.world
    registry = broker._core.registry
    assert not storm.connections
    assert broker.clients == []
    assert not registry._openings
    assert registry.is_settled
    assert broker.session_count == 0
    assert broker.subscription_count == 0
    assert not broker._tasks
    assert len(broker._core.deadlines) == 0
    assert sum(broker.stats.disconnects.values()) == storm.peers
    connected = len(world.events_of(ClientConnected))
    assert connected == len(world.events_of(ClientDisconnected))
    assert connected + broker.stats.connects_refused <= broker.stats.connects <= storm.peers
    storm.accepted.clear()
    left = [client for client in (reference() for reference in storm.clients) if client is not None]
    assert not left
