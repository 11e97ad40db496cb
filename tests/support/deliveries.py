"""A journal and its delivery on a fake clock, with crashes and restarts."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from engine.connector import ConnectorConfig, Sink
from engine.delivery import DeliveryService, Outbox
from engine.delivery.journal import CommitHold, Journal, RecoveryReport
from engine.delivery.journal.sqlite.worker import Answer, Job, T, Worker
from engine.model.record import Chunk
from engine.testing import FakeClock, InlineWorker, pump

FILE = "journal.sqlite"


def chunk(*rows: Any, client: str = "c", rule: str = "r", lane: int = 0, time_ms: int = 1) -> Chunk:
    """Return a chunk of rows; a value that is not a dict becomes the column ``n``."""
    dicts = [row if isinstance(row, dict) else {"n": row} for row in rows]
    return Chunk(rule, client, lane, time_ms, "t", dicts)


def options(**settings: Any) -> ConnectorConfig:
    """Return the options of a sink with one lane, whose batches do not wait unless `settings` require it."""
    batch = {"time": 0, **settings.pop("batch", {})}
    return ConnectorConfig.model_validate({"type": "memory", "lanes": 1, "batch": batch, **settings})


class SlowDisk(InlineWorker):
    """A worker that keeps its answers back while `is_slow`."""

    is_slow: ClassVar[bool] = False
    held: ClassVar[list[Callable[[], None]]] = []

    def submit(self, job: Job[T], answer: Answer[T]) -> None:
        if SlowDisk.is_slow:
            super().submit(job, lambda result, error: SlowDisk.held.append(lambda: answer(result, error)))
        else:
            super().submit(job, answer)

    @staticmethod
    def release() -> None:
        """Give all answers that were kept back, and those to come at once."""
        SlowDisk.is_slow = False
        held, SlowDisk.held = SlowDisk.held, []
        for answer in held:
            answer()


class World:
    """One data directory, with the journal and the delivery that run on it."""

    def __init__(self, directory: Path, *, seed: int = 1, make_worker: Callable[[str], Worker] = InlineWorker) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.random = Random(seed)
        self._make_worker = make_worker

    @property
    def path(self) -> Path:
        return self.directory / FILE

    async def start(self) -> RecoveryReport:
        """Open the journal and the delivery."""
        self.journal = Journal(self.path, clock=self.clock, make_worker=self._make_worker)
        report = await self.journal.start()
        self.delivery = DeliveryService(self.journal, clock=self.clock, random=self.random)
        await self.delivery.start()
        return report

    async def open(self, sink: Sink, config: ConnectorConfig | None = None, name: str = "s") -> Outbox:
        """Open a sink and let its tasks start."""
        outbox = await self.delivery.open(name, sink, config or options())
        await pump()
        return outbox

    async def put(self, outbox: Outbox, *chunks: Chunk) -> CommitHold:
        """Put, and let the group be committed and delivered as far as possible without time passing."""
        for item in chunks:
            assert outbox.put(item)
        hold = self.delivery.hold()
        await pump()
        return hold

    async def stop(self) -> None:
        """Stop in order; a sink that hangs gets a second."""
        stopping = asyncio.gather(self.delivery.stop(1.0))
        await self.clock.advance(3.0)
        await stopping
        await self.journal.stop()

    async def crash(self, directory: Path) -> None:
        """Go on in `directory` with a copy of the files as they are now, as after ``kill -9``."""
        directory.mkdir(parents=True)
        for file in self.directory.glob(f"{FILE}*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, directory / file.name)
        await self.abandon()
        self.directory = directory

    async def abandon(self) -> None:
        """End everything without order, as the end of the process would."""
        for outbox in self.delivery.outboxes.values():
            await outbox._tasks.cancel()
        await self.journal.abandon()

    async def advance_until(self, done: Callable[[], bool], seconds: float = 3600.0) -> None:
        """Let time pass until `done`, at most `seconds`."""
        until = self.clock.monotonic() + seconds
        while not done():
            due = self.clock.next_at
            assert due is not None, "no timer is left, so that it can never become true"
            assert due <= until, "it did not become true in time"
            await self.clock.advance(max(due - self.clock.monotonic(), 0.0))
