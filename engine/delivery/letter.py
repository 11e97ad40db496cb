"""Dead letters: how they are stored, listed and read back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from engine.delivery.journal import SinkLog
from engine.delivery.unstorable import storable_text
from engine.delivery.work import DeadLetter, class_of, code_of, text_of
from engine.model.record import Chunk, Record, Row

_VIEW = (
    "id, lane, seq, rule, client, topic, time_ms, error_class, code, message, attempts, first_error_ms, died_ms, chunk"
)
_IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter as it is kept. Times in milliseconds since 1970."""

    id: int
    sink_id: str
    lane: int
    seq: int
    rule_id: str
    client_id: str
    topic: str
    time_ms: int
    """When the message came."""
    error_class: str
    """retry, split, reject, unknown: what kind of failure it was."""
    code: str | None
    """The server's own code."""
    message: str
    attempts: int
    first_error_ms: int
    died_ms: int
    chunk: Chunk | None
    """The record itself, as a chunk of one row; None where what is stored of it is damaged."""

    @property
    def row(self) -> Row:
        return {"_unreadable": "what was stored of this row is damaged"} if self.chunk is None else self.chunk.rows[0]

    @property
    def record(self) -> Chunk | None:
        """What can be sent again. Only what never had a number could not be stored: it is shown, not kept."""
        return self.chunk if self.seq else None


def letter_row(sink: SinkLog, letter: DeadLetter, now_ms: int) -> tuple[Any, ...]:
    """What the journal stores of a record that is given up."""
    record, error = letter.record, letter.error
    code = code_of(error)
    return (
        sink.id, record.lane, record.seq, record.rule_id, record.client_id, record.topic, record.time_ms,
        class_of(error), None if code is None else storable_text(code), storable_text(text_of(error)), letter.attempts,
        letter.first_error_ms, now_ms, _chunk(record).encode(),
    )  # fmt: skip


def list_letters(db: sqlite3.Connection, sink: SinkLog, limit: int, offset: int) -> list[StoredLetter]:
    """Dead letters of `sink`, oldest first."""
    rows = db.execute(
        f"SELECT {_VIEW} FROM dead_letter WHERE sink = ? ORDER BY id LIMIT ? OFFSET ?", (sink.id, limit, offset)
    )
    return [_stored(sink, row) for row in rows]


def read_letters(db: sqlite3.Connection, sink: SinkLog, ids: Sequence[int]) -> list[StoredLetter]:
    """Those of `sink` with these ids, oldest first; ids that are not there are passed over."""
    letters = []
    ordered = sorted(set(ids))
    for start in range(0, len(ordered), _IDS_AT_ONCE):
        some = ordered[start : start + _IDS_AT_ONCE]
        marks = ", ".join("?" * len(some))
        query = f"SELECT {_VIEW} FROM dead_letter WHERE sink = ? AND id IN ({marks}) ORDER BY id"
        letters += [_stored(sink, row) for row in db.execute(query, (sink.id, *some))]
    return letters


def list_ids(db: sqlite3.Connection, sink: SinkLog) -> list[int]:
    """The ids of all dead letters of `sink`, oldest first."""
    rows = db.execute("SELECT id FROM dead_letter WHERE sink = ? ORDER BY id", (sink.id,))
    return [letter_id for (letter_id,) in rows]


def _stored(sink: SinkLog, row: tuple[Any, ...]) -> StoredLetter:
    letter_id, *columns, data = row
    fields = (letter_id, sink.name, *columns, _one_row(data))
    return StoredLetter(*fields)


def _one_row(data: bytes) -> Chunk | None:
    """The chunk, if it is one: a damaged letter must not hide the others, nor keep from being dropped."""
    try:
        chunk = Chunk.decode(data)
        return chunk if len(chunk.rows) == 1 and isinstance(chunk.rows[0], dict) else None
    except (ValueError, TypeError):
        return None


def _chunk(record: Record) -> Chunk:
    lane_hash = crc32(record.client_id.encode("utf-8", "surrogatepass"))
    return Chunk(record.rule_id, record.client_id, lane_hash, record.time_ms, record.topic, [record.row], record.trail)
