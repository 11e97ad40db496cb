"""A full disk delays acknowledgements and loses no data; the process recovers when there is space again."""

from __future__ import annotations

import resource

from servers.process import free_port
from support.ledger import check_rows
from support.process import Headgate, MakeHeadgate
from support.project import HOT_READINGS, SQLITE_SINK, sqlite_rows
from support.publisher import acknowledged, ledgers, publish_with_paho
from support.wait import pass_time, wait_until

FULL_AT = 600 << 10
"""Largest file the process may write while its disk is full: less than what is published."""


def limit_files(process: Headgate, size: int) -> None:
    """Let no file of the process grow beyond `size`; a write past it fails as on a full disk."""
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


def test_a_full_disk_refuses_and_recovers(headgate: MakeHeadgate) -> None:
    """Earlier acknowledgements hold, nothing is acknowledged meanwhile, and service resumes without intervention."""
    away = {"type": "http", "url": f"http://127.0.0.1:{free_port()}/in"}
    with headgate(sinks={"readings": away}, rules={"hot": HOT_READINGS}) as process:
        limit_files(process, FULL_AT)
        publishers = publish_with_paho(lambda: process.port, 2, 10_000)
        process.wait_for_log("the journal can't be written")
        wait_until(lambda: "journal" in str(process.api("status")["problems"]), 5, "the status says so")
        before = acknowledged(publishers)
        pass_time(2.0, "this is how long the disk stays full")
        assert acknowledged(publishers) < before + 1000
        process.check_counters()

        limit_files(process, resource.RLIM_INFINITY)
        promised = ledgers(publishers)
        assert process.api("status")["problems"] == []
        process.write_sinks({"readings": SQLITE_SINK})
        process.wait_for_sink("readings", type="sqlite", buffered=0)
        check_rows(sqlite_rows(process.directory), promised, exact=False)
        process.check_counters()
        assert "the journal writes again" in process.log()
        process.restart()
        process.check_counters()
