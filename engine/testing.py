"""Test doubles for Headgate's own tests and those of connectors: a clock, sinks, a worker without a thread.

Production code never imports this module.
"""

from __future__ import annotations

import asyncio
import heapq
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from engine.connector import ALL_STORED, ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.delivery.journal.sqlite.worker import Answer, Job, T
from engine.errors import DeliveryError
from engine.model.record import Batch, Record, Row

Answers = Iterable[Mapping[int, DeliveryError] | BaseException | Callable[[Batch], Any] | None]
"""Answers of a scripted sink, one per call. None is success; a callable is called with the batch and returns one."""


class FakeTimer:
    """A call that is due on a `FakeClock`."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeClock:
    """A clock that stands still until `advance`. It starts at 2024-01-01T00:00:00Z."""

    def __init__(self, start_ms: int = 1_704_067_200_000) -> None:
        self._start_ms = start_ms
        self._elapsed = 0.0
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._order = count()

    def now_ms(self) -> int:
        return self._start_ms + round(self._elapsed * 1000)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: None if done.done() else done.set_result(None))
        try:
            await done
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        heapq.heappush(self._timers, (self._elapsed + seconds, next(self._order), timer))
        return timer

    @property
    def next_at(self) -> float | None:
        """The time of the next timer in seconds since the start, or None."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Timers are called in order, and tasks that one wakes run before the next is called."""
        until = self._elapsed + seconds
        await pump()
        while (due := self.next_at) is not None and due <= until:
            self._elapsed = max(self._elapsed, due)
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()
            await pump()
        self._elapsed = until
        await pump()


async def pump(turns: int = 20) -> None:
    """Let tasks run for `turns` turns of the event loop, without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)


class InlineWorker:
    """A journal's worker without a thread: a job runs when it is submitted, its answer comes in the loop's next turn.

    With it and a `FakeClock` a whole delivery runs the same way every time.
    """

    def __init__(self, name: str = "inline") -> None:
        self._db: sqlite3.Connection | None = None

    def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._db = connect()

    def submit(self, job: Job[T], answer: Answer[T]) -> None:
        assert self._db is not None
        result: T | None = None
        error: BaseException | None = None
        try:
            result = job(self._db)
        except Exception as caught:
            error = caught
        asyncio.get_running_loop().call_soon(answer, result, error)

    def stop(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


class MemorySink(Sink):
    """A sink that keeps its batches in memory."""

    kind: ClassVar[str] = "memory"
    Config: ClassVar[type[ConnectorConfig]] = ConnectorConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = ("type: memory\n",)

    def __init__(self, config: ConnectorConfig | None = None, context: SinkContext | None = None) -> None:
        super().__init__(config or ConnectorConfig(type="memory"), context or SinkContext("memory", Path(), Path()))
        self.batches: list[Batch] = []
        self.connects = 0
        self.closes = 0
        self._arrived = asyncio.Event()

    @property
    def rows(self) -> list[Row]:
        """All rows in the order in which they came."""
        return [row for batch in self.batches for row in batch.rows]

    @property
    def records(self) -> list[Record]:
        """All records in the order in which they came."""
        return [record for batch in self.batches for record in batch.records]

    async def connect(self) -> None:
        self.connects += 1

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        self.store(batch)
        return ALL_STORED

    async def close(self) -> None:
        self.closes += 1

    def store(self, batch: Batch) -> None:
        """Keep `batch`, and wake those who wait in `received`."""
        self.batches.append(batch)
        self._arrived.set()

    async def received(self, rows: int) -> None:
        """Wait until at least `rows` rows have come."""
        while len(self.rows) < rows:
            self._arrived.clear()
            await self._arrived.wait()


class FlakySink(MemorySink):
    """A sink that answers as scripted; after the last answer everything succeeds.

    `writes` are the answers of `write`. None stores the batch; an exception is raised; a mapping is returned, and the
    other records are stored; a callable is called with the batch, and its result, awaited where needed, is the answer.
    `connects` are those of `connect`.
    """

    def __init__(
        self,
        writes: Answers = (),
        connects: Answers = (),
        config: ConnectorConfig | None = None,
        context: SinkContext | None = None,
    ) -> None:
        super().__init__(config, context)
        self.attempts: list[Batch] = []
        """Every batch `write` was called with."""
        self._writes = iter(writes)
        self._connects = iter(connects)

    async def connect(self) -> None:
        self.connects += 1
        answer = await _resolve(next(self._connects, None), None)
        if isinstance(answer, BaseException):
            raise answer

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        self.attempts.append(batch)
        answer = await _resolve(next(self._writes, None), batch)
        if isinstance(answer, BaseException):
            raise answer
        if answer is None:
            self.store(batch)
            return ALL_STORED
        stored = [index for index in range(len(batch)) if index not in answer]
        if stored:
            self.store(batch.pick(stored))
        return Failures(answer)


async def _resolve(answer: Any, batch: Batch | None) -> Any:
    if callable(answer) and not isinstance(answer, type):
        answer = answer(batch)
    if asyncio.iscoroutine(answer) or isinstance(answer, asyncio.Future):
        answer = await answer
    return answer
