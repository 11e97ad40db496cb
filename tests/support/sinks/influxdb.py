"""A real InfluxDB 1: away while its process is killed, misconfigured while the user's password is another one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from engine.model.record import Row
from servers.influxdb import Influxdb
from support.sinks.harness import Harness

PASSWORD = "pass-word"


class InfluxdbHarness(Harness):
    def __init__(self, folder: Path, server: Influxdb, database: str) -> None:
        super().__init__(folder)
        self._server = server
        self._database = database
        self._user = f"writer_{database}"

    def options(self) -> dict[str, Any]:
        return {
            "type": "influxdb", "url": self._server.url, "database": self._database, "username": self._user,
            "password": PASSWORD, "measurement": "readings", "tags": {"client": "${client}"},
            "fields": {
                "n": "${n}i", "label": "${label}", "ratio": "${ratio}", "large": "${large}i", "ok": "${ok}",
                "nothing": "${nothing}", "place": "${place}",
            },
            "connect_timeout": "2s",
        }  # fmt: skip

    async def start(self) -> None:
        await asyncio.to_thread(self._server.create_user, self._user, PASSWORD, self._database)

    async def stop(self) -> None:
        await self.mend()
        await asyncio.to_thread(self._server.execute, f"DROP USER {self._user}")

    async def rows(self) -> list[Row]:
        points = await asyncio.to_thread(self._server.points, "readings", self._database)
        for point in points:
            del point["time"]
            # A map is stored as JSON. Some tests store another text in its place.
            if str(point.get("place")).startswith("{"):
                point["place"] = json.loads(point["place"])
        return [{"nothing": None, **point} for point in points]

    def spoiled(self, row: Row) -> Row:
        return {**row, "n": 2**63}

    async def break_off(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def mend(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def misconfigure(self) -> None:
        await asyncio.to_thread(self._server.set_password, "another", self._user)

    async def put_right(self) -> None:
        await asyncio.to_thread(self._server.set_password, PASSWORD, self._user)


def open_harness(request: pytest.FixtureRequest, folder: Path) -> Harness:
    return InfluxdbHarness(
        folder, request.getfixturevalue("influxdb_server"), request.getfixturevalue("influxdb_database")
    )
