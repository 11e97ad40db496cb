"""The open group: everything that will become durable with the next commit, and the moment at which it closes.

- A lane is in ``lanes`` exactly as long as it has chunks in the group. It is entered with its first chunk.
- `add` is all or nothing: when it raises, the group holds what it held before. Chunks, dead letters and deletions that
  belong together are therefore added by one call.
- A group that holds anything closes soon by itself, unless it is paused, which it is while the commit before it is
  under way. The group then grows for as long as the disk takes, so that groups get larger with the load.

Closing is put off while every turn of the event loop brings more callers who wait for the group, for `GATHER_S` at
most. With one client this costs one turn of the loop, some microseconds; with many clients that have few messages in
flight it saves up to a quarter of the CPU, because most of the cost of a commit does not depend on its content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.delivery.journal.commit import Commit, Entry
from engine.delivery.journal.hold import CommitHold
from engine.delivery.journal.letter import NewDeadLetter
from engine.delivery.journal.segment import DamagedBlock
from engine.delivery.journal.state import LaneLog
from engine.model.record import Chunk
from engine.service.clock import Clock

GATHER_S = 0.001
"""Longest time that a group stays open for more: about the time of a commit, so that it at most doubles the time to an
acknowledgement."""


class PlacedChunk(NamedTuple):
    """A chunk with the lane it goes to."""

    lane: LaneLog
    chunk: Chunk
    rows: int
    size: int
    """Bytes as stored."""


class OpenGroup:
    """Gathers chunks, dead letters and deletions. Belongs to the event loop."""

    def __init__(self, clock: Clock, close: Callable[[], None]) -> None:
        """`close` is called when the group should be closed; it calls `take`."""
        self.is_paused = True
        """Whether the group stays open because it could not be written now."""
        self._clock = clock
        self._close = close
        self._is_scheduled = False
        self._waiting_before = 0
        """Number of callers that waited for the group one turn of the event loop ago."""
        self._close_at = 0.0
        self._begin()

    def _begin(self) -> None:
        self.hold = CommitHold()
        self.lanes: list[LaneLog] = []
        self.letters: list[NewDeadLetter] = []
        self.deleted_letters: list[int] = []
        self.quarantined: list[DamagedBlock] = []
        self._undo: list[Callable[[], None]] = []

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing that anybody could wait for."""
        return not (self.lanes or self.letters or self.deleted_letters or self.quarantined)

    @property
    def fresh_bytes(self) -> int:
        """Stored bytes of the chunks in the group."""
        return sum([lane.fresh_bytes for lane in self.lanes])

    def enter(self, lane: LaneLog) -> None:
        """Enter a lane that is about to get its first chunk of this group."""
        if not self._is_scheduled:
            self.schedule()
        self.lanes.append(lane)

    def add(
        self,
        chunks: Sequence[PlacedChunk],
        *,
        letters: Sequence[NewDeadLetter] = (),
        deleted_letters: Sequence[int] = (),
        undo: Sequence[Callable[[], None]] = (),
    ) -> None:
        """Add chunks to their lanes, new dead letters, and ids of dead letters to delete: all of them or, where it
        raises, nothing. Each of `undo` is called should the group not be written."""
        added: list[PlacedChunk] = []
        try:
            if deleted_letters:
                self.schedule()
            for placed in chunks:
                placed.lane.append(placed.chunk, placed.rows, placed.size)
                # Not `added.append`: a call can fail, and this chunk would not be taken back.
                added += (placed,)
            # From here on nothing is called either.
            self.letters += letters
            self.deleted_letters += deleted_letters
            self._undo += undo
        except BaseException:
            for placed in reversed(added):
                placed.lane.withdraw(placed.rows, placed.size)
                if not placed.lane.fresh:
                    self.lanes.remove(placed.lane)
            raise

    def schedule(self) -> None:
        """Let the group close soon; once it is resumed, where it is paused."""
        if self._is_scheduled or self.is_paused:
            return
        close_at = self._clock.monotonic() + GATHER_S
        asyncio.get_running_loop().call_soon(self._close_when_quiet)
        # Set last: a group that is marked as scheduled and is not would never close.
        self._is_scheduled = True
        self._waiting_before = 0
        self._close_at = close_at

    def pause(self) -> None:
        """Stay open until `resume`."""
        self.is_paused = True

    def resume(self) -> None:
        """Close again when there is something to write."""
        self.is_paused = False
        if not self.is_empty:
            self.schedule()

    def take(self) -> Commit:
        """Close the group: number its records, return its content as a commit without positions and counters, and
        begin the next group."""
        commit = Commit(
            self.hold,
            entries=[_number(lane) for lane in self.lanes],
            letters=self.letters,
            deleted_letters=self.deleted_letters,
            quarantined=self.quarantined,
            undo=self._undo,
        )
        self._begin()
        return commit

    def take_back(self, commit: Commit) -> None:
        """Take over the dead letters and the orders to put blocks aside of a commit that could not be written."""
        self.letters[:0] = commit.letters
        self.quarantined[:0] = commit.quarantined

    def closed(self) -> None:
        """Note that the group is being closed, scheduled or not."""
        self._is_scheduled = False

    def _close_when_quiet(self) -> None:
        """Close unless more callers have come to wait since the turn of the event loop before this one."""
        # `call_soon` runs this after the sockets of the turn were read: their publishes are in the group by now.
        waiting = self.hold.waiting
        if waiting > self._waiting_before and self._clock.monotonic() < self._close_at:
            self._waiting_before = waiting
            asyncio.get_running_loop().call_soon(self._close_when_quiet)
        else:
            self._close()


def _number(lane: LaneLog) -> Entry:
    state = lane.state
    entry = Entry(lane, state.next_seq, lane.fresh_rows, lane.fresh_bytes, lane.fresh, state.cursor)
    state.next_seq += lane.fresh_rows
    lane.fresh, lane.fresh_rows, lane.fresh_bytes = [], 0, 0
    return entry
