"""One lane of a sink: delivers its records in order, one batch at a time.

- A record is taken once it is on disk, and not before the batch before it is settled.
- ``log.state.cursor`` moves to the last record that is settled with all before it.
- Nothing above ``limit_seq`` is taken; see `engine.delivery.barrier`.
- Records up to ``dropped_through`` that are not in flight are dropped. The cursor passes them when the batch in flight
  before them is settled; a crash until then delivers them after all.
- A batch that was cancelled in flight is delivered again after the next start.
- A batch may fill for ``batch.time`` from its first record on; records of a backlog never wait.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Protocol

import structlog

from engine.connector import ANSWER_SHARE, ConnectorConfig, Deadline, Sink
from engine.delivery.connection import SinkConnection
from engine.delivery.journal import Journal, LaneLog, Segment
from engine.delivery.progress import Action, BatchPart, BatchProgress, Settlement, WriteOutcome
from engine.delivery.queue import LaneQueue, Taken
from engine.delivery.retry import backoff_s
from engine.delivery.waiting import WakeUp, deadline, is_cancelled
from engine.errors import JournalError, RetryableError
from engine.service.clock import Clock

log = structlog.get_logger()

READ_BYTES = 512 << 10
"""Stored bytes of a backlog that are read at a time: some thousand records, a few milliseconds of decoding."""

MEMORY_PER_BYTE = 8
"""Bytes of memory that a stored byte takes as Python objects: 6 to 8, measured with rows of three to nine columns."""

NO_LIMIT = 1 << 62
"""Above every number, and below the limit of SQLite's integers."""


class SettlementReceiver(Protocol):
    """Receives the settled records of a lane."""

    def settle(self, lane: Lane, settled: Settlement, size: int) -> None:
        """Account for records that need no further attempt, of `size` stored bytes."""


class Lane:
    """Delivers the records of `log` to `sink` over `connection`."""

    def __init__(
        self,
        log: LaneLog,
        *,
        receiver: SettlementReceiver,
        journal: Journal,
        connection: SinkConnection,
        sink: Sink,
        config: ConnectorConfig,
        clock: Clock,
        random: Random,
    ) -> None:
        self.log = log
        self.number = log.state.number
        self.in_flight = 0
        self.in_flight_since_ms: int | None = None
        """When the first message of the batch in flight came."""
        self.next_attempt_ms: int | None = None
        self.limit_seq = NO_LIMIT
        """Records with higher numbers may not be taken yet."""
        self.dropped_through = 0
        """Records up to this number that are not in flight are dropped."""
        self.is_writing = False
        self._receiver = receiver
        self._journal = journal
        self._connection = connection
        self._sink = sink
        self._config = config
        self._clock = clock
        self._random = random
        self._failures = 0
        self._stopping = False
        self._wake_up = WakeUp(clock)
        self._idle = False
        self._first_at = 0.0
        self._taken_through = log.state.cursor
        self._written = WakeUp(clock)
        self._queue = LaneQueue(
            log.sink.name,
            self.number,
            cursor=log.state.cursor,
            committed=log.committed_seq,
            size_max=max(config.buffer.memory_bytes // config.lanes // MEMORY_PER_BYTE, 1),
        )
        log.listener = self

    def committed(self, segment: Segment) -> None:
        """Append records that are on disk now."""
        queue = self._queue
        if not queue.rows:
            self._first_at = self._clock.monotonic()
        queue.committed(segment)
        # A lane that waits for its batch to fill is woken by its timer, and here only once the batch is full.
        if self._idle or queue.rows >= self._config.batch.size or queue.size >= self._config.batch.bytes:
            self._wake_up.set()

    async def run(self) -> None:
        """Deliver until `stop` is called, or until cancelled."""
        while not self._stopping:
            due_in_s = self._due_in_s()
            taken = self._queue.take(*self._limits()) if due_in_s <= 0 else None
            if taken is not None:
                self._first_at = self._clock.monotonic()
                self._taken_through = taken.batch.seqs[-1]
                await self._deliver(taken)
            else:
                await self._wait(due_in_s)

    def stop(self) -> None:
        """Take nothing more; `run` returns once the answer to the write under way is settled."""
        self._stopping = True
        self._wake_up.set()

    def wake(self) -> None:
        """Look again for records to take, because a limit may have changed."""
        self._wake_up.set()

    async def written(self) -> None:
        """Wait until no write is under way."""
        while self.is_writing:
            await self._written.wait()

    @property
    def droppable(self) -> int:
        """Number of records on disk that wait and are not in flight."""
        return self.log.committed_seq - self._taken_through

    def drop_oldest(self, count: int) -> None:
        """Drop the `count` records that would be taken next. If it raises, nothing has changed."""
        through = self._taken_through + count
        self._queue.skip_to(through, self.log.committed_seq)
        self._taken_through = self.dropped_through = through
        if not self.in_flight:
            self.log.state.cursor = through

    @property
    def oldest_ms(self) -> int | None:
        """Arrival time of the message that has waited longest, or None if its record is only on disk."""
        if self.in_flight_since_ms is not None:
            return self.in_flight_since_ms
        first = self._queue.first
        return first.chunks[0].time_ms if first is not None else None

    # Taking

    def _limits(self) -> tuple[int, int, int]:
        batch = self._config.batch
        return batch.size, batch.bytes, self.limit_seq

    def _due_in_s(self) -> float:
        """Return how long the next batch may still fill; 0 or less: it is due."""
        queue, batch = self._queue, self._config.batch
        if queue.rows >= batch.size or queue.size >= batch.bytes or not queue.rows or self._gap() is not None:
            return 0.0
        return self._first_at + batch.time - self._clock.monotonic()

    def _gap(self) -> tuple[int, int] | None:
        return self._queue.gap(self.log.committed_seq)

    async def _wait(self, due_in_s: float) -> None:
        """Wait until there may be records to take, for `due_in_s` at most where that is more than 0."""
        queue = self._queue
        gap = self._gap()
        if gap is not None and queue.rows < self._config.batch.size and gap[0] <= self.limit_seq:
            await self._read(*gap)
            return
        if gap is None and not queue.rows and self._taken_through < self.log.committed_seq:
            # Everything has been read, and the last records were not found: they are settled as lost.
            self._taken_through = self.log.committed_seq
            self._receiver.settle(self, Settlement(self._taken_through), 0)
        self._idle = not queue.rows
        try:
            await self._wake_up.wait(due_in_s if due_in_s > 0 else None)
        finally:
            self._idle = False

    async def _read(self, first: int, last: int) -> None:
        """Read the beginning of the gap into the queue."""
        try:
            reading = await self._journal.read_lane(self.log, first, last, READ_BYTES)
        except JournalError as error:
            log.error("backlog can't be read", sink=self.log.sink.name, lane=self.number, reason=str(error))
            # The delay of a sink's 8th failure: a failing disk does not recover in milliseconds.
            await self._clock.sleep(backoff_s(self._config.retry, 8, self._random))
            return
        if reading.damaged:
            self._journal.quarantine(reading.damaged)
        self._queue.fill(reading.segments, reading.read_to, self.log.committed_seq)

    # Delivering

    async def _deliver(self, taken: Taken) -> None:
        progress = BatchProgress(taken.batch, self._config.retry)
        size = taken.size
        rows = self.in_flight = len(taken.batch)
        self.in_flight_since_ms = taken.time_ms
        try:
            while (part := progress.part) is not None:
                step = progress.answer(await self._send(part), self._clock.now_ms())
                if step.settled is not None:
                    share = size * step.settled.rows // rows if progress.part is not None else size
                    self.in_flight -= step.settled.rows
                    rows -= step.settled.rows
                    size -= share
                    self._receiver.settle(self, step.settled, share)
                if step.error is None:
                    self._failures = 0
                    self._connection.healthy()
                if self._stopping:
                    return
                if step.error is not None:
                    await self._recover(step.action, step.error)
        finally:
            self.in_flight = 0
            self.in_flight_since_ms = None

    async def _send(self, part: BatchPart) -> WriteOutcome:
        """Send `part` once the connection is open, and return the sink's answer."""
        if not self._connection.is_open:
            await self._connection.opened(self._wake_up)
        if part.attempts:
            self.log.sink.state.counters.retried += 1
        limit_s = self._config.request_timeout
        self.is_writing = True
        self._connection.begin_write()
        try:
            async with deadline(self._clock, limit_s):
                return await self._sink.write(part.batch, Deadline(self._clock, limit_s * ANSWER_SHARE))
        except TimeoutError as error:
            if str(error):
                return error
            return RetryableError(f"no answer within {limit_s:g} s; the outcome is unknown", code="timeout")
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            return error
        except Exception as error:
            return error
        finally:
            self.is_writing = False
            self._written.set()
            self._connection.end_write()

    async def _recover(self, action: Action, error: BaseException) -> None:
        """Take the step that an error asks for before the next attempt."""
        match action:
            case Action.HOLD:
                self._connection.hold(error)
            case Action.RECONNECT:
                self._connection.lost(error)
            case Action.BACK_OFF:
                self._failures += 1
                self._connection.degraded(error)
                asked_s = error.retry_after_s if isinstance(error, RetryableError) else None
                await self._pause(backoff_s(self._config.retry, self._failures, self._random, asked_s))
            case Action.GO_ON:
                self._connection.healthy()

    async def _pause(self, seconds: float) -> None:
        self.next_attempt_ms = self._clock.now_ms() + round(seconds * 1000)
        try:
            await self._clock.sleep(seconds)
        finally:
            self.next_attempt_ms = None
