"""A log that can't be written, since its reader has ended or its disk is full, does not stop the process."""

from __future__ import annotations

import os

import pytest

from servers.process import free_port
from support.ledger import check_rows
from support.process import MakeHeadgate
from support.project import HOT_READINGS, SQLITE_SINK, sqlite_rows
from support.publisher import ledgers, publish_with_paho


@pytest.mark.parametrize("output", ["a pipe that nobody reads any more", "a full disk"])
def test_a_log_that_can_not_be_written_stops_nothing(headgate: MakeHeadgate, output: str) -> None:
    """A sink that can't connect logs that while it connects; a failing log must not end its delivery."""
    if output == "a full disk":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    away = {"type": "http", "url": f"http://127.0.0.1:{free_port()}/in", "retry": {"max": "100ms"}}
    process = headgate(sinks={"readings": away}, rules={"hot": HOT_READINGS})
    process.start(descriptor)
    os.close(descriptor)
    with process:
        promised = ledgers(publish_with_paho(lambda: process.port, 1, 100))
        process.wait_for_sink("readings", status="connecting", buffered=50)
        process.write_sinks({"readings": SQLITE_SINK})
        process.wait_for_sink("readings", buffered=0)
        check_rows(sqlite_rows(process.directory), promised)
        process.check_counters()
        assert process.terminate() == 0
