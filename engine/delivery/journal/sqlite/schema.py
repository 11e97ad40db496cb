"""Tables of the journal's file, its format version, and migrations from older formats.

    meta         the whole file: its format, whether it was closed in order, when it was made
    sink         one row a sink: its counters, its lanes' positions, how records are spread over lanes
    rule         one row a rule: its counters
    block        the records of one commit, sink and lane as one blob; ids in order of commit, and so of time
    dead_letter  records that were given up, with the reason, each as a chunk of one row
    damaged      quarantine: blocks that do not match their checksum, as they were found

- A block repeats the name of its sink and the lane's cursor at that time. With all other tables lost, waiting records
  can still be distinguished from delivered ones.
- Blocks, states of sinks and counters of rules carry checksums; see `block` and `engine.delivery.journal.checksummed`.
- All tables but ``meta`` have row ids, so that each row stands whole in a leaf page; see `pages`.
- ``block.lane`` is ``sink.id * LANES_MAX + lane number``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.delivery.journal.damage import DamagedError
from engine.errors import JournalError

FORMAT = 2
APPLICATION_ID = 0x48644A31
"""Tells a journal from any other database (SQLite's "application id"; the command ``file`` shows it)."""

PAGE_BYTES = 4096
"""Measured with blobs of 0.3 to 50 KB: larger pages cost more at every size, as a lane's small blobs share a page."""

WAL_PAGES = 2048
"""Pages after which the log (-wal) is copied into the file: 8 MiB, a pause of some 10 ms."""

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE sink (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    trimmed_bytes INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE rule (name TEXT PRIMARY KEY, counters TEXT NOT NULL);
CREATE TABLE block (
    id INTEGER PRIMARY KEY,
    lane INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    count INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    sink TEXT NOT NULL,
    crc INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX block_by_lane ON block (lane, seq);
CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sink INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    rule TEXT NOT NULL,
    client TEXT NOT NULL,
    topic TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    error_class TEXT NOT NULL,
    code TEXT,
    message TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    first_error_ms INTEGER NOT NULL,
    died_ms INTEGER NOT NULL,
    chunk BLOB NOT NULL
);
CREATE INDEX dead_letter_by_sink ON dead_letter (sink, id);
CREATE TABLE damaged (
    id INTEGER PRIMARY KEY, lane INTEGER, seq INTEGER, count INTEGER, bytes INTEGER, time_ms INTEGER, cursor INTEGER,
    sink TEXT, crc INTEGER, data BLOB, found_ms INTEGER NOT NULL, reason TEXT NOT NULL
);
"""


def _widen_checksums(db: sqlite3.Connection) -> None:
    """Format 2 has checksums of whole blocks, and of the states of sinks and rules. Rows of format 1 stay as they are:
    both are read."""


_MIGRATIONS: Mapping[int, Callable[[sqlite3.Connection], None]] = {1: _widen_checksums}
"""Migrations by the format they start from, each to the next format and in a transaction of its own."""


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection with the settings of a journal. A file that does not exist is created, without tables."""
    is_new = not path.exists() or not path.stat().st_size
    db = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False, cached_statements=256)
    try:
        if is_new:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {4 * WAL_PAGES * PAGE_BYTES}")
    except BaseException:
        db.close()
        raise
    return db


def prepare(db: sqlite3.Connection, *, now_ms: int) -> None:
    """Make the tables of a new file, or migrate those of an older format.

    Raise `JournalError` for a file of a newer format or of another application, `DamagedError` for a damaged one.
    """
    (found,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not tables:
        _create(db, now_ms)
        return
    stated = _stated_format(db)
    if application != APPLICATION_ID and stated is None:
        raise JournalError("it is a database, but not a journal of Headgate")
    if application != APPLICATION_ID or found != stated:
        raise DamagedError(f"its header states format {found}, its tables format {stated}")
    if found > FORMAT:
        raise JournalError(f"it has format {found}, made by a newer Headgate; this one reads formats up to {FORMAT}")
    for version in range(found, FORMAT):
        _migrate(db, version)


def _stated_format(db: sqlite3.Connection) -> int | None:
    """Return the format that the tables state; None where they are not those of a journal."""
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
        return None
    row = db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    return None if row is None else int(row[0])


def _create(db: sqlite3.Connection, now_ms: int) -> None:
    db.executescript(
        f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; {_TABLES}"
        f"INSERT INTO meta VALUES ('created_ms', {now_ms}), ('clean', 1), ('format', {FORMAT}); COMMIT;"
    )


def _migrate(db: sqlite3.Connection, version: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        _MIGRATIONS[version](db)
        db.execute(f"PRAGMA user_version = {version + 1}")
        db.execute("UPDATE meta SET value = ? WHERE name = 'format'", (version + 1,))
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
