"""Intake with values: the rows of each sink, refusals, holds, and counters that add up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from broker.receipt import ACCEPTED, Hold, Receipt, refusing
from engine.intake.active import ActiveRule
from engine.intake.intake import QUOTA_EXCEEDED, Intake, Run
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
    takes: bool = True
    is_broken: bool = False
    chunks: list[Chunk] = field(default_factory=list)
    dropped: int = 0

    def put(self, chunk: Chunk) -> bool:
        if self.is_broken:
            raise OSError("this outbox is broken")
        if self.takes:
            self.chunks.append(chunk)
        return self.takes

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


class Service:
    """Rules and outboxes by name, in service."""

    def __init__(self, boxes: dict[str, Box], **rules: str) -> None:
        self.boxes = boxes
        loaded = [self._load(rule_id, sql, boxes) for rule_id, sql in rules.items()]
        self.pressure: Hold | None = None
        self.intake = Intake(lambda: COMMIT, lambda: self.pressure)
        self.counts = {rule.id: Counts() for rule in loaded}
        self.intake.swap(Ruleset(loaded), {rule.id: ActiveRule(rule, boxes, self.counts[rule.id]) for rule in loaded})

    def publish(self, *publishes: Publish, client: str = "c", resends: bool = False) -> Receipt:
        return self.intake.take(Run(publishes, ClientIdentity(client), NOW, resends=resends))

    def occur(self, *events: Occurrence, is_refusable: bool = False) -> Receipt:
        return self.intake.take(Run(events, events[0].client, NOW, is_event=True, is_refusable=is_refusable))

    @staticmethod
    def _load(rule_id: str, sql: str, boxes: dict[str, Box]) -> Rule:
        rule, problems = read_rule_file(sql, rule_id=rule_id, path=f"{rule_id}.sql").in_project(boxes)
        assert rule is not None, problems
        return rule


class Commit:
    done = False
    failed = False

    def add_done_callback(self, callback: Any) -> None:
        raise AssertionError("nobody waits in these tests")


COMMIT = Commit()


def test_rows_of_one_read_become_one_chunk_per_rule() -> None:
    """The journal is asked once per rule and read, not per message: that is what makes it cheap."""
    service = Service({"a": Box()}, r='INSERT INTO a SELECT payload.v AS v FROM "t/+"')
    receipt = service.publish(Publish("t/1"), Publish("t/2", b'{"v": 2}'), Publish("other"))
    assert receipt.hold is COMMIT
    (chunk,) = service.boxes["a"].chunks
    assert (chunk.rule_id, chunk.client_id, chunk.time_ms) == ("r", "c", NOW)
    assert [(chunk.topic(i), row) for i, row in enumerate(chunk.rows)] == [("t/1", {"v": 1}), ("t/2", {"v": 2})]


def test_a_topic_without_rules_waits_for_nothing() -> None:
    """A publish that no rule selects is acknowledged at once."""
    service = Service({"a": Box()}, r='INSERT INTO a SELECT * FROM "t"')
    assert service.publish(Publish("x")) == ACCEPTED


def test_filtered_and_failed_messages_are_counted_and_acknowledged() -> None:
    """received = filtered + failed + emitted, and a failing rule does not stop others."""
    service = Service({"a": Box()}, r='INSERT INTO a SELECT payload.v AS v FROM "t" WHERE payload.v > 1')
    service.publish(Publish("t"), Publish("t", b"no json"), Publish("t", b'{"v": 5}'))
    counts = service.counts["r"]
    assert (counts.received, counts.filtered, counts.failed, counts.emitted, counts.records) == (3, 1, 1, 1, 1)
    assert service.boxes["a"].rows == [{"v": 5}]


def test_rules_that_share_a_topic_each_get_the_message() -> None:
    """One publish, several rules: every sink has its row."""
    boxes = {"a": Box(), "b": Box()}
    service = Service(boxes, one='INSERT INTO a SELECT topic FROM "t/#"', two='INSERT INTO a, b SELECT qos FROM "t/1"')
    service.publish(Publish("t/1"))
    assert boxes["a"].rows == [{"topic": "t/1"}, {"qos": 1}]
    assert boxes["b"].rows == [{"qos": 1}]
    assert service.counts["two"].records == 2


def test_a_publish_that_one_full_sink_would_refuse_is_put_nowhere() -> None:
    """All sinks of a publish refuse together: otherwise the client's second try would store it twice elsewhere."""
    boxes = {"a": Box(), "b": Box(refusing=True)}
    service = Service(boxes, one='INSERT INTO a SELECT topic FROM "t"', two='INSERT INTO b SELECT topic FROM "t"')
    receipt = service.publish(Publish("t"))
    assert receipt == refusing(1, {0: QUOTA_EXCEEDED})
    assert boxes["a"].chunks == boxes["b"].chunks == []
    for counts in service.counts.values():
        assert (counts.received, counts.refused, counts.emitted) == (0, 1, 0)


def test_a_full_sink_refuses_only_publishes_of_its_rules() -> None:
    """A message that WHERE drops has nothing to wait for."""
    service = Service({"a": Box(refusing=True)}, r='INSERT INTO a SELECT payload.v AS v FROM "t" WHERE payload.v > 1')
    receipt = service.publish(Publish("t"), Publish("t", b'{"v": 2}'))
    assert receipt.codes == refusing(2, {1: QUOTA_EXCEEDED}).codes
    assert service.counts["r"].filtered == service.counts["r"].received == 1


@pytest.mark.parametrize("full", ["full", "full/too"])
def test_publishes_behind_a_refusal_are_not_accepted(full: str) -> None:
    """An MQTT 3 client sends again while the sink is full. Later publishes would be stored each time."""
    boxes = {"a": Box(), "b": Box(refusing=True)}
    service = Service(
        boxes,
        one='INSERT INTO a SELECT payload.v AS v FROM "t", "full/too"',
        two='INSERT INTO b SELECT qos FROM "full/#"',
    )
    publishes = [Publish("t", b'{"v": %d}' % n, qos=qos) for n, qos in enumerate((1, 0, 2, 1, 0))]
    publishes[1] = Publish(full)
    receipt = service.publish(*publishes, resends=True)
    assert receipt.codes == refusing(5, dict.fromkeys((1, 2, 3), QUOTA_EXCEEDED)).codes
    assert receipt.hold is COMMIT
    assert boxes["a"].rows == [{"v": 0}, {"v": 4}], "nobody sends QoS 0 again"
    assert service.counts["one"].received == 2


def test_qos_0_is_dropped_for_the_full_sink_and_stored_in_the_others() -> None:
    """The sender cannot be refused, so the loss is counted at the sink."""
    boxes = {"a": Box(), "b": Box(refusing=True)}
    service = Service(boxes, r='INSERT INTO a, b SELECT payload.v AS v FROM "t"')
    assert service.publish(Publish("t", qos=0)).codes is None
    assert (boxes["a"].rows, boxes["b"].dropped) == ([{"v": 1}], 1)
    assert (service.counts["r"].emitted, service.counts["r"].records) == (1, 2)


def test_a_will_is_not_refused_since_its_client_has_gone() -> None:
    """One sink that is full would keep it from all others, and from those who wait for just this message."""
    boxes = {"a": Box(), "b": Box(refusing=True)}
    service = Service(boxes, one='INSERT INTO a SELECT qos FROM "t"', two='INSERT INTO b SELECT qos FROM "t"')
    receipt = service.publish(Publish("t", qos=1, is_will=True))
    assert receipt.codes is None
    assert (boxes["a"].rows, boxes["b"].dropped) == ([{"qos": 1}], 1)


def test_order_holds_when_a_sink_fills_up_between_two_rules() -> None:
    """Earlier publishes of the same read are put first, on every path."""
    boxes = {"a": Box()}
    service = Service(boxes, r='INSERT INTO a SELECT payload.v AS v FROM "t"')
    service.publish(*(Publish("t", b'{"v": %d}' % n, qos=n % 2) for n in range(6)))
    assert [row["v"] for row in boxes["a"].rows] == list(range(6))


def test_a_publish_that_meets_a_full_sink_takes_no_wait_from_those_before_it() -> None:
    """The QoS 1 publish was in the same read: acknowledged before it is on disk, a crash would lose it."""
    boxes = {"a": Box(), "b": Box(refusing=True)}
    service = Service(boxes, one='INSERT INTO a SELECT qos FROM "t/#"', two='INSERT INTO b SELECT qos FROM "t/full"')
    receipt = service.publish(Publish("t/1"), Publish("t/full", qos=0), Publish("t/full", qos=0))
    assert receipt.hold is COMMIT
    assert boxes["a"].rows == [{"qos": 1}, {"qos": 0}, {"qos": 0}]


def test_foreach_counts_events_and_records_apart() -> None:
    """Three rows of one message are one event emitted and three records."""
    service = Service({"a": Box()}, r='INSERT INTO a FOREACH payload.l AS e DO e AS e FROM "t"')
    service.publish(Publish("t", b'{"l": [1, 2, 3]}'), Publish("t", b'{"l": []}'))
    counts = service.counts["r"]
    assert (counts.received, counts.emitted, counts.filtered, counts.records) == (2, 1, 1, 3)


def test_columns_of_insert_into_name_the_fields_in_order() -> None:
    """`INSERT INTO a (x, y)` is plain SQL: the first field goes to the first column."""
    boxes = {"a": Box(), "b": Box()}
    service = Service(boxes, r='INSERT INTO a (x, y), b SELECT payload.v AS v, qos FROM "t"')
    service.publish(Publish("t"))
    assert boxes["a"].rows == [{"x": 1, "y": 1}]
    assert boxes["b"].rows == [{"v": 1, "qos": 1}]


def test_ack_receive_waits_for_nothing() -> None:
    """`-- ack: receive` trades safety for latency, rule by rule."""
    service = Service({"a": Box()}, r='-- ack: receive\nINSERT INTO a SELECT qos FROM "t"')
    assert service.publish(Publish("t")) == ACCEPTED
    assert len(service.boxes["a"].chunks) == 1


def test_ack_receive_waits_when_the_disk_does_not_keep_up() -> None:
    """Otherwise what comes faster than it can be written would fill the memory."""
    service = Service({"a": Box()}, r='-- ack: receive\nINSERT INTO a SELECT qos FROM "t"')
    service.pressure = COMMIT
    receipt = service.publish(Publish("t"))
    assert receipt.hold is COMMIT


def test_events_reach_the_rules_that_select_from_them() -> None:
    """Old and new names of an event are the same event."""
    service = Service(
        {"a": Box()},
        old='INSERT INTO a SELECT clientid FROM "$events/client_connected"',
        other='INSERT INTO a SELECT clientid FROM "$events/client_disconnected"',
    )
    event = Occurrence("$events/client/connected", {"clientid": "x"}, ClientIdentity("x"), NOW)
    assert service.occur(event).hold is COMMIT
    assert service.intake.listens_to("$events/client/connected")
    assert not service.intake.listens_to("$events/session/subscribed")
    assert service.boxes["a"].rows == [{"clientid": "x"}]


def test_the_last_error_of_a_rule_is_kept_for_people() -> None:
    """Status says why a rule fails, without a search through logs."""
    service = Service({"a": Box()}, r='INSERT INTO a SELECT payload.v AS v FROM "t"')
    service.publish(Publish("t", b"no json"))
    assert "JSON" in (service.intake.rules["r"].last_error or "")


def test_a_disabled_sink_gets_nothing_and_the_others_their_rows() -> None:
    """It has no outbox; nothing of the rule counts for it."""
    rule, _ = read_rule_file('INSERT INTO a, off SELECT qos FROM "t"', rule_id="r", path="r.sql").in_project(
        ["a", "off"]
    )
    assert rule is not None
    box, counts = Box(), Counts()
    intake = Intake(lambda: COMMIT)
    intake.swap(Ruleset([rule]), {"r": ActiveRule(rule, {"a": box}, counts)})
    intake.take(Run([Publish("t")], ClientIdentity("c"), NOW))
    assert (box.rows, counts.records) == ([{"qos": 1}], 1)


def test_a_refusable_event_is_refused_where_a_sink_is_full() -> None:
    """A source brings its record again later; a client event has no origin that could, so it is dropped and counted."""
    boxes = {"a": Box(), "b": Box(refusing=True)}
    service = Service(
        boxes,
        one='INSERT INTO a SELECT clientid FROM "$events/client_connected"',
        two='INSERT INTO b SELECT clientid FROM "$events/client_connected"',
    )
    event = Occurrence("$events/client/connected", {"clientid": "x"}, ClientIdentity("x"), NOW)
    assert service.occur(event, is_refusable=True) == refusing(1, {0: QUOTA_EXCEEDED})
    assert (boxes["a"].rows, boxes["b"].dropped) == ([], 0)
    assert service.occur(event).codes is None
    assert (boxes["a"].rows, boxes["b"].dropped) == ([{"clientid": "x"}], 1)


@pytest.mark.parametrize("fault", [Box(takes=False), Box(is_broken=True)], ids=["not taken", "broken"])
def test_rows_that_an_outbox_does_not_take_are_not_acknowledged(fault: Box) -> None:
    """The other sinks of the run have their rows, and the counters say which."""
    boxes = {"a": fault, "b": Box()}
    service = Service(boxes, one='INSERT INTO a SELECT qos FROM "t"', two='INSERT INTO b SELECT qos FROM "t"')
    hold = service.publish(Publish("t")).hold
    assert hold is not None
    assert hold.failed
    assert (boxes["a"].rows, boxes["b"].rows) == ([], [{"qos": 1}])
    assert [service.counts[name].records for name in ("one", "two")] == [0, 1]
    assert [service.counts[name].emitted for name in ("one", "two")] == [1, 1]


def test_a_rule_that_fails_unexpectedly_fails_alone() -> None:
    """A fault of ours in one rule must not keep a message from the others, nor from being acknowledged."""
    boxes = {"a": Box(), "b": Box()}
    service = Service(boxes, one='INSERT INTO a SELECT qos FROM "t"', two='INSERT INTO b SELECT qos FROM "t"')

    def evaluate(message: object) -> None:
        raise ZeroDivisionError

    service.intake.rules["one"].evaluate = evaluate
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert service.publish(Publish("t")).hold is COMMIT
    assert service.counts["one"].failed == service.counts["one"].received == 3
    assert len(boxes["b"].rows) == 3
    assert [entry["event"] for entry in logs] == ["rule failed unexpectedly"]


def test_an_exception_while_evaluating_leaves_nothing_for_the_next_read() -> None:
    """The rows of a read live in the call that makes them: an unfinished read is gone, and not acknowledged."""
    boxes = {"a": Box(), "b": Box()}
    service = Service(boxes, one='INSERT INTO a SELECT qos FROM "t"', two='INSERT INTO b SELECT qos FROM "t"')

    class Broken(Publish):
        @property
        def is_will(self) -> bool:
            raise ZeroDivisionError

        @is_will.setter
        def is_will(self, value: bool) -> None: ...

    with pytest.raises(ZeroDivisionError):
        service.publish(Publish("t"), Broken("t"))
    assert service.counts["one"] == Counts()
    service.publish(Publish("t"))
    assert boxes["a"].rows == boxes["b"].rows == [{"qos": 1}]
