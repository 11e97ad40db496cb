"""The table of a PostgreSQL sink: its columns as the server describes them, and a statement for each set of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import asyncpg

from connectors._shared.planning import (
    MisfitError,
    PlanCache,
    PlannedBatch,
    RowGroup,
    RowPicker,
    Values,
    neighbours,
)
from connectors._shared.table import (
    computed_column,
    no_column,
    no_columns,
    no_table,
    no_unique_index,
    no_value,
    quoted,
    same_column,
)
from connectors.postgresql.statement import Column, Copy, Execute, PostgresStatement, converted, parameter
from connectors.postgresql.types import converter, text_converter
from engine.connector import ALL_STORED, Failures
from engine.errors import HoldError, RejectError
from engine.model.record import Batch, Row

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]

_CREATED_BY_OTHERS = (asyncpg.DuplicateTableError, asyncpg.UniqueViolationError, asyncpg.DuplicateObjectError)
"""Errors of CREATE TABLE where another program creates the table at the same time: a table brings a type of its name,
which can be the first to collide."""


@dataclass(frozen=True, slots=True)
class _TablePlan:
    """A statement for rows of the same keys: a column of the table for each key, in the table's order."""

    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    statement: PostgresStatement
    picker: RowPicker


@dataclass(frozen=True, slots=True)
class PostgresTableOptions:
    """The sink's options about its table; their meaning is described there."""

    table: str
    mode: Literal["copy", "insert", "upsert"] = "copy"
    conflict_key: tuple[str, ...] = ()
    on_conflict: Literal["update", "nothing"] = "nothing"
    create_table: str | None = None


_Planned = tuple[Sequence[int], Sequence[Row], _TablePlan]
"""The indices of neighbouring rows of the same keys, the rows, and their plan."""


class PostgresTable:
    """Planner by the columns of a table."""

    def __init__(self, options: PostgresTableOptions) -> None:
        self._options = options
        self._full_name = options.table
        schema, _, self._name = options.table.rpartition(".")
        self._schema = schema or None
        self._quoted = ".".join(quoted(part) for part in (schema, self._name) if part)
        self._columns: dict[str, Column] = {}
        self._by_folded: dict[str, str] = {}
        self._is_view = False
        self._plans: PlanCache[_TablePlan] = PlanCache()

    async def look(self, connection: Connection) -> bool:
        if not await self._exists(connection):
            if self._options.create_table is None:
                raise await self._no_table(connection)
            with suppress(*_CREATED_BY_OTHERS):
                await connection.execute(self._options.create_table)
            if not await self._exists(connection):
                raise HoldError(f"`create_table` did not create the table {self._full_name}", code="42P01")
        before, self._columns = self._columns, await self._read_columns(connection)
        self._is_view = await connection.fetchval(_IS_VIEW_QUERY, self._quoted)
        self._by_folded = {name.lower(): name for name in self._columns}
        self._plans.clear()
        await self._check_rights(connection)
        await self._check_conflict_key(connection)
        return before.keys() <= self._columns.keys() and _required(self._columns) <= _required(before)

    async def has_changed(self, connection: Connection) -> bool:
        return await self._read_columns(connection) != self._columns

    def plan(self, batch: Batch, *, check_all: bool = False) -> PlannedBatch[PostgresStatement]:
        rows = batch.rows
        plan = self._plan(tuple(rows[0]))
        # The usual batch has rows of equal columns.
        if isinstance(plan, _TablePlan) and (values := plan.picker.pick(rows)) is not None:
            return converted(plan.statement, plan.columns, range(len(rows)), values, check_all=check_all)
        planned, failures = self._plan_neighbours(rows)
        groups: list[RowGroup[PostgresStatement]] = []
        for columns, same_columns in groupby(self._widened(planned), key=lambda item: item[2].columns):
            members = list(same_columns)
            found = converted(
                members[0][2].statement,
                columns,
                [index for indices, _, _ in members for index in indices],
                [value for _, rows_, plan_ in members for value in _values(rows_, plan_.keys)],
                check_all=check_all,
            )
            groups += [group for group in found.groups if group.rows]
            failures |= found.failures
        return PlannedBatch(groups, failures)

    def _plan_neighbours(self, rows: Sequence[Row]) -> tuple[list[_Planned], Failures]:
        planned: list[_Planned] = []
        failures = ALL_STORED
        for keys, indices, members in neighbours(rows):
            plan = self._plan(keys)
            if isinstance(plan, RejectError):
                failures |= Failures.of(indices, plan)
            else:
                planned.append((indices, members, plan))
        return planned, failures

    def _widened(self, planned: Sequence[_Planned]) -> Sequence[_Planned]:
        """Return the plans with columns added that some rows lack, so that most rows share one statement.

        A column without a default is null where a row lacks it. Not for an upsert, which would put that null in
        place of the value that is there.
        """
        if self._options.mode == "upsert":
            return planned
        names = {column.name for _, _, plan in planned for column in plan.columns if not column.has_default}
        wide: dict[tuple[str, ...], _TablePlan] = {}
        for _, _, plan in planned:
            if plan.keys not in wide:
                lacking = names.difference(column.name for column in plan.columns)
                wide[plan.keys] = self._compile((*plan.keys, *lacking)) if lacking else plan
        return [(indices, rows, wide[plan.keys]) for indices, rows, plan in planned]

    def _plan(self, keys: tuple[str, ...]) -> _TablePlan | RejectError:
        return self._plans.get(keys, self._compile)

    def _compile(self, keys: tuple[str, ...]) -> _TablePlan:
        found: dict[Column, str] = {}
        for key in keys:
            column = self._column(key)
            if column in found:
                raise MisfitError(same_column(self._full_name, found[column], key))
            found[column] = key
        lacking = [name for name, column in self._columns.items() if column.is_required and column not in found]
        lacking += [name for name in self._options.conflict_key if self._columns[name] not in found]
        if lacking:
            raise MisfitError(no_value(self._full_name, lacking[0]), code="23502")
        if not keys:
            raise MisfitError(no_columns(self._full_name), code="23502")
        columns = tuple(sorted(found, key=lambda column: column.position))
        ordered = tuple(found[column] for column in columns)
        return _TablePlan(ordered, columns, self._statement(columns), RowPicker(ordered))

    def _column(self, key: str) -> Column:
        column = self._columns.get(key) or self._columns.get(self._by_folded.get(key.lower(), ""))
        if column is None:
            raise MisfitError(no_column(self._full_name, key, self._columns), code="42703")
        if column.is_generated:
            raise MisfitError(computed_column(self._full_name, column.name), code="428C9")
        return column

    def _statement(self, columns: Sequence[Column]) -> PostgresStatement:
        # COPY has no place for the cast that makes such a type from text, and takes no view.
        if self._options.mode == "copy" and not self._is_view and all(column.cast is None for column in columns):
            names = tuple(column.name for column in columns)
            return Copy(self._name, self._schema, names, self._insert(columns) if self._options.conflict_key else None)
        return self._insert(columns)

    def _insert(self, columns: Sequence[Column]) -> Execute:
        names = ", ".join(quoted(column.name) for column in columns)
        values = ", ".join(parameter(number, column.cast) for number, column in enumerate(columns, 1))
        # As COPY does it.
        overriding = "OVERRIDING SYSTEM VALUE " if any(column.is_identity for column in columns) else ""
        conflict = self._conflict_clause(columns)
        return Execute(f"INSERT INTO {self._quoted} ({names}) {overriding}VALUES ({values}){conflict}")

    def _conflict_clause(self, columns: Sequence[Column]) -> str:
        options = self._options
        if not options.conflict_key:
            return ""
        others = [quoted(column.name) for column in columns if column.name not in options.conflict_key]
        updates = options.on_conflict == "update" and others
        action = f"UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in others)}" if updates else "NOTHING"
        return f" ON CONFLICT ({', '.join(map(quoted, options.conflict_key))}) DO {action}"

    async def _exists(self, connection: Connection) -> bool:
        return await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", self._quoted) is True

    async def _no_table(self, connection: Connection) -> HoldError:
        names = await connection.fetch(
            "SELECT CASE WHEN n.nspname = ANY (current_schemas(false)) THEN c.relname "
            "ELSE n.nspname || '.' || c.relname END AS name FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'f', 'v') "
            "AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        )
        return no_table(self._full_name, [row["name"] for row in names], "42P01")

    async def _read_columns(self, connection: Connection) -> dict[str, Column]:
        # Without a name: a pooler of transactions would leave one behind at the server.
        described = await connection.prepare(f"SELECT * FROM {self._quoted} LIMIT 0", name="")
        drivers_names = {attribute.name: attribute.type.name for attribute in described.get_attributes()}
        rows = await connection.fetch(_COLUMNS_QUERY, self._quoted)
        return {
            row["name"]: _make_column(row, position, drivers_names.get(row["name"], ""))
            for position, row in enumerate(rows)
        }

    async def _check_rights(self, connection: Connection) -> None:
        wanted = "INSERT, UPDATE" if self._options.mode == "upsert" else "INSERT"
        for right in wanted.split(", "):
            if not await connection.fetchval(_MAY_WRITE_QUERY, self._quoted, right):
                user = await connection.fetchval("SELECT current_user")
                raise HoldError(
                    f"{user} may not write to {self._full_name}; GRANT {wanted} ON {self._quoted} TO {quoted(user)}",
                    code="42501",
                )

    async def _check_conflict_key(self, connection: Connection) -> None:
        key = self._options.conflict_key
        for name in key:
            if name not in self._columns:
                raise HoldError(no_column(self._full_name, name, self._columns), code="42703")
        if not key:
            return
        names = ", ".join(map(quoted, key))
        nulls = ", ".join("NULL" for _ in key)
        try:  # only a plan is asked for: whether there is such an index is not looked at before
            await connection.fetch(
                f"EXPLAIN INSERT INTO {self._quoted} ({names}) VALUES ({nulls}) ON CONFLICT ({names}) DO NOTHING"
            )
        except asyncpg.InvalidColumnReferenceError as error:
            raise no_unique_index(self._full_name, key, error.sqlstate) from error


_COLUMNS_QUERY = """
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type_name,
           format_type(a.atttypid, -1) AS bare_type_name, t.typtype = 'e' AS is_enum,
           a.attidentity = 'a' AS is_identity, a.attgenerated <> '' AS is_generated,
           a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS has_default,
           a.attnotnull OR t.typnotnull AS not_null
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
"""

_MAY_WRITE_QUERY = """
    SELECT has_table_privilege(oid, $2) OR has_any_column_privilege(oid, $2) FROM pg_class WHERE oid = to_regclass($1)
"""


_IS_VIEW_QUERY = "SELECT relkind = 'v' FROM pg_class WHERE oid = to_regclass($1)"


def _required(columns: Mapping[str, Column]) -> set[str]:
    return {name for name, column in columns.items() if column.is_required}


def _make_column(row: asyncpg.Record, position: int, drivers_name: str) -> Column:
    found = converter("text" if row["is_enum"] else drivers_name)
    return Column(
        name=row["name"],
        type_name=row["type_name"],
        position=position,
        converter=found or text_converter(drivers_name),
        # Without its length, to which a cast would cut a value without a word.
        cast=row["bare_type_name"] if found is None else None,
        has_default=row["has_default"],
        is_required=row["not_null"] and not row["has_default"],
        is_identity=row["is_identity"],
        is_generated=row["is_generated"],
    )


def _values(rows: Sequence[Row], keys: Sequence[str]) -> list[Values]:
    """Return the values of rows that may lack some of `keys`."""
    return [tuple([row.get(key) for key in keys]) for row in rows]
