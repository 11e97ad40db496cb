"""Fixtures of the sinks' unit tests: sinks made of options, and a manual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from connectors import load_kind
from engine.connector import Sink, SinkContext
from engine.service.clock import Timer
from support.sinks.harness import NewSink


class HandClock:
    """A manual clock, which advances by `step_s` at each reading."""

    step_s = 0.0

    def __init__(self) -> None:
        self.now_s = 1_769_868_000.0  # 2026-01-31 14:00:00 UTC

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def monotonic(self) -> float:
        self.now_s += self.step_s
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        raise NotImplementedError("no sink sets a timer; this clock has none")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def new_sink(tmp_path: Path, clock: HandClock) -> AsyncIterator[NewSink]:
    """Make connected sinks from options; they are closed after the test."""
    made: list[Sink] = []

    async def make(kind: str, *, is_connected: bool = True, **options: Any) -> Sink:
        found = load_kind(kind)
        config = found.Config.model_validate({"type": kind, **options})
        sink = found(config, SinkContext("readings", tmp_path, tmp_path / "data", clock))
        made.append(sink)
        if is_connected:
            await sink.connect()
        return sink

    yield make
    for sink in made:
        await sink.close()
