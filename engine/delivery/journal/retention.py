"""Deleting what was delivered long ago: oldest first, a few blocks in each commit, so that no commit waits for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

BLOCKS_AT_ONCE = 64
"""Most blocks deleted in one commit; more than one commit of a sink adds."""

VACUUM_PAGES = 1024
"""Most pages given back to the file system at a time (4 MiB): some milliseconds, once a second while nothing else is
to be written."""

FREE_PAGES_KEPT = 2048
"""Free pages that stay in the file: new blocks take them without the file growing again."""


@dataclass(frozen=True, slots=True)
class Trim:
    """What may go of one sink: settled blocks older than ``before_ms``, and older ones first ``excess_bytes`` more."""

    sink_id: int
    cursors: Mapping[int, int]
    """Lane key to the lane's cursor."""
    before_ms: float
    excess_bytes: int


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What went. ``oldest_ms`` is the time of the oldest settled block that stays, None where none does."""

    sink_id: int
    freed_bytes: int
    oldest_ms: int | None
    unfinished: bool


@dataclass(slots=True)
class _Head:
    """The oldest settled block of a lane."""

    lane: int
    id: int
    seq: int
    size: int
    time_ms: int


def trim(db: sqlite3.Connection, order: Trim) -> Trimmed:
    """Delete as `order` says, within the caller's transaction."""
    heads = [head for lane, cursor in order.cursors.items() if (head := _head(db, lane, 0, cursor))]
    freed = blocks = 0
    while heads and blocks < BLOCKS_AT_ONCE:
        head = min(heads, key=lambda head: head.time_ms)
        if head.time_ms >= order.before_ms and freed >= order.excess_bytes:
            break
        db.execute("DELETE FROM block WHERE id = ?", (head.id,))
        freed += head.size
        blocks += 1
        heads.remove(head)
        follower = _head(db, head.lane, head.seq, order.cursors[head.lane])
        if follower:
            heads.append(follower)
    if freed:
        db.execute("UPDATE sink SET trimmed_bytes = trimmed_bytes + ? WHERE id = ?", (freed, order.sink_id))
    oldest = min((head.time_ms for head in heads), default=None)
    return Trimmed(order.sink_id, freed, oldest, blocks >= BLOCKS_AT_ONCE)


def _head(db: sqlite3.Connection, lane: int, after: int, cursor: int) -> _Head | None:
    row = db.execute(
        "SELECT id, seq, bytes, time_ms FROM block WHERE lane = ? AND seq > ? AND seq + count - 1 <= ?"
        " ORDER BY seq LIMIT 1",
        (lane, after, cursor),
    ).fetchone()
    return None if row is None else _Head(lane, *row)


def give_back(db: sqlite3.Connection) -> None:
    """Return some free pages to the file system, where there are more than are kept."""
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    if free > FREE_PAGES_KEPT:
        pages = min(free - FREE_PAGES_KEPT, VACUUM_PAGES)
        # `execute` would stop after the first page.
        db.executescript(f"PRAGMA incremental_vacuum({pages})")
