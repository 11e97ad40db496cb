"""Opening the journal's file, whatever state it is in, and what was found."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from engine.journal.schema import connect, prepare
from engine.journal.state import SinkState
from engine.metrics import RuleCounters


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What was found when the journal was opened."""

    was_clean: bool = True
    """Whether the last process closed it in order."""
    salvaged_records: int = 0
    lost_blocks: int = 0
    """Blocks that could not be read any more; how many records those were shows in ``dropped_corrupted``."""
    quarantined: Path | None = None
    """Where the damaged file is now."""
    message: str = "the journal is in order"


@dataclass(slots=True)
class Opened:
    """What the journal begins with."""

    report: RecoveryReport
    sinks: list[tuple[int, str, SinkState, int]] = field(default_factory=list)
    """Id, name, state and trimmed bytes of each sink."""
    rules: dict[str, RuleCounters] = field(default_factory=dict)


def open_journal(path: Path, now_ms: int) -> Opened:
    """Make, migrate or recover the file at `path`. Blocks. Raises `JournalError` for one of a newer format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    db = connect(path)
    try:
        prepare(db, now_ms=now_ms)
        (was_clean,) = db.execute("SELECT value FROM meta WHERE name = 'clean'").fetchone()
        db.execute("REPLACE INTO meta VALUES ('clean', 0)")
        return Opened(RecoveryReport(bool(was_clean)), _load_sinks(db), _load_rules(db))
    finally:
        db.close()


def close_in_order(db: sqlite3.Connection) -> None:
    """Carry the log over into the file and note that nothing is amiss."""
    db.execute("REPLACE INTO meta VALUES ('clean', 1)")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _load_sinks(db: sqlite3.Connection) -> list[tuple[int, str, SinkState, int]]:
    decode = msgspec.json.Decoder(SinkState).decode
    rows = db.execute("SELECT id, name, state, trimmed_bytes FROM sink")
    return [(sink_id, name, decode(state), trimmed) for sink_id, name, state, trimmed in rows]


def _load_rules(db: sqlite3.Connection) -> dict[str, RuleCounters]:
    decode = msgspec.json.Decoder(RuleCounters).decode
    return {name: decode(counters) for name, counters in db.execute("SELECT name, counters FROM rule")}
