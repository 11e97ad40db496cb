"""A MongoDB server: away while its process is killed, misconfigured while the sink's user has no right to write.

The server of the tests has no users, so a proxy in front of it answers as one that refuses would.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.model.record import Row
from servers.mongodb import Mongodb
from support.mongo_proxy import WRITES, MongoProxy, failure
from support.sinks.harness import Harness

COLLECTION = "readings"


class MongodbHarness(Harness):
    def __init__(self, folder: Path, server: Mongodb, database: str) -> None:
        super().__init__(folder)
        self._server = server
        self._database = database
        self._proxy = MongoProxy(server.host, server.port)

    def options(self) -> dict[str, Any]:
        return {
            "type": "mongodb", "uri": self._proxy.uri, "database": self._database, "collection": COLLECTION,
            "connect_timeout": "2s", "non_finite": "null",
        }  # fmt: skip

    async def start(self) -> None:
        await self._proxy.start()

    async def stop(self) -> None:
        await self._proxy.stop()
        await asyncio.to_thread(self._server.start)

    async def rows(self) -> list[Row]:
        found = await asyncio.to_thread(self._server.find, self._database, COLLECTION)
        return [{key: value for key, value in row.items() if key != "_id"} for row in found]

    def spoiled(self, row: Row) -> Row:
        # The server of the tests refuses such a name; MongoDB itself refuses it at the top level, too.
        return {**row, "$label": "x"}

    async def break_off(self) -> None:
        await self._proxy.stop()
        await asyncio.to_thread(self._server.kill)

    async def mend(self) -> None:
        await asyncio.to_thread(self._server.start)
        await self._proxy.start()

    async def misconfigure(self) -> None:
        refusal = failure(13, f"not authorized on {self._database} to execute command", "Unauthorized")
        self._proxy.answer = lambda command: refusal if next(iter(command)) in WRITES else None

    async def put_right(self) -> None:
        self._proxy.answer = lambda command: None


def open_harness(request: pytest.FixtureRequest, folder: Path) -> Harness:
    return MongodbHarness(
        folder, request.getfixturevalue("mongodb_server"), request.getfixturevalue("mongodb_database")
    )
