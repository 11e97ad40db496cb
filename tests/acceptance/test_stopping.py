"""The stop of the process, and the lock on its data directory."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from support.endpoint import Endpoint
from support.ledger import check_rows
from support.process import MakeHeadgate
from support.project import HOT_READINGS, SQLITE_SINK, sqlite_rows
from support.publisher import ledgers, publish_with_paho, wait_for_acknowledged
from support.wait import wait_until

STOP_S = 15.0


@pytest.fixture
def hanging_endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    server.start()
    server.behave("hang")
    yield server
    server.remove()


def test_sigterm_stops_in_order_and_loses_nothing(headgate: MakeHeadgate) -> None:
    """A stop while messages flow: acknowledged is safe, the rest is sent again to the process that follows."""
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        publishers = publish_with_paho(lambda: process.port, 4, 5000)
        for moment in (2000, 8000):
            wait_for_acknowledged(publishers, moment)
            assert process.terminate() == 0
            assert not (process.data_dir / "run.json").exists()
            process.start()
        promised = ledgers(publishers)
        process.settle()
        check_rows(sqlite_rows(process.directory), promised, exact=False)
        process.check_counters()


def test_sigterm_ends_in_time_while_a_sink_hangs(headgate: MakeHeadgate, hanging_endpoint: Endpoint) -> None:
    """A sink that never answers does not keep the process from stopping; its backlog is there at the next start."""
    sink = {"type": "http", "url": f"{hanging_endpoint.url}/in", "batch_format": "ndjson", "request_timeout": "60s"}
    with headgate(sinks={"readings": sink}, rules={"hot": HOT_READINGS}) as process:
        promised = ledgers(publish_with_paho(lambda: process.port, 2, 1000))
        process.signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0
        hanging_endpoint.behave("ok")
        process.start()
        process.settle()
        check_rows(hanging_endpoint.rows(), promised, exact=False)
        process.check_counters()


def test_a_second_sigterm_stops_at_once_and_loses_nothing(headgate: MakeHeadgate, hanging_endpoint: Endpoint) -> None:
    """Ending early loses no acknowledged message."""
    sink = {"type": "http", "url": f"{hanging_endpoint.url}/in", "batch_format": "ndjson", "request_timeout": "60s"}
    with headgate(sinks={"readings": sink}, rules={"hot": HOT_READINGS}) as process:
        publishers = publish_with_paho(lambda: process.port, 2, 1000)
        wait_for_acknowledged(publishers, 500)
        process.signal(signal.SIGTERM)
        process.wait_for_log("stopping")
        process.signal(signal.SIGTERM)
        assert process.wait(2) in (0, 128 + signal.SIGTERM)
        hanging_endpoint.behave("ok")
        process.start()
        promised = ledgers(publishers)
        process.settle()
        check_rows(hanging_endpoint.rows(), promised, exact=False)
        process.check_counters()


def test_a_second_process_in_the_same_data_directory_is_refused(headgate: MakeHeadgate) -> None:
    """Two writers of one journal would lose data: the second says who the first is, and the first goes on."""
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        second = subprocess.run(process.command("run"), capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode != 0
        assert str(process.pid) in second.stderr
        assert "Traceback" not in second.stderr
        promised = ledgers(publish_with_paho(lambda: process.port, 1, 100))
        process.settle()
        check_rows(sqlite_rows(process.directory), promised)
        assert (process.data_dir / "run.json").exists()


def test_a_restarted_process_listens_on_the_same_port_at_once(headgate: MakeHeadgate) -> None:
    """Devices know one port: old connections in TIME_WAIT must not block it."""
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        port = process.port
        process.write_settings(listeners=[{"type": "tcp", "bind": f"127.0.0.1:{port}"}])
        publishers = publish_with_paho(lambda: port, 2, 2000, rate=1000.0)
        wait_until(lambda: sqlite_rows(process.directory), 10, "rows arrive")
        process.kill()
        process.start()
        assert process.port == port
        promised = ledgers(publishers)
        process.settle()
        check_rows(sqlite_rows(process.directory), promised, exact=False)


def test_a_port_in_use_is_reported(headgate: MakeHeadgate) -> None:
    """Another broker on the port is the most likely first failure: the error names it, and the journal is released."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        listeners = [{"type": "tcp", "bind": f"127.0.0.1:{port}"}]
        process = headgate(sinks={}, rules={}, settings={"listeners": listeners})
        done = subprocess.run(process.command("run"), capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode != 0
        assert str(port) in done.stderr
        assert "Traceback" not in done.stderr
    with process:
        assert process.port == port
