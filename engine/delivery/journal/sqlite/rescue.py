"""Replacing a damaged file by a new one with everything that can be read of it.

    1  the rows that can be read are written to  NAME.salvage
    2  NAME.salvage is renamed to                NAME.salvaged     from here on it is whole
    3  the damaged files are moved to            quarantine/NAME.TIME, …-wal, …-shm
    4  NAME.salvaged is renamed to               NAME

A crash before step 2 leaves the damaged file, and the next start begins anew. A crash after it leaves NAME.salvaged,
and the next start goes on with step 3.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import structlog

from engine.delivery.journal.recovery import RecoveryReport
from engine.delivery.journal.sqlite.salvage import Salvaged, salvage

log = structlog.get_logger()

QUARANTINE = "quarantine"
"""Name of the folder beside the journal to which damaged files are moved."""


def rescue(path: Path, reason: str, now_ms: int) -> RecoveryReport:
    """Replace the damaged file at `path`, which must not be open. Blocks."""
    fresh = path.with_name(path.name + ".salvage")
    for leftover in _files(fresh):
        leftover.unlink()
    path.touch()
    found = salvage(path, fresh, now_ms)
    fresh.replace(_rescued(path))
    try:
        quarantined = _put_in_place(path, now_ms)
    except OSError:
        if path.exists():
            # The process goes on with the damaged file. The salvaged one, soon older than that, must not replace it.
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


def is_rescue_interrupted(path: Path) -> bool:
    """Return whether a rescue ended between its steps 2 and 4."""
    return _rescued(path).exists()


def complete_rescue(path: Path, now_ms: int) -> RecoveryReport:
    """Go on with step 3 of a rescue that was interrupted."""
    quarantined = _put_in_place(path, now_ms)
    log.error("an interrupted rescue of the journal was completed", quarantined=str(quarantined))
    return RecoveryReport(
        was_clean=False,
        quarantined=quarantined,
        numbers_may_repeat=True,
        is_loss=True,
        message=f"the interrupted rescue of a damaged journal was completed; the damaged file is in {quarantined}",
    )


def _put_in_place(path: Path, now_ms: int) -> Path:
    """Move the damaged file to quarantine, and the salvaged one to `path`. Return where the damaged one is."""
    quarantined = _quarantine(path, now_ms)
    _sync_folder(quarantined.parent)
    _rescued(path).replace(path)
    _sync_folder(path.parent)
    return quarantined


def _rescued(path: Path) -> Path:
    return path.with_name(path.name + ".salvaged")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _quarantine(path: Path, now_ms: int) -> Path:
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
