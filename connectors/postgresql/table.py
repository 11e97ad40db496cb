"""The table rows go to: its columns as the server describes them, and a statement for each set of keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import asyncpg

from connectors.postgresql.statement import (
    Column,
    Copy,
    Execute,
    MisfitError,
    Run,
    Statement,
    Values,
    make_run,
    parameter,
)
from connectors.postgresql.types import converter, text_converter
from engine.errors import DeliveryError, HoldError
from engine.model.record import Batch, Row

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]

_MADE_BY_OTHERS = (asyncpg.DuplicateTableError, asyncpg.UniqueViolationError, asyncpg.DuplicateObjectError)
"""What CREATE TABLE may fail with when somebody else has made the table just now: a table brings a type of its name."""

PLANS_MAX = 256
"""Sets of columns remembered, one for each that rows come with."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """How rows of the same keys are stored: a column of the table for each key, in the table's order."""

    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    statement: Statement

    def pick(self, rows: Sequence[Row]) -> list[Values]:
        """The values of `rows` in the order of the columns. Raises `KeyError` where a row lacks a key."""
        if len(self.keys) == 1:
            (key,) = self.keys
            return [(row[key],) for row in rows]
        return list(map(itemgetter(*self.keys), rows))


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What the sink's options say of the table."""

    table: str
    mode: Literal["copy", "insert", "upsert"] = "copy"
    conflict_key: tuple[str, ...] = ()
    on_conflict: Literal["update", "nothing"] = "nothing"
    create_table: str | None = None


class Table:
    """The table of `table`: its columns, and a plan for each set of keys that rows come with."""

    def __init__(self, options: TableOptions) -> None:
        self._options = options
        self._full_name = options.table
        schema, _, self._name = options.table.rpartition(".")
        self._schema = schema or None
        self._quoted = ".".join(_quoted(part) for part in (schema, self._name) if part)
        self._columns: dict[str, Column] = {}
        self._by_folded: dict[str, str] = {}
        self._is_view = False
        self._plans: dict[tuple[str, ...], _Plan | MisfitError] = {}

    async def look(self, connection: Connection) -> bool:
        if not await self._exists(connection):
            if self._options.create_table is None:
                raise await self._no_table(connection)
            with suppress(*_MADE_BY_OTHERS):
                await connection.execute(self._options.create_table)
            if not await self._exists(connection):
                raise HoldError(f"`create_table` did not make the table {self._full_name}", code="42P01")
        before, self._columns = self._columns, await self._read_columns(connection)
        self._is_view = await connection.fetchval(_IS_VIEW_QUERY, self._quoted)
        self._by_folded = {name.lower(): name for name in self._columns}
        self._plans.clear()
        await self._check_rights(connection)
        await self._check_conflict_key(connection)
        return before.keys() <= self._columns.keys() and _required(self._columns) <= _required(before)

    async def has_changed(self, connection: Connection) -> bool:
        return await self._read_columns(connection) != self._columns

    def runs(self, batch: Batch, failures: dict[int, DeliveryError], *, check_all: bool = False) -> Sequence[Run]:
        rows = batch.rows
        plan = self._plan(tuple(rows[0]))
        if isinstance(plan, _Plan) and set(map(len, rows)) == {len(plan.keys)}:
            with suppress(KeyError):  # the same number of keys, but not the same keys
                picked = plan.pick(rows)
                return [make_run(plan.statement, plan.columns, range(len(rows)), picked, failures, check_all=check_all)]
        return self._runs_of_several_plans(rows, failures, check_all)

    def _runs_of_several_plans(
        self, rows: Sequence[Row], failures: dict[int, DeliveryError], check_all: bool
    ) -> list[Run]:
        planned: list[tuple[int, _Plan]] = []
        for index, row in enumerate(rows):
            plan = self._plan(tuple(row))
            if isinstance(plan, MisfitError):
                failures[index] = plan
            else:
                planned.append((index, plan))
        planned = self._widened(planned)
        runs = []
        for columns, group in groupby(planned, key=lambda item: item[1].columns):
            members = list(group)
            plan = members[0][1]
            picked = [tuple([rows[index].get(key) for key in each.keys]) for index, each in members]
            indices = [index for index, _ in members]
            runs.append(make_run(plan.statement, columns, indices, picked, failures, check_all=check_all))
        return [run for run in runs if run.rows]

    def _widened(self, planned: list[tuple[int, _Plan]]) -> list[tuple[int, _Plan]]:
        """The same with columns added that some rows lack, so that most rows share one statement.

        A column without a default is null where a row lacks it. Not for an upsert, which would put that null in
        place of the value that is there.
        """
        if self._options.mode == "upsert":
            return planned
        names = {column.name for _, plan in planned for column in plan.columns if not column.has_default}
        wide: dict[tuple[str, ...], _Plan] = {}
        for _, plan in planned:
            if plan.keys not in wide:
                lacking = names.difference(column.name for column in plan.columns)
                wide[plan.keys] = self._compile((*plan.keys, *lacking)) if lacking else plan
        return [(index, wide[plan.keys]) for index, plan in planned]

    def _plan(self, keys: tuple[str, ...]) -> _Plan | MisfitError:
        plan = self._plans.get(keys)
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            try:
                plan = self._compile(keys)
            except MisfitError as error:
                plan = error.with_traceback(None)
            self._plans[keys] = plan
        return plan

    def _compile(self, keys: tuple[str, ...]) -> _Plan:
        found: dict[Column, str] = {}
        for key in keys:
            column = self._column(key)
            if column in found:
                raise MisfitError(f"{found[column]} and {key} are the same column of {self._full_name}")
            found[column] = key
        lacking = [name for name, column in self._columns.items() if column.is_required and column not in found]
        lacking += [name for name in self._options.conflict_key if self._columns[name] not in found]
        if lacking or not keys:
            needed = lacking[0] if lacking else "any column"
            raise MisfitError(f"the row has no value for {needed}, which {self._full_name} needs", code="23502")
        columns = tuple(sorted(found, key=lambda column: column.position))
        ordered = tuple(found[column] for column in columns)
        return _Plan(ordered, columns, self._statement(columns))

    def _column(self, key: str) -> Column:
        column = self._columns.get(key) or self._columns.get(self._by_folded.get(key.lower(), ""))
        if column is None:
            near = _nearest(key, self._columns)
            raise MisfitError(f"the table {self._full_name} has no column {key}{near}", code="42703")
        if column.is_computed:
            raise MisfitError(f"the column {column.name} of {self._full_name} is computed by the server", code="428C9")
        return column

    def _statement(self, columns: Sequence[Column]) -> Statement:
        # COPY has no place for the cast that makes such a type from text, and takes no view.
        if self._options.mode == "copy" and not self._is_view and all(column.cast is None for column in columns):
            names = tuple(column.name for column in columns)
            return Copy(self._name, self._schema, names, self._insert(columns) if self._options.conflict_key else None)
        return self._insert(columns)

    def _insert(self, columns: Sequence[Column]) -> Execute:
        names = ", ".join(_quoted(column.name) for column in columns)
        values = ", ".join(parameter(number, column.cast) for number, column in enumerate(columns, 1))
        # As COPY does it.
        overriding = "OVERRIDING SYSTEM VALUE " if any(column.is_identity for column in columns) else ""
        conflict = self._conflict_clause(columns)
        return Execute(f"INSERT INTO {self._quoted} ({names}) {overriding}VALUES ({values}){conflict}")

    def _conflict_clause(self, columns: Sequence[Column]) -> str:
        options = self._options
        if not options.conflict_key:
            return ""
        others = [_quoted(column.name) for column in columns if column.name not in options.conflict_key]
        updates = options.on_conflict == "update" and others
        action = f"UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in others)}" if updates else "NOTHING"
        return f" ON CONFLICT ({', '.join(map(_quoted, options.conflict_key))}) DO {action}"

    async def _exists(self, connection: Connection) -> bool:
        return await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", self._quoted) is True

    async def _no_table(self, connection: Connection) -> HoldError:
        names = await connection.fetch(
            "SELECT CASE WHEN n.nspname = ANY (current_schemas(false)) THEN c.relname "
            "ELSE n.nspname || '.' || c.relname END AS name FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'f', 'v') "
            "AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        )
        near = _nearest(self._full_name, [row["name"] for row in names])
        return HoldError(
            f"there is no table {self._full_name} in this database{near}; create it, or set `create_table`",
            code="42P01",
        )

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
                    f"{user} may not write to {self._full_name}; GRANT {wanted} ON {self._quoted} TO {_quoted(user)}",
                    code="42501",
                )

    async def _check_conflict_key(self, connection: Connection) -> None:
        key = self._options.conflict_key
        for name in key:
            if name not in self._columns:
                near = _nearest(name, self._columns)
                raise HoldError(f"the table {self._full_name} has no column {name}{near}", code="42703")
        if not key:
            return
        names = ", ".join(map(_quoted, key))
        nulls = ", ".join("NULL" for _ in key)
        try:  # only a plan is asked for: whether there is such an index is not looked at before
            await connection.fetch(
                f"EXPLAIN INSERT INTO {self._quoted} ({names}) VALUES ({nulls}) ON CONFLICT ({names}) DO NOTHING"
            )
        except asyncpg.InvalidColumnReferenceError as error:
            raise HoldError(
                f"the table {self._full_name} has no unique index on exactly its conflict_key ({', '.join(key)})",
                code=error.sqlstate,
            ) from error


_COLUMNS_QUERY = """
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type_name,
           format_type(a.atttypid, -1) AS bare_type_name, t.typtype = 'e' AS is_enum,
           a.attidentity = 'a' AS is_identity, a.attgenerated <> '' AS is_computed,
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
        is_computed=row["is_computed"],
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _nearest(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""
