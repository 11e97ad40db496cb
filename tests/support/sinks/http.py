"""An endpoint that records. It is away while it does not listen, and misconfigured while it answers 404."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.model.record import Row
from support.http_server import Behaviour, RecordingServer
from support.sinks.harness import Harness

POISON = "poison"


class HttpHarness(Harness):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.server = RecordingServer(folder / "records.jsonl")

    def options(self) -> dict[str, Any]:
        return {"type": "http", "url": f"{self.server.url}/in", "batch_format": "json_array"}

    async def start(self) -> None:
        await self.server.start()
        await self.put_right()

    async def stop(self) -> None:
        await self.server.stop()

    async def rows(self) -> list[Row]:
        return [each["record"] for each in self.server.recorded()]

    def spoiled(self, row: Row) -> Row:
        return {**row, "label": POISON}

    async def break_off(self) -> None:
        await self.server.stop()

    async def mend(self) -> None:
        await self.server.start()

    async def misconfigure(self) -> None:
        self.server.behaviour = Behaviour(mode="status", status=404, body="no such path")

    async def put_right(self) -> None:
        self.server.behaviour = Behaviour(poison=POISON)


def open_harness(request: pytest.FixtureRequest, folder: Path) -> Harness:
    return HttpHarness(folder)
