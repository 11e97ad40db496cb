"""A slow store, a slow remote subscriber and an access control that asks, behind a broker on TCP, with an independent
client."""

from __future__ import annotations

import asyncio

import aiomqtt
import pytest

from broker.access import Accepted, Action, AllowAll, Credentials
from broker.codec.packets import Subscription
from broker.config import BrokerConfig
from broker.hooks import ClientInfo, Hooks
from broker.listeners.tcp import TcpConfig
from broker.origin import Address
from broker.server import Broker
from broker.subscriber import Subscribed
from support.broker_doubles import RemoteSubscriber, SlowSessions

CONFIG = BrokerConfig(listeners=(TcpConfig(bind=Address("127.0.0.1", 0)),))
DEADLINE_S = 20.0


class AskingAccess(AllowAll):
    """An access control that has to ask for every publish of the client ``c``, once for each topic."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[asyncio.Future[bool]] = asyncio.Queue()
        self._cache: dict[str, bool] = {}

    def authenticate(self, client: ClientInfo, credentials: Credentials) -> Accepted:
        return Accepted(bypasses_acl=False)

    def may_publish(self, client: ClientInfo, topic: str, qos: int, retain: bool) -> bool | None:
        return self._cache.get(topic) if client.client_id == "c" else True

    async def ask(self, client: ClientInfo, action: Action) -> bool:
        question: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.questions.put_nowait(question)
        answer = self._cache[action.topic] = await question
        return answer


def client(broker: Broker, client_id: str) -> aiomqtt.Client:
    return aiomqtt.Client(
        "127.0.0.1", broker.listeners[0].port, identifier=client_id, protocol=aiomqtt.ProtocolVersion.V5,
        timeout=DEADLINE_S,
    )  # fmt: skip


async def test_client_is_accepted_when_the_store_has_answered_and_acknowledged_when_the_remote_has() -> None:
    """Both waits end with an event, and the connection is in order all the while."""
    sessions, remote = SlowSessions(CONFIG), RemoteSubscriber()
    broker = Broker(CONFIG, Hooks(), sessions=sessions)
    broker._core.router.subscribe(remote, Subscribed(Subscription("far/#", 1)))
    await broker.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            mqtt = client(broker, "c")
            entering = asyncio.ensure_future(mqtt.__aenter__())
            while not sessions.owed:
                await asyncio.sleep(0.001)
            assert not entering.done()
            await sessions.answer()
            await entering
            publishing = asyncio.ensure_future(mqtt.publish("far/t", b"x", qos=1))
            while not remote.holds:
                await asyncio.sleep(0.001)
            await mqtt.subscribe("near")  # everything else goes on
            assert not publishing.done()
            remote.confirm()
            await publishing
            await mqtt.__aexit__(None, None, None)
    finally:
        await broker.stop(1.0)


async def test_client_is_refused_when_the_store_fails() -> None:
    """Server unavailable, as the client library calls 0x88."""
    sessions = SlowSessions(CONFIG)
    sessions.broken = {"load"}
    broker = Broker(CONFIG, Hooks(), sessions=sessions)
    await broker.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(aiomqtt.MqttError, match="Server unavailable"):
                await client(broker, "c").__aenter__()
    finally:
        await broker.stop(1.0)


async def test_client_waits_for_its_permission_and_keeps_its_order() -> None:
    """Another client is served meanwhile."""
    access = AskingAccess()
    broker = Broker(CONFIG, Hooks(), access=access)
    await broker.start()
    try:
        async with asyncio.timeout(DEADLINE_S), client(broker, "c") as mqtt, client(broker, "other") as other:
            await other.subscribe("#", qos=1)
            publishing = [asyncio.ensure_future(mqtt.publish("asked", str(n), qos=1)) for n in range(3)]
            question = await access.questions.get()
            await other.publish("free", "first", qos=1)
            assert not any(each.done() for each in publishing)
            question.set_result(True)
            await asyncio.gather(*publishing)
            received = [(await anext(other.messages)).payload for _ in range(4)]
            assert received == [b"first", b"0", b"1", b"2"]
            assert access.questions.empty()
    finally:
        await broker.stop(1.0)
