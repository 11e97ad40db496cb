"""Memory stays bounded under connections that do nothing and clients that never read (item 6)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from support.ledger import check_rows
from support.packets import open_connection, publish, read_packet, subscribe
from support.process import Headgate, MakeHeadgate, raise_file_limit
from support.project import HOT_READINGS, SQLITE_SINK, sqlite_rows
from support.publisher import ledgers, publish_with_paho
from support.wait import wait_until

IDLE = 5000
IDLE_BYTES_MAX = 24 << 10
"""What an idle connection may cost."""


@contextlib.contextmanager
def idle_connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connected clients that say nothing more."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(open_connection(port, f"idle-{number}")[0]) for number in range(count)]


@pytest.mark.slow
def test_five_thousand_idle_connections_cost_little_and_hinder_nobody(headgate: MakeHeadgate) -> None:
    """Item 6: each costs some kilobytes, others publish as before, and all are let go at the end."""
    if not raise_file_limit(IDLE + 1000):
        pytest.skip(f"the system lets a process open fewer than {IDLE + 1000} files")
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        ledgers(publish_with_paho(lambda: process.port, 1, 100, prefix="before"))
        before = process.rss()
        with idle_connections(process.port, IDLE) as idle:
            each = (process.rss() - before) / IDLE
            print(f"{each:.0f} bytes of memory for each idle connection")
            assert each < IDLE_BYTES_MAX
            promised = ledgers(publish_with_paho(lambda: process.port, 4, 2000))
            process.settle()
            check_rows([row for row in sqlite_rows(process.directory) if row[0] != "before-0"], promised)
            for connection in (idle[0], idle[IDLE // 2], idle[-1]):
                connection.sendall(b"\xc0\x00")
                assert read_packet(connection)[0] == 0xD0
            assert process.api("status")["listeners"][0]["connections"] == IDLE
        wait_until(
            lambda: process.api("status")["listeners"][0]["connections"] == 0, 20, "the closed ones are forgotten"
        )
        process.check_counters()


def test_a_client_that_never_reads_costs_bounded_memory(headgate: MakeHeadgate) -> None:
    """Item 6: what it does not read is bounded; the one beside it gets everything, and publishers are not slowed."""
    payload, messages = b"x" * 10_000, 12_000
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        with _subscriber(process, "deaf"), _subscriber(process, "listening") as listening:
            received = _Counter(listening, messages)
            before = process.rss()
            connection, _ = open_connection(process.port, "loud")
            with connection:
                for _ in range(messages):
                    connection.sendall(publish("flood/all", payload, qos=0))
                connection.sendall(publish("flood/end", b"end"))
                assert read_packet(connection)[0] == 0x40
            print(f"{(process.rss() - before) >> 20} MiB more for {messages * len(payload) >> 20} MiB published")
            assert process.rss_max() - before < 48 << 20
            assert received.wait(30) > 0
            promised = ledgers(publish_with_paho(lambda: process.port, 2, 1000))
        process.settle()
        check_rows(sqlite_rows(process.directory), promised)
        process.check_counters()


def _subscriber(process: Headgate, client: str) -> socket.socket:
    connection, _ = open_connection(process.port, client)
    connection.sendall(subscribe("flood/#"))
    assert read_packet(connection)[0] == 0x90
    return connection


class _Counter:
    """Counts in a thread what a subscriber receives."""

    def __init__(self, connection: socket.socket, wanted: int) -> None:
        self.count = 0
        self._connection = connection
        self._wanted = wanted
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, deadline_s: float) -> int:
        self._thread.join(deadline_s)
        return self.count

    def _run(self) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while True:
                _, body = read_packet(self._connection)
                self.count += 1
                if body.endswith(b"end"):
                    return
