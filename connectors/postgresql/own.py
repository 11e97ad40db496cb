"""A statement of the user's: its placeholders are bound as parameters, converted to the types the server infers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from connectors._shared.routing import columns_for
from connectors.postgresql.statement import Column, Execute, Run, Values, make_run, parameter
from connectors.postgresql.types import converter, text_converter
from engine.errors import DeliveryError, HoldError, RejectError
from engine.language.template import sql_parameters
from engine.model.record import Batch

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]


class OwnStatement:
    """The statement of `sql`: its placeholders are bound as parameters, converted to the types the server infers."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._sql, self._templates = sql_parameters(text)
        self._statement = Execute(self._sql)
        self._columns: tuple[Column, ...] = ()
        self._types: tuple[asyncpg.Type, ...] = ()

    async def look(self, connection: Connection) -> bool:
        self._types = types = await self._look_at_types(connection)
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
        return await self._look_at_types(connection) != self._types

    async def _look_at_types(self, connection: Connection) -> tuple[asyncpg.Type, ...]:
        # Without a name: a pooler of transactions would leave one behind at the server.
        return tuple((await connection.prepare(self._sql, name="")).get_parameters())

    def runs(self, batch: Batch, failures: dict[int, DeliveryError], *, check_all: bool = False) -> Sequence[Run]:
        indices: list[int] = []
        rows: list[Values] = []
        for index, columns in enumerate(columns_for(batch, self._templates)):
            try:
                rows.append(tuple([template.value(columns) for template in self._templates]))
            except RejectError as error:
                failures[index] = error
            else:
                indices.append(index)
        run = make_run(self._statement, self._columns, indices, rows, failures, check_all=check_all)
        return [run] if run.rows else []


async def _column(connection: Connection, name: str, kind: asyncpg.Type, position: int) -> Column:
    found = converter(kind.name)
    if found is not None:
        return Column(name, kind.name, position, found)
    cast = await connection.fetchval("SELECT format_type($1, -1)", kind.oid)
    return Column(name, cast, position, text_converter(kind.name), cast=cast)
