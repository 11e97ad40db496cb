"""A pipe: unreachable while it is full, misconfigured while its other end is closed."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engine.model.record import Row
from support.sinks.harness import Harness

PIPE_BYTES = 1 << 20
"""Largest pipe that an ordinary user can make (pipe-max-size on Linux); the output of a test fits in it."""


class ConsoleHarness(Harness):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._read_end, self._write_end = -1, os.open("/dev/null", os.O_WRONLY)
        self._printed = b""

    def options(self) -> dict[str, Any]:
        return {"type": "console", "stream": self._write_end, "request_timeout": "400ms"}

    async def start(self) -> None:
        self._read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self._read_end, False)
        os.dup2(write_end, self._write_end)
        os.close(write_end)

    async def stop(self) -> None:
        os.close(self._write_end)
        os.close(self._read_end)

    async def rows(self) -> list[Row]:
        self._read()
        return [json.loads(line)["row"] for line in self._printed.splitlines() if line]

    def spoiled(self, row: Row) -> Row:
        return {**row, "label": "half a pair: \ud800"}

    async def break_off(self) -> None:
        os.set_blocking(self._write_end, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self._write_end, b"\n" * 4096)
        os.set_blocking(self._write_end, True)

    async def mend(self) -> None:
        self._read()

    async def misconfigure(self) -> None:
        self._read()
        os.close(self._read_end)

    async def put_right(self) -> None:
        await self.start()

    def _read(self) -> None:
        try:
            while block := os.read(self._read_end, PIPE_BYTES):
                self._printed += block
        except BlockingIOError:
            return


def open_harness(request: pytest.FixtureRequest, folder: Path) -> Harness:
    return ConsoleHarness(folder)
