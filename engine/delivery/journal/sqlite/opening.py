"""Opening the journal's file, whatever its state.

A file that was closed in order is accepted as it is. After a crash SQLite's own check runs, for `CHECK_S` at most;
damage that it has no time to find is found when the block is read. A file that cannot be opened, or fails the check, is
moved to quarantine with its log, and everything that can be read of it goes into a new file. Only a file of a newer
format, or of another application, is left alone and refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import structlog

from engine.delivery.journal.checksummed import load_checksummed
from engine.delivery.journal.damage import DamagedError
from engine.delivery.journal.recovery import Loaded, LoadedSink, RecoveryReport
from engine.delivery.journal.sqlite.errors import is_damage
from engine.delivery.journal.sqlite.rescue import complete_rescue, is_rescue_interrupted, rescue
from engine.delivery.journal.sqlite.schema import PAGE_BYTES, connect, prepare
from engine.delivery.journal.sqlite.wal import count_ignored_commits
from engine.delivery.journal.state import SinkState
from engine.errors import JournalError
from engine.model.metrics import RuleCounters

log = structlog.get_logger()

S = TypeVar("S", SinkState, RuleCounters)

CHECK_S = 1.0
"""Longest delay of the start by the check after a crash; enough for about a gigabyte."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that was opened. ``db`` is to be closed once another connection is open; see `store`."""

    loaded: Loaded
    db: sqlite3.Connection


def open_journal(path: Path, now_ms: int, on_renumbered: Callable[[], None] = lambda: None) -> Opened:
    """Make, migrate or recover the file at `path`. Blocks.

    `on_renumbered` is called where numbers may repeat, before anything is written that would hide it from the next
    start. Raise `JournalError` for a file of a newer format or of another application, and where the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if is_rescue_interrupted(path):
                return _open(path, now_ms, on_renumbered, complete_rescue(path, now_ms))
            opened = _open(path, now_ms, on_renumbered)
            report = opened.loaded.report
            if not report.was_clean:
                (log.error if report.is_loss else log.warning)(report.message)
            return opened
        except (DamagedError, UnicodeDecodeError, sqlite3.DatabaseError) as error:
            if not is_damage(error):
                raise
            return _open(path, now_ms, on_renumbered, rescue(path, str(error), now_ms))
    except (OSError, sqlite3.DatabaseError, JournalError) as error:
        raise JournalError(f"the journal {path} can't be opened: {error}") from error


def close_in_order(db: sqlite3.Connection) -> None:
    """Copy the log into the file, and mark it as closed in order."""
    db.execute("REPLACE INTO meta VALUES ('clean', 1)")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def leave_log(path: Path) -> None:
    """Make an empty log where the last connection deleted it: everything in it is in the file, and nothing was lost."""
    with suppress(OSError):
        path.with_name(path.name + "-wal").touch()


def _open(path: Path, now_ms: int, on_renumbered: Callable[[], None], report: RecoveryReport | None = None) -> Opened:
    """Open the file, and check it unless `report` says that it has just been made anew."""
    log_file = path.with_name(path.name + "-wal")
    had_log = log_file.exists()
    if path.exists() or had_log:
        _check_size(path)
    ignored = _check_log(log_file) if had_log else 0
    db = connect(path)
    try:
        prepare(db, now_ms=now_ms)
        found = RecoveryReport(_was_clean(db))
        if not found.was_clean:
            _check(db)
            found = _after_crash(had_log, ignored)
        loaded = Loaded(report or found, _load_sinks(db), _load_rules(db))
        if loaded.report.numbers_may_repeat:
            on_renumbered()
        db.execute("REPLACE INTO meta VALUES ('clean', 0)")
        # The mark must stand in the file itself: with the log missing after a crash, it would be missing too.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return Opened(loaded, db)
    except BaseException:
        db.close()
        raise


def _check_size(path: Path) -> None:
    """Raise `DamagedError` for damage that SQLite does not report."""
    size = path.stat().st_size if path.exists() else 0
    if not size:
        # SQLite would take it for new, and delete its log.
        raise DamagedError("the file is empty")
    if size % PAGE_BYTES:
        # SQLite would read the rest of the last page as zeros.
        raise DamagedError("its last page is torn")


def _check_log(path: Path) -> int:
    """Return the number of commits that SQLite will take for torn: at most one, during which the power failed. Raise
    `DamagedError` for more.

    Called before SQLite opens the file, because it deletes frames that it does not accept.
    """
    ignored = count_ignored_commits(path.read_bytes(), PAGE_BYTES)
    if ignored > 1:
        raise DamagedError(f"its log (-wal) is damaged before {ignored} commits")
    return ignored


def _was_clean(db: sqlite3.Connection) -> bool:
    row = db.execute("SELECT value FROM meta WHERE name = 'clean'").fetchone()
    if row is None:
        raise DamagedError("it does not state how it was closed")
    return bool(row[0])


def _after_crash(had_log: bool, ignored: int) -> RecoveryReport:
    if ignored:
        return RecoveryReport(
            False,
            numbers_may_repeat=True,
            message="the last process ended without closing the journal; the last commit in its log (-wal) is torn,"
            " and was left out",
        )
    if had_log:
        return RecoveryReport(False, message="the last process ended without closing the journal; nothing is lost")
    return RecoveryReport(
        False,
        numbers_may_repeat=True,
        is_loss=True,
        message="the last process ended without closing the journal, and the journal's log (-wal) is missing:"
        " its content is lost",
    )


def _check(db: sqlite3.Connection) -> None:
    """Raise `DamagedError` where SQLite finds damage within `CHECK_S`."""
    until = perf_counter() + CHECK_S
    # Called every 10,000 instructions of SQLite's virtual machine; a true answer interrupts the check.
    db.set_progress_handler(lambda: int(perf_counter() > until), 10_000)
    try:
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        verdict = "ok"
    finally:
        db.set_progress_handler(None, 0)
    if verdict != "ok":
        raise DamagedError(verdict)


def _load_sinks(db: sqlite3.Connection) -> list[LoadedSink]:
    sinks = []
    for sink_id, name, state, trimmed in db.execute("SELECT id, name, state, trimmed_bytes FROM sink"):
        if not isinstance(trimmed, int):
            raise DamagedError(f"the trimmed bytes of sink {name!r} should be an integer")
        sinks.append(LoadedSink(sink_id, name, _load(state, SinkState, sink_id, name), trimmed))
    return sinks


def _load_rules(db: sqlite3.Connection) -> dict[str, RuleCounters]:
    rows = db.execute("SELECT name, counters FROM rule")
    return {name: _load(counters, RuleCounters, name) for name, counters in rows}


def _load(text: Any, kind: type[S], *keys: int | str) -> S:
    try:
        return load_checksummed(text, kind, *keys)
    except ValueError as error:
        raise DamagedError(str(error)) from error
