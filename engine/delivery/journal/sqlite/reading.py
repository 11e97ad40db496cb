"""Reading a part of a lane: block by block, in order, never more than was asked for.

Blocks are found by their index, which may be damaged where they are not. Therefore a block that does not match its
checksum is looked at again by its id, and a gap in the numbers is searched without the index. A block that is found in
this way shows that the file needs a rescue; numbers that are still missing afterwards are lost.
"""

from __future__ import annotations

import sqlite3

from engine.delivery.journal.damage import DamagedError
from engine.delivery.journal.segment import DamagedBlock, Reading, Segment
from engine.delivery.journal.sqlite.block import BlockHeader, load_block


def read_lane(db: sqlite3.Connection, lane: int, from_seq: int, to_seq: int, size: int) -> Reading:
    """Return blocks of `lane` with records from `from_seq` up to `to_seq`: at least one, then until `size` bytes are
    read.

    Segments hold whole blocks, so the first may begin before `from_seq`. Raise `DamagedError` where the index of the
    blocks does not match them.
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
        header = BlockHeader(*columns)
        try:
            chunks = load_block(header, crc, data)
        except ValueError as error:
            if _is_intact(db, block_id):
                raise DamagedError("the index of the blocks does not match the blocks") from error
            reading.damaged.append(DamagedBlock(block_id, str(error)))
            continue
        if header.lane != lane or header.seq < last_seq:
            raise DamagedError("the index of the blocks points to other blocks")
        last_seq = header.seq
        if header.seq + header.rows <= from_seq:
            continue
        _check_gap(db, reading, lane, expected, header.seq - 1)
        reading.segments.append(Segment(header.seq, header.rows, header.size, chunks))
        expected = header.seq + header.rows
        total += header.size
        if total >= size:
            reading.read_to = min(to_seq, expected - 1)
            break
    else:
        # The loop was not left by `break`: there are no further blocks, so that the gap may reach to the end.
        _check_gap(db, reading, lane, expected, to_seq)
    rows.close()
    return reading


def _is_intact(db: sqlite3.Connection, block_id: int) -> bool:
    """Return whether the block matches its checksum when its own row is read instead of the index."""
    row = db.execute("SELECT * FROM block WHERE id = ?", (block_id,)).fetchone()
    if row is None:
        return False
    _, *columns, crc, data = row
    try:
        load_block(BlockHeader(*columns), crc, data)
    except ValueError:
        return False
    return True


def _check_gap(db: sqlite3.Connection, reading: Reading, lane: int, first: int, last: int) -> None:
    """Raise `DamagedError` where a block with records from `first` to `last` exists that the index does not have."""
    if first > last:
        return
    known = [block.id for block in reading.damaged]
    query = "SELECT id FROM block NOT INDEXED WHERE lane = ? AND seq <= ? AND seq + count > ?"
    if any(block_id not in known for (block_id,) in db.execute(query, (lane, last, first))):
        raise DamagedError("the index of the blocks lacks some of them")
