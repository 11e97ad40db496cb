"""Reading a lane's backlog: block by block, in order, never more than was asked for.

Blocks are found by their index, which may be damaged where they are not. So a block that is not what it should be is
looked at again by its id, and a gap in the numbers without the index: what is there all the same says that the file
needs a rescue, after which the numbers that are still missing are lost indeed.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from engine.delivery.journal.block import Head, verified
from engine.delivery.journal.schema import DamagedError
from engine.delivery.journal.segment import Segment


@dataclass(slots=True)
class Reading:
    """What was found. Everything up to ``read_to`` has been looked at; what is missing there is lost."""

    read_to: int
    segments: list[Segment] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)
    """Ids of blocks that do not hold what was written, with what is wrong."""


def read_lane(db: sqlite3.Connection, lane: int, from_seq: int, to_seq: int, size: int) -> Reading:
    """Blocks of `lane` with records from `from_seq` up to `to_seq`: at least one, then until `size` bytes are read.

    Segments hold whole blocks, so the first may begin before `from_seq`. Raises `DamagedError` where the index of
    the blocks leads astray.
    """
    (start,) = db.execute("SELECT max(seq) FROM block WHERE lane = ? AND seq <= ?", (lane, from_seq)).fetchone()
    rows = db.execute(
        "SELECT id, lane, seq, count, bytes, time_ms, cursor, sink, crc, data FROM block"
        " WHERE lane = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        (lane, from_seq if start is None else start, to_seq),
    )
    reading = Reading(to_seq)
    total = last_seq = 0
    expected = from_seq
    for block_id, *columns, crc, data in rows:
        head = Head(*columns)
        try:
            chunks = verified(head, crc, data)
        except ValueError as error:
            if _is_sound(db, block_id):
                raise DamagedError("the index of the blocks does not say what they say") from error
            reading.damaged.append((block_id, str(error)))
            continue
        if head.lane != lane or head.seq < last_seq:
            raise DamagedError("the index of the blocks leads to others")
        last_seq = head.seq
        if head.seq + head.rows <= from_seq:
            continue
        _check_gap(db, reading, lane, expected, head.seq - 1)
        reading.segments.append(Segment(head.seq, head.rows, head.size, chunks))
        expected = head.seq + head.rows
        total += head.size
        if total >= size:
            reading.read_to = min(to_seq, expected - 1)
            break
    else:
        _check_gap(db, reading, lane, expected, to_seq)
    rows.close()
    return reading


def _is_sound(db: sqlite3.Connection, block_id: int) -> bool:
    """Whether the block is what was written, by what its own row says."""
    row = db.execute("SELECT * FROM block WHERE id = ?", (block_id,)).fetchone()
    if row is None:
        return False
    _, *columns, crc, data = row
    try:
        verified(Head(*columns), crc, data)
    except ValueError:
        return False
    return True


def _check_gap(db: sqlite3.Connection, reading: Reading, lane: int, first: int, last: int) -> None:
    """Raise `DamagedError` where a block with records from `first` to `last` is there that the index does not know."""
    if first > last:
        return
    known = [block_id for block_id, _ in reading.damaged]
    query = "SELECT id FROM block NOT INDEXED WHERE lane = ? AND seq <= ? AND seq + count > ?"
    if any(block_id not in known for (block_id,) in db.execute(query, (lane, last, first))):
        raise DamagedError("the index of the blocks misses some of them")
