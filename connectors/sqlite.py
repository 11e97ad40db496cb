"""Stores rows in a table of an SQLite database: the embedded default, no server needed.

Each row goes to the columns of its names. The table is made from the first rows unless told not to, and grows columns
that later rows bring. SQLite has one writer, so the sink has one thread; batches of several lanes that wait at the
same time share a transaction. A record is delivered once its transaction is committed, with ``synchronous: full``
on the disk itself.

A row that the table refuses fails alone: the statement is undone, and its rows are sent again one by one.
"""

from __future__ import annotations

import os
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import structlog
from pydantic import Field

from connectors._shared.disk import classify, place, prepare_folder
from connectors._shared.identity import journal_identity
from connectors._shared.thread import WriterThread
from engine import jsontext
from engine.config.units import Duration
from engine.connector import ConnectorConfig, Sink, SinkContext
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
from engine.jsontext import UNDEFINED
from engine.record import Batch, Row
from engine.template import sql_parameters

log = structlog.get_logger()

SHAPES_MAX = 256
"""Statements kept compiled, one for each set of columns that rows come with."""

WATERMARKS = "_headgate_watermark"

Answer = Mapping[int, DeliveryError] | None


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
        self._own = None if config.sql is None else _OwnStatement(config.sql)
        self._database: _Database | None = None
        self._thread: WriterThread[Batch, Answer] | None = None

    async def connect(self) -> None:
        await self.close()
        database = _Database(self.config, self.context, self._own or _Table(self.config))
        thread = WriterThread(f"sqlite-{self.context.sink_id}", database.write)
        self._database, self._thread = database, thread
        await thread.call(database.open)

    async def write(self, batch: Batch) -> Answer:
        if self._thread is None:
            raise NotConnectedError("the database is not open")
        return await self._thread.submit(batch)

    async def close(self) -> None:
        thread, database = self._thread, self._database
        self._thread = self._database = None
        if thread is not None and database is not None:
            await thread.stop(database.close)


class _TransactionEndedError(Exception):
    """A statement ended the transaction it was part of, as ``ON CONFLICT ROLLBACK`` does."""


class _Bound(Protocol):
    """A statement, and how values become its parameters."""

    sql: str

    def convert(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """`values` as SQLite stores them. Raises `ValueError` where one can't be."""

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        """Some of `rows` could not be bound: find out what is to be converted, for these and for all to come."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive records of a batch that one statement stores; ``indices`` are their places in the batch."""

    statement: _Bound
    indices: Sequence[int]
    parameters: Sequence[Sequence[Any]]


class _Rows(Protocol):
    """How rows become statements: by the table's columns, or by a statement of the user's."""

    def check(self, connection: sqlite3.Connection) -> None:
        """Look at the table. Raises `HoldError` when it is not what the options say."""

    def runs(self, connection: sqlite3.Connection, batch: Batch, failures: dict[int, DeliveryError]) -> Iterator[_Run]:
        """The statements that store `batch`, in order; records that can't be stored go to `failures`."""

    def forget(self) -> None:
        """Changes to the table since the transaction began were undone."""


class _Database:
    """The connection, its transactions and what their errors mean. Lives in the sink's thread."""

    def __init__(self, config: SqliteConfig, context: SinkContext, rows: _Rows) -> None:
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

    def write(self, batches: Sequence[Batch]) -> list[Answer | Exception]:
        """One transaction for all `batches`; each has its own answer."""
        try:
            return self._transact(batches)
        except _TransactionEndedError:
            return [self._transact_alone(batch) for batch in batches]

    def _connect(self) -> None:
        config = self._config
        timeout_s = min(config.busy_timeout, config.request_timeout / 2)
        self._connection = sqlite3.connect(
            self._path, timeout=timeout_s, isolation_level=None, check_same_thread=False, cached_statements=SHAPES_MAX
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

    def _transact(self, batches: Sequence[Batch]) -> list[Answer | Exception]:
        if _file_id(self._path) != self._file:
            raise NotConnectedError(f"{self._path} was removed or replaced")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [self._store_or_undo(batch) for batch in batches]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise self._translated(error) from error
        except BaseException:
            self._roll_back()
            raise
        return answers

    def _transact_alone(self, batch: Batch) -> Answer | Exception:
        try:
            return self._transact([batch])[0]
        except DeliveryError as error:
            return error
        except _TransactionEndedError as ended:
            message = f"the statement ended its transaction: {ended}"
            return {0: RejectError(message)} if len(batch) == 1 else SplitError(message)

    def _roll_back(self) -> None:
        self._rows.forget()
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _store_or_undo(self, batch: Batch) -> Answer | Exception:
        """A batch whose columns don't fit is undone alone; those of other lanes stay."""
        self._connection.execute("SAVEPOINT headgate_batch")
        try:
            answer: Answer | Exception = (
                self._store(batch) if not self._config.exactly_once else self._store_once(batch)
            )
        except DeliveryError as error:
            self._connection.execute("ROLLBACK TO headgate_batch")
            self._rows.forget()
            answer = error
        self._connection.execute("RELEASE headgate_batch")
        return answer

    def _store_once(self, batch: Batch) -> Answer:
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
            rest = self._store(batch.part(stored, len(batch)) if stored else batch) or {}
            failures.update((index + stored, error) for index, error in rest.items())
            self._connection.execute(f"INSERT OR REPLACE INTO {WATERMARKS} VALUES (?, ?, ?, ?)", (*key, batch.seqs[-1]))
        return failures or None

    def _store(self, batch: Batch) -> Answer:
        failures: dict[int, DeliveryError] = {}
        for run in self._rows.runs(self._connection, batch, failures):
            self._store_run(run, failures)
        return failures or None

    def _store_run(self, run: _Run, failures: dict[int, DeliveryError]) -> None:
        self._connection.execute("SAVEPOINT headgate_run")
        try:
            self._connection.executemany(run.statement.sql, run.parameters)
        except (sqlite3.Error, OverflowError, ValueError) as error:
            self._row_failure(error, run)
            self._connection.execute("ROLLBACK TO headgate_run")
            run.statement.learn(run.parameters)
            failures.update(self._store_one_by_one(run))
        self._connection.execute("RELEASE headgate_run")

    def _store_one_by_one(self, run: _Run) -> Iterator[tuple[int, DeliveryError]]:
        for index, values in zip(run.indices, run.parameters, strict=True):
            try:
                self._connection.execute(run.statement.sql, run.statement.convert(values))
            except (sqlite3.Error, OverflowError, ValueError) as error:
                yield index, self._row_failure(error, run)

    def _row_failure(self, error: Exception, run: _Run) -> DeliveryError:
        """What a row's own fault asks for. Raises where it is not the row's."""
        if not self._connection.in_transaction:
            raise _TransactionEndedError(str(error)) from error
        if not isinstance(error, sqlite3.Error) or not hasattr(error, "sqlite_errorcode"):
            return RejectError(f"a value can't be stored: {error}")
        code = error.sqlite_errorcode & 0xFF
        if code == sqlite3.SQLITE_CONSTRAINT and _is_duplicate(str(error), self._config.conflict_key):
            return DuplicateError(str(error), code=error.sqlite_errorname)
        if code in _ROW_CODES or (code == sqlite3.SQLITE_ERROR and self._compiles(run)):
            return RejectError(str(error), code=error.sqlite_errorname)
        raise error

    def _compiles(self, run: _Run) -> bool:
        """Whether the statement fits the tables, so that what failed was a value (``malformed JSON``)."""
        try:
            _explain(self._connection, run.statement.sql, len(run.parameters[0]))
        except sqlite3.Error:
            return False
        return True

    def _translated(self, error: sqlite3.Error) -> DeliveryError:
        code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        name: str | None = getattr(error, "sqlite_errorname", None)
        message = f"{self._path}: {error}"
        if code in _RETRY_CODES:
            return RetryableError(message, code=name)
        if code == sqlite3.SQLITE_IOERR:
            return NotConnectedError(message, code=name)
        if code == sqlite3.SQLITE_ERROR and self._config.sql is None and self._config.create_table:
            return NotConnectedError(message, code=name)  # the table changed under us: look at it anew
        return HoldError(message, code=name)


class _OwnStatement:
    """The statement of `sql`, its placeholders bound as parameters."""

    def __init__(self, text: str) -> None:
        self.sql, self._templates = sql_parameters(text, style="?")
        self._asks_for_record = any(name.startswith("_") for each in self._templates for name in each.names)

    def check(self, connection: sqlite3.Connection) -> None:
        try:
            _explain(connection, self.sql, len(self._templates))
        except sqlite3.OperationalError as error:
            raise HoldError(f"`sql` does not fit the database: {error}", code=error.sqlite_errorname) from error

    def runs(self, connection: sqlite3.Connection, batch: Batch, failures: dict[int, DeliveryError]) -> Iterator[_Run]:
        columns = [record.columns() for record in batch.records] if self._asks_for_record else batch.rows
        indices: list[int] = []
        parameters: list[tuple[Any, ...]] = []
        for index, row in enumerate(columns):
            try:
                parameters.append(tuple([_bindable(template.value(row)) for template in self._templates]))
            except RejectError as error:
                failures[index] = error
            except ValueError as error:
                failures[index] = RejectError(str(error))
            else:
                indices.append(index)
        yield _Run(self, indices, parameters)

    def convert(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values)

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        """All values are converted already."""

    def forget(self) -> None:
        """It knows nothing of the table."""


class _Table:
    """The table of `table`: its columns, and a statement for each set of columns that rows come with."""

    def __init__(self, config: SqliteConfig) -> None:
        assert config.table is not None
        self._config = config
        self._name = config.table
        self._may_grow = config.create_table if config.add_columns is None else config.add_columns
        self._columns: dict[str, str] | None = None
        """Names by their lower case, which is how SQLite compares them; empty while there is no table."""
        self._numeric: frozenset[str] = frozenset()
        """Those that make a number of any text that looks like one."""
        self._required: frozenset[str] = frozenset()
        self._statements: dict[tuple[str, ...], _Statement | RejectError] = {}

    def check(self, connection: sqlite3.Connection) -> None:
        self.forget()
        columns = self._look(connection)
        if not columns:
            if not self._config.create_table:
                tables = [
                    name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type != 'index'")
                ]
                raise HoldError(f"there is no table {self._name}{_nearest(self._name, tables)}", code="no_table")
            return
        self._check_conflict_key(connection, columns)

    def runs(self, connection: sqlite3.Connection, batch: Batch, failures: dict[int, DeliveryError]) -> Iterator[_Run]:
        statement = self._statements.get(tuple(batch.rows[0]))
        if isinstance(statement, _Statement):
            parameters = statement.bind(batch.rows)
            if parameters is not None:
                yield _Run(statement, range(len(batch)), parameters)
                return
        start = 0
        for keys, group in groupby(batch.rows, key=tuple):
            rows = list(group)
            indices = range(start, start + len(rows))
            start += len(rows)
            statement = self._statements.get(keys) or self._add_statement(connection, keys, rows)
            if isinstance(statement, RejectError):
                failures.update(dict.fromkeys(indices, statement))
            else:
                yield _Run(statement, indices, statement.bind(rows) or ())

    def forget(self) -> None:
        self._columns = None
        self._statements.clear()

    def _look(self, connection: sqlite3.Connection) -> dict[str, str]:
        found = connection.execute(f"PRAGMA table_info({_quoted(self._name)})").fetchall()
        self._columns = {name.lower(): name for _, name, *_ in found}
        self._numeric = frozenset(name.lower() for _, name, declared, *_ in found if _is_numeric(declared))
        self._required = frozenset(
            name.lower() for _, name, _, not_null, default, key in found if not_null and default is None and not key
        )
        return self._columns

    def _check_conflict_key(self, connection: sqlite3.Connection, columns: Mapping[str, str]) -> None:
        key = self._config.conflict_key
        if not key:
            return
        self._check_known(key, columns)
        try:
            _explain(connection, _insert(self._name, key, key, "NOTHING"), len(key))
        except sqlite3.OperationalError as error:
            raise HoldError(
                f"the table {self._name} has no unique index on exactly its conflict_key ({', '.join(key)})",
                code=error.sqlite_errorname,
            ) from error

    def _check_known(self, names: Iterable[str], columns: Mapping[str, str]) -> None:
        for name in names:
            if name.lower() not in columns:
                near = _nearest(name, columns.values())
                raise HoldError(f"the table {self._name} has no column {name}{near}", code="no_column")

    def _add_statement(
        self, connection: sqlite3.Connection, keys: tuple[str, ...], rows: Sequence[Row]
    ) -> _Statement | RejectError:
        if len(self._statements) >= SHAPES_MAX:
            self._statements.clear()
        columns = self._columns if self._columns is not None else self._look(connection)
        try:
            self._make_room(connection, keys, rows, columns)
            statement: _Statement | RejectError = self._compile(keys)
        except RejectError as error:
            statement = error
        self._statements[keys] = statement
        return statement

    def _make_room(
        self, connection: sqlite3.Connection, keys: tuple[str, ...], rows: Sequence[Row], columns: Mapping[str, str]
    ) -> None:
        """Have a column for every key. Raises `RejectError` for keys that can't be, `HoldError` where it may not."""
        folded = {key.lower() for key in keys}
        if not keys or len(folded) < len(keys) or any("\0" in key for key in keys):
            raise RejectError(f"columns {', '.join(keys) or '(none)'} can't be columns of a table")
        missing = [key for key in keys if key.lower() not in columns]
        if not missing:
            return
        if columns and not self._may_grow:
            self._check_known(missing, columns)
        if len(columns) + len(missing) > self._config.max_columns:
            raise RejectError(f"{self._name} would grow past max_columns ({self._config.max_columns}) by {missing[0]}")
        definitions = [f"{_quoted(key)} {_column_type(row[key] for row in rows)}".rstrip() for key in missing]
        if columns:
            for definition in definitions:
                connection.execute(f"ALTER TABLE {_quoted(self._name)} ADD COLUMN {definition}")
        else:
            unique = (
                [f"UNIQUE ({', '.join(map(_quoted, self._config.conflict_key))})"] if self._config.conflict_key else []
            )
            self._check_known(self._config.conflict_key, {key.lower(): key for key in keys})
            connection.execute(f"CREATE TABLE {_quoted(self._name)} ({', '.join(definitions + unique)})")
        self._look(connection)

    def _compile(self, keys: tuple[str, ...]) -> _Statement:
        folded = {key.lower() for key in keys}
        lacking = sorted(self._required - folded) + [
            key for key in self._config.conflict_key if key.lower() not in folded
        ]
        if lacking:
            raise HoldError(f"rows bring no column {lacking[0]}, which {self._name} needs", code="no_column")
        columns = [(key, key.lower() in self._numeric) for key in keys]
        if self._config.mode == "insert":
            return _Statement(_insert(self._name, keys), columns)
        key = self._config.conflict_key
        others = [name for name in keys if name.lower() not in {each.lower() for each in key}]
        changes = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in others)
        return _Statement(_insert(self._name, keys, key, f"UPDATE SET {changes}" if changes else "NOTHING"), columns)


class _Statement:
    """An INSERT for rows of the same columns, and how their values are bound."""

    def __init__(self, sql: str, columns: Sequence[tuple[str, bool]]) -> None:
        """`columns` are the keys of a row, each with whether its column would turn digits into a number."""
        self.sql = sql
        self._values = itemgetter(*(key for key, _ in columns))
        self._counts = {len(columns)}
        self._is_single = len(columns) == 1
        self._is_numeric = tuple(is_numeric for _, is_numeric in columns)
        self._converted: frozenset[int] = frozenset()
        """Places of values that SQLite has no type for, as far as any came."""

    def bind(self, rows: Sequence[Row]) -> Sequence[Sequence[Any]] | None:
        """The parameters of each row; None where a row has other columns than these."""
        if set(map(len, rows)) != self._counts:
            return None
        try:
            values = [(self._values(row),) for row in rows] if self._is_single else list(map(self._values, rows))
        except KeyError:
            return None
        if self._converted:
            with suppress(ValueError):  # a value has no JSON form: the row it is in will fail alone
                return [self.convert(each) for each in values]
        return values

    def convert(self, values: Sequence[Any]) -> tuple[Any, ...]:
        converted = list(values)
        for index in self._converted:
            converted[index] = _bindable(values[index], self._is_numeric[index])
        return tuple(converted)

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        self._converted |= {
            index for values in rows for index, value in enumerate(values) if not _is_bound_as_it_is(value)
        }


_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**63 - 1


def _is_bound_as_it_is(value: Any) -> bool:
    kind = type(value)
    return _INTEGER_MIN <= value <= _INTEGER_MAX if kind is int else kind is not dict and kind is not list


def _bindable(value: Any, is_numeric: bool = False) -> Any:
    """`value` as SQLite stores it: structures as JSON text, integers past 64 bits as their digits.

    In a column of numbers those digits are a blob: SQLite would make a rounded float of the text.
    """
    kind = type(value)
    if kind is dict or kind is list:
        return jsontext.encode(value).decode()
    if kind is int and not _INTEGER_MIN <= value <= _INTEGER_MAX:
        return str(value).encode() if is_numeric else str(value)
    return None if value is UNDEFINED else value


_COLUMN_TYPES = {bool: "BOOLEAN", int: "INTEGER", float: "REAL", str: "TEXT", dict: "TEXT", list: "TEXT", bytes: "BLOB"}
_MIXED_TYPES = {frozenset({"INTEGER", "REAL"}): "REAL", frozenset({"TEXT", "BLOB"}): "TEXT"}


def _column_type(values: Iterable[Any]) -> str:
    """The declared type that fits all `values`; none where they are too different, or all null."""
    kinds = frozenset(_COLUMN_TYPES.get(type(_bindable(value)), "") for value in values if value is not None)
    return next(iter(kinds)) if len(kinds) == 1 else _MIXED_TYPES.get(kinds, "")


def _is_numeric(declared: str) -> bool:
    """Whether a column of this declared type has numeric affinity (SQLite, "Datatypes", 3.1)."""
    words = declared.upper()
    if "INT" in words:
        return True
    return bool(words) and not any(word in words for word in ("CHAR", "CLOB", "TEXT", "BLOB"))


def _insert(table: str, keys: Sequence[str], conflict_key: Sequence[str] = (), then: str = "") -> str:
    columns, marks = ", ".join(map(_quoted, keys)), ", ".join("?" * len(keys))
    conflict = f" ON CONFLICT ({', '.join(map(_quoted, conflict_key))}) DO {then}" if then else ""
    return f"INSERT INTO {_quoted(table)} ({columns}) VALUES ({marks}){conflict}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _nearest(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _explain(connection: sqlite3.Connection, sql: str, parameter_count: int) -> None:
    """Compile `sql` without running it."""
    connection.execute(f"EXPLAIN {sql}", (None,) * parameter_count)


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
