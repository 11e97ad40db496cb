"""Statements that store rows in SQLite, and how values become their parameters."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from connectors._shared.isolation import VALUE_ERRORS
from connectors._shared.planning import PlannedBatch, RowGroup, RowPicker, Values, WritePlanner, parameters
from connectors._shared.table import quoted
from engine.errors import HoldError
from engine.language.template import sql_parameters
from engine.model import jsontext
from engine.model.jsontext import UNDEFINED
from engine.model.record import Batch, Row

ROWS_AT_ONCE = 50
"""Rows that one statement stores. It costs two thirds of as many statements, and the interpreter's lock is released and
taken once for all of them, which matters more while the event loop is busy in its own thread."""

VARIABLES_MAX = 1000
"""Parameters of one statement, a little more than the 999 that SQLite before 3.32 took."""

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1


class SqliteStatement(Protocol):
    """A statement, and how values become its parameters."""

    sql: str
    """The statement for one row."""
    sql_many: str
    """The same for `rows_at_once` rows."""
    rows_at_once: int

    def convert(self, values: Values) -> Values:
        """Return `values` as SQLite stores them. Raise `ValueError` for a value that has no such form."""

    def learn(self, rows: Iterable[Values]) -> None:
        """Find out which parameters need conversion, from `rows` of which some could not be bound."""


class SqlitePlanner(WritePlanner[SqliteStatement], Protocol):
    """Planner of a connection's statements. Lives in the sink's thread."""

    def check(self, connection: sqlite3.Connection) -> None:
        """Use `connection` from now on, and check the table over it. Raise `HoldError` if it doesn't fit."""

    def forget(self) -> None:
        """Read the table's columns again before the next use: changes of the transaction were rolled back."""


class InsertStatement:
    """An INSERT for rows of the same columns."""

    def __init__(self, sql: str, sql_many: str, columns: Sequence[tuple[str, bool]]) -> None:
        """`columns` are those of a row, each with whether SQLite would turn digits in it into a number."""
        self.sql, self.sql_many = sql, sql_many
        self.rows_at_once = rows_at_once(len(columns))
        self._picker = RowPicker([name for name, _ in columns])
        self._is_numeric = tuple(is_numeric for _, is_numeric in columns)
        self._converted: frozenset[int] = frozenset()
        """Parameters that have had values which SQLite has no type for. Only these are looked at from then on."""

    def bind(self, rows: Sequence[Row]) -> Sequence[Values] | None:
        """Return the parameters of each row; None where a row has other columns than these."""
        values = self._picker.pick(rows)
        if values is not None and self._converted:
            with suppress(*VALUE_ERRORS):  # the row at fault is found when rows are stored one by one
                return [self.convert(each) for each in values]
        return values

    def convert(self, values: Values) -> Values:
        converted = list(values)
        for index in self._converted:
            converted[index] = bindable(values[index], self._is_numeric[index])
        return tuple(converted)

    def learn(self, rows: Iterable[Values]) -> None:
        self._converted |= {index for values in rows for index, value in enumerate(values) if not _is_native(value)}


class OwnStatement:
    """The user's own statement of `sql`, with its placeholders bound as parameters."""

    def __init__(self, text: str) -> None:
        self.sql, self._templates = sql_parameters(text, style="?")
        self.sql_many, self.rows_at_once = self.sql, 1

    def check(self, connection: sqlite3.Connection) -> None:
        try:
            explain(connection, self.sql, len(self._templates))
        except sqlite3.OperationalError as error:
            raise HoldError(f"`sql` does not fit the database: {error}", code=error.sqlite_errorname) from error

    def plan(self, batch: Batch) -> PlannedBatch[SqliteStatement]:
        bound = parameters(batch, self._templates, bindable)
        group: RowGroup[SqliteStatement] = RowGroup(self, bound.indices, bound.results)
        return PlannedBatch([group] if bound.results else [], bound.failures)

    def convert(self, values: Values) -> Values:
        return values

    def learn(self, rows: Iterable[Values]) -> None:
        """Do nothing: all values are converted already."""

    def forget(self) -> None:
        """Do nothing: no columns were read."""


def insert_into(table: str, columns: Sequence[str], rows: int = 1) -> str:
    """Return an INSERT of `rows` rows."""
    names, marks = ", ".join(map(quoted, columns)), f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {quoted(table)} ({names}) VALUES {', '.join([marks] * rows)}"


def rows_at_once(column_count: int) -> int:
    """Return how many rows of so many columns one statement stores."""
    return max(1, min(ROWS_AT_ONCE, VARIABLES_MAX // column_count))


def bindable(value: Any, is_numeric: bool = False) -> Any:
    """Return `value` as SQLite stores it: structures as JSON text, integers past 64 bits as their digits.

    In a column of numbers those digits are a blob: SQLite would make a rounded float of the text.
    """
    kind = type(value)
    if kind is dict or kind is list:
        return jsontext.encode(value).decode()
    if kind is int and not INTEGER_MIN <= value <= INTEGER_MAX:
        return str(value).encode() if is_numeric else str(value)
    return None if value is UNDEFINED else value


def explain(connection: sqlite3.Connection, sql: str, parameter_count: int) -> None:
    """Compile `sql` without running it. Raise `sqlite3.Error` where it does not fit the database."""
    connection.execute(f"EXPLAIN {sql}", (None,) * parameter_count)


def _is_native(value: Any) -> bool:
    """Whether `bindable` would return `value` itself."""
    kind = type(value)
    return INTEGER_MIN <= value <= INTEGER_MAX if kind is int else kind is not dict and kind is not list
