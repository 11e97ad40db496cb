"""Dead letters: records that were given up, with the reason, as the journal takes and returns them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from engine.model.record import Chunk, Row


class NewDeadLetter(NamedTuple):
    """A record that becomes a dead letter with the next commit, in the order of the columns that store it.

    ``lane`` and ``seq`` are 0 for a row that never was a record, because it could not be stored.
    """

    sink_id: int
    lane: int
    seq: int
    rule_id: str
    client_id: str
    topic: str
    time_ms: int
    error_class: str
    code: str | None
    message: str
    attempts: int
    first_error_ms: int
    died_ms: int
    chunk: bytes
    """The record as an encoded chunk of one row."""


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
    """retry, split, reject or unknown."""
    code: str | None
    """The server's own code."""
    message: str
    attempts: int
    first_error_ms: int
    died_ms: int
    chunk: Chunk | None
    """The record as a chunk of one row; None where its stored form is damaged."""

    @property
    def row(self) -> Row:
        return {"_unreadable": "the stored form of this row is damaged"} if self.chunk is None else self.chunk.rows[0]

    @property
    def record(self) -> Chunk | None:
        """The record to send again; None where it is damaged, or was unstorable (``row`` is only a preview then)."""
        return self.chunk if self.seq else None
