"""A database file: away while another program holds its lock, misconfigured while its table has another name."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engine.model.record import Row
from support.sinks.harness import Harness

COLUMNS = (
    'client TEXT, n INTEGER CHECK (n >= 0), label TEXT, ratio REAL, large INTEGER, ok BOOLEAN, "nothing", place TEXT'
)


class SqliteHarness(Harness):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._path = folder / "plant.db"
        self._other: sqlite3.Connection

    def options(self) -> dict[str, Any]:
        return {
            "type": "sqlite", "path": "plant.db", "table": "readings", "create_table": False, "busy_timeout": "50ms",
        }  # fmt: skip

    async def start(self) -> None:
        self._other = sqlite3.connect(self._path, isolation_level=None)
        self._other.execute("PRAGMA journal_mode = wal")
        self._other.execute(f"CREATE TABLE readings ({COLUMNS})")

    async def stop(self) -> None:
        self._other.close()

    async def rows(self) -> list[Row]:
        cursor = self._other.execute("SELECT * FROM readings ORDER BY rowid")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, values, strict=True)) for values in cursor]

    def stored(self, row: Row) -> Row:
        return {**row, "ok": int(row["ok"]), "place": json.dumps(row["place"], separators=(",", ":"))}

    def spoiled(self, row: Row) -> Row:
        return {**row, "n": -1}

    async def break_off(self) -> None:
        self._other.execute("BEGIN EXCLUSIVE")

    async def mend(self) -> None:
        self._other.execute("ROLLBACK")

    async def misconfigure(self) -> None:
        self._other.execute("ALTER TABLE readings RENAME TO reading")

    async def put_right(self) -> None:
        self._other.execute("ALTER TABLE reading RENAME TO readings")


def open_harness(request: pytest.FixtureRequest, folder: Path) -> Harness:
    return SqliteHarness(folder)
