"""Stores rows in a PostgreSQL or TimescaleDB table, by COPY, INSERT or your own statement.

Each column of a row goes to the table column of its name, converted to that column's type, which is read at connect.
A batch is one transaction. If a row is at fault, the batch is stored again without it, also in one transaction: COPY
names the line that failed, other statements are bisected with savepoints.

A configuration error holds the sink, an error of one row makes it a dead letter. A column that the table lacks can be
either: it holds until a row has been stored, and is the fault of its row from then on. After a column of the table was
renamed, removed or made NOT NULL, it holds again.

Times are RFC 3339 text, or a number since 1970 whose magnitude distinguishes seconds, milliseconds, microseconds
and nanoseconds; without a time zone they are UTC. Integers may be digits or a float without a fraction, booleans 0, 1
or words; lists go to arrays. In a JSON column, text that is a JSON object or array is stored as such, other text as a
JSON string. The server converts other types (`inet`, `interval`, those of extensions) from text, by INSERT in place of
COPY; a view is written by INSERT as well. A column that a row lacks gets its default.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import asyncpg
from pydantic import SecretStr

from connectors._shared.planning import PlannedBatch, hold_if_all_misfit
from connectors.postgresql.address import rotated, server_name
from connectors.postgresql.errors import connecting, translated
from connectors.postgresql.options import PostgresqlConfig
from connectors.postgresql.own import OwnStatementPlanner
from connectors.postgresql.statement import PostgresPlanner, PostgresStatement
from connectors.postgresql.table import PostgresTable
from connectors.postgresql.types import TUPLE_CODEC_TYPES
from connectors.postgresql.write import BatchWrite, need_unchanged
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import NotConnectedError
from engine.model.record import Batch

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]
    Pool = asyncpg.Pool[Any]

LOOK_AGAIN_S = 5.0
"""Shortest time between two reads of the table that rows which don't fit it cause."""
CLOSE_TIMEOUT_S = 2.0
"""Longest wait for statements under way when the sink is closed; then their connections are cut."""


class PostgresqlSink(Sink):
    """Rows into one PostgreSQL table, through a pool of connections."""

    kind: ClassVar[str] = "postgresql"
    Config: ClassVar[type[ConnectorConfig]] = PostgresqlConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        'type: postgresql\ndsn: "postgresql://headgate:secret@db.plant:5432/plant"\ntable: readings\n',
        "type: postgresql\nhost: db.plant\ndatabase: plant\nuser: headgate\npassword: secret\ntls: {ca: ca.pem}\n"
        "table: metrics.latest\nmode: upsert\nconflict_key: [device]\n",
        "type: postgresql\nhost: db.plant\ndatabase: plant\nuser: headgate\npassword: secret\n"
        'sql: "INSERT INTO readings (device, temp) VALUES (${device}, ${payload.temp}) ON CONFLICT DO NOTHING"\n',
        'type: postgresql\ndsn: "postgresql://headgate@pooler:6432/plant"\nprepared_statements: false\n'
        "table: readings\ncreate_table: CREATE TABLE readings (device text NOT NULL, temp float8, at timestamptz)\n",
    )

    def __init__(self, config: PostgresqlConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        config.check()
        self._where = server_name(_text(config.dsn), config.host, config.port, config.database)
        self._planner: PostgresPlanner = (
            PostgresTable(config.table_options()) if config.sql is None else OwnStatementPlanner(config.sql)
        )
        self._pool: Pool | None = None
        self._turn = 0
        """Failed connects, which select the host of `dsn` to try first."""
        self._looked_at = -LOOK_AGAIN_S
        self._has_stored = False
        """Whether a row has fitted the table as it is, so that a misfit is the row's fault and not the rule's."""

    async def connect(self) -> None:
        await self.close()
        with connecting(self._where):
            pool = self._make_pool()
            try:
                await pool
                async with pool.acquire() as connection:
                    await self._look(connection)
            except BaseException:
                self._turn += 1
                pool.terminate()
                raise
        self._pool = pool

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        if self._pool is None:
            raise NotConnectedError(f"{self._where} is not connected")
        with translated(self._where):
            async with asyncio.timeout(deadline.left_s()), _borrowed(self._pool) as connection:
                planned = await self._plan(connection, batch)
                write = BatchWrite(connection, self._planner, self._where, deadline, self.config.prepared_statements)
                failures = planned.failures | await write.store(batch, planned.groups)
        self._has_stored = self._has_stored or len(failures) < len(batch)
        return failures

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()

    def _make_pool(self) -> Pool:
        config: PostgresqlConfig = self.config
        settings = {"application_name": f"headgate {self.context.sink_id}"}
        if config.prepared_statements:
            settings["statement_timeout"] = str(round(config.statement_timeout * 1000))
        options: dict[str, Any] = {
            "dsn": rotated(_text(config.dsn), self._turn),
            "host": config.host,
            "port": config.port,
            "database": config.database,
            "user": config.user,
            "password": _text(config.password),
            "timeout": config.connect_timeout,
            "command_timeout": config.request_timeout,
            "statement_cache_size": 100 if config.prepared_statements else 0,
            "target_session_attrs": config.session_attrs,
            "server_settings": settings,
        }
        if config.tls is not None:
            options["ssl"] = config.tls.context(self.context.base_dir)
        pool: Pool = asyncpg.create_pool(
            min_size=0, max_size=config.pool_size, init=_prepare_connection, reset=_keep_session, **options
        )
        return pool

    async def _look(self, connection: Connection) -> None:
        self._looked_at = self.context.clock.monotonic()
        if not await self._planner.look(connection):
            self._has_stored = False

    async def _plan(self, connection: Connection, batch: Batch) -> PlannedBatch[PostgresStatement]:
        """Plan `batch`. Raise `HoldError` where no row has fitted the table yet: the rule, or the table, is wrong."""
        planned = self._planner.plan(batch)
        now = self.context.clock.monotonic()
        if planned.failures and now - self._looked_at >= LOOK_AGAIN_S:
            self._looked_at = now
            await need_unchanged(self._planner, connection, self._where)
        if not self._has_stored:
            hold_if_all_misfit(planned.failures, len(batch))
        return planned


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def _prepare_connection(connection: Connection) -> None:
    for name in TUPLE_CODEC_TYPES:
        await connection.set_type_codec(name, schema="pg_catalog", encoder=tuple, decoder=tuple, format="tuple")


async def _keep_session(connection: Connection) -> None:
    """Skip the reset of a session between uses, a round trip: no statement of this sink leaves state in it."""


@asynccontextmanager
async def _borrowed(pool: Pool) -> AsyncIterator[Connection]:
    """Borrow a connection of the pool. Close one whose response was not awaited: its state is unknown."""
    async with pool.acquire() as connection:
        try:
            yield connection
        except (asyncio.CancelledError, TimeoutError, asyncpg.InternalClientError):
            connection.terminate()
            raise
