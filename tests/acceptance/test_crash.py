"""`kill -9` at any moment loses no acknowledged message (item 2)."""

from __future__ import annotations

import random

import pytest

from servers.process import free_port
from support.ledger import check_rows
from support.process import MakeHeadgate
from support.project import HOT_READINGS, SQLITE_SINK, sqlite_rows
from support.publisher import ledgers, publish_with_paho, wait_for_acknowledged

KILLS = 5


@pytest.mark.slow
@pytest.mark.parametrize(("qos", "messages"), [(1, 100_000), (2, 40_000)])
def test_every_acknowledged_message_survives_five_kills(
    headgate: MakeHeadgate, chance: random.Random, qos: int, messages: int
) -> None:
    """Item 2: clients reconnect and send again what was not acknowledged; all that was is in the sink, in order.

    A row may come twice: what the sink had stored and the journal did not know of is delivered again.
    """
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        publishers = publish_with_paho(lambda: process.port, 4, messages // 4, qos=qos, deadline_s=180)
        moments = sorted(chance.sample(range(messages // 20, messages * 9 // 10), KILLS))
        print(f"killed after so many acknowledgements: {moments}")
        for moment in moments:
            wait_for_acknowledged(publishers, moment)
            process.kill()
            process.start()
        promised = ledgers(publishers)
        process.settle()
        check_rows(sqlite_rows(process.directory), promised, exact=False)
        process.check_counters()
        assert process.rules()["hot"]["received"] >= messages
        assert all(len(ledger.acknowledged) == ledger.published == messages // 4 for ledger in promised)
        assert sum(publisher.reconnects for publisher in publishers) >= KILLS


def test_a_backlog_survives_a_kill(headgate: MakeHeadgate) -> None:
    """A record is on disk before its acknowledgement: after a kill while the sink is unreachable, it is delivered."""
    away = {"type": "http", "url": f"http://127.0.0.1:{free_port()}/in"}
    with headgate(sinks={"readings": away}, rules={"hot": HOT_READINGS}) as process:
        promised = ledgers(publish_with_paho(lambda: process.port, 2, 2000))
        process.check_counters()
        process.kill()
        process.start()
        assert process.sink("readings")["buffered"] == 2000
        process.check_counters()
        process.write_sinks({"readings": SQLITE_SINK})
        process.wait_for_sink("readings", buffered=0)
        check_rows(sqlite_rows(process.directory), promised)
        process.check_counters()
