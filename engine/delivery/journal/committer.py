"""Group commits: one under way at a time, handed to the writer, and settled or abandoned when the writer answers.

    OpenGroup.add()        event loop    chunks of any number of rules, sinks and connections join the open group
    Committer.commit()     event loop    the group closes: numbers are given, positions and counters are copied
    CommitWriter.write()   writer        one transaction, one fsync
    Committer._answered()  event loop    the hold is done, lanes get the chunks to deliver them from memory

The open group is paused while a commit is under way, and while the committer is closed: before the start, after the
end, and while the file is repaired.

A commit that fails is abandoned. Its records are dropped and counted as ``dropped_unwritten``: they were never
acknowledged, no sink has seen them, and the next records get their numbers. Its positions, counters, dead letters and
quarantine orders are facts, which stay true, and go with the next commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from engine.delivery.journal.changes import Changes
from engine.delivery.journal.commit import Commit
from engine.delivery.journal.damage import DamagedError
from engine.delivery.journal.group import OpenGroup
from engine.delivery.journal.hold import CommitHold
from engine.delivery.journal.retention import Retention, Trimmed
from engine.delivery.journal.segment import Segment
from engine.delivery.journal.sqlite.worker import Answer
from engine.service.clock import Clock

log = structlog.get_logger()


class CommitWriter(Protocol):
    """Writes commits, one at a time; see `SqliteStore`."""

    def write(self, commit: Commit, answer: Answer[list[Trimmed]], /) -> None:
        """Write `commit`, and call `answer` on the event loop once it is on disk or cannot be written."""


class Committer:
    """Closes the open group and has it written."""

    def __init__(self, writer: CommitWriter, changes: Changes, retention: Retention, clock: Clock) -> None:
        self.group = OpenGroup(clock, self.commit)
        self.commits = 0
        self.failing: str | None = None
        """Why nothing can be written at present."""
        self.on_failing: Callable[[], None] | None = None
        """Called when `failing` changes."""
        self.on_damage: Callable[[str], None] = lambda reason: None
        """Called with the reason when the writer finds the file damaged."""
        self._writer = writer
        self._changes = changes
        self._retention = retention
        self._clock = clock
        self._is_open = False
        self._under_way: Commit | None = None

    def open(self) -> None:
        """Write from now on, beginning with the open group."""
        self._is_open = True
        self.group.resume()

    def close(self) -> None:
        """Write nothing more until `open`, but for the commit under way."""
        self._is_open = False
        self.group.pause()

    @property
    def under_way(self) -> CommitHold | None:
        """The hold of the commit under way."""
        return None if self._under_way is None else self._under_way.hold

    def commit(self, *, everything: bool = False) -> None:
        """Close the open group and have it written, unless nothing can be written now. `everything` includes the
        counters of rules that made no record, and a look for old records."""
        self.group.closed()
        if self.group.is_paused:
            return
        commit = self.group.take()
        try:
            self._complete(commit, everything)
            if commit.is_empty:
                commit.hold.complete()
                return
            self._writer.write(commit, self._answered)
        except Exception as error:
            if self.failing is None:
                log.exception("commit could not be handed to the writer")
            self._abandon(commit, error)
            commit.hold.complete(error)
            return
        self._under_way = commit
        self.group.pause()

    def _complete(self, commit: Commit, everything: bool) -> None:
        """Add positions and counters as they are now, and orders to delete old records."""
        commit.time_ms = self._clock.now_ms()
        for entry in commit.entries:
            self._changes.touch(entry.lane.sink)
        rules = {chunk.rule_id for entry in commit.entries for chunk in entry.chunks}
        commit.snapshot = self._changes.take(rules, everything=everything)
        commit.trims = self._retention.orders(commit.time_ms, by_age=everything)

    def _answered(self, trimmed: list[Trimmed] | None, error: BaseException | None) -> None:
        """Settle the commit under way, or abandon it."""
        commit, self._under_way = self._under_way, None
        assert commit is not None
        # Before the callbacks, so that a group to which they add closes.
        self.group.is_paused = not self._is_open
        if error is None:
            self._settle(commit, trimmed or [])
        else:
            self._abandon(commit, error)
        commit.hold.complete(error)
        if isinstance(error, DamagedError):
            self.on_damage(str(error))
        elif self._is_open and (error is None or self.group.lanes):
            # After a failure only new records are a reason to try again at once; the rest waits for the next tick.
            self.group.resume()

    def _settle(self, commit: Commit, trimmed: list[Trimmed]) -> None:
        self.commits += 1
        if self.failing is not None:
            log.warning("the journal writes again")
            self._set_failing(None)
        self._changes.written(commit.snapshot)
        if self._retention.account(trimmed, self._clock.now_ms()):
            self.group.schedule()
        for entry in commit.entries:
            lane = entry.lane
            lane.committed_seq = entry.seq + entry.rows - 1
            if lane.listener is not None:
                lane.listener.committed(Segment(entry.seq, entry.rows, entry.size, entry.chunks))

    def _abandon(self, commit: Commit, error: BaseException) -> None:
        if self.failing is None:
            log.error("the journal can't be written; nothing is acknowledged until it can", reason=str(error))
        for entry in commit.entries:
            entry.lane.take_back(entry.seq, entry.rows)
            sink = entry.lane.sink.state
            sink.waiting_bytes -= entry.size
            sink.counters.dropped_unwritten += entry.rows
        self._changes.not_written(commit.snapshot)
        self.group.take_back(commit)
        for undo in commit.undo:
            undo()
        self._set_failing(str(error))

    def _set_failing(self, reason: str | None) -> None:
        self.failing = reason
        if self.on_failing is not None:
            self.on_failing()
