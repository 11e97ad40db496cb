"""The user's own statement of `sql`: its placeholders are bound as parameters of the types that the server infers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from connectors._shared.planning import PlannedBatch, parameters
from connectors.postgresql.statement import Column, Execute, PostgresStatement, converted, parameter
from connectors.postgresql.types import converter, text_converter
from engine.errors import HoldError
from engine.language.template import sql_parameters
from engine.model.record import Batch

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]


class OwnStatementPlanner:
    """Planner by the user's own statement."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._sql, self._templates = sql_parameters(text)
        self._statement = Execute(self._sql)
        self._columns: tuple[Column, ...] = ()
        self._types: tuple[asyncpg.Type, ...] = ()

    async def look(self, connection: Connection) -> bool:
        self._types = types = await self._read_types(connection)
        if len(types) != len(self._templates):
            raise HoldError(
                f"`sql` has {len(self._templates)} placeholders where values can stand, and the server sees "
                f"{len(types)} parameters; write each value as ${{name}}, and none as $1",
                code="42601",
            )
        self._columns = tuple(
            [
                await _column(connection, template.source, kind, position)
                for position, (template, kind) in enumerate(zip(self._templates, types, strict=True))
            ]
        )
        casts = [column.cast for column in self._columns]
        self._statement = Execute(sql_parameters(self._text, lambda number: parameter(number, casts[number - 1]))[0])
        return True

    async def has_changed(self, connection: Connection) -> bool:
        return await self._read_types(connection) != self._types

    def plan(self, batch: Batch, *, check_all: bool = False) -> PlannedBatch[PostgresStatement]:
        bound = parameters(batch, self._templates)
        planned = converted(self._statement, self._columns, bound.indices, bound.results, check_all=check_all)
        return PlannedBatch([group for group in planned.groups if group.rows], bound.failures | planned.failures)

    async def _read_types(self, connection: Connection) -> tuple[asyncpg.Type, ...]:
        # Without a name: a pooler of transactions would leave one behind at the server.
        return tuple((await connection.prepare(self._sql, name="")).get_parameters())


async def _column(connection: Connection, name: str, kind: asyncpg.Type, position: int) -> Column:
    found = converter(kind.name)
    if found is not None:
        return Column(name, kind.name, position, found)
    cast = await connection.fetchval("SELECT format_type($1, -1)", kind.oid)
    return Column(name, cast, position, text_converter(kind.name), cast=cast)
