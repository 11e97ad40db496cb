"""Files of every earlier format open with all their records."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from engine.delivery.journal.sqlite import schema
from engine.testing import MemorySink
from support.deliveries import World, options

FORMATS = sorted((Path(__file__).parent / "formats").glob("*.sql"))


@pytest.mark.parametrize("dump", FORMATS, ids=lambda path: f"format {path.stem}")
async def test_a_journal_of_an_earlier_format_opens_with_all_its_records(tmp_path: Path, dump: Path) -> None:
    """An upgrade keeps the backlog. A new format adds a dump of itself, and changes no other."""
    world = World(tmp_path)
    db = sqlite3.connect(world.path)
    db.executescript(dump.read_text())
    db.close()

    report = await world.start()
    sink = MemorySink()
    outbox = await world.open(sink, options(lanes=2), name="readings")
    await world.advance_until(lambda: not outbox.counters.buffered)

    assert report.quarantined is None
    assert [row["n"] for row in sink.rows if row["n"] != 4] == [2, 3, 5, 6]
    assert sink.rows[0]["text"] == "°C"
    assert {row["n"]: row for row in sink.rows}[3]["big"] == 2**70
    assert {row["n"]: row for row in sink.rows}[4]["raw"] == b"\xff"
    (letter,) = await world.delivery.dead_letters("readings")
    assert (letter.row, letter.code) == ({"n": 1}, "42703")
    assert (outbox.counters.emitted, outbox.counters.delivered, outbox.counters.dead_lettered) == (7, 6, 1)
    assert world.delivery.rule_counters("hot").received == 9
    await world.stop()


def test_every_format_has_a_dump() -> None:
    """Otherwise the test above covers less than it states."""
    assert [path.stem for path in FORMATS] == [str(number) for number in range(1, schema.FORMAT + 1)]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half migrated journal could be opened by no version."""
    db = schema.connect(tmp_path / "j.sqlite")
    schema.prepare(db, now_ms=1)

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (x)")
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(schema, "FORMAT", schema.FORMAT + 1)
    monkeypatch.setattr(schema, "_MIGRATIONS", {schema.FORMAT - 1: broken})
    with pytest.raises(sqlite3.OperationalError, match="disk full"):
        schema.prepare(db, now_ms=1)
    assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone() == (0,)

    monkeypatch.setattr(schema, "_MIGRATIONS", {schema.FORMAT - 1: lambda c: c.execute("CREATE TABLE whole (x)")})
    schema.prepare(db, now_ms=1)
    assert db.execute("PRAGMA user_version").fetchone() == (schema.FORMAT,)
    assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'whole'").fetchone() == (1,)
    db.close()
