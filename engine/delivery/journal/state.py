"""Positions and counters of sinks and lanes, as they are stored, and what belongs to them in memory.

Everything here belongs to the event loop and changes in place; see `engine.delivery.journal.changes` for how it is
written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from engine.delivery.journal.segment import Segment
from engine.model.metrics import SinkCounters
from engine.model.record import Chunk

LANES_MAX = 64
"""Most lanes of a sink. Files number lanes as ``sink.id * LANES_MAX + number``, so that it cannot be changed."""


class LaneState(msgspec.Struct, gc=False):
    """The positions of one lane: records up to ``cursor`` are settled, the next new one gets ``next_seq``.

    Numbers follow each other without a gap; one that shows when reading is lost records.
    """

    number: int
    next_seq: int = 1
    cursor: int = 0


class SinkState(msgspec.Struct):
    """The positions and counters of one sink."""

    counters: SinkCounters = msgspec.field(default_factory=SinkCounters)
    lanes: list[LaneState] = msgspec.field(default_factory=list)
    spread: str = ""
    """The assignment of records to lanes at the last put; see `engine.delivery.spread`."""
    barriers: list[dict[int, int]] = msgspec.field(default_factory=list)
    """Positions by lane number, oldest barrier first; see `engine.delivery.barrier`."""
    waiting_bytes: int = 0
    settled_bytes: int = 0


class LaneListener(Protocol):
    """Receives the records of a lane once they are on disk."""

    def committed(self, segment: Segment) -> None:
        """Take records that are on disk now."""


class LaneLog:
    """One lane in the journal: its chunks in the open group, and its positions."""

    __slots__ = ("_enter", "committed_seq", "fresh", "fresh_bytes", "fresh_rows", "key", "listener", "sink", "state")

    def __init__(self, sink: SinkLog, state: LaneState, enter: Callable[[LaneLog], None]) -> None:
        """`enter` enters a lane into the open group."""
        self.sink = sink
        self.state = state
        self.key = sink.id * LANES_MAX + state.number
        self.committed_seq = state.next_seq - 1
        self.fresh: list[Chunk] = []
        self.fresh_rows = 0
        self.fresh_bytes = 0
        self.listener: LaneListener | None = None
        self._enter = enter

    def append(self, chunk: Chunk, rows: int, size: int) -> None:
        """Put `chunk` of `rows` rows, `size` bytes when stored, into the open group; its records are numbered when the
        group closes. If it raises, nothing has changed."""
        fresh = self.fresh
        if fresh:
            fresh.append(chunk)
        else:
            # The list is made before the lane is entered: nothing can fail between that and keeping the list.
            first = [chunk]
            self._enter(self)
            self.fresh = first
        self.fresh_rows += rows
        self.fresh_bytes += size

    def withdraw(self, rows: int, size: int) -> None:
        """Take the chunk that was appended last, of `rows` rows and `size` bytes, out of the open group again."""
        del self.fresh[-1]
        self.fresh_rows -= rows
        self.fresh_bytes -= size

    def take_back(self, seq: int, rows: int) -> None:
        """Take back the numbers that `rows` records got from `seq` on. The next records get them, and are newer than
        barriers that were set in between: these are lowered."""
        self.state.next_seq = seq
        number = self.state.number
        for barrier in self.sink.state.barriers:
            if number in barrier:
                barrier[number] -= min(max(barrier[number] - seq + 1, 0), rows)

    @property
    def waiting(self) -> int:
        """Records that are not settled, those in the open group included."""
        return self.state.next_seq - 1 - self.state.cursor + self.fresh_rows


class SinkLog:
    """One sink in the journal."""

    __slots__ = (
        "_enter",
        "id",
        "is_trimming",
        "lanes",
        "name",
        "oldest_kept_ms",
        "retain_bytes",
        "retain_ms",
        "state",
        "trimmed_bytes",
    )

    def __init__(
        self, id: int, name: str, state: SinkState, enter: Callable[[LaneLog], None], trimmed_bytes: int = 0
    ) -> None:
        self.id = id
        self.name = name
        self.state = state
        self.trimmed_bytes = trimmed_bytes
        self.retain_ms: float | None = None
        """None until the sink is opened: nothing is deleted of a sink that is not configured."""
        self.retain_bytes = 0
        self.oldest_kept_ms = 0
        self.is_trimming = False
        """Whether more is due to be deleted than the last commit deleted."""
        self._enter = enter
        self.lanes = {lane.number: LaneLog(self, lane, enter) for lane in state.lanes}

    def lane(self, number: int) -> LaneLog:
        """Return the lane of that number, made when it is new."""
        lane = self.lanes.get(number)
        if lane is None:
            if not 0 <= number < LANES_MAX:
                raise ValueError(f"expected a lane from 0 to {LANES_MAX - 1}, found {number}")
            state = LaneState(number)
            self.state.lanes.append(state)
            lane = self.lanes[number] = LaneLog(self, state, self._enter)
        return lane

    @property
    def kept_bytes(self) -> int:
        """Bytes of settled records that are still stored."""
        return max(self.state.settled_bytes - self.trimmed_bytes, 0)

    def retain(self, seconds: float, size: int) -> None:
        """Keep settled records for `seconds`, and at most `size` bytes of them."""
        self.retain_ms = seconds * 1000
        self.retain_bytes = size
