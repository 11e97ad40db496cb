"""A group commit as one transaction over all sinks and rules.

Python's sqlite3 releases the interpreter lock at every statement, and has to win it back from a busy event loop. A
commit is therefore few statements, whatever the number of rows: rows are inserted many at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from engine.delivery.journal.commit import Commit, Entry
from engine.delivery.journal.retention import Trimmed
from engine.delivery.journal.segment import DamagedBlock
from engine.delivery.journal.sqlite.block import BlockHeader, checksum, pack
from engine.delivery.journal.sqlite.trimming import trim

ROWS_AT_ONCE = 256
"""Most rows of one INSERT. The widest has 14 columns, and SQLite allows 32,766 parameters."""

LETTER_COLUMNS = (
    "sink, lane, seq, rule, client, topic, time_ms, error_class, code, message, attempts, first_error_ms, died_ms,"
    " chunk"
)
"""The order of the fields of `NewDeadLetter`."""

_RULE_EXISTS = " ON CONFLICT (name) DO UPDATE SET counters = excluded.counters"
_SINK_EXISTS = " ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state"


def write(db: sqlite3.Connection, commit: Commit) -> list[Trimmed]:
    """Write `commit`, all of it or nothing; it is on disk when this returns. Raise what SQLite raises."""
    blocks = [_block_row(entry, commit.time_ms) for entry in commit.entries]
    # IMMEDIATE takes the lock of the writer now; a deferred transaction could fail to get it after its first rows.
    db.execute("BEGIN IMMEDIATE")
    try:
        _insert(db, "INSERT INTO block VALUES", 10, blocks)
        _insert(db, "INSERT INTO sink (id, name, state) VALUES", 3, commit.snapshot.sinks, _SINK_EXISTS)
        _insert(db, "INSERT INTO rule (name, counters) VALUES", 2, commit.snapshot.rules, _RULE_EXISTS)
        if commit.letters or commit.deleted_letters:
            _insert(db, f"INSERT INTO dead_letter ({LETTER_COLUMNS}) VALUES", 14, commit.letters)
            db.executemany("DELETE FROM dead_letter WHERE id = ?", [(id,) for id in commit.deleted_letters])
        for block in commit.quarantined:
            _quarantine(db, block, commit.time_ms)
        trimmed = [trim(db, order) for order in commit.trims]
        db.execute("COMMIT")
    except BaseException:
        # After a full disk or an I/O error SQLite has rolled back already.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return trimmed


def _block_row(entry: Entry, time_ms: int) -> tuple[Any, ...]:
    data = pack(entry.chunks)
    lane = entry.lane
    header = BlockHeader(lane.key, entry.seq, entry.rows, entry.size, time_ms, entry.cursor, lane.sink.name)
    return (None, *header, checksum(header, data), data)


def _insert(db: sqlite3.Connection, head: str, width: int, rows: Sequence[Iterable[Any]], tail: str = "") -> None:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        db.execute(_statement(head, width, len(part), tail), tuple(chain.from_iterable(part)))


@lru_cache(maxsize=512)
def _statement(head: str, width: int, count: int, tail: str) -> str:
    row = "(" + ", ".join("?" * width) + ")"
    return f"{head} {', '.join([row] * count)}{tail}"


def _quarantine(db: sqlite3.Connection, block: DamagedBlock, now_ms: int) -> None:
    db.execute("INSERT OR IGNORE INTO damaged SELECT *, ?, ? FROM block WHERE id = ?", (now_ms, block.reason, block.id))
    db.execute("DELETE FROM block WHERE id = ?", (block.id,))
