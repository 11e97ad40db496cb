"""A file: away while its disk is full (`/dev/full` in its place), misconfigured while its folder is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.connector import SinkContext
from engine.model.record import Row
from support.sinks.harness import SINK_ID, Harness


class FileHarness(Harness):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._disk = folder / "disk"
        self._path = self._disk / "readings.jsonl"
        self._aside = folder / "aside"

    def context(self) -> SinkContext:
        project = self.folder / "project"
        project.mkdir(exist_ok=True)
        return SinkContext(SINK_ID, project, project / "data")

    def options(self) -> dict[str, Any]:
        return {"type": "file", "path": str(self._path), "fsync": "always"}

    async def start(self) -> None:
        self._disk.mkdir()
        self._path.touch()

    async def rows(self) -> list[Row]:
        return [json.loads(line) for line in self._path.read_text().splitlines()]

    def spoiled(self, row: Row) -> Row:
        return {**row, "label": "half a pair: \ud800"}

    async def break_off(self) -> None:
        self._path.rename(self._aside)
        self._path.symlink_to("/dev/full")

    async def mend(self) -> None:
        self._path.unlink()
        self._aside.rename(self._path)

    async def misconfigure(self) -> None:
        self._disk.rename(self._aside)

    async def put_right(self) -> None:
        self._aside.rename(self._disk)


def open_harness(request: pytest.FixtureRequest, folder: Path) -> Harness:
    return FileHarness(folder)
