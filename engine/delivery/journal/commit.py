"""What one group commit writes, and the writing of it: one transaction over all sinks and rules.

Python's sqlite3 gives the interpreter lock away at every statement and has to win it back from a busy event loop, so
a commit is few statements, whatever the number of rows: rows are inserted many at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any

from engine.delivery.journal.block import Head, checksum, pack
from engine.delivery.journal.retention import Trim, Trimmed, trim
from engine.delivery.journal.state import LaneLog, SinkLog
from engine.delivery.journal.ticket import Ticket
from engine.model.record import Chunk

ROWS_AT_ONCE = 256
"""Most rows of one INSERT; SQLite allows 32,766 parameters."""


@dataclass(slots=True)
class Entry:
    """The records of one lane in a commit."""

    lane: LaneLog
    seq: int
    rows: int
    size: int
    chunks: list[Chunk]
    cursor: int


@dataclass(slots=True)
class Commit:
    """Everything that becomes durable together: an open group until it is written."""

    ticket: Ticket
    time_ms: int = 0
    entries: list[Entry] = field(default_factory=list)
    sinks: list[tuple[int, str, str]] = field(default_factory=list)
    rules: list[tuple[str, str]] = field(default_factory=list)
    changed_sinks: set[SinkLog] = field(default_factory=set)
    changed_rules: dict[str, int] = field(default_factory=dict)
    """What `RuleCounters.changes` said of each rule whose counters are written."""
    trims: list[Trim] = field(default_factory=list)
    letters: list[tuple[Any, ...]] = field(default_factory=list)
    """Rows of `LETTER_COLUMNS` that become dead letters."""
    forgotten: list[int] = field(default_factory=list)
    """Ids of dead letters that leave."""
    damaged: list[tuple[int, str]] = field(default_factory=list)
    """Ids of blocks to be put aside, with the reason."""
    undo: list[Callable[[], None]] = field(default_factory=list)
    """What to do should it fail."""

    @property
    def has_orders(self) -> bool:
        """Whether it holds what somebody may wait for, besides records."""
        return bool(self.letters or self.forgotten or self.damaged)

    @property
    def is_empty(self) -> bool:
        return not (self.entries or self.sinks or self.rules or self.trims or self.has_orders)


def write(db: sqlite3.Connection, commit: Commit) -> list[Trimmed]:
    """Write `commit`, all of it or nothing; on disk when this returns. Raises what SQLite raises."""
    blocks = [_block_row(entry, commit.time_ms) for entry in commit.entries]
    db.execute("BEGIN IMMEDIATE")
    try:
        _insert(db, "INSERT INTO block VALUES", 10, blocks)
        _insert(db, "INSERT INTO sink (id, name, state) VALUES", 3, commit.sinks, _SINK_EXISTS)
        _insert(db, "INSERT INTO rule (name, counters) VALUES", 2, commit.rules, _RULE_EXISTS)
        if commit.letters or commit.forgotten:
            _insert(db, f"INSERT INTO dead_letter ({LETTER_COLUMNS}) VALUES", 14, commit.letters)
            db.executemany("DELETE FROM dead_letter WHERE id = ?", [(id,) for id in commit.forgotten])
        for block_id, reason in commit.damaged:
            _put_aside(db, block_id, reason, commit.time_ms)
        trimmed = [trim(db, order) for order in commit.trims]
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return trimmed


LETTER_COLUMNS = (
    "sink, lane, seq, rule, client, topic, time_ms, error_class, code, message, attempts, first_error_ms, died_ms,"
    " chunk"
)
_RULE_EXISTS = " ON CONFLICT (name) DO UPDATE SET counters = excluded.counters"
_SINK_EXISTS = " ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state"


def _block_row(entry: Entry, time_ms: int) -> tuple[Any, ...]:
    data = pack(entry.chunks)
    lane = entry.lane
    head = Head(lane.key, entry.seq, entry.rows, entry.size, time_ms, entry.cursor, lane.sink.name)
    return (None, *head, checksum(head, data), data)


def _insert(db: sqlite3.Connection, head: str, width: int, rows: Sequence[Iterable[Any]], tail: str = "") -> None:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        db.execute(_statement(head, width, len(part), tail), tuple(chain.from_iterable(part)))


@lru_cache(maxsize=512)
def _statement(head: str, width: int, count: int, tail: str) -> str:
    row = "(" + ", ".join("?" * width) + ")"
    return f"{head} {', '.join([row] * count)}{tail}"


def _put_aside(db: sqlite3.Connection, block_id: int, reason: str, now_ms: int) -> None:
    db.execute("INSERT OR IGNORE INTO damaged SELECT *, ?, ? FROM block WHERE id = ?", (now_ms, reason, block_id))
    db.execute("DELETE FROM block WHERE id = ?", (block_id,))
