"""Opening the journal's file, whatever state it is in, and saying what was found.

A file that was closed in order is believed. After a crash SQLite's own check runs, for `CHECK_S` at most; what it
has no time for is found when it is read. A file that can't be opened or fails the check is moved aside whole, with its
log, and what can be read of it goes into a new one. Only a file of a newer format, or of another application, is left
alone and refused.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import structlog

from engine.delivery.journal.salvage import Salvaged, salvage
from engine.delivery.journal.schema import PAGE_BYTES, DamagedError, connect, prepare
from engine.delivery.journal.seal import unseal
from engine.delivery.journal.state import SinkState
from engine.delivery.journal.wal import count_passed_over
from engine.errors import JournalError
from engine.model.metrics import RuleCounters

log = structlog.get_logger()

S = TypeVar("S", SinkState, RuleCounters)

CHECK_S = 1.0
"""How long the check after a crash may keep the start waiting; enough for about a gigabyte."""

QUARANTINE = "quarantine"
"""The folder beside the journal to which damaged files are moved."""

_SURROUNDINGS = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT,
)  # fmt: skip
"""What SQLite reports when not the file is at fault but the disk, its rights or another process."""


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What was found when the journal was opened."""

    was_clean: bool = True
    """Whether the last process closed it in order."""
    salvaged_records: int = 0
    """Records that were read from a damaged file, those included that had been delivered already."""
    lost_blocks: int = 0
    """Blocks that were seen to be there and could not be read; the records missing are counted in
    ``dropped_corrupted`` when their turn comes."""
    quarantined: Path | None = None
    """Where the damaged file is now."""
    numbers_may_repeat: bool = False
    """Whether records may get numbers that sinks have seen before: what they stored of them means nothing now."""
    is_loss: bool = False
    """Whether what was acknowledged may be lost: people must hear of it."""
    message: str = "the journal is in order"


@dataclass(slots=True)
class Opened:
    """What the journal begins with."""

    report: RecoveryReport
    db: sqlite3.Connection
    """To be closed once another connection is open: the last one to go takes the log along, whose absence after a crash
    means that it was lost."""
    sinks: list[tuple[int, str, SinkState, int]] = field(default_factory=list)
    """Id, name, state and trimmed bytes of each sink."""
    rules: dict[str, RuleCounters] = field(default_factory=dict)


def is_damage(error: BaseException | None) -> bool:
    """Whether `error` says that the file itself is wrong, and not what it stands on."""
    if isinstance(error, sqlite3.DatabaseError):
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _SURROUNDINGS
    # SQLite quotes what it can't read, and Python can't read that either.
    return isinstance(error, (DamagedError, UnicodeDecodeError))


def open_journal(path: Path, now_ms: int, on_renumbered: Callable[[], None] = lambda: None) -> Opened:
    """Make, migrate or recover the file at `path`. Blocks.

    `on_renumbered` is called where numbers may repeat, before anything is written that would hide it from the next
    start. Raises `JournalError` for a file of a newer format or of another application, and where the disk does not
    let us.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if _rescued(path).exists():
                return _complete(path, now_ms, on_renumbered)
            opened = _open(path, now_ms, on_renumbered)
            if not opened.report.was_clean:
                (log.error if opened.report.is_loss else log.warning)(opened.report.message)
            return opened
        except (DamagedError, UnicodeDecodeError, sqlite3.DatabaseError) as error:
            if not is_damage(error):
                raise
            return _recover(path, str(error), now_ms, on_renumbered)
    except (OSError, sqlite3.DatabaseError, JournalError) as error:
        raise JournalError(f"the journal {path} can't be opened: {error}") from error


def rescue(path: Path, reason: str, now_ms: int) -> RecoveryReport:
    """Put the damaged file at `path`, which nobody has open, aside, and a new one with what it holds in its place."""
    fresh = path.with_name(path.name + ".salvage")
    for leftover in _files(fresh):
        leftover.unlink()
    path.touch()
    found = salvage(path, fresh, now_ms)
    # From here on a crash leaves what tells the next start to go on: a salvaged file of that name is whole.
    fresh.replace(_rescued(path))
    try:
        quarantined = _put_in_place(path, now_ms)
    except OSError:
        if path.exists():
            # The process goes on with the damaged file; what was salvaged will soon be older than that.
            _rescued(path).unlink()
        raise
    report = RecoveryReport(
        was_clean=False,
        salvaged_records=found.records,
        lost_blocks=found.damaged,
        quarantined=quarantined,
        numbers_may_repeat=True,
        is_loss=True,
        message=_describe(found, reason, quarantined),
    )
    log.error("the journal was damaged", reason=reason, salvaged=found.records, quarantined=str(quarantined))
    return report


def close_in_order(db: sqlite3.Connection) -> None:
    """Carry the log over into the file and note that nothing is amiss."""
    db.execute("REPLACE INTO meta VALUES ('clean', 1)")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def leave_log(path: Path) -> None:
    """Make an empty log where the last connection took it along: all of it is in the file, none of it was lost."""
    with suppress(OSError):
        path.with_name(path.name + "-wal").touch()


def _recover(path: Path, reason: str, now_ms: int, on_renumbered: Callable[[], None]) -> Opened:
    report = rescue(path, reason, now_ms)
    opened = _open(path, now_ms, on_renumbered)
    opened.report = report
    return opened


def _complete(path: Path, now_ms: int, on_renumbered: Callable[[], None]) -> Opened:
    """Go on with a rescue that a crash interrupted after the salvage."""
    quarantined = _put_in_place(path, now_ms)
    opened = _open(path, now_ms, on_renumbered)
    opened.report = RecoveryReport(
        was_clean=False,
        quarantined=quarantined,
        numbers_may_repeat=True,
        is_loss=True,
        message=f"the interrupted rescue of a damaged journal was completed; the damaged file is in {quarantined}",
    )
    log.error("an interrupted rescue of the journal was completed", quarantined=str(quarantined))
    return opened


def _put_in_place(path: Path, now_ms: int) -> Path:
    """Move the damaged file aside, and the salvaged one to `path`. Answers where the damaged one is."""
    quarantined = _move_aside(path, now_ms)
    _sync_folder(quarantined.parent)
    _rescued(path).replace(path)
    _sync_folder(path.parent)
    return quarantined


def _rescued(path: Path) -> Path:
    """The salvaged file while the damaged one is still being moved."""
    return path.with_name(path.name + ".salvaged")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path, now_ms: int, on_renumbered: Callable[[], None]) -> Opened:
    log_file = path.with_name(path.name + "-wal")
    had_log = log_file.exists()
    if path.exists() or had_log:
        _check_size(path)
    passed_over = _check_log(log_file) if had_log else 0
    db = connect(path)
    try:
        prepare(db, now_ms=now_ms)
        was_clean = _was_clean(db)
        report = RecoveryReport(was_clean)
        if not was_clean:
            _check(db)
            report = _after_crash(had_log, passed_over)
        opened = Opened(report, db, _load_sinks(db), _load_rules(db))
        if report.numbers_may_repeat:
            on_renumbered()
        db.execute("REPLACE INTO meta VALUES ('clean', 0)")
        # The mark must stand in the file itself: a log that is missing after a crash could not tell.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return opened
    except BaseException:
        db.close()
        raise


def _check_size(path: Path) -> None:
    """Raise `DamagedError` for what SQLite lets pass."""
    size = path.stat().st_size if path.exists() else 0
    if not size:
        # SQLite would take it for new, and delete its log.
        raise DamagedError("the file is empty")
    if size % PAGE_BYTES:
        # SQLite would read the rest of the last page as zeros.
        raise DamagedError("its last page is torn")


def _check_log(path: Path) -> int:
    """How many commits SQLite will take for torn: one where the power went. Raises `DamagedError` for more.

    Looked at before SQLite opens the file: it deletes what it does not believe.
    """
    passed_over = count_passed_over(path.read_bytes(), PAGE_BYTES)
    if passed_over > 1:
        raise DamagedError(f"its log (-wal) is damaged in front of {passed_over} commits")
    return passed_over


def _was_clean(db: sqlite3.Connection) -> bool:
    row = db.execute("SELECT value FROM meta WHERE name = 'clean'").fetchone()
    if row is None:
        raise DamagedError("it does not say how it was closed")
    return bool(row[0])


def _after_crash(had_log: bool, passed_over: int) -> RecoveryReport:
    if passed_over:
        return RecoveryReport(
            False,
            numbers_may_repeat=True,
            message="the last process ended without closing the journal; the last commit in its log (-wal) is torn, and"
            " left out",
        )
    if had_log:
        return RecoveryReport(False, message="the last process ended without closing the journal; nothing is lost")
    return RecoveryReport(
        False,
        numbers_may_repeat=True,
        is_loss=True,
        message="the last process ended without closing the journal, and the journal's log (-wal) is missing:"
        " what it held is lost",
    )


def _check(db: sqlite3.Connection) -> None:
    """Raise `DamagedError` where SQLite finds something wrong within `CHECK_S`."""
    until = perf_counter() + CHECK_S
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


def _move_aside(path: Path, now_ms: int) -> Path:
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S")
    folder = path.parent / QUARANTINE
    folder.mkdir(exist_ok=True)
    target = folder / f"{path.name}.{stamp}"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{path.name}.{stamp}-{number}"
    for file in _files(path):
        file.replace(target.with_name(target.name + file.name[len(path.name) :]))
    return target


def _files(path: Path) -> list[Path]:
    """The database at `path` with the files SQLite keeps beside it, as far as they exist."""
    return [file for suffix in ("", "-wal", "-shm") if (file := path.with_name(path.name + suffix)).exists()]


def _describe(found: Salvaged, reason: str, quarantined: Path) -> str:
    lost = f", {found.damaged} blocks could not be read" if found.damaged else ""
    return (
        f"the journal was damaged ({reason}); {found.records} records and {found.letters} dead letters were read from"
        f" it{lost}; the damaged file is kept as {quarantined}"
    )


def _load_sinks(db: sqlite3.Connection) -> list[tuple[int, str, SinkState, int]]:
    rows = db.execute("SELECT id, name, state, trimmed_bytes FROM sink").fetchall()
    if not all(isinstance(trimmed, int) for *_, trimmed in rows):
        raise DamagedError("there is no number where a sink's trimmed bytes should be")
    return [
        (sink_id, name, _unsealed(state, SinkState, sink_id, name), trimmed) for sink_id, name, state, trimmed in rows
    ]


def _load_rules(db: sqlite3.Connection) -> dict[str, RuleCounters]:
    rows = db.execute("SELECT name, counters FROM rule")
    return {name: _unsealed(counters, RuleCounters, name) for name, counters in rows}


def _unsealed(text: Any, kind: type[S], *about: int | str) -> S:
    try:
        return unseal(text, kind, *about)
    except ValueError as error:
        raise DamagedError(str(error)) from error
