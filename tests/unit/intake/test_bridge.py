"""The bridge against the catalogue of events: the columns of a rule are those of the documentation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from broker.hooks import (
    ClientConnected,
    ClientDisconnected,
    ClientInfo,
    DeliveryDropped,
    Hooks,
    MessageAcked,
    MessageDelivered,
    MessageDropped,
    RoutedMessage,
    SessionSubscribed,
    SessionUnsubscribed,
)
from broker.origin import Address, Origin
from broker.receipt import ACCEPTED, Receipt, refusing
from engine.bridge import Bridge
from engine.connector import Publication
from engine.errors import RejectError, RetryableError
from engine.intake.intake import Intake, Run
from engine.language.events import EVENTS
from engine.model.message import Occurrence
from engine.service.clock import SystemClock
from support.mqtt_world import ManualHold, World

FAILED = ManualHold()
FAILED.finish(failed=True)

SOCKET = Address("10.0.0.1", 1883)
CLIENT = ClientInfo("dev-1", "u", Origin("tcp:10.0.0.1:1883", Address("10.0.0.7", 5000), SOCKET), connected_at=1)
RECEIVER = ClientInfo("app-1", None, Origin("tcp:10.0.0.1:1883", Address("::1", 5001), SOCKET))
MESSAGE = RoutedMessage("t", b"\xff", 1, False, {"content_type": "x", "user_property": [("a", "1")]}, CLIENT, 2)

OCCASIONS: dict[str, object] = {
    "client.connected": ClientConnected(CLIENT, False, {}),
    "client.disconnected": ClientDisconnected(CLIENT, "normal", {}, 3),
    "session.subscribed": SessionSubscribed(CLIENT, "t/#", 1, {}),
    "session.unsubscribed": SessionUnsubscribed(CLIENT, "t/#", 1, {}),
    "message.delivered": MessageDelivered(RECEIVER, MESSAGE),
    "message.acked": MessageAcked(RECEIVER, MESSAGE, {}),
    "message.dropped": MessageDropped(MESSAGE, "no_subscribers"),
    "delivery.dropped": DeliveryDropped(RECEIVER, MESSAGE, "queue_full"),
}


class Recorder(Intake):
    """An intake that keeps what it is given, and subscribes to all events or to no event."""

    def __init__(self, *, wanted: bool, receipt: Receipt = ACCEPTED) -> None:
        super().__init__(lambda: ManualHold())
        self.wanted = wanted
        self.receipt = receipt
        self.events: list[Occurrence] = []
        self.runs: list[tuple[str, list[str], tuple[str, ...]]] = []

    def listens_to(self, event_topic: str) -> bool:
        return self.wanted

    def take(self, run: Run) -> Receipt:
        if run.is_event:
            self.events += run.messages  # type: ignore[arg-type]
        else:
            self.runs.append((run.client.clientid, [publish.topic for publish in run.messages], run.trail))
        return self.receipt


class Broker:
    """An exchange that records republished messages."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    def check(self, topic: str, properties: Mapping[str, Any]) -> None:
        World().broker.check(topic, properties)

    def publish(self, topic: str, payload: bytes, *rest: object) -> Receipt:
        self.published.append((topic, payload))
        return ACCEPTED


def bridge_to(intake: Intake) -> tuple[Bridge, Hooks]:
    hooks = Hooks()
    bridge = Bridge(hooks, intake, SystemClock())
    bridge.listen()
    return bridge, hooks


@pytest.mark.parametrize("name", OCCASIONS)
def test_an_event_has_the_columns_that_the_catalogue_lists(name: str) -> None:
    """The reference is made from the catalogue; a rule must find there what it will see."""
    intake = Recorder(wanted=True)
    _, hooks = bridge_to(intake)
    getattr(hooks, name.replace(".", "_"))(OCCASIONS[name])
    (event,) = intake.events
    assert event.topic == EVENTS[name].topic
    assert event.columns()["event"] == name
    assert set(event.columns()) == set(EVENTS[name].columns)


def test_events_that_no_rule_selects_are_not_subscribed() -> None:
    """A fan-out must not pay for `message.delivered` when no rule asks for it."""
    _, hooks = bridge_to(Recorder(wanted=False))
    assert hooks.published is not None
    assert [hooks.client_connected, hooks.message_delivered, hooks.message_dropped] == [None] * 3


def test_the_id_of_a_message_is_the_same_in_all_events_about_it() -> None:
    """It is what joins a publish with its deliveries."""
    intake = Recorder(wanted=True)
    bridge, hooks = bridge_to(intake)

    class Publish:
        topic, payload, qos, retain, dup, properties = "t", b"", 1, False, False, None
        message_id: str | None = None
        is_will: bool = False

    publish = Publish()
    bridge.on_published(CLIENT, [publish], 5)
    assert publish.message_id is not None
    message = RoutedMessage("t", b"", 1, False, None, CLIENT, 5, publish.message_id)
    assert hooks.message_delivered is not None
    hooks.message_delivered(MessageDelivered(RECEIVER, message))
    assert intake.events[0].column("id") == publish.message_id


def publication(topic: str, rule_id: str = "r", trail: tuple[str, ...] = ("r",)) -> Publication:
    return Publication(topic, b"x", 1, False, {}, rule_id, trail)


async def republish(intake: Intake, *publications: Publication) -> tuple[Mapping[int, Any], Broker]:
    bridge, _ = bridge_to(intake)
    broker = Broker()
    return await bridge.publish(broker, publications), broker  # type: ignore[arg-type]


async def test_republished_messages_run_through_rules_and_reach_subscribers() -> None:
    """They are publishes like any other, by a client named like the rule."""
    intake = Recorder(wanted=False)
    refused, broker = await republish(intake, publication("a"), publication("b"), publication("c", "s", ("s",)))
    assert refused == {}
    assert intake.runs == [("r", ["a", "b"], ("r",)), ("s", ["c"], ("s",))]
    assert [topic for topic, _ in broker.published] == ["a", "b", "c"]


async def test_a_publish_refused_by_a_full_sink_is_neither_routed_nor_reported_as_published() -> None:
    """It comes again; its subscribers must not get it twice."""
    intake = Recorder(wanted=False, receipt=refusing(2, {1: 0x97}))
    refused, broker = await republish(intake, publication("a"), publication("b"))
    assert list(refused) == [1]
    assert isinstance(refused[1], RetryableError)
    assert [topic for topic, _ in broker.published] == ["a"]


async def test_a_publish_that_the_broker_refuses_reaches_no_rule() -> None:
    """It becomes a dead letter of its own record; a device that chooses the expiry must not stop the others."""
    intake = Recorder(wanted=False, receipt=refusing(3, {1: 0x97}))
    bad = Publication("b", b"x", 1, False, {"message_expiry_interval": 10**12}, "r", ("r",))
    refused, broker = await republish(intake, publication("a"), bad, publication("c"), publication("d"))
    assert {index: type(error) for index, error in refused.items()} == {1: RejectError, 2: RetryableError}
    assert "1000000000000 is not a value of the property message_expiry_interval" in refused[1].message
    assert intake.runs == [("r", ["a", "c", "d"], ("r",))]
    assert [topic for topic, _ in broker.published] == ["a", "d"]


async def test_republishing_waits_for_the_journal() -> None:
    """A record is delivered only when the new message is as safe as an acknowledged one."""
    hold = ManualHold()
    task = asyncio.ensure_future(republish(Recorder(wanted=False, receipt=Receipt(hold)), publication("a")))
    while not hold.has_callbacks:
        await asyncio.sleep(0)
    assert not task.done()
    hold.finish()
    assert (await task)[0] == {}


async def test_a_journal_that_can_not_be_written_makes_republishing_try_again() -> None:
    """Nothing counts as published that could be lost."""
    with pytest.raises(RetryableError, match="journal"):
        await republish(Recorder(wanted=False, receipt=Receipt(FAILED)), publication("a"))
