"""Statements that store rows in PostgreSQL, the conversion of values for them, and the row that an error is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import is_
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg

from connectors._shared.isolation import VALUE_ERRORS, isolate, reason_of, shown
from connectors._shared.planning import PlannedBatch, RowGroup, Values, WritePlanner
from connectors.postgresql.errors import reason
from connectors.postgresql.types import Converter
from engine.connector import ALL_STORED, Failures
from engine.errors import RejectError
from engine.model.record import Batch

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]


class PostgresStatement(Protocol):
    """A statement that stores rows."""

    async def store(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Store all `rows` or none."""

    def faulty_row(self, error: asyncpg.PostgresError) -> int | None:
        """Return the index of the row that `error` is about, None where it does not say."""

    def for_retry(self) -> PostgresStatement:
        """Return the statement to use when the batch is stored again."""


Group = RowGroup[PostgresStatement]


class PostgresPlanner(WritePlanner[PostgresStatement], Protocol):
    """Planner of a sink's statements."""

    async def look(self, connection: Connection) -> bool:
        """Read the types of the table or statement. Return whether it still takes all rows that it took before.

        Raise `HoldError` where it does not fit the options.
        """

    async def has_changed(self, connection: Connection) -> bool:
        """Whether the types differ from those that `look` read."""

    def plan(self, batch: Batch, *, check_all: bool = False) -> PlannedBatch[PostgresStatement]:
        """Plan `batch`. With `check_all`, every value is converted and checked on its own."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table, or a parameter of a statement."""

    name: str
    type_name: str
    position: int
    converter: Converter
    cast: str | None = None
    """The type that the server makes the value from text as; None where there is a converter for the type."""
    has_default: bool = False
    is_required: bool = False
    is_identity: bool = False
    """GENERATED ALWAYS AS IDENTITY: an INSERT needs OVERRIDING SYSTEM VALUE to bring a value."""
    is_generated: bool = False
    """GENERATED ALWAYS AS an expression: it takes no value."""

    def one(self, value: Any) -> Any:
        """Return `value` converted and checked. Raise `RejectError` with the column and the reason."""
        if value is None:
            return None
        try:
            return self.converter.one(value)
        except VALUE_ERRORS as error:
            raise RejectError(
                f"column {self.name} ({self.type_name}) can't take {shown(value)}: {reason_of(error)}", code="22000"
            ) from error


def parameter(number: int, cast: str | None) -> str:
    """Return a parameter of a statement, which the server makes from text where `cast` says so."""
    return f"${number}" if cast is None else f"CAST(${number}::text AS {cast})"


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY in its binary form."""

    table: str
    schema: str | None
    columns: tuple[str, ...]
    insert: Execute | None = None
    """The INSERT that skips rows which are there already; COPY can't."""

    async def store(self, connection: Connection, rows: Sequence[Values]) -> None:
        await connection.copy_records_to_table(self.table, records=rows, columns=self.columns, schema_name=self.schema)

    def faulty_row(self, error: asyncpg.PostgresError) -> int | None:
        # ``COPY readings, line 3, column temp``; the word "line" depends on the server's language.
        match = re.search(rf"^COPY {re.escape(self.table)}, \D*(\d+)", error.context or "", re.MULTILINE)
        return int(match[1]) - 1 if match else None

    def for_retry(self) -> PostgresStatement:
        return self.insert or self


@dataclass(frozen=True, slots=True)
class Execute:
    """A statement with parameters, run for each row."""

    sql: str

    async def store(self, connection: Connection, rows: Sequence[Values]) -> None:
        await connection.executemany(self.sql, rows)

    def faulty_row(self, error: asyncpg.PostgresError) -> int | None:
        return None

    def for_retry(self) -> PostgresStatement:
        return self


def for_retry(group: Group) -> Group:
    """Return `group` as it is stored when the batch is stored again."""
    return RowGroup(group.statement.for_retry(), group.indices, group.rows)


def without_fault(group: Group, error: asyncpg.PostgresError) -> tuple[Sequence[Group], Failures]:
    """Return the rest of a group that failed with `error`: without the row at fault, or in halves where it is unknown.

    The failures hold the row at fault.
    """
    count = len(group.rows)
    place = 0 if count == 1 else group.statement.faulty_row(error)
    if place is None or place >= count:
        return (group.part(0, count // 2), group.part(count // 2, count)), ALL_STORED
    failure = Failures({group.indices[place]: RejectError(reason(error), code=error.sqlstate)})
    return [part for part in (group.part(0, place), group.part(place + 1, count)) if part.rows], failure


def converted(
    statement: PostgresStatement,
    columns: Sequence[Column],
    indices: Sequence[int],
    rows: Sequence[Values],
    *,
    check_all: bool,
) -> PlannedBatch[PostgresStatement]:
    """Plan `rows` for `statement`, with their values converted column by column, or row by row where that fails."""
    if not check_all and rows and columns:
        values = list(zip(*rows, strict=True))
        with suppress(*VALUE_ERRORS):
            done = [column.converter.column(each) for column, each in zip(columns, values, strict=True)]
            # A column that needs no conversion comes back as the same object; usually all do.
            fitting = rows if all(map(is_, done, values)) else list(zip(*done, strict=True))
            return PlannedBatch([RowGroup(statement, indices, fitting)], ALL_STORED)
    checked = isolate(partial(_converted_row, columns), zip(indices, rows, strict=True))
    groups = [RowGroup(statement, checked.indices, checked.results)] if checked.results else []
    return PlannedBatch(groups, checked.failures)


def _converted_row(columns: Sequence[Column], row: Values) -> Values:
    return tuple([column.one(value) for column, value in zip(columns, row, strict=True)])
