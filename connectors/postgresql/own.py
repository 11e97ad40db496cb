"""A statement of the user's: its placeholders are bound as parameters, converted to the types the server infers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from connectors._shared.routing import columns_for
from connectors.postgresql.statement import Column, Execute, Run, Values, make_run
from connectors.postgresql.types import AS_IS, converter
from engine.errors import DeliveryError, RejectError
from engine.record import Batch
from engine.template import sql_parameters

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]


class OwnStatement:
    """The statement of `sql`: its placeholders are bound as parameters, converted to the types the server infers."""

    def __init__(self, text: str) -> None:
        sql, self._templates = sql_parameters(text, style="$1")
        self._statement = Execute(sql)
        self._columns: tuple[Column, ...] = ()

    async def look(self, connection: Connection) -> None:
        prepared = await connection.prepare(self._statement.sql)
        self._columns = tuple(
            Column(template.source, kind.name, position, converter(kind.name) or AS_IS)
            for position, (template, kind) in enumerate(zip(self._templates, prepared.get_parameters(), strict=True))
        )

    async def has_changed(self, connection: Connection) -> bool:
        return False

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
