"""Deleting settled blocks, oldest first, and returning the space to the file system, a little at a time."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from engine.delivery.journal.retention import Trimmed, TrimOrder

BLOCKS_AT_ONCE = 64
"""Most blocks deleted in one commit. A commit adds at most as many to a sink, one for each lane, so that this keeps
up."""

VACUUM_PAGES = 1024
"""Most pages returned to the file system at a time (4 MiB): some milliseconds, once a second while nothing else is to
be written."""

FREE_PAGES_KEPT = 2048
"""Free pages that stay in the file (8 MiB): new blocks take them without the file growing again."""


@dataclass(slots=True)
class _Oldest:
    """The oldest settled block of a lane."""

    lane: int
    id: int
    seq: int
    size: int
    time_ms: int


def trim(db: sqlite3.Connection, order: TrimOrder) -> Trimmed:
    """Delete as `order` says, within the caller's transaction."""
    candidates = [block for lane, cursor in order.cursors.items() if (block := _oldest(db, lane, 0, cursor))]
    freed = blocks = 0
    while candidates and blocks < BLOCKS_AT_ONCE:
        block = min(candidates, key=lambda block: block.time_ms)
        if block.time_ms >= order.before_ms and freed >= order.excess_bytes:
            break
        db.execute("DELETE FROM block WHERE id = ?", (block.id,))
        freed += block.size
        blocks += 1
        candidates.remove(block)
        next_block = _oldest(db, block.lane, block.seq, order.cursors[block.lane])
        if next_block:
            candidates.append(next_block)
    if freed:
        db.execute("UPDATE sink SET trimmed_bytes = trimmed_bytes + ? WHERE id = ?", (freed, order.sink_id))
    oldest_ms = min((block.time_ms for block in candidates), default=None)
    return Trimmed(order.sink_id, freed, oldest_ms, blocks >= BLOCKS_AT_ONCE)


def _oldest(db: sqlite3.Connection, lane: int, after: int, cursor: int) -> _Oldest | None:
    row = db.execute(
        "SELECT id, seq, bytes, time_ms FROM block WHERE lane = ? AND seq > ? AND seq + count - 1 <= ?"
        " ORDER BY seq LIMIT 1",
        (lane, after, cursor),
    ).fetchone()
    return None if row is None else _Oldest(lane, *row)


def give_back_pages(db: sqlite3.Connection) -> None:
    """Return some free pages to the file system, where there are more than are kept."""
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    if free > FREE_PAGES_KEPT:
        pages = min(free - FREE_PAGES_KEPT, VACUUM_PAGES)
        # Not `execute`: it stops after the first page, because the statement returns a row for each.
        db.executescript(f"PRAGMA incremental_vacuum({pages})")
