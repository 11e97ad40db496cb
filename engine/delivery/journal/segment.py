"""Records of one lane in memory, on their way to the sink."""

from __future__ import annotations

from dataclasses import dataclass

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
