"""`headgate eval --jsonl`: one answer for each line of input."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from engine.language.eval import evaluate_line, main_stream
from engine.testing import FakeClock

_PUBLISH = {"event_type": "message_publish", "topic": "t/a", "payload": '{"a": 1}', "clientid": "c1"}


def _ask(sql: str, event: Any = None, **more: Any) -> dict[str, Any]:
    request = {"id": 7, "sql": sql, **more} | ({} if event is None else {"event": event})
    return evaluate_line(json.dumps(request), FakeClock())


def test_rows_are_returned_in_order() -> None:
    """The rows of a rule are those that its sinks would get."""
    assert _ask('FOREACH payload.l AS e DO e FROM "t/#"', {**_PUBLISH, "payload": '{"l": [1, 2.0]}'}) == {
        "id": 7,
        "kind": "outputs",
        "value": [{"e": 1}, {"e": 2.0}],
    }


def test_stream_answers_line_by_line_and_keeps_the_kind_of_numbers() -> None:
    """Programs compare the answers as text: 1 stays an integer, 1.0 a float, undefined is null, bytes are marked."""
    event = {"topic": "t", "payload_b64": b64encode(b"\xff\x00").decode()}
    sql = "SELECT 1 AS i, 1.0 AS f, 12345678901234567890123 AS big, missing AS m, payload AS p FROM t"
    lines = [json.dumps({"id": 1, "sql": sql, "event": event}), "", "no json", '{"id": 2, "sql": "SELECT"}']
    written: list[str] = []
    main_stream(lines, written.append)
    first = '{"id":1,"kind":"outputs","value":[{"i":1,"f":1.0,"big":12345678901234567890123,"m":null,'
    assert written[0] == first + '"p":{"$base64":"/wA="}}]}\n'
    assert [json.loads(line)["kind"] for line in written] == ["outputs", "error", "invalid"]


def test_failure_has_message_line_and_column() -> None:
    """An editor jumps to the position."""
    answer = _ask('SELECT\n  payload.a / 0 AS x FROM "t/#"', _PUBLISH)
    assert answer == {"id": 7, "kind": "error", "message": "division by zero", "line": 2, "column": 3}


def test_invalid_statement_is_reported_with_its_position() -> None:
    """With or without an event."""
    for event in (None, _PUBLISH):
        answer = _ask("SELECT a FROM", event)
        assert (answer["kind"], answer["line"], answer["column"]) == ("invalid", 1, 14)


def test_unknown_function_is_a_warning_without_an_event_and_an_error_with_one() -> None:
    """A statement may be written for a server that has the function, but it can't be run here."""
    answer = _ask("SELECT nosuch(1) AS x FROM t")
    assert (answer["kind"], answer["from"]) == ("valid", ["t"])
    assert answer["warnings"][0]["message"] == "there is no function nosuch"
    failed = _ask("SELECT uper('a') AS x FROM t", {**_PUBLISH, "topic": "t"})
    assert (failed["kind"], failed["column"], failed["remedy"]) == ("error", 8, "did you mean upper?")


@pytest.mark.parametrize(
    ("topic", "event", "expected"),
    [
        ("t/+", {"topic": "t/a", "payload": ""}, "outputs"),
        ("t/b", {"topic": "t/a", "payload": ""}, "no_match"),
        ("#", {"topic": "$SYS/a", "payload": ""}, "no_match"),
        ("$events/#", {"topic": "t/a", "payload": ""}, "no_match"),
        ("t/#", {"event_type": "message_dropped", "topic": "t/a"}, "no_match"),
        ("$events/client_connected", {"event_type": "client_connected"}, "outputs"),
        ("$events/client/connected", {"event_type": "client_connected"}, "outputs"),
        ("$events/client/+", {"event_type": "client_ping"}, "outputs"),
        ("$events/message/#", {"event_type": "delivery_dropped"}, "outputs"),
        ("$events/session/#", {"event_type": "delivery_dropped"}, "no_match"),
        ("$bridges/mqtt:a", {"event_type": "$sources/mqtt:a"}, "outputs"),
        ("$sources/mqtt:a", {"event_type": "$bridges/mqtt:*"}, "outputs"),
        ("$sources/mqtt:a", {"event_type": "$bridges/mqtt:b"}, "no_match"),
    ],
)
def test_from_selects_the_same_events_as_in_service(topic: str, event: dict[str, Any], expected: str) -> None:
    """A trial of a rule is worthless if it runs for other events than in service."""
    assert _ask(f'SELECT 1 AS x FROM "{topic}"', event)["kind"] == expected


def test_event_has_its_own_columns_and_those_of_the_broker() -> None:
    """Rules read the time, the node and the name of every event."""
    answer = _ask('SELECT * FROM "$events/client/connected"', {"event_type": "client_connected", "clientid": "c9"})
    row = answer["value"][0]
    assert row.keys() == {"event", "timestamp", "node", "clientid", "metadata"}
    assert (row["event"], row["clientid"], row["timestamp"]) == ("client.connected", "c9", FakeClock().now_ms())


def test_publish_without_payload_has_no_payload_column() -> None:
    """Its columns are exactly those given, and those that every publish has."""
    answer = _ask("SELECT payload, payload.a AS a, qos, clientid, flags.retain AS r FROM t", {"topic": "t"})
    assert answer["value"] == [{"payload": None, "a": None, "qos": 0, "clientid": None, "r": False}]


def test_statement_may_come_as_base64() -> None:
    """Text that is not UTF-8 can't be sent as JSON; it is reported as invalid."""
    good = {"id": 1, "sql_b64": b64encode(b"SELECT a FROM t").decode()}
    assert evaluate_line(json.dumps(good)) == {"id": 1, "kind": "valid", "from": ["t"]}
    bad = {"id": 2, "sql_b64": b64encode(b"SELECT \xff FROM t").decode()}
    assert evaluate_line(json.dumps(bad))["kind"] == "invalid"


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        '{"id": 1}',
        '{"id": 1, "sql": 5}',
        '{"id": 1, "sql": "SELECT a FROM t", "event": 5}',
        '{"id": 1, "sql": "SELECT a FROM t", "event": {"event_type": "no_such_event"}}',
        '{"id": 1, "sql": "SELECT a FROM t", "event": {"event_type": 5}}',
        '{"id": 1, "sql": "SELECT a FROM t", "event": {"topic": "t", "payload_b64": "?"}}',
        '{"id": 1, "sql_b64": "?"}',
    ],
)
def test_every_line_gets_an_answer(line: str) -> None:
    """A program that waits for as many answers as it sent lines must get them."""
    assert evaluate_line(line)["kind"] in ("error", "invalid")


def test_foreach_dropped_by_where_differs_from_one_without_rows() -> None:
    """A message that WHERE drops and an empty list are different results."""
    event = {**_PUBLISH, "payload": '{"l": []}'}
    assert _ask('FOREACH payload.l FROM "t/#" WHERE 1 = 2', event)["kind"] == "no_match"
    assert _ask('FOREACH payload.l FROM "t/#" WHERE 1 = 1', event) == {"id": 7, "kind": "outputs", "value": []}
