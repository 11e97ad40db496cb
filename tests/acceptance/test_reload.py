"""Edits while messages flow: a valid edit is applied at once and loses nothing, an invalid one changes nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from servers.process import free_port
from support.ledger import check_rows
from support.process import Headgate, MakeHeadgate
from support.project import HOT_READINGS, SQLITE_SINK, sqlite_rows
from support.publisher import ledgers, publish_with_paho
from support.wait import wait_until

EDITED = HOT_READINGS.replace("payload.temp AS temp", "payload.temp AS temp, 'edited' AS version")
BROKEN = HOT_READINGS.replace("WHERE", "WHERE AND")
MISSPELT = HOT_READINGS.replace("payload.temp AS temp", "flor(payload.temp) AS temp")


def versions(process: Headgate) -> list[str | None]:
    """The version of the rule that made each row, in the order of the rows."""
    with closing(sqlite3.connect(process.directory / "readings.db", timeout=10)) as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(readings)")]
        if "version" not in names:
            return []
        return [row[0] for row in database.execute("SELECT version FROM readings ORDER BY rowid")]


def test_a_valid_edit_replaces_the_rule_without_losing_a_message(headgate: MakeHeadgate) -> None:
    """Every message is evaluated by the old or by the new rule, exactly once."""
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        publishers = publish_with_paho(lambda: process.port, 3, 3000, rate=800.0)
        wait_until(lambda: sqlite_rows(process.directory), 10, "rows arrive")
        process.write_rule("hot", EDITED)
        wait_until(lambda: "edited" in versions(process), 10, "the edited rule makes rows")
        promised = ledgers(publishers)
        process.settle()
        check_rows(sqlite_rows(process.directory), promised)
        process.check_counters()
        assert process.rules()["hot"]["received"] == 9000
        assert all(publisher.reconnects == 0 for publisher in publishers)


def test_an_invalid_edit_keeps_the_running_project_and_is_reported(headgate: MakeHeadgate) -> None:
    """Promise 6: the mistake is reported with its file and remedy, and messages go on by the rules as they were."""
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        publishers = publish_with_paho(lambda: process.port, 2, 2000, rate=500.0)
        wait_until(lambda: sqlite_rows(process.directory), 10, "rows arrive")
        for mistake, words in ((BROKEN, "hot.sql"), (MISSPELT, "floor")):
            process.write_rule("hot", mistake)
            process.wait_for_log(words)
            process.wait_for_log("the running project stays unchanged")
            assert process.api("status")["healthy"] is False
        promised = ledgers(publishers)
        process.write_rule("hot", EDITED)
        wait_until(lambda: process.api("status")["healthy"], 10, "the mended rule is in service")
        promised += ledgers(publish_with_paho(lambda: process.port, 1, 100, prefix="after"))
        process.settle()
        check_rows(sqlite_rows(process.directory), promised)
        assert versions(process)[-50:] == ["edited"] * 50
        process.check_counters()


def test_a_sink_with_a_new_address_keeps_its_backlog(headgate: MakeHeadgate) -> None:
    """Rows waited because of a wrong address; after the edit they go to the right one."""
    away = {"type": "http", "url": f"http://127.0.0.1:{free_port()}/in"}
    with headgate(sinks={"readings": away}, rules={"hot": HOT_READINGS}) as process:
        publishers = publish_with_paho(lambda: process.port, 2, 2000, rate=800.0)
        wait_until(lambda: process.sink("readings")["buffered"] > 500, 20, "rows wait")
        process.write_sinks({"readings": SQLITE_SINK})
        promised = ledgers(publishers)
        process.wait_for_sink("readings", type="sqlite", buffered=0)
        check_rows(sqlite_rows(process.directory), promised)
        process.check_counters()


def test_rules_are_added_and_removed_with_their_files(headgate: MakeHeadgate) -> None:
    """A new file is a new rule; a deleted one stops, and its counters are still there when it comes back."""
    with headgate(sinks={"readings": SQLITE_SINK}, rules={"hot": HOT_READINGS}) as process:
        ledgers(publish_with_paho(lambda: process.port, 1, 100))
        cold = HOT_READINGS.replace("> 30", "< 30")
        process.write_rule("cold", cold)
        wait_until(lambda: "cold" in process.rules(), 10, "the new rule is in service")
        ledgers(publish_with_paho(lambda: process.port, 1, 100, prefix="both"))
        (process.directory / "rules" / "cold.sql").unlink()
        wait_until(lambda: "cold" not in process.rules(), 10, "the deleted rule is gone")
        ledgers(publish_with_paho(lambda: process.port, 1, 100, prefix="hot"))
        process.write_rule("cold", cold)
        wait_until(lambda: "cold" in process.rules(), 10, "the rule is back")
        process.settle()
        assert len(sqlite_rows(process.directory)) == 50 + 100 + 50
        assert process.rules()["cold"]["received"] == 100
        process.check_counters()


def test_warnings_are_printed_at_the_start_as_at_a_reload(headgate: MakeHeadgate) -> None:
    """A user who never calls `headgate check` would wait for rows of a rule without a sink."""
    process = headgate(sinks={}, rules={"lost": 'SELECT * FROM "t"'})
    (process.directory / "connectors.yml").write_text("sinks: {}\n")
    with process:
        process.wait_for_log("Try in a second terminal")
        for words in ("connectors.yml is not read", "rules/lost.sql:1:1: warning: the rule has no sink"):
            assert words in process.log()
