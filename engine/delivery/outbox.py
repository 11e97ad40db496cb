"""The outbox of one sink: takes chunks for it, and owns its lanes, its connection and its counters.

`Outbox.put` is on the path of every message: it encodes the chunk (once for all sinks), picks the lane and adds to the
journal's open group. Everything else happens once per batch.

- emitted = delivered + buffered + dead_lettered + dropped, at every moment, and on disk in every commit.
- ``waiting_bytes`` is the sum of the stored bytes of records that wait; it is 0 when no record waits.
- `put` takes a chunk as a whole or leaves everything as it was. All that can fail comes before the first change.
- The outbox stays the same object while its sink and its options are replaced; chunks that come meanwhile wait in the
  journal.
"""

from __future__ import annotations

import asyncio
from random import Random

import structlog

from engine.connector import ConnectorConfig, Sink
from engine.delivery.admission import Admission
from engine.delivery.barrier import Barriers
from engine.delivery.connection import SinkConnection
from engine.delivery.dead_letter import new_letter
from engine.delivery.journal import CommitHold, Journal, LaneLog, PlacedChunk, SinkLog, StoredLetter
from engine.delivery.lane import Lane
from engine.delivery.notice import Notice
from engine.delivery.progress import Settlement, text_of
from engine.delivery.spread import Spread
from engine.delivery.status import SinkStatus
from engine.delivery.unstorable import UnstorableRow, separate, unstorable_letter
from engine.delivery.waiting import WakeUp, deadline, is_cancelled
from engine.model.metrics import SinkCounters
from engine.model.record import Chunk
from engine.service.clock import Clock
from engine.service.tasks import Tasks

log = structlog.get_logger()

CLOSE_S_MIN = 0.5
"""Time for closing a sink whose writes have used up the time to stop."""


class Outbox:
    """The delivery to one sink."""

    def __init__(self, sink_id: str, *, journal: Journal, clock: Clock, random: Random) -> None:
        self.sink_id = sink_id
        self.refusing = False
        """Whether new records should be refused: the buffer is full, or the journal cannot be written."""
        self._journal = journal
        self._clock = clock
        self._random = random
        self._log: SinkLog = journal.sink(sink_id)
        self._state = self._log.state
        self.counters: SinkCounters = self._state.counters
        self._lanes: dict[int, Lane] = {}
        self._logs: list[LaneLog] = []
        self._tasks = Tasks(f"sink {sink_id}")
        self._drained = WakeUp(clock)
        self._barriers = Barriers(self._log, journal)
        self._dead_letters = Notice(clock, "warning", "new dead letters", sink=sink_id)
        self._unstorable = Notice(clock, "error", "rows cannot be stored and became dead letters", sink=sink_id)
        self._not_taken = Notice(clock, "error", "rows were not taken and are not acknowledged", sink=sink_id)
        self._not_applied = Notice(clock, "error", "buffer limits could not be applied", sink=sink_id)
        self._open = False

    # On the path of every message

    def put(self, chunk: Chunk) -> bool:
        """Take `chunk` for delivery, and return whether it was taken. Never blocks, and never raises, whatever a row
        holds and whatever fails beneath.

        True: each of its rows stands in the journal's open group, or became a dead letter in it, or was dropped and
        counted where the buffer is full and ``when_full`` says so. It is safe once the group's hold is done.

        False: nothing of it was taken or counted, and lanes, counters and group are as they were. It must not be
        acknowledged. This takes a failure that is not the row's: no memory, no event loop, an error in this program.
        """
        try:
            size = len(chunk.encode())
            state = self._state
            if self._is_plain and state.waiting_bytes + size <= self._full_bytes:
                rows = len(chunk.rows)
                self._logs[chunk.lane_hash % self._lane_count].append(chunk, rows, size)
                # `append` takes all or nothing, and nothing is called after it, so that the counters fit it always.
                self.counters.emitted += rows
                state.waiting_bytes += size
                return True
            return self._put_carefully(chunk)
        except Exception:
            # Nothing has been taken. The careful way finds rows that cannot be stored, and logs any other failure.
            try:
                return self._put_carefully(chunk)
            except Exception:
                return False

    def drop(self, count: int) -> None:
        """Count records that are dropped because the buffer is full and no sender can be refused (QoS 0, events). Never
        raises."""
        self.counters.emitted += count
        self.counters.dropped_queue_full += count
        try:
            self._journal.touch(self._log)
        except Exception as error:
            self._not_applied.add(count, error)

    def _put_carefully(self, chunk: Chunk) -> bool:
        """Put where anything is unusual: a lane key, a limit of records, a full buffer, a row that cannot be stored."""
        is_taken = False
        try:
            unstorable = self._take(chunk)
            is_taken = True
            if unstorable:
                self._unstorable.add(len(unstorable), unstorable[0].error)
            if self._admission.when_full == "drop_oldest" and self._admission.is_full():
                self._drop_oldest()
            self._update_refusing()
        except Exception as error:
            (self._not_applied if is_taken else self._not_taken).add(len(chunk.rows), error)
        return is_taken

    def _take(self, chunk: Chunk) -> list[UnstorableRow]:
        """Add `chunk` to the open group and count it; return the rows that became dead letters. If it raises,
        nothing has changed."""
        storable, unstorable = separate(chunk)
        chunks = [placed for item in storable for placed in self._place(item)]
        rows, size = sum([placed.rows for placed in chunks]), sum([placed.size for placed in chunks])
        is_dropped = self._admission.when_full == "drop_newest" and bool(rows) and self._admission.is_full(rows, size)
        now_ms = self._clock.now_ms()
        letters = [unstorable_letter(self._log, row, now_ms) for row in unstorable]
        dead, dropped = len(letters), rows if is_dropped else 0
        if dead or dropped:
            self._journal.touch(self._log)
        self._journal.group.add(() if is_dropped else chunks, letters=letters)
        # As in `put`: nothing is called from here on.
        self.counters.emitted += rows + dead
        self.counters.dead_lettered += dead
        self.counters.dropped_newest += dropped
        if not is_dropped:
            self._state.waiting_bytes += size
        return unstorable

    def _place(self, chunk: Chunk) -> list[PlacedChunk]:
        """Divide `chunk` among lanes."""
        return [
            PlacedChunk(self._logs[number], part, len(part.rows), len(part.encode()))
            for number, part in self._spread.split(chunk)
        ]

    def requeue(self, letters: list[StoredLetter]) -> CommitHold:
        """Put dead letters, each with a record, into their lanes again as new records, whatever the buffer's limits."""
        counters, count = self.counters, len(letters)

        def undo() -> None:
            counters.dead_lettered += count
            counters.dropped_unwritten -= count

        chunks = [placed for letter in letters if letter.record is not None for placed in self._place(letter.record)]
        size = sum([placed.size for placed in chunks])
        self._journal.touch(self._log)
        self._journal.group.add(chunks, deleted_letters=[letter.id for letter in letters], undo=(undo,))
        counters.dead_lettered -= count
        self._state.waiting_bytes += size
        return self._journal.group.hold

    def _update_refusing(self) -> None:
        is_closed = self._journal.failing is not None or not self._open
        self.refusing = is_closed or self._admission.is_refusing(self.refusing)

    def _drop_oldest(self) -> None:
        """Drop the records that have waited longest until there is room. An exception can leave it anywhere: the
        records dropped so far are counted, and the others are dropped with the next chunk."""
        self._journal.touch(self._log)
        rows, row_bytes = self._admission.excess()
        while rows > 0:
            lanes = [lane for lane in self._lanes.values() if lane.droppable]
            if not lanes:
                break
            lane = min(lanes, key=lambda lane: lane.oldest_ms or 0)
            dropped = min(rows, lane.droppable)
            size = self._share(dropped, dropped * row_bytes)
            lane.drop_oldest(dropped)
            # As in `put`: nothing is called until it is counted.
            self.counters.dropped_oldest += dropped
            self._state.waiting_bytes -= size
            self._state.settled_bytes += size
            rows -= dropped
        if self._barriers.exist:
            self._barriers.lift(self._lanes)
        if not self.counters.buffered:
            self._drained.set()

    def _share(self, rows: int, size: int) -> int:
        """Return how many of the waiting bytes go with `rows` records of about `size` bytes: all with the last ones."""
        waiting = self._state.waiting_bytes
        return waiting if self.counters.buffered <= rows else min(size, waiting)

    # What lanes report

    def settle(self, lane: Lane, settled: Settlement, size: int) -> None:
        """Move the cursor of `lane` and count its records. Cursor, counters and dead letters go into one commit."""
        counters, state = self.counters, lane.log.state
        lost = max(settled.through - state.cursor - settled.rows, 0)
        if settled.given_up:
            now_ms = self._clock.now_ms()
            for record in settled.given_up:
                self._journal.add_letter(self._log, new_letter(self._log, record, now_ms))
                counters.dead_lettered += 1
            self._dead_letters.add(len(settled.given_up), settled.given_up[0].error)
        counters.delivered += settled.delivered
        counters.deduplicated += settled.deduplicated
        counters.batches += bool(settled.delivered)
        counters.dropped_corrupted += lost
        state.cursor = settled.through
        if not lane.in_flight:
            state.cursor = max(state.cursor, lane.dropped_through)
        size = self._share(0, size)
        self._state.waiting_bytes -= size
        self._state.settled_bytes += size
        self._journal.touch(self._log)
        if self.refusing:
            self._update_refusing()
        if self._barriers.exist:
            self._barriers.lift(self._lanes)
        if not counters.buffered:
            self._drained.set()

    # Life

    def start(self, sink: Sink, config: ConnectorConfig) -> None:
        """Deliver to `sink`, its backlog first. Raise `ConfigError` for a wrong lane key."""
        self._configure(config)
        self._reconcile()
        self._sink = sink
        self._connection = SinkConnection(self.sink_id, sink, config, self._clock, self._random)
        self._lanes = {log.state.number: self._make_lane(log, sink) for log in self._active_logs()}
        self._open = True
        self._barriers.lift(self._lanes)
        self._update_refusing()
        self._tasks.spawn(self._connection.run(), "connection")
        for number, lane in self._lanes.items():
            self._tasks.spawn(lane.run(), f"lane {number}")

    async def stop(self, deadline_s: float) -> None:
        """Let the writes under way end, within `deadline_s`; then close the sink."""
        await self._halt(deadline_s)
        self._connection.stopped()
        self._open = False
        self._update_refusing()

    async def replace(self, sink: Sink, config: ConnectorConfig) -> None:
        """Deliver to `sink` from now on."""
        Spread(config.lanes, config.lane_key)
        await self._halt(config.request_timeout)
        self.start(sink, config)

    def journal_changed(self) -> None:
        """Refuse new records while the journal cannot be written."""
        self._update_refusing()
        self._barriers.lift(self._lanes)

    async def drained(self) -> None:
        """Wait until no record waits."""
        while self.counters.buffered:
            await self._drained.wait()

    def status(self) -> SinkStatus:
        """Return the state of the sink."""
        lanes, connection = self._lanes.values(), self._connection
        attempts = [lane.next_attempt_ms for lane in lanes if lane.next_attempt_ms is not None]
        return SinkStatus(
            sink_id=self.sink_id,
            state=connection.state,
            reason=connection.reason,
            since_ms=connection.since_ms,
            counters=self.counters,
            buffered=self.counters.buffered,
            buffered_bytes=self._state.waiting_bytes,
            oldest_ms=min((lane.oldest_ms for lane in lanes if lane.oldest_ms is not None), default=None),
            in_flight=sum(lane.in_flight for lane in lanes),
            dead_letters=self.counters.dead_lettered,
            refusing=self.refusing,
            last_error=connection.last_error,
            next_attempt_ms=connection.next_attempt_ms or min(attempts, default=None),
        )

    def _configure(self, config: ConnectorConfig) -> None:
        spread = Spread(config.lanes, config.lane_key)
        self._config = config
        self._spread = spread
        self._lane_count = config.lanes
        self._logs = [self._log.lane(number) for number in range(config.lanes)]
        self._is_plain = spread.by_client and not config.buffer.max_events
        self._admission = Admission(config.buffer, self._log)
        self._full_bytes = config.buffer.max_bytes
        self._log.retain(config.buffer.retain, config.buffer.retain_bytes)
        if spread.name != self._state.spread:
            self._barriers.add()
            self._state.spread = spread.name
            self._journal.touch(self._log)

    def _reconcile(self) -> None:
        """Correct the counters by the records in the lanes. They differ after damage, and after a crash that undid
        drops: the cursor waited for a batch in flight, and stands before records that were counted as dropped."""
        waiting = sum(log.waiting for log in self._log.lanes.values())
        surplus = waiting - self.counters.buffered
        if surplus > 0:
            undone = min(surplus, self.counters.dropped_oldest)
            self.counters.dropped_oldest -= undone
            self.counters.emitted += surplus - undone
        elif surplus < 0:
            self.counters.dropped_corrupted -= surplus

    def _active_logs(self) -> list[LaneLog]:
        """Return the lanes of this configuration, and older ones in which records wait."""
        return [log for log in self._log.lanes.values() if log.state.number < self._lane_count or log.waiting]

    def _make_lane(self, log: LaneLog, sink: Sink) -> Lane:
        return Lane(
            log,
            receiver=self,
            journal=self._journal,
            connection=self._connection,
            sink=sink,
            config=self._config,
            clock=self._clock,
            random=self._random,
        )

    async def _halt(self, deadline_s: float) -> None:
        """End all tasks. Writes under way may end within `deadline_s`; later their batches are delivered again."""
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
                log.warning("sink did not answer in time; its batch is delivered again", sink=self.sink_id)
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
            log.warning("sink could not be closed", sink=self.sink_id, reason=text_of(error))
