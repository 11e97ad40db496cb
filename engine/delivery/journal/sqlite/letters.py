"""Reading dead letters. They are written and deleted by commits."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from engine.delivery.journal.letter import StoredLetter
from engine.delivery.journal.sqlite.writing import LETTER_COLUMNS
from engine.delivery.journal.state import SinkLog
from engine.model.record import Chunk

_COLUMNS = "id, " + LETTER_COLUMNS.removeprefix("sink, ")

_IDS_AT_ONCE = 500
"""Most ids in one query; SQLite allows 32,766 parameters."""


def list_letters(db: sqlite3.Connection, sink: SinkLog, limit: int, offset: int) -> list[StoredLetter]:
    """Return dead letters of `sink`, oldest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM dead_letter WHERE sink = ? ORDER BY id LIMIT ? OFFSET ?", (sink.id, limit, offset)
    )
    return [_stored(sink, row) for row in rows]


def read_letters(db: sqlite3.Connection, sink: SinkLog, ids: Sequence[int]) -> list[StoredLetter]:
    """Return the dead letters of `sink` with these ids, oldest first; ids that do not exist are passed over."""
    letters = []
    ordered = sorted(set(ids))
    for start in range(0, len(ordered), _IDS_AT_ONCE):
        some = ordered[start : start + _IDS_AT_ONCE]
        marks = ", ".join("?" * len(some))
        query = f"SELECT {_COLUMNS} FROM dead_letter WHERE sink = ? AND id IN ({marks}) ORDER BY id"
        letters += [_stored(sink, row) for row in db.execute(query, (sink.id, *some))]
    return letters


def list_ids(db: sqlite3.Connection, sink: SinkLog) -> list[int]:
    """Return the ids of all dead letters of `sink`, oldest first."""
    rows = db.execute("SELECT id FROM dead_letter WHERE sink = ? ORDER BY id", (sink.id,))
    return [letter_id for (letter_id,) in rows]


def _stored(sink: SinkLog, row: tuple[Any, ...]) -> StoredLetter:
    letter_id, *columns, data = row
    fields = (letter_id, sink.name, *columns, _one_row(data))
    return StoredLetter(*fields)


def _one_row(data: bytes) -> Chunk | None:
    """Return the chunk of a dead letter, or None where it is damaged: one damaged letter must neither hide the others
    nor keep from being dropped."""
    try:
        chunk = Chunk.decode(data)
        return chunk if len(chunk.rows) == 1 and isinstance(chunk.rows[0], dict) else None
    except (ValueError, TypeError):
        return None
