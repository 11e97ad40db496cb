"""The composition root, in one process: it starts, serves, reloads, refuses and stops in order."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.admin.api import create_api
from engine.app.admin import AppAdmin
from engine.app.datadir import DataDirectoryInUseError
from engine.app.project import ProjectError, check_project
from engine.app.runtime import App
from engine.intake.intake import Run
from engine.model.message import ClientIdentity

SETTINGS = "listeners: [{bind: '127.0.0.1:0'}]\napi: {enable: false}\n"
SINKS = "sinks:\n  rows: {type: sqlite, path: rows.db, table: t, batch: {time: 1ms}}\n"
RULE = 'INSERT INTO rows SELECT payload.v AS v FROM "t"'

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of the project."""

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    write("headgate.yaml", SETTINGS)
    write("connectors.yaml", SINKS)
    write("rules/r.sql", RULE)
    return write


@pytest.fixture
async def app(tmp_path: Path, write: Write) -> AsyncIterator[App]:
    app = App(tmp_path, environ={})
    await app.start()
    yield app
    await app.stop(5.0)


class Publish:
    topic, qos, retain, dup, properties = "t", 1, False, False, None
    message_id: str | None = None
    is_will: bool = False

    def __init__(self, value: int) -> None:
        self.payload = b'{"v": %d}' % value


async def publish(app: App, *values: int) -> None:
    """As a device would: until it is acknowledged."""
    app.intake.take(Run([Publish(value) for value in values], ClientIdentity("c"), 1))
    await app.delivery.hold().wait()


async def stored(app: App, path: Path) -> list[Any]:
    for outbox in app.outboxes.values():
        await outbox.drained()
    with closing(sqlite3.connect(path / "rows.db")) as db:
        return [value for (value,) in db.execute("SELECT v FROM t ORDER BY rowid")]


async def test_a_publish_becomes_a_row_and_is_counted(app: App, tmp_path: Path) -> None:
    """The main job, end to end."""
    await publish(app, 1, 2)
    assert await stored(app, tmp_path) == [1, 2]
    admin = AppAdmin(app)
    (rule,), (sink,) = admin.rules(), admin.sinks()
    assert (rule.received, rule.emitted, rule.records) == (2, 2, 2)
    assert (sink.emitted, sink.delivered, sink.buffered, sink.status) == (2, 2, 0, "connected")
    assert admin.process().healthy


async def test_a_valid_edit_is_applied_and_keeps_the_counters(app: App, tmp_path: Path, write: Write) -> None:
    """Rules are changed by reloading, which must cost nothing."""
    await publish(app, 1)
    write("rules/r.sql", RULE + " WHERE payload.v > 5")
    assert await app.reload() == []
    await publish(app, 2, 6)
    assert await stored(app, tmp_path) == [1, 6]
    (rule,) = AppAdmin(app).rules()
    assert (rule.received, rule.filtered, rule.emitted) == (3, 1, 2)


async def test_reload_leaves_unchanged_rules_in_service_as_they_are(app: App, write: Write) -> None:
    """An edit of one rule of 1,000 must not set up the others again; another sink may concern any of them."""
    write("rules/other.sql", RULE)
    await app.reload()
    before = dict(app.intake.rules)
    write("rules/r.sql", RULE.replace("payload.v AS v", "1 AS v"))
    await app.reload()
    assert app.intake.rules["other"] is before["other"]
    assert app.intake.rules["r"] is not before["r"]
    assert app.intake.rules["r"].counters is before["r"].counters
    write("connectors.yaml", SINKS + "  more: {type: discard}\n")
    await app.reload()
    assert app.intake.rules["other"] is not before["other"]


async def test_an_invalid_edit_keeps_the_running_project_and_is_reported(
    app: App, tmp_path: Path, write: Write
) -> None:
    """A typing mistake at three in the morning must not stop the plant."""
    write("rules/r.sql", "SELEC nothing")
    problems = await app.reload()
    assert [problem.severity for problem in problems] == ["error"]
    await publish(app, 1)
    assert await stored(app, tmp_path) == [1]
    (why,) = AppAdmin(app).process().problems
    assert "rules/r.sql" in why


async def test_sinks_are_added_changed_and_removed_while_running(app: App, tmp_path: Path, write: Write) -> None:
    """A changed sink keeps its backlog; that of a removed one stays in the journal."""
    write("connectors.yaml", SINKS.replace("1ms", "2ms") + "  more: {type: discard}\n")
    write("rules/r.sql", 'INSERT INTO rows, more SELECT payload.v AS v FROM "t"')
    assert await app.reload() == []
    await publish(app, 1)
    assert await stored(app, tmp_path) == [1]
    assert AppAdmin(app).sinks()[1].delivered == 1
    write("connectors.yaml", SINKS)
    write("rules/r.sql", RULE)
    assert await app.reload() == []
    assert list(app.outboxes) == ["rows"]


async def test_rules_change_at_once_while_a_changed_sink_hangs(app: App, write: Write) -> None:
    """An endpoint that does not answer is a reason to edit the project, and must not delay the edit."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        web = "sinks:\n  rows: {type: http, url: 'http://127.0.0.1:%d', request_timeout: %s}\n"
        port = server.getsockname()[1]
        write("connectors.yaml", web % (port, "2s"))
        await app.reload()
        await publish(app, 1)
        probe, _ = await asyncio.wait_for(loop.sock_accept(server), 10)
        request, _ = await asyncio.wait_for(loop.sock_accept(server), 10)
        await asyncio.wait_for(loop.sock_recv(request, 1), 10)
        write("connectors.yaml", web % (port, "3s"))
        write("rules/r.sql", RULE.replace('"t"', '"other"'))
        reload = asyncio.create_task(app.reload())
        async with asyncio.timeout(10):
            while app.intake.rules["r"].rule.topics != ("other",):
                await asyncio.sleep(0.01)
        assert not reload.done()
        assert await reload == []
        probe.close()
        request.close()


async def test_the_backlog_of_a_removed_sink_is_reported(app: App, tmp_path: Path, write: Write) -> None:
    """A sink removed by mistake leaves rows that nothing else would mention."""
    write("connectors.yaml", "sinks:\n  gone: {type: sqlite, path: nowhere.db, table: t, create_table: false}\n")
    write("rules/r.sql", RULE.replace("rows", "gone"))
    assert await app.reload() == []
    await publish(app, 1, 2)
    write("connectors.yaml", SINKS)
    write("rules/r.sql", RULE)
    assert await app.reload() == []
    assert AppAdmin(app).process().problems == (
        "sink gone is not in connectors.yaml any more, and 2 records wait for it",
    )


async def test_a_disabled_sink_receives_nothing_until_enabled(app: App, tmp_path: Path, write: Write) -> None:
    """`enable: false` is for maintenance; rules that send to the sink get a warning."""
    write("connectors.yaml", SINKS.replace("table: t", "table: t, enable: false"))
    (warning,) = await app.reload()
    assert (warning.severity, warning.path) == ("warning", "rules/r.sql")
    await publish(app, 1)
    (sink,) = AppAdmin(app).sinks()
    assert (sink.status, sink.reason, sink.emitted) == ("stopped", "disabled", 0)
    write("connectors.yaml", SINKS)
    await app.reload()
    await publish(app, 2)
    assert await stored(app, tmp_path) == [2]


async def test_no_view_of_a_sink_shows_a_secret(tmp_path: Path, write: Write) -> None:
    """Errors of a sink quote its options, and every user of the API sees them."""
    write("connectors.yaml", "sinks:\n  rows: {type: file, path: '/proc/${env:PLACE}/rows.jsonl'}\n")
    app = App(tmp_path, environ={"PLACE": "s3cret-place"})
    await app.start()
    try:
        await publish(app, 1)
        admin = AppAdmin(app)
        async with asyncio.timeout(10):
            while admin.sinks()[0].last_error is None:
                await asyncio.sleep(0.01)
        (sink,) = admin.sinks()
        for text in (sink.reason, sink.last_error, *admin.process().problems):
            assert text is not None
            assert "/proc/***" in text
            assert "s3cret" not in text
    finally:
        await app.stop(5.0)


async def test_a_dead_letter_with_bytes_can_be_shown(app: App, tmp_path: Path, write: Write) -> None:
    """Rows that no sink accepts often hold bytes that are not text; showing them is how the reason is found."""
    with closing(sqlite3.connect(tmp_path / "rows.db")) as db:
        db.execute("CREATE TABLE raw (v CHECK (v = 1))")
    write("connectors.yaml", SINKS.replace("table: t", "table: raw, create_table: false"))
    write("rules/r.sql", 'INSERT INTO rows SELECT payload AS v FROM "t"')
    assert await app.reload() == []
    publication = Publish(0)
    publication.payload = b"\xff\x00"
    app.intake.take(Run([publication], ClientIdentity("c"), 1))
    await app.delivery.hold().wait()
    await app.outboxes["rows"].drained()
    transport = httpx.ASGITransport(create_api(AppAdmin(app)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/api/v5/sinks/rows/dead_letters/1")
    assert answer.json()["row"] == {"v": {"$base64": "/wA="}}


async def test_a_setting_that_needs_a_restart_is_reported(app: App, tmp_path: Path, write: Write) -> None:
    """A user would take the edit for effective: the warning stays until the restart or until the edit is undone."""
    write("headgate.yaml", SETTINGS + "data_dir: elsewhere\n")
    for _ in range(2):
        (warning,) = await app.reload()
        assert warning.severity == "warning"
        assert "data_dir" in warning.message
    assert AppAdmin(app).process().data_dir == str(tmp_path / "data")
    write("headgate.yaml", SETTINGS)
    assert await app.reload() == []


async def test_an_edit_of_the_data_directory_makes_no_sink_skip_rows(tmp_path: Path, write: Write) -> None:
    """Until the restart the old journal is in use: positions that a sink remembers belong to it, not to a new one."""
    once = SINKS.replace("table: t", "table: t, exactly_once: true")
    write("connectors.yaml", once)
    first = App(tmp_path, environ={})
    await first.start()
    write("headgate.yaml", SETTINGS + "data_dir: elsewhere\n")
    write("connectors.yaml", once.replace("1ms", "2ms"))
    await first.reload()
    await publish(first, 1, 2)
    assert await stored(first, tmp_path) == [1, 2]
    await first.stop(5.0)
    second = App(tmp_path, environ={})
    await second.start()
    try:
        await publish(second, 3, 4)
        assert await stored(second, tmp_path) == [1, 2, 3, 4]
    finally:
        await second.stop(5.0)


async def test_a_second_process_is_refused_with_the_id_of_the_first(app: App, tmp_path: Path) -> None:
    """Two writers would destroy each other's journal."""
    second = App(tmp_path, environ={})
    with pytest.raises(DataDirectoryInUseError) as caught:
        await second.start()
    assert caught.value.pid is not None
    assert json.loads((tmp_path / "data" / "run.json").read_text())["pid"] == caught.value.pid


async def test_counters_and_backlog_survive_a_restart(app: App, tmp_path: Path, write: Write) -> None:
    """A process that ends in order leaves nothing behind but files."""
    await publish(app, 1)
    assert await stored(app, tmp_path) == [1]
    await app.stop(5.0)
    assert not (tmp_path / "data" / "run.json").exists()
    again = App(tmp_path, environ={})
    await again.start()
    try:
        await publish(again, 2)
        assert await stored(again, tmp_path) == [1, 2]
        assert AppAdmin(again).rules()[0].received == 2
    finally:
        await again.stop(5.0)


async def test_a_missing_journal_log_is_reported(app: App, tmp_path: Path) -> None:
    """Its records were acknowledged and are lost."""
    await app.journal.abandon()
    await app.stop(1.0)
    after = App(tmp_path, environ={})
    await after.start()
    (problem,) = AppAdmin(after).process().problems
    assert "(-wal) is missing" in problem
    await after.stop(5.0)


async def test_a_port_in_use_leaves_nothing_running(app: App, tmp_path: Path) -> None:
    """A failed start must release everything that it had opened."""
    other = tmp_path / "other"
    other.mkdir()
    port = app.broker.listeners[0].port
    (other / "headgate.yaml").write_text(f"listeners: [{{bind: '127.0.0.1:{port}'}}]\napi: {{enable: false}}\n")
    second = App(other, environ={})
    with pytest.raises(OSError, match=str(port)):
        await second.start()
    (other / "headgate.yaml").write_text(SETTINGS)
    await second.start()
    await second.stop(5.0)


async def test_a_project_with_mistakes_does_not_start(tmp_path: Path, write: Write) -> None:
    """All mistakes are reported at once."""
    write("rules/r.sql", "SELEC nothing")
    write("connectors.yaml", "sinks: {rows: {type: sqlit}}\n")
    with pytest.raises(ProjectError) as caught:
        await App(tmp_path, environ={}).start()
    assert len(caught.value.problems) == 2
    assert len(check_project(tmp_path, {})) == 2


async def test_stopping_twice_or_before_starting_has_no_effect(tmp_path: Path, write: Write) -> None:
    """A caller need not know how far the start came."""
    app = App(tmp_path, environ={})
    await app.stop(1.0)
    await app.start()
    await app.stop(1.0)
    await app.stop(1.0)
