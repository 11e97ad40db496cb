"""The connection of an SQLite sink, its transactions, and the meaning of its errors."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import structlog

from connectors._shared.disk import absolute_path, classify, prepare_folder
from connectors._shared.identity import journal_identity
from connectors._shared.isolation import VALUE_ERRORS, rejection
from connectors._shared.planning import PLANS_MAX, RowGroup
from connectors.sqlite.options import SqliteConfig
from connectors.sqlite.statement import SqlitePlanner, SqliteStatement, explain
from connectors.sqlite.watermark import Watermark
from engine.connector import Deadline, Failures, SinkContext
from engine.errors import (
    DeliveryError,
    DuplicateError,
    HoldError,
    NotConnectedError,
    RejectError,
    RetryableError,
    SplitError,
)
from engine.model.record import Batch

log = structlog.get_logger()

PendingWrite = tuple[Batch, Deadline]
Group = RowGroup[SqliteStatement]


class TransactionEndedError(Exception):
    """A statement ended the transaction that it was part of, as ``ON CONFLICT ROLLBACK`` does."""


class Database:
    """A connection and its transactions. Lives in the sink's thread."""

    def __init__(self, config: SqliteConfig, context: SinkContext, planner: SqlitePlanner) -> None:
        self._config = config
        self._context = context
        self._planner = planner
        self._path = absolute_path(context.base_dir, config.path)
        self._connection: sqlite3.Connection
        self._file: tuple[int, int] | None = None
        self._watermark: Watermark | None = None

    def open(self) -> None:
        prepare_folder(self._path.parent, absolute_path(self._context.base_dir, ""))
        try:
            self._connect()
            self._planner.check(self._connection)
        except sqlite3.Error as error:
            raise self._translated(error) from error
        except OSError as error:
            raise classify(error, f"{self._path} can't be opened") from error

    def close(self) -> None:
        with suppress(AttributeError, sqlite3.Error):
            self._connection.close()

    def write(self, writes: Sequence[PendingWrite]) -> list[Failures | Exception]:
        """Store all batches in one transaction; each has its own result."""
        try:
            return self._transact(writes)
        except TransactionEndedError:
            return [self._transact_alone(write) for write in writes]

    def _connect(self) -> None:
        config = self._config
        self._connection = sqlite3.connect(
            self._path,
            timeout=min(config.busy_timeout, config.connect_timeout),
            isolation_level=None,  # transactions begin and end where this class says so, not where the module guesses
            check_same_thread=False,  # one thread owns it, but a stop that finds the thread stuck drops it in another
            cached_statements=PLANS_MAX,
        )
        mode = self._connection.execute(f"PRAGMA journal_mode = {config.journal_mode}").fetchone()[0]
        if mode != config.journal_mode:
            log.warning(
                "sqlite journal mode not available", path=str(self._path), wanted=config.journal_mode, found=mode
            )
        self._connection.execute(f"PRAGMA synchronous = {config.synchronous}")
        self._file = _file_id(self._path)
        if config.exactly_once:
            self._watermark = Watermark(self._connection, journal_identity(self._context.data_dir))

    def _transact(self, writes: Sequence[PendingWrite]) -> list[Failures | Exception]:
        """Store all batches in one transaction, or in a second one if the table may have changed meanwhile."""
        if _file_id(self._path) != self._file:
            raise NotConnectedError(f"{self._path} was removed or replaced")
        try:
            try:
                return self._transact_once(writes)
            except sqlite3.Error as error:
                # SQLITE_ERROR is the code of a statement that no longer fits its table: it is planned again.
                if self._config.sql is not None or _code(error) != sqlite3.SQLITE_ERROR:
                    raise
            return self._transact_once(writes)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _transact_once(self, writes: Sequence[PendingWrite]) -> list[Failures | Exception]:
        # Another program's lock is waited for no longer than the most urgent of these writes may take.
        wait_s = min(self._config.busy_timeout, *(deadline.left_s() for _, deadline in writes))
        self._connection.execute(f"PRAGMA busy_timeout = {round(wait_s * 1000)}")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [self._store_or_undo(batch) for batch, _ in writes]
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return results

    def _transact_alone(self, write: PendingWrite) -> Failures | Exception:
        try:
            return self._transact([write])[0]
        except DeliveryError as error:
            return error
        except TransactionEndedError as ended:
            message = f"the statement ended its transaction: {ended}"
            return Failures({0: RejectError(message)}) if len(write[0]) == 1 else SplitError(message)

    def _roll_back(self) -> None:
        self._planner.forget()
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _store_or_undo(self, batch: Batch) -> Failures | Exception:
        """Store `batch`, or undo it alone where its columns don't fit: batches of other lanes stay."""
        self._connection.execute("SAVEPOINT headgate_batch")
        try:
            result: Failures | Exception = (
                self._store(batch) if self._watermark is None else self._store_once(batch, self._watermark)
            )
        except DeliveryError as error:
            self._connection.execute("ROLLBACK TO headgate_batch")
            self._planner.forget()
            result = error
        self._connection.execute("RELEASE headgate_batch")
        return result

    def _store_once(self, batch: Batch, watermark: Watermark) -> Failures:
        """Store the records past the watermark, and move it in the same transaction."""
        stored = watermark.stored(batch)
        if len(stored) == len(batch):
            return stored
        rest = batch.part(len(stored), len(batch)) if stored else batch
        failures = self._store(rest).moved(range(len(stored), len(batch)))
        watermark.move(batch)
        return stored | failures

    def _store(self, batch: Batch) -> Failures:
        planned = self._planner.plan(batch)
        failures = planned.failures
        for group in planned.groups:
            failures |= self._store_group(group)
        return failures

    def _store_group(self, group: Group) -> Failures:
        failures = Failures()
        self._connection.execute("SAVEPOINT headgate_group")
        try:
            self._execute(group)
        except (sqlite3.Error, *VALUE_ERRORS) as error:
            self._row_failure(error, group)
            self._connection.execute("ROLLBACK TO headgate_group")
            group.statement.learn(group.rows)
            failures = self._store_one_by_one(group)
        self._connection.execute("RELEASE headgate_group")
        return failures

    def _execute(self, group: Group) -> None:
        statement, rows = group.statement, group.rows
        count = statement.rows_at_once
        if count > 1:
            whole = len(rows) - len(rows) % count
            flat = [tuple(chain.from_iterable(rows[start : start + count])) for start in range(0, whole, count)]
            self._connection.executemany(statement.sql_many, flat)
            rows = rows[whole:]
        self._connection.executemany(statement.sql, rows)

    def _store_one_by_one(self, group: Group) -> Failures:
        errors: dict[int, DeliveryError] = {}
        for index, values in zip(group.indices, group.rows, strict=True):
            try:
                self._connection.execute(group.statement.sql, group.statement.convert(values))
            except (sqlite3.Error, *VALUE_ERRORS) as error:
                errors[index] = self._row_failure(error, group)
        return Failures(errors)

    def _row_failure(self, error: Exception, group: Group) -> DeliveryError:
        """Return the failure of the row that is at fault. Raise `error` again if it is not about a row."""
        if not isinstance(error, sqlite3.Error):
            return rejection(error, "a value can't be stored: ")
        if not hasattr(error, "sqlite_errorcode"):  # raised by the module, before SQLite saw the value
            return RejectError(f"a value can't be stored: {error}")
        code = error.sqlite_errorcode & 0xFF
        if code not in _ROW_CODES and not (code == sqlite3.SQLITE_ERROR and self._compiles(group)):
            raise error
        if not self._connection.in_transaction:
            raise TransactionEndedError(str(error)) from error
        if code == sqlite3.SQLITE_CONSTRAINT and _is_duplicate(str(error), self._config.conflict_key):
            return DuplicateError(str(error), code=error.sqlite_errorname)
        return RejectError(str(error), code=error.sqlite_errorname)

    def _compiles(self, group: Group) -> bool:
        """Whether the statement fits the tables, so that a value failed (``malformed JSON``)."""
        try:
            explain(self._connection, group.statement.sql, len(group.rows[0]))
        except sqlite3.Error:
            return False
        return True

    def _translated(self, error: sqlite3.Error) -> DeliveryError:
        code = _code(error)
        name: str | None = getattr(error, "sqlite_errorname", None)
        message = f"{self._path}: {error}"
        if code in _RETRY_CODES:
            return RetryableError(message, code=name)
        if code == sqlite3.SQLITE_IOERR:
            return NotConnectedError(message, code=name)
        return HoldError(message, code=name)


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code; an extended one has it in its low byte."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def _is_duplicate(message: str, conflict_key: Sequence[str]) -> bool:
    """Whether ``UNIQUE constraint failed: t.a, t.b`` is about the conflict key, and not about another index."""
    kind, _, columns = message.partition(" constraint failed: ")
    names = {column.rpartition(".")[2].lower() for column in columns.split(", ")}
    return kind == "UNIQUE" and bool(conflict_key) and names == {key.lower() for key in conflict_key}


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


_ROW_CODES = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE}
_RETRY_CODES = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_ABORT,
}  # fmt: skip
