"""A table: its columns, made and grown as rows need them, and a statement for each set of columns rows come with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from operator import itemgetter
from typing import Any

from connectors.sqlite.rows import Run, bindable, explain, is_bound_as_it_is
from engine.errors import DeliveryError, HoldError, RejectError
from engine.model.record import Batch, Row

STATEMENTS_MAX = 256
"""Statements kept compiled, one for each set of columns that rows come with."""


ROWS_AT_ONCE = 50
VARIABLES_MAX = 1000
"""One statement stores as many rows at once: two thirds of the cost of as many statements, and the interpreter's lock
is given up and taken back once for them all, which with a busy loop beside it matters more."""


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What is wanted of a table; the sink's options say what each means."""

    name: str
    create: bool
    may_grow: bool
    columns_max: int
    is_upsert: bool
    conflict_key: tuple[str, ...]


class Table:
    """The table of `table`: its columns, and a statement for each set of columns that rows come with."""

    def __init__(self, options: TableOptions) -> None:
        self._options = options
        self._name = options.name
        self._columns: dict[str, str] | None = None
        """Names by their lower case, which is how SQLite compares them; empty while there is no table."""
        self._numeric: frozenset[str] = frozenset()
        """Those that make a number of any text that looks like one."""
        self._computed: frozenset[str] = frozenset()
        """Those that take no value."""
        self._required: frozenset[str] = frozenset()
        self._statements: dict[tuple[str, ...], Statement | RejectError] = {}

    def check(self, connection: sqlite3.Connection) -> None:
        self.forget()
        columns = self._look(connection)
        if not columns:
            if not self._options.create:
                raise self._no_table(connection)
            return
        self._check_conflict_key(connection, columns)

    def runs(self, connection: sqlite3.Connection, batch: Batch, failures: dict[int, DeliveryError]) -> Iterator[Run]:
        statement = self._statements.get(tuple(batch.rows[0]))
        if isinstance(statement, Statement):
            parameters = statement.bind(batch.rows)
            if parameters is not None:
                yield Run(statement, range(len(batch)), parameters)
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
                yield Run(statement, indices, statement.bind(rows) or ())

    def forget(self) -> None:
        self._columns = None
        self._statements.clear()

    def _look(self, connection: sqlite3.Connection) -> dict[str, str]:
        found = connection.execute(f"PRAGMA table_xinfo({_quoted(self._name)})").fetchall()
        self._columns = {folded(name): name for _, name, *_ in found}
        self._computed = frozenset(folded(name) for _, name, *_, hidden in found if hidden in _COMPUTED)
        self._numeric = frozenset(folded(name) for _, name, declared, *_ in found if _is_numeric(declared))
        self._required = frozenset(
            folded(name) for _, name, _, not_null, default, key, _ in found if not_null and default is None and not key
        )
        return self._columns

    def _no_table(self, connection: sqlite3.Connection) -> HoldError:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type != 'index'")]
        return HoldError(f"there is no table {self._name}{_nearest(self._name, tables)}", code="no_table")

    def _check_conflict_key(self, connection: sqlite3.Connection, columns: Mapping[str, str]) -> None:
        key = self._options.conflict_key
        if not key:
            return
        self._check_known(key, columns)
        try:
            explain(connection, _insert(self._name, key) + self._on_conflict(key), len(key))
        except sqlite3.OperationalError as error:
            raise HoldError(
                f"the table {self._name} has no unique index on exactly its conflict_key ({', '.join(key)})",
                code=error.sqlite_errorname,
            ) from error

    def _check_known(self, names: Iterable[str], columns: Mapping[str, str]) -> None:
        for name in names:
            if folded(name) not in columns:
                near = _nearest(name, columns.values())
                raise HoldError(f"the table {self._name} has no column {name}{near}", code="no_column")

    def _add_statement(
        self, connection: sqlite3.Connection, keys: tuple[str, ...], rows: Sequence[Row]
    ) -> Statement | RejectError:
        if len(self._statements) >= STATEMENTS_MAX:
            self._statements.clear()
        columns = self._columns if self._columns is not None else self._look(connection)
        try:
            self._make_room(connection, keys, rows, columns)
            statement: Statement | RejectError = self._compile(keys)
        except RejectError as error:
            statement = error
        self._statements[keys] = statement
        return statement

    def _make_room(
        self, connection: sqlite3.Connection, keys: tuple[str, ...], rows: Sequence[Row], columns: Mapping[str, str]
    ) -> None:
        """Have a column for every key. Raises `RejectError` for keys that can't be, `HoldError` where it may not."""
        if not keys or len(set(map(folded, keys))) < len(keys) or any("\0" in key for key in keys):
            raise RejectError(f"columns {', '.join(keys) or '(none)'} can't be columns of a table")
        if computed := self._computed.intersection(map(folded, keys)):
            raise RejectError(f"the column {min(computed)} of {self._name} is computed by SQLite")
        missing = [key for key in keys if folded(key) not in columns]
        if not missing:
            return
        if not columns and not self._options.create:
            raise self._no_table(connection)
        if columns and not self._options.may_grow:
            self._check_known(missing, columns)
        if len(columns) + len(missing) > self._options.columns_max:
            raise RejectError(f"{self._name} would grow past max_columns ({self._options.columns_max}) by {missing[0]}")
        definitions = [f"{_quoted(key)} {_column_type(row[key] for row in rows)}".rstrip() for key in missing]
        if columns:
            for definition in definitions:
                connection.execute(f"ALTER TABLE {_quoted(self._name)} ADD COLUMN {definition}")
        else:
            unique_key = self._options.conflict_key
            unique = [f"UNIQUE ({', '.join(map(_quoted, unique_key))})"] if unique_key else []
            self._check_known(unique_key, {folded(key): key for key in keys})
            connection.execute(f"CREATE TABLE {_quoted(self._name)} ({', '.join(definitions + unique)})")
        self._look(connection)

    def _compile(self, keys: tuple[str, ...]) -> Statement:
        brought = set(map(folded, keys))
        lacking = sorted(self._required - brought) + [
            key for key in self._options.conflict_key if folded(key) not in brought
        ]
        if lacking:
            raise HoldError(f"rows bring no column {lacking[0]}, which {self._name} needs", code="no_column")
        columns = [(key, folded(key) in self._numeric) for key in keys]
        one, many = _insert(self._name, keys), _insert(self._name, keys, rows=_rows_at_once(keys))
        conflict = self._on_conflict(keys) if self._options.is_upsert else ""
        return Statement(one + conflict, many + conflict, columns)

    def _on_conflict(self, keys: tuple[str, ...]) -> str:
        """What is done with a row that is there: the other columns that come are replaced."""
        key = {folded(name) for name in self._options.conflict_key}
        changes = [f"{_quoted(name)} = excluded.{_quoted(name)}" for name in keys if folded(name) not in key]
        then = f"UPDATE SET {', '.join(changes)}" if changes else "NOTHING"
        return f" ON CONFLICT ({', '.join(map(_quoted, self._options.conflict_key))}) DO {then}"


class Statement:
    """An INSERT for rows of the same columns, and how their values are bound."""

    def __init__(self, sql: str, sql_many: str, columns: Sequence[tuple[str, bool]]) -> None:
        """`columns` are the keys of a row, each with whether its column would turn digits into a number."""
        self.sql, self.sql_many = sql, sql_many
        self.rows_at_once = _rows_at_once(columns)
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
            converted[index] = bindable(values[index], self._is_numeric[index])
        return tuple(converted)

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        self._converted |= {
            index for values in rows for index, value in enumerate(values) if not is_bound_as_it_is(value)
        }


_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_COMPUTED = (2, 3)
"""What ``PRAGMA table_xinfo`` has in its last column for GENERATED ALWAYS, virtual and stored."""


def folded(name: str) -> str:
    """The same for names that SQLite takes for the same, which are those that differ by case in ASCII alone."""
    return name.translate(_ASCII_LOWER)


_COLUMN_TYPES = {bool: "BOOLEAN", int: "INTEGER", float: "REAL", str: "TEXT", dict: "TEXT", list: "TEXT", bytes: "BLOB"}
_MIXED_TYPES = {frozenset({"INTEGER", "REAL"}): "REAL", frozenset({"TEXT", "BLOB"}): "TEXT"}


def _column_type(values: Iterable[Any]) -> str:
    """The declared type that fits all `values`; none where they are too different, or all null."""
    kinds = frozenset(_COLUMN_TYPES.get(type(bindable(value)), "") for value in values if value is not None)
    return next(iter(kinds)) if len(kinds) == 1 else _MIXED_TYPES.get(kinds, "")


def _is_numeric(declared: str) -> bool:
    """Whether a column of this declared type has numeric affinity (SQLite, "Datatypes", 3.1)."""
    words = declared.upper()
    if "INT" in words:
        return True
    return bool(words) and not any(word in words for word in ("CHAR", "CLOB", "TEXT", "BLOB"))


def _rows_at_once(columns: Sequence[Any]) -> int:
    return max(1, min(ROWS_AT_ONCE, VARIABLES_MAX // len(columns)))


def _insert(table: str, keys: Sequence[str], rows: int = 1) -> str:
    columns, marks = ", ".join(map(_quoted, keys)), f"({', '.join('?' * len(keys))})"
    return f"INSERT INTO {_quoted(table)} ({columns}) VALUES {', '.join([marks] * rows)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _nearest(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""
