"""What waits for one sink, and what is done about it: lanes, limits, counters.

`Outbox.put` is on the path of every message: it encodes the chunk (once for all sinks), picks the lane and adds to
the journal's open group. Everything else happens per batch.

When the number of lanes or the lane key changes, a key may move to another lane while older records of it still wait
in its old one. Each such change puts a barrier: no lane goes on to records that came after it before every lane has
settled those that came before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import structlog

from engine.connector import ConnectorConfig, Sink
from engine.delivery.journal import Journal, LaneLog, SinkLog, Ticket
from engine.delivery.lane import NO_LIMIT, Lane
from engine.delivery.letter import StoredLetter, letter_row, unstorable_chunk, unstorable_row
from engine.delivery.link import Link
from engine.delivery.spread import Spread
from engine.delivery.status import SinkStatus
from engine.delivery.waiting import Bell, deadline, is_cancelled
from engine.delivery.work import DeadLetter, Settled, text_of
from engine.model.metrics import SinkCounters
from engine.model.record import Chunk
from engine.service.clock import Clock
from engine.service.tasks import Tasks

log = structlog.get_logger()

REFUSING_UNTIL = 0.9
"""A full buffer refuses until it has sunk to this part of its limit."""

TELL_EVERY_S = 10.0
"""How often dead letters are spoken of at the most: a device may send nothing but bad records."""

CLOSE_S_MIN = 0.5
"""How long a sink may take to close when its writes have used up the time to stop."""


class Outbox:
    """The delivery of one sink. It stays the same object when the sink or its options are replaced."""

    def __init__(self, sink_id: str, *, journal: Journal, clock: Clock, random: Random) -> None:
        self.sink_id = sink_id
        self.refusing = False
        """Whether what comes now should be refused: the buffer is full, or the journal can't be written."""
        self._journal = journal
        self._clock = clock
        self._random = random
        self._log: SinkLog = journal.sink(sink_id)
        self._state = self._log.state
        self.counters: SinkCounters = self._state.counters
        self._lanes: dict[int, Lane] = {}
        self._logs: list[LaneLog] = []
        self._tasks = Tasks(f"sink {sink_id}")
        self._drained = Bell(clock)
        self._untold = 0
        """Dead letters that nothing was said of."""
        self._tell_at = 0.0
        self._open = False

    # On the path of every message

    def put(self, chunk: Chunk) -> None:
        """Take `chunk` for delivery; it is safe once the journal's ticket is done. Never blocks, never raises."""
        try:
            size = len(chunk.encode())
        except ValueError as error:
            self._put_storable(chunk, error)
            return
        if self._is_plain and self._state.waiting_bytes + size <= self._full_bytes:
            rows = len(chunk.rows)
            self._logs[chunk.lane_hash % self._lane_count].append(chunk, size)
            self.counters.emitted += rows
            self._state.waiting_bytes += size
        else:
            self._put_carefully(chunk, size)

    def drop(self, count: int) -> None:
        """Count records that are dropped because the buffer is full and nobody can be told (QoS 0, events)."""
        self.counters.emitted += count
        self.counters.dropped_queue_full += count
        self._journal.touch(self._log)

    def _put_carefully(self, chunk: Chunk, size: int) -> None:
        """Put with everything that is not usual: a lane key, a limit of records, a buffer that is full."""
        rows = len(chunk.rows)
        is_full = self._is_full(rows, size)
        self.counters.emitted += rows
        if is_full and self._config.buffer.when_full == "drop_newest":
            self.counters.dropped_newest += rows
            self._journal.touch(self._log)
            return
        self._append(chunk)
        if self._config.buffer.when_full == "drop_oldest" and self._is_full():
            self._drop_oldest()
        self._update_refusing()

    def _append(self, chunk: Chunk) -> None:
        for number, part in self._spread.split(chunk):
            size = len(part.encode())
            self._logs[number].append(part, size)
            self._state.waiting_bytes += size

    def _put_storable(self, chunk: Chunk, error: ValueError) -> None:
        """Put what can be stored of `chunk`, and a dead letter for what can't."""
        if len(chunk) > 1:
            for index in range(len(chunk)):
                self.put(chunk.part(index, index + 1))
            return
        log.error("a row can't be stored", sink=self.sink_id, rule=chunk.rule_id, reason=str(error))
        shown = unstorable_chunk(chunk)
        self.counters.emitted += 1
        self.counters.dead_lettered += 1
        self._journal.bury(self._log, unstorable_row(self._log, shown, str(error), self._clock.now_ms()))

    def revive(self, letters: list[StoredLetter]) -> Ticket:
        """Put dead letters into their lanes again, as new records; limits are not asked. Each has a record."""
        counters, count = self.counters, len(letters)

        def undo() -> None:
            counters.dead_lettered += count
            counters.dropped_unwritten -= count

        counters.dead_lettered -= count
        for letter in letters:
            assert letter.record is not None
            self._append(letter.record)
        return self._journal.forget(self._log, [letter.id for letter in letters], undo)

    # Limits

    def _is_full(self, rows: int = 0, size: int = 0) -> bool:
        buffer = self._config.buffer
        if self._state.waiting_bytes + size > buffer.max_bytes:
            return True
        return bool(buffer.max_events) and self.counters.buffered + rows > buffer.max_events

    def _update_refusing(self) -> None:
        buffer = self._config.buffer
        if self._journal.failing is not None or not self._open:
            self.refusing = True
        elif buffer.when_full != "refuse":
            self.refusing = False
        elif self.refusing:
            self.refusing = self._state.waiting_bytes > REFUSING_UNTIL * buffer.max_bytes or (
                bool(buffer.max_events) and self.counters.buffered > REFUSING_UNTIL * buffer.max_events
            )
        else:
            self.refusing = self._state.waiting_bytes >= buffer.max_bytes or (
                bool(buffer.max_events) and self.counters.buffered >= buffer.max_events
            )

    def _drop_oldest(self) -> None:
        """Drop what has waited longest until there is room."""
        buffer = self._config.buffer
        size = max(self._state.waiting_bytes // max(self.counters.buffered, 1), 1)
        rows = (self._state.waiting_bytes - buffer.max_bytes) // size + 1
        if buffer.max_events:
            rows = max(rows, self.counters.buffered - buffer.max_events)
        while rows > 0:
            lanes = [lane for lane in self._lanes.values() if lane.droppable]
            if not lanes:
                break
            lane = min(lanes, key=lambda lane: lane.oldest_ms or 0)
            dropped = min(rows, lane.droppable)
            lane.drop_oldest(dropped)
            rows -= dropped
            self.counters.dropped_oldest += dropped
            self._release(dropped * size)
        if self._state.barriers:
            self._lift_barriers()

    # What lanes report

    def settle(self, lane: Lane, settled: Settled, size: int) -> None:
        """Take note of what a lane has done: cursor, counters and dead letters go into the same commit."""
        counters, state = self.counters, lane.log.state
        lost = settled.through - state.cursor - settled.rows
        counters.delivered += settled.delivered
        counters.deduplicated += settled.deduplicated
        counters.batches += bool(settled.delivered)
        counters.dropped_corrupted += max(lost, 0)
        for letter in settled.letters:
            counters.dead_lettered += 1
            self._journal.bury(self._log, letter_row(self._log, letter, self._clock.now_ms()))
        if settled.letters:
            self._tell(settled.letters)
        state.cursor = settled.through
        if not lane.in_flight:
            state.cursor = max(state.cursor, lane.dropped_through)
        self._release(size)
        if self._state.barriers:
            self._lift_barriers()

    def _tell(self, letters: Sequence[DeadLetter]) -> None:
        """Say that there are new dead letters, with those that nothing was said of."""
        self._untold += len(letters)
        now = self._clock.monotonic()
        if now >= self._tell_at:
            log.warning("new dead letters", sink=self.sink_id, count=self._untold, reason=text_of(letters[0].error))
            self._untold, self._tell_at = 0, now + TELL_EVERY_S

    def _release(self, size: int) -> None:
        """Account for `size` bytes that no longer wait."""
        state = self._state
        if not self.counters.buffered:
            size = state.waiting_bytes
        state.waiting_bytes = max(state.waiting_bytes - size, 0)
        state.settled_bytes += size
        self._journal.touch(self._log)
        if self.refusing:
            self._update_refusing()
        if not self.counters.buffered:
            self._drained.ring()

    # Barriers

    def _set_barrier(self) -> None:
        """Let what waits now be settled before anything that comes from here on."""
        waiting = {log.state.number: log.state.next_seq - 1 + log.fresh_rows for log in self._log.lanes.values()}
        if any(through > self._log.lanes[number].state.cursor for number, through in waiting.items()):
            self._state.barriers.append(waiting)

    def _lift_barriers(self) -> None:
        """Go on past barriers that every lane has reached."""
        barriers = self._state.barriers
        while barriers and all(self._has_reached(number, through) for number, through in barriers[0].items()):
            del barriers[0]
            self._journal.touch(self._log)
        for number, lane in self._lanes.items():
            limit = barriers[0].get(number, 0) if barriers else NO_LIMIT
            if limit != lane.limit_seq:
                lane.limit_seq = limit
                lane.wake()

    def _has_reached(self, number: int, through: int) -> bool:
        lane = self._log.lanes[number]
        cursor = lane.state.cursor
        return cursor >= through or (cursor >= lane.state.next_seq - 1 and not lane.fresh)

    # Life

    def start(self, sink: Sink, config: ConnectorConfig) -> None:
        """Deliver to `sink`, beginning with what is left from before. Raises `ConfigError` for a wrong lane key."""
        self._configure(config)
        self._reconcile()
        self._sink = sink
        self._link = Link(self.sink_id, sink, config, self._clock, self._random)
        self._lanes = {log.state.number: self._make_lane(log, sink) for log in self._active_logs()}
        self._open = True
        self._lift_barriers()
        self._update_refusing()
        self._tasks.spawn(self._link.run(), "link")
        for number, lane in self._lanes.items():
            self._tasks.spawn(lane.run(), f"lane {number}")

    async def stop(self, deadline_s: float) -> None:
        """Let what is being written end, within `deadline_s`; then close the sink. What waits, waits."""
        await self._halt(deadline_s)
        self._link.stopped()
        self._open = False
        self._update_refusing()

    async def replace(self, sink: Sink, config: ConnectorConfig) -> None:
        """Deliver to `sink` from now on. What comes meanwhile waits in the journal like everything else."""
        Spread(config.lanes, config.lane_key)
        await self._halt(config.request_timeout)
        self.start(sink, config)

    def journal_changed(self) -> None:
        """The journal can be written again, or no longer."""
        self._update_refusing()
        self._lift_barriers()

    async def drained(self) -> None:
        """Wait until nothing waits."""
        while self.counters.buffered:
            await self._drained.wait()

    def status(self) -> SinkStatus:
        """How it stands."""
        lanes, link = self._lanes.values(), self._link
        attempts = [lane.next_attempt_ms for lane in lanes if lane.next_attempt_ms is not None]
        return SinkStatus(
            sink_id=self.sink_id,
            state=link.state,
            reason=link.reason,
            since_ms=link.since_ms,
            counters=self.counters,
            buffered=self.counters.buffered,
            buffered_bytes=self._state.waiting_bytes,
            oldest_ms=min((lane.oldest_ms for lane in lanes if lane.oldest_ms is not None), default=None),
            in_flight=sum(lane.in_flight for lane in lanes),
            dead_letters=self.counters.dead_lettered,
            refusing=self.refusing,
            last_error=link.last_error,
            next_attempt_ms=link.next_attempt_ms or min(attempts, default=None),
        )

    def _configure(self, config: ConnectorConfig) -> None:
        spread = Spread(config.lanes, config.lane_key)
        self._config = config
        self._spread = spread
        self._lane_count = config.lanes
        self._logs = [self._log.lane(number) for number in range(config.lanes)]
        self._is_plain = spread.by_client and not config.buffer.max_events
        self._full_bytes = config.buffer.max_bytes
        self._log.retain(config.buffer.retain, config.buffer.retain_bytes)
        if spread.name != self._state.spread:
            self._set_barrier()
            self._state.spread = spread.name
            self._journal.touch(self._log)

    def _reconcile(self) -> None:
        """Make the counters fit what is really there, should a crash or damage have come between them."""
        waiting = sum(log.waiting for log in self._log.lanes.values())
        surplus = waiting - self.counters.buffered
        if surplus > 0:
            revived = min(surplus, self.counters.dropped_oldest)
            self.counters.dropped_oldest -= revived
            self.counters.emitted += surplus - revived
        elif surplus < 0:
            self.counters.dropped_corrupted -= surplus

    def _active_logs(self) -> list[LaneLog]:
        """The lanes of today, and older ones in which something waits."""
        return [log for log in self._log.lanes.values() if log.state.number < self._lane_count or log.waiting]

    def _make_lane(self, log: LaneLog, sink: Sink) -> Lane:
        return Lane(
            log,
            account=self,
            journal=self._journal,
            link=self._link,
            sink=sink,
            config=self._config,
            clock=self._clock,
            random=self._random,
        )

    async def _halt(self, deadline_s: float) -> None:
        """End all tasks. Batches in flight may end within `deadline_s`; then they will be delivered again."""
        lanes = list(self._lanes.values())
        until = self._clock.monotonic() + deadline_s
        for lane in lanes:
            lane.stop()
        writing = [lane.written() for lane in lanes if lane.is_writing]
        if writing:
            try:
                async with deadline(self._clock, deadline_s):
                    await asyncio.gather(*writing)
            except TimeoutError:
                log.warning("a sink did not answer in time; its batch is delivered again", sink=self.sink_id)
        await self._tasks.cancel()
        for lane in lanes:
            lane.log.listener = None
        self._lanes = {}
        try:
            async with deadline(self._clock, max(until - self._clock.monotonic(), CLOSE_S_MIN)):
                await self._sink.close()
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled():
                raise
            log.warning("a sink could not be closed", sink=self.sink_id, reason=text_of(error))
