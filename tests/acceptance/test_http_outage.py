"""A web endpoint that fails in every way costs delay, not data, and no other sink notices (item 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.endpoint import Endpoint
from support.ledger import check_rows
from support.process import Headgate, MakeHeadgate
from support.project import HOT_READINGS, SQLITE_SINK, sqlite_rows
from support.publisher import ledgers, publish_with_paho
from support.wait import pass_time, wait_until

BOTH = HOT_READINGS.replace("INTO readings", "INTO web, readings")
RATE = 200.0
AWAY_S = 20.0
EACH_S = 3.0

MISBEHAVIOURS: dict[str, dict[str, Any]] = {
    "500": {"mode": "status", "status": 500},
    "429": {"mode": "status", "status": 429, "headers": {"Retry-After": "1"}},
    "hang": {"mode": "hang"},
    "cut": {"mode": "cut"},
    "cut_after": {"mode": "cut_after"},
}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    server.start()
    yield server
    server.remove()


def web_sink(endpoint: Endpoint) -> dict[str, object]:
    """An HTTP sink that gives up and tries again within a second, so that a test sees it several times."""
    return {
        "type": "http",
        "url": f"{endpoint.url}/in",
        "batch_format": "ndjson",
        "request_timeout": "1s",
        "retry": {"initial": "100ms", "max": "1s"},
        "health": {"interval": "1s"},
    }


@pytest.mark.slow
def test_an_endpoint_that_fails_in_every_way_loses_nothing(headgate: MakeHeadgate, endpoint: Endpoint) -> None:
    """Item 3: away for 20 seconds, then 500, 429 with Retry-After, hanging, cut before and after taking the request.

    Nothing acknowledged is lost, each client's order holds, and the SQLite sink takes rows all the while.
    """
    sinks = {"web": web_sink(endpoint), "readings": SQLITE_SINK}
    with headgate(sinks=sinks, rules={"hot": BOTH}) as process:
        seconds = AWAY_S + EACH_S * len(MISBEHAVIOURS) + 3
        messages = int(seconds * RATE)
        publishers = publish_with_paho(lambda: process.port, 2, messages, rate=RATE)
        wait_until(endpoint.rows, 10, "rows reach the endpoint")

        endpoint.kill()
        _goes_on_meanwhile(process, AWAY_S)
        assert process.sink("web")["status"] != "connected"
        endpoint.start()
        wait_until(lambda: process.sink("web")["buffered"] < RATE, 15, "the backlog is drained", pause_s=0.2)

        for behaviour in MISBEHAVIOURS.values():
            endpoint.behave(**behaviour)
            _goes_on_meanwhile(process, EACH_S)
        endpoint.behave("ok")

        promised = ledgers(publishers)
        process.settle()
        check_rows(endpoint.rows(), promised, exact=False)
        check_rows(sqlite_rows(process.directory), promised)
        process.check_counters()
        web = process.sink("web")
        assert (web["dead_lettered"], web["dropped"], web["delivered"]) == (0, 0, messages)
        assert web["retried"] > 0


def _goes_on_meanwhile(process: Headgate, seconds: float) -> None:
    """For so long, the other sink keeps up with what is published."""
    before = len(sqlite_rows(process.directory))
    pass_time(seconds, "this is how long the endpoint misbehaves")
    rows = len(sqlite_rows(process.directory)) - before
    assert rows > RATE * seconds / 2, f"only {rows} rows in {seconds} s"
    assert process.sink("readings")["buffered"] < RATE


@pytest.mark.parametrize("behaviour", MISBEHAVIOURS.values(), ids=MISBEHAVIOURS)
def test_only_an_answer_that_was_cut_off_doubles_rows(
    headgate: MakeHeadgate, endpoint: Endpoint, behaviour: dict[str, Any]
) -> None:
    """Only a cut after the request was taken leaves open whether a row was stored; nothing else may double one."""
    with headgate(sinks={"readings": web_sink(endpoint)}, rules={"hot": HOT_READINGS}) as process:
        endpoint.behave(**behaviour, times=3)
        promised = ledgers(publish_with_paho(lambda: process.port, 2, 500))
        process.settle()
        check_rows(endpoint.rows(), promised, exact=behaviour["mode"] != "cut_after")
        process.check_counters()
        assert process.sink("readings")["delivered"] == 500


def test_a_sink_that_is_away_at_the_start_gets_everything_later(headgate: MakeHeadgate, endpoint: Endpoint) -> None:
    """The broker serves devices whatever its sinks do: what is published meanwhile waits."""
    endpoint.kill()
    with headgate(sinks={"readings": web_sink(endpoint)}, rules={"hot": HOT_READINGS}) as process:
        promised = ledgers(publish_with_paho(lambda: process.port, 3, 1000))
        process.check_counters()
        sink = process.sink("readings")
        assert (sink["buffered"], sink["delivered"]) == (1500, 0)
        assert sink["status"] != "connected"
        assert sink["reason"]
        endpoint.start()
        process.settle()
        check_rows(endpoint.rows(), promised)
        process.check_counters()


def test_a_row_the_endpoint_refuses_becomes_a_dead_letter_alone(headgate: MakeHeadgate, endpoint: Endpoint) -> None:
    """Promise 3: one bad row never stops the others; it is kept with the reason, in words."""
    endpoint.behave("ok", poison='"seq":42,')
    with headgate(sinks={"readings": web_sink(endpoint)}, rules={"hot": HOT_READINGS}) as process:
        (ledger,) = ledgers(publish_with_paho(lambda: process.port, 1, 200))
        process.settle()
        assert sorted(number for _, number in endpoint.rows()) == [n for n in range(0, 200, 2) if n != 42]
        process.check_counters()
        assert process.sink("readings")["dead_lettered"] == 1
        endpoint.behave("ok")
        answer = process.api("sinks/readings/dead_letters")["data"]
        assert "422" in answer[0]["reason"]
        process.cli("dlq", "readings", "retry", "--all")
        wait_until(lambda: len(endpoint.rows()) == 100, 10, "the dead letter is delivered")
        check_rows(sorted(endpoint.rows()), [ledger])
        process.check_counters()
