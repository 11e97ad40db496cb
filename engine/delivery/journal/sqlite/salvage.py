"""A new journal made of the rows that can be read of a damaged one.

The new journal has every block that matches its checksum, every dead letter that can be decoded, and the newest
counters and positions that match theirs; positions that are missing are derived from the blocks. Rows are recognized
by the types of their columns, and accepted by their checksums.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from engine.delivery.journal.checksummed import dump_checksummed, load_checksummed
from engine.delivery.journal.sqlite.block import BlockHeader, load_block
from engine.delivery.journal.sqlite.pages import Pages, TableRow, Value
from engine.delivery.journal.sqlite.schema import PAGE_BYTES, connect, prepare
from engine.delivery.journal.state import LANES_MAX, LaneState, SinkState
from engine.model.metrics import RuleCounters
from engine.model.record import Chunk

_BLOCK_TYPES = (type(None), int, int, int, int, int, int, str, int, bytes)
_LETTER_TYPES: tuple[Any, ...] = (
    type(None), int, int, int, str, str, str, int, str, (str, type(None)), str, int, int, int, bytes,
)  # fmt: skip
_SINK_TYPES = (type(None), str, str, int)
_RULE_TYPES = (str, str)

S = TypeVar("S", SinkState, RuleCounters)


@dataclass(slots=True)
class _Lane:
    """The positions of a lane as its blocks state them."""

    sink: str
    cursor: int = 0
    last_seq: int = 0


@dataclass(slots=True)
class Salvaged:
    """Numbers of the rows that were found."""

    blocks: int = 0
    records: int = 0
    letters: int = 0
    damaged: int = 0
    """Blocks that were found and do not match their checksums."""
    lanes: dict[int, _Lane] = field(default_factory=dict)


def salvage(damaged: Path, fresh: Path, now_ms: int) -> Salvaged:
    """Write what can be read of `damaged` and of its log into the new journal `fresh`. Blocks."""
    db = connect(fresh)
    try:
        prepare(db, now_ms=now_ms)
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        # Should the process end before the new journal is in use, the next start has to check it.
        db.execute("REPLACE INTO meta VALUES ('clean', 0)")
        found = _Salvage(db, now_ms)
        _read(damaged, found)
        found.finish()
        db.execute("COMMIT")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return found.result
    finally:
        db.close()


def _read(path: Path, found: _Salvage) -> None:
    """Read the file with the pages of its log, then without, then all images in the log, because a damaged newer image
    must not hide an intact older one.

    Of old images only blocks are taken: a dead letter in one may have been sent again since, or dropped.
    """
    wal = path.with_name(path.name + "-wal")
    log = wal.read_bytes() if wal.exists() else b""
    with path.open("rb") as file:
        pages = Pages(file, PAGE_BYTES, log)
        for row in chain(pages.rows(), Pages(file, PAGE_BYTES).rows() if log else ()):
            found.take(row)
        for row in pages.all_rows_of_log():
            found.take_block(row)


class _Salvage:
    """Collects rows in a new journal."""

    def __init__(self, db: sqlite3.Connection, now_ms: int) -> None:
        self.result = Salvaged()
        self._db = db
        self._now_ms = now_ms
        self._sinks: dict[int, tuple[str, SinkState, int]] = {}
        self._rules: dict[str, RuleCounters] = {}
        self._seen_damaged: set[tuple[int, Value]] = set()

    def take(self, row: TableRow) -> None:
        """Keep `row` if it is one of a journal."""
        row_id, columns = row
        if self.take_block(row):
            return
        if _fits(columns, _LETTER_TYPES):
            self._letter(row_id, columns)
        elif _fits(columns, _SINK_TYPES):
            self._sink(row_id, *columns[1:])  # type: ignore[arg-type]  # the types have just been looked at
        elif _fits(columns, _RULE_TYPES):
            self._rule(*columns)  # type: ignore[arg-type]  # likewise

    def take_block(self, row: TableRow) -> bool:
        """Keep `row` if it is a block; return whether it is one."""
        row_id, columns = row
        if not _fits(columns, _BLOCK_TYPES):
            return False
        self._block(row_id, columns)
        return True

    def finish(self) -> None:
        """Write the states of sinks and rules, completed from the blocks."""
        for key, lane in self.result.lanes.items():
            self._complete(key, lane)
        names: set[str] = set()
        for sink_id, (name, state, trimmed) in self._sinks.items():
            self._measure(sink_id, state)
            # Two ids with one name: one of them is damaged. It is kept under another name, as a sink that is not
            # configured.
            name = f"{name}~{sink_id}" if name in names else name
            names.add(name)
            sealed = dump_checksummed(state, sink_id, name)
            self._db.execute("INSERT INTO sink VALUES (?, ?, ?, ?)", (sink_id, name, sealed, trimmed))
        for name, counters in self._rules.items():
            self._db.execute("INSERT INTO rule VALUES (?, ?)", (name, dump_checksummed(counters, name)))
        self.result.damaged = len(self._seen_damaged)

    def _block(self, row_id: int, columns: tuple[Any, ...]) -> None:
        _, *values, crc, data = columns
        header = BlockHeader(*values)
        key, seq, count = header.lane, header.seq, header.rows
        try:
            load_block(header, crc, data)
        except ValueError:
            self._seen_damaged.add((key, seq))
            return
        self._seen_damaged.discard((key, seq))
        # SQLite gives ids again once their rows are deleted, and deleted rows may be read too. A block whose id is
        # taken gets a new one, unless a block with its lane and number is there.
        if not self._insert("block", row_id, columns) and not self._insert("block", None, columns):
            return
        self.result.blocks += 1
        self.result.records += count
        lane = self.result.lanes.setdefault(key, _Lane(header.sink))
        lane.cursor = max(lane.cursor, header.cursor)
        lane.last_seq = max(lane.last_seq, seq + count - 1)

    def _letter(self, row_id: int, columns: tuple[Any, ...]) -> None:
        try:
            if len(Chunk.decode(columns[-1])) != 1:
                return
        except ValueError:
            return
        self.result.letters += self._insert("dead_letter", row_id, columns)

    def _insert(self, table: str, row_id: int | None, columns: tuple[Any, ...]) -> bool:
        """Insert a row and return whether it was new: the same row may be read from file and log."""
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT OR IGNORE INTO {table} VALUES ({marks})"
        return self._db.execute(statement, (row_id, *columns[1:])).rowcount > 0

    def _sink(self, sink_id: int, name: str, text: str, trimmed: int) -> None:
        state = _loaded(text, SinkState, sink_id, name)
        known = self._sinks.get(sink_id)
        if state is not None and (known is None or _age(state) > _age(known[1])):
            self._sinks[sink_id] = (name, state, trimmed)

    def _rule(self, name: str, text: str) -> None:
        counters = _loaded(text, RuleCounters, name)
        known = self._rules.get(name)
        if counters is not None and (known is None or counters.changes() > known.changes()):
            self._rules[name] = counters

    def _complete(self, key: int, found: _Lane) -> None:
        sink_id, number = divmod(key, LANES_MAX)
        if sink_id not in self._sinks:
            self._sinks[sink_id] = (found.sink, SinkState(), 0)
        state = self._sinks[sink_id][1]
        lane = next((lane for lane in state.lanes if lane.number == number), None)
        if lane is None:
            lane = LaneState(number)
            state.lanes.append(lane)
        lane.cursor = max(lane.cursor, found.cursor)
        lane.next_seq = max(lane.next_seq, found.last_seq + 1, lane.cursor + 1)

    def _measure(self, sink_id: int, state: SinkState) -> None:
        """Set the sums of a sink to those of its blocks and dead letters, so that its counters add up."""
        counters = state.counters
        if not counters.emitted:
            counters.emitted = sum(lane.next_seq - 1 - lane.cursor for lane in state.lanes)
        state.waiting_bytes = state.settled_bytes = 0
        for lane in state.lanes:
            query = (
                "SELECT coalesce(sum(bytes) FILTER (WHERE seq + count - 1 > ?), 0), coalesce(sum(bytes), 0)"
                " FROM block WHERE lane = ?"
            )
            waiting, total = self._db.execute(query, (lane.cursor, sink_id * LANES_MAX + lane.number)).fetchone()
            state.waiting_bytes += waiting
            state.settled_bytes += total - waiting
        name, _, _ = self._sinks[sink_id]
        self._sinks[sink_id] = (name, state, 0)
        (letters,) = self._db.execute("SELECT count(*) FROM dead_letter WHERE sink = ?", (sink_id,)).fetchone()
        lost = counters.dead_lettered - letters
        counters.dead_lettered = letters
        if lost > 0:
            counters.dropped_corrupted += lost
        else:
            counters.emitted -= lost


def _fits(columns: tuple[Value, ...], types: tuple[Any, ...]) -> bool:
    return len(columns) == len(types) and all(map(isinstance, columns, types))


def _loaded(text: str, kind: type[S], *about: int | str) -> S | None:
    try:
        return load_checksummed(text, kind, *about)
    except ValueError:
        return None


def _age(state: SinkState) -> int:
    """Return a number that grows with every change of a sink's state."""
    return state.counters.emitted + sum(lane.next_seq + lane.cursor for lane in state.lanes)
