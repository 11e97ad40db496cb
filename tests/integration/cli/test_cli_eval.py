"""``headgate eval``: rules tried without a broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command import headgate

HOT = 'SELECT clientid AS device, payload.temp AS temp FROM "sensors/#" WHERE payload.temp > 30'


def event(temp: object, topic: str = "sensors/1") -> str:
    return json.dumps({"topic": topic, "clientid": "c1", "payload": json.dumps({"temp": temp})}) + "\n"


async def test_rows_of_matching_events_are_printed(tmp_path: Path) -> None:
    """One JSON line a row; an event that does not match has no line."""
    finished = await headgate("eval", HOT, cwd=tmp_path, stdin=event(31) + event(29) + "\n" + event(40.5, "x"))

    assert (finished.code, finished.out, finished.err) == (0, '{"device":"c1","temp":31}\n', "")


async def test_an_event_without_a_row_is_reported(tmp_path: Path) -> None:
    """No output would look like a hang, or like a mistake in the event."""
    finished = await headgate("eval", HOT, cwd=tmp_path, stdin=event(29) + event(40.5, "x"))

    assert (finished.code, finished.out, finished.err) == (0, "", "no row came of 2 events: see FROM and WHERE\n")


async def test_a_rule_file_can_be_tried_as_it_is(tmp_path: Path) -> None:
    """Opening comment, sinks and all."""
    (tmp_path / "hot.sql").write_text(f"-- Hot ones.\nINSERT INTO readings\n{HOT}\n")

    finished = await headgate("eval", "-f", "hot.sql", cwd=tmp_path, stdin=event(31))

    assert (finished.code, finished.out) == (0, '{"device":"c1","temp":31}\n')


async def test_a_wrong_statement_is_shown_with_a_caret(tmp_path: Path) -> None:
    """No event is needed to find out."""
    finished = await headgate("eval", 'SELECT now_rfc339() FROM "t"', cwd=tmp_path)

    assert finished.code == 1
    assert "     |        ^^^^^^^^^^\n     = did you mean now_rfc3339?" in finished.err
    assert finished.out == ""


@pytest.mark.parametrize("line", ['{"topic": ', "[1]", '{"topic": "sensors/1", "payload": "no json"}'])
async def test_a_failing_event_is_named_by_its_line_and_the_others_are_evaluated(tmp_path: Path, line: str) -> None:
    """As in service: one bad message never stops the others."""
    finished = await headgate("eval", HOT, cwd=tmp_path, stdin=event(31) + line + "\n" + event(32))

    assert finished.code == 1
    assert len(finished.out.splitlines()) == 2
    assert finished.err.startswith("line 2: error: ")


async def test_jsonl_answers_each_line_in_order(tmp_path: Path) -> None:
    """The form in which programs, conformance suites among them, use it."""
    asked = [
        {"id": "a", "sql": HOT, "event": json.loads(event(31))},
        {"id": "b", "sql": HOT, "event": json.loads(event(1))},
        {"id": "c", "sql": HOT},
        {"id": "d", "sql": "SELECT FROM"},
        {"id": "e", "sql": 'SELECT 1.0 AS one, 1 AS two FROM "sensors/#"', "event": json.loads(event(31))},
    ]

    finished = await headgate("eval", "--jsonl", cwd=tmp_path, stdin="\n".join(map(json.dumps, asked)))

    answers = [json.loads(line) for line in finished.out.splitlines()]
    assert finished.code == 0
    assert [answer["id"] for answer in answers] == ["a", "b", "c", "d", "e"]
    assert [answer["kind"] for answer in answers] == ["outputs", "no_match", "valid", "invalid", "outputs"]
    assert answers[0]["value"] == [{"device": "c1", "temp": 31}]
    assert answers[2]["from"] == ["sensors/#"]
    assert (answers[3]["line"], type(answers[3]["column"])) == (1, int)
    assert '"one":1.0,"two":1' in finished.out


async def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """Old editors save other encodings."""
    (tmp_path / "hot.sql").write_bytes(b"-- Gr\xfc\xdfe\n" + HOT.encode())

    finished = await headgate("eval", "-f", "hot.sql", cwd=tmp_path)

    assert (finished.code, finished.err) == (1, "error: hot.sql is not UTF-8\n  save it as UTF-8 in your editor\n")


async def test_exactly_one_statement_source_is_accepted(tmp_path: Path) -> None:
    """A statement and --jsonl together have no meaning."""
    nothing = await headgate("eval", cwd=tmp_path)
    both = await headgate("eval", HOT, "--jsonl", cwd=tmp_path)

    assert (nothing.code, both.code) == (2, 2)
