"""The journal as the rest of the engine sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from engine.delivery.journal.changes import Changes
from engine.delivery.journal.committer import Committer
from engine.delivery.journal.damage import DamagedError
from engine.delivery.journal.hold import CommitHold
from engine.delivery.journal.letter import NewDeadLetter
from engine.delivery.journal.recovery import Loaded, RecoveryReport
from engine.delivery.journal.repair import Repair
from engine.delivery.journal.retention import Retention
from engine.delivery.journal.segment import DamagedBlock, Reading
from engine.delivery.journal.sqlite.store import SqliteStore
from engine.delivery.journal.sqlite.worker import ThreadWorker, Worker
from engine.delivery.journal.state import LaneLog, SinkLog, SinkState
from engine.errors import JournalError
from engine.model.metrics import RuleCounters
from engine.service.clock import Clock, SystemClock, Timer

log = structlog.get_logger()

T = TypeVar("T")

FLUSH_S = 0.05
"""Longest wait of positions and counters for a commit of records. A crash repeats the deliveries of that
time; a commit of their own every 50 ms costs about 1 % of a core."""

TICK_S = 1.0
"""Interval of storing the counters of rules that only filter, of looking for old records, and of trying a disk again
that refused a commit."""

GROUP_BYTES = 16 << 20
"""Stored bytes that may wait for a slow disk in the open group. As Python objects they take six times that, about
100 MB."""


class Journal:
    """The journal at `path`. Everything but the store's workers belongs to the event loop."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        make_worker: Callable[[str], Worker] = ThreadWorker,
        on_renumbered: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_renumbered` is called at the start, off the loop, where records may get numbers given before."""
        self.path = path
        self.clock = clock or SystemClock()
        self.recovery = RecoveryReport()
        """The report of the last start or repair."""
        self.corrupted = 0
        """Blocks found damaged since the start."""
        self.sinks: dict[str, SinkLog] = {}
        """All sinks that the journal knows, those included that are no longer configured."""
        self.rules: dict[str, RuleCounters] = {}
        """The counters of all rules that ever ran."""
        self.store = SqliteStore(path, make_worker, on_renumbered)
        self._changes = Changes(self.rules)
        self._committer = Committer(self.store, self._changes, Retention(self.sinks), self.clock)
        self.group = self._committer.group
        self._repair = Repair(self.store, self._committer, self.clock, self._repaired)
        self._committer.on_damage = self._repair.start
        self._is_running = False
        self._flush_timer: Timer | None = None
        self._tick_timer: Timer | None = None

    # Starting and stopping

    async def start(self) -> RecoveryReport:
        """Open the file, or make it, whatever its state. Raise `JournalError` where it is of a newer format, of another
        application, or cannot be opened."""
        loaded = await self.store.open(self.clock.now_ms())
        self._adopt(loaded)
        self._is_running = True
        self._committer.open()
        self._tick_timer = self.clock.call_later(TICK_S, self._tick)
        return loaded.report

    async def stop(self) -> None:
        """Write all changes, mark the file as closed in order, and close it. Fine twice, or before `start`."""
        if not self._is_running:
            return
        try:
            await self.flush()
        except JournalError as error:
            log.error("the journal could not be flushed", reason=str(error))
        await self._halt()
        await self.store.close()

    async def abandon(self) -> None:
        """Close the file as it is, as the end of the process would."""
        await self._halt()
        await self.store.abandon()

    async def _halt(self) -> None:
        self._is_running = False
        self._committer.close()
        await self._repair.finished()
        for timer in (self._tick_timer, self._flush_timer):
            if timer is not None:
                timer.cancel()

    def _adopt(self, loaded: Loaded) -> None:
        for sink in loaded.sinks:
            self.sinks[sink.name] = SinkLog(sink.id, sink.name, sink.state, self.group.enter, sink.trimmed_bytes)
        self.rules.update(loaded.rules)
        self._changes.mark_loaded()
        self.recovery = loaded.report
        self.corrupted = loaded.report.lost_blocks

    # Sinks and rules

    def sink(self, name: str) -> SinkLog:
        """Return the part of the sink of that name, made when it is new."""
        sink = self.sinks.get(name)
        if sink is None:
            sink_id = max((other.id for other in self.sinks.values()), default=0) + 1
            sink = self.sinks[name] = SinkLog(sink_id, name, SinkState(), self.group.enter)
            self.touch(sink)
        return sink

    def rule(self, name: str) -> RuleCounters:
        """Return the counters of a rule; the rule counts in them at any time."""
        counters = self.rules.get(name)
        if counters is None:
            counters = self.rules[name] = RuleCounters()
        return counters

    # Writing

    @property
    def failing(self) -> str | None:
        """Why nothing can be written at present."""
        return self._committer.failing

    @property
    def commits(self) -> int:
        """Commits since the start."""
        return self._committer.commits

    def on_failing(self, callback: Callable[[], None] | None) -> None:
        """Have `callback` called whenever `failing` changes."""
        self._committer.on_failing = callback

    def hold(self) -> CommitHold:
        """Return the hold of the group that contains everything put so far."""
        if not self.group.is_empty:
            return self.group.hold
        return self._committer.under_way or _DONE

    def pressure(self) -> CommitHold | None:
        """Return the hold to wait for before more is put, even without acknowledgements; None as long as the disk keeps
        up."""
        return self.group.hold if self.group.is_paused and self.group.fresh_bytes > GROUP_BYTES else None

    def touch(self, sink: SinkLog) -> None:
        """Store the positions and counters of `sink` soon, because they have changed."""
        self._changes.touch(sink)
        if self._flush_timer is None and self._is_running:
            self._flush_timer = self.clock.call_later(FLUSH_S, self._flush_due)

    def add_letter(self, sink: SinkLog, letter: NewDeadLetter) -> None:
        """Add a dead letter of `sink` to the open group."""
        self.touch(sink)
        self.group.letters.append(letter)

    def delete_letters(self, sink: SinkLog, letter_ids: Sequence[int], undo: Callable[[], None]) -> CommitHold:
        """Delete dead letters of `sink` with the open group; `undo` is called should it fail."""
        self.touch(sink)
        self.group.add((), deleted_letters=letter_ids, undo=(undo,))
        return self.group.hold

    def quarantine(self, damaged: Sequence[DamagedBlock]) -> None:
        """Move blocks that were found damaged out of the way, with the open group."""
        self.corrupted += len(damaged)
        for block in damaged:
            log.error("damaged block quarantined", block=block.id, reason=block.reason)
        self.group.quarantined.extend(damaged)
        self.group.schedule()

    async def flush(self) -> None:
        """Write everything that has changed so far. Raise `JournalError` when that fails."""
        while self._committer.under_way is not None or self._repair.is_running:
            if self._committer.under_way is not None:
                await self._committer.under_way.settled()
            else:
                await self._repair.finished()
        hold = self.group.hold
        self._committer.commit(everything=True)
        if hold.done or self._committer.under_way is not None:
            await hold.wait()

    # Reading

    async def read_lane(self, lane: LaneLog, from_seq: int, to_seq: int, size: int) -> Reading:
        """Return the records of `lane` from `from_seq` up to `to_seq`: at least a block, then until `size` bytes are
        read."""
        return await self.read(lambda store: store.read_lane(lane.key, from_seq, to_seq, size))

    async def read(self, job: Callable[[SqliteStore], Awaitable[T]]) -> T:
        """Run `job`, which only reads, beside the writer; repair the file and run it again where it finds damage. Raise
        `JournalError` where the file cannot be read."""
        for _ in range(2):
            if not self._is_running:
                raise JournalError("the journal is not open")
            await self._repair.finished()
            try:
                return await job(self.store)
            except DamagedError as error:
                self._repair.start(str(error))
        raise JournalError("the journal can't be read, though it was repaired")

    def _repaired(self, report: RecoveryReport | None) -> None:
        if report is not None:
            self.recovery = report
            self.corrupted += report.lost_blocks
            self._changes.touch_all(self.sinks.values())
            for sink in self.sinks.values():
                sink.trimmed_bytes = 0
        if self._is_running:
            self._committer.open()
            self._committer.commit(everything=True)

    # Timers

    def _flush_due(self) -> None:
        self._flush_timer = None
        self._committer.commit()

    def _tick(self) -> None:
        self._tick_timer = self.clock.call_later(TICK_S, self._tick)
        self._committer.commit(everything=True)
        if not self.group.is_paused:
            # Nothing is being written, so that it delays no commit.
            self.store.give_back_space(self._gave_back)

    def _gave_back(self, done: None, error: BaseException | None) -> None:
        if error is not None and self.failing is None:
            log.warning("free pages could not be given back", reason=str(error))


_DONE = CommitHold()
_DONE.complete()
