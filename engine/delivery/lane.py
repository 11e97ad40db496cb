"""One lane of a sink: takes what waits for it, in order, one batch at a time, until the batch is settled."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Protocol

import structlog

from engine.connector import ANSWER_SHARE, ConnectorConfig, Deadline, Sink
from engine.delivery.journal import Journal, LaneLog, Segment
from engine.delivery.link import Link
from engine.delivery.queue import LaneQueue, Taken
from engine.delivery.retry import backoff_s
from engine.delivery.waiting import Bell, deadline, is_cancelled
from engine.delivery.work import Action, Outcome, Part, Settled, Work
from engine.errors import JournalError, RetryableError
from engine.service.clock import Clock

log = structlog.get_logger()

READ_BYTES = 512 << 10
"""How much of a backlog is read at a time: some thousand records."""

MEMORY_PER_BYTE = 8
"""What a stored byte takes in memory, as Python objects: 6 to 8, measured with rows of three to nine columns."""

NO_LIMIT = 1 << 62


class Account(Protocol):
    """Whom a lane tells what it has done."""

    def settle(self, lane: Lane, settled: Settled, size: int) -> None:
        """`settled` needs no further attempt; it stood for `size` stored bytes."""


class Lane:
    """Delivers the records of `log` through `link`. Its state is what is in memory; the journal has the rest."""

    def __init__(
        self,
        log: LaneLog,
        *,
        account: Account,
        journal: Journal,
        link: Link,
        sink: Sink,
        config: ConnectorConfig,
        clock: Clock,
        random: Random,
    ) -> None:
        self.log = log
        self.number = log.state.number
        self.in_flight = 0
        self.in_flight_since_ms: int | None = None
        """When the oldest message of the batch in flight came."""
        self.next_attempt_ms: int | None = None
        self.limit_seq = NO_LIMIT
        """Records above this may not be delivered yet."""
        self.dropped_through = 0
        """Records up to this are dropped as soon as what is in flight before them is settled."""
        self.is_writing = False
        self._account = account
        self._journal = journal
        self._link = link
        self._sink = sink
        self._config = config
        self._clock = clock
        self._random = random
        self._failures = 0
        self._stopping = False
        self._bell = Bell(clock)
        self._idle = False
        self._first_at = 0.0
        self._taken_through = log.state.cursor
        self._written = Bell(clock)
        self._queue = LaneQueue(
            log.sink.name,
            self.number,
            cursor=log.state.cursor,
            committed=log.committed_seq,
            size_max=max(config.buffer.memory_bytes // config.lanes // MEMORY_PER_BYTE, 1),
        )
        log.listener = self

    def committed(self, segment: Segment) -> None:
        """The journal has `segment`: it may be delivered."""
        queue = self._queue
        if not queue.rows:
            self._first_at = self._clock.monotonic()
        queue.committed(segment)
        if self._idle or queue.rows >= self._config.batch.size or queue.size >= self._config.batch.bytes:
            self._bell.ring()

    async def run(self) -> None:
        """Deliver until `stop` was called, or until cancelled: then a batch in flight is delivered again later."""
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
        """Take nothing more; `run` returns once what is being written is settled."""
        self._stopping = True
        self._bell.ring()

    def wake(self) -> None:
        """Something it waits for may have changed."""
        self._bell.ring()

    async def written(self) -> None:
        """Wait until nothing is being written any more."""
        while self.is_writing:
            await self._written.wait()

    @property
    def droppable(self) -> int:
        """Records that wait and are not in flight."""
        return self.log.committed_seq - self._taken_through

    def drop_oldest(self, count: int) -> None:
        """Forget the `count` records that would be taken next. The cursor passes them once it gets there. Where it
        raises, nothing has changed."""
        through = self._taken_through + count
        self._queue.skip_to(through, self.log.committed_seq)
        self._taken_through = self.dropped_through = through
        if not self.in_flight:
            self.log.state.cursor = through

    @property
    def oldest_ms(self) -> int | None:
        """When the message came that has waited longest, where that is known."""
        if self.in_flight_since_ms is not None:
            return self.in_flight_since_ms
        first = self._queue.first
        return first.chunks[0].time_ms if first is not None else None

    # Taking

    def _limits(self) -> tuple[int, int, int]:
        batch = self._config.batch
        return batch.size, batch.bytes, self.limit_seq

    def _due_in_s(self) -> float:
        """How long a batch may still fill. What comes from a backlog is never waited for."""
        queue, batch = self._queue, self._config.batch
        if queue.rows >= batch.size or queue.size >= batch.bytes or not queue.rows or self._gap() is not None:
            return 0.0
        return self._first_at + batch.time - self._clock.monotonic()

    def _gap(self) -> tuple[int, int] | None:
        return self._queue.gap(self.log.committed_seq)

    async def _wait(self, due_in_s: float) -> None:
        """Until there may be something to take, for `due_in_s` at most where that is more than 0."""
        queue = self._queue
        gap = self._gap()
        if gap is not None and queue.rows < self._config.batch.size and gap[0] <= self.limit_seq:
            await self._read(*gap)
            return
        if gap is None and not queue.rows and self._taken_through < self.log.committed_seq:
            # All has been read, and the last records were not there.
            self._taken_through = self.log.committed_seq
            self._account.settle(self, Settled(self._taken_through), 0)
        self._idle = not queue.rows
        try:
            await self._bell.wait(due_in_s if due_in_s > 0 else None)
        finally:
            self._idle = False

    async def _read(self, first: int, last: int) -> None:
        """Read the beginning of the gap."""
        try:
            reading = await self._journal.read_lane(self.log, first, last, READ_BYTES)
        except JournalError as error:
            log.error("a backlog can't be read", sink=self.log.sink.name, lane=self.number, reason=str(error))
            await self._clock.sleep(backoff_s(self._config.retry, 8, self._random))
            return
        if reading.damaged:
            self._journal.put_aside(reading.damaged)
        self._queue.fill(reading.segments, reading.read_to, self.log.committed_seq)

    # Delivering

    async def _deliver(self, taken: Taken) -> None:
        work = Work(taken.batch, self._config.retry)
        size = taken.size
        rows = self.in_flight = len(taken.batch)
        self.in_flight_since_ms = taken.time_ms
        try:
            while (part := work.part) is not None:
                step = work.answer(await self._send(part), self._clock.now_ms())
                if step.settled is not None:
                    share = size * step.settled.rows // rows if work.part is not None else size
                    self.in_flight -= step.settled.rows
                    rows -= step.settled.rows
                    size -= share
                    self._account.settle(self, step.settled, share)
                if step.error is None:
                    self._failures = 0
                    self._link.healthy()
                if self._stopping:
                    return
                if step.error is not None:
                    await self._recover(step.action, step.error)
        finally:
            self.in_flight = 0
            self.in_flight_since_ms = None

    async def _send(self, part: Part) -> Outcome:
        """The sink's answer about `part`, once there is a connection."""
        if not self._link.is_open:
            await self._link.opened(self._bell)
        if part.attempts:
            self.log.sink.state.counters.retried += 1
        limit_s = self._config.request_timeout
        self.is_writing = True
        self._link.begin_write()
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
            self._written.ring()
            self._link.end_write()

    async def _recover(self, action: Action, error: BaseException) -> None:
        """Do what has to be done before the next attempt."""
        match action:
            case Action.HOLD:
                self._link.hold(error)
            case Action.RECONNECT:
                self._link.lost(error)
            case Action.BACK_OFF:
                self._failures += 1
                self._link.degraded(error)
                asked_s = error.retry_after_s if isinstance(error, RetryableError) else None
                await self._pause(backoff_s(self._config.retry, self._failures, self._random, asked_s))
            case Action.GO_ON:
                self._link.healthy()

    async def _pause(self, seconds: float) -> None:
        self.next_attempt_ms = self._clock.now_ms() + round(seconds * 1000)
        try:
            await self._clock.sleep(seconds)
        finally:
            self.next_attempt_ms = None
