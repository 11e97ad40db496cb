"""Stores rows in a table of an SQLite database: the embedded default, no server needed.

Each row goes to the columns of its names. The table is made from the first rows unless told not to, and grows columns
that later rows bring. SQLite has one writer, so the sink has one thread; batches of several lanes that wait at the
same time share a transaction. A record is delivered once its transaction is committed, with ``synchronous: full``
on the disk itself.

A row that the table refuses fails alone: the statement is undone, and its rows are sent again one by one.

Maps and lists are stored as JSON text, true and false as 1 and 0, bytes as blobs, and integers past 64 bits as their
digits (a blob where the column is one of numbers, because SQLite would round them). What else SQLite does to a value
follows from the declared type of its column: text that looks like a number becomes one in a column of numbers.
"""

from __future__ import annotations

import os
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import structlog
from pydantic import Field

from connectors._shared.disk import classify, place, prepare_folder
from connectors._shared.identity import journal_identity
from connectors._shared.thread import WriterThread
from connectors.sqlite.rows import OwnStatement, Rows, Run, explain
from connectors.sqlite.table import STATEMENTS_MAX, Table, TableOptions
from engine.config.units import Duration
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import (
    ConfigError,
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

WATERMARKS = "_headgate_watermark"

_Item = tuple[Batch, Deadline]


class SqliteConfig(ConnectorConfig):
    """Options of the `sqlite` sink."""

    path: str
    """The database file, relative to the file that names it; made where it is missing."""
    table: str | None = None
    """The table; each column of a row goes to the column of its name."""
    create_table: bool = True
    """Make a missing table from the first rows, with column types that fit their values."""
    add_columns: bool | None = None
    """Add columns that rows bring and the table lacks; as `create_table` unless set."""
    max_columns: Annotated[int, Field(ge=1, le=2000)] = 200
    """Most columns a table may grow to; rows that would need more are rejected."""
    mode: Literal["insert", "upsert"] = "insert"
    """`upsert` replaces the columns of the row that has the same `conflict_key`."""
    conflict_key: tuple[str, ...] = ()
    """Columns that identify a row. With `insert`, a row that is there already counts as delivered."""
    sql: str | None = None
    """A statement of your own with placeholders, instead of `table`: `INSERT INTO t (a, b) VALUES (${x}, ${y.z})`."""
    journal_mode: Literal["wal", "delete", "truncate", "persist"] = "wal"
    """SQLite's journal; `wal` lets others read while rows are written."""
    synchronous: Literal["full", "normal", "off"] = "full"
    """`full` survives a power cut; `normal` may lose the last transactions in one, `off` may damage the file."""
    busy_timeout: Duration = 5.0
    """Longest wait for another program that is writing to the same file."""
    exactly_once: bool = False
    """Store with the rows how far each lane is, in the table `_headgate_watermark`, and skip what comes again."""


class SqliteSink(Sink):
    """Rows into one SQLite table, through a thread that owns the connection."""

    kind: ClassVar[str] = "sqlite"
    Config: ClassVar[type[ConnectorConfig]] = SqliteConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "type: sqlite\npath: data/readings.db\ntable: readings\n",
        "type: sqlite\npath: data/plant.db\ntable: latest\nmode: upsert\nconflict_key: [device]\n",
        'type: sqlite\npath: data/plant.db\nsql: "INSERT INTO readings (device, t) VALUES (${d}, ${temp.value})"\n',
        "type: sqlite\npath: data/ledger.db\ntable: entries\ncreate_table: false\nexactly_once: true\n",
    )

    def __init__(self, config: SqliteConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        if (config.table is None) == (config.sql is None):
            raise ConfigError("a sqlite sink needs either `table` or `sql`", remedy="write one of the two")
        if config.mode == "upsert" and not config.conflict_key:
            raise ConfigError("`mode: upsert` needs a `conflict_key`", remedy="name the columns that identify a row")
        if config.sql is not None and config.conflict_key:
            raise ConfigError(
                "`conflict_key` belongs to `table`", remedy="write ON CONFLICT into `sql`, or use `table` instead"
            )
        self._own = None if config.sql is None else OwnStatement(config.sql)
        self._database: _Database | None = None
        self._thread: WriterThread[_Item, Failures] | None = None

    async def connect(self) -> None:
        await self.close()
        database = _Database(self.config, self.context, self._own or Table(_table_options(self.config)))
        thread = WriterThread(f"sqlite-{self.context.sink_id}", database.write)
        self._database, self._thread = database, thread
        await thread.call(database.open)

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        if self._thread is None:
            raise NotConnectedError("the database is not open")
        return await self._thread.submit((batch, deadline))

    async def close(self) -> None:
        thread, database = self._thread, self._database
        self._thread = self._database = None
        if thread is not None and database is not None:
            await thread.stop(database.close)


def _table_options(config: SqliteConfig) -> TableOptions:
    return TableOptions(
        name=config.table or "",
        create=config.create_table,
        may_grow=config.create_table if config.add_columns is None else config.add_columns,
        columns_max=config.max_columns,
        is_upsert=config.mode == "upsert",
        conflict_key=config.conflict_key,
    )


class _TransactionEndedError(Exception):
    """A statement ended the transaction it was part of, as ``ON CONFLICT ROLLBACK`` does."""


class _Database:
    """The connection, its transactions and what their errors mean. Lives in the sink's thread."""

    def __init__(self, config: SqliteConfig, context: SinkContext, rows: Rows) -> None:
        self._config = config
        self._context = context
        self._rows = rows
        self._path = place(context.base_dir, config.path)
        self._connection: sqlite3.Connection
        self._file: tuple[int, int] | None = None
        self._identity = ""

    def open(self) -> None:
        prepare_folder(self._path.parent, place(self._context.base_dir, ""))
        try:
            self._connect()
            self._rows.check(self._connection)
        except sqlite3.Error as error:
            raise self._translated(error) from error
        except OSError as error:
            raise classify(error, f"{self._path} can't be opened") from error

    def close(self) -> None:
        with suppress(AttributeError, sqlite3.Error):
            self._connection.close()

    def write(self, items: Sequence[_Item]) -> list[Failures | Exception]:
        """Store all batches in one transaction; each has its own result."""
        try:
            return self._transact(items)
        except _TransactionEndedError:
            return [self._transact_alone(item) for item in items]

    def _connect(self) -> None:
        config = self._config
        self._connection = sqlite3.connect(
            self._path,
            timeout=min(config.busy_timeout, config.connect_timeout),
            isolation_level=None,  # transactions begin and end where this file says so
            check_same_thread=False,  # one thread owns it; a stop that finds it stuck leaves both behind
            cached_statements=STATEMENTS_MAX,
        )
        mode = self._connection.execute(f"PRAGMA journal_mode = {config.journal_mode}").fetchone()[0]
        if mode != config.journal_mode:
            log.warning("sqlite journal mode is not available here", path=str(self._path), wanted=config.journal_mode)
        self._connection.execute(f"PRAGMA synchronous = {config.synchronous}")
        self._file = _file_id(self._path)
        if config.exactly_once:
            self._identity = journal_identity(self._context.data_dir)
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS {WATERMARKS} (sink TEXT NOT NULL, journal TEXT NOT NULL, "
                "lane INTEGER NOT NULL, last_seq INTEGER NOT NULL, PRIMARY KEY (sink, journal, lane)) WITHOUT ROWID"
            )

    def _transact(self, items: Sequence[_Item]) -> list[Failures | Exception]:
        """One transaction; and another where the table may have changed since it was looked at."""
        if _file_id(self._path) != self._file:
            raise NotConnectedError(f"{self._path} was removed or replaced")
        try:
            try:
                return self._transact_once(items)
            except sqlite3.Error as error:
                if self._config.sql is not None or _code(error) != sqlite3.SQLITE_ERROR:
                    raise
            return self._transact_once(items)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _transact_once(self, items: Sequence[_Item]) -> list[Failures | Exception]:
        # Another program's lock is waited for no longer than the most urgent of these writes may take.
        wait_s = min(self._config.busy_timeout, *(deadline.left_s() for _, deadline in items))
        self._connection.execute(f"PRAGMA busy_timeout = {round(wait_s * 1000)}")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [self._store_or_undo(batch) for batch, _ in items]
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return answers

    def _transact_alone(self, item: _Item) -> Failures | Exception:
        batch = item[0]
        try:
            return self._transact([item])[0]
        except DeliveryError as error:
            return error
        except _TransactionEndedError as ended:
            message = f"the statement ended its transaction: {ended}"
            return Failures({0: RejectError(message)}) if len(batch) == 1 else SplitError(message)

    def _roll_back(self) -> None:
        self._rows.forget()
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _store_or_undo(self, batch: Batch) -> Failures | Exception:
        """A batch whose columns don't fit is undone alone; those of other lanes stay."""
        self._connection.execute("SAVEPOINT headgate_batch")
        try:
            answer: Failures | Exception = (
                self._store(batch) if not self._config.exactly_once else self._store_once(batch)
            )
        except DeliveryError as error:
            self._connection.execute("ROLLBACK TO headgate_batch")
            self._rows.forget()
            answer = error
        self._connection.execute("RELEASE headgate_batch")
        return answer

    def _store_once(self, batch: Batch) -> Failures:
        """Leave out what the watermark says is stored, and move it in the same transaction."""
        key = (batch.sink_id, self._identity, batch.lane)
        where = "WHERE sink = ? AND journal = ? AND lane = ?"
        found = self._connection.execute(f"SELECT last_seq FROM {WATERMARKS} {where}", key).fetchone()
        stored = bisect_right(batch.seqs, found[0]) if found else 0
        failures: dict[int, DeliveryError] = {
            index: DuplicateError(f"stored before: {batch.seqs[index]} is not above {found[0]}")
            for index in range(stored)
        }
        if stored < len(batch):
            rest = self._store(batch.part(stored, len(batch)) if stored else batch)
            failures.update((index + stored, error) for index, error in rest.items())
            self._connection.execute(f"INSERT OR REPLACE INTO {WATERMARKS} VALUES (?, ?, ?, ?)", (*key, batch.seqs[-1]))
        return Failures(failures)

    def _store(self, batch: Batch) -> Failures:
        failures: dict[int, DeliveryError] = {}
        for run in self._rows.runs(self._connection, batch, failures):
            self._store_run(run, failures)
        return Failures(failures)

    def _store_run(self, run: Run, failures: dict[int, DeliveryError]) -> None:
        self._connection.execute("SAVEPOINT headgate_run")
        try:
            self._execute(run)
        except (sqlite3.Error, OverflowError, ValueError) as error:
            self._row_failure(error, run)
            self._connection.execute("ROLLBACK TO headgate_run")
            run.statement.learn(run.parameters)
            failures.update(self._store_one_by_one(run))
        self._connection.execute("RELEASE headgate_run")

    def _execute(self, run: Run) -> None:
        statement, rows = run.statement, run.parameters
        count = statement.rows_at_once
        if count > 1:
            whole = len(rows) - len(rows) % count
            flat = [tuple(chain.from_iterable(rows[start : start + count])) for start in range(0, whole, count)]
            self._connection.executemany(statement.sql_many, flat)
            rows = rows[whole:]
        self._connection.executemany(statement.sql, rows)

    def _store_one_by_one(self, run: Run) -> Iterator[tuple[int, DeliveryError]]:
        for index, values in zip(run.indices, run.parameters, strict=True):
            try:
                self._connection.execute(run.statement.sql, run.statement.convert(values))
            except (sqlite3.Error, OverflowError, ValueError) as error:
                yield index, self._row_failure(error, run)

    def _row_failure(self, error: Exception, run: Run) -> DeliveryError:
        """What a row's own fault asks for. Raises where it is not the row's."""
        if not isinstance(error, sqlite3.Error) or not hasattr(error, "sqlite_errorcode"):
            return RejectError(f"a value can't be stored: {error}")
        code = error.sqlite_errorcode & 0xFF
        if code not in _ROW_CODES and not (code == sqlite3.SQLITE_ERROR and self._compiles(run)):
            raise error
        if not self._connection.in_transaction:
            raise _TransactionEndedError(str(error)) from error
        if code == sqlite3.SQLITE_CONSTRAINT and _is_duplicate(str(error), self._config.conflict_key):
            return DuplicateError(str(error), code=error.sqlite_errorname)
        return RejectError(str(error), code=error.sqlite_errorname)

    def _compiles(self, run: Run) -> bool:
        """Whether the statement fits the tables, so that what failed was a value (``malformed JSON``)."""
        try:
            explain(self._connection, run.statement.sql, len(run.parameters[0]))
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
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def _is_duplicate(message: str, conflict_key: Sequence[str]) -> bool:
    """Whether ``UNIQUE constraint failed: t.a, t.b`` is about the conflict key, and not about another index."""
    what, _, columns = message.partition(" constraint failed: ")
    names = {column.rpartition(".")[2].lower() for column in columns.split(", ")}
    return what == "UNIQUE" and bool(conflict_key) and names == {key.lower() for key in conflict_key}


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
