"""The content of one group commit, independent of how it is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.delivery.journal.changes import Snapshot
from engine.delivery.journal.hold import CommitHold
from engine.delivery.journal.letter import NewDeadLetter
from engine.delivery.journal.retention import TrimOrder
from engine.delivery.journal.segment import DamagedBlock
from engine.delivery.journal.state import LaneLog
from engine.model.record import Chunk


@dataclass(slots=True)
class Entry:
    """The records of one lane in a commit, numbered from ``seq`` on. ``cursor`` is the lane's at that moment."""

    lane: LaneLog
    seq: int
    rows: int
    size: int
    chunks: list[Chunk]
    cursor: int


_EMPTY_SNAPSHOT = Snapshot([], [], set(), {})


@dataclass(slots=True)
class Commit:
    """Everything that becomes durable together, or not at all."""

    hold: CommitHold
    entries: list[Entry]
    letters: list[NewDeadLetter]
    deleted_letters: list[int]
    """Ids of dead letters that are deleted."""
    quarantined: list[DamagedBlock]
    """Blocks that are moved out of the way of reading."""
    undo: list[Callable[[], None]]
    """Called should the commit fail."""
    time_ms: int = 0
    snapshot: Snapshot = _EMPTY_SNAPSHOT
    trims: Sequence[TrimOrder] = ()

    @property
    def is_empty(self) -> bool:
        return not (
            self.entries
            or self.letters
            or self.deleted_letters
            or self.quarantined
            or self.snapshot.sinks
            or self.snapshot.rules
            or self.trims
        )
