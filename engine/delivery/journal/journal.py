"""The durable queue of all sinks: one SQLite file, one writer thread, one transaction per group commit.

    LaneLog.append()      event loop    chunks of any number of rules, sinks and connections join the open group
    Journal._close()      event loop    the group closes: numbers are given, positions and counters are pictured
    commit.write()        writer        one transaction, one fsync
    Journal._written()    event loop    the ticket is done, lanes get the chunks to deliver them from memory

One commit is under way at a time; while it runs the next group fills, so that groups grow by themselves with the load.
A group stays open while every turn of the event loop brings more who wait for it, for `GATHER_S` at most: that costs
one turn where nobody else comes, and saves up to a quarter of the CPU where many clients have few in flight. A record
reaches its sink only once it is on disk. So no sink ever holds a number that the journal could give to another record
after a crash, and what can't be written was never delivered in part.

When the disk refuses, the group's ticket fails and its records are dropped and counted; nothing of it was or will be
acknowledged. Positions and counters stay and go with the next commit, which is tried every `TICK_S` until it works.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog

from engine.delivery.journal.commit import Commit, write
from engine.delivery.journal.group import OpenGroup
from engine.delivery.journal.opening import (
    Opened,
    RecoveryReport,
    close_in_order,
    is_damage,
    leave_log,
    open_journal,
    rescue,
)
from engine.delivery.journal.reading import Reading, read_lane
from engine.delivery.journal.retention import Trim, Trimmed, give_back
from engine.delivery.journal.schema import DamagedError, connect
from engine.delivery.journal.seal import seal
from engine.delivery.journal.segment import Segment
from engine.delivery.journal.state import LaneLog, SinkLog, SinkState
from engine.delivery.journal.ticket import Ticket
from engine.delivery.journal.worker import Job, ThreadWorker, Worker, ask
from engine.errors import JournalError
from engine.model.metrics import RuleCounters
from engine.service.clock import Clock, SystemClock, Timer
from engine.service.tasks import Tasks

log = structlog.get_logger()

T = TypeVar("T")

FLUSH_S = 0.05
"""How long positions and counters may wait for a group to travel with."""

TICK_S = 1.0
"""How often rules that only filter are stored, old records are looked for, and a disk that refused is tried again."""

GROUP_BYTES = 16 << 20
"""How much may wait for a disk that is slower than what comes; in memory it takes some six times that."""


class Journal:
    """The journal at `path`. Everything but the two workers belongs to the event loop."""

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
        self.failing: str | None = None
        """Why nothing can be written at present."""
        self.on_failing: Callable[[], None] | None = None
        """Called when `failing` changes."""
        self.recovery = RecoveryReport()
        """What was found when the file was opened, or when it was last repaired."""
        self.commits = 0
        self.corrupted = 0
        """Blocks found damaged since the start."""
        self._make_worker = make_worker
        self._on_renumbered = on_renumbered
        self._sinks: dict[str, SinkLog] = {}
        self._rules: dict[str, RuleCounters] = {}
        self._stored_rules: dict[str, int] = {}
        self._unstored_rules: set[str] = set()
        """Those of a commit that failed: they belong to counters of sinks that go with the next one."""
        self._running = False
        self.group = OpenGroup(self.clock, self._close)
        self._committing: Commit | None = None
        self._flush_timer: Timer | None = None
        self._tick_timer: Timer | None = None
        self._dirty: set[SinkLog] = set()
        self._tasks = Tasks("journal")
        self._repairing = False
        self._repaired = asyncio.Event()

    # Starting and stopping

    async def start(self) -> RecoveryReport:
        """Open the file, or make it; whatever its state, unless it is of a newer format: then `JournalError`."""
        opened = await self._open()
        self._adopt(opened)
        self._start_workers()
        try:
            await ask(self._writer, lambda _: None)
        except sqlite3.Error as error:
            log.warning("the journal can't be written yet", reason=str(error))
        finally:
            opened.db.close()
        self._running = True
        self.group.resume()
        self._tick_timer = self.clock.call_later(TICK_S, self._tick)
        return opened.report

    async def _open(self) -> Opened:
        """Open the file. Cancelled, it first waits until that is over: nobody else may have the file meanwhile."""
        opening = asyncio.get_running_loop().run_in_executor(
            None, open_journal, self.path, self.clock.now_ms(), self._on_renumbered
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait([opening])
            if opening.exception() is None:
                with closing(opening.result().db) as db, suppress(sqlite3.Error):
                    close_in_order(db)
            raise

    async def stop(self) -> None:
        """Write what is pending, mark the file as closed in order, and close it. Fine twice, or before `start`."""
        if not self._running:
            return
        try:
            await self.flush()
        except JournalError as error:
            log.error("the journal could not be flushed", reason=str(error))
        try:
            await ask(self._writer, close_in_order)
        except sqlite3.Error as error:
            log.error("the journal could not be closed in order; nothing in it is lost", reason=str(error))
            await self.abandon()
            leave_log(self.path)
        else:
            await self.abandon()

    async def abandon(self) -> None:
        """Let go of the file as it is, as the end of the process would."""
        self._running = False
        self.group.pause()
        if self._repairing:
            await self._repaired.wait()
        for timer in (self._tick_timer, self._flush_timer):
            if timer is not None:
                timer.cancel()
        await _join(self._reader)
        await _join(self._writer)

    def _adopt(self, opened: Opened) -> None:
        for sink_id, name, state, trimmed in opened.sinks:
            self._sinks[name] = SinkLog(sink_id, name, state, self.group.enter, trimmed)
        self._rules.update(opened.rules)
        self._stored_rules = {name: counters.changes() for name, counters in self._rules.items()}
        self.recovery = opened.report
        self.corrupted = opened.report.lost_blocks

    # What others use

    def sink(self, name: str) -> SinkLog:
        """The part of the sink of that name, made when it is new."""
        sink = self._sinks.get(name)
        if sink is None:
            sink_id = max((other.id for other in self._sinks.values()), default=0) + 1
            sink = self._sinks[name] = SinkLog(sink_id, name, SinkState(), self.group.enter)
            self.touch(sink)
        return sink

    @property
    def sinks(self) -> dict[str, SinkLog]:
        """All sinks the journal knows, those included that no longer are configured."""
        return self._sinks

    def rule(self, name: str) -> RuleCounters:
        """The counters of a rule; whoever holds them may count at any time."""
        counters = self._rules.get(name)
        if counters is None:
            counters = self._rules[name] = RuleCounters()
        return counters

    @property
    def rules(self) -> dict[str, RuleCounters]:
        """The counters of all rules that ever ran."""
        return self._rules

    def ticket(self) -> Ticket:
        """That of the group which holds everything put so far."""
        if not self.group.is_empty:
            return self.group.ticket
        return _DONE if self._committing is None else self._committing.ticket

    def pressure(self) -> Ticket | None:
        """What to wait for before more is put, though nobody asks for safety; None as long as the disk keeps up."""
        if self._committing is None and not self._repairing:
            return None
        return self.group.ticket if self.group.fresh_bytes > GROUP_BYTES else None

    def touch(self, sink: SinkLog) -> None:
        """The positions or counters of `sink` have changed: store them soon."""
        self._dirty.add(sink)
        if self._flush_timer is None and self._running:
            self._flush_timer = self.clock.call_later(FLUSH_S, self._flush_due)

    def bury(self, sink: SinkLog, letter: tuple[Any, ...]) -> None:
        """Add a dead letter (a row of `engine.delivery.journal.commit.LETTER_COLUMNS`) to the open group."""
        self.touch(sink)
        self.group.letters.append(letter)

    def forget(self, sink: SinkLog, letter_ids: list[int], undo: Callable[[], None]) -> Ticket:
        """Delete dead letters with the open group; `undo` is called should it fail."""
        self.touch(sink)
        self.group.add((), forgotten=letter_ids, undo=(undo,))
        return self.group.ticket

    def put_aside(self, damaged: list[tuple[int, str]]) -> None:
        """Take blocks that were found damaged out of the way, with the open group."""
        self.corrupted += len(damaged)
        for block_id, reason in damaged:
            log.error("a damaged block was put aside", block=block_id, reason=reason)
        self.group.damaged.extend(damaged)
        self.group.schedule()

    async def flush(self) -> None:
        """Write all that has changed so far. Raises `JournalError` when that fails."""
        while self._committing is not None or self._repairing:
            if self._committing is not None:
                await self._committing.ticket.settled()
            else:
                await self._repaired.wait()
        ticket = self.group.ticket
        self._close(everything=True)
        if self._committing is not None:
            await ticket.wait()

    async def read_lane(self, lane: LaneLog, from_seq: int, to_seq: int, size: int) -> Reading:
        """What stands in `lane` from `from_seq` up to `to_seq`: at least a block, then until `size` bytes are read."""
        key = lane.key
        return await self.query(lambda db: read_lane(db, key, from_seq, to_seq, size))

    async def query(self, job: Job[T]) -> T:
        """Run `job`, which only reads, beside the writer."""
        for _ in range(2):
            if not self._running:
                raise JournalError("the journal is not open")
            if self._repairing:
                await self._repaired.wait()
            try:
                return await ask(self._reader, job)
            except (sqlite3.Error, DamagedError, UnicodeDecodeError) as error:
                if not is_damage(error):
                    raise JournalError(f"the journal can't be read: {error}") from error
                self._repair_soon(str(error))
        raise JournalError("the journal can't be read, though it was repaired")

    # Damage

    def _repair_soon(self, reason: str) -> None:
        """Replace the file by what can be read of it, as soon as no commit is under way."""
        if not self._repairing:
            self._repairing = True
            self._repaired.clear()
            self._tasks.spawn(self._repair(reason), "repair")

    async def _repair(self, reason: str) -> None:
        try:
            if self._committing is not None:
                await self._committing.ticket.settled()
            await _join(self._reader)
            await _join(self._writer)
            self.recovery = await asyncio.to_thread(rescue, self.path, reason, self.clock.now_ms())
            self.corrupted += self.recovery.lost_blocks
            # What is in memory is newer than what the file held.
            self._dirty |= set(self._sinks.values())
            self._unstored_rules |= self._rules.keys()
            for sink in self._sinks.values():
                sink.trimmed_bytes = 0
        except (OSError, sqlite3.Error) as error:
            log.error("the damaged journal could not be replaced", reason=str(error))
        finally:
            self._start_workers()
            self._repairing = False
            self._repaired.set()
        self._close(everything=True)

    def _start_workers(self) -> None:
        self._writer = self._make_worker("journal-writer")
        self._reader = self._make_worker("journal-reader")
        self._writer.start(lambda: connect(self.path))
        self._reader.start(lambda: connect(self.path))

    # Groups

    def _flush_due(self) -> None:
        self._flush_timer = None
        self._close()

    def _tick(self) -> None:
        self._tick_timer = self.clock.call_later(TICK_S, self._tick)
        self._close(everything=True)
        if self._committing is None and not self._repairing:
            self._writer.submit(give_back, self._gave_back)

    def _close(self, everything: bool = False) -> None:
        """Close the open group and have it written. `everything` includes rules that made no record."""
        self.group.closed()
        if self._committing is not None or not self._running or self._repairing:
            return
        commit = self._picture(everything)
        if commit.is_empty:
            return
        self._committing = commit
        self.group.pause()
        self._writer.submit(lambda db: write(db, commit), self._written)

    def _picture(self, everything: bool) -> Commit:
        """What the open group consists of, with all positions and counters as they are now."""
        commit = self.group.take()
        commit.time_ms = self.clock.now_ms()
        self._dirty.update([entry.lane.sink for entry in commit.entries])
        commit.changed_sinks = self._dirty
        names = self._changed_rules() if everything else self._touched_rules(commit)
        commit.changed_rules = {name: self._rules[name].changes() for name in names}
        commit.sinks = [(sink.id, sink.name, seal(sink.state, sink.id, sink.name)) for sink in self._dirty]
        commit.rules = [(name, seal(self._rules[name], name)) for name in commit.changed_rules]
        commit.trims = [order for sink in self._sinks.values() if (order := self._trim_order(sink, commit, everything))]
        self._dirty = set()
        return commit

    def _touched_rules(self, commit: Commit) -> list[str]:
        names = {chunk.rule_id for entry in commit.entries for chunk in entry.chunks}
        return [name for name in names | self._unstored_rules if name in self._rules]

    def _changed_rules(self) -> list[str]:
        stored, unstored = self._stored_rules, self._unstored_rules
        return [
            name
            for name, counters in self._rules.items()
            if stored.get(name, 0) != counters.changes() or name in unstored
        ]

    def _trim_order(self, sink: SinkLog, commit: Commit, everything: bool) -> Trim | None:
        if sink.retain_ms is None:
            return None
        excess = sink.kept_bytes - sink.retain_bytes
        before_ms = commit.time_ms - sink.retain_ms
        is_due = sink.is_trimming or (everything and sink.oldest_kept_ms < before_ms)
        if excess <= 0 and not (is_due and sink.kept_bytes):
            return None
        cursors = {lane.key: lane.state.cursor for lane in sink.lanes.values()}
        return Trim(sink.id, cursors, before_ms, max(excess, 0))

    def _written(self, trimmed: list[Trimmed] | None, error: BaseException | None) -> None:
        """What the writer answers: the group is on disk, or it is not."""
        commit, self._committing = self._committing, None
        assert commit is not None
        self.group.is_paused = False
        if error is None:
            self._settle(commit, trimmed or [])
        else:
            self._abandon(commit, error)
        commit.ticket.complete(error)
        if is_damage(error):
            self._repair_soon(str(error))
        else:
            self.group.resume()

    def _settle(self, commit: Commit, trimmed: list[Trimmed]) -> None:
        self.commits += 1
        if self.failing is not None:
            log.warning("the journal writes again")
            self._set_failing(None)
        self._stored_rules.update(commit.changed_rules)
        self._unstored_rules.difference_update(commit.changed_rules)
        for done in trimmed:
            self._account(done)
        for entry in commit.entries:
            lane = entry.lane
            lane.committed_seq = entry.seq + entry.rows - 1
            if lane.listener is not None:
                lane.listener.committed(Segment(entry.seq, entry.rows, entry.size, entry.chunks))

    def _account(self, done: Trimmed) -> None:
        for sink in self._sinks.values():
            if sink.id == done.sink_id:
                sink.trimmed_bytes += done.freed_bytes
                sink.oldest_kept_ms = done.oldest_ms or self.clock.now_ms()
                sink.is_trimming = done.unfinished
                if done.unfinished:
                    self.group.schedule()

    def _abandon(self, commit: Commit, error: BaseException) -> None:
        """Nothing of `commit` is on disk: its records are dropped, everything else goes with the next one."""
        if self.failing is None:
            log.error("the journal can't be written; nothing is acknowledged until it can", reason=str(error))
        for entry in commit.entries:
            entry.lane.take_back(entry.seq, entry.rows)
            sink = entry.lane.sink.state
            sink.waiting_bytes -= entry.size
            sink.counters.dropped_unwritten += entry.rows
        self._dirty |= commit.changed_sinks
        self._unstored_rules.update(commit.changed_rules)
        self.group.take_back(commit)
        for undo in commit.undo:
            undo()
        self._set_failing(str(error))

    def _gave_back(self, done: None, error: BaseException | None) -> None:
        if error is not None and self.failing is None:
            log.warning("free pages could not be given back", reason=str(error))

    def _set_failing(self, reason: str | None) -> None:
        self.failing = reason
        if self.on_failing is not None:
            self.on_failing()


async def _join(worker: Worker) -> None:
    await asyncio.to_thread(worker.stop)


_DONE = Ticket()
_DONE.complete()
