"""Reading a lane's backlog: block by block, in order, never more than was asked for."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from engine.journal.block import crc32, unpack
from engine.journal.segment import Segment
from engine.record import Chunk


@dataclass(slots=True)
class Reading:
    """What was found. Everything up to ``read_to`` has been looked at; what is missing there is lost."""

    read_to: int
    segments: list[Segment] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)
    """Ids of blocks that do not hold what was written, with what is wrong."""


def read_lane(db: sqlite3.Connection, lane: int, from_seq: int, to_seq: int, size: int) -> Reading:
    """Blocks of `lane` with records from `from_seq` up to `to_seq`: at least one, then until `size` bytes are read.

    Segments hold whole blocks, so the first may begin before `from_seq`.
    """
    (start,) = db.execute("SELECT max(seq) FROM block WHERE lane = ? AND seq <= ?", (lane, from_seq)).fetchone()
    rows = db.execute(
        "SELECT id, seq, count, bytes, crc, data FROM block WHERE lane = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        (lane, from_seq if start is None else start, to_seq),
    )
    reading = Reading(to_seq)
    total = 0
    for block_id, seq, count, length, crc, data in rows:
        if seq + count <= from_seq:
            continue
        try:
            reading.segments.append(Segment(seq, count, length, verified(data, crc, count)))
        except ValueError as error:
            reading.damaged.append((block_id, str(error)))
        total += length
        if total >= size:
            reading.read_to = min(to_seq, seq + count - 1)
            break
    rows.close()
    return reading


def verified(data: bytes, crc: int, count: int) -> list[Chunk]:
    """The chunks of a stored block. Raises `ValueError` where it is not what was written."""
    if crc32(data) != crc:
        raise ValueError("its checksum does not hold")
    chunks = unpack(data)
    if sum([len(chunk.rows) for chunk in chunks]) != count:
        raise ValueError("it holds another number of records than it says")
    return chunks
