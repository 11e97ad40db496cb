"""One call fails, any of those between the bytes of a read and the journal: what then is acknowledged is delivered.

The broker, the bridge, the intake, the outboxes and the journal are the real ones, without sockets and threads. A read
is sent again and again, each time with the next call on its way made to fail, until no call is left that could. After
each of them:

- every publish of the read is acknowledged or its connection is closed, and what was acknowledged is in all its sinks,
  unless the failing call was the rule's own: that is a failed evaluation, counted as such;
- the next read of that client and of another one is acknowledged and delivered;
- the counters of rules and sinks add up, and they agree with what the sinks have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.codec.packets import Packet, PingReq, PubAck, Publish, PubRec, Subscribe, Subscription
from engine.bridge import Bridge
from engine.delivery import Outbox
from engine.intake.active import ActiveRule
from engine.intake.intake import Intake
from engine.language.rulefile import read_rule_file
from engine.language.ruleset import Rule, Ruleset
from engine.model.metrics import RuleCounters
from engine.testing import MemorySink, pump
from support import deliveries, mqtt_world
from support.faults import InjectedError, call_with_fault
from support.mqtt_world import Peer

RULES = {
    "plain": """INSERT INTO a SELECT payload.n AS n FROM "t/#" WHERE payload.n >= 0""",
    "columns": """INSERT INTO a, b (number, place) SELECT payload.n AS n, topic FROM "t/two" """,
    "many": """INSERT INTO c FOREACH payload.l AS e DO payload.n AS n, e AS e FROM "t/many" """,
    "huge": """INSERT INTO c SELECT payload.n AS n, subbits(payload.pad, 20000) AS huge FROM "t/huge" """,
    "events": """INSERT INTO c SELECT topic AS dropped FROM "$events/session/subscribed", "$events/message/dropped" """,
}
SINKS_OF_RULE = {"plain": "a", "columns": "ab", "many": "c", "huge": "c"}
"""The sinks to which a rule sends the number of a publish."""
SINKS_OF_TOPIC = {"t/one": "a", "t/two": "ab", "t/many": "ac", "t/huge": "ac"}

PAD = "x" * 3000
"""Enough bits for an integer of more than 4,300 digits, of which Python makes no text."""

CALLS_MAX = 5000
"""More calls than any of the reads makes: the end of a test that would go on for ever."""


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of read: ``packets`` makes it, given a function that answers a new publish to a topic with a QoS."""

    packets: Callable[[Callable[[str, int], Publish]], list[Packet]]
    version: int = 5
    has_subscriber: bool = False


CASES = {
    "one publish": Case(lambda new: [new("t/one", 1)]),
    "one publish before MQTT 5": Case(lambda new: [new("t/one", 1)], version=4),
    "QoS 0, 1 and 2": Case(lambda new: [new("t/one", 1), new("t/two", 0), new("t/two", 2), new("t/one", 1)]),
    "several rules": Case(lambda new: [new("t/two", 1), new("t/many", 1), new("t/one", 1), new("t/two", 1)]),
    "rows that can't be stored": Case(lambda new: [new("t/one", 1), new("t/huge", 1), new("t/one", 1)]),
    "packets of all kinds": Case(
        lambda new: [new("t/one", 1), Subscribe(9, [Subscription("x/#")]), new("t/two", 1), PingReq(), new("t/one", 2)]
    ),
    "a subscriber": Case(lambda new: [new("t/one", 1), new("t/two", 2)], has_subscriber=True),
}


class System:
    """A broker with rules and sinks, and a record of what was published and acknowledged."""

    def __init__(self, case: Case, world: deliveries.World) -> None:
        self.case = case
        self.world = world
        self.mqtt = mqtt_world.World()
        self.sinks = {name: MemorySink() for name in "abc"}
        self.outboxes: dict[str, Outbox] = {}
        self.counters = {name: RuleCounters() for name in RULES}
        self.published: dict[int, Publish] = {}
        self.acknowledged: set[int] = set()
        self.failed: set[tuple[int, str]] = set()
        """Numbers and sinks of rows that a failed evaluation may have cost."""

    async def start(self) -> None:
        await self.world.start()
        for name, sink in self.sinks.items():
            self.outboxes[name] = await self.world.open(sink, name=name)
        rules = [_rule(name, sql) for name, sql in RULES.items()]
        intake = Intake(self.world.delivery.hold, self.world.delivery.pressure)
        intake.swap(
            Ruleset(rules), {rule.id: ActiveRule(rule, self.outboxes, self.counters[rule.id]) for rule in rules}
        )
        Bridge(self.mqtt.hooks, intake, self.world.clock).listen()
        self.other = self.mqtt.connect("other")
        if self.case.has_subscriber:
            self.listener = self.mqtt.connect("listener")
            self.listener.subscribe("#", qos=0)

    def new_publish(self, topic: str, qos: int) -> Publish:
        number = len(self.published)
        payload = f'{{"n": {number}, "l": [1, 2], "pad": "{PAD if topic == "t/huge" else ""}"}}'.encode()
        publish = Publish(topic, payload, qos, packet_id=number % 60_000 + 1 if qos else 0)
        self.published[number] = publish
        return publish

    def numbers_of(self, packets: list[Packet]) -> list[int]:
        """Return the numbers of the QoS 1 and 2 publishes among `packets`."""
        return [n for n, publish in self.published.items() if publish.qos and publish in packets]

    def take_acks(self, peer: Peer, numbers: list[int]) -> list[int]:
        """Note which of these publishes were acknowledged; return those that were not even refused."""
        codes = {ack.packet_id: ack.reason_code for ack in peer.received() if isinstance(ack, (PubAck, PubRec))}
        self.acknowledged.update(n for n in numbers if codes.get(self.published[n].packet_id, 0x80) < 0x80)
        return [n for n in numbers if self.published[n].packet_id not in codes]

    async def publish(self, peer: Peer, *publishes: Publish) -> None:
        """Publish without a fault: all of it must be acknowledged."""
        peer.send(*publishes)
        await pump()
        numbers = self.numbers_of(list(publishes))
        self.take_acks(peer, numbers)
        assert self.acknowledged.issuperset(numbers)

    def note_failures(self, numbers: list[int], before: dict[str, int]) -> None:
        """Note which rows the failed evaluations since `before` may have cost: at most one rule failed, once."""
        failed = {name: self.counters[name].failed - count for name, count in before.items()}
        assert sum(failed.values()) <= 1
        rules = (name for name, count in failed.items() if count and name in SINKS_OF_RULE)
        self.failed.update((n, sink) for name in rules for sink in SINKS_OF_RULE[name] for n in numbers)

    def check(self) -> None:
        """Every acknowledged publish is in its sinks, and all counters agree with what is there."""
        held = {name: {row.get("n", row.get("number")) for row in sink.rows} for name, sink in self.sinks.items()}
        lost = {
            (n, sink)
            for n in self.acknowledged
            for sink in SINKS_OF_TOPIC[self.published[n].topic]
            if n not in held[sink]
        }
        assert lost <= self.failed
        for counters in self.counters.values():
            assert counters.received == counters.filtered + counters.failed + counters.emitted
        for name, outbox in self.outboxes.items():
            counted = outbox.counters
            assert counted.buffered == 0
            assert outbox.status().buffered_bytes == 0
            assert counted.delivered == len(self.sinks[name].rows)
        emitted = sum(outbox.counters.emitted for outbox in self.outboxes.values())
        assert emitted == sum(counters.records for counters in self.counters.values())


def _rule(name: str, sql: str) -> Rule:
    rule, problems = read_rule_file(sql, rule_id=name, path=f"{name}.sql").in_project("abc")
    assert rule is not None, problems
    return rule


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[deliveries.World]:
    world = deliveries.World(tmp_path)
    yield world
    await world.stop()


@pytest.mark.parametrize("name", CASES)
async def test_a_failing_call_costs_no_acknowledged_publish_of_anybody(name: str, world: deliveries.World) -> None:
    """A failure in one read affects that read alone."""
    case = CASES[name]
    system = System(case, world)
    await system.start()
    for at in range(1, CALLS_MAX):
        client_id = f"client-{at}"
        peer = system.mqtt.connect(client_id, case.version, clean_start=False, properties=_keep(case.version))
        packets = case.packets(system.new_publish)
        numbers = system.numbers_of(packets)
        failed_before = {name: counters.failed for name, counters in system.counters.items()}
        with capture_logs():
            fault = send_with_fault(peer, packets, at)
        await pump()
        unanswered = system.take_acks(peer, numbers)
        system.note_failures(numbers, failed_before)
        assert peer.transport.closed or not unanswered, f"no answer after {fault} failed (call {at})"
        await system.publish(system.other, system.new_publish("t/two", 1))
        again = [system.published[n] for n in numbers if n not in system.acknowledged]
        if peer.transport.closed:
            peer = system.mqtt.connect(client_id, case.version, clean_start=False, properties=_keep(case.version))
        await system.publish(peer, *again, system.new_publish("t/one", 1))
        peer.lose()
        await world.clock.advance(0.1)
        try:
            system.check()
        except AssertionError as error:
            error.add_note(f"after {fault} failed (call {at})")
            raise
        if fault is None:
            return
    pytest.fail(f"more than {CALLS_MAX} calls")


def send_with_fault(peer: Peer, packets: list[Packet], at: int) -> str | None:
    """Send a read of which one call fails, and return which; a failure that asyncio would see closes the connection."""
    data = b"".join(packet.encode(peer.version) for packet in packets)
    try:
        return call_with_fault(peer.client.data_received, data, at=at).failed
    except InjectedError as error:
        if not peer.transport.closed:
            peer.lose("einval")
        return str(error)


def _keep(version: int) -> dict[str, int] | None:
    return {"session_expiry_interval": 60} if version == 5 else None
