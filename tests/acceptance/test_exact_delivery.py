"""Nothing is lost, doubled or reordered when nothing goes wrong (item 1)."""

from __future__ import annotations

import asyncio

import pytest

from support.ledger import check_rows, is_hot
from support.process import MakeHeadgate
from support.project import HOT_READINGS, SQLITE_SINK, sqlite_rows
from support.publisher import ledgers, publish_with_aiomqtt, publish_with_paho

PAHO_CLIENTS = 5
PAHO_MESSAGES = 18_000
AIOMQTT_MESSAGES = 10_000


@pytest.mark.slow
async def test_a_hundred_thousand_messages_become_exactly_the_expected_rows(headgate: MakeHeadgate) -> None:
    """Item 1: paho and aiomqtt publish with QoS 1 over several connections; every hot reading is one row, in order."""
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        publishers = publish_with_paho(lambda: process.port, PAHO_CLIENTS, PAHO_MESSAGES)
        promised = [await publish_with_aiomqtt(process.port, "aiomqtt", AIOMQTT_MESSAGES)]
        promised += await asyncio.to_thread(ledgers, publishers)
        process.settle()
        check_rows(sqlite_rows(process.directory), promised)
        process.check_counters()
        total = PAHO_CLIENTS * PAHO_MESSAGES + AIOMQTT_MESSAGES
        hot = sum(is_hot(number) for ledger in promised for number in range(ledger.published))
        rule, sink = process.rules()["hot"], process.sink("readings")
        assert (rule["received"], rule["emitted"], rule["filtered"]) == (total, hot, total - hot)
        assert (sink["delivered"], sink["buffered"], sink["dropped"]) == (hot, 0, 0)
        assert all(ledger.published == len(ledger.acknowledged) for ledger in promised)
        assert all(publisher.reconnects == 0 for publisher in publishers)


@pytest.mark.parametrize("qos", [0, 2])
@pytest.mark.parametrize("version", [4, 5])
def test_every_quality_of_service_and_version_delivers_once(headgate: MakeHeadgate, qos: int, version: int) -> None:
    """QoS 0 is not acknowledged and QoS 2 in two steps; without a failure both deliver each message once, in order."""
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        promised = ledgers(publish_with_paho(lambda: process.port, 2, 2000, qos=qos, version=version))
        process.settle()
        check_rows(sqlite_rows(process.directory), promised)
        process.check_counters()
        assert process.rules()["hot"]["received"] == 4000


def test_counters_go_on_where_they_were_after_a_restart(headgate: MakeHeadgate) -> None:
    """Item 7: a restart does not begin a new account; what was counted before it still is."""
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        for round_number in (1, 2):
            ledgers(publish_with_paho(lambda: process.port, 1, 1000, prefix=f"round-{round_number}"))
            process.settle()
            assert process.terminate() == 0
            process.start()
            process.check_counters()
            assert process.rules()["hot"]["received"] == 1000 * round_number
            assert process.sink("readings")["delivered"] == 500 * round_number
