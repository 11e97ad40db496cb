"""Committed records of one lane in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.model.record import Chunk


@dataclass(slots=True)
class Segment:
    """Records of one lane with consecutive numbers, as they were committed together."""

    first_seq: int
    rows: int
    size: int
    """Bytes of the chunks as stored."""
    chunks: list[Chunk]

    @property
    def last_seq(self) -> int:
        return self.first_seq + self.rows - 1


@dataclass(frozen=True, slots=True)
class DamagedBlock:
    """A stored block that does not hold what was written, with what is wrong."""

    id: int
    reason: str


@dataclass(slots=True)
class Reading:
    """The result of reading a part of a lane. Numbers up to ``read_to`` that no segment has are lost."""

    read_to: int
    segments: list[Segment] = field(default_factory=list)
    damaged: list[DamagedBlock] = field(default_factory=list)
    """Blocks that were found and do not hold what was written."""
