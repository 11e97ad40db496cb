"""Memory is bounded with idle connections and with clients that never read (item 6)."""

from __future__ import annotations

import socket

import pytest

from support.crowd import crowd
from support.ledger import check_rows
from support.limits import need_open_files
from support.packets import SUBACK, open_connection, publish, read_packet, subscribe
from support.process import Headgate, MakeHeadgate
from support.project import HOT_READINGS, SQLITE_SINK, sqlite_rows
from support.publisher import ledgers, publish_with_paho
from support.wait import wait_until

IDLE = 5000
IDLE_BYTES_MAX = 24 << 10
"""Limit for an idle connection, in bytes."""
UNREAD_BYTES_MAX = 32 << 20
"""Limit for a client that never reads: a full queue of large messages, and buffers of the system."""


@pytest.mark.slow
def test_five_thousand_idle_connections_cost_little_memory(headgate: MakeHeadgate) -> None:
    """Item 6: each costs some kilobytes, other clients publish as before, and all end cleanly."""
    need_open_files(IDLE + 1000)
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        ledgers(publish_with_paho(lambda: process.port, 1, 100, prefix="before"))
        before = process.rss()
        with crowd(process.port, IDLE) as idle:
            each = (process.rss() - before) / IDLE
            print(f"{each:.0f} bytes of memory for each idle connection")
            assert each < IDLE_BYTES_MAX
            promised = ledgers(publish_with_paho(lambda: process.port, 4, 2000))
            process.settle()
            check_rows([row for row in sqlite_rows(process.directory) if row[0] != "before-0"], promised)
            idle.ping()
            assert process.api("status")["listeners"][0]["connections"] == IDLE
        wait_until(
            lambda: process.api("status")["listeners"][0]["connections"] == 0, 20, "the listener has no connections"
        )
        process.check_counters()


def test_a_client_that_never_reads_costs_bounded_memory(headgate: MakeHeadgate) -> None:
    """Item 6: what one client leaves unread is bounded; the one beside it gets everything, publishers too."""
    payload, burst, bursts = b"x" * 10_000, 200, 60
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        with (
            subscriber(process, "deaf"),
            subscriber(process, "listening") as listening,
            open_connection(process.port, "loud")[0] as loud,
        ):
            before = process.rss()
            for _ in range(bursts):
                for _ in range(burst):
                    loud.sendall(publish("flood/all", payload, qos=0))
                bodies = [read_packet(listening)[1] for _ in range(burst)]
                assert all(body.endswith(payload) for body in bodies)
            more = process.rss_max() - before
            print(f"{more >> 20} MiB more for {burst * bursts * len(payload) >> 20} MiB unread")
            assert more < UNREAD_BYTES_MAX
            promised = ledgers(publish_with_paho(lambda: process.port, 2, 1000))
        process.settle()
        check_rows(sqlite_rows(process.directory), promised)
        process.check_counters()


def subscriber(process: Headgate, client: str) -> socket.socket:
    """A connection that has subscribed to the flood and read nothing yet."""
    connection, _ = open_connection(process.port, client)
    connection.sendall(subscribe("flood/#"))
    assert read_packet(connection)[0] == SUBACK
    return connection
