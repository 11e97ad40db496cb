"""How rows become statements: what a table and a statement of the user's have in common, and the latter."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from connectors._shared.routing import columns_for
from engine.errors import DeliveryError, HoldError, RejectError
from engine.language.template import sql_parameters
from engine.model import jsontext
from engine.model.jsontext import UNDEFINED
from engine.model.record import Batch


class Bound(Protocol):
    """A statement, and how values become its parameters."""

    sql: str
    """The statement for one row."""
    sql_many: str
    """The same for `rows_at_once` rows."""
    rows_at_once: int

    def convert(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """`values` as SQLite stores them. Raises `ValueError` where one can't be."""

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        """Some of `rows` could not be bound: find out what is to be converted, for these and for all to come."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive records of a batch that one statement stores; ``indices`` are their places in the batch."""

    statement: Bound
    indices: Sequence[int]
    parameters: Sequence[Sequence[Any]]


class Rows(Protocol):
    """How rows become statements: by the table's columns, or by a statement of the user's."""

    def check(self, connection: sqlite3.Connection) -> None:
        """Look at the table. Raises `HoldError` when it is not what the options say."""

    def runs(self, connection: sqlite3.Connection, batch: Batch, failures: dict[int, DeliveryError]) -> Iterator[Run]:
        """The statements that store `batch`, in order; records that can't be stored go to `failures`."""

    def forget(self) -> None:
        """Changes to the table since the transaction began were undone."""


class OwnStatement:
    """The statement of `sql`, its placeholders bound as parameters."""

    def __init__(self, text: str) -> None:
        self.sql, self._templates = sql_parameters(text, style="?")
        self.sql_many, self.rows_at_once = self.sql, 1

    def check(self, connection: sqlite3.Connection) -> None:
        try:
            explain(connection, self.sql, len(self._templates))
        except sqlite3.OperationalError as error:
            raise HoldError(f"`sql` does not fit the database: {error}", code=error.sqlite_errorname) from error

    def runs(self, connection: sqlite3.Connection, batch: Batch, failures: dict[int, DeliveryError]) -> Iterator[Run]:
        indices: list[int] = []
        parameters: list[tuple[Any, ...]] = []
        for index, row in enumerate(columns_for(batch, self._templates)):
            try:
                parameters.append(tuple([bindable(template.value(row)) for template in self._templates]))
            except RejectError as error:
                failures[index] = error
            except ValueError as error:
                failures[index] = RejectError(str(error))
            else:
                indices.append(index)
        yield Run(self, indices, parameters)

    def convert(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values)

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        """All values are converted already."""

    def forget(self) -> None:
        """It knows nothing of the table."""


_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**63 - 1


def is_bound_as_it_is(value: Any) -> bool:
    kind = type(value)
    return _INTEGER_MIN <= value <= _INTEGER_MAX if kind is int else kind is not dict and kind is not list


def bindable(value: Any, is_numeric: bool = False) -> Any:
    """`value` as SQLite stores it: structures as JSON text, integers past 64 bits as their digits.

    In a column of numbers those digits are a blob: SQLite would make a rounded float of the text.
    """
    kind = type(value)
    if kind is dict or kind is list:
        return jsontext.encode(value).decode()
    if kind is int and not _INTEGER_MIN <= value <= _INTEGER_MAX:
        return str(value).encode() if is_numeric else str(value)
    return None if value is UNDEFINED else value


def explain(connection: sqlite3.Connection, sql: str, parameter_count: int) -> None:
    """Compile `sql` without running it."""
    connection.execute(f"EXPLAIN {sql}", (None,) * parameter_count)
