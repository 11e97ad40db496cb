"""The watermark of `exactly_once`: how far each lane is stored, kept in the database beside the rows."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right

from engine.connector import Failures
from engine.errors import DuplicateError
from engine.model.record import Batch

TABLE = "_headgate_watermark"


class Watermark:
    """The last stored sequence number of each lane, moved in the transaction that stores the rows."""

    def __init__(self, connection: sqlite3.Connection, journal: str) -> None:
        """`journal` is the identity of the journal that numbers the records. Create the table where it is missing."""
        self._connection = connection
        self._journal = journal
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {TABLE} (sink TEXT NOT NULL, journal TEXT NOT NULL, "
            "lane INTEGER NOT NULL, last_seq INTEGER NOT NULL, PRIMARY KEY (sink, journal, lane)) WITHOUT ROWID"
        )

    def stored(self, batch: Batch) -> Failures:
        """Return the first records of `batch`, as duplicates, that were stored before."""
        found = self._connection.execute(
            f"SELECT last_seq FROM {TABLE} WHERE sink = ? AND journal = ? AND lane = ?", self._key(batch)
        ).fetchone()
        count = bisect_right(batch.seqs, found[0]) if found else 0
        return Failures(
            {
                index: DuplicateError(f"stored before: {batch.seqs[index]} is not above the watermark {found[0]}")
                for index in range(count)
            }
        )

    def move(self, batch: Batch) -> None:
        """Count all records of `batch` as stored, rejected ones as well: they become dead letters."""
        self._connection.execute(
            f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?, ?, ?)", (*self._key(batch), batch.seqs[-1])
        )

    def _key(self, batch: Batch) -> tuple[str, str, int]:
        return batch.sink_id, self._journal, batch.lane
