"""The statements that store rows in PostgreSQL, the rows each one gets, and which row it is when one fails."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import is_
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg

from connectors.postgresql.errors import reason
from connectors.postgresql.types import Converter, shown
from engine.errors import DeliveryError, RejectError
from engine.model.record import Batch

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]

Values = tuple[Any, ...]


class Rows(Protocol):
    """How rows become statements: by the table's columns, or by a statement of the user's."""

    async def look(self, connection: Connection) -> bool:
        """Learn what the table, or the statement, takes; whether that is at least what it took before.

        Raises `HoldError` when it is not what the options say.
        """

    async def has_changed(self, connection: Connection) -> bool:
        """Whether what was learnt is no longer so."""

    def runs(self, batch: Batch, failures: dict[int, DeliveryError], *, check_all: bool = False) -> Sequence[Run]:
        """The statements that store `batch`, in order; records that can't be stored go to `failures`.

        With `check_all`, every value is checked in full.
        """


class MisfitError(RejectError):
    """The row's columns are not those of the table."""


def misfits(failures: Mapping[int, DeliveryError]) -> list[MisfitError]:
    return [error for error in failures.values() if isinstance(error, MisfitError)]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table, or a parameter of a statement."""

    name: str
    type_name: str
    position: int
    converter: Converter
    cast: str | None = None
    """Its type has no converter: the server makes it from text, as this type."""
    has_default: bool = False
    is_required: bool = False
    is_identity: bool = False
    """GENERATED ALWAYS AS IDENTITY: an INSERT has to insist on a value of its own."""
    is_computed: bool = False
    """GENERATED ALWAYS AS an expression: it takes no value."""

    def one(self, value: Any) -> Any:
        """One value converted and checked. Raises `RejectError` saying what is wrong."""
        if value is None:
            return None
        try:
            return self.converter.one(value)
        except (ValueError, OverflowError) as error:
            raise RejectError(
                f"column {self.name} ({self.type_name}) can't take {shown(value)}: {error}", code="22000"
            ) from error


def parameter(number: int, cast: str | None) -> str:
    """A parameter of a statement, made from text by the server where a `cast` says so."""
    return f"${number}" if cast is None else f"CAST(${number}::text AS {cast})"


class Statement(Protocol):
    async def store(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Store all `rows` or none."""

    def faulty_row(self, error: asyncpg.PostgresError) -> int | None:
        """The index of the row that `error` is about, where it says so."""

    def for_retry(self) -> Statement:
        """What to store the rows with when the batch is stored again."""


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY in its binary form."""

    table: str
    schema: str | None
    columns: tuple[str, ...]
    insert: Execute | None = None
    """The INSERT that passes over rows which are there already; COPY can't."""

    async def store(self, connection: Connection, rows: Sequence[Values]) -> None:
        await connection.copy_records_to_table(self.table, records=rows, columns=self.columns, schema_name=self.schema)

    def faulty_row(self, error: asyncpg.PostgresError) -> int | None:
        # ``COPY readings, line 3, column temp``; the word "line" depends on the server's language.
        match = re.search(rf"^COPY {re.escape(self.table)}, \D*(\d+)", error.context or "", re.MULTILINE)
        return int(match[1]) - 1 if match else None

    def for_retry(self) -> Statement:
        return self.insert or self


@dataclass(frozen=True, slots=True)
class Execute:
    """A statement with parameters, run for each row."""

    sql: str

    async def store(self, connection: Connection, rows: Sequence[Values]) -> None:
        await connection.executemany(self.sql, rows)

    def faulty_row(self, error: asyncpg.PostgresError) -> int | None:
        return None

    def for_retry(self) -> Statement:
        return self


@dataclass(frozen=True, slots=True)
class Run:
    """Records of a batch that one statement stores; ``indices`` are their places in the batch."""

    statement: Statement
    indices: Sequence[int]
    rows: Sequence[Values]

    def retried(self) -> Run:
        return Run(self.statement.for_retry(), self.indices, self.rows)

    def without_fault(self, error: asyncpg.PostgresError, failures: dict[int, DeliveryError]) -> Sequence[Run]:
        """The rest in order: without the row at fault, which goes to `failures`, or in halves where it is unknown."""
        count = len(self.rows)
        place = 0 if count == 1 else self.statement.faulty_row(error)
        if place is None or place >= count:
            return self._part(0, count // 2), self._part(count // 2, count)
        failures[self.indices[place]] = RejectError(reason(error), code=error.sqlstate)
        return [part for part in (self._part(0, place), self._part(place + 1, count)) if part.rows]

    def _part(self, start: int, stop: int) -> Run:
        return Run(self.statement, self.indices[start:stop], self.rows[start:stop])


def make_run(
    statement: Statement,
    columns: Sequence[Column],
    indices: Sequence[int],
    rows: Sequence[Values],
    failures: dict[int, DeliveryError],
    *,
    check_all: bool,
) -> Run:
    """`rows` with their values converted, column by column; where that fails, row by row, to find which it is."""
    if not check_all and rows and columns:
        values = list(zip(*rows, strict=True))
        with suppress(ValueError, OverflowError):
            done = [column.converter.column(each) for column, each in zip(columns, values, strict=True)]
            converted = rows if all(map(is_, done, values)) else list(zip(*done, strict=True))
            return Run(statement, indices, converted)
    fitting: dict[int, Values] = {}
    for index, row in zip(indices, rows, strict=True):
        try:
            fitting[index] = tuple([column.one(value) for column, value in zip(columns, row, strict=True)])
        except RejectError as error:
            failures[index] = error
    return Run(statement, list(fitting), list(fitting.values()))
