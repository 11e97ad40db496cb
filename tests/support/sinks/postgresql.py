"""A real PostgreSQL: away while its process is killed, misconfigured while the table has another name."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from engine.model.record import Row
from servers.postgresql import Postgresql
from support.sinks.harness import Harness

COLUMNS = (
    "id bigint GENERATED ALWAYS AS IDENTITY, client text, n integer CHECK (n >= 0), label text, ratio float8, "
    "large bigint, ok boolean, nothing text, place jsonb"
)


class PostgresqlHarness(Harness):
    def __init__(self, folder: Path, server: Postgresql, database: str) -> None:
        super().__init__(folder)
        self._server = server
        self._database = database

    def options(self) -> dict[str, Any]:
        return {
            "type": "postgresql", "dsn": self._server.dsn(self._database), "table": "readings", "connect_timeout": "2s",
        }  # fmt: skip

    async def start(self) -> None:
        await self._execute(f"CREATE TABLE readings ({COLUMNS})")

    async def rows(self) -> list[Row]:
        found = await asyncio.to_thread(
            self._server.fetch, "SELECT * FROM readings ORDER BY id", database=self._database
        )
        rows = [dict(row) for row in found]
        return [{**row, "place": json.loads(row["place"] or "null")} for row in rows if row.pop("id")]

    def spoiled(self, row: Row) -> Row:
        return {**row, "n": -1}

    async def break_off(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def mend(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def misconfigure(self) -> None:
        await self._execute("ALTER TABLE readings RENAME TO reading")

    async def put_right(self) -> None:
        await self._execute("ALTER TABLE reading RENAME TO readings")

    async def _execute(self, sql: str) -> None:
        await asyncio.to_thread(self._server.execute, sql, database=self._database)


def open_harness(request: pytest.FixtureRequest, folder: Path) -> Harness:
    return PostgresqlHarness(
        folder, request.getfixturevalue("postgresql_server"), request.getfixturevalue("postgresql_database")
    )
