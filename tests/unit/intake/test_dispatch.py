"""Dispatch with values: which rows go where, what is refused, and that what is counted adds up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from engine.intake.dispatch import QUOTA_EXCEEDED, Dispatcher, Outcome, Route
from engine.language.rulefile import read_rule_file
from engine.language.ruleset import Rule, Ruleset
from engine.model.message import ClientIdentity, Occurrence
from engine.model.record import Chunk

NOW = 1_700_000_000_000


@dataclass
class Publish:
    topic: str
    payload: bytes = b'{"v": 1}'
    qos: int = 1
    retain: bool = False
    dup: bool = False
    properties: None = None
    message_id: str | None = None
    is_will: bool = False


@dataclass
class Box:
    """An outbox that keeps what it is given."""

    refusing: bool = False
    chunks: list[Chunk] = field(default_factory=list)
    dropped: int = 0

    def put(self, chunk: Chunk) -> bool:
        self.chunks.append(chunk)
        return True

    def drop(self, count: int) -> None:
        self.dropped += count

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for chunk in self.chunks for row in chunk.rows]


@dataclass
class Counts:
    received: int = 0
    filtered: int = 0
    failed: int = 0
    emitted: int = 0
    refused: int = 0
    records: int = 0


class House:
    """Rules and outboxes by name, in service."""

    def __init__(self, boxes: dict[str, Box], **rules: str) -> None:
        self.boxes = boxes
        loaded = [self._load(rule_id, sql, boxes) for rule_id, sql in rules.items()]
        self.pressure: Ticket | None = None
        self.dispatcher = Dispatcher(lambda: TICKET, lambda: self.pressure)
        self.counts = {rule.id: Counts() for rule in loaded}
        routes = {rule.id: Route(rule, boxes, self.counts[rule.id]) for rule in loaded}
        self.dispatcher.swap(Ruleset(loaded), routes)

    def publish(self, *publishes: Publish, client: str = "c", sends_again: bool = False) -> Outcome | None:
        return self.dispatcher.publishes(ClientIdentity(client), publishes, NOW, sends_again=sends_again)

    @staticmethod
    def _load(rule_id: str, sql: str, boxes: dict[str, Box]) -> Rule:
        rule, problems = read_rule_file(sql, rule_id=rule_id, path=f"{rule_id}.sql").in_project(boxes)
        assert rule is not None, problems
        return rule


class Ticket:
    done = False
    failed = False

    def add_done_callback(self, callback: Any) -> None:
        raise AssertionError("nobody waits in these tests")


TICKET = Ticket()


def test_rows_of_one_read_become_one_chunk_per_rule() -> None:
    """The journal is asked once per rule and read, not per message: that is what makes it cheap."""
    house = House({"a": Box()}, r='INSERT INTO a SELECT payload.v AS v FROM "t/+"')
    outcome = house.publish(Publish("t/1"), Publish("t/2", b'{"v": 2}'), Publish("other"))
    assert outcome is not None
    assert outcome.ticket is TICKET
    (chunk,) = house.boxes["a"].chunks
    assert (chunk.rule_id, chunk.client_id, chunk.time_ms) == ("r", "c", NOW)
    assert [(chunk.topic(i), row) for i, row in enumerate(chunk.rows)] == [("t/1", {"v": 1}), ("t/2", {"v": 2})]


def test_a_topic_without_rules_waits_for_nothing() -> None:
    """A publish nobody selects is acknowledged at once."""
    house = House({"a": Box()}, r='INSERT INTO a SELECT * FROM "t"')
    assert house.publish(Publish("x")) is None


def test_filtered_and_failed_messages_are_counted_and_acknowledged() -> None:
    """received = filtered + failed + emitted, and a rule that fails stops nobody."""
    house = House({"a": Box()}, r='INSERT INTO a SELECT payload.v AS v FROM "t" WHERE payload.v > 1')
    house.publish(Publish("t"), Publish("t", b"no json"), Publish("t", b'{"v": 5}'))
    counts = house.counts["r"]
    assert (counts.received, counts.filtered, counts.failed, counts.emitted, counts.records) == (3, 1, 1, 1, 1)
    assert house.boxes["a"].rows == [{"v": 5}]


def test_rules_that_share_a_topic_each_get_the_message() -> None:
    """One publish, several rules: every sink has its row."""
    boxes = {"a": Box(), "b": Box()}
    house = House(boxes, one='INSERT INTO a SELECT topic FROM "t/#"', two='INSERT INTO a, b SELECT qos FROM "t/1"')
    house.publish(Publish("t/1"))
    assert boxes["a"].rows == [{"topic": "t/1"}, {"qos": 1}]
    assert boxes["b"].rows == [{"qos": 1}]
    assert house.counts["two"].records == 2


def test_a_publish_that_one_full_sink_would_refuse_is_put_nowhere() -> None:
    """All sinks of a publish or none: otherwise the client's second try would store it twice elsewhere."""
    boxes = {"a": Box(), "b": Box(refusing=True)}
    house = House(boxes, one='INSERT INTO a SELECT topic FROM "t"', two='INSERT INTO b SELECT topic FROM "t"')
    outcome = house.publish(Publish("t"))
    assert outcome is not None
    assert outcome.refused == {0: QUOTA_EXCEEDED}
    assert boxes["a"].chunks == boxes["b"].chunks == []
    for counts in house.counts.values():
        assert (counts.received, counts.refused, counts.emitted) == (0, 1, 0)


def test_a_full_sink_refuses_only_what_it_would_have_stored() -> None:
    """A message that WHERE drops has nothing to wait for."""
    house = House({"a": Box(refusing=True)}, r='INSERT INTO a SELECT payload.v AS v FROM "t" WHERE payload.v > 1')
    outcome = house.publish(Publish("t"), Publish("t", b'{"v": 2}'))
    assert outcome is not None
    assert outcome.refused == {1: QUOTA_EXCEEDED}
    assert house.counts["r"].filtered == house.counts["r"].received == 1


@pytest.mark.parametrize("full", ["full", "full/too"])
def test_what_comes_again_behind_a_refusal_is_not_taken_now(full: str) -> None:
    """An MQTT 3 client whose sink is full tries again for as long as it is. What follows would be stored each time."""
    boxes = {"a": Box(), "b": Box(refusing=True)}
    house = House(
        boxes,
        one='INSERT INTO a SELECT payload.v AS v FROM "t", "full/too"',
        two='INSERT INTO b SELECT qos FROM "full/#"',
    )
    publishes = [Publish("t", b'{"v": %d}' % n, qos=qos) for n, qos in enumerate((1, 0, 2, 1, 0))]
    publishes[1] = Publish(full)
    outcome = house.publish(*publishes, sends_again=True)
    assert outcome is not None
    assert outcome.refused == dict.fromkeys((1, 2, 3), QUOTA_EXCEEDED)
    assert outcome.ticket is TICKET
    assert boxes["a"].rows == [{"v": 0}, {"v": 4}], "nobody sends QoS 0 again"
    assert house.counts["one"].received == 2


def test_qos_0_is_dropped_for_the_full_sink_and_stored_in_the_others() -> None:
    """Nobody can be told, so the loss is counted where it happened."""
    boxes = {"a": Box(), "b": Box(refusing=True)}
    house = House(boxes, r='INSERT INTO a, b SELECT payload.v AS v FROM "t"')
    assert house.publish(Publish("t", qos=0)) is None
    assert (boxes["a"].rows, boxes["b"].dropped) == ([{"v": 1}], 1)
    assert (house.counts["r"].emitted, house.counts["r"].records) == (1, 2)


def test_a_will_is_not_refused_for_nobody_would_hear_of_it() -> None:
    """One sink that is full would keep it from all others, and from those who wait for just this message."""
    boxes = {"a": Box(), "b": Box(refusing=True)}
    house = House(boxes, one='INSERT INTO a SELECT qos FROM "t"', two='INSERT INTO b SELECT qos FROM "t"')
    outcome = house.publish(Publish("t", qos=1, is_will=True))
    assert outcome is None or outcome.refused is None
    assert (boxes["a"].rows, boxes["b"].dropped) == ([{"qos": 1}], 1)


def test_order_holds_when_a_sink_fills_up_between_two_rules() -> None:
    """What came before in the same read goes before, whatever way it takes."""
    boxes = {"a": Box()}
    house = House(boxes, r='INSERT INTO a SELECT payload.v AS v FROM "t"')
    house.publish(*(Publish("t", b'{"v": %d}' % n, qos=n % 2) for n in range(6)))
    assert [row["v"] for row in boxes["a"].rows] == list(range(6))


def test_a_publish_that_meets_a_full_sink_takes_no_wait_from_those_before_it() -> None:
    """The QoS 1 publish was in the same read: acknowledged before it is on disk, a crash would lose it."""
    boxes = {"a": Box(), "b": Box(refusing=True)}
    house = House(boxes, one='INSERT INTO a SELECT qos FROM "t/#"', two='INSERT INTO b SELECT qos FROM "t/full"')
    outcome = house.publish(Publish("t/1"), Publish("t/full", qos=0), Publish("t/full", qos=0))
    assert outcome is not None
    assert outcome.ticket is TICKET
    assert boxes["a"].rows == [{"qos": 1}, {"qos": 0}, {"qos": 0}]


def test_foreach_counts_events_and_records_apart() -> None:
    """Three rows of one message are one event emitted and three records."""
    house = House({"a": Box()}, r='INSERT INTO a FOREACH payload.l AS e DO e AS e FROM "t"')
    house.publish(Publish("t", b'{"l": [1, 2, 3]}'), Publish("t", b'{"l": []}'))
    counts = house.counts["r"]
    assert (counts.received, counts.emitted, counts.filtered, counts.records) == (2, 1, 1, 3)


def test_columns_of_insert_into_name_the_fields_in_order() -> None:
    """`INSERT INTO a (x, y)` is plain SQL: the first field goes to the first column."""
    boxes = {"a": Box(), "b": Box()}
    house = House(boxes, r='INSERT INTO a (x, y), b SELECT payload.v AS v, qos FROM "t"')
    house.publish(Publish("t"))
    assert boxes["a"].rows == [{"x": 1, "y": 1}]
    assert boxes["b"].rows == [{"v": 1, "qos": 1}]


def test_ack_receive_waits_for_nothing() -> None:
    """`-- ack: receive` trades safety for latency, rule by rule."""
    house = House({"a": Box()}, r='-- ack: receive\nINSERT INTO a SELECT qos FROM "t"')
    assert house.publish(Publish("t")) is None
    assert len(house.boxes["a"].chunks) == 1


def test_ack_receive_waits_when_the_disk_does_not_keep_up() -> None:
    """Otherwise what comes faster than it can be written would fill the memory."""
    house = House({"a": Box()}, r='-- ack: receive\nINSERT INTO a SELECT qos FROM "t"')
    house.pressure = TICKET
    outcome = house.publish(Publish("t"))
    assert outcome is not None
    assert outcome.ticket is TICKET


def test_events_reach_the_rules_that_select_from_them() -> None:
    """Old and new names of an event are the same event."""
    house = House(
        {"a": Box()},
        old='INSERT INTO a SELECT clientid FROM "$events/client_connected"',
        other='INSERT INTO a SELECT clientid FROM "$events/client_disconnected"',
    )
    event = Occurrence("$events/client/connected", {"clientid": "x"}, ClientIdentity("x"), NOW)
    house.dispatcher.occurrence(event)
    assert house.dispatcher.listens_to("$events/client/connected")
    assert not house.dispatcher.listens_to("$events/session/subscribed")
    assert house.boxes["a"].rows == [{"clientid": "x"}]


def test_the_last_error_of_a_rule_is_kept_for_people() -> None:
    """Status says why a rule fails, without a search through logs."""
    house = House({"a": Box()}, r='INSERT INTO a SELECT payload.v AS v FROM "t"')
    house.publish(Publish("t", b"no json"))
    assert "JSON" in (house.dispatcher.routes["r"].last_error or "")


def test_a_disabled_sink_gets_nothing_and_the_others_their_rows() -> None:
    """It has no outbox; nothing of the rule counts for it."""
    rule, _ = read_rule_file('INSERT INTO a, off SELECT qos FROM "t"', rule_id="r", path="r.sql").in_project(
        ["a", "off"]
    )
    assert rule is not None
    box, counts = Box(), Counts()
    dispatcher = Dispatcher(lambda: TICKET)
    dispatcher.swap(Ruleset([rule]), {"r": Route(rule, {"a": box}, counts)})
    dispatcher.publishes(ClientIdentity("c"), [Publish("t")], NOW)
    assert (box.rows, counts.records) == ([{"qos": 1}], 1)
