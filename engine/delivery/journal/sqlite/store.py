"""The journal's file, opened, written and read in two worker threads: one writes, one reads beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import structlog

from engine.delivery.journal.commit import Commit
from engine.delivery.journal.damage import DamagedError
from engine.delivery.journal.letter import StoredLetter
from engine.delivery.journal.recovery import Loaded, RecoveryReport
from engine.delivery.journal.retention import Trimmed
from engine.delivery.journal.segment import Reading
from engine.delivery.journal.sqlite.errors import is_damage
from engine.delivery.journal.sqlite.letters import list_ids, list_letters, read_letters
from engine.delivery.journal.sqlite.opening import Opened, close_in_order, leave_log, open_journal
from engine.delivery.journal.sqlite.reading import read_lane
from engine.delivery.journal.sqlite.rescue import rescue
from engine.delivery.journal.sqlite.schema import connect
from engine.delivery.journal.sqlite.trimming import give_back_pages
from engine.delivery.journal.sqlite.worker import Answer, Job, T, Worker, ask
from engine.delivery.journal.sqlite.writing import write
from engine.delivery.journal.state import SinkLog
from engine.errors import JournalError

log = structlog.get_logger()


class SqliteStore:
    """The SQLite file at `path`.

    Errors of SQLite are translated: `DamagedError` where the file is at fault, `JournalError` where it cannot be read.
    A commit that cannot be written is answered with `DamagedError`, or with SQLite's own error.
    """

    def __init__(self, path: Path, make_worker: Callable[[str], Worker], on_renumbered: Callable[[], None]) -> None:
        self._path = path
        self._make_worker = make_worker
        self._on_renumbered = on_renumbered

    async def open(self, now_ms: int) -> Loaded:
        """Open the file; make, migrate or rescue it where necessary."""
        opened = await self._open(now_ms)
        self._start_workers()
        try:
            await ask(self._writer, lambda _: None)
        except sqlite3.Error as error:
            log.warning("the journal can't be written yet", reason=str(error))
        finally:
            # Not before the writer has its own connection: the last one that is closed deletes the log (-wal), whose
            # absence after a crash means that it was lost.
            opened.db.close()
        return opened.loaded

    async def _open(self, now_ms: int) -> Opened:
        """Open the file. When cancelled, wait for the end of the opening first: it uses the file exclusively."""
        opening = asyncio.get_running_loop().run_in_executor(
            None, open_journal, self._path, now_ms, self._on_renumbered
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait([opening])
            if opening.exception() is None:
                with closing(opening.result().db) as db, suppress(sqlite3.Error):
                    close_in_order(db)
            raise

    async def close(self) -> None:
        """Mark the file as closed in order, and close it."""
        try:
            await ask(self._writer, close_in_order)
        except sqlite3.Error as error:
            log.error("the journal could not be closed in order; nothing in it is lost", reason=str(error))
            await self.abandon()
            leave_log(self._path)
        else:
            await self.abandon()

    async def abandon(self) -> None:
        """Close the file as it is, once the submitted jobs have run."""
        await asyncio.to_thread(self._reader.stop)
        await asyncio.to_thread(self._writer.stop)

    def write(self, commit: Commit, answer: Answer[list[Trimmed]]) -> None:
        """Write `commit`, and call `answer` on the event loop once it is on disk or cannot be written."""

        def translated(trimmed: list[Trimmed] | None, error: BaseException | None) -> None:
            answer(trimmed, DamagedError(str(error)) if error is not None and is_damage(error) else error)

        self._writer.submit(lambda db: write(db, commit), translated)

    async def read_lane(self, lane_key: int, from_seq: int, to_seq: int, size: int) -> Reading:
        """Return blocks of a lane; see `reading.read_lane`."""
        return await self.query(lambda db: read_lane(db, lane_key, from_seq, to_seq, size))

    async def list_letters(self, sink: SinkLog, limit: int, offset: int) -> list[StoredLetter]:
        """Return dead letters of `sink`, oldest first."""
        return await self.query(lambda db: list_letters(db, sink, limit, offset))

    async def read_letters(self, sink: SinkLog, ids: Sequence[int]) -> list[StoredLetter]:
        """Return the dead letters of `sink` with these ids, oldest first; ids that do not exist are passed over."""
        return await self.query(lambda db: read_letters(db, sink, ids))

    async def letter_ids(self, sink: SinkLog) -> list[int]:
        """Return the ids of all dead letters of `sink`, oldest first."""
        return await self.query(lambda db: list_ids(db, sink))

    async def query(self, job: Job[T]) -> T:
        """Run `job`, which only reads, beside the writer."""
        try:
            return await ask(self._reader, job)
        except (sqlite3.Error, DamagedError, UnicodeDecodeError) as error:
            if is_damage(error):
                raise DamagedError(str(error)) from error
            raise JournalError(f"the journal can't be read: {error}") from error

    def give_back_space(self, answer: Answer[None]) -> None:
        """Return some unused space of the file to the file system."""
        self._writer.submit(give_back_pages, answer)

    async def rescue(self, reason: str, now_ms: int) -> RecoveryReport:
        """Replace the damaged file, once the submitted jobs have run. Raise `JournalError` where that is impossible;
        then the damaged one stays."""
        await self.abandon()
        try:
            return await asyncio.to_thread(rescue, self._path, reason, now_ms)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(str(error)) from error
        finally:
            self._start_workers()

    def _start_workers(self) -> None:
        self._writer = self._make_worker("journal-writer")
        self._reader = self._make_worker("journal-reader")
        self._writer.start(lambda: connect(self._path))
        self._reader.start(lambda: connect(self._path))
